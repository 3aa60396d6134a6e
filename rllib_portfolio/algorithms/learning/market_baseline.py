"""A baseline for policy gradients that is a function of the market: it removes noise and leaves the gradient's mean.

Asset returns do not answer to what a small portfolio does, so a baseline may depend on them, those of the future
included (Mao et al. 2019, arXiv 1807.02264, input-dependent baselines). It must not depend on the actions that it
corrects. A regression on the rewards that it corrects depends on them: it removes the share h of a day's own reward,
where h is the day's leverage, near 1 on rare large days. So the coefficients for an episode are fitted to all others
(cross-fitting, Chernozhukov et al. 2018, definition 3.1); no action of the episode changes their rewards.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from rllib_portfolio.arrays import FloatArray

Total = Callable[[FloatArray], FloatArray]
"""Sums an array over all learners."""

SMALLEST_EIGENVALUE = 1e-5
"""Share of the largest eigenvalue of the scaled cross-products below which a direction is left out: a difference of two
portfolios that only rounding or curvature makes says nothing about a day of large moves."""
LEAST_OTHERS = 20
"""Steps of other chunks from which on a regression on two portfolios is better than none."""


def mean_of_others(values: FloatArray, lengths: Sequence[int], total: Total = np.asarray) -> FloatArray:
    """Return for each step the mean of the values over the steps of other chunks, or over all if there are no others.

    Args:
        values: One row for each step, [S, P].
        lengths: Steps of each episode chunk; they sum to S.
        total: Sums an array over all learners.

    Returns:
        Means, [S, P].
    """
    own = _sums(np.column_stack([values, np.ones(len(values))]), lengths)
    everything = total(own.sum(0))
    others = everything - own
    others = np.where(others[:, -1:] > 0, others, everything)
    return np.repeat(others[:, :-1] / others[:, -1:], lengths, axis=0)


def without_market_noise(
    values: FloatArray, market: FloatArray, lengths: Sequence[int], total: Total = np.asarray
) -> FloatArray:
    """Return rewards or advantages less their regression on the market, fitted to the other episode chunks.

    Rewards may lose a function of the returns alone, since later rewards count towards earlier actions. Advantages may
    lose a function of the state, too, since each belongs to one action.

    Args:
        values: Rewards r_t or advantages A_t, [S].
        market: P functions of the returns of the same step that do not depend on the sampled action, [S, P].
        lengths: Steps of each episode chunk; they sum to S. No action may change the values of another chunk.
        total: Sums an array over all learners.

    Returns:
        The values less the slopes times the market, float32 [S]; as they were where other chunks have too few steps.
    """
    columns = np.column_stack([np.ones(len(values)), market, values]).astype(np.float64)
    own = _sums(columns[:, :, None] * columns[:, None, :], lengths)
    moments = total(own.sum(0)) - own
    sizes = np.sqrt(np.maximum(np.diagonal(moments, axis1=1, axis2=2)[:, :-1], np.finfo(np.float64).tiny))
    products = moments[:, :-1, :-1] / (sizes[:, :, None] * sizes[:, None, :])
    inverse = np.linalg.pinv(products, rcond=SMALLEST_EIGENVALUE, hermitian=True)
    slopes = (inverse @ (moments[:, :-1, -1] / sizes)[:, :, None])[:, :, 0] / sizes
    slopes[moments[:, 0, 0] < LEAST_OTHERS] = 0.0
    explained = (columns[:, 1:-1] * np.repeat(slopes[:, 1:], lengths, axis=0)).sum(-1)
    return np.asarray(values - explained, dtype=np.float32)


def _sums(rows: FloatArray, lengths: Sequence[int]) -> FloatArray:
    """Return the sum of the rows of each chunk."""
    starts = np.cumsum([0, *lengths[:-1]])
    return np.add.reduceat(rows, starts, axis=0)
