from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from rllib_portfolio.errors import ConfigError
from rllib_portfolio.statistics import metrics
from rllib_portfolio.statistics.overfitting import (
    SharpeSample,
    backtest_overfitting,
    deflated_sharpe_ratio,
    expected_best_sharpe_ratio,
    probabilistic_sharpe_ratio,
    sharpe_ratio_interval,
)
from tests.statistics import oracles


def test_the_published_deflated_sharpe_ratio() -> None:
    # Bailey and Lopez de Prado (2014), numerical example: SR 2.5 / sqrt 250 = 0.1581 a day; the best of 100 trials of
    # variance 0.5 / 250 shows 0.1132; (0.1581 - 0.1132) sqrt 1249 / sqrt(1 + 3 * 0.1581 + 9/4 * 0.025) = 1.284; 0.9004
    sample = SharpeSample(2.5, 1250, skewness=-3.0, kurtosis=10.0, periods_per_year=250)
    assert expected_best_sharpe_ratio(100, 0.5 / 250) == pytest.approx(0.1132, abs=5e-5)
    assert deflated_sharpe_ratio(sample, 100, 0.5) == pytest.approx(0.9004, abs=5e-5)


def test_the_published_probabilistic_sharpe_ratio() -> None:
    # Bailey and Lopez de Prado (2012), hedge fund of 24 months with a monthly ratio of 0.458, skewness -2.448 and
    # kurtosis 10.164: 0.982 if its returns were normal, 0.913 as they are
    monthly = SharpeSample(0.458, 24, periods_per_year=1)
    skewed = SharpeSample(0.458, 24, skewness=-2.448, kurtosis=10.164, periods_per_year=1)
    assert probabilistic_sharpe_ratio(monthly) == pytest.approx(0.982, abs=1.5e-3)
    assert probabilistic_sharpe_ratio(skewed) == pytest.approx(0.913, abs=1.5e-3)


def test_a_threshold_at_the_sample_itself_is_even_odds() -> None:
    assert probabilistic_sharpe_ratio(SharpeSample(1.3, 500), 1.3) == 0.5
    assert probabilistic_sharpe_ratio(SharpeSample(1.3, 500), 1.0) > 0.5


def test_a_sample_is_measured_as_the_metrics_do() -> None:
    rng = np.random.default_rng(0)
    returns, cash = rng.standard_t(5, 300) * 0.01, rng.uniform(0.0, 1e-4, 300)
    sample = SharpeSample.of(returns, cash, 250)
    assert sample.sharpe_ratio == pytest.approx(float(metrics.sharpe_ratio(returns, cash, 250)), rel=1e-9)
    assert sample.skewness == pytest.approx(float(stats.skew(returns - cash)), rel=1e-9)
    assert sample.kurtosis == pytest.approx(float(stats.kurtosis(returns - cash, fisher=False)), rel=1e-9)
    assert (sample.num_days, sample.periods_per_year) == (300, 250)


def test_the_probability_is_calibrated() -> None:
    # of 1000 years of normal days with a true ratio of 1, it exceeds 0.9 for a threshold of 1 in a tenth: 100, with a
    # binomial deviation of 9.5
    draws = 0.01 * np.random.default_rng(0).normal(1.0 / math.sqrt(252), 1.0, (1000, 252))
    above = sum(probabilistic_sharpe_ratio(SharpeSample.of(each), 1.0) > 0.9 for each in draws)
    assert 70 <= above <= 130


def test_the_interval_ends_where_the_one_sided_p_values_are_those_of_its_level() -> None:
    sample = SharpeSample(0.4, 5784, skewness=-0.1, kurtosis=13.4)
    lower, upper = sharpe_ratio_interval(sample)
    assert 1.0 - probabilistic_sharpe_ratio(sample, lower) == pytest.approx(0.025, abs=1e-12)
    assert probabilistic_sharpe_ratio(sample, upper) == pytest.approx(0.025, abs=1e-12)
    # Normal days of a ratio of 0: (252 / 252)^0.5 = 1 is the standard error of a year of 253 days.
    assert sharpe_ratio_interval(SharpeSample(0.0, 253), 0.9) == pytest.approx((-1.6449, 1.6449), abs=1e-4)
    assert np.isnan(sharpe_ratio_interval(SharpeSample.of(np.zeros(100)))).all()


def test_the_interval_covers_the_true_ratio_as_often_as_it_says() -> None:
    # of 1000 years of normal days with a true ratio of 1, 900 in the mean, with a binomial deviation of 9.5
    draws = 0.01 * np.random.default_rng(1).normal(1.0 / math.sqrt(252), 1.0, (1000, 252))
    found = [sharpe_ratio_interval(SharpeSample.of(each), 0.9) for each in draws]
    assert 870 <= sum(lower <= 1.0 <= upper for lower, upper in found) <= 930


@pytest.mark.parametrize("num_trials", [2, 10, 100])
def test_the_expected_best_is_near_the_mean_of_simulated_maxima(num_trials: int) -> None:
    # the formula is the extreme-value limit: within 0.06 deviations from 10 trials on, 0.15 for 2
    best = np.random.default_rng(0).normal(0.0, 2.0, (20_000, num_trials)).max(axis=1).mean()
    tolerance = 0.3 if num_trials == 2 else 0.12
    assert expected_best_sharpe_ratio(num_trials, 4.0) == pytest.approx(best, abs=tolerance)


def test_one_trial_deflates_nothing() -> None:
    sample = SharpeSample(0.8, 1000)
    assert expected_best_sharpe_ratio(1, 0.5) == 0.0
    assert deflated_sharpe_ratio(sample, 1, 0.5) == probabilistic_sharpe_ratio(sample)
    assert deflated_sharpe_ratio(sample, 50, 0.5) < deflated_sharpe_ratio(sample, 10, 0.5)


def test_undefined_ratios_and_impossible_moments_are_nan() -> None:
    assert np.isnan(probabilistic_sharpe_ratio(SharpeSample.of(np.zeros(100))))
    assert np.isnan(probabilistic_sharpe_ratio(SharpeSample(20.0, 100, skewness=3.0, kurtosis=1.0)))


def test_counts_that_are_no_counts_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"num_trials must be at least 1, got 0 \(deflated Sharpe ratio\)"):
        expected_best_sharpe_ratio(0, 0.5)
    with pytest.raises(ConfigError, match=r"trial_variance must be at least 0, got nan"):
        expected_best_sharpe_ratio(5, math.nan)


def test_pure_noise_is_overfitted_about_half_the_time() -> None:
    # mean of 20 matrices of 50 worthless trials; the PBO of one matrix scatters by about 0.2
    rng = np.random.default_rng(0)
    found = [backtest_overfitting(rng.normal(0.0, 0.01, (800, 50)), 8).probability for _ in range(20)]
    assert np.mean(found) == pytest.approx(0.5, abs=0.12)


def test_one_dominant_trial_is_not_overfitted() -> None:
    trials = np.random.default_rng(0).normal(0.0, 0.01, (800, 50))
    trials[:, 7] += 0.003
    found = backtest_overfitting(trials)
    assert found.probability < 0.01
    assert found.probability_of_loss < 0.01
    assert found.logits.shape == (12870,)  # 16! / (8! 8!)


def test_a_trial_that_fades_is_overfitted() -> None:
    # every trial earns in one block what it loses in the next: the better inside, the worse outside
    blocks = np.random.default_rng(0).normal(0.0, 0.01, (4, 1, 30))
    days = np.repeat(np.concatenate([blocks, -blocks]), 25, axis=1).reshape(-1, 30)
    trials = days + np.random.default_rng(1).normal(0.0, 0.01, days.shape)
    found = backtest_overfitting(trials, 8)
    assert found.probability > 0.9
    assert np.corrcoef(found.best_in_sample, found.same_out_of_sample)[0, 1] < -0.5


@pytest.mark.parametrize("seed", range(3))
def test_logits_agree_with_a_slow_loop(seed: int) -> None:
    trials = np.random.default_rng(seed).normal(0.0, 0.01, (50, 5))
    lists = [list(map(float, trial[2:])) for trial in trials.T]  # 50 days fill 6 blocks of 8; the first 2 are left out
    found = backtest_overfitting(trials, 6)
    assert found.logits == pytest.approx(oracles.backtest_overfitting(lists, 6), rel=1e-9)
    assert found.probability == np.mean(found.logits <= 0.0)


def test_a_split_by_hand() -> None:
    # 2 blocks of 2 days, 2 trials. First half: A (0.01, 0.03) has mean / std 0.02 / 0.01414 = 1.414, B (0.00, 0.01)
    # 0.7071: A is best. Second half: A (-0.01, 0.00) has -0.7071, B (0.01, 0.03) 1.414: A is last, w = 1/3, log 1/2.
    # The other way round B is best with 1.414, then second: the same.
    found = backtest_overfitting(np.array([[0.01, 0.0], [0.03, 0.01], [-0.01, 0.01], [0.0, 0.03]]), 2)
    assert found.logits == pytest.approx([math.log(0.5)] * 2, rel=1e-12)
    assert (found.probability, found.probability_of_loss) == (1.0, 0.5)
    assert found.best_in_sample == pytest.approx([2.0**0.5, 2.0**0.5], rel=1e-9)
    assert found.same_out_of_sample == pytest.approx([-(0.5**0.5), 0.5**0.5], rel=1e-9)


def test_trials_in_cash_can_be_ranked() -> None:
    trials = np.random.default_rng(0).normal(-0.01, 0.01, (160, 3))
    trials[:, 1] = 0.0
    found = backtest_overfitting(trials, 8)
    assert found.probability == 0.0
    assert (found.best_in_sample == 0.0).all()


def test_matrices_that_cannot_be_split_are_refused() -> None:
    trials = np.zeros((40, 3))
    with pytest.raises(ConfigError, match=r"num_blocks must be even and at least 2, got 7"):
        backtest_overfitting(trials, 7)
    with pytest.raises(
        ConfigError, match=r"returns must be at least 32 days of at least 2 trials, got shape \(31, 3\)"
    ):
        backtest_overfitting(trials[:31])
    trials[5, 2] = np.nan
    with pytest.raises(ConfigError, match=r"returns must be numbers, got a NaN in trial 2"):
        backtest_overfitting(trials)
