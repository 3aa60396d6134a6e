"""A policy-gradient baseline that depends on the market; it reduces the gradient's variance without bias.

A small portfolio does not influence asset returns, so that a baseline may depend on them, including future returns (Mao
et al. 2019, arXiv 1807.02264, input-dependent baselines). The baseline must not depend on the actions whose rewards it
corrects. A regression fitted to the same rewards would depend on those actions: it removes the share h of a day's own
reward, where h is the day's statistical leverage, which is near 1 on rare days with large moves. Therefore the
coefficients for an episode are fitted to all other episodes, whose rewards no action of this episode changes
(cross-fitting, Chernozhukov et al. 2018, definition 3.1).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from rllib_portfolio.arrays import FloatArray

Total = Callable[[FloatArray], FloatArray]
"""A function that sums an array over all learners."""

SMALLEST_EIGENVALUE = 1e-5
"""Eigenvalues of the scaled cross-products below this share of the largest one are left out of the regression.

Their directions are differences between two portfolios that are due to rounding or curvature only, so that coefficients
on them cannot be extrapolated to days of large moves."""
LEAST_OTHERS = 20
"""Smallest number of steps in other chunks for which the regression is used."""


def mean_of_others(values: FloatArray, lengths: Sequence[int], total: Total = np.asarray) -> FloatArray:
    """Return for each step the mean of the values over all other chunks, or over all steps if there is only one chunk.

    Args:
        values: One row per step, [S, P].
        lengths: Number of steps in each episode chunk; they sum to S.
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
    """Return rewards or advantages minus their regression on the market, fitted to the other episode chunks.

    For rewards, `market` must depend on asset returns only, because later rewards count towards earlier actions. For
    advantages it may also depend on the state, because each advantage belongs to one action.

    Args:
        values: Rewards r_t or advantages A_t, [S].
        market: P functions of the returns of the same step that do not depend on the sampled action, [S, P].
        lengths: Number of steps in each episode chunk; they sum to S. No action may change the values of another chunk.
        total: Sums an array over all learners.

    Returns:
        The values minus slopes times market, float32 [S]; unchanged where the other chunks have fewer than
        `LEAST_OTHERS` steps.
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
