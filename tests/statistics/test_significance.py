from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from arch.bootstrap import StationaryBootstrap, optimal_block_length
from scipy import stats

from rllib_portfolio.errors import ConfigError
from rllib_portfolio.statistics.significance import mean_active_return_test, textbook_tests


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("memory_days", [1, 20])
def test_the_test_of_the_mean_agrees_with_a_slow_loop_over_the_same_draws(memory_days: int, sign: float) -> None:
    # Politis and Romano (1994): draws of the mean are centred at the sample's, and the sample itself counts as a draw
    shocks = np.random.default_rng(3).normal(0.0003, 0.01, 299 + memory_days)
    active = sign * np.convolve(shocks, np.ones(memory_days), "valid")
    test = mean_active_return_test(active, num_resamples=199, seed=4)
    block_days = math.ceil(optimal_block_length(active)["stationary"].iloc[0])
    assert test.block_days == block_days
    assert (block_days > 10) == (memory_days > 10)
    mean = statistics.fmean(active)
    draws = StationaryBootstrap(block_days, active, seed=4).bootstrap(199)
    distances = [abs(statistics.fmean(days) - mean) for (days,), _ in draws]
    assert min(abs(distance - abs(mean)) for distance in distances) > 1e-12  # no draw so near that rounding decides
    assert test.p_value == (1 + sum(distance >= abs(mean) for distance in distances)) / 200
    assert 0.02 < test.p_value < 0.98


def test_the_textbook_tests_by_hand() -> None:
    # active 0.01, 0.02, 0.03: mean 0.02, deviation 0.01, t = 0.02 / (0.01 / sqrt 3) = 2 sqrt 3 on 2 degrees of freedom,
    # where p = 1 - t / sqrt(t^2 + 2) = 1 - sqrt(12 / 14). Signed ranks: all 3 positive, so the smaller sum is 0, and of
    # the 2^3 signs 2 are as extreme: p = 1/4. The largest gap of the two distributions is after -0.01: 1 against 0.
    returns, benchmark = np.array([0.01, 0.02, 0.03]), np.zeros(3)
    t, wilcoxon, smirnov = textbook_tests(returns, benchmark)
    assert t.statistic == pytest.approx(2.0 * math.sqrt(3.0), rel=1e-12)
    assert t.p_value == pytest.approx(1.0 - math.sqrt(12.0 / 14.0), rel=1e-9)
    assert (wilcoxon.statistic, wilcoxon.p_value) == (0.0, pytest.approx(0.25, rel=1e-12))
    assert smirnov.statistic == 1.0


def test_student_s_sleep_data_give_the_published_figures() -> None:
    # Student (1908), "The Probable Error of a Mean": additional hours of sleep by two drugs for ten patients. R's
    # t.test(extra ~ group, paired = TRUE) prints t = -4.0621, df = 9, p-value = 0.002833.
    first = np.array([0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0])
    second = np.array([1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4])
    t, _, _ = textbook_tests(first, second)
    assert t.statistic == pytest.approx(-4.0621, abs=5e-5)
    assert t.p_value == pytest.approx(0.002833, abs=5e-7)


def test_they_are_scipy_s_tests_of_the_pair() -> None:
    returns, benchmark = np.random.default_rng(0).normal(0.0, 0.01, (2, 500)) + np.array([[0.0005], [0.0]])
    t, wilcoxon, smirnov = textbook_tests(returns, benchmark)
    assert t.p_value == pytest.approx(stats.ttest_rel(returns, benchmark).pvalue, rel=1e-9)
    assert wilcoxon.p_value == pytest.approx(stats.wilcoxon(returns, benchmark).pvalue, rel=1e-9)
    assert smirnov.p_value == pytest.approx(stats.ks_2samp(returns, benchmark).pvalue, rel=0.15)


def test_series_that_never_differ_cannot_be_told_apart() -> None:
    returns = np.random.default_rng(0).normal(0.0, 0.01, 50)
    for test in textbook_tests(returns + 1e-15, returns):
        assert test.p_value == 1.0
        assert np.isnan(test.statistic)


def test_a_constant_difference_is_certain() -> None:
    returns = np.random.default_rng(0).normal(0.0, 0.01, 50)
    t, wilcoxon, _ = textbook_tests(returns + 1e-5, returns)
    assert t.p_value == 0.0
    assert np.isnan(t.statistic)
    assert wilcoxon.p_value < 1e-6


def test_series_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"benchmark must have the days of the strategy, at least 2, got shapes"):
        textbook_tests(np.zeros(5), np.zeros(4))
    with pytest.raises(ConfigError, match=r"returns must be numbers, got a NaN \(textbook tests\)"):
        textbook_tests(np.array([0.1, np.nan]), np.zeros(2))
