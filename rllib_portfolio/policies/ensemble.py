"""Ensembles: several policies as one strategy, which holds the mean of their target weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rllib_portfolio.arrays import FloatArray
from rllib_portfolio.policies.strategy import MarketView, Strategy


@dataclass(frozen=True, eq=False)
class Ensemble:
    """A strategy that holds the mean of its members' target weights, usually of one configuration under several seeds.

    Each member sees the ensemble's own portfolio. A member that would hold contributes the known weights of that
    portfolio. If all members would hold, nothing is traded.
    """

    members: Sequence[Strategy]
    name: str

    def decide(self, view: MarketView) -> FloatArray | None:
        """Return the mean of the members' target weights, [N+1], or None if all members would hold."""
        targets = [member.decide(view) for member in self.members]
        if all(target is None for target in targets):
            return None
        return np.asarray(np.mean([view.weights if target is None else target for target in targets], axis=0))
