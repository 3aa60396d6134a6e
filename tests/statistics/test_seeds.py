from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from rllib_portfolio.errors import ConfigError
from rllib_portfolio.statistics.seeds import interquartile_mean, seed_summary


def test_the_interquartile_mean_by_hand() -> None:
    # 8 runs: two cut at either end, (3 + 4 + 5 + 6) / 4; 3 runs: none cut; 5 runs: one, (2 + 3 + 4) / 3
    assert interquartile_mean(np.array([8.0, 1.0, 100.0, 3.0, 4.0, 5.0, 6.0, -50.0])) == 4.5
    assert interquartile_mean(np.array([1.0, 2.0, 9.0])) == 4.0
    assert interquartile_mean(np.array([4.0, 2.0, 90.0, 3.0, -9.0])) == 3.0


@pytest.mark.parametrize("num_runs", range(1, 14))
def test_the_interquartile_mean_is_scipy_s_trimmed_mean(num_runs: int) -> None:
    # which rliable, the code of the paper, calls with 0.25
    runs = np.random.default_rng(num_runs).normal(size=num_runs)
    assert interquartile_mean(runs) == pytest.approx(stats.trim_mean(runs, 0.25), rel=1e-12)


def test_folds_are_kept_and_seeds_are_drawn_within_them() -> None:
    # no luck of the seed: every draw is the data, however far the folds are apart
    folds = np.tile([0.1, 0.5, 2.0, -1.0], (5, 1))
    summary = seed_summary(folds, num_draws=100)
    assert summary.interquartile_mean == pytest.approx(0.3, rel=1e-12)
    assert (summary.lower, summary.upper) == (pytest.approx(0.3, rel=1e-12), pytest.approx(0.3, rel=1e-12))
    assert summary.num_runs == 20


def test_the_interval_agrees_with_a_slow_loop() -> None:
    scores = np.random.default_rng(0).normal(size=(5, 3)) + np.array([0.0, 1.0, 5.0])
    summary = seed_summary(scores, num_draws=2000, level=0.9)
    rng = np.random.default_rng(99)
    draws = [stats.trim_mean(np.concatenate([rng.choice(fold, 5) for fold in scores.T]), 0.25) for _ in range(2000)]
    width = np.quantile(draws, 0.95) - np.quantile(draws, 0.05)
    assert summary.lower == pytest.approx(np.quantile(draws, 0.05), abs=0.12 * width)
    assert summary.upper == pytest.approx(np.quantile(draws, 0.95), abs=0.12 * width)
    assert summary.lower < summary.interquartile_mean < summary.upper


def test_one_fold_may_be_a_plain_list_of_seeds() -> None:
    scores = np.array([0.3, 0.5, 0.4, 0.9])
    assert seed_summary(scores, 50) == seed_summary(scores[:, None], 50)
    alone = seed_summary(scores[:1], 50)
    assert (alone.lower, alone.interquartile_mean, alone.upper) == (0.3, 0.3, 0.3)


def test_runs_that_failed_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"scores must be numbers, at least one, got a NaN for seed 1 \(seeds\)"):
        seed_summary(np.array([0.3, np.nan]))
    with pytest.raises(ConfigError, match="got no run"):
        seed_summary(np.empty((0, 2)))
