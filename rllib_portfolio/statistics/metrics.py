"""Performance measures: pure functions of daily simple returns.

Conventions of every function here:

- `returns` is [T] and gives a number, or [T, K] (one column per strategy) and gives [K].
- `cash_returns` and `benchmark` are a number or [T]; they are shared by the columns.
- Volatilities are sample standard deviations (ddof 1). Annualising multiplies means by `periods_per_year` and standard
  deviations by its square root.
- A NaN in a column makes that column's measure NaN; no day is ever left out. An undefined measure is NaN, never 0 or
  infinite: there are too few days, or the denominator is below 5e-7, which counts as zero.

Measures over a moving window are in `rolling`, the dates of a drawdown in `drawdowns`, and measures of portfolio
weights in `backtest.holdings`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rllib_portfolio.arrays import FloatArray

Measure = np.float64 | FloatArray
"""One number if the returns are [T], an array [K] if they are [T, K]."""

PERIODS_PER_YEAR = 252
SMALLEST_DENOMINATOR = 5e-7
"""A smaller denominator counts as zero. If values have single precision or seven written digits, rounding errors make
daily returns deviate by up to 1e-7. No real risk is this small: it would be a volatility of 0.0008 % a year."""


def total_return(returns: FloatArray) -> Measure:
    """Compute the total return V_T / V_0 - 1."""
    return _scalar(_wealth(returns)[-1] - 1.0 if len(returns) else _mean(np.asarray(returns, dtype=np.float64)))


def annualised_return(returns: FloatArray, periods_per_year: float = PERIODS_PER_YEAR) -> Measure:
    """Compute the geometric annual return (V_T / V_0)^(periods_per_year / T) - 1, where T is the number of returns.

    Args:
        returns: Daily simple returns, [T] or [T, K].
        periods_per_year: Days per year.
    """
    years = len(returns) / periods_per_year
    return _scalar((1.0 + total_return(returns)) ** (1.0 / years if years else np.nan) - 1.0)


def mean_daily_return(returns: FloatArray) -> Measure:
    """Compute the arithmetic mean of the daily returns, not annualised."""
    return _scalar(_mean(np.asarray(returns, dtype=np.float64)))


def annualised_volatility(returns: FloatArray, periods_per_year: float = PERIODS_PER_YEAR) -> Measure:
    """Compute the annualised volatility sqrt(periods_per_year) std(r).

    Args:
        returns: Daily simple returns r, [T] or [T, K].
        periods_per_year: Days per year.
    """
    return _scalar(np.sqrt(periods_per_year) * _std(returns))


def sharpe_ratio(
    returns: FloatArray, cash_returns: FloatArray | float = 0.0, periods_per_year: float = PERIODS_PER_YEAR
) -> Measure:
    """Compute the Sharpe ratio sqrt(periods_per_year) mean(e) / std(e) of the excess return e (Sharpe 1994).

    Args:
        returns: Daily simple returns, [T] or [T, K].
        cash_returns: Cash return per day, a number or [T].
        periods_per_year: Days per year.
    """
    excess = _less(returns, cash_returns)
    return _ratio(np.sqrt(periods_per_year) * _mean(excess), _std(excess))


def sortino_ratio(
    returns: FloatArray, cash_returns: FloatArray | float = 0.0, periods_per_year: float = PERIODS_PER_YEAR
) -> Measure:
    """Compute sqrt(periods_per_year) mean(e) / sqrt(mean(min(e, 0)^2)) of the excess return e, averaged over ALL days.

    Args:
        returns: Daily simple returns, [T] or [T, K].
        cash_returns: Cash return per day, a number or [T].
        periods_per_year: Days per year.
    """
    excess = _less(returns, cash_returns)
    downside_deviation = np.sqrt(_mean(np.minimum(excess, 0.0) ** 2))
    return _ratio(np.sqrt(periods_per_year) * _mean(excess), downside_deviation)


def drawdown(returns: FloatArray) -> FloatArray:
    """Compute the fraction lost since the highest wealth so far, starting value included: [T+1] or [T+1, K]."""
    wealth = _wealth(returns)
    return np.asarray(1.0 - wealth / np.maximum.accumulate(wealth, axis=0))


def max_drawdown(returns: FloatArray) -> Measure:
    """Compute the largest drawdown, a positive fraction."""
    worst = drawdown(returns).max(axis=0)
    return _scalar(worst if len(returns) else np.full_like(worst, np.nan))


def ulcer_index(returns: FloatArray) -> Measure:
    """Compute sqrt(mean(drawdown^2)) over the T closes, a fraction (Martin and McCann 1989 give it in per cent)."""
    return _scalar(np.sqrt(_mean(drawdown(returns)[1:] ** 2)))


def calmar_ratio(returns: FloatArray, periods_per_year: float = PERIODS_PER_YEAR) -> Measure:
    """Compute annualised return / maximum drawdown.

    Args:
        returns: Daily simple returns, [T] or [T, K].
        periods_per_year: Days per year.
    """
    return _ratio(annualised_return(returns, periods_per_year), max_drawdown(returns))


def value_at_risk(returns: FloatArray, tail: float = 0.05) -> Measure:
    """Compute the one-day historical VaR, a positive loss: minus the linearly interpolated `tail` quantile.

    Args:
        returns: Daily simple returns, [T] or [T, K].
        tail: Probability of a larger loss, in (0, 1).
    """
    return _scalar(-_quantile(returns, tail))


def conditional_value_at_risk(returns: FloatArray, tail: float = 0.05) -> Measure:
    """Compute the one-day historical CVaR, a positive loss: minus the mean return at or below the `tail` quantile.

    Args:
        returns: Daily simple returns, [T] or [T, K].
        tail: Probability of the tail, in (0, 1).
    """
    returns = np.asarray(returns, dtype=np.float64)
    in_tail = returns <= _quantile(returns, tail)
    return _ratio(-np.where(in_tail, returns, 0.0).sum(axis=0), in_tail.sum(axis=0))


def tail_ratio(returns: FloatArray, tail: float = 0.05) -> Measure:
    """Compute |q(1 - tail)| / |q(tail)| of linearly interpolated quantiles q; above 1 if the upper tail is longer.

    Args:
        returns: Daily simple returns, [T] or [T, K].
        tail: Probability of each tail, in (0, 0.5).
    """
    return _ratio(np.abs(_quantile(returns, 1.0 - tail)), np.abs(_quantile(returns, tail)))


def skewness(returns: FloatArray) -> Measure:
    """Compute m_3 / m_2^(3/2) of the central moments m_j (ddof 0, as the deflated Sharpe ratio requires)."""
    return _standardised_moment(returns, 3)


def kurtosis(returns: FloatArray) -> Measure:
    """Compute the RAW kurtosis m_4 / m_2^2, 3 for a normal distribution (ddof 0, as the deflated ratio requires)."""
    return _standardised_moment(returns, 4)


def win_rate(returns: FloatArray) -> Measure:
    """Compute the share of ALL days that have a return above 0."""
    returns = np.asarray(returns, dtype=np.float64)
    return _scalar(_mean(np.where(np.isnan(returns), np.nan, returns > 0.0)))


def profit_factor(returns: FloatArray) -> Measure:
    """Compute sum of the gains / sum of the losses, the Omega ratio at threshold 0."""
    return omega_ratio(returns, threshold=0.0)


def information_ratio(
    returns: FloatArray, benchmark: FloatArray | float, periods_per_year: float = PERIODS_PER_YEAR
) -> Measure:
    """Compute sqrt(periods_per_year) mean(a) / std(a), where a is the return minus the benchmark's.

    Args:
        returns: Daily simple returns, [T] or [T, K].
        benchmark: Daily simple returns of the benchmark, a number or [T].
        periods_per_year: Days per year.
    """
    return sharpe_ratio(returns, benchmark, periods_per_year)


def beta(returns: FloatArray, benchmark: FloatArray, cash_returns: FloatArray | float = 0.0) -> Measure:
    """Compute cov(e, b) / var(b), where e is the return and b the benchmark's, both in excess of cash (ddof 1).

    Args:
        returns: Daily simple returns, [T] or [T, K].
        benchmark: Daily simple returns of the benchmark, [T].
        cash_returns: Cash return per day, a number or [T].
    """
    excess = _less(returns, cash_returns)
    market = _beside(excess, _less(benchmark, cash_returns))
    deviation = market - _mean(market)
    covariance = _mean((excess - _mean(excess)) * deviation)  # T / (T - 1) cancels
    return _scalar(np.where(_std(market) < SMALLEST_DENOMINATOR, np.nan, _ratio(covariance, _mean(deviation**2), 0.0)))


def alpha(
    returns: FloatArray,
    benchmark: FloatArray,
    cash_returns: FloatArray | float = 0.0,
    periods_per_year: float = PERIODS_PER_YEAR,
) -> Measure:
    """Compute Jensen's annual alpha periods_per_year (mean(e) - beta mean(b)), with e and b as in `beta`.

    Args:
        returns: Daily simple returns, [T] or [T, K].
        benchmark: Daily simple returns of the benchmark, [T].
        cash_returns: Cash return per day, a number or [T].
        periods_per_year: Days per year.
    """
    excess, market = _less(returns, cash_returns), _less(benchmark, cash_returns)
    return _scalar(periods_per_year * (_mean(excess) - beta(returns, benchmark, cash_returns) * _mean(market)))


def omega_ratio(
    returns: FloatArray, cash_returns: FloatArray | float = 0.0, threshold: FloatArray | float | None = None
) -> Measure:
    """Compute sum(max(r - h, 0)) / sum(max(h - r, 0)) of the returns r at the daily threshold h.

    Args:
        returns: Daily simple returns, [T] or [T, K].
        cash_returns: Cash return per day, a number or [T]; it is not used if there is a threshold.
        threshold: Threshold per day, a number or [T]; None takes the cash return.
    """
    above = _less(returns, cash_returns if threshold is None else threshold)
    smallest = SMALLEST_DENOMINATOR * len(above)
    return _ratio(np.maximum(above, 0.0).sum(axis=0), np.maximum(-above, 0.0).sum(axis=0), smallest)


def _wealth(returns: FloatArray) -> FloatArray:
    """Return the wealth path that starts at 1, [T+1] or [T+1, K]."""
    growth = 1.0 + np.asarray(returns, dtype=np.float64)
    return np.concatenate([np.ones((1, *growth.shape[1:])), growth.cumprod(axis=0)])


def _less(returns: FloatArray, other: FloatArray | float) -> FloatArray:
    returns = np.asarray(returns, dtype=np.float64)
    return returns - _beside(returns, other)


def _beside(returns: FloatArray, other: FloatArray | float) -> FloatArray:
    """Return `other` [T] as a column [T, 1] if returns are [T, K], otherwise as it is."""
    other = np.asarray(other, dtype=np.float64)
    return other[:, None] if returns.ndim == 2 and other.ndim == 1 else other


def _mean(values: FloatArray) -> FloatArray:
    return np.asarray(values.sum(axis=0) / len(values) if len(values) else np.full(values.shape[1:], np.nan))


def _std(values: FloatArray) -> FloatArray:
    return np.asarray(values.std(axis=0, ddof=1) if len(values) > 1 else np.full(values.shape[1:], np.nan))


def _standardised_moment(returns: FloatArray, order: int) -> Measure:
    returns = np.asarray(returns, dtype=np.float64)
    deviation = returns - _mean(returns)
    scale = np.sqrt(_mean(deviation**2))
    return _scalar(_mean((deviation / np.where(scale > SMALLEST_DENOMINATOR, scale, np.nan)) ** order))


def _quantile(returns: FloatArray, tail: float) -> FloatArray:
    returns = np.asarray(returns, dtype=np.float64)
    if len(returns) == 0:
        return np.full(returns.shape[1:], np.nan)
    return np.asarray(np.quantile(returns, tail, axis=0))


def _ratio(numerator: Any, denominator: Any, smallest: float = SMALLEST_DENOMINATOR) -> Measure:
    """Return numerator / denominator; NaN where the denominator is not above `smallest`."""
    is_defined = np.asarray(denominator) > smallest
    return _scalar(np.where(is_defined, numerator / np.where(is_defined, denominator, 1.0), np.nan))


def _scalar(values: Any) -> Measure:
    """Return an array without axes as a number, and any other array as it is."""
    measure: Measure = np.asarray(values, dtype=np.float64)[()]
    return measure
