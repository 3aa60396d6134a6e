"""DQN: RLlib with this package's buffer, learner and env runner; RLlib as it comes; Stable-Baselines3.

All make one gradient step on 64 transitions for every 4 environment steps over 8 environments, 8 steps after each 4
steps of the environments. Ours alone has noisy streams, about twice the arithmetic of the others' plain layers; SB3's
replay is uniform, RLlib's and ours are prioritized.
"""
# ruff: noqa: D102 - the methods are documented by `contenders.Contender`

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.peers import env_arguments, sb3_dqn, stock_dqn_config
from benchmarks.throughput import rllib
from benchmarks.throughput.setting import STEPS_PER_UPDATE, Setting
from rllib_portfolio.config import DQNConfig, DQNResourceConfig, DQNRunConfig, MarketConfig, QNetworkConfig
from rllib_portfolio.env import PortfolioEnv

SB3_STEPS_PER_CALL = 1024


def run_config(setting: Setting) -> DQNRunConfig:
    """Return the run configuration of a setting; the learning rate is constant, and only taken actions are learned."""
    return DQNRunConfig(
        seed=setting.seed,
        market=MarketConfig(observation_filter="none"),
        network=QNetworkConfig(hidden_sizes=setting.hidden_sizes),
        training=DQNConfig(
            learning_rate=1e-4,
            learning_rate_end=None,
            gamma=setting.gamma,
            batch_size=setting.minibatch_size,
            buffer_capacity=100_000,
            learning_starts=1000,
            rollout_steps=4,
            steps_per_update=STEPS_PER_UPDATE,
            counterfactual_actions=0,  # the peers learn from the actions taken
        ),
        resources=DQNResourceConfig(num_envs_per_env_runner=setting.num_envs, device="cpu"),
    )


class Ours(rllib.Ours):
    """This package."""

    def sample(self) -> int:
        raise NotImplementedError

    def _config(self, setting: Setting, market_path: Path) -> Any:
        from rllib_portfolio.algorithms.dqn import algorithm as dqn

        return dqn.algorithm_config(run_config(setting), market_path)


class Stock(Ours):
    """RLlib's own DQN, `PrioritizedEpisodeReplayBuffer` and env runner, over our vector environment."""

    def _config(self, setting: Setting, market_path: Path) -> Any:
        return stock_dqn_config(run_config(setting), market_path)


class StableBaselines:
    """Stable-Baselines3 with all environments in one process."""

    def __init__(self, setting: Setting, market_path: Path) -> None:
        from stable_baselines3.common.vec_env import DummyVecEnv

        config = run_config(setting)
        make = partial(PortfolioEnv, **env_arguments(config, market_path))
        self._model = sb3_dqn(config, DummyVecEnv([make] * setting.num_envs))

    def sample(self) -> int:
        raise NotImplementedError

    def train(self) -> int:
        before = self._model.num_timesteps
        self._model.learn(SB3_STEPS_PER_CALL, log_interval=10**9, reset_num_timesteps=False)
        return int(self._model.num_timesteps - before)

    def close(self) -> None:
        self._model.env.close()
