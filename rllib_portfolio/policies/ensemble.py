"""Several policies as one strategy: the mean of what they want to hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rllib_portfolio.arrays import FloatArray
from rllib_portfolio.policies.strategy import MarketView, Strategy


@dataclass(frozen=True, eq=False)
class Ensemble:
    """Holds the mean of its members' target weights: the runs of one configuration under several seeds, as a rule.

    Each member sees the ensemble's own portfolio, and one that would hold counts with the weights of it that are known.
    Where all of them, at least one, would hold, nothing is traded.
    """

    members: Sequence[Strategy]
    name: str

    def decide(self, view: MarketView) -> FloatArray | None:
        """The mean over members, [N+1]."""
        targets = [member.decide(view) for member in self.members]
        if all(target is None for target in targets):
            return None
        return np.asarray(np.mean([view.weights if target is None else target for target in targets], axis=0))
