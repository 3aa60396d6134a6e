"""Markets small enough to work out by hand."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from rllib_portfolio.market import MarketData


def market_of(returns: ArrayLike, cash_returns: ArrayLike = 0.0, volatility: ArrayLike = 0.01) -> MarketData:
    """A market of simple returns [T, N], no features. Row 0 earns nothing; `all` starts with the decision at row 0."""
    rows = np.array(returns, dtype=np.float64)
    days, assets = rows.shape
    return MarketData(
        dates=np.busday_offset("2001-01-01", np.arange(days), roll="forward"),
        assets=tuple("ABCDEFGHIJKLMNOPQRST"[:assets]),
        returns=rows,
        cash_returns=np.broadcast_to(np.asarray(cash_returns, dtype=np.float64), days).copy(),
        volatility=np.broadcast_to(np.asarray(volatility, dtype=np.float64), rows.shape).copy(),
        asset_features=np.zeros((days, assets, 0), dtype=np.float32),
        market_features=np.zeros((days, 0), dtype=np.float32),
        asset_feature_names=(),
        market_feature_names=(),
        first_row=0,
        windows={"all": (1, days)},
        source="by hand",
    )
