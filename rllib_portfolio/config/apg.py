"""The settings of analytic policy gradients, and the configuration of such a run."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from rllib_portfolio.config.environment import ContinuousEnvironmentConfig
from rllib_portfolio.config.fields import Coefficient, Count, Days, Fraction, LearningRate, Limit, Steps
from rllib_portfolio.config.networks import NetworkConfig
from rllib_portfolio.config.run import ResourceConfig, RunConfig, ScheduleConfig, TrainingConfig
from rllib_portfolio.config.user_values import validated

DISCOUNT_OF_A_ROW = 0.99
"""Default discount for each row between two decisions, with a critic."""


class APGConfig(TrainingConfig):
    """The training settings of analytic policy gradients."""

    learning_rate: LearningRate = 2e-3
    gamma: Fraction | None = None
    """Discount from one decision to the next. null: 1 without a critic, and 0.99 per row of the table with one."""
    horizon_days: Days = 32
    """Rows of the table over which the rewards of a portfolio are summed and differentiated. The number of decisions is
    horizon_days / rebalance_days, rounded up."""
    starts: Literal["learner", "env_runners"] = "learner"
    """learner: the learner itself draws the days and keeps the portfolios that it simulates. env_runners: env runners
    walk the market under the policy, and the learner repeats their walks to differentiate them."""
    backpropagate_holdings: bool = True
    """Differentiate through the portfolio weights that the policy observes; false treats them as constants."""
    bootstrap: bool = False
    """Add the value that a critic gives to the state at the end of the horizon (Xu et al. 2022, SHAC)."""
    value_coefficient: Coefficient = 0.5
    """Weight of the critic's squared error."""
    value_lambda: Fraction = 0.95
    """Lambda of the critic's targets, the exponential means of returns over all numbers of steps."""
    max_gradient_norm: Limit | None = 0.05
    """Largest norm of the gradient of each network, and of each critic, for rewards in units of their standard
    deviation; null does not clip. Most gradients are longer at first, so that updates have the same size. Without this
    Adam remembers the large gradients of the first updates for too long."""
    weight_decay: Coefficient = 0.0
    """Decoupled decay of the weight matrices: each step takes the share learning_rate * weight_decay off them."""
    feature_dropout: float = Field(0.0, ge=0, lt=1)
    """Probability with which each feature is replaced by 0, its mean over the training window, for a whole horizon."""

    @model_validator(mode="after")
    def _decay_leaves_something(self) -> Self:
        share = self.learning_rate * self.weight_decay
        if share >= 1.0:
            raise ValueError(
                f"training.learning_rate * training.weight_decay must be below 1, got {share:g}: each step would take "
                "that share off the weights. Lower one of them."
            )
        return self


class APGScheduleConfig(ScheduleConfig):
    """The schedule with the default of analytic policy gradients, which need fewer steps than PPO."""

    total_timesteps: Steps = 100_000
    checkpoint_interval: Steps = 25_000
    evaluation_interval: Steps = 10_000


class APGResourceConfig(ResourceConfig):
    """The resources, with seeds that are trained as one program.

    There are fewer portfolios than PPO's environments: their gradients have less noise, so that more updates serve
    better than larger ones.
    """

    num_envs_per_env_runner: Count = 32
    env_runner: Literal["vectorised"] = "vectorised"
    """RLlib's env runner does not tell the state of the environments."""
    learner: Literal["fused"] = "fused"
    """RLlib has no learner that differentiates the accounting."""
    mixed_precision: None = None
    """Costs of a few basis points would be lost in half precision."""
    num_stacked_seeds: int = Field(1, ge=1, le=1024)
    """Number S of seeds that are trained together as one program, with the seeds seed, seed + 1, ... The policy of the
    run is their ensemble. Steps are counted for each seed. `backtest.py walk-forward` sets it to its number of
    seeds."""


class APGRunConfig(RunConfig):
    """The configuration of a run with analytic policy gradients."""

    algo: Literal["apg"] = "apg"
    environment: ContinuousEnvironmentConfig = ContinuousEnvironmentConfig()
    network: NetworkConfig = NetworkConfig()
    training: APGConfig = APGConfig()
    schedule: APGScheduleConfig = APGScheduleConfig()
    resources: APGResourceConfig = APGResourceConfig()

    @property
    def rollout_steps(self) -> int:
        """Number of decisions within the horizon."""
        return -(-self.training.horizon_days // self.environment.rebalance_days)

    @property
    def discount(self) -> float:
        """Discount from one decision to the next."""
        if self.training.gamma is not None:
            return self.training.gamma
        return float(DISCOUNT_OF_A_ROW**self.environment.rebalance_days) if self.training.bootstrap else 1.0

    @property
    def seeds(self) -> range:
        """The seeds that the run trains."""
        return range(self.seed, self.seed + self.resources.num_stacked_seeds)

    @property
    def stacks_seeds(self) -> bool:
        """Whether a run with these settings can train several seeds as one program."""
        return self.training.starts == "learner"

    def with_seeds(self, first: int, number: int = 1) -> Self:
        """Return the configuration of a run that trains other seeds, see `RunConfig.with_seeds`."""
        values = {**self.resources.model_dump(), "num_stacked_seeds": number}
        resources = validated(APGResourceConfig, values, f"resources for {number} seeds")
        return super().with_seeds(first).model_copy(update={"resources": resources})

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        resources, starts = self.resources, self.training.starts
        rules: tuple[tuple[str, Any, bool, str, str], ...] = (
            (
                "resources.num_env_runners",
                resources.num_env_runners,
                starts == "learner" and resources.num_env_runners > 0,
                "be 0 with training.starts=learner",
                "Set training.starts=env_runners to sample with env runners.",
            ),
            (
                "resources.num_stacked_seeds",
                resources.num_stacked_seeds,
                starts == "env_runners" and resources.num_stacked_seeds > 1,
                "be 1 with training.starts=env_runners",
                "Each seed needs portfolios of its own: set training.starts=learner.",
            ),
            (
                "resources.num_envs_per_env_runner",
                resources.num_envs_per_env_runner,
                resources.num_envs % max(1, resources.num_learners) > 0,
                f"be a multiple of resources.num_learners, {resources.num_learners}",
                "Each learner takes an equal part of the portfolios.",
            ),
            (
                "market.observation_filter",
                self.market.observation_filter,
                self.market.observation_filter == "running",
                "be train_window or none for apg",
                "The running filter belongs to env runners.",
            ),
        )
        for name, value, is_broken, must, remedy in rules:
            if is_broken:
                raise ValueError(f"{name} must {must}, got {value}. {remedy}")
        return self
