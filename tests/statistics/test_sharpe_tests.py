from __future__ import annotations

import math

import numpy as np
import pytest

from rllib_portfolio.errors import ConfigError
from rllib_portfolio.statistics import metrics
from rllib_portfolio.statistics.bootstrap import BootstrapPlan
from rllib_portfolio.statistics.sharpe_tests import _parzen_bandwidth, bootstrap_sharpe_test, hac_sharpe_test
from tests.statistics import oracles


def _pair(days: int, seed: int, sharpe: tuple[float, float] = (0.0, 0.0), correlation: float = 0.5) -> np.ndarray:
    """Normal returns [T, 2] of 1 % a day with these annual Sharpe ratios."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(days, 2))
    noise[:, 1] = correlation * noise[:, 0] + math.sqrt(1.0 - correlation**2) * noise[:, 1]
    return 0.01 * (noise + np.array(sharpe) / math.sqrt(252))


def _persistent(pair: np.ndarray, persistence: float) -> np.ndarray:
    for day in range(1, len(pair)):
        pair[day] += persistence * pair[day - 1]
    return pair


def _of_two_days_ago(seed: int) -> np.ndarray:
    pair = _pair(60, seed, (1.0, 0.5))
    pair[2:] += 0.8 * pair[:-2]  # memory that a VAR(1) does not take out, so that the kernel has lags to find
    return pair


MEMORIES = {
    "two days ago, 0": _of_two_days_ago(0),
    "two days ago, 1": _of_two_days_ago(1),
    "two days ago, 2": _of_two_days_ago(2),
    "AR(0.999)": _persistent(_pair(300, 0), 0.999),
    "AR(0.999) of AR(0.999)": _persistent(_persistent(_pair(300, 0), 0.999), 0.999),
}


@pytest.mark.parametrize("name", MEMORIES)
def test_the_standard_error_agrees_with_the_slow_four_by_four_one(name: str) -> None:
    pair = MEMORIES[name]
    test = hac_sharpe_test(pair[:, 0], pair[:, 1])
    lists = [list(map(float, column)) for column in pair.T]
    daily = math.sqrt(252 * (len(pair) - 1) / len(pair))  # per year and ddof 1, against the paper's per day and ddof 0
    standard_error, bandwidth = oracles.sharpe_standard_error(*lists)
    assert bandwidth > 1.0
    assert test.bandwidth_days == pytest.approx(bandwidth, rel=1e-6)
    assert test.difference == pytest.approx(daily * oracles.sharpe_difference(*lists), rel=1e-9)
    expected = daily * standard_error
    assert test.standard_error == pytest.approx(expected, rel=1e-6)
    assert test.p_value == pytest.approx(math.erfc(abs(test.difference) / expected / math.sqrt(2.0)), rel=1e-5)
    is_bounded = name.startswith("AR")
    assert (oracles.sharpe_standard_error(*lists, bound=0.999)[0] != pytest.approx(standard_error)) == is_bounded


def test_the_bandwidth_by_hand() -> None:
    # 1, 1, 0 over and over: rho 1/2, 4 rho^2 / (1 - rho)^4 = 16, 2.6614 (16 * 300)^(1/5) = 14.50. Ones have a rho of
    # 299/300, which counts as 0.97: 4 * 0.9409 / 0.03^4 = 4646420, 2.6614 (4646420 * 300)^(1/5) = 179.46, and with 100
    # days more than their 99 lags. Signs that change have a rho of -0.97: 4 * 0.9409 / 1.97^4 = 0.24988, 6.311.
    assert _parzen_bandwidth(np.tile([1.0, 1.0, 0.0], 100)) == pytest.approx(14.50, abs=5e-3)
    assert _parzen_bandwidth(np.ones(300)) == pytest.approx(179.46, abs=5e-3)
    assert _parzen_bandwidth(np.ones(100)) == 99.0
    assert _parzen_bandwidth(np.tile([1.0, -1.0], 150)) == pytest.approx(6.311, abs=5e-4)


def test_the_difference_is_that_of_the_metrics() -> None:
    pair, cash = _pair(300, 0, (1.0, 0.5)), np.linspace(0.0, 1e-4, 300)
    expected = metrics.sharpe_ratio(pair[:, 0], cash, 250) - metrics.sharpe_ratio(pair[:, 1], cash, 250)
    assert hac_sharpe_test(pair[:, 0], pair[:, 1], cash, 250).difference == pytest.approx(float(expected), rel=1e-9)


def test_the_standard_error_of_independent_normal_days_is_the_known_one() -> None:
    # Memmel (2003), "Performance Hypothesis Testing with the Sharpe Ratio", Finance Letters 1: T times the variance is
    # 2 (1 - r) + (S1^2 + S2^2 - 2 S1 S2 r^2) / 2. Daily S 0.2 and 0.1, r 0.5: 1 + (0.04 + 0.01 - 0.01) / 2 = 1.02.
    # T 100000: the moments are known to better than 2 %.
    pair = _pair(100_000, 0, (0.2 * math.sqrt(252), 0.1 * math.sqrt(252)))
    test = hac_sharpe_test(pair[:, 0], pair[:, 1], periods_per_year=1)
    assert test.standard_error == pytest.approx(math.sqrt(1.02 / 100_000), rel=0.02)


def test_returns_with_memory_have_a_larger_standard_error() -> None:
    # Means of AR(1) days with coefficient 0.5 have (1 + 0.5) / (1 - 0.5) = 3 times the variance that independent days
    # of the same deviation would have: sqrt 3 = 1.73 in the standard error; Parzen's kernel finds most of it.
    pair = _pair(20_000, 0)
    persistent = _persistent(pair.copy(), 0.5)
    ratio = hac_sharpe_test(*persistent.T).standard_error / hac_sharpe_test(*pair.T).standard_error
    assert ratio == pytest.approx(math.sqrt(3.0), rel=0.06)


@pytest.mark.parametrize("block_days", [None, 1, 6])
def test_the_bootstrap_agrees_with_a_slow_loop_over_the_same_draws(block_days: int | None) -> None:
    pair = _pair(61, 2, (2.0, 0.0))
    test = bootstrap_sharpe_test(pair[:, 0], pair[:, 1], plan=BootstrapPlan(99, block_days=block_days, seed=5))
    assert block_days in (None, test.block_days)
    lists = [list(map(float, column)) for column in pair.T]
    num_blocks = 61 // test.block_days
    starts = np.random.default_rng(5).integers(61, size=(99, num_blocks)).tolist()
    observed = abs(test.difference) / test.standard_error
    drawn = [oracles.block_statistic(*lists, each, test.block_days) for each in starts]
    assert min(abs(d - observed) for d in drawn) > 1e-6  # no draw so near that rounding decides
    assert test.p_value == pytest.approx((1 + sum(d >= observed for d in drawn)) / 100, abs=1e-12)


@pytest.mark.parametrize("persistence", [0.0, 0.9])
def test_blocks_follow_the_memory_of_the_returns(persistence: float) -> None:
    pair = _persistent(_pair(1000, 0), persistence)
    block_days = bootstrap_sharpe_test(*pair.T, plan=BootstrapPlan(9)).block_days
    assert block_days > 10 if persistence else block_days < 10


def test_both_tests_agree_over_many_days() -> None:
    pair = _pair(5040, 4, (0.8, 0.5))
    hac, bootstrap = hac_sharpe_test(*pair.T), bootstrap_sharpe_test(*pair.T, plan=BootstrapPlan(1999))
    assert (bootstrap.difference, bootstrap.standard_error) == (hac.difference, hac.standard_error)
    assert bootstrap.p_value == pytest.approx(hac.p_value, abs=0.05)


def test_a_clear_difference_is_found_and_its_sign_does_not_matter() -> None:
    pair = _pair(2520, 0, (2.0, 0.0))
    ahead, behind = bootstrap_sharpe_test(*pair.T, plan=BootstrapPlan(999)), hac_sharpe_test(*pair.T[::-1])
    assert ahead.p_value == pytest.approx(1 / 1000)
    assert behind.p_value < 1e-4
    assert behind.difference == pytest.approx(-ahead.difference, rel=1e-9)
    assert hac_sharpe_test(*pair.T).p_value == pytest.approx(behind.p_value, rel=1e-6)


def test_equal_sharpe_ratios_are_rejected_about_as_often_as_the_level_says() -> None:
    # 400 samples of two years at 5 %: 20 expected, binomial deviation 4.4; three of them either side. The long version
    # is benchmarks/evaluation/size_and_power.py.
    rejected = sum(hac_sharpe_test(*_pair(504, seed, (0.5, 0.5)).T).p_value < 0.05 for seed in range(400))
    assert 7 <= rejected <= 33


def test_the_bootstrap_keeps_its_level_in_small_samples() -> None:
    # 200 samples of half a year: 10 expected, deviation 3.1
    rejected = sum(
        bootstrap_sharpe_test(*_pair(126, seed, (0.5, 0.5)).T, plan=BootstrapPlan(199, seed=seed)).p_value <= 0.05
        for seed in range(200)
    )
    assert 1 <= rejected <= 19


@pytest.mark.parametrize("leverage", [1.0, 2.0, 0.3])
def test_leverage_makes_no_difference(leverage: float) -> None:
    market, cash = _pair(500, 0)[:, 0], 1e-4
    levered = cash + leverage * (market - cash)
    hac = hac_sharpe_test(levered, market, cash)
    assert hac.difference == pytest.approx(0.0, abs=1e-10)
    assert hac.p_value == 1.0
    assert bootstrap_sharpe_test(levered, market, cash, plan=BootstrapPlan(99)).p_value == 1.0


def test_units_make_no_difference() -> None:
    pair = _pair(300, 0, (1.0, 0.0))
    plain, per_cent = (bootstrap_sharpe_test(*(unit * pair).T, plan=BootstrapPlan(199)) for unit in (1.0, 100.0))
    assert per_cent.standard_error == pytest.approx(plain.standard_error, rel=1e-9)
    assert per_cent.p_value == plain.p_value


def test_an_undefined_sharpe_ratio_leaves_the_test_undefined() -> None:
    market, cash = _pair(500, 0)[:, 0], np.full(500, 1e-4)
    for test in (hac_sharpe_test(cash, market, cash), bootstrap_sharpe_test(market, cash, cash)):
        assert np.isnan([test.difference, test.standard_error, test.p_value]).all()


def test_series_that_do_not_fit_are_refused() -> None:
    market = _pair(500, 0)[:, 0]
    with pytest.raises(ConfigError, match=r"got shapes \(499,\) and \(500,\) \(Sharpe test\)"):
        hac_sharpe_test(market, market[1:])
    with pytest.raises(ConfigError, match=r"returns must be numbers, got a NaN \(Sharpe test\)"):
        bootstrap_sharpe_test(market, np.where(market > 0.02, np.nan, market))
