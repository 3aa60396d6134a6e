"""Markets small enough to work out by hand, and strategies that do as they are told."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from rllib_portfolio.arrays import FloatArray
from rllib_portfolio.market import MarketData
from rllib_portfolio.policies.strategy import MarketView


def market_of(
    returns: ArrayLike,
    cash_return: float = 0.0,
    index_returns: ArrayLike | None = None,
    first_row: int = 0,
    periods_per_year: int = 252,
) -> MarketData:
    """A market of simple returns [T, N]; row 0 earns nothing. Two features per asset, one of the market."""
    rows = np.array(returns, dtype=np.float64)
    rows[0] = 0.0
    days, assets = rows.shape
    asset_features = np.stack([rows, np.cumsum(rows, axis=0)], axis=-1).astype(np.float32)
    return MarketData(
        dates=np.busday_offset("2020-01-01", np.arange(days), roll="forward").astype("datetime64[D]"),
        assets=tuple("ABCDEFGHIJKLMNOPQRST"[:assets]),
        returns=rows,
        cash_returns=np.full(days, cash_return),
        volatility=np.full((days, assets), 0.01) + np.abs(rows),
        asset_features=asset_features,
        market_features=rows.mean(axis=1, keepdims=True).astype(np.float32),
        asset_feature_names=("return", "sum"),
        market_feature_names=("mean",),
        first_row=first_row,
        windows={"all": (first_row + 2, days)},
        index_returns=None if index_returns is None else np.array(index_returns, dtype=np.float64),
        periods_per_year=periods_per_year,
        source="by hand",
    )


def random_market(days: int = 60, assets: int = 4, seed: int = 0, cash_return: float = 1e-4) -> MarketData:
    rng = np.random.default_rng(seed)
    index_returns = rng.normal(0.0004, 0.01, days)
    return market_of(rng.normal(0.0005, 0.02, (days, assets)), cash_return, index_returns)


@dataclass
class Scripted:
    """Decides what a function of the view says."""

    rule: Callable[[MarketView], FloatArray | None]
    name: str = "scripted"

    def decide(self, view: MarketView) -> FloatArray | None:
        return self.rule(view)


def by_row(weights: Mapping[int, ArrayLike], name: str = "scripted") -> Scripted:
    """Given weights at given decision rows, hold at the others."""
    return Scripted(lambda view: np.asarray(weights[view.row]) if view.row in weights else None, name)
