"""Tests of equal mean returns of a strategy and its benchmark.

The stationary-bootstrap test of the mean active return is one of the two tests behind `verdicts`. Readers also ask for
the three textbook tests, each of which comes with a sentence on what it ignores. Related modules are `sharpe_tests`
(Sharpe ratios), `bootstrap` (intervals), `multiple_comparison` (many strategies at once), `overfitting` (number of
trials) and `seeds` (training seeds).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from rllib_portfolio.arrays import FloatArray
from rllib_portfolio.errors import ConfigError
from rllib_portfolio.statistics.bootstrap import SMALLEST_DEVIATION, block_length


class ActiveReturnTest(NamedTuple):
    """Two-sided test that the mean daily active return is zero."""

    p_value: float
    """P-value between 1 / (num_resamples + 1) and 1."""
    block_days: int
    """Mean length of a resampled block."""


def mean_active_return_test(active: FloatArray, num_resamples: int = 2000, seed: int = 0) -> ActiveReturnTest:
    """Test H0: E[a] = 0 against E[a] != 0 by the stationary bootstrap.

    Drawing days of the active return a draws the days of policy and benchmark jointly. The resampled means m* are
    centred at the sample mean m, which H0 moves to 0, so p = (1 + #{|m* - m| >= |m|}) / (num_resamples + 1). The mean
    is not studentised.

    Args:
        active: Daily returns of the policy minus those of the benchmark, [T], T at least 1.
        num_resamples: Number of resampled series.
        seed: Seed of the draws.

    Source: Politis and Romano (1994), "The Stationary Bootstrap", JASA 89(428). Block length: Politis and White (2004),
        "Automatic Block-Length Selection for the Dependent Bootstrap", corrected by Patton, Politis and White (2009).
    """
    from arch.bootstrap import StationaryBootstrap  # two seconds to import

    if np.abs(active).max() < SMALLEST_DEVIATION:
        return ActiveReturnTest(1.0, 1)
    block_days = block_length(active)
    resampled = StationaryBootstrap(block_days, active, seed=seed).apply(np.mean, num_resamples)
    mean = active.mean()
    num_as_far = int((np.abs(resampled - mean) >= abs(mean)).sum())
    return ActiveReturnTest((1 + num_as_far) / (num_resamples + 1), block_days)


class TextbookTest(NamedTuple):
    """Result of one of the three textbook tests, two-sided."""

    name: str
    statistic: float
    p_value: float
    ignores: str
    """Sentence for the reader on what the test ignores."""


def textbook_tests(returns: FloatArray, benchmark: FloatArray) -> tuple[TextbookTest, ...]:
    """Run the paired t, the Wilcoxon signed-rank and the two-sample Kolmogorov-Smirnov test, in this order.

    If the two series never differ by 5e-7 or more, p is 1 and the statistic NaN. Wilcoxon drops days without a
    difference.

    Args:
        returns: Daily returns of the strategy, [T], T at least 2.
        benchmark: Daily returns of the benchmark on the same days, [T].

    Raises:
        ConfigError: If the two series differ in length, have fewer than 2 days, or contain a NaN.

    Source: Student (1908), Biometrika 6(1); Wilcoxon (1945), Biometrics Bulletin 1(6); Smirnov (1939); SciPy computes
        them.
    """
    from scipy import stats  # a second to import

    returns, benchmark = np.asarray(returns, dtype=np.float64), np.asarray(benchmark, dtype=np.float64)
    _require_aligned(returns, benchmark)
    active = returns - benchmark
    if np.abs(active).max() < SMALLEST_DEVIATION:
        results = [(float("nan"), 1.0)] * len(_TEXTBOOK)
    else:
        results = [
            _t_test(active),
            _figures(stats.wilcoxon(active)),
            _figures(stats.ks_2samp(returns, benchmark, method="asymp")),
        ]
    return tuple(
        TextbookTest(name, *figures, ignores) for (name, ignores), figures in zip(_TEXTBOOK, results, strict=True)
    )


_TEXTBOOK = (
    (
        "paired t",
        "It assumes independent days and ignores risk: leverage alone can make it significant.",
    ),
    (
        "Wilcoxon signed-rank",
        "It assumes independent days, uses ranks and so gives less weight to the largest gains and losses, and may "
        "report skewness as a difference of location.",
    ),
    (
        "Kolmogorov-Smirnov",
        "It assumes independent days and unrelated strategies, although both are on the same days; a difference in "
        "volatility alone can make it significant.",
    ),
)


def _t_test(active: FloatArray) -> tuple[float, float]:
    """Return statistic and p-value; NaN and 0 for a constant difference, which has no noise to compare it with."""
    from scipy import stats

    if active.std() < SMALLEST_DEVIATION:
        return float("nan"), 0.0
    return _figures(stats.ttest_1samp(active, 0.0))


def _figures(result: Any) -> tuple[float, float]:
    return float(result.statistic), float(result.pvalue)


def _require_aligned(returns: FloatArray, benchmark: FloatArray) -> None:
    if returns.shape != benchmark.shape or returns.ndim != 1 or len(returns) < 2:
        raise ConfigError(
            f"benchmark must have the days of the strategy, at least 2, got shapes {benchmark.shape} and "
            f"{returns.shape} (textbook tests). Align the two."
        )
    if np.isnan(returns).any() or np.isnan(benchmark).any():
        raise ConfigError("returns must be numbers, got a NaN (textbook tests). Look for gaps in the series.")
