"""What a search is: how many trials, how long, who proposes them and who stops them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from rllib_portfolio.config import RunConfig
from rllib_portfolio.config.fields import Count, Seed, Steps, StrictModel
from rllib_portfolio.config.files import with_overrides

NUM_REPORTS = 10
"""Of a trial, unless a report interval is given."""


class SearchSettings(StrictModel):
    """A search; with the run configuration and the search space it says everything that its results depend on."""

    num_samples: Count = 50
    """Trials, pruned and failed ones included."""
    max_steps: Steps = 50_000
    """Environment steps of a trial that is not stopped."""
    report_interval: Steps
    """Environment steps between two evaluations of a trial; default: a tenth of `max_steps`."""
    grace_steps: int = Field(ge=0, le=1_800_000_000)
    """Environment steps before which the scheduler stops no trial; default: two report intervals."""
    search: Literal["optuna", "random"] = "optuna"
    """Tree-structured Parzen estimator (Bergstra et al. 2011), or independent draws."""
    scheduler: Literal["median", "asha", "none"] = "median"
    """Median stopping rule (Golovin et al. 2017, section 3.2.3), asynchronous successive halving (Li et al. 2020)."""
    seed: Seed = 0
    """Of the sampler, and of every trial's networks and environments."""
    max_failures: int = Field(2, ge=0, le=1_000_000)
    """Of a trial, before it counts as failed; it goes on from its last checkpoint after each."""
    num_retrained: int = Field(3, ge=0, le=1_000_000)
    """Best trials that are trained again on fresh seeds."""
    num_retrain_seeds: Count = 3

    @model_validator(mode="before")
    @classmethod
    def _intervals(cls, values: Any) -> Any:
        """Intervals that are not given follow from the length of a trial."""
        if not isinstance(values, dict):
            return values
        values = {name: value for name, value in values.items() if value is not None}
        max_steps = values.get("max_steps", 50_000)
        if isinstance(max_steps, int):
            values.setdefault("report_interval", max(1, max_steps // NUM_REPORTS))
            if isinstance(values["report_interval"], int):
                values.setdefault("grace_steps", 2 * values["report_interval"])
        return values

    def trial_config(self, base: RunConfig, overrides: dict[str, Any], where: str) -> RunConfig:
        """The configuration of one trial: as long as all others, looked at as often, and a checkpoint at each look.

        Args:
            base: What trials start from.
            overrides: Dotted setting to value, the trial's own.
            where: The trial, for errors.

        Raises:
            ConfigError: If the values do not fit each other.
        """
        schedule = {
            "schedule.total_timesteps": self.max_steps,
            "schedule.evaluation_interval": self.report_interval,
            "schedule.checkpoint_interval": self.report_interval,
            "schedule.checkpoints_kept": 1,
            "schedule.untrained_candidate": False,  # it says nothing about the settings of a trial
        }
        return with_overrides(base, {"seed": self.seed, **schedule, **overrides}, where)
