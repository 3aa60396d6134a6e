"""The sample-and-learn loop of algorithms that learn from a replay buffer.

An algorithm derives from `OffPolicyAlgorithm` and one of RLlib's algorithms. Its configuration derives from
`OffPolicyConfig` and RLlib's configuration, and its learner from `ReplayLearner` and RLlib's learner.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import Any, Self

import numpy as np
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig, NotProvided
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.columns import Columns
from ray.rllib.policy.sample_batch import MultiAgentBatch, SampleBatch
from ray.rllib.utils.metrics import (
    ENV_RUNNER_RESULTS,
    ENV_RUNNER_SAMPLING_TIMER,
    LEARNER_RESULTS,
    LEARNER_UPDATE_TIMER,
    NUM_AGENT_STEPS_SAMPLED_LIFETIME,
    NUM_ENV_STEPS_SAMPLED_LIFETIME,
    REPLAY_BUFFER_ADD_DATA_TIMER,
    REPLAY_BUFFER_RESULTS,
    SYNCH_WORKER_WEIGHTS_TIMER,
    TD_ERROR_KEY,
    TIMERS,
)

from rllib_portfolio.algorithms.learning.learner_silence import warned_of_silence
from rllib_portfolio.algorithms.learning.replay_learner import ReplayLearner
from rllib_portfolio.algorithms.learning.reward_scale import ScalesRewards
from rllib_portfolio.algorithms.refused_settings import refuse_env_runners
from rllib_portfolio.algorithms.replay.replay_buffer import BUFFER_TYPE, ReplayBatch
from rllib_portfolio.algorithms.sampling.rounds import Round, sample_round
from rllib_portfolio.algorithms.sampling.weight_sync import sync_weights

logger = logging.getLogger(__name__)

REPLAY_BUFFER = "replay_buffer"
BETA = "beta"
STEPS_PER_ITERATION = 1000
"""Smallest number of environment steps in one call of RLlib's `train()`, unless the schedule has shorter intervals."""


class OffPolicyConfig(AlgorithmConfig):
    """A mixin for one of RLlib's algorithm configurations that adds the settings of the loop."""

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class)
        self.normalize_rewards = True
        self.learning_starts = 1000
        self.steps_per_update = 4
        self.steps_per_iteration = STEPS_PER_ITERATION
        self.mixed_precision: str | None = None
        self.replay_buffer_config = {"type": BUFFER_TYPE}

    def training(
        self,
        *,
        normalize_rewards: bool = NotProvided,
        learning_starts: int = NotProvided,
        steps_per_update: int = NotProvided,
        steps_per_iteration: int = NotProvided,
        mixed_precision: str | None = NotProvided,
        **kwargs: Any,
    ) -> Self:
        """Set training settings: RLlib's and those of the loop.

        Args:
            normalize_rewards: Whether rewards are divided by the running standard deviation of their discounted sum.
            learning_starts: Transitions that must have been added to the buffer before the first gradient step. RLlib's
                `num_steps_sampled_before_learning_starts` is an alias.
            steps_per_update: Environment steps per gradient step.
            steps_per_iteration: Environment steps per iteration. An iteration ends earlier if an env runner does not
                answer, whereas RLlib's `min_sample_timesteps_per_iteration` would wait without limit.
            mixed_precision: "bf16", "fp16" or None; only the fused learner uses it.
            **kwargs: RLlib's own settings.
        """
        if learning_starts is NotProvided:
            learning_starts = kwargs.get("num_steps_sampled_before_learning_starts", NotProvided)
        super().training(**kwargs)
        ours = {
            "normalize_rewards": normalize_rewards,
            "learning_starts": learning_starts,
            "steps_per_update": steps_per_update,
            "steps_per_iteration": steps_per_iteration,
            "mixed_precision": mixed_precision,
        }
        for name, value in ours.items():
            if value is not NotProvided:
                setattr(self, name, value)
        return self


class OffPolicyAlgorithm(ScalesRewards):
    """A mixin for one of RLlib's algorithms that makes all gradient steps which a sampled fragment calls for."""

    silent_env_runners: tuple[int, ...] = ()
    """Indices of the env runners that did not answer in the last round of sampling."""

    def setup(self, config: Any) -> None:
        super().setup(config)
        refuse_env_runners(config, self.env_runner_group)

    def completed(self, batch: ReplayBatch) -> ReplayBatch:
        """Return a batch drawn from the buffer, extended by the algorithm. Its rewards are not scaled yet."""
        return batch

    def training_step(self) -> None:
        """Alternate between sampling and learning until the iteration has its environment steps.

        Metrics are gathered once per iteration, because gathering them costs as much as a gradient step.
        """
        steps = self._num_steps_sampled()
        until = steps + self.config.steps_per_iteration
        env_runner_results: list[Any] = []
        while steps < until:
            with self.metrics.log_time((TIMERS, ENV_RUNNER_SAMPLING_TIMER)):
                found = self._sample()
            self.silent_env_runners, episodes = found.silent, found.episodes
            if not episodes:
                break
            env_runner_results += found.results
            with self.metrics.log_time((TIMERS, REPLAY_BUFFER_ADD_DATA_TIMER)):
                if self.config.normalize_rewards:
                    self.reward_scale.update(episodes)
                self.local_replay_buffer.add(episodes)
            before, steps = steps, steps + sum(len(episode) for episode in episodes)
            num_updates = steps // self.config.steps_per_update - before // self.config.steps_per_update
            if self.local_replay_buffer.get_added_timesteps() >= self.config.learning_starts and num_updates:
                self._learn(num_updates, steps)
                with self.metrics.log_time((TIMERS, SYNCH_WORKER_WEIGHTS_TIMER)):
                    sync_weights(self.env_runner_group, self.learner_group)
            if not found.is_complete:
                break
        self._gather_metrics(env_runner_results, steps)

    def get_state(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Return RLlib's state, plus the replay buffer if `store_buffer_in_checkpoints` is set.

        RLlib's new API stack ignores that setting and never stores the buffer.
        """
        state = super().get_state(*args, **kwargs)
        if self.config.store_buffer_in_checkpoints:
            state[REPLAY_BUFFER] = self.local_replay_buffer.get_state()
        return state

    def set_state(self, state: dict[str, Any]) -> None:
        super().set_state(state)
        if REPLAY_BUFFER in state:
            self.local_replay_buffer.set_state(state[REPLAY_BUFFER])
        else:
            logger.warning(
                "The checkpoint holds no replay buffer (store_buffer_in_checkpoints was off): it is refilled, and "
                "learning goes on when %d new transitions are in it.",
                self.config.learning_starts,
            )

    def _sample(self) -> Round:
        """Return episode chunks of all env runners, and the metrics of remote ones, which might otherwise be lost."""
        if not self.env_runner_group.num_remote_env_runners():
            return Round(self.env_runner_group.local_env_runner.sample(), [], ())
        return sample_round(self.env_runner_group, self.config.sample_timeout_s)

    def _learn(self, num_updates: int, num_steps: int) -> None:
        """Make gradient steps on batches of the buffer; priorities are updated before the next batch is drawn."""
        timesteps = {NUM_ENV_STEPS_SAMPLED_LIFETIME: num_steps, NUM_AGENT_STEPS_SAMPLED_LIFETIME: num_steps}
        draw = partial(self._draw, self.local_replay_buffer.beta(num_steps))
        put_back = self.local_replay_buffer.update_priorities
        with warned_of_silence(self), self.metrics.log_time((TIMERS, LEARNER_UPDATE_TIMER)):
            if self._learns_from_buffer:
                self.learner_group.foreach_learner(
                    lambda learner: learner.update_from_buffer(draw, put_back, num_updates, timesteps)
                )
                return
            is_ours = issubclass(self.config.learner_class, ReplayLearner)
            for update in range(num_updates):
                kwargs = {"is_last": update == num_updates - 1} if is_ours else {}
                results = self.learner_group.update(batch=_multi_agent(draw()), timesteps=timesteps, **kwargs)
                td_errors = [np.asarray(result[DEFAULT_MODULE_ID].pop(TD_ERROR_KEY).peek()) for result in results]
                put_back(np.concatenate([np.ravel(errors) for errors in td_errors]))
                self.metrics.aggregate(results, key=LEARNER_RESULTS)

    @property
    def _learns_from_buffer(self) -> bool:
        """Whether the learner is a local `ReplayLearner`, which draws batches from the buffer itself."""
        return self.learner_group.is_local and issubclass(self.config.learner_class, ReplayLearner)

    def _gather_metrics(self, env_runner_results: list[Any], num_steps: int) -> None:
        """Log the metrics of env runners, learner and buffer for the iteration, which ends at step `num_steps`."""
        if not self.env_runner_group.num_remote_env_runners():
            env_runner_results = [self.env_runner_group.local_env_runner.get_metrics()]
        self.metrics.aggregate(env_runner_results, key=ENV_RUNNER_RESULTS)
        if self._learns_from_buffer:
            (result,) = self.learner_group.foreach_learner(lambda learner: learner.gather_metrics())
            self.metrics.aggregate([result.get()], key=LEARNER_RESULTS)
        buffer = {**self.local_replay_buffer.counts(), BETA: self.local_replay_buffer.beta(num_steps)}
        self.metrics.log_dict(buffer, key=REPLAY_BUFFER_RESULTS, window=1)
        self.log_reward_scale()

    def _draw(self, beta: float) -> ReplayBatch:
        config = self.config
        drawn: ReplayBatch = self.local_replay_buffer.sample(
            config.total_train_batch_size, n_step=config.n_step, gamma=config.gamma, beta=beta
        )
        batch = self.completed(drawn)
        if config.normalize_rewards:
            batch[Columns.REWARDS] = (batch[Columns.REWARDS] / self.reward_scale.std).astype(np.float32)
        return batch

    def _num_steps_sampled(self) -> int:
        return int(self.metrics.peek((ENV_RUNNER_RESULTS, NUM_ENV_STEPS_SAMPLED_LIFETIME), default=0))


def _multi_agent(batch: ReplayBatch) -> MultiAgentBatch:
    return MultiAgentBatch({DEFAULT_MODULE_ID: SampleBatch(batch)}, env_steps=len(batch[Columns.ACTIONS]))
