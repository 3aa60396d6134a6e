"""The run configuration of each algorithm: an algorithm's only entry on this floor."""

from __future__ import annotations

from rllib_portfolio.config.dqn import DQNRunConfig
from rllib_portfolio.config.ppo import PPORunConfig
from rllib_portfolio.config.run import RunConfig

RUN_CONFIGS: dict[str, type[RunConfig]] = {"ppo": PPORunConfig, "dqn": DQNRunConfig}
