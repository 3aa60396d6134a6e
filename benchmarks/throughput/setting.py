"""The hyperparameters and the market that all contenders have in common."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import gymnasium as gym
import numpy as np

from rllib_portfolio.config import (
    ContinuousEnvironmentConfig,
    DQNConfig,
    DQNResourceConfig,
    DQNRunConfig,
    MarketConfig,
    NetworkConfig,
    PPOConfig,
    PPORunConfig,
    QNetworkConfig,
    ResourceConfig,
)
from rllib_portfolio.market import MarketData
from rllib_portfolio.market.simulators.synthetic import gbm_market

if TYPE_CHECKING:
    from rllib_portfolio.modules.actor_critic import LayerNormActorCritic

NUM_FEATURES = 7
NUM_DAYS = 8_000
INITIAL_LOG_STD = -0.7
"""Initial log standard deviation in logits, as in `rllib_portfolio.config.NetworkConfig`."""
STEPS_PER_UPDATE = 4
"""DQN: environment steps for each gradient step."""
LOGIT_SCALE = 10.0
"""Scale of the logits, as in `rllib_portfolio.config.EnvironmentConfig`."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One comparison; the learning rate is constant, and nobody normalises rewards or observations."""

    num_assets: int = 20
    num_envs: int = 8
    """Number of environments of each env runner."""
    rollout_steps: int = 256
    """Steps of each environment between updates."""
    minibatch_size: int = 64
    num_epochs: int = 10
    hidden_sizes: tuple[int, ...] = (256, 256)
    learning_rate: float = 3e-4
    gamma: float = 0.99
    gae_lambda: float = 0.95
    clip: float = 0.2
    value_coefficient: float = 0.5
    entropy_coefficient: float = 0.01
    max_gradient_norm: float = 0.5
    num_env_runners: int = 0
    """Processes that sample, for RLlib; 0 samples in the process that learns."""
    num_threads: int = 1
    """Number of threads of torch in the learning process."""
    seed: int = 0
    device: str = "cpu"
    """Device on which PPO of this package learns; it samples on the CPU."""
    mixed_precision: str | None = None

    @property
    def batch_size(self) -> int:
        """Steps between updates."""
        return self.num_envs * max(1, self.num_env_runners) * self.rollout_steps

    @property
    def observation_size(self) -> int:
        """D: the features of each asset, and the weights with cash."""
        return self.num_assets * NUM_FEATURES + self.action_size

    @property
    def action_size(self) -> int:
        """N + 1."""
        return self.num_assets + 1


_SHARED = ["learning_rate", "gamma", "gae_lambda", "clip", "value_coefficient", "entropy_coefficient"]
_SHARED += ["num_epochs", "minibatch_size", "rollout_steps", "max_gradient_norm"]
"""Hyperparameters of PPO that a setting names as the package does."""


def ppo_config(setting: Setting) -> PPORunConfig:
    """Return PPO's run configuration of a setting."""
    shared = {name: getattr(setting, name) for name in _SHARED}
    return PPORunConfig(
        seed=setting.seed,
        market=MarketConfig(observation_filter="none"),
        environment=ContinuousEnvironmentConfig(logit_scale=LOGIT_SCALE),
        network=NetworkConfig(hidden_sizes=setting.hidden_sizes, initial_log_std=INITIAL_LOG_STD),
        training=PPOConfig(**shared, learning_rate_end=None, normalize_rewards=False, market_baseline=False),
        resources=ResourceConfig(
            num_env_runners=setting.num_env_runners,
            num_envs_per_env_runner=setting.num_envs,
            device=setting.device,
            mixed_precision=setting.mixed_precision,
            torch_threads=setting.num_threads,
            env_runner="vectorised",
            learner="fused",
        ),
    )


def dqn_config(setting: Setting) -> DQNRunConfig:
    """Return DQN's run configuration of a setting: only taken actions are learned from, since the peers learn so."""
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
            counterfactual_actions=0,
        ),
        resources=DQNResourceConfig(num_envs_per_env_runner=setting.num_envs, device="cpu"),
    )


def actor_critic(setting: Setting) -> LayerNormActorCritic:
    """Return the package's network, for the sides that do without RLlib's algorithms."""
    from rllib_portfolio.modules.actor_critic import LayerNormActorCritic

    return LayerNormActorCritic(
        observation_space=gym.spaces.Box(-1.0, 1.0, (setting.observation_size,)),
        action_space=gym.spaces.Box(-1.0, 1.0, (setting.action_size,)),
        model_config={
            "hidden_sizes": setting.hidden_sizes,
            "initial_log_std": INITIAL_LOG_STD,
            "logit_scale": LOGIT_SCALE,
        },
    )


def market(num_assets: int) -> MarketData:
    """Geometric Brownian motions, and features of noise: what they say does not matter to speed."""
    plain = gbm_market(
        mean=np.linspace(0.02, 0.1, num_assets).tolist(),
        volatility=np.linspace(0.1, 0.3, num_assets).tolist(),
        correlation=0.3,
        num_days=NUM_DAYS,
        cash_rate=0.02,
    )
    noise = np.random.default_rng(0).standard_normal((NUM_DAYS, num_assets, NUM_FEATURES), dtype=np.float32)
    names = tuple(f"noise_{i}" for i in range(NUM_FEATURES))
    return replace(plain, asset_features=noise, asset_feature_names=names)


def market_file(num_assets: int, folder: Path) -> Path:
    """The prepared market of `num_assets` assets in `folder`, written if it is not there."""
    path = folder / f"market_{num_assets}.npz"
    if not path.is_file():
        market(num_assets).save(path)
    return path
