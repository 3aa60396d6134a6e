"""The settings of a search: number and length of its trials, the sampler, and the scheduler that stops trials."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from rllib_portfolio.config import RunConfig
from rllib_portfolio.config.fields import Count, Seed, Steps, StrictModel
from rllib_portfolio.config.files import with_overrides

NUM_REPORTS = 10
"""Number of evaluations of a trial, unless a report interval is given."""


class SearchSettings(StrictModel):
    """The settings of a search. Together with run configuration and search space they determine its results."""

    num_samples: Count = 50
    """Number of trials, including pruned and failed ones."""
    max_steps: Steps = 50_000
    """Environment steps of a trial that is not stopped early."""
    report_interval: Steps
    """Environment steps between two evaluations of a trial; default: a tenth of `max_steps`."""
    grace_steps: int = Field(ge=0, le=1_800_000_000)
    """Environment steps before which the scheduler stops no trial; default: two report intervals."""
    search: Literal["optuna", "random"] = "optuna"
    """optuna: tree-structured Parzen estimator (Bergstra et al. 2011). random: independent draws."""
    scheduler: Literal["median", "asha", "none"] = "median"
    """median: median stopping rule (Golovin et al. 2017, section 3.2.3). asha: asynchronous successive halving (Li et
    al. 2020)."""
    seed: Seed = 0
    """Seed of the sampler, and of the networks and environments of every trial."""
    max_failures: int = Field(2, ge=0, le=1_000_000)
    """Number of failures after which a trial is retried from its last checkpoint; with one more it counts as failed."""
    num_retrained: int = Field(3, ge=0, le=1_000_000)
    """Number of best trials that are trained again on fresh seeds."""
    num_retrain_seeds: Count = 3

    @model_validator(mode="before")
    @classmethod
    def _intervals(cls, values: Any) -> Any:
        """Set the intervals that are not given from the length of a trial."""
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
        """Return the configuration of one trial.

        All trials have the same length and report interval, and write a checkpoint at each evaluation.

        Args:
            base: The configuration that all trials start from.
            overrides: Maps dotted settings to the values of this trial.
            where: Name of the trial, for the error message.

        Raises:
            ConfigError: If the values are not valid together.
        """
        schedule = {
            "schedule.total_timesteps": self.max_steps,
            "schedule.evaluation_interval": self.report_interval,
            "schedule.checkpoint_interval": self.report_interval,
            "schedule.checkpoints_kept": 1,
            "schedule.untrained_candidate": False,  # its score does not depend on the settings of a trial
        }
        return with_overrides(base, {"seed": self.seed, **schedule, **overrides}, where)
