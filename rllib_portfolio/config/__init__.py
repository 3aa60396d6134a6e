"""The run configuration: all settings that a YAML file may hold, with their bounds.

Unknown keys are errors. This package imports neither ray nor torch.
"""

from rllib_portfolio.config.apg import APGConfig, APGRunConfig
from rllib_portfolio.config.dqn import DQNConfig, DQNResourceConfig, DQNRunConfig, DQNScheduleConfig, QNetworkConfig
from rllib_portfolio.config.environment import (
    ContinuousEnvironmentConfig,
    DiscreteEnvironmentConfig,
    EnvironmentConfig,
    ExecutionConfig,
)
from rllib_portfolio.config.market import FeatureConfig, MarketConfig
from rllib_portfolio.config.networks import PER_ASSET_FROM, NetworkConfig
from rllib_portfolio.config.ppo import PPOConfig, PPORunConfig
from rllib_portfolio.config.registry import DEFAULT_ALGORITHM, RUN_CONFIGS
from rllib_portfolio.config.run import ResourceConfig, RunConfig, ScheduleConfig

__all__ = [
    "DEFAULT_ALGORITHM",
    "PER_ASSET_FROM",
    "RUN_CONFIGS",
    "APGConfig",
    "APGRunConfig",
    "ContinuousEnvironmentConfig",
    "DQNConfig",
    "DQNResourceConfig",
    "DQNRunConfig",
    "DQNScheduleConfig",
    "DiscreteEnvironmentConfig",
    "EnvironmentConfig",
    "ExecutionConfig",
    "FeatureConfig",
    "MarketConfig",
    "NetworkConfig",
    "PPOConfig",
    "PPORunConfig",
    "QNetworkConfig",
    "ResourceConfig",
    "RunConfig",
    "ScheduleConfig",
]
