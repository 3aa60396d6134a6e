"""What all simulated markets share: `MarketData` of drawn returns, and the checks of their parameters.

Days are weekdays from 2000-01-03. Their prices are nobody's prices: reports must say so, and `notes` do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rllib_portfolio.config import MarketConfig
from rllib_portfolio.errors import ConfigError
from rllib_portfolio.market.data import MarketData
from rllib_portfolio.market.features import trailing_volatility
from rllib_portfolio.market.splits import split_windows, window_dates
from rllib_portfolio.market.table import data_hash

FloatArray = NDArray[np.float64]

FIRST_DAY = "2000-01-03"
MIN_DAYS = 10


def simulated_market(
    returns: FloatArray, assets: tuple[str, ...], source: str, cash_rate: float, periods_per_year: int
) -> MarketData:
    """A market without features from simple returns [T, N], the first row of which is none and is set to zero."""
    check_number("cash_rate", cash_rate, -0.99, 1.0)
    returns[0] = 0.0
    num_days, num_assets = returns.shape
    dates = weekdays(num_days)
    by_date = window_dates(dates, MarketConfig(data={}))
    return MarketData(
        dates=dates,
        assets=assets,
        returns=returns,
        cash_returns=np.full(num_days, (1.0 + cash_rate) ** (1.0 / periods_per_year) - 1.0),
        volatility=trailing_volatility(returns),
        asset_features=np.empty((num_days, num_assets, 0), dtype=np.float32),
        market_features=np.empty((num_days, 0), dtype=np.float32),
        asset_feature_names=(),
        market_feature_names=(),
        first_row=0,
        windows=split_windows(dates, by_date, first_row=0, purge_days=0),
        periods_per_year=periods_per_year,
        fitted={
            "features": None,
            "asset_feature_names": [],
            "market_feature_names": [],
            "observation_filter": "none",
            "purge_days": 0,
            "windows": {name: list(days) for name, days in by_date.items()},
            "fit_window": None,
            "scaler": None,
            "gmm": None,
            "hmm": None,
        },
        source=source,
        data_hash=data_hash(dates, assets, returns),
        notes=(f"Prices are simulated, not real: {source}.",),
    )


def with_market_features(market: MarketData, features: NDArray[Any], names: Sequence[str]) -> MarketData:
    """`market` with features [T, M] that are never scaled, instead of the market features that it has."""
    return replace(
        market,
        market_features=np.ascontiguousarray(features, dtype=np.float32),
        market_feature_names=tuple(names),
        fitted={**market.fitted, "market_feature_names": list(names)},
    )


def weekdays(num_days: int) -> NDArray[np.datetime64]:
    """The first weekdays from 2000-01-03 on."""
    return np.busday_offset(np.datetime64(FIRST_DAY, "D"), np.arange(num_days), roll="forward")


def check_outcomes(up: float, down: float) -> None:
    """Raise ConfigError unless a gain is above 0 and a loss leaves something."""
    check_number("up", up, 1e-9, 100.0)
    check_number("down", down, 1e-9, 0.999)


def check_days(num_days: int) -> None:
    """Raise ConfigError unless a market can have so many rows."""
    if isinstance(num_days, bool) or not isinstance(num_days, int) or num_days < MIN_DAYS:
        raise ConfigError(f"num_days must be a whole number of at least {MIN_DAYS}, got {num_days!r}. Raise it.")


def check_number(name: str, value: object, low: float, high: float) -> None:
    """Raise ConfigError unless a parameter is a number in [low, high]."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not low <= value <= high:  # type: ignore[operator]
        raise ConfigError(f"{name} must be a number in [{low:g}, {high:g}], got {value!r} (synthetic market).")
