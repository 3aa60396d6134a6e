"""Tables for the tests of the market layer: small, random, and spoiled on purpose."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from rllib_portfolio.config import FeatureConfig, MarketConfig
from rllib_portfolio.market import PriceTable

SHORT = FeatureConfig(
    log_return_days=(1, 5),
    momentum_days=(30,),
    volatility_days=(10,),
    drawdown_days=20,
    rsi_days=7,
    macd_days=(3, 6, 4),
    moving_average_days=(10,),
    index=False,
    num_gmm_regimes=2,
    num_hmm_regimes=2,
)
"""Every kind of asset feature and regime, with windows of 30 days at most."""

NONE = FeatureConfig(
    log_return_days=(),
    momentum_days=(),
    volatility_days=(),
    drawdown_days=None,
    rsi_days=None,
    macd_days=None,
    moving_average_days=(),
    index=False,
    num_gmm_regimes=0,
    num_hmm_regimes=0,
    user_columns=False,
)
"""Settings without any feature."""


def days(count: int) -> pd.DatetimeIndex:
    return pd.bdate_range("2010-01-04", periods=count, name="date")


def random_prices(num_days: int, num_assets: int = 3, seed: int = 0) -> pd.DataFrame:
    """Walks whose volatility doubles in every other hundred days, so that regimes exist."""
    rng = np.random.default_rng(seed)
    daily = np.where(np.arange(num_days) // 100 % 2, 0.02, 0.008)[:, None]
    common = rng.standard_normal((num_days, 1))
    walk = np.cumsum(daily * (common + rng.standard_normal((num_days, num_assets))) / np.sqrt(2), axis=0)
    names = ["AAA", "BBB", "CCC", "DDD", "EEE"][:num_assets]
    return pd.DataFrame(50.0 * np.exp(walk), index=days(num_days), columns=names)


def random_table(num_days: int = 700, num_assets: int = 3, seed: int = 0, with_index: bool = True) -> PriceTable:
    prices = random_prices(num_days, num_assets, seed)
    index = prices.mean(axis=1).rename("index") if with_index else None
    return PriceTable(prices, index, pd.DataFrame(index=prices.index), "random")


def config(**values: Any) -> MarketConfig:
    """A configuration of an own table, with short features unless others are given."""
    return MarketConfig(**{"data": "random", "features": SHORT, **values})
