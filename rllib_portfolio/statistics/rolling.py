"""Measures over a moving window of days, each computed by the function of `metrics` for all windows at once.

Row t is the measure of the `window_days` days that end with day t. It is NaN before the first window is full, in every
window that contains a NaN, and where the measure itself is undefined. A series that is shorter than a window gives only
NaN; a report leaves it out and says so.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from rllib_portfolio.arrays import FloatArray
from rllib_portfolio.errors import ConfigError
from rllib_portfolio.statistics import metrics

WINDOW_DAYS = 252


def rolling_sharpe_ratio(
    returns: FloatArray,
    cash_returns: FloatArray | float = 0.0,
    window_days: int = WINDOW_DAYS,
    periods_per_year: float = metrics.PERIODS_PER_YEAR,
) -> FloatArray:
    """Compute the annualised Sharpe ratio of each window, in the shape of `returns`.

    Args:
        returns: Daily simple returns, [T] or [T, K].
        cash_returns: Cash return per day, a number or [T].
        window_days: Number of days in a window, at least 2.
        periods_per_year: Days per year.

    Raises:
        ConfigError: If `window_days` is below 2.
    """
    return _rolling(
        lambda window, cash: metrics.sharpe_ratio(window, cash, periods_per_year), window_days, returns, cash_returns
    )


def rolling_volatility(
    returns: FloatArray, window_days: int = WINDOW_DAYS, periods_per_year: float = metrics.PERIODS_PER_YEAR
) -> FloatArray:
    """Compute the annualised volatility of each window, in the shape of `returns`.

    Args:
        returns: Daily simple returns, [T] or [T, K].
        window_days: Number of days in a window, at least 2.
        periods_per_year: Days per year.

    Raises:
        ConfigError: If `window_days` is below 2.
    """
    return _rolling(lambda window: metrics.annualised_volatility(window, periods_per_year), window_days, returns)


def rolling_max_drawdown(returns: FloatArray, window_days: int = WINDOW_DAYS) -> FloatArray:
    """Compute the largest drawdown in each window, including the window's starting value, in the shape of `returns`.

    Args:
        returns: Daily simple returns, [T] or [T, K].
        window_days: Number of days in a window, at least 2.

    Raises:
        ConfigError: If `window_days` is below 2.
    """
    return _rolling(metrics.max_drawdown, window_days, returns)


def rolling_beta(
    returns: FloatArray,
    benchmark: FloatArray,
    cash_returns: FloatArray | float = 0.0,
    window_days: int = WINDOW_DAYS,
) -> FloatArray:
    """Compute the beta to a benchmark in each window, in the shape of `returns`.

    Args:
        returns: Daily simple returns, [T] or [T, K].
        benchmark: Daily simple returns of the benchmark, [T].
        cash_returns: Cash return per day, a number or [T].
        window_days: Number of days in a window, at least 2.

    Raises:
        ConfigError: If `window_days` is below 2.
    """
    return _rolling(metrics.beta, window_days, returns, benchmark, cash_returns)


def _rolling(
    measure: Callable[..., metrics.Measure], window_days: int, returns: FloatArray, *others: FloatArray | float
) -> FloatArray:
    """Return `measure(windows, *windows of others)` for each column; windows are [window_days, T'], one per column."""
    if window_days < 2:
        raise ConfigError(f"window_days must be at least 2, got {window_days} (rolling measures). Widen it.")
    returns = np.asarray(returns, dtype=np.float64)
    num_days = len(returns)
    rolled = np.full(returns.shape, np.nan)
    if num_days < window_days:
        return rolled
    beside = [_windows(np.broadcast_to(np.asarray(other, dtype=np.float64), num_days), window_days) for other in others]
    # Loop over strategies, since the arrays that a measure allocates are window_days times as large as the series.
    for source, target in zip(_columns(returns), _columns(rolled), strict=True):
        target[window_days - 1 :] = measure(_windows(source, window_days), *beside)
    return rolled


def _columns(series: FloatArray) -> list[FloatArray]:
    """Return views of the K columns of a matrix, or a series [T] itself as the only column."""
    return [series] if series.ndim == 1 else list(series.T)


def _windows(series: FloatArray, window_days: int) -> FloatArray:
    """Return a view [window_days, T - window_days + 1] with one window per column."""
    return sliding_window_view(series, window_days).T
