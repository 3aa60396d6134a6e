"""The configuration of a training run of any algorithm: schedule, processes and devices, and all sections together."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from rllib_portfolio.config.environment import EnvironmentConfig
from rllib_portfolio.config.fields import Count, Fraction, LearningRate, Processes, Seed, Share, Steps, StrictModel
from rllib_portfolio.config.market import MarketConfig
from rllib_portfolio.config.networks import AnyNetworkConfig
from rllib_portfolio.errors import ConfigError


class ScheduleConfig(StrictModel):
    """Length, checkpoints and evaluations of a run. All intervals are in environment steps."""

    total_timesteps: Steps = 500_000
    checkpoint_interval: Steps = 50_000
    checkpoints_kept: Count = 3
    evaluation_interval: Steps = 25_000
    early_stopping_evaluations: Count | None = 8
    """Stop after this many evaluations in a row without a better validation score; null never stops early."""
    untrained_candidate: bool = True
    """Evaluate the untrained network as well, so that it is kept if training finds nothing better. This has no effect
    on a run that is evaluated only once, at its end."""
    selection_metric: Literal["sharpe_ratio", "information_ratio"] = "sharpe_ratio"
    """The validation score: the Sharpe ratio, or the information ratio over 1/N at the same costs."""


class ResourceConfig(StrictModel):
    """Processes and devices."""

    num_env_runners: Processes = 0
    num_envs_per_env_runner: Count = 64
    num_cpus_per_env_runner: Share = 1.0
    num_learners: Processes = 0
    num_gpus_per_learner: Share | None = None
    """null: one if the device is cuda, else none."""
    device: Literal["cpu", "cuda", "auto"] = "auto"
    """Device of the learners; auto: a GPU if `num_gpus_per_learner` asks for one, else the CPU."""
    torch_threads: int = Field(1, ge=1, le=1024)
    env_runner: Literal["vectorised", "stock"] = "vectorised"
    """vectorised: the env runner of this package. stock: RLlib's."""
    learner: Literal["fused", "stock"] = "fused"
    """fused: the learner of this package. stock: RLlib's."""
    mixed_precision: Literal["bf16", "fp16"] | None = None
    """Learn in half precision. This is faster on CUDA with wide networks and large minibatches."""

    @model_validator(mode="before")
    @classmethod
    def _without_removed_settings(cls, values: Any) -> Any:
        """Drop `compile_update: false`, which the files of runs of former versions hold."""
        if not isinstance(values, dict) or "compile_update" not in values:
            return values
        if values["compile_update"] is not False:
            raise ValueError(
                f"compile_update was removed, got {values['compile_update']!r}: torch.compile made PPO's update no "
                "faster. Delete the setting; nothing need replace it."
            )
        return {name: value for name, value in values.items() if name != "compile_update"}

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
        """GPUs that each learner, or the run's own process if it has no learners, asks of a cluster."""
        if self.num_gpus_per_learner is not None:
            return self.num_gpus_per_learner
        return 1.0 if self.device == "cuda" else 0.0

    @property
    def num_envs(self) -> int:
        """Number of environments that sample at the same time, over all env runners."""
        return self.num_envs_per_env_runner * max(1, self.num_env_runners)


class TrainingConfig(StrictModel):
    """The training settings that all algorithms have."""

    learning_rate: LearningRate
    learning_rate_end: Fraction | None = 0.0
    """Learning rate at `total_timesteps`, to which it falls linearly; null keeps it constant."""
    gamma: Fraction | None
    """Discount from one decision to the next."""


class RunConfig(StrictModel):
    """The complete configuration of a training run. The subclass of each algorithm defines `network` and `training`."""

    algo: str
    seed: Seed = 0
    market: MarketConfig = MarketConfig()
    environment: EnvironmentConfig = EnvironmentConfig()
    network: AnyNetworkConfig
    training: TrainingConfig
    schedule: ScheduleConfig = ScheduleConfig()
    resources: ResourceConfig = ResourceConfig()

    @property
    def rollout_steps(self) -> int:
        """Decisions of each environment in one fragment of an env runner."""
        steps: int = self.training.rollout_steps  # type: ignore[attr-defined]
        return steps

    @property
    def discount(self) -> float:
        """Discount from one decision to the next."""
        assert self.training.gamma is not None
        return self.training.gamma

    @property
    def seeds(self) -> range:
        """The seeds that the run trains."""
        return range(self.seed, self.seed + 1)

    @property
    def stacks_seeds(self) -> bool:
        """Whether a run with these settings can train several seeds as one program."""
        return False

    def with_seeds(self, first: int, number: int = 1) -> Self:
        """Return the configuration of a run that trains other seeds.

        Args:
            first: The first seed.
            number: Number of successive seeds; several only if `stacks_seeds`.

        Raises:
            ConfigError: If these are too many seeds for one run.
        """
        assert number == 1
        return self.model_copy(update={"seed": first})

    def for_assets(self, num_assets: int, has_universe: bool = False) -> Self:
        """Return the configuration with every choice that depends on the assets resolved.

        Args:
            num_assets: Number N of risky assets.
            has_universe: Whether the market has a universe, in which assets come and go.

        Raises:
            ConfigError: If the network or the observation filter cannot be used in a market with a universe.
        """
        if has_universe and self.market.observation_filter == "running":
            raise ConfigError(
                "market.observation_filter must be train_window or none in a market whose assets come and go, got "
                "running, which would standardise the mask of tradable assets, too (market). Set it to train_window."
            )
        return self.model_copy(update={"network": self.network.for_assets(num_assets, has_universe)})
