"""Generalised advantage estimation over whole fragments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

FloatArray = NDArray[np.floating[Any]]
LEAST_STEPS_PER_REGRESSOR = 4
SMALLEST_MOMENT = 1e-10
"""Relative size below which a direction of the regressors is rounding: a fresh policy holds the uniform portfolio."""


def generalised_advantages(
    rewards: Sequence[FloatArray],
    values: FloatArray,
    last_values: FloatArray,
    terminated: NDArray[np.bool_],
    gamma: float,
    gae_lambda: float,
) -> FloatArray:
    """Advantages of E episode chunks, laid end to end.

    delta_t = r_t + gamma V(s_{t+1}) - V(s_t),  A_t = sum_k (gamma lambda)^k delta_{t+k}
    (Schulman et al. 2016, arXiv 1506.02438, eqs. 11-16). The value after the last step counts unless the chunk ended by
    termination: truncation, by the environment or by the end of the fragment, bootstraps.

    Args:
        rewards: E arrays of lengths T_e.
        values: V(s_t) of all steps, chunk after chunk, [S], S the sum of T_e.
        last_values: V of the observation after each chunk's last step, [E].
        terminated: Whether each chunk ended by termination, [E].
        gamma: Discount.
        gae_lambda: lambda.

    Returns:
        A_t, float32 [S].
    """
    lengths = np.array([len(chunk) for chunk in rewards])
    stops = np.cumsum(lengths)
    next_values = np.append(values[1:], 0.0)
    next_values[stops - 1] = np.where(terminated, 0.0, last_values)
    deltas = np.concatenate(rewards) + gamma * next_values - values
    # All chunks reversed, one to a row, padded behind their first step: one recursive filter runs over all of them.
    longest = int(lengths.max())
    rows = np.repeat(np.arange(len(lengths)), lengths)
    columns = np.repeat(stops, lengths) - 1 - np.arange(len(deltas))
    reversed_deltas = np.zeros((len(lengths), longest))
    reversed_deltas[rows, columns] = deltas
    advantages = lfilter([1.0], [1.0, -gamma * gae_lambda], reversed_deltas, axis=1)
    return np.asarray(advantages[rows, columns], dtype=np.float32)


def without_market_noise(
    values: FloatArray, market: FloatArray, total: Callable[[FloatArray], FloatArray] = np.asarray
) -> FloatArray:
    """Rewards or advantages less what the day's market explains of them.

    What assets return does not depend on what the agent does, so a baseline may be a function of it: the policy
    gradient keeps its mean and loses variance (Mao et al. 2019, arXiv 1807.02264, input-dependent baselines). The
    baseline is the least-squares fit by `market`, which takes a share P / S of everything else along: with fewer than
    4 P steps nothing is subtracted. Rewards may lose a function of the returns alone, since later rewards count towards
    earlier actions; advantages also one of the state, for the step's own action alone.

    Args:
        values: Rewards r_t or advantages A_t, [S].
        market: What the market did in the same step, not depending on the sampled action, [S, P].
        total: Sums an array over all learners, so that all of them subtract one fit.

    Returns:
        The residuals, or the values where there are too few of them, float32 [S].
    """
    columns = np.column_stack([market, values]).astype(np.float64)
    num_steps = total(np.array([len(columns)], dtype=np.float64))
    if num_steps < LEAST_STEPS_PER_REGRESSOR * market.shape[1]:
        return np.asarray(values, dtype=np.float32)
    columns -= total(columns.sum(0)) / num_steps
    regressors = columns[:, :-1]
    moments = total(regressors.T @ columns)
    coefficients, *_ = np.linalg.lstsq(moments[:, :-1], moments[:, -1], rcond=SMALLEST_MOMENT)
    return np.asarray(values - regressors @ coefficients, dtype=np.float32)
