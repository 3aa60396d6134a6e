from __future__ import annotations

import math

import numpy as np
import pytest
from arch.bootstrap import SPA, StationaryBootstrap, optimal_block_length

from rllib_portfolio.errors import ConfigError
from rllib_portfolio.statistics import multiple_comparison
from rllib_portfolio.statistics.multiple_comparison import model_confidence_set, superior_ability_test


def _strategies(days: int, daily_gain: list[float], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Returns [T, K] that beat the benchmark by so much a day, before noise of 0.5 %; and the benchmark."""
    rng = np.random.default_rng(seed)
    benchmark = rng.normal(0.0004, 0.01, days)
    return benchmark[:, None] + np.array(daily_gain) + rng.normal(0.0, 0.005, (days, len(daily_gain))), benchmark


def _with_memory(returns: np.ndarray, column: int) -> np.ndarray:
    """The same, one strategy with sums of 20 days' shocks on top: its block length is more than 10 days."""
    shocks = np.random.default_rng(7).normal(0.0, 0.001, len(returns) + 19)
    remembered = returns.copy()
    remembered[:, column] += np.convolve(shocks, np.ones(20), "valid")
    return remembered


def _longest_block(columns: np.ndarray) -> int:
    return max(math.ceil(optimal_block_length(column)["stationary"].iloc[0]) for column in columns.T)


def test_one_clearly_better_strategy_among_many_is_found() -> None:
    assert superior_ability_test(*_strategies(1000, [0.002, 0.0, 0.0, -0.001, -0.002]), 500).p_value < 0.01


def test_the_best_of_many_worthless_strategies_is_not() -> None:
    # 40 samples at the 10 % level: 4 expected, binomial deviation 1.9
    p_values = [superior_ability_test(*_strategies(250, [0.0] * 10, seed), 200, seed).p_value for seed in range(40)]
    assert sum(p < 0.1 for p in p_values) <= 9
    assert 0.3 < np.mean(p_values) < 0.7


def test_strategies_that_are_all_behind_prove_nothing() -> None:
    test = superior_ability_test(*_strategies(1000, [-0.002, -0.003]), 200)
    assert (test.p_value_lower, test.p_value, test.p_value_upper) == (1.0, 1.0, 1.0)


def test_the_p_values_are_ordered() -> None:
    test = superior_ability_test(*_strategies(500, [0.0004, 0.0, -0.003, -0.003]), 500)
    assert test.p_value_lower <= test.p_value <= test.p_value_upper
    assert test.num_compared == 4


def test_p_values_agree_with_a_slow_loop_over_the_same_draws() -> None:
    # Hansen (2005): the largest studentised mean; draws of a strategy are centred at its mean, unless it is so far
    # behind (sqrt(2 log log T) standard errors) that it is left at 0
    returns, benchmark = _strategies(250, [0.0006, 0.0002, -0.004])
    returns = _with_memory(returns, 1)
    test = superior_ability_test(returns, benchmark, 100, seed=4)
    active = returns - benchmark[:, None]
    block_days = _longest_block(active)
    assert test.block_days == block_days > 10
    omega = _slow_deviation(active, block_days)
    t_statistics = np.sqrt(250) * active.mean(axis=0) / omega
    centre = np.where(t_statistics >= -np.sqrt(2.0 * np.log(np.log(250))), active.mean(axis=0), 0.0)
    as_large = 0
    for (drawn,), _ in StationaryBootstrap(block_days, active, seed=4).bootstrap(100):
        as_large += (np.sqrt(250) * (drawn.mean(axis=0) - centre) / omega).max() > t_statistics.max()
    assert centre[2] == 0.0
    assert test.p_value == pytest.approx(as_large / 100, abs=1e-12)


def _slow_deviation(active: np.ndarray, block_days: int) -> np.ndarray:
    days, stay = len(active), 1.0 - 1.0 / block_days
    centred = active - active.mean(axis=0)
    variance = (centred**2).mean(axis=0)
    for lag in range(1, days):
        kappa = (days - lag) / days * stay**lag + lag / days * stay ** (days - lag)
        variance += 2.0 * kappa * (centred[lag:] * centred[:-lag]).sum(axis=0) / days
    return np.sqrt(variance)


def test_the_long_run_deviation_is_the_one_that_arch_computes() -> None:
    active = np.random.default_rng(0).normal(0.0, 0.01, (300, 3))
    active[1:] += 0.5 * active[:-1]
    arch = SPA(np.zeros(300), active, block_size=12, reps=2, seed=0)
    arch.compute()
    ours = multiple_comparison._long_run_deviation(active, 12)
    assert ours == pytest.approx(np.sqrt(arch._loss_diff_var), rel=1e-9)
    assert ours == pytest.approx(_slow_deviation(active, 12), rel=1e-9)


def test_a_wild_strategy_does_not_drown_a_steady_one() -> None:
    # unstudentised, the wild one's draws alone would decide: its daily deviation is 100 times the steady one's
    returns, benchmark = _strategies(1000, [0.001, 0.0])
    wild = np.random.default_rng(9).normal(0.0, 0.5, 1000)
    assert superior_ability_test(np.column_stack([returns, wild]), benchmark, 500).p_value < 0.05


def test_strategies_equal_to_the_benchmark_are_not_compared() -> None:
    returns, benchmark = _strategies(300, [0.003])
    alone = superior_ability_test(returns, benchmark, 200)
    beside = superior_ability_test(np.column_stack([benchmark, returns]), benchmark, 200)
    assert beside == alone
    assert superior_ability_test(benchmark[:, None], benchmark).p_value == 1.0


def test_the_confidence_set_holds_the_best_and_leaves_out_the_worst() -> None:
    returns, _ = _strategies(1000, [0.002, 0.0019, 0.0, -0.002])
    found = model_confidence_set(returns, num_resamples=500)
    assert list(found.included) == [True, True, False, False]
    assert found.p_values.max() == 1.0
    assert found.p_values[0] == 1.0 or found.p_values[1] == 1.0


def test_equal_strategies_are_all_in_the_set() -> None:
    # the set holds all of 6 equals with 95 %, so of 30 samples nearly all; 3 binomial deviations below 28.5 are 25
    whole = [model_confidence_set(_strategies(250, [0.0] * 6, seed)[0], 0.95, 200, seed).included for seed in range(30)]
    assert sum(each.all() for each in whole) >= 25


def test_the_confidence_set_agrees_with_a_slow_loop_over_the_same_draws() -> None:
    # Hansen, Lunde and Nason (2011): while more than one is left, t_i = the mean loss of i against the mean of those
    # left, over its bootstrap deviation; the largest t is left out, with the share of draws above it as p-value;
    # p-values never fall along the way
    returns, _ = _strategies(200, [0.0012, 0.0008, 0.0, -0.0005])
    returns = _with_memory(returns, 1)
    found = model_confidence_set(returns, num_resamples=100, seed=2)
    losses = -returns
    block_days = _longest_block(losses - losses.mean(axis=1, keepdims=True))
    assert found.block_days == block_days > 10
    draws = np.array(
        [
            losses[days].mean(axis=0) - losses.mean(axis=0)
            for (days,), _ in StationaryBootstrap(block_days, np.arange(200), seed=2).bootstrap(100)
        ]
    )
    left, p_values, highest = [0, 1, 2, 3], np.ones(4), 0.0
    while len(left) > 1:
        moved = draws[:, left] - draws[:, left].mean(axis=1, keepdims=True)
        deviation = np.sqrt((moved**2).mean(axis=0))
        loss = losses[:, left].mean(axis=0)
        t_statistics = (loss - loss.mean()) / deviation
        highest = max(highest, float(((moved / deviation).max(axis=1) > t_statistics.max()).mean()))
        p_values[left[int(t_statistics.argmax())]] = highest
        left.pop(int(t_statistics.argmax()))
    assert found.p_values == pytest.approx(p_values, abs=1e-12)


def test_strategies_that_never_differ_share_their_fate() -> None:
    returns, _ = _strategies(500, [0.003, 0.0])
    found = model_confidence_set(returns[:, [0, 1, 0, 1]], num_resamples=200)
    assert list(found.included) == [True, False, True, False]
    assert found.p_values[0] == found.p_values[2] == 1.0
    assert model_confidence_set(returns[:, [0, 0]]).included.all()


def test_returns_that_are_no_numbers_are_refused() -> None:
    returns, benchmark = _strategies(100, [0.0, 0.0])
    returns[3, 1] = np.nan
    with pytest.raises(ConfigError, match=r"got a NaN in column 1 \(multiple comparison\)"):
        superior_ability_test(returns, benchmark)
    with pytest.raises(ConfigError, match=r"returns must be \[T, K\] with at least 2 days, got shape \(100,\)"):
        model_confidence_set(benchmark)
