"""Tests of equal Sharpe ratios for returns with heavy tails and serial dependence.

Both tests are from Ledoit and Wolf (2008), "Robust performance hypothesis testing with the Sharpe ratio", Journal of
Empirical Finance 15(5): the HAC test of section 3.1 with prewhitening, and the studentised bootstrap of section 3.2.
The authors prefer the bootstrap; over decades of daily returns the two agree.

With v = (mean a, mean b, mean a^2, mean b^2) of the two excess returns a and b, the daily difference is

    f(v) = v1 / sqrt(v3 - v1^2) - v2 / sqrt(v4 - v2^2)

and its standard error is s = sqrt(grad' Psi grad / T), where Psi is the long-run covariance of the four moments.

There are three departures from the paper, with which results do not depend on leverage or on the unit of returns:

- The prewhitening coefficients are bounded in another way (`_whitened`).
- The bandwidth is chosen for the one series that determines the difference, grad' D e_t, and not for four moments of
  different scale.
- The block length is Politis and White's for z_t = grad' (y_t - v), where y_t are the summands of the four moments,
  instead of the calibration of Algorithm 3.1.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy.special import ndtr

from rllib_portfolio.arrays import FloatArray
from rllib_portfolio.errors import ConfigError
from rllib_portfolio.statistics import metrics
from rllib_portfolio.statistics.bootstrap import SMALLEST_DEVIATION, BootstrapPlan, block_length

MIN_DAYS = 10
"""Fewer days do not identify the sixteen coefficients of the prewhitening."""

NUMBERS_AT_ONCE = 4_000_000
LARGEST_AUTOCORRELATION = 0.97
"""Bound of Andrews and Monahan (1992); closer to 1, prewhitening would divide by almost zero."""


class HacTest(NamedTuple):
    """Two-sided test of equal Sharpe ratios by a robust standard error."""

    difference: float
    """Difference of the annualised Sharpe ratios; NaN where one is undefined."""
    standard_error: float
    """Standard error of `difference`."""
    p_value: float
    bandwidth_days: float


class BootstrapTest(NamedTuple):
    """Two-sided test of equal Sharpe ratios by the studentised circular block bootstrap."""

    difference: float
    standard_error: float
    p_value: float
    """P-value between 1 / (num_draws + 1) and 1, or that of the HAC test where its standard error is 0 or NaN."""
    block_days: int


def hac_sharpe_test(
    returns: FloatArray,
    benchmark: FloatArray,
    cash_returns: FloatArray | float = 0.0,
    periods_per_year: float = metrics.PERIODS_PER_YEAR,
) -> HacTest:
    """Test H0: equal Sharpe ratios by p = 2 Phi(-|f| / s), section 3.1.

    The standard error s uses the Parzen kernel after prewhitening by a VAR(1). If the two ratios are equal by
    construction (the same returns, or the same returns at another leverage), p is 1.

    Args:
        returns: Daily simple returns of the strategy, [T], T at least 10.
        benchmark: Daily simple returns of the benchmark on the same days, [T].
        cash_returns: Cash return per day, a number or [T].
        periods_per_year: Days per year.

    Raises:
        ConfigError: If the two series differ in length or have fewer than 10 days, or a return is NaN.
    """
    pair = _scaled_excess(returns, benchmark, cash_returns)
    if np.isnan(pair).any():
        return HacTest(math.nan, math.nan, math.nan, math.nan)
    num_days, moments, deviation = _moments(pair)
    difference = float(_difference(moments))
    whitened = _whitened(deviation, _gradient(moments))
    bandwidth = _parzen_bandwidth(whitened)
    variance = num_days / (num_days - 4) * _long_run_variance(whitened, bandwidth)
    standard_error = math.sqrt(max(variance, 0.0) / num_days)
    annual = math.sqrt(periods_per_year * (num_days - 1) / num_days)  # from ddof 0 to ddof 1, as in the metrics
    p_value = _p_of(difference, standard_error)
    return HacTest(annual * difference, annual * standard_error, p_value, bandwidth)


def bootstrap_sharpe_test(
    returns: FloatArray,
    benchmark: FloatArray,
    cash_returns: FloatArray | float = 0.0,
    periods_per_year: float = metrics.PERIODS_PER_YEAR,
    plan: BootstrapPlan | None = None,
) -> BootstrapTest:
    """Test H0: equal Sharpe ratios by p = (1 + #{d* >= d}) / (num_draws + 1), section 3.2.

    d = |f| / s uses the HAC standard error. Each resampled history has l = floor(T / b) blocks of b days, which may
    continue from the last day to the first, and gives d* = |f* - f| / s*. s* is the standard error for blocks:
    Psi* = (1 / l) sum_j zeta_j zeta_j', where zeta_j is the sum of y* - v* over block j, divided by sqrt(b).

    Args:
        returns: Daily simple returns of the strategy, [T], T at least 10.
        benchmark: Daily simple returns of the benchmark on the same days, [T].
        cash_returns: Cash return per day, a number or [T].
        periods_per_year: Days per year.
        plan: Settings of the bootstrap, by default with 4999 draws; `level` has no effect.

    Raises:
        ConfigError: If the two series differ in length or have fewer than 10 days, or a return is NaN.
    """
    plan = plan or BootstrapPlan(num_draws=4999)
    hac = hac_sharpe_test(returns, benchmark, cash_returns, periods_per_year)
    if not hac.standard_error > SMALLEST_DEVIATION:  # nothing to divide by
        return BootstrapTest(*hac[:3], 1)
    pair = _scaled_excess(returns, benchmark, cash_returns)
    _, moments, deviation = _moments(pair)
    block_days = plan.block_days or block_length(deviation @ _gradient(moments), "circular")
    studentised = abs(hac.difference) / hac.standard_error
    num_smaller = 0
    for resampled in _resampled_statistics(pair, block_days, plan):
        num_smaller += int((resampled < studentised).sum())  # an undefined d* counts as at least d
    p_value = (1 + plan.num_draws - num_smaller) / (plan.num_draws + 1)
    return BootstrapTest(hac.difference, hac.standard_error, p_value, block_days)


def _resampled_statistics(pair: FloatArray, block_days: int, plan: BootstrapPlan) -> Iterator[FloatArray]:
    """Yield d* in chunks, num_draws numbers in all."""
    generator = np.random.default_rng(plan.seed)
    num_days, moments, _ = _moments(pair)
    difference, num_blocks = _difference(moments), num_days // block_days
    sums = _block_sums(np.hstack([pair, pair**2]), block_days)
    chunk = max(1, NUMBERS_AT_ONCE // (4 * num_blocks))
    for start in range(0, plan.num_draws, chunk):
        drawn = generator.integers(num_days, size=(min(chunk, plan.num_draws - start), num_blocks))
        blocks = sums[drawn]  # [C, l, 4]
        moments = blocks.mean(axis=1) / block_days
        with np.errstate(divide="ignore", invalid="ignore"):  # a history may consist of one repeated day
            zeta = (blocks - block_days * moments[:, None]) / math.sqrt(block_days)
            projected = np.einsum("clm,cm->cl", zeta, _gradient(moments))
            standard_error = np.sqrt((projected**2).mean(axis=1) / (num_blocks * block_days))
            yield np.abs(_difference(moments) - difference) / standard_error


def _scaled_excess(returns: FloatArray, benchmark: FloatArray, cash_returns: FloatArray | float) -> FloatArray:
    """Return both excess returns, [T, 2], each divided by its standard deviation, which changes no Sharpe ratio."""
    returns, benchmark = np.asarray(returns, dtype=np.float64), np.asarray(benchmark, dtype=np.float64)
    if returns.shape != benchmark.shape or returns.ndim != 1 or len(returns) < MIN_DAYS:
        raise ConfigError(
            f"benchmark must have the days of the strategy, at least {MIN_DAYS}, got shapes {benchmark.shape} and "
            f"{returns.shape} (Sharpe test). Align the two."
        )
    pair = np.column_stack([returns - cash_returns, benchmark - cash_returns])
    if np.isnan(pair).any():
        raise ConfigError("returns must be numbers, got a NaN (Sharpe test). Look for gaps in the series.")
    deviation = pair.std(axis=0)
    return np.asarray(pair / np.where(deviation < SMALLEST_DEVIATION, np.nan, deviation))


def _moments(pair: FloatArray) -> tuple[int, FloatArray, FloatArray]:
    """Return T, v [4] and y_t - v [T, 4]."""
    summands = np.hstack([pair, pair**2])
    moments = summands.mean(axis=0)
    return len(pair), moments, summands - moments


def _whitened(deviation: FloatArray, gradient: FloatArray) -> FloatArray:
    """Return the prewhitened series grad' D e_t of x = `deviation` [T, 4], with D = (I - A)^-1.

    e_t = x_t - A x_t-1 are the residuals of a VAR(1). The series has the long-run variance of grad' x, but most of the
    autocorrelation is removed, so that the kernel has less to estimate.

    Source: Andrews and Monahan (1992), "An Improved Heteroskedasticity and Autocorrelation Consistent Covariance Matrix
        Estimator", Econometrica 60(4). They bound the singular values of A. Since x contains returns and their squares,
        these depend on the unit of returns, and the largest absolute eigenvalue is bounded here instead.
    """
    before, now = deviation[:-1], deviation[1:]
    coefficients = np.linalg.lstsq(before, now)[0].T
    radius = np.abs(np.linalg.eigvals(coefficients)).max()
    coefficients *= min(1.0, LARGEST_AUTOCORRELATION / max(radius, SMALLEST_DEVIATION))
    weights = np.linalg.solve((np.eye(4) - coefficients).T, gradient)
    return np.asarray((now - before @ coefficients.T) @ weights)


def _difference(moments: FloatArray) -> FloatArray:
    """Return f of moments [..., 4]."""
    first, second = moments[..., :2], moments[..., 2:]
    ratios = first / np.sqrt(second - first**2)
    return np.asarray(ratios[..., 0] - ratios[..., 1])


def _gradient(moments: FloatArray) -> FloatArray:
    """Return the gradient of f, [..., 4]: (v3 / s1^3, -v4 / s2^3, -v1 / (2 s1^3), v2 / (2 s2^3)).

    s1 and s2 are the standard deviations of the two excess returns.
    """
    first, second = moments[..., :2], moments[..., 2:]
    cubed = (second - first**2) ** 1.5
    signs = np.array([1.0, -1.0])
    return np.concatenate([signs * second / cubed, -0.5 * signs * first / cubed], axis=-1)


def _block_sums(summands: FloatArray, block_days: int) -> FloatArray:
    """Return the sums over the block that begins at each day, [T, 4]; the first day follows the last."""
    around = np.concatenate([summands, summands[: block_days - 1]])
    cumulative = np.concatenate([np.zeros((1, summands.shape[1])), around.cumsum(axis=0)])
    return np.asarray(cumulative[block_days:] - cumulative[:-block_days])


def _parzen_bandwidth(series: FloatArray) -> float:
    """Return the bandwidth 2.6614 (alpha(2) T)^(1/5), at most T - 1.

    alpha(2) = 4 rho^2 / (1 - rho)^4, where rho is the coefficient of a first-order autoregression.

    Source: Andrews (1991), "Heteroskedasticity and Autocorrelation Consistent Covariance Matrix Estimation",
        Econometrica 59(3), equations (6.2) and (6.4) for one series.
    """
    variance = float(series @ series)
    if not variance > 0.0:
        return 0.0
    rho = float(series[1:] @ series[:-1]) / variance
    rho = min(max(rho, -LARGEST_AUTOCORRELATION), LARGEST_AUTOCORRELATION)
    alpha = 4.0 * rho**2 / (1.0 - rho) ** 4
    return float(min(2.6614 * (alpha * len(series)) ** 0.2, len(series) - 1.0))


def _long_run_variance(series: FloatArray, bandwidth: float) -> float:
    """Return sum_j k(j / bandwidth) gamma_j over all lags of a centred series.

    k is Parzen's kernel and gamma_j is the autocovariance at lag j.
    """
    num_days = len(series)
    total = float(series @ series)
    for lag in range(1, math.ceil(bandwidth)):
        total += 2.0 * _parzen(lag / bandwidth) * float(series[lag:] @ series[:-lag])
    return total / num_days


def _parzen(x: float) -> float:
    return float(1.0 - 6.0 * x**2 + 6.0 * x**3 if x <= 0.5 else 2.0 * (1.0 - x) ** 3)


def _p_of(difference: float, standard_error: float) -> float:
    if standard_error > SMALLEST_DEVIATION:
        return float(2.0 * ndtr(-abs(difference) / standard_error))
    return 1.0 if abs(difference) < SMALLEST_DEVIATION else float("nan")
