"""Features of traded volume. Unlike the features of prices alone they have a unit, and are logarithms for that reason.

Volumes grow over the decades, and currencies differ between tables: ranks among the assets of a day
(`cross_section: ranks`) remove both, standardised values do not. A window with a missing price or volume is NaN; a
volume of 0 is a row without trades.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from rllib_portfolio.config import FeatureConfig
from rllib_portfolio.errors import ConfigError
from rllib_portfolio.market.features import log_return

VOLUME = "volume"
"""The column per asset that these features read."""


def volume_features(
    prices: pd.DataFrame, volumes: pd.DataFrame | None, config: FeatureConfig
) -> dict[str, pd.DataFrame]:
    """Return the configured features of volume by name, each [T, N], after the lag of the column `volume`.

    Args:
        prices: Positive prices, [T, N].
        volumes: Number of traded shares in each row, at least 0, [T, N], or None.
        config: The windows, and `available_lag`.

    Raises:
        ConfigError: If a feature is configured, and there are no volumes.
    """
    functions = {"amihud_days": amihud_illiquidity, "dollar_volume_days": log_dollar_volume}
    wanted = {name: days for name in functions if (days := getattr(config, name)) is not None}
    if not wanted:
        return {}
    if volumes is None:
        raise ConfigError(
            f"market.features.{' and '.join(wanted)} must be null for a table without volumes, got "
            f"{' and '.join(map(str, wanted.values()))}. Give each asset a column {VOLUME}, or leave the feature out."
        )
    known = prices.shift(config.lag_of(VOLUME)), volumes.shift(config.lag_of(VOLUME))
    return {f"{name.removesuffix('days')}{days}": functions[name](*known, days) for name, days in wanted.items()}


def volume_window(config: FeatureConfig) -> int:
    """Return the longest window of the features of volume in rows, with the lag of the volumes; 0 without any."""
    windows = [config.amihud_days or 0, (config.dollar_volume_days or 1) - 1]
    return max(windows) + config.lag_of(VOLUME) if config.amihud_days or config.dollar_volume_days else 0


def log_dollar_volume(prices: pd.DataFrame, volumes: pd.DataFrame, days: int) -> pd.DataFrame:
    """Return the log of the mean of price times volume over the last `days` rows, [T, N]; NaN without any trade.

    Args:
        prices: Positive prices, [T, N]. Prices that are adjusted for dividends understate early dollar volumes.
        volumes: Number of traded shares in each row, at least 0, [T, N].
        days: Window in rows, at least 1.
    """
    dollars = prices * volumes
    return dollars.rolling(days).mean().where(_count(dollars > 0.0, dollars, days) > 0.0).transform(np.log)


def amihud_illiquidity(prices: pd.DataFrame, volumes: pd.DataFrame, days: int) -> pd.DataFrame:
    """Return log(mean of |log return| / dollar volume) over the rows with trades among the last `days`, [T, N].

    It is NaN if there was no trade, or if no trade moved the price.

    Args:
        prices: Positive prices, [T, N].
        volumes: Number of traded shares in each row, at least 0, [T, N].
        days: Window in rows, at least 1.

    Source: Amihud (2002), "Illiquidity and stock returns: cross-section and time-series effects", equation (1); the
        logarithm of the mean is added here.
    """
    dollars = prices * volumes
    impact = log_return(prices, 1).abs() / dollars.mask(dollars == 0.0, np.inf)
    total = impact.rolling(days).sum().where(_count(impact > 0.0, impact, days) > 0.0)
    return (total / _count(dollars > 0.0, impact, days)).transform(np.log)


def _count(rows: pd.DataFrame, known: pd.DataFrame, days: int) -> pd.DataFrame:
    """Return how many of the last `days` rows are true, [T, N], without rounding; NaN if `known` misses one of them."""
    return rows.astype(float).where(known.notna()).rolling(days).sum()
