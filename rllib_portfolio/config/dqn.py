"""The settings of DQN, and the configuration of a DQN run."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from rllib_portfolio.config.environment import DiscreteEnvironmentConfig
from rllib_portfolio.config.fields import Count, Fraction, LayerSize, LearningRate, Limit, Steps
from rllib_portfolio.config.networks import AnyNetworkConfig
from rllib_portfolio.config.run import ResourceConfig, RunConfig, ScheduleConfig, TrainingConfig

PER_ASSET_Q_SIZES = (16, 32)
"""Hidden layers of the per_asset network that `auto` chooses; `hidden_sizes` applies to the flat one."""


class QNetworkConfig(AnyNetworkConfig):
    """The dueling noisy Q-network."""

    per_asset_sizes = PER_ASSET_Q_SIZES

    architecture: Literal["auto", "flat", "per_asset"] = "auto"
    """flat: one network over the whole observation. per_asset: an encoder with shared weights reads each asset. auto:
    flat where all assets are always there, otherwise per_asset with layers of 16 and 32."""
    hidden_sizes: tuple[LayerSize, LayerSize] = (256, 256)
    """Width of the shared feature layer (per_asset: of the encoder of an asset), and of the hidden layer of each
    stream."""
    dueling: bool = True
    """Use two streams, one for the value and one for the advantages, instead of one for the action values."""
    noisy: bool = True
    """Explore by noise on the weights instead of epsilon-greedily (`training.epsilon_*`)."""
    sigma0: float = Field(0.1, ge=0, le=100)
    """Initial noise (Fortunato et al. 2017). Their 0.5 is for networks that learn only from the actions taken."""


DISCOUNT_OF_A_ROW = 0.99
"""Default discount for each row between two decisions, if a decision changes what later ones can earn."""
REWARDS_OF_THE_STEP = ("log_return", "excess_log_return", "active_log_return", "mean_variance", "active_mean_variance")
"""Rewards that depend only on how one step changed the wealth. A user's own reward may read the wealth itself, so that
it is not included."""


class DQNConfig(TrainingConfig):
    """The training settings of DQN."""

    learning_rate: LearningRate = 3e-4
    gamma: Fraction | None = None
    """Discount from one decision to the next. null computes it. It is 0 if a decision changes nothing for later ones
    except the weights that the hold action keeps: without costs, impact and turnover limit, and with a reward that
    depends on the step alone. Otherwise it is 0.99 per row of the table, so that the cost of a trade is weighed against
    the returns of about a hundred rows."""
    batch_size: Count = 16
    """Transitions (days) drawn from the replay buffer for each gradient step."""
    buffer_capacity: Count = 100_000
    """Largest number of observations in the replay buffer."""
    learning_starts: Count = 1000
    """Transitions added to the buffer before the first gradient step."""
    rollout_steps: Count = 4
    """Steps of each environment between two rounds of updates."""
    steps_per_update: Count = 4
    """Environment steps, over all environments, for each gradient step."""
    target_update_interval: Steps = 1000
    """Environment steps over which the target network averages the weights, with exponentially less influence of older
    ones (Polyak averaging). The policy that is evaluated and saved uses this average, too."""
    n_step: Count = 1
    """Number of rewards that are summed before bootstrapping."""
    counterfactual_actions: int = Field(64, ge=0, le=1_000_000)
    """Largest number of actions that are learned from for each sampled day, with the rewards that they would have had.
    0 learns only from the action taken; so do n_step above 1, RLlib's env runner or learner, and a running observation
    filter."""
    counterfactual_portfolios: bool = True
    """Let half of the sampled days start one step later, from the portfolio that a random action would have left. This
    covers portfolios that the policy no longer holds."""
    loss: Literal["huber", "mse"] = "mse"
    """mse: the squared error, which the expected return minimises. huber: its minimiser lies between mean and median,
    so that rare large losses count too little."""
    max_gradient_norm: Limit | None = None
    """Largest norm of a gradient; null does not clip. Clipping weakens the batches with rare large losses, so that the
    network no longer learns the mean."""
    double_q: bool = True
    prioritized: bool = True
    per_alpha: Fraction = 0.6
    per_beta_start: Fraction = 1.0
    """Initial exponent of the importance weights. Below 1, the days with the largest errors count too much."""
    per_beta_end: Fraction = 1.0
    """Exponent of the importance weights at `total_timesteps`."""
    per_epsilon: Limit = 1e-6
    epsilon_start: Fraction = 1.0
    """Initial probability of a random action, if the network is not noisy."""
    epsilon_end: Fraction = 0.05
    epsilon_fraction: float = Field(0.2, gt=0, le=1)
    """Share of `total_timesteps` over which the probability falls to `epsilon_end`."""
    normalize_rewards: bool = True
    """Divide rewards by the running standard deviation of their discounted sum."""
    store_buffer_in_checkpoints: bool = True
    """Store the replay buffer, so that a resumed run continues exactly; otherwise it refills the buffer first."""


class DQNScheduleConfig(ScheduleConfig):
    """The schedule with DQN's default. DQN makes fewer steps a second, so that it is evaluated after fewer of them."""

    evaluation_interval: Steps = 10_000


class DQNResourceConfig(ResourceConfig):
    """The resources with DQN's default."""

    num_envs_per_env_runner: Count = 8


class DQNRunConfig(RunConfig):
    """The configuration of a DQN run."""

    algo: Literal["dqn"] = "dqn"
    environment: DiscreteEnvironmentConfig = DiscreteEnvironmentConfig()
    network: QNetworkConfig = QNetworkConfig()
    training: DQNConfig = DQNConfig()
    schedule: DQNScheduleConfig = DQNScheduleConfig()
    resources: DQNResourceConfig = DQNResourceConfig()

    @property
    def discount(self) -> float:
        """Discount from one decision to the next, computed if `training.gamma` is null."""
        if self.training.gamma is not None:
            return self.training.gamma
        environment = self.environment
        costs = environment.cost_bps if isinstance(environment.cost_bps, tuple) else (environment.cost_bps,)
        trades_freely = not any(costs) and environment.impact == 0.0 and environment.max_turnover == 1.0
        if trades_freely and environment.reward in REWARDS_OF_THE_STEP:
            return 0.0
        return float(DISCOUNT_OF_A_ROW**environment.rebalance_days)

    @model_validator(mode="after")
    def _buffer_fits(self) -> Self:
        training = self.training
        if training.n_step > training.rollout_steps:
            raise ValueError(
                f"training.n_step must be at most training.rollout_steps, {training.rollout_steps}, got "
                f"{training.n_step}. Raise training.rollout_steps."
            )
        fragment = (training.rollout_steps + 1) * self.resources.num_envs
        least = max(training.learning_starts, training.batch_size, fragment)
        if training.buffer_capacity <= least:
            raise ValueError(
                f"training.buffer_capacity must exceed learning_starts, the batch and one fragment, {least}, got "
                f"{training.buffer_capacity}. Raise it."
            )
        return self

    @model_validator(mode="after")
    def _learners_share_the_batch(self) -> Self:
        num_learners = max(1, self.resources.num_learners)
        if self.training.batch_size % num_learners:
            raise ValueError(
                f"training.batch_size must be a multiple of resources.num_learners, {num_learners}, got "
                f"{self.training.batch_size}. Each learner takes an equal part."
            )
        return self
