"""Features of traded volume. Unlike the features of prices alone they have a unit, and are logarithms for that reason.

Volumes grow over the decades, and currencies differ between tables: ranks among the assets of a day
(`cross_section: ranks`) remove both, standardised values do not. A window with a missing price or volume is NaN; a
volume of 0 is a row without trades.
"""

from __future__ import annotations

import numpy as np
import pandas as pd


def log_dollar_volume(dollar_volumes: pd.DataFrame, days: int) -> pd.DataFrame:
    """Return the log of the mean dollar volume of the last `days` rows, [T, N]; NaN without any trade.

    Args:
        dollar_volumes: Price times number of traded shares in each row, at least 0, [T, N]. Prices that are adjusted
            for dividends understate early dollar volumes.
        days: Window in rows, at least 1.
    """
    mean = dollar_volumes.rolling(days).mean()
    return mean.where(_count(dollar_volumes > 0.0, dollar_volumes, days) > 0.0).transform(np.log)


def amihud_illiquidity(returns: pd.DataFrame, dollar_volumes: pd.DataFrame, days: int) -> pd.DataFrame:
    """Return log(mean of |return| / dollar volume) over the rows with trades among the last `days`, [T, N].

    It is NaN if there was no trade, or if no trade moved the price.

    Args:
        returns: Daily returns, [T, N].
        dollar_volumes: Price times number of traded shares in each row, at least 0, [T, N].
        days: Window in rows, at least 1.

    Source: Amihud (2002), "Illiquidity and stock returns: cross-section and time-series effects", equation (1); the
        logarithm is added here.
    """
    has_trades = dollar_volumes > 0.0
    impact = returns.abs() / dollar_volumes.mask(dollar_volumes == 0.0, np.inf)
    total = impact.rolling(days).sum().where(_count(impact > 0.0, impact, days) > 0.0)
    return (total / _count(has_trades, impact, days)).transform(np.log)


def _count(rows: pd.DataFrame, known: pd.DataFrame, days: int) -> pd.DataFrame:
    """Return how many of the last `days` rows are true, [T, N], without rounding; NaN if `known` misses one of them."""
    return rows.astype(float).where(known.notna()).rolling(days).sum()
