"""DQN on RLlib's new API stack: prioritized replay, double Q, a dueling noisy network."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
from ray.rllib.algorithms.algorithm_config import NotProvided
from ray.rllib.algorithms.dqn import DQN
from ray.rllib.algorithms.dqn import DQNConfig as RLlibDQNConfig
from ray.rllib.algorithms.dqn.torch.dqn_torch_learner import DQNTorchLearner
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
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

from rllib_portfolio.algorithms.dqn.learner import FusedDQNLearner
from rllib_portfolio.algorithms.dqn.refused_settings import DQN_RULES
from rllib_portfolio.algorithms.learning.learner_silence import warned_of_silence
from rllib_portfolio.algorithms.learning.reward_scale import ScalesRewards
from rllib_portfolio.algorithms.refused_settings import refuse_env_runners, refuse_settings
from rllib_portfolio.algorithms.replay.replay_buffer import BUFFER_TYPE, ReplayBatch
from rllib_portfolio.algorithms.run_settings import learning_rate, with_run_settings
from rllib_portfolio.algorithms.sampling.counterfactual import COLUMNS, Counterfactuals
from rllib_portfolio.algorithms.sampling.fast_path import reads_fragments
from rllib_portfolio.algorithms.sampling.rounds import Round, sample_round
from rllib_portfolio.algorithms.sampling.shared_market import take_market
from rllib_portfolio.algorithms.sampling.weight_sync import sync_weights
from rllib_portfolio.config import DQNConfig, DQNRunConfig
from rllib_portfolio.env.action_map import build_action_table
from rllib_portfolio.market import MarketData
from rllib_portfolio.modules.dueling_noisy_q import DuelingNoisyQ, averaged_weights

logger = logging.getLogger(__name__)

REPLAY_BUFFER = "replay_buffer"
BETA = "beta"
STEPS_PER_ITERATION = 1000
"""Environment steps that RLlib's `train()` makes at least, unless the schedule has shorter intervals."""
MANY_ASSETS = 50
"""Number of assets from which on a run reports the cost of its action table."""
_LEARNERS = {"fused": FusedDQNLearner, "stock": DQNTorchLearner}


class PortfolioDQNConfig(RLlibDQNConfig):
    """RLlib's DQN configuration, and what it does not have."""

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class or PortfolioDQN)
        self.normalize_rewards = True
        self.learning_starts = 1000
        self.steps_per_update = 4
        self.steps_per_iteration = STEPS_PER_ITERATION
        self.counterfactual_actions = 0
        self.counterfactual_portfolios = False
        self.mixed_precision: str | None = None
        self.replay_buffer_config = {"type": BUFFER_TYPE}

    def training(
        self,
        *,
        normalize_rewards: bool = NotProvided,
        learning_starts: int = NotProvided,
        steps_per_update: int = NotProvided,
        steps_per_iteration: int = NotProvided,
        counterfactual_actions: int = NotProvided,
        counterfactual_portfolios: bool = NotProvided,
        mixed_precision: str | None = NotProvided,
        **kwargs: Any,
    ) -> Self:
        """RLlib's settings, and ours.

        Args:
            normalize_rewards: Divide rewards by the running deviation of their discounted sum.
            learning_starts: Transitions that must have been added to the buffer before the first gradient step. RLlib's
                `num_steps_sampled_before_learning_starts` says the same.
            steps_per_update: Environment steps for each gradient step.
            steps_per_iteration: Environment steps of an iteration, unless an env runner says nothing. RLlib's own
                `min_sample_timesteps_per_iteration` would wait for steps as long as there are none.
            counterfactual_actions: Actions that each day of a batch is learned from, at most; 0: from the one taken.
            counterfactual_portfolios: Half of the days from portfolios that were not held.
            mixed_precision: "bf16", "fp16" or None; the fused learner's arithmetic.
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
            "counterfactual_actions": counterfactual_actions,
            "counterfactual_portfolios": counterfactual_portfolios,
            "mixed_precision": mixed_precision,
        }
        for name, value in ours.items():
            if value is not NotProvided:
                setattr(self, name, value)
        self.replay_buffer_config["extra_columns"] = COLUMNS if self.counterfactual_actions else ()
        return self

    def validate(self) -> None:
        if self._validate_config:
            refuse_settings(self, DQN_RULES)
        super().validate()


@reads_fragments(infos=False)
class PortfolioDQN(ScalesRewards, DQN):
    """RLlib's DQN over an `ArrayEpisodeReplayBuffer`: several gradient steps on a fragment, as many as are due."""

    silent_env_runners: tuple[int, ...] = ()
    """Numbers of those that did not answer in the last round of sampling."""

    @classmethod
    def get_default_config(cls) -> PortfolioDQNConfig:
        return PortfolioDQNConfig()

    def setup(self, config: PortfolioDQNConfig) -> None:
        super().setup(config)
        refuse_env_runners(config, self.env_runner_group)
        self._counterfactuals: Counterfactuals | None = None
        if config.counterfactual_actions:
            take_market(config.env_config.get("data"))
            self._counterfactuals = Counterfactuals.of(
                config.env_config,
                config.counterfactual_actions,
                config.counterfactual_portfolios,
                looks_ahead=config.gamma > 0.0,
            )

    def training_step(self) -> None:
        """Sample and learn in turns until an iteration's steps are made.

        Metrics are gathered once for all turns: for each of them they would cost as much as a gradient step.
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
        """RLlib's state and, on request, the replay buffer: RLlib's new stack leaves it out, whatever is asked for."""
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
        """Episode chunks of all env runners, and the metrics of those in processes of their own: they may be lost."""
        if not self.env_runner_group.num_remote_env_runners():
            return Round(self.env_runner_group.local_env_runner.sample(), [], ())
        return sample_round(self.env_runner_group, self.config.sample_timeout_s)

    def _learn(self, num_updates: int, num_steps: int) -> None:
        """Gradient steps on batches of the buffer, each of which gets its priorities before the next one is drawn."""
        timesteps = {NUM_ENV_STEPS_SAMPLED_LIFETIME: num_steps, NUM_AGENT_STEPS_SAMPLED_LIFETIME: num_steps}
        draw = partial(self._draw, self.local_replay_buffer.beta(num_steps))
        put_back = self.local_replay_buffer.update_priorities
        with warned_of_silence(self), self.metrics.log_time((TIMERS, LEARNER_UPDATE_TIMER)):
            if self._learns_from_buffer:
                self.learner_group.foreach_learner(
                    lambda learner: learner.update_from_buffer(draw, put_back, num_updates, timesteps)
                )
                return
            is_ours = issubclass(self.config.learner_class, FusedDQNLearner)
            for update in range(num_updates):
                kwargs = {"ends_visit": update == num_updates - 1} if is_ours else {}
                results = self.learner_group.update(batch=_multi_agent(draw()), timesteps=timesteps, **kwargs)
                td_errors = [np.asarray(result[DEFAULT_MODULE_ID].pop(TD_ERROR_KEY).peek()) for result in results]
                put_back(np.concatenate([np.ravel(errors) for errors in td_errors]))
                self.metrics.aggregate(results, key=LEARNER_RESULTS)

    @property
    def _learns_from_buffer(self) -> bool:
        """Whether the learner is ours, in this process, and asks the buffer by itself."""
        return self.learner_group.is_local and issubclass(self.config.learner_class, FusedDQNLearner)

    def _gather_metrics(self, env_runner_results: list[Any], num_steps: int) -> None:
        """What env runners, learner and buffer have to tell of the steps just made, up to `num_steps` of the run."""
        if not self.env_runner_group.num_remote_env_runners():
            env_runner_results = [self.env_runner_group.local_env_runner.get_metrics()]
        self.metrics.aggregate(env_runner_results, key=ENV_RUNNER_RESULTS)
        if self._learns_from_buffer:
            (result,) = self.learner_group.foreach_learner(lambda learner: learner.gather_metrics())
            self.metrics.aggregate([result.get()], key=LEARNER_RESULTS)
        buffer = {**self.local_replay_buffer.counts(), BETA: self.local_replay_buffer.beta(num_steps)}
        self.metrics.log_dict(buffer, key=REPLAY_BUFFER_RESULTS, window=1)

    def _draw(self, beta: float) -> ReplayBatch:
        config, counterfactuals, buffer = self.config, self._counterfactuals, self.local_replay_buffer
        batch: ReplayBatch = buffer.sample(
            config.total_train_batch_size, n_step=config.n_step, gamma=config.gamma, beta=beta
        )
        if counterfactuals is not None:
            batch = counterfactuals.batch(batch, buffer.rng)
        if config.normalize_rewards:
            batch[Columns.REWARDS] = (batch[Columns.REWARDS] / self.reward_scale.std).astype(np.float32)
        return batch

    def _num_steps_sampled(self) -> int:
        return int(self.metrics.peek((ENV_RUNNER_RESULTS, NUM_ENV_STEPS_SAMPLED_LIFETIME), default=0))


def _multi_agent(batch: ReplayBatch) -> MultiAgentBatch:
    return MultiAgentBatch({DEFAULT_MODULE_ID: SampleBatch(batch)}, env_steps=len(batch[Columns.ACTIONS]))


def build(config: DQNRunConfig, market_path: Path) -> PortfolioDQN:
    """The algorithm of a run over the prepared market at `market_path`, which every env runner must be able to read."""
    return algorithm_config(config, market_path).build_algo()


def deciding_weights(weights: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the weights of a module whose policy decides with their running average."""
    return averaged_weights(weights)


def start_notes(config: DQNRunConfig, market: MarketData) -> tuple[str, ...]:
    """Return notes on a discount that was computed, and on the cost of the action table where there are many assets."""
    notes = []
    if config.training.gamma is None:
        reason = "a decision changes what later ones can earn" if config.discount else "no decision changes a later one"
        notes.append(f"The discount is {config.discount:.3g}, because {reason} (training.gamma is null).")
    num_assets = market.num_assets
    if num_assets >= MANY_ASSETS:
        num_actions = build_action_table(config.environment, market.assets).num_actions
        notes.append(
            f"DQN's table has {num_actions:,} actions for {num_assets:,} assets, and each gradient step evaluates all "
            "of them: with 500 assets it makes about a fourteenth of the steps a second that it makes with 20. "
            "Use --algo ppo, whose network scores each asset, or fewer assets (market.assets)."
        )
    return tuple(notes)


def learning_numbers(
    config: DQNRunConfig, market: MarketData, step_numbers: int, num_observed: int, num_hidden: int
) -> dict[str, float]:
    """Return the numbers that the replay buffer and the activations of a batch hold."""
    dqn = config.training
    num_actions = build_action_table(config.environment, market.assets).num_actions
    num_rows = dqn.batch_size * max(1, min(num_actions, dqn.counterfactual_actions))
    return {
        "training.buffer_capacity": float(dqn.buffer_capacity) * (step_numbers + 8),
        "training.batch_size": float(num_rows) * (2 * num_observed + 4 * num_hidden),
    }


def algorithm_config(config: DQNRunConfig, market_path: Path) -> PortfolioDQNConfig:
    """RLlib's configuration of a run."""
    result = with_run_settings(PortfolioDQNConfig(), config, market_path, _LEARNERS)
    schedule = config.schedule
    intervals = (schedule.total_timesteps, schedule.evaluation_interval, schedule.checkpoint_interval)
    return (
        result.rl_module(rl_module_spec=module_spec(config))
        .training(**_training_settings(config), steps_per_iteration=min(STEPS_PER_ITERATION, *intervals))
        .reporting(min_sample_timesteps_per_iteration=None, min_time_s_per_iteration=None)
    )


def module_spec(config: DQNRunConfig) -> RLModuleSpec:
    """The Q-network that the configuration asks for."""
    dqn = config.training
    epsilon = (
        dqn.epsilon_start,
        dqn.epsilon_end,
        max(1, round(dqn.epsilon_fraction * config.schedule.total_timesteps)),
    )
    return RLModuleSpec(module_class=DuelingNoisyQ, model_config=config.network.model_dump() | {"epsilon": epsilon})


def counterfactual_actions(config: DQNRunConfig) -> int:
    """Actions that each day of a batch is learned from; 0 where the action taken is all that there is.

    That is where several rewards are summed, where episodes do not say where the environment stood (RLlib's env runner,
    or a running observation filter), and with RLlib's learner.
    """
    resources = config.resources
    knows_states = resources.env_runner == "vectorised" and config.market.observation_filter != "running"
    if knows_states and resources.learner == "fused" and config.training.n_step == 1:
        return config.training.counterfactual_actions
    if config.training.counterfactual_actions:
        logger.warning(
            "Warning: counterfactual_actions needs n_step 1, our env runner and learner, and no running observation "
            "filter. A gradient step learns from the %d actions taken that batch_size draws; 0 says that it is meant.",
            config.training.batch_size,
        )
    return 0


def _training_settings(config: DQNRunConfig) -> dict[str, Any]:
    dqn: DQNConfig = config.training
    counterfactuals = counterfactual_actions(config)
    fragment = dqn.rollout_steps * config.resources.num_envs
    steps_per_average = max(fragment, dqn.steps_per_update)  # after some fragments no gradient step is due
    return {
        "lr": learning_rate(config),
        "gamma": config.discount,
        "train_batch_size_per_learner": dqn.batch_size // max(1, config.resources.num_learners),
        "grad_clip": dqn.max_gradient_norm,
        "grad_clip_by": "global_norm",
        "n_step": dqn.n_step,
        "double_q": dqn.double_q,
        "td_error_loss_fn": dqn.loss,
        "num_atoms": 1,
        "tau": -math.expm1(-steps_per_average / dqn.target_update_interval),
        "target_network_update_freq": fragment,
        "replay_buffer_config": {
            "type": BUFFER_TYPE,
            "capacity": dqn.buffer_capacity,
            "alpha": dqn.per_alpha if dqn.prioritized else 0.0,
            "beta": (dqn.per_beta_start, dqn.per_beta_end),
            "beta_steps": config.schedule.total_timesteps,
            "epsilon": dqn.per_epsilon,
            "seed": config.seed,
        },
        "counterfactual_actions": counterfactuals,
        "counterfactual_portfolios": dqn.counterfactual_portfolios,
        "store_buffer_in_checkpoints": dqn.store_buffer_in_checkpoints,
        "learning_starts": dqn.learning_starts,
        "steps_per_update": dqn.steps_per_update,
        "normalize_rewards": dqn.normalize_rewards,
        "mixed_precision": config.resources.mixed_precision,
    }
