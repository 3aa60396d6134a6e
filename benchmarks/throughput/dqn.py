"""DQN: RLlib with this package's buffer, learner and env runner; RLlib as it comes; Stable-Baselines3.

All make one gradient step on 64 transitions for every 4 environment steps over 8 environments, 8 steps after each 4
steps of the environments. Ours alone has noisy streams, about twice the arithmetic of the others' plain layers; SB3's
replay is uniform, RLlib's and ours are prioritized.
"""
# ruff: noqa: D102 - the methods are documented by `contenders.Contender`

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ray
from ray.rllib.algorithms.dqn import DQN
from ray.rllib.algorithms.dqn import DQNConfig as RLlibDQNConfig
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig
from ray.rllib.utils.metrics import ENV_RUNNER_RESULTS

from benchmarks.throughput.setting import STEPS_PER_UPDATE, Setting
from benchmarks.throughput.stopwatch import Watched
from rllib_portfolio import ENV_ID
from rllib_portfolio.algorithms.dqn import algorithm as dqn
from rllib_portfolio.config import DQNConfig, DQNResourceConfig, DQNRunConfig, MarketConfig, QNetworkConfig

ROLLOUT_STEPS = 4
LEARNING_RATE = 1e-4
"""Constant, on all sides."""
LEARNING_STARTS = 1000
BUFFER_CAPACITY = 100_000


class Ours:
    """This package."""

    def __init__(self, setting: Setting, market_path: Path) -> None:
        ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        self._num_steps = 0
        self._algorithm = self._config(setting, market_path).build_algo()

    def sample(self) -> int:
        raise NotImplementedError

    def train(self) -> int:
        before = self._num_steps
        result = self._algorithm.train()
        self._num_steps = int(result[ENV_RUNNER_RESULTS]["num_env_steps_sampled_lifetime"])
        return self._num_steps - before

    def watched(self) -> Sequence[Watched]:
        return []

    def close(self) -> None:
        self._algorithm.stop()
        ray.shutdown()

    def _config(self, setting: Setting, market_path: Path) -> Any:
        config = DQNRunConfig(
            seed=setting.seed,
            market=MarketConfig(observation_filter="none"),
            network=QNetworkConfig(hidden_sizes=(256, 256)),
            training=DQNConfig(
                learning_rate=LEARNING_RATE,
                learning_rate_end=None,
                batch_size=setting.minibatch_size,
                buffer_capacity=BUFFER_CAPACITY,
                learning_starts=LEARNING_STARTS,
                rollout_steps=ROLLOUT_STEPS,
                steps_per_update=STEPS_PER_UPDATE,
                counterfactual_actions=0,  # the peers learn from the actions taken
            ),
            resources=DQNResourceConfig(num_envs_per_env_runner=setting.num_envs, device="cpu"),
        )
        return dqn.algorithm_config(config, market_path)


class Stock(Ours):
    """RLlib's own DQN, `PrioritizedEpisodeReplayBuffer` and env runner, over our vector environment."""

    def _config(self, setting: Setting, market_path: Path) -> Any:
        return (
            RLlibDQNConfig(algo_class=DQN)
            .environment(f"rllib_portfolio:{ENV_ID}", env_config={"data": str(market_path), "action_mode": "discrete"})
            .env_runners(
                num_env_runners=0,
                num_envs_per_env_runner=setting.num_envs,
                gym_env_vectorize_mode="vector_entry_point",
                rollout_fragment_length=ROLLOUT_STEPS,
            )
            .rl_module(
                model_config=DefaultModelConfig(
                    fcnet_hiddens=[256], fcnet_activation="relu", head_fcnet_hiddens=[256], head_fcnet_activation="relu"
                )
            )
            .training(
                train_batch_size_per_learner=setting.minibatch_size,
                # RLlib's unit: transitions learned from for each one sampled
                training_intensity=setting.minibatch_size / STEPS_PER_UPDATE,
                num_steps_sampled_before_learning_starts=LEARNING_STARTS,
                target_network_update_freq=1000,
                replay_buffer_config={
                    "type": "PrioritizedEpisodeReplayBuffer",
                    "capacity": BUFFER_CAPACITY,
                    "alpha": 0.6,
                    "beta": 0.4,
                },
                double_q=True,
                dueling=True,
                grad_clip=10.0,
                lr=LEARNING_RATE,
            )
            .debugging(seed=setting.seed, log_level="ERROR")
        )
