"""The run configuration: what a YAML file may say, with bounds, and nothing else.

Unknown keys are errors. This floor knows no ray and no torch.
"""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from rllib_portfolio.config.user_values import is_annual_rate

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
LearningRate = Annotated[float, Field(gt=0, le=1)]
"""Adam moves each weight by about this much a step, whatever the gradient."""
Coefficient = Annotated[float, Field(ge=0, le=1e6)]
"""A factor of a loss or a reward, whose product single precision must hold."""
Limit = Annotated[float, Field(ge=1e-12, le=1e6)]
"""A threshold that single precision must hold, and from zero tell."""
Days = Annotated[int, Field(ge=1, le=1_000_000)]
Count = Annotated[int, Field(ge=1, le=1_000_000_000)]
Steps = Annotated[int, Field(ge=1, le=900_000_000)]
"""Environment steps; their number has the nine digits of a checkpoint's name."""
Processes = Annotated[int, Field(ge=0, le=10_000)]
Share = Annotated[float, Field(ge=0, le=10_000)]
"""CPUs or GPUs that a process reserves; fractions are allowed."""
Seed = Annotated[int, Field(ge=0, lt=2**31)]
RowsPerYear = Annotated[int, Field(ge=1, le=366)]
LayerSize = Annotated[int, Field(ge=1, le=8192)]
CostBps = Annotated[float, Field(ge=0, lt=5000)]
IsoDay = Annotated[str, BeforeValidator(lambda day: day.isoformat() if isinstance(day, date) else day)]
"""A date as ISO text; YAML reads one without quotes as a date."""
ColumnName = Annotated[str, StringConstraints(strip_whitespace=True)]
"""A column of a table, whose names have no spaces around them."""
DateWindow = tuple[IsoDay, IsoDay]
"""First and last date, both inclusive, as ISO text."""


class StrictModel(BaseModel):
    """A frozen model that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class FeatureConfig(StrictModel):
    """The features of an observation. An empty tuple or null switches a feature off. All windows count rows."""

    log_return_days: tuple[Days, ...] = (1, 5, 21)
    """Log return over each horizon, per asset."""
    momentum_days: tuple[Annotated[int, Field(ge=22, le=1_000_000)], ...] = (126, 252)
    """Log return over each horizon, the last 21 days left out, per asset."""
    volatility_days: tuple[Annotated[int, Field(ge=2, le=1_000_000)], ...] = (21, 63)
    """Sample standard deviation of daily log returns, per asset."""
    drawdown_days: Days | None = 252
    """Distance below the highest close of the window, per asset."""
    rsi_days: Days | None = 14
    """Relative strength index (Wilder), scaled to [-1, 1], per asset."""
    macd_days: tuple[Days, Days, Days] | None = (12, 26, 9)
    """Fast, slow and signal span of the MACD histogram, divided by the price and within [-1, 1], per asset."""
    moving_average_days: tuple[Days, ...] = (50, 200)
    """Log distance of the close from its moving average, per asset."""
    cross_section: Literal["values", "ranks"] = "values"
    """Asset features as they are, or as ranks among the assets of the same day, scaled to [-1, 1]."""
    index: bool = True
    """Volatility (21, 63 days) and trend (21, 252 days) of the index, where there is one."""
    num_gmm_regimes: int = Field(3, ge=0, le=8)
    """Components of a Gaussian mixture on market return and volatility; 0 or 1 switches it off."""
    num_hmm_regimes: int = Field(2, ge=0, le=4)
    """States of a hidden Markov model on market returns, filtered; 0 or 1 switches it off."""
    user_columns: bool = True
    """Use the extra columns of the user's own table: VIX, regimes, sentiment and the one that `cash_rate` names."""
    custom: tuple[str, ...] = ()
    """The user's own features, each as `module:function`: prices (DataFrame) -> DataFrame per asset, or Series."""


class MarketConfig(StrictModel):
    """Where prices come from, how they are split by date, and what is computed from them."""

    data: str | dict[str, Any] = "sp500"
    """`sp500`, the path of a CSV or Parquet table, or a synthetic market as {source: kelly, ...}."""
    index_path: str | None = None
    """CSV or Parquet table with the index level, for own data."""
    assets: tuple[ColumnName, ...] | None = None
    """A subset of the universe, in this order; null takes all."""
    fill_days: int = Field(0, ge=0, le=30)
    """Forward-fill at most so many missing days in a row; 0 refuses any gap."""
    cash_rate: float | ColumnName = 0.02
    """Annual rate that cash earns, as a fraction, or the name of a column of the table."""
    train: DateWindow | None = None
    validation: DateWindow | None = None
    test: DateWindow | None = None
    """Date windows; null: 1990-2011 / 2012-2015 / 2016-2022 for `sp500`, 60 / 20 / 20 % of the days for own data.
    The training window also loses its end to the purge, as many days as the longest feature looks back."""
    periods_per_year: RowsPerYear | None = None
    """Rows per year, for annual figures; null infers them from the dates (252 for weekdays and simulated markets)."""
    accept_moves: bool = False
    """Accept columns that do not look like prices, and moves beyond -60 % or +150 % from one row to the next."""
    features: FeatureConfig = FeatureConfig()
    observation_filter: Literal["train_window", "running", "none"] = "train_window"
    """Standardise features by moments of the training window that are robust to a single outlying asset, and limit them
    to 32 in absolute value; or by RLlib's running MeanStdFilter; or not at all."""

    @field_validator("cash_rate", mode="before")
    @classmethod
    def _rate_is_a_fraction(cls, rate: Any) -> Any:
        if isinstance(rate, int | float) and not is_annual_rate(rate):
            raise PydanticCustomError("annual_rate", "an annual rate must be a fraction (divide per cent by 100)")
        return rate


class ExecutionConfig(StrictModel):
    """What trading costs and what a portfolio may hold: the same for every policy and every baseline."""

    cost_bps: CostBps | tuple[CostBps, ...] = 10.0
    """Proportional cost of traded notional in basis points, one number or one per asset."""
    impact: float = Field(0.0, ge=0, le=100)
    """k of the impact term k * sigma * |dw|^1.5, sigma the asset's trailing daily volatility."""
    execution_lag: Literal[0, 1] = 1
    """Days between the close that is observed and the close that is traded."""
    rebalance_days: Days = 1
    """Days between decisions."""
    max_weight: float = Field(1.0, gt=0, le=1)
    """Largest target weight of a risky asset; what is above goes to cash."""
    max_turnover: float = Field(1.0, gt=0, le=1)
    """Largest turnover (half the L1 distance) of one decision."""
    min_cash: Fraction = 0.0
    """Smallest target weight of cash."""


class EnvironmentConfig(ExecutionConfig):
    """How an environment walks its window, what it asks for and what it pays."""

    action_mode: Literal["continuous", "discrete"] = "continuous"
    logit_scale: float = Field(10.0, gt=0, le=100)
    """Continuous actions: weights = softmax(logit_scale * action)."""
    action_table: Literal["auto", "lattice", "ladder"] = "auto"
    """Discrete actions: simplex lattice, equity ladder with tilts, or `auto`: the lattice for up to 3 assets."""
    action_levels: int = Field(4, ge=1, le=100)
    """Discrete actions: steps between no equity and all equity."""
    reward: str = "excess_log_return"
    """log_return; excess_log_return over the uniform portfolio with cash; differential_sharpe of the return over cash;
    active_log_return, active_mean_variance and differential_information over 1/N of the risky assets;
    drawdown_penalised; mean_variance; or `module:function`."""
    sharpe_decay: float = Field(1 / 252, gt=0, lt=1)
    """eta of the differential Sharpe and information ratios: the weight of one decision's return in their moments."""
    drawdown_penalty: Coefficient = 1.0
    """Weight of an increase of the drawdown."""
    risk_aversion: Coefficient = 1.0
    """kappa of the mean-variance rewards."""
    episode_days: Days | None = 252
    """Days before an episode is truncated; null walks the whole window."""
    random_start: bool | None = None
    """Start at a random day; null: true for the training window, false elsewhere."""


class ContinuousEnvironmentConfig(EnvironmentConfig):
    """The environment of an algorithm with continuous actions."""

    action_mode: Literal["continuous"] = "continuous"


class DiscreteEnvironmentConfig(EnvironmentConfig):
    """The environment of an algorithm with discrete actions."""

    action_mode: Literal["discrete"] = "discrete"


PER_ASSET_FROM = 50
"""Number of assets from which on `network.architecture: auto` chooses per_asset."""
PER_ASSET_SIZES = (16,)
"""Hidden layers of the per_asset network that `auto` chooses; `hidden_sizes` applies to the flat one."""


class NetworkConfig(StrictModel):
    """The actor-critic."""

    architecture: Literal["auto", "flat", "per_asset"] = "auto"
    """flat: one network over the whole observation. per_asset: one small network with shared weights that scores each
    asset. auto: flat below 50 assets, otherwise per_asset with one hidden layer of 16."""
    hidden_sizes: tuple[LayerSize, ...] = Field((256, 256), min_length=1, max_length=16)
    """The first is the shared trunk (per asset: the encoder of an asset), the rest is each branch; flat needs both."""
    initial_log_std: float = Field(-0.7, ge=-5, le=2)
    """Log standard deviation of a fresh policy, in logits."""
    initial_cash_logit: float = Field(0.0, ge=-10, le=10)
    """Logit of cash in a fresh policy, those of the assets being 0: 0 starts at the uniform portfolio over assets and
    cash, -5 at 1/N of the assets with next to no cash."""

    @field_validator("hidden_sizes")
    @classmethod
    def _flat_has_branches(cls, sizes: tuple[int, ...], info: ValidationInfo) -> tuple[int, ...]:
        if len(sizes) < 2 and info.data.get("architecture") in ("auto", "flat"):
            raise PydanticCustomError(
                "too_short", "tuple should have at least 2 items where architecture is flat, or auto, which may be flat"
            )
        return sizes

    def for_assets(self, num_assets: int) -> Self:
        """Return the settings with `auto` replaced by the architecture for `num_assets` assets."""
        if self.architecture != "auto":
            return self
        if num_assets < PER_ASSET_FROM:
            return self.model_copy(update={"architecture": "flat"})
        return self.model_copy(update={"architecture": "per_asset", "hidden_sizes": PER_ASSET_SIZES})


class QNetworkConfig(StrictModel):
    """The dueling noisy Q-network."""

    hidden_sizes: tuple[LayerSize, LayerSize] = (256, 256)
    """Width of the features, and of each stream."""
    dueling: bool = True
    """Two streams, value and advantage; or one for the action values."""
    noisy: bool = True
    """Explore by noise on the weights; or epsilon-greedily (`training.epsilon_*`)."""
    sigma0: float = Field(0.1, ge=0, le=100)
    """Initial noise (Fortunato et al. 2017; their 0.5 is for networks that learn from the actions taken alone)."""


class PPOConfig(StrictModel):
    """PPO's own settings (Schulman et al. 2017)."""

    learning_rate: LearningRate = 1e-3
    """Learning rate of Adam for up to 20 assets. With N > 20 assets a flat network learns at 20 / N of it, so that the
    step of the policy does not grow with N."""
    learning_rate_end: Fraction | None = 0.0
    """Falls linearly to this over `total_timesteps`; null keeps it constant."""
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
    """Subtract what the growth of two portfolios explains of rewards and advantages, fitted to other episodes (fused
    learner)."""
    weight_decay: Coefficient = 0.0
    """Decoupled decay of the weight matrices: a step shrinks them by learning_rate * weight_decay (fused learner)."""
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


DISCOUNT_OF_A_ROW = 0.99
"""DQN's discount for each row between two decisions, where a decision changes what later ones can earn."""
REWARDS_OF_THE_STEP = ("log_return", "excess_log_return", "active_log_return", "mean_variance", "active_mean_variance")
"""Rewards that depend on what one step did to wealth and on nothing before it. A user's own reward may read the wealth,
so that it is not among them."""


class DQNConfig(StrictModel):
    """DQN's own settings."""

    learning_rate: LearningRate = 3e-4
    learning_rate_end: Fraction | None = 0.0
    """Falls linearly to this over `total_timesteps`; null keeps it constant."""
    gamma: Fraction | None = None
    """Discount from one decision to the next. null: 0 where a decision changes nothing for later ones but what the hold
    action drifts to, that is, without costs, impact and a limit of turnover, with a reward of the step alone; else 0.99
    a row of the table, so that the cost of a trade is weighed against what a hundred rows earn."""
    batch_size: Count = 16
    """Transitions, or days, drawn from the replay buffer for each gradient step."""
    buffer_capacity: Count = 100_000
    """Observations in the replay buffer."""
    learning_starts: Count = 1000
    """Transitions added to the buffer before the first gradient step."""
    rollout_steps: Count = 4
    """Steps of each environment between two visits to the learner."""
    steps_per_update: Count = 4
    """Environment steps, over all environments, for each gradient step."""
    target_update_interval: Steps = 1000
    """Environment steps over which the target network averages the weights, older ones counting exponentially less
    (Polyak averaging). The policy that is evaluated and saved decides with this average, too."""
    n_step: Count = 1
    """Rewards summed before bootstrapping."""
    counterfactual_actions: int = Field(64, ge=0, le=1_000_000)
    """Learned from each day drawn, with what they would have earned, all if there are no more; 0: the one taken, as
    with n_step above 1, RLlib's env runner or learner, or a running observation filter."""
    counterfactual_portfolios: bool = True
    """Half of the days a step later, from what an action at random left: portfolios that no policy goes to any more."""
    loss: Literal["huber", "mse"] = "mse"
    """mse: the squared error, whose minimum is the expected return. huber: its minimum lies between mean and median, so
    that rare large losses count for too little."""
    max_gradient_norm: Limit | None = None
    """Largest norm of a gradient; null clips none. A clip cuts the batches with rare large losses, so that the mean is
    lost."""
    double_q: bool = True
    prioritized: bool = True
    per_alpha: Fraction = 0.6
    per_beta_start: Fraction = 1.0
    """Exponent of the importance weights. Below 1 the days that surprise most count for too much."""
    per_beta_end: Fraction = 1.0
    """Reached at `total_timesteps`."""
    per_epsilon: Limit = 1e-6
    epsilon_start: Fraction = 1.0
    """Probability of a random action, where the network has no noise to explore with."""
    epsilon_end: Fraction = 0.05
    epsilon_fraction: float = Field(0.2, gt=0, le=1)
    """Share of `total_timesteps` over which the probability falls."""
    normalize_rewards: bool = True
    """Divide rewards by the running standard deviation of their discounted sum."""
    store_buffer_in_checkpoints: bool = True
    """So that a resumed run continues exactly; without, it refills the buffer first."""


class ScheduleConfig(StrictModel):
    """How long a run goes on and what it does on the way. All intervals in environment steps."""

    total_timesteps: Steps = 500_000
    checkpoint_interval: Steps = 50_000
    checkpoints_kept: Count = 3
    evaluation_interval: Steps = 25_000
    early_stopping_evaluations: Count | None = 8
    """Stop after this many evaluations in a row without a better validation score; null never stops early."""
    untrained_candidate: bool = True
    """Evaluate the untrained network, too, so that it is kept if training finds nothing better. This has no effect on a
    run that is evaluated only once, at its end."""
    selection_metric: Literal["sharpe_ratio", "information_ratio"] = "sharpe_ratio"
    """The validation score: the Sharpe ratio, or the information ratio over 1/N at the same costs."""


class DQNScheduleConfig(ScheduleConfig):
    """DQN's defaults: it makes fewer steps a second, so that it is looked at more often."""

    evaluation_interval: Steps = 10_000


class ResourceConfig(StrictModel):
    """Processes and devices."""

    num_env_runners: Processes = 0
    num_envs_per_env_runner: Count = 64
    num_cpus_per_env_runner: Share = 1.0
    num_learners: Processes = 0
    num_gpus_per_learner: Share | None = None
    """null: one where the device is cuda, else none."""
    device: Literal["cpu", "cuda", "auto"] = "auto"
    """Of the learners; auto: a GPU where `num_gpus_per_learner` asks for one, else the CPU."""
    torch_threads: int = Field(1, ge=1, le=1024)
    env_runner: Literal["vectorised", "stock"] = "vectorised"
    """Our env runner, or RLlib's."""
    learner: Literal["fused", "stock"] = "fused"
    """Our learner, or RLlib's."""
    mixed_precision: Literal["bf16", "fp16"] | None = None
    """Learn in half precision; pays on CUDA with wide networks and large minibatches."""
    compile_update: bool = False
    """Run the loss through torch.compile."""

    @model_validator(mode="after")
    def _device_has_what_is_asked_for(self) -> Self:
        if self.device == "cpu" and self.num_gpus_per_learner:
            raise ValueError(
                f"num_gpus_per_learner must be null or 0 with device cpu, got {self.num_gpus_per_learner}. "
                "Use device cuda, or auto."
            )
        return self

    @property
    def gpus_per_learner(self) -> float:
        """What each learner, or the run's own process where there is none, asks of a cluster."""
        if self.num_gpus_per_learner is not None:
            return self.num_gpus_per_learner
        return 1.0 if self.device == "cuda" else 0.0

    @property
    def num_envs(self) -> int:
        """Environments that sample at the same time, over all env runners."""
        return self.num_envs_per_env_runner * max(1, self.num_env_runners)


class DQNResourceConfig(ResourceConfig):
    """DQN's defaults."""

    num_envs_per_env_runner: Count = 8


class RunConfig(StrictModel):
    """One training run, complete; what `network` and `training` hold is the algorithm's: see its subclasses."""

    algo: str
    seed: Seed = 0
    market: MarketConfig = MarketConfig()
    environment: EnvironmentConfig = EnvironmentConfig()
    network: NetworkConfig | QNetworkConfig
    training: PPOConfig | DQNConfig
    schedule: ScheduleConfig = ScheduleConfig()
    resources: ResourceConfig = ResourceConfig()

    @property
    def discount(self) -> float:
        """Return gamma."""
        assert self.training.gamma is not None
        return self.training.gamma

    def for_assets(self, num_assets: int) -> Self:
        """Return the configuration with every choice that depends on the number of assets resolved."""
        if isinstance(self.network, QNetworkConfig):
            return self
        return self.model_copy(update={"network": self.network.for_assets(num_assets)})


class PPORunConfig(RunConfig):
    """A run of PPO."""

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


class DQNRunConfig(RunConfig):
    """A run of DQN."""

    algo: Literal["dqn"] = "dqn"
    environment: DiscreteEnvironmentConfig = DiscreteEnvironmentConfig()
    network: QNetworkConfig = QNetworkConfig()
    training: DQNConfig = DQNConfig()
    schedule: DQNScheduleConfig = DQNScheduleConfig()
    resources: DQNResourceConfig = DQNResourceConfig()

    @property
    def discount(self) -> float:
        """Return gamma, computed where `training.gamma` is null."""
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


RUN_CONFIGS: dict[str, type[RunConfig]] = {"ppo": PPORunConfig, "dqn": DQNRunConfig}
