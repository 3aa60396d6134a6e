"""Reward normalisation: rewards divided by the running standard deviation of their discounted sum.

The driver computes the statistics from the episodes of all env runners, so that they are the same for every learner.
Evaluation episodes are not included. The scale is applied to copies, so that reported returns are not scaled.
"""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.env.utils.infinite_lookback_buffer import InfiniteLookbackBuffer
from ray.rllib.utils.metrics import LEARNER_RESULTS
from scipy.signal import lfilter

logger = logging.getLogger(__name__)
REWARD_SCALE = "reward_scale"


class RunningRewardScale:
    """The running standard deviation of the discounted sum R_t = gamma R_{t-1} + r_t over all environments.

    The sum restarts with each episode and continues over the episode's chunks.
    Source: Engstrom et al. (2020), "Implementation Matters in Deep Policy Gradients", reward scaling (algorithm 1).
    """

    def __init__(self, gamma: float) -> None:
        self.gamma = gamma
        self.count = 0
        self.mean = 0.0
        self.sum_of_squares = 0.0
        self._open_sums: dict[str, float] = {}
        self._has_warned = False

    @property
    def std(self) -> float:
        """The running standard deviation, or 1 if there are fewer than two rewards or it is (nearly) zero."""
        variance = self.sum_of_squares / self.count if self.count > 1 else 0.0
        return math.sqrt(variance) if variance > 1e-16 else 1.0

    def update(self, episodes: Sequence[SingleAgentEpisode]) -> None:
        """Update the statistics with the rewards of episode chunks; a reward that is not finite counts as 0."""
        open_sums: dict[str, float] = {}
        for episode in episodes:
            before = open_sums.get(episode.id_, self._open_sums.get(episode.id_, 0.0))
            sums, _ = lfilter([1.0], [1.0, -self.gamma], self._finite_rewards(episode), zi=[self.gamma * before])
            if len(sums):
                self._merge(len(sums), float(sums.mean()), float(sums.var()))
                open_sums[episode.id_] = float(sums[-1])
            if episode.is_done:
                open_sums.pop(episode.id_, None)
        self._open_sums = open_sums

    def scaled(self, episodes: Sequence[SingleAgentEpisode]) -> list[SingleAgentEpisode]:
        """Return shallow copies of the episodes whose rewards are divided by `std`.

        The rewards are not clipped, so that the policy learns from rare losses of many standard deviations.
        """
        return [self._scaled(episode) for episode in episodes]

    def get_state(self) -> dict[str, Any]:
        return {
            "count": self.count,
            "mean": self.mean,
            "sum_of_squares": self.sum_of_squares,
            "open_sums": dict(self._open_sums),
        }

    def set_state(self, state: dict[str, Any]) -> None:
        self.count, self.mean, self.sum_of_squares = state["count"], state["mean"], state["sum_of_squares"]
        self._open_sums = dict(state["open_sums"])

    def _finite_rewards(self, episode: SingleAgentEpisode) -> np.ndarray:
        rewards = np.asarray(episode.get_rewards(), dtype=np.float64)
        is_finite = np.isfinite(rewards)
        if is_finite.all():
            return rewards
        if not self._has_warned:
            self._has_warned = True
            logger.warning(
                "Warning: a reward is %s. It is left out of the running scale of rewards; correct the reward function.",
                rewards[~is_finite][0],
            )
        return np.where(is_finite, rewards, 0.0)

    def _merge(self, count: int, mean: float, variance: float) -> None:
        total = self.count + count
        difference = mean - self.mean
        self.sum_of_squares += variance * count + difference**2 * self.count * count / total
        self.mean += difference * count / total
        self.count = total

    def _scaled(self, episode: SingleAgentEpisode) -> SingleAgentEpisode:
        rewards = np.asarray(episode.rewards.data) / self.std
        scaled = copy.copy(episode)
        scaled.rewards = InfiniteLookbackBuffer(rewards.astype(np.float32), lookback=episode.rewards.lookback)
        scaled.rewards.finalized = True
        return scaled


class ScalesRewards(Algorithm):
    """A mixin for one of RLlib's algorithms that adds a running reward scale, also to checkpoints."""

    def setup(self, config: Any) -> None:
        self.reward_scale = RunningRewardScale(config.gamma)
        super().setup(config)

    def log_reward_scale(self) -> None:
        """Log the scale among the metrics of the learners."""
        self.metrics.log_value((LEARNER_RESULTS, DEFAULT_MODULE_ID, REWARD_SCALE), self.reward_scale.std, window=1)

    def get_state(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        return {**super().get_state(*args, **kwargs), REWARD_SCALE: self.reward_scale.get_state()}

    def set_state(self, state: dict[str, Any]) -> None:
        super().set_state(state)
        if REWARD_SCALE in state:
            self.reward_scale.set_state(state[REWARD_SCALE])
