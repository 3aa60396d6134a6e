"""DQN learners and algorithms of seconds: 2 environments x 4 steps, a network of 16 and 8."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.columns import Columns
from ray.rllib.core.learner.learner import Learner
from ray.rllib.policy.sample_batch import MultiAgentBatch, SampleBatch

from rllib_portfolio.algorithms.dqn import algorithm as dqn
from rllib_portfolio.algorithms.replay.replay_buffer import N_STEP, WEIGHTS
from rllib_portfolio.config import DQNRunConfig
from rllib_portfolio.env.portfolio_env import provide_market
from tests.env.markets import market_of

SETTINGS: dict[str, dict[str, Any]] = {
    "environment": {"episode_days": 7},
    "network": {"hidden_sizes": (16, 8)},
    "training": {"batch_size": 8, "buffer_capacity": 200, "learning_starts": 20, "target_update_interval": 40},
    "schedule": {"total_timesteps": 400},
    "resources": {"num_envs_per_env_runner": 2, "device": "cpu"},
}
D, K = 7, 4
MARKET, MARKET_PATH = market_of(np.zeros((20, 3))), Path("in memory.npz")
provide_market(str(MARKET_PATH), MARKET)


def run_config(settings: Mapping[str, Any] | None = None) -> DQNRunConfig:
    """The settings above, with `section.setting` values on top."""
    values = {name: dict(section) for name, section in SETTINGS.items()}
    for name, value in (settings or {}).items():
        section, _, setting = name.partition(".")
        values.setdefault(section, {})[setting] = value
    return DQNRunConfig(seed=3, **values)


def build_learner(settings: Mapping[str, Any] | None = None, learner_class: type[Learner] | None = None) -> Any:
    """A learner over D observed numbers and K actions, in this process; equal weights whenever it is called."""
    torch.manual_seed(0)
    config = dqn.algorithm_config(run_config(settings), MARKET_PATH)
    spec = dqn.module_spec(run_config(settings), MARKET)
    spec.observation_space = gym.spaces.Box(-np.inf, np.inf, (D,), np.float32)
    spec.action_space = gym.spaces.Discrete(K)
    learner = (learner_class or config.learner_class)(config=config, module_spec=spec)
    learner.build()
    return learner


def random_columns(size: int = 8, seed: int = 0) -> dict[str, NDArray[Any]]:
    """A replay batch of noise; a third of its transitions terminate, and steps and weights differ."""
    generator = np.random.default_rng(seed)
    return {
        Columns.OBS: generator.normal(size=(size, D)).astype(np.float32),
        Columns.ACTIONS: generator.integers(K, size=size).astype(np.int32),
        Columns.REWARDS: generator.normal(size=size).astype(np.float32),
        Columns.NEXT_OBS: generator.normal(size=(size, D)).astype(np.float32),
        Columns.TERMINATEDS: generator.random(size) < 0.33,
        N_STEP: generator.integers(1, 4, size=size),
        WEIGHTS: generator.uniform(0.2, 1.0, size=size).astype(np.float32),
    }


def multi_agent(columns: dict[str, NDArray[Any]]) -> MultiAgentBatch:
    return MultiAgentBatch({DEFAULT_MODULE_ID: SampleBatch(columns)}, env_steps=len(columns[Columns.ACTIONS]))


def module_of(learner: Any) -> Any:
    return learner.module[DEFAULT_MODULE_ID].unwrapped()


def weights(learner: Any) -> dict[str, NDArray[Any]]:
    """Copies of the online and target parameters."""
    return {name: np.array(value) for name, value in module_of(learner).get_state().items()}
