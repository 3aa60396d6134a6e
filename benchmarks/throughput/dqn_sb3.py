"""Stable-Baselines3's DQN: uniform replay, a plain network, epsilon-greedy."""
# ruff: noqa: D102 - the methods are documented by `contenders.Contender`

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from stable_baselines3 import DQN
from stable_baselines3.common.vec_env import DummyVecEnv

from benchmarks.throughput.dqn import BUFFER_CAPACITY, LEARNING_RATE, LEARNING_STARTS, ROLLOUT_STEPS
from benchmarks.throughput.setting import STEPS_PER_UPDATE, Setting
from benchmarks.throughput.stopwatch import Watched
from rllib_portfolio.env import PortfolioEnv

STEPS_PER_CALL = 1024


class Dummy:
    """All environments in one process."""

    def __init__(self, setting: Setting, market_path: Path) -> None:
        make = partial(PortfolioEnv, str(market_path), action_mode="discrete")
        self._model = DQN(
            "MlpPolicy",
            DummyVecEnv([make] * setting.num_envs),
            learning_rate=LEARNING_RATE,
            buffer_size=BUFFER_CAPACITY,
            learning_starts=LEARNING_STARTS,
            batch_size=setting.minibatch_size,
            gamma=setting.gamma,
            train_freq=ROLLOUT_STEPS,
            gradient_steps=ROLLOUT_STEPS * setting.num_envs // STEPS_PER_UPDATE,
            target_update_interval=1000,
            max_grad_norm=10.0,
            policy_kwargs={"net_arch": [256, 256]},
            seed=setting.seed,
            device="cpu",
        )

    def sample(self) -> int:
        raise NotImplementedError

    def train(self) -> int:
        before = self._model.num_timesteps
        self._model.learn(STEPS_PER_CALL, log_interval=10**9, reset_num_timesteps=False)
        return int(self._model.num_timesteps - before)

    def watched(self) -> Sequence[Watched]:
        return []

    def close(self) -> None:
        self._model.env.close()
