"""Assets whose returns are dominated by moves that are too rare for small batches."""

from __future__ import annotations

import numpy as np

from rllib_portfolio.market import MarketData
from rllib_portfolio.statistics.metrics import kurtosis

RARE_KURTOSIS = 100.0
"""Kurtosis of an asset's training returns (3 for a normal distribution) above which a run warns that it may hold too
much of the asset.

Returns with one dominating loss in 250 days have a kurtosis of 250; the bundled stocks have 6 to 37."""


def rare_moves(market: MarketData) -> str:
    """Return a sentence that names the assets whose training returns are dominated by few days; "" if there are none.

    In a universe, the returns are those of the days on which a portfolio can hold the asset: the zeros of the other
    days would raise the kurtosis. An exit counts, because its holders earn its return: one bankruptcy is a rare loss.
    """
    start, stop = market.windows["train"]
    returns, universe = market.returns[start:stop], market.universe
    if universe is None:
        measured = np.asarray(kurtosis(returns))
    else:
        held = (universe.member | universe.halted)[start - 1 : stop - 1]
        measured = np.array([kurtosis(own[days]) for own, days in zip(returns.T, held.T, strict=True)])
    names = [f"{market.assets[index]} ({measured[index]:.0f})" for index in np.flatnonzero(measured > RARE_KURTOSIS)]
    if not names:
        return ""
    listed = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return f"The training returns of {listed} have a kurtosis above {RARE_KURTOSIS:.0f}: few days dominate them."
