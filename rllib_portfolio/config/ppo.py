"""The settings of PPO, and the configuration of a PPO run."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from rllib_portfolio.config.environment import ContinuousEnvironmentConfig
from rllib_portfolio.config.fields import Coefficient, Count, Fraction, LearningRate, Limit
from rllib_portfolio.config.networks import NetworkConfig
from rllib_portfolio.config.run import RunConfig, TrainingConfig


class PPOConfig(TrainingConfig):
    """The training settings of PPO (Schulman et al. 2017)."""

    learning_rate: LearningRate = 1e-3
    """Learning rate of Adam for up to 20 assets. With N > 20 assets, a flat network uses 20 / N of it, so that the
    change of the policy per step does not grow with N."""
    gamma: Fraction = 0.99
    gae_lambda: Fraction = 0.3
    clip: Limit = 0.2
    value_coefficient: Coefficient = 0.5
    value_clip: Limit | None = None
    entropy_coefficient: Coefficient = 0.0
    num_epochs: int = Field(4, ge=1, le=1_000)
    minibatch_size: Count = 512
    rollout_steps: Count = 32
    """Steps of each environment in one batch."""
    max_gradient_norm: Limit | None = 0.5
    use_kl_loss: bool = False
    kl_coefficient: Coefficient = 0.2
    kl_target: Limit = 0.01
    normalize_rewards: bool = True
    """Divide rewards by the running standard deviation of their discounted sum."""
    market_baseline: bool = True
    """Subtract the part of rewards and advantages that the growth of two portfolios explains, by a regression that is
    fitted to other episodes (fused learner)."""
    weight_decay: Coefficient = 0.0
    """Decoupled decay of the weight matrices: each step takes the share learning_rate * weight_decay off them (fused
    learner)."""
    max_kl: Limit | None = 2.0
    """End the epochs of an update once the KL divergence from the sampling policy, in nats, exceeds this on a
    minibatch; null never does (fused learner). The first updates of healthy runs reach 0.8."""

    @model_validator(mode="after")
    def _decay_leaves_something(self) -> Self:
        share = self.learning_rate * self.weight_decay
        if share >= 1.0:
            raise ValueError(
                f"training.learning_rate * training.weight_decay must be below 1, got {share:g}: each step would take "
                "that share off the weights. Lower one of them."
            )
        return self


class PPORunConfig(RunConfig):
    """The configuration of a PPO run."""

    algo: Literal["ppo"] = "ppo"
    environment: ContinuousEnvironmentConfig = ContinuousEnvironmentConfig()
    network: NetworkConfig = NetworkConfig()
    training: PPOConfig = PPOConfig()

    @model_validator(mode="after")
    def _minibatch_fits_batch(self) -> Self:
        batch = self.training.rollout_steps * self.resources.num_envs
        if self.training.minibatch_size > batch:
            raise ValueError(
                f"training.minibatch_size must be at most the batch of {batch} steps, got "
                f"{self.training.minibatch_size}. Lower it, or raise training.rollout_steps."
            )
        return self

    @model_validator(mode="after")
    def _baseline_knows_the_portfolio(self) -> Self:
        is_running = self.market.observation_filter == "running"
        if self.environment.partial_trading and self.training.market_baseline and is_running:
            raise ValueError(
                "training.market_baseline must be false with environment.partial_trading and "
                "market.observation_filter=running, got true. The baseline reads the portfolio's weights in "
                "observations, which the running filter changes."
            )
        return self
