"""Confidence intervals by the stationary bootstrap; all strategies and their benchmark share the same resampled days.

Drawing blocks of days preserves serial dependence. Drawing the same days for all strategies preserves the correlation
between strategies, which narrows the interval of a difference. The intervals are percentile intervals, neither
studentised nor bias-corrected. The interval of the maximum drawdown is the most biased one, since resampling breaks up
crashes that are longer than a block.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rllib_portfolio.arrays import FloatArray
from rllib_portfolio.errors import ConfigError
from rllib_portfolio.statistics import metrics

IntArray = NDArray[np.integer[Any]]

SMALLEST_DEVIATION = metrics.SMALLEST_DENOMINATOR
"""A standard deviation below this counts as zero, as in the metrics."""

MIN_DAYS_FOR_BLOCKS = 10
"""Series of fewer days get blocks of one day, since their autocorrelations cannot be estimated."""

DRAWS_AT_ONCE = 64
TAIL = 0.05


@dataclass(frozen=True, slots=True)
class BootstrapPlan:
    """Settings of the bootstrap.

    Attributes:
        num_draws: Number of resampled histories.
        level: Coverage of the intervals, a fraction.
        block_days: Mean length of a block; `joint_block_days` chooses it if None.
        seed: Seed of the draws.
    """

    num_draws: int = 10_000
    level: float = 0.95
    block_days: int | None = None
    seed: int = 0


class Interval(NamedTuple):
    """An estimate and the ends of its interval, each one number or an array [K] with one entry per strategy."""

    estimate: FloatArray
    lower: FloatArray
    upper: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class BootstrapIntervals:
    """Intervals of K strategies; NaN where the measure is undefined in the data or in any draw.

    Attributes:
        sharpe_ratio: Annualised Sharpe ratio.
        sharpe_difference: Sharpe ratio minus the benchmark's; None without a benchmark.
        max_drawdown: Maximum drawdown, a positive fraction.
        conditional_value_at_risk: One-day CVaR 95 %, a positive loss.
        block_days: Mean length of a block.
        num_draws: Number of resampled histories.
        level: Coverage, a fraction.
    """

    sharpe_ratio: Interval
    sharpe_difference: Interval | None
    max_drawdown: Interval
    conditional_value_at_risk: Interval
    block_days: int
    num_draws: int
    level: float


def bootstrap_intervals(
    returns: FloatArray,
    benchmark: FloatArray | None = None,
    cash_returns: FloatArray | float = 0.0,
    periods_per_year: float = metrics.PERIODS_PER_YEAR,
    plan: BootstrapPlan | None = None,
) -> BootstrapIntervals:
    """Compute intervals of the Sharpe ratio, its difference to the benchmark's, the maximum drawdown and the CVaR.

    Args:
        returns: Daily simple returns above -1, [T, K] or [T].
        benchmark: Daily simple returns of the benchmark, [T], on the same resampled days.
        cash_returns: Cash return per day, a number or [T], on the same resampled days.
        periods_per_year: Days per year.
        plan: Settings of the bootstrap.

    Raises:
        ConfigError: If there are fewer than two days, or a return is not a number above -1.

    Source: Politis and Romano (1994), "The Stationary Bootstrap", JASA 89(428), section 2; arch makes the draws.
    """
    plan = plan or BootstrapPlan()
    paths = _paths(returns, benchmark)
    cash = np.broadcast_to(np.asarray(cash_returns, dtype=np.float64), len(paths))
    excess = paths - cash[:, None]
    block_days = joint_block_days(excess) if plan.block_days is None else plan.block_days
    sharpe, drawdown, tail_loss = _draws(paths, excess, block_days, plan)
    sharpe *= math.sqrt(periods_per_year)
    num_strategies = paths.shape[1] - (benchmark is not None)
    judged = slice(num_strategies)
    sharpe_now = np.asarray(metrics.sharpe_ratio(paths, cash, periods_per_year))

    def interval(estimate: Any, draws: FloatArray) -> Interval:
        return _percentile_interval(np.asarray(estimate)[judged], draws[:, judged], plan.level)

    return BootstrapIntervals(
        sharpe_ratio=interval(sharpe_now, sharpe),
        sharpe_difference=None if benchmark is None else interval(sharpe_now - sharpe_now[-1], sharpe - sharpe[:, -1:]),
        max_drawdown=interval(metrics.max_drawdown(paths), drawdown),
        conditional_value_at_risk=interval(metrics.conditional_value_at_risk(paths, TAIL), tail_loss),
        block_days=block_days,
        num_draws=plan.num_draws,
        level=plan.level,
    )


def joint_block_days(excess: FloatArray) -> int:
    """Return the mean block length for all columns: the longest optimal length of any column or squared column.

    Drawdown and CVaR depend on volatility clusters, which show in the squares of returns but not in the returns. Blocks
    that are too long cost little; blocks that are too short make the intervals too narrow.
    """
    deviation = excess - excess.mean(axis=0)
    return max(
        block_length(series) for column in deviation.T for series in (column, column**2 / max(column.var(), 1e-300))
    )


def block_length(series: FloatArray, bootstrap: Literal["stationary", "circular"] = "stationary") -> int:
    """Return the optimal (mean) block length of a series, from 1 to T; 1 if it cannot be estimated.

    Args:
        series: The series, [T].
        bootstrap: The bootstrap that draws the blocks.

    Source: Politis and White (2004), "Automatic Block-Length Selection for the Dependent Bootstrap", Econometric
        Reviews 23(1), corrected by Patton, Politis and White (2009); arch's implementation.
    """
    from arch.bootstrap import optimal_block_length  # two seconds to import

    if len(series) < MIN_DAYS_FOR_BLOCKS or series.std() < SMALLEST_DEVIATION:
        return 1
    optimum = float(optimal_block_length(pd.Series(series))[bootstrap].iloc[0])
    return min(max(1, math.ceil(optimum)), len(series)) if math.isfinite(optimum) else 1


def _draws(
    paths: FloatArray, excess: FloatArray, block_days: int, plan: BootstrapPlan
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the daily Sharpe ratio, maximum drawdown and CVaR of every draw and column, each [num_draws, K]."""
    sharpe, drawdown, tail_loss = np.empty((3, plan.num_draws, paths.shape[1]))
    log_growth, tails = np.log1p(paths), [_Tail.of(path) for path in paths.T]
    for rows, days in _drawn_days(len(paths), block_days, plan):
        counts = _counts(days)
        sharpe[rows] = _sharpe_ratios(counts, excess)
        tail_loss[rows] = np.stack([tail.losses(counts) for tail in tails], axis=1)
        drawdown[rows] = [_max_drawdowns(log_growth[draw]) for draw in days]
    return sharpe, drawdown, tail_loss


def _drawn_days(num_days: int, block_days: int, plan: BootstrapPlan) -> Iterator[tuple[slice, IntArray]]:
    """Yield the draws in chunks of C: their rows in the output, and the drawn days [C, T]."""
    from arch.bootstrap import StationaryBootstrap

    bootstrap = StationaryBootstrap(block_days, np.arange(num_days), seed=plan.seed)
    drawn = (days for (days,), _ in bootstrap.bootstrap(plan.num_draws))
    for start in range(0, plan.num_draws, DRAWS_AT_ONCE):
        stop = min(start + DRAWS_AT_ONCE, plan.num_draws)
        yield slice(start, stop), np.stack([next(drawn) for _ in range(start, stop)])


def _counts(days: IntArray) -> FloatArray:
    """Return how often each day was drawn, [C, T]; means and quantiles of a draw need nothing else."""
    num_days = days.shape[1]
    offset = num_days * np.arange(len(days))[:, None]
    return np.bincount((days + offset).ravel(), minlength=days.size).reshape(days.shape).astype(np.float64)


def _sharpe_ratios(counts: FloatArray, excess: FloatArray) -> FloatArray:
    """Return mean / std (ddof 1) of each draw, [C, K], from its first two moments about the mean of all days."""
    num_days, mean = len(excess), excess.mean(axis=0)
    deviation = excess - mean
    first, second = np.split(counts @ np.hstack([deviation, deviation**2]) / num_days, 2, axis=1)
    std = np.sqrt(np.maximum(second - first**2, 0.0) * num_days / (num_days - 1))
    return np.asarray((mean + first) / np.where(std < SMALLEST_DEVIATION, np.nan, std))


def _max_drawdowns(log_growth: FloatArray) -> FloatArray:
    """Return the maximum drawdowns [K] of paths [T, K] that start at wealth 1."""
    log_wealth = np.cumsum(log_growth, axis=0)
    highest = np.maximum(np.maximum.accumulate(log_wealth, axis=0), 0.0)
    return np.asarray(-np.expm1(-(highest - log_wealth).max(axis=0)))


@dataclass(frozen=True, slots=True, eq=False)
class _Tail:
    """The returns of one path, sorted once for the CVaR of all draws.

    Attributes:
        order: Days in ascending order of their returns, [T].
        values: Returns in ascending order, [T].
        last_equal: Last position with the same return as each position, [T].
        num_likely: Number of first positions that contain the tail of nearly every draw.
    """

    order: IntArray
    values: FloatArray
    last_equal: IntArray
    num_likely: int

    @classmethod
    def of(cls, path: FloatArray) -> _Tail:
        order = np.argsort(path, kind="stable")
        values = path[order]
        last_equal = np.searchsorted(values, values, side="right") - 1
        return cls(
            order, values, last_equal, min(len(path), int(last_equal[math.ceil(3.0 * TAIL * len(path)) - 1]) + 1)
        )

    def losses(self, counts: FloatArray) -> FloatArray:
        """Return the CVaR of each draw, [C].

        The quantile at position TAIL (T - 1) lies between two neighbours of the sorted draw, below the upper one unless
        both are equal. The returns at or below the quantile are therefore those up to the lower neighbour, and ties.
        """
        rank = math.floor(TAIL * (len(self.values) - 1)) + 1  # rank of the lower neighbour, counted from 1
        num_held = self.num_likely
        reached = counts[:, self.order[:num_held]].cumsum(axis=1)
        if (reached[:, -1] < rank).any():
            num_held = len(self.values)
            reached = counts[:, self.order].cumsum(axis=1)
        last = self.last_equal[(reached < rank).sum(axis=1)]
        in_tail = counts[:, self.order[:num_held]] * (np.arange(num_held) <= last[:, None])
        return np.asarray(-(in_tail @ self.values[:num_held]) / in_tail.sum(axis=1))


def _percentile_interval(estimate: FloatArray, draws: FloatArray, level: float) -> Interval:
    lower, upper = np.quantile(draws, [0.5 - 0.5 * level, 0.5 + 0.5 * level], axis=0)
    undefined = np.isnan(estimate)
    return Interval(estimate, np.where(undefined, np.nan, lower), np.where(undefined, np.nan, upper))


def _paths(returns: FloatArray, benchmark: FloatArray | None) -> FloatArray:
    """Return the returns as a matrix [T, K], with the benchmark as an additional last column if there is one."""
    returns = np.asarray(returns, dtype=np.float64)
    paths = returns.reshape(len(returns), -1)
    if benchmark is not None:
        paths = np.column_stack([paths, benchmark])
    if len(paths) < 2:
        raise ConfigError(f"returns must be at least 2 days, got {len(paths)} (bootstrap). Widen the window.")
    if not (paths > -1.0).all() or not np.isfinite(paths).all():
        raise ConfigError(
            f"returns must be finite and above -1, got {paths[~((paths > -1.0) & np.isfinite(paths))][0]} (bootstrap). "
            "Look for gaps in the series."
        )
    return paths
