"""Confidence intervals by the stationary bootstrap: all strategies and their benchmark live the same resampled days.

Drawing whole blocks keeps what one day has to do with the next; drawing all strategies' days together keeps what they
have to do with each other, so that an interval of a difference is as narrow as their correlation makes it. Intervals
are percentile intervals: not studentised, without correction of bias. That of a drawdown is the most biased of them:
crashes longer than a block are broken up.
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
"""Autocorrelations of fewer days say nothing."""

DRAWS_AT_ONCE = 64
TAIL = 0.05


@dataclass(frozen=True, slots=True)
class BootstrapPlan:
    """How to resample.

    Attributes:
        num_draws: Resampled histories.
        level: Coverage of the intervals, a fraction.
        block_days: Mean length of a block; None leaves it to `joint_block_days`.
        seed: Of the draws; the same seed gives the same intervals.
    """

    num_draws: int = 10_000
    level: float = 0.95
    block_days: int | None = None
    seed: int = 0


class Interval(NamedTuple):
    """An estimate and its interval: numbers, or one entry per strategy, [K]."""

    estimate: FloatArray
    lower: FloatArray
    upper: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class BootstrapIntervals:
    """Intervals of K strategies. NaN where the measure is undefined, in the data or in any of the draws.

    Attributes:
        sharpe_ratio: Annualised.
        sharpe_difference: Sharpe ratio less the benchmark's; None without a benchmark.
        max_drawdown: Positive fraction.
        conditional_value_at_risk: CVaR 95 %, one day, a positive loss.
        block_days: Mean length of a block.
        num_draws: Resampled histories.
        level: Coverage.
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
    """Intervals of Sharpe ratio, its difference to the benchmark's, maximum drawdown and CVaR.

    Args:
        returns: Daily simple returns above -1, [T, K] or [T].
        benchmark: Those of the benchmark, [T], resampled with them.
        cash_returns: What cash earned, a number or [T], resampled with them.
        periods_per_year: Days per year.
        plan: How to resample.

    Raises:
        ConfigError: If there are fewer than two days, or a return is not a number above -1.

    Source: Politis and Romano (1994), "The Stationary Bootstrap", JASA 89(428), section 2; the draws are arch's.
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
    """Mean block length for all columns together: the longest that any of them, or its square, asks for.

    Drawdown and CVaR hang on clusters of volatility, which returns do not show and their squares do. Too long a block
    costs little, too short a one makes intervals too narrow.
    """
    deviation = excess - excess.mean(axis=0)
    return max(
        block_length(series) for column in deviation.T for series in (column, column**2 / max(column.var(), 1e-300))
    )


def block_length(series: FloatArray, bootstrap: Literal["stationary", "circular"] = "stationary") -> int:
    """Optimal (mean) block length of a series [T], at least 1 and at most T; 1 where nothing can be estimated.

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
    """Daily Sharpe ratio, maximum drawdown and CVaR of every draw and column, each [num_draws, K]."""
    sharpe, drawdown, tail_loss = np.empty((3, plan.num_draws, paths.shape[1]))
    log_growth, tails = np.log1p(paths), [_Tail.of(path) for path in paths.T]
    for rows, days in _drawn_days(len(paths), block_days, plan):
        counts = _counts(days)
        sharpe[rows] = _sharpe_ratios(counts, excess)
        tail_loss[rows] = np.stack([tail.losses(counts) for tail in tails], axis=1)
        drawdown[rows] = [_max_drawdowns(log_growth[draw]) for draw in days]
    return sharpe, drawdown, tail_loss


def _drawn_days(num_days: int, block_days: int, plan: BootstrapPlan) -> Iterator[tuple[slice, IntArray]]:
    """Chunks of draws: their rows, and their days [C, T]."""
    from arch.bootstrap import StationaryBootstrap

    bootstrap = StationaryBootstrap(block_days, np.arange(num_days), seed=plan.seed)
    drawn = (days for (days,), _ in bootstrap.bootstrap(plan.num_draws))
    for start in range(0, plan.num_draws, DRAWS_AT_ONCE):
        stop = min(start + DRAWS_AT_ONCE, plan.num_draws)
        yield slice(start, stop), np.stack([next(drawn) for _ in range(start, stop)])


def _counts(days: IntArray) -> FloatArray:
    """How often each day was drawn, [C, T]: all that a mean or a quantile needs to know of a draw."""
    num_days = days.shape[1]
    offset = num_days * np.arange(len(days))[:, None]
    return np.bincount((days + offset).ravel(), minlength=days.size).reshape(days.shape).astype(np.float64)


def _sharpe_ratios(counts: FloatArray, excess: FloatArray) -> FloatArray:
    """Mean / std (ddof 1) of each draw, [C, K], from the first two moments about the mean of all days."""
    num_days, mean = len(excess), excess.mean(axis=0)
    deviation = excess - mean
    first, second = np.split(counts @ np.hstack([deviation, deviation**2]) / num_days, 2, axis=1)
    std = np.sqrt(np.maximum(second - first**2, 0.0) * num_days / (num_days - 1))
    return np.asarray((mean + first) / np.where(std < SMALLEST_DEVIATION, np.nan, std))


def _max_drawdowns(log_growth: FloatArray) -> FloatArray:
    """Of the path [T, K] from wealth 1, [K]."""
    log_wealth = np.cumsum(log_growth, axis=0)
    highest = np.maximum(np.maximum.accumulate(log_wealth, axis=0), 0.0)
    return np.asarray(-np.expm1(-(highest - log_wealth).max(axis=0)))


@dataclass(frozen=True, slots=True, eq=False)
class _Tail:
    """The losing end of one path, sorted once for all draws.

    Attributes:
        order: Days from the lowest return upwards, [T].
        values: Their returns, [T].
        last_equal: For each, the last position with the same return, [T].
        num_likely: So many first positions hold the tail of nearly every draw.
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
        """CVaR of each draw, [C].

        The quantile at position TAIL (T - 1) lies between two neighbours of the ordered draw and, unless they are
        equal, below the upper one: the returns at or below it are those up to the lower neighbour, and its equals.
        """
        rank = math.floor(TAIL * (len(self.values) - 1)) + 1  # of the lower neighbour, counted from 1
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
    """[T, K], and the benchmark as a last column."""
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
