from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from arch.bootstrap import StationaryBootstrap

from rllib_portfolio.errors import ConfigError
from rllib_portfolio.statistics import metrics
from rllib_portfolio.statistics.bootstrap import (
    BootstrapIntervals,
    BootstrapPlan,
    block_length,
    bootstrap_intervals,
    joint_block_days,
)


def _market(days: int = 400, strategies: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns [T, K] in ticks of 0.1 %, so that many are equal; a benchmark; cash."""
    rng = np.random.default_rng(seed)
    common = rng.standard_t(4, days)
    returns = 0.006 * (common[:, None] + rng.standard_t(4, (days, strategies + 1)))
    returns = np.round(np.clip(returns, -0.2, 0.2), 3)
    return returns[:, :-1], returns[:, -1], rng.uniform(0.0, 0.0002, days)


MEASURES: dict[str, Callable[..., Any]] = {
    "sharpe_ratio": lambda returns, benchmark, cash: metrics.sharpe_ratio(returns, cash),
    "sharpe_difference": lambda returns, benchmark, cash: (
        metrics.sharpe_ratio(returns, cash) - metrics.sharpe_ratio(benchmark, cash)
    ),
    "max_drawdown": lambda returns, benchmark, cash: metrics.max_drawdown(returns),
    "conditional_value_at_risk": lambda returns, benchmark, cash: metrics.conditional_value_at_risk(returns),
}


@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize(("days", "block_days"), [(400, 7), (50, 25), (21, 2)])
def test_intervals_are_those_of_arch_applied_to_the_plain_measures(name: str, days: int, block_days: int) -> None:
    # arch draws the same days from the same seed; the measures are taken of each drawn history, one after the other.
    # 150 draws are two full chunks and a part; blocks of 25 of 50 days often repeat the worst day many times.
    returns, benchmark, cash = _market(days)
    plan = BootstrapPlan(num_draws=150, block_days=block_days, level=0.9, seed=3)
    interval = getattr(bootstrap_intervals(returns, benchmark, cash, plan=plan), name)
    arch = StationaryBootstrap(block_days, returns, benchmark, cash, seed=3)
    draws = arch.apply(MEASURES[name], 150)
    assert interval.estimate == pytest.approx(MEASURES[name](returns, benchmark, cash), rel=1e-9)
    assert interval.lower == pytest.approx(np.quantile(draws, 0.05, axis=0), rel=1e-9)
    assert interval.upper == pytest.approx(np.quantile(draws, 0.95, axis=0), rel=1e-9)


def test_the_interval_of_a_sharpe_ratio_is_as_wide_as_theory_says() -> None:
    # Lo (2002), "The Statistics of Sharpe Ratios": independent normal days have a standard error of
    # sqrt((1 + SR^2 / 2) / T) per day. SR 0.05, T 2520: 0.01993 a day, times sqrt(252) 0.3164, times 2 * 1.96: 1.240.
    # The deviation estimated from a sample and 2000 draws are known to about 3 %.
    returns = 0.01 * np.random.default_rng(1).normal(0.05, 1.0, 2520)
    sharpe = bootstrap_intervals(returns, plan=BootstrapPlan(num_draws=2000, block_days=1)).sharpe_ratio
    assert sharpe.estimate.shape == (1,)
    assert sharpe.upper[0] - sharpe.lower[0] == pytest.approx(1.240, rel=0.08)
    assert sharpe.lower[0] < sharpe.estimate[0] < sharpe.upper[0]


def test_strategy_and_benchmark_are_drawn_together() -> None:
    _, benchmark, _ = _market(1000)
    twin = benchmark + np.random.default_rng(5).normal(0.0, 1e-4, 1000)
    intervals = bootstrap_intervals(np.column_stack([twin, benchmark]), benchmark, plan=BootstrapPlan(num_draws=300))
    assert intervals.sharpe_difference is not None
    widths = [each.upper - each.lower for each in (intervals.sharpe_ratio, intervals.sharpe_difference)]
    assert widths[1][0] < 0.05 * widths[0][0]  # drawn apart they would be sqrt 2 times as wide as the ratio's
    assert widths[1][1] == 0.0  # the benchmark itself


def test_volatility_in_clusters_is_drawn_in_longer_blocks() -> None:
    rng = np.random.default_rng(0)
    calm_and_wild = np.repeat(rng.choice([0.005, 0.03], 20), 50)
    noise = rng.normal(size=1000)
    assert joint_block_days((0.01 * noise)[:, None]) < 10
    assert block_length(calm_and_wild * noise) < 15
    assert joint_block_days((calm_and_wild * noise)[:, None]) > 25
    assert joint_block_days(np.column_stack([0.01 * noise, calm_and_wild * noise])) > 25


def test_clusters_widen_the_interval_of_the_tail() -> None:
    # 1000 histories like this one, 40 spells of 50 days of which a tenth are wild, scatter over 0.0246 in 95 of 100;
    # single days resampled would make it 0.0096
    rng = np.random.default_rng(0)
    returns = np.repeat(rng.choice([0.005, 0.03], 40, p=[0.9, 0.1]), 50) * rng.normal(size=2000)
    apart, together = (
        bootstrap_intervals(returns, plan=BootstrapPlan(num_draws=500, block_days=days)).conditional_value_at_risk
        for days in (1, None)
    )
    assert (apart.upper - apart.lower)[0] == pytest.approx(0.0096, rel=0.15)
    assert (together.upper - together.lower)[0] == pytest.approx(0.0246, rel=0.15)


def test_the_block_length_of_a_series_without_variance_is_one_day() -> None:
    assert block_length(np.zeros(100)) == 1
    assert block_length(np.arange(5.0)) == 1
    persistent = np.convolve(np.random.default_rng(0).normal(size=1000), np.ones(20), "valid")
    assert block_length(persistent) > 10
    assert block_length(persistent, "circular") >= block_length(persistent)


def test_what_is_undefined_is_nan_and_spoils_nothing_else() -> None:
    returns, benchmark, cash = _market()
    with_cash = np.column_stack([cash, returns])
    plan = BootstrapPlan(num_draws=100, block_days=5)
    intervals, clean = (bootstrap_intervals(each, benchmark, cash, plan=plan) for each in (with_cash, returns))
    assert np.isnan([bound[0] for bound in intervals.sharpe_ratio]).all()
    assert np.isnan([bound[0] for bound in intervals.sharpe_difference or ()]).all()
    assert [bound[0] for bound in intervals.max_drawdown] == [0.0, 0.0, 0.0]
    np.testing.assert_array_equal(intervals.max_drawdown.lower[1:], clean.max_drawdown.lower)
    assert intervals.sharpe_ratio.upper[1:] == pytest.approx(clean.sharpe_ratio.upper, rel=1e-9)


def test_intervals_are_the_same_for_the_same_seed() -> None:
    returns, benchmark, cash = _market()

    def lower(seed: int) -> np.ndarray:
        intervals: BootstrapIntervals = bootstrap_intervals(
            returns, benchmark, cash, plan=BootstrapPlan(num_draws=100, seed=seed)
        )
        return intervals.sharpe_ratio.lower

    np.testing.assert_array_equal(lower(0), lower(0))
    assert (lower(0) != lower(1)).all()


@pytest.mark.parametrize("bad", [np.nan, -1.0, np.inf])
def test_returns_that_are_no_returns_are_refused(bad: float) -> None:
    returns, _, _ = _market()
    returns[7, 1] = bad
    with pytest.raises(ConfigError, match=rf"returns must be finite and above -1, got {bad} \(bootstrap\)"):
        bootstrap_intervals(returns)
    with pytest.raises(ConfigError, match=r"returns must be at least 2 days, got 1 \(bootstrap\)"):
        bootstrap_intervals(np.array([0.01]))
