"""Tests of many strategies at once: whether any beats the benchmark, and which may be the best.

Both tests look at mean daily returns, not at risk: pass excess returns, or returns scaled to one volatility. They
correct for the number of strategies that they compare, but not for trials that were run before; see `overfitting`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rllib_portfolio.arrays import FloatArray
from rllib_portfolio.errors import ConfigError
from rllib_portfolio.statistics.bootstrap import SMALLEST_DEVIATION, block_length

BoolArray = NDArray[np.bool_]


class SuperiorAbilityTest(NamedTuple):
    """One-sided test that no strategy has a higher mean return than the benchmark."""

    p_value: float
    """Hansen's consistent p-value."""
    p_value_lower: float
    """Lower bound, which ignores strategies that are worse than the benchmark."""
    p_value_upper: float
    """Upper bound, which treats all strategies as equal to the benchmark (White's reality check, studentised)."""
    num_compared: int
    """Number of strategies that differ from the benchmark on any day."""
    block_days: int


class ConfidenceSet(NamedTuple):
    """Set of strategies that contains the best one with probability `level` or more."""

    included: BoolArray
    """Whether each strategy is in the set, [K]."""
    p_values: FloatArray
    """Smallest significance level at which each strategy would be left out, [K]."""
    level: float
    block_days: int


def superior_ability_test(
    returns: FloatArray, benchmark: FloatArray, num_resamples: int = 2000, seed: int = 0
) -> SuperiorAbilityTest:
    """Run Hansen's SPA test: compare the largest t statistic of K mean active returns with its bootstrap distribution.

    arch does not divide by the standard errors omega_k that the statistic contains, so the active returns are divided
    by omega_k before arch gets them. If no strategy is ahead, the statistic is 0, its smallest value, and p is 1.

    Args:
        returns: Daily returns, [T, K].
        benchmark: Daily returns of the benchmark on the same days, [T].
        num_resamples: Number of resampled histories of the stationary bootstrap.
        seed: Seed of the draws.

    Raises:
        ConfigError: If returns are not [T, K] with at least 2 days, or one is NaN.

    Source: Hansen (2005), "A Test for Superior Predictive Ability", Journal of Business & Economic Statistics 23(4).
    """
    from arch.bootstrap import SPA

    active = _require_numbers(returns) - np.asarray(benchmark, dtype=np.float64)[:, None]
    active = active[:, np.abs(active).max(axis=0) >= SMALLEST_DEVIATION]
    if active.shape[1] == 0:
        return SuperiorAbilityTest(1.0, 1.0, 1.0, 0, 1)
    block_days = _longest_block(active)
    deviation = np.maximum(_long_run_deviation(active, block_days), SMALLEST_DEVIATION)
    if not (active.mean(axis=0) > 0.0).any():
        return SuperiorAbilityTest(1.0, 1.0, 1.0, active.shape[1], block_days)
    test = SPA(np.zeros(len(active)), -active / deviation, block_size=block_days, reps=num_resamples, seed=seed)
    test.compute()
    p_values = test.pvalues
    return SuperiorAbilityTest(
        float(p_values["consistent"]),
        float(p_values["lower"]),
        float(p_values["upper"]),
        active.shape[1],
        block_days,
    )


def model_confidence_set(
    returns: FloatArray, level: float = 0.95, num_resamples: int = 2000, seed: int = 0
) -> ConfidenceSet:
    """Find the strategies whose mean return is not significantly below the best one, by the T_max statistic.

    Strategies whose returns never differ are tested as one and get the same p-value. A large set means that the data
    say little.

    Args:
        returns: Daily returns, [T, K].
        level: Probability that the set contains the best strategy.
        num_resamples: Number of resampled histories of the stationary bootstrap.
        seed: Seed of the draws.

    Raises:
        ConfigError: If returns are not [T, K] with at least 2 days, or one is NaN.

    Source: Hansen, Lunde and Nason (2011), "The Model Confidence Set", Econometrica 79(2), section 3.1.2; computed by
        arch's MCS with minus the returns as losses.
    """
    from arch.bootstrap import MCS

    returns = _require_numbers(returns)
    first_of = _first_equal(returns)
    distinct = np.unique(first_of)
    if len(distinct) < 2:
        return ConfidenceSet(np.ones(returns.shape[1], dtype=np.bool_), np.ones(returns.shape[1]), level, 1)
    losses: Any = -returns[:, distinct]
    block_days = _longest_block(losses - losses.mean(axis=1, keepdims=True))
    confidence_set = MCS(losses, 1.0 - level, reps=num_resamples, block_size=block_days, method="max", seed=seed)
    confidence_set.compute()
    table = confidence_set.pvalues["Pvalue"]
    p_of = {distinct[model]: p_value for model, p_value in zip(table.index, table.to_numpy(), strict=True)}
    p_values = np.array([p_of[first] for first in first_of])
    return ConfidenceSet(p_values > 1.0 - level, p_values, level, block_days)


def _long_run_deviation(active: FloatArray, block_days: int) -> FloatArray:
    """Return omega [K], the standard deviation of sqrt(T) times a mean under the stationary bootstrap.

    No draws are needed: omega^2 = gamma_0 + 2 sum_i kappa_i gamma_i, where p = 1 / block_days and
    kappa_i = (T - i)/T (1 - p)^i + i/T (1 - p)^(T - i) (Politis and Romano 1994, lemma 1). The autocovariances gamma_i
    are computed by Fourier transform.
    """
    num_days = len(active)
    spectrum = np.fft.rfft(active - active.mean(axis=0), 2 * num_days, axis=0)
    autocovariance = np.fft.irfft(np.abs(spectrum) ** 2, axis=0)[:num_days] / num_days
    lag, stay = np.arange(num_days), 1.0 - 1.0 / block_days
    kappa = (1.0 - lag / num_days) * stay**lag + lag / num_days * stay ** (num_days - lag)
    variance = autocovariance[0] + 2.0 * kappa[1:] @ autocovariance[1:]
    return np.asarray(np.sqrt(np.maximum(variance, 0.0)))


def _longest_block(columns: FloatArray) -> int:
    return max(block_length(column) for column in columns.T)


def _first_equal(returns: FloatArray) -> NDArray[np.intp]:
    """Return for each column the index of the first column that never differs from it by 5e-7 or more."""
    num = returns.shape[1]
    is_equal = [
        [np.abs(returns[:, j] - returns[:, k]).max() < SMALLEST_DEVIATION for j in range(num)] for k in range(num)
    ]
    return np.asarray(np.argmax(np.array(is_equal), axis=1))


def _require_numbers(returns: FloatArray) -> FloatArray:
    returns = np.asarray(returns, dtype=np.float64)
    if returns.ndim != 2 or len(returns) < 2:
        raise ConfigError(
            f"returns must be [T, K] with at least 2 days, got shape {returns.shape} (multiple comparison). Put one "
            "strategy into each column."
        )
    if np.isnan(returns).any():
        column = int(np.isnan(returns).any(axis=0).argmax())
        raise ConfigError(
            f"returns must be numbers, got a NaN in column {column} (multiple comparison). Look for gaps in the series."
        )
    return returns
