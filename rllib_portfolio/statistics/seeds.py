"""Variation of a result between training seeds."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rllib_portfolio.arrays import FloatArray
from rllib_portfolio.errors import ConfigError

TRIMMED = 0.25


class SeedSummary(NamedTuple):
    """Interquartile mean of all runs, with a percentile interval over seeds."""

    interquartile_mean: float
    lower: float
    upper: float
    num_runs: int
    level: float


def seed_summary(scores: FloatArray, num_draws: int = 10_000, level: float = 0.95, seed: int = 0) -> SeedSummary:
    """Compute the interquartile mean over S seeds and J folds, with its stratified-bootstrap interval.

    Seeds are drawn with replacement within each fold, so that every draw contains each fold as often as the data do.
    The interval covers the randomness of training, not that of the market, since all draws use the same days. Fewer
    than 4 runs are not trimmed.

    Args:
        scores: One number per run, [S, J], or [S] for one fold.
        num_draws: Number of resampled sets of runs.
        level: Coverage of the interval, a fraction.
        seed: Seed of the draws.

    Raises:
        ConfigError: If there is no run or a score is NaN.

    Source: Agarwal, Schwarzer, Castro, Courville and Bellemare (2021), "Deep Reinforcement Learning at the Edge of the
        Statistical Precipice", NeurIPS 34, arXiv 2108.13264, section 4.
    """
    scores = np.asarray(scores, dtype=np.float64)
    scores = scores[:, None] if scores.ndim == 1 else scores
    if scores.size == 0 or np.isnan(scores).any():
        what = "no run" if scores.size == 0 else f"a NaN for seed {int(np.isnan(scores).any(axis=1).argmax())}"
        raise ConfigError(f"scores must be numbers, at least one, got {what} (seeds). Leave out runs that failed.")
    drawn = np.random.default_rng(seed).integers(len(scores), size=(num_draws, *scores.shape))
    resampled = scores[drawn, np.arange(scores.shape[1])]
    means = interquartile_mean(resampled.reshape(num_draws, -1))
    lower, upper = np.quantile(means, [0.5 - 0.5 * level, 0.5 + 0.5 * level])
    estimate = interquartile_mean(scores.reshape(1, -1))[0]
    return SeedSummary(float(estimate), float(lower), float(upper), scores.size, level)


def interquartile_mean(runs: FloatArray) -> FloatArray:
    """Compute the mean of the middle half of each row, cutting floor(n / 4) runs at either end: [..., n] gives [...].

    Source: Agarwal et al. (2021), section 4.3; their published code, rliable, has it as `metrics.aggregate_iqm`, which
        is scipy's `trim_mean` at 0.25.
    """
    cut = int(TRIMMED * runs.shape[-1])
    return np.asarray(np.sort(runs, axis=-1)[..., cut : runs.shape[-1] - cut].mean(axis=-1))
