"""Generalised advantage estimation over whole fragments, and standardisation of the advantages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from rllib_portfolio.arrays import FloatArray

SMALLEST_ADVANTAGE_STD = 1e-4
"""The smallest standard deviation that advantages are divided by, as in RLlib's GAE connector."""
NEWEST_SHARE = 0.02
"""Weight of the newest batch in the running variance of the advantages after the first 50 batches."""


def generalised_advantages(
    rewards: Sequence[FloatArray],
    values: FloatArray,
    last_values: FloatArray,
    terminated: NDArray[np.bool_],
    gamma: float,
    gae_lambda: float,
) -> FloatArray:
    """Return the advantages of E concatenated episode chunks.

    delta_t = r_t + gamma V(s_{t+1}) - V(s_t),  A_t = sum_k (gamma lambda)^k delta_{t+k}
    (Schulman et al. 2016, arXiv 1506.02438, eqs. 11-16). V after a chunk's last step is 0 if the chunk ended by
    termination, and `last_values` if it was truncated by the environment or by the end of the fragment.

    Args:
        rewards: E arrays of lengths T_e.
        values: V(s_t) of all steps, chunk after chunk, [S], where S is the sum of T_e.
        last_values: V of the observation after each chunk's last step, [E].
        terminated: Whether each chunk ended by termination, [E].
        gamma: Discount factor.
        gae_lambda: lambda.

    Returns:
        A_t, float32 [S].
    """
    lengths = np.array([len(chunk) for chunk in rewards])
    stops = np.cumsum(lengths)
    next_values = np.append(values[1:], 0.0)
    next_values[stops - 1] = np.where(terminated, 0.0, last_values)
    deltas = np.concatenate(rewards) + gamma * next_values - values
    # Each row holds one chunk in reverse order, padded at its end, so that one recursive filter runs over all chunks.
    longest = int(lengths.max())
    rows = np.repeat(np.arange(len(lengths)), lengths)
    columns = np.repeat(stops, lengths) - 1 - np.arange(len(deltas))
    reversed_deltas = np.zeros((len(lengths), longest))
    reversed_deltas[rows, columns] = deltas
    advantages = lfilter([1.0], [1.0, -gamma * gae_lambda], reversed_deltas, axis=1)
    return np.asarray(advantages[rows, columns], dtype=np.float32)


class AdvantageScale:
    """Standardises advantages by their running standard deviation.

    Division by a batch's own standard deviation would bias the gradient towards more risk: a rare large loss increases
    the standard deviation of its batch and thereby reduces the batch's weight. Each batch is therefore divided by the
    square root of the running mean variance of the batches before it; the first batch is divided by its own.
    """

    def __init__(self) -> None:
        self._num_batches = 0
        self._variance = 0.0
        self._newest = 0.0

    def standardised(
        self, advantages: FloatArray, total: Callable[[FloatArray], FloatArray] = np.asarray
    ) -> FloatArray:
        """Return the advantages of a batch minus their mean, divided by the running standard deviation, [S].

        Args:
            advantages: A_t of the batch, [S].
            total: Sums an array over all learners, which share the mean and the standard deviation.
        """
        exact = np.asarray(advantages, dtype=np.float64)
        count, all_advantages = total(np.array([len(exact), exact.sum()]))
        with np.errstate(invalid="ignore"):  # if a reward is not finite, the learner skips the update
            deviations = exact - all_advantages / count
        self._newest = float(total(np.square(deviations).sum(keepdims=True))[0] / count)
        variance = self._variance or self._newest
        return np.asarray(deviations / max(np.sqrt(variance), SMALLEST_ADVANTAGE_STD))

    def advance(self) -> None:
        """Update the running variance with the newest batch; called once the update on it is done."""
        self._num_batches += 1
        self._variance += max(NEWEST_SHARE, 1.0 / self._num_batches) * (self._newest - self._variance)

    def get_state(self) -> dict[str, Any]:
        return {"num_batches": self._num_batches, "variance": self._variance}

    def set_state(self, state: dict[str, Any]) -> None:
        self._num_batches, self._variance = state["num_batches"], state["variance"]
