"""Prioritized experience replay (Schaul et al. 2016, arXiv 1511.05952) on arrays, with RLlib's buffer interface.

RLlib's buffer keeps episode objects and draws transitions one by one in Python. This buffer draws and weights a batch,
and updates its priorities, with whole-array operations.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from ray.rllib.core.columns import Columns
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.utils.metrics import (
    NUM_ENV_STEPS_ADDED_LIFETIME,
    NUM_ENV_STEPS_SAMPLED_LIFETIME,
    NUM_ENV_STEPS_STORED,
)
from ray.rllib.utils.replay_buffers.episode_replay_buffer import EpisodeReplayBuffer

from rllib_portfolio.algorithms.replay.sum_tree import SumTree
from rllib_portfolio.algorithms.replay.transition_store import TransitionStore
from rllib_portfolio.arrays import FloatArray

logger = logging.getLogger(__name__)

ReplayBatch = dict[str, NDArray[Any]]
"""Columns of B transitions under RLlib's names: obs, actions, rewards, new_obs, terminateds, n_step, weights.

In a batch of B days with A actions each, actions, rewards and new_obs are [B, A, ...].
"""
WEIGHTS = "weights"
N_STEP = "n_step"


class ArrayEpisodeReplayBuffer(EpisodeReplayBuffer):
    """A buffer of the last `capacity` observations whose transitions are drawn in proportion to their priority.

    Transition i has the probability P(i) = p_i^alpha / sum_k p_k^alpha with p_i = |TD error| + epsilon (eq. 1,
    proportional variant). One transition is drawn from each of B equal segments (appendix B.2.1). Its importance weight
    is w_i = (N P(i))^-beta (section 3.4). With beta 1 the weighted mean over a batch estimates the mean over the buffer
    without bias. The paper divides by the batch's largest weight, which would bias it and is not done here. New
    transitions get the largest priority so far.

    `replay_buffer_config={"type": BUFFER_TYPE, "capacity": ..., "alpha": ...}` selects this buffer.

    Args:
        capacity: Number of observations held, including the last one of each episode, where no transition starts.
        alpha: Exponent of the priorities; 0 draws uniformly.
        beta: Exponent of the importance weights at step 0 and after `beta_steps` environment steps, linear in between.
            A single number sets both.
        beta_steps: Environment steps over which beta changes; 0 keeps beta at its last value.
        epsilon: Priority of a transition whose TD error is 0.
        seed: Seed of the draws.
        extra_columns: Extra model outputs of the episodes to store and to include in batches.
    """

    def __init__(
        self,
        capacity: int = 100_000,
        *,
        alpha: float = 0.6,
        beta: tuple[float, float] | float = (1.0, 1.0),
        beta_steps: int = 0,
        epsilon: float = 1e-6,
        seed: int | None = None,
        extra_columns: Sequence[str] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(capacity, **kwargs)
        self.alpha, self.epsilon = alpha, epsilon
        self.beta_start, self.beta_end = (beta, beta) if isinstance(beta, float | int) else beta
        self.beta_steps = beta_steps
        self.rng = np.random.default_rng(seed)
        self._store = TransitionStore(capacity, extra_columns)
        self._priorities = SumTree(capacity)
        """p^alpha of each row; 0 where no transition starts."""
        self._max_priority = 1.0
        self._last_rows = np.empty(0, dtype=np.int64)

    def beta(self, timestep: int) -> float:
        """Return beta after `timestep` environment steps."""
        if not self.beta_steps:
            return self.beta_end
        return self.beta_start + (self.beta_end - self.beta_start) * min(1.0, timestep / self.beta_steps)

    def add(self, episodes: SingleAgentEpisode | Sequence[SingleAgentEpisode]) -> None:
        """Append episode chunks with the largest priority so far.

        If their observations have another form than those held (after a checkpoint of an earlier version, or with
        another env runner), the buffer is emptied first.
        """
        episodes = [episodes] if isinstance(episodes, SingleAgentEpisode) else episodes
        if not all(map(self._store.fits, episodes)):
            logger.warning("Warning: the replay buffer holds observations of another form: it is emptied and refilled.")
            self._store = TransitionStore(self.capacity, tuple(self._store.extra))
            self._priorities = SumTree(self.capacity)
        rows = self._store.add(episodes)
        self._priorities[rows.written] = 0.0
        self._priorities[rows.with_transition] = self._max_priority

    def sample(
        self,
        num_items: int | None = None,
        *,
        n_step: int = 1,
        gamma: float = 0.99,
        beta: float = 1.0,
        **kwargs: Any,
    ) -> ReplayBatch:
        """Draw a batch, whose priorities the next call of `update_priorities` sets.

        Args:
            num_items: B, the number of transitions; None takes RLlib's `batch_size_B`.
            n_step: Number of steps whose rewards are summed; fewer if the episode ends before.
            gamma: Discount factor of that sum.
            beta: Exponent of the importance weights.
            **kwargs: Other arguments of RLlib, which are ignored.

        Raises:
            ValueError: If the buffer is empty.
        """
        if not len(self):
            raise ValueError("replay buffer must hold a transition, got none. Add episodes first.")
        size = self.batch_size_B if num_items is None else num_items
        total = self._priorities.total
        targets = (np.arange(size) + self.rng.random(size)) * (total / size)
        rows = self._last_rows = self._priorities.find(targets)
        drawn = self._store.n_step(rows, n_step, gamma)
        weights = (len(self) * self._priorities[rows] / total) ** -beta
        self.sampled_timesteps += size
        return {
            Columns.OBS: drawn.observations,
            Columns.ACTIONS: drawn.actions,
            Columns.REWARDS: drawn.rewards,
            Columns.NEXT_OBS: drawn.next_observations,
            Columns.TERMINATEDS: drawn.terminated,
            N_STEP: drawn.num_steps,
            WEIGHTS: weights.astype(np.float32),
            **drawn.extra,
        }

    def update_priorities(self, priorities: FloatArray, module_id: str | None = None) -> None:
        """Set the priorities of the last batch drawn from its TD errors.

        Args:
            priorities: TD errors, [B]. One that is not finite counts as 0, because a transition with an infinite
                priority would be drawn exclusively from then on.
            module_id: Ignored.
        """
        errors = np.nan_to_num(np.abs(np.asarray(priorities, dtype=np.float64)), nan=0.0, posinf=0.0)
        powered = (errors + self.epsilon) ** self.alpha
        self._priorities[self._last_rows] = powered
        self._max_priority = max(self._max_priority, float(powered.max()))

    def get_num_timesteps(self, module_id: str | None = None) -> int:
        return self._store.num_transitions

    def get_num_episodes(self, module_id: str | None = None) -> int:
        """Raise NotImplementedError, because the buffer does not keep track of episodes."""
        raise NotImplementedError("an ArrayEpisodeReplayBuffer holds transitions; ask for get_num_timesteps().")

    def get_added_timesteps(self, module_id: str | None = None) -> int:
        return self._store.num_added

    def counts(self) -> dict[str, int]:
        """Return the numbers of transitions held, added so far and drawn so far, under RLlib's metric names."""
        return {
            NUM_ENV_STEPS_STORED: len(self),
            NUM_ENV_STEPS_ADDED_LIFETIME: self._store.num_added,
            NUM_ENV_STEPS_SAMPLED_LIFETIME: self.sampled_timesteps,
        }

    def get_metrics(self) -> dict[str, Any]:
        """Return `counts` as RLlib metrics."""
        self.metrics.log_dict(self.counts(), window=1)
        return self.metrics.reduce()

    def get_state(self) -> dict[str, Any]:
        return {
            "store": self._store.get_state(),
            "priorities": self._priorities[:].copy(),
            "max_priority": self._max_priority,
            "sampled_timesteps": self.sampled_timesteps,
            "generator": self.rng.bit_generator.state,
        }

    def set_state(self, state: dict[str, Any]) -> None:
        self._store.set_state(state["store"])
        self._priorities[np.arange(self.capacity)] = state["priorities"]
        self._max_priority = state["max_priority"]
        self.sampled_timesteps = state["sampled_timesteps"]
        self.rng.bit_generator.state = state["generator"]


BUFFER_TYPE = f"{ArrayEpisodeReplayBuffer.__module__}.{ArrayEpisodeReplayBuffer.__name__}"
"""The buffer's type in `replay_buffer_config`; RLlib searches it for "EpisodeReplayBuffer", so that it must be text."""
