"""When the trials of a search started, reported and ended, and what that says of a search's time."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from ray.tune import Callback
from ray.tune.experiment import Trial

from rllib_portfolio.experiments.search.optuna_search import NAME, SPEC
from rllib_portfolio.experiments.search.study import STEPS, TRAINING_S


@dataclass(frozen=True, slots=True)
class Report:
    """What a trial said, and when.

    Attributes:
        at_s: Seconds since the search began, by the driver's clock.
        steps: Environment steps of the trial so far.
        training_s: Its seconds of sampling and learning so far, by its own clock.
    """

    at_s: float
    steps: int
    training_s: float


@dataclass(slots=True)
class TrialTimes:
    """A trial as the driver saw it; `started_s` and `ended_s` in seconds since the search began."""

    started_s: float
    reports: list[Report] = field(default_factory=list)
    ended_s: float = float("nan")

    @property
    def steps(self) -> int:
        """Environment steps in all."""
        return self.reports[-1].steps

    @property
    def training_s(self) -> float:
        """Seconds of sampling and learning."""
        return self.reports[-1].training_s

    @property
    def evaluation_s(self) -> float:
        """Seconds of one evaluation: walk over the validation window, checkpoint and report, mean.

        What passed between the first report and the last, less the training in it.
        """
        first, last = self.reports[0], self.reports[-1]
        others = len(self.reports) - 1
        return (last.at_s - first.at_s - (last.training_s - first.training_s)) / others if others else 0.0


class Clock(Callback):
    """Notes the times of trials while a search runs."""

    def __init__(self) -> None:
        self.trials: dict[str, TrialTimes] = {}
        self.wall_s = float("nan")
        self._began = time.monotonic()

    def start(self) -> None:
        """The search begins now."""
        self._began = time.monotonic()

    def stop(self) -> None:
        """It returned."""
        self.wall_s = self._now()

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Its process is there."""
        self.trials[_name(trial)] = TrialTimes(self._now())

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """It reported."""
        self._note(_name(trial), result)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """It ended, or was stopped."""
        times = self.trials[_name(trial)]
        if not times.reports or times.steps < trial.last_result[STEPS]:  # of a trial that the scheduler stopped
            self._note(_name(trial), trial.last_result)
        times.ended_s = self._now()

    def _note(self, name: str, result: dict[str, Any]) -> None:
        self.trials[name].reports.append(Report(self._now(), int(result[STEPS]), float(result[TRAINING_S])))

    def _now(self) -> float:
        return round(time.monotonic() - self._began, 3)


def _name(trial: Trial) -> str:
    return str(trial.config[SPEC][NAME])


def throughput(trials: Sequence[TrialTimes]) -> float:
    """Environment steps per second of all trials together, from the start of the first to the end of the last."""
    span = max(trial.ended_s for trial in trials) - min(trial.started_s for trial in trials)
    return sum(trial.steps for trial in trials) / span


@dataclass(frozen=True, slots=True)
class Shares:
    """Where the time of a search went: shares of wall time x trials at a time, which sum to 1.

    Attributes:
        training: Sampling and learning, by the trials' own clocks: what `training_s` in their tables counts.
        evaluation: Walks over the validation window, checkpoints and reports.
        setup: From the start of a trial to its first iteration, and from its last report to its end: building the
            algorithm, folder, market, the files of a run that ends.
        idle: No trial: starting processes (torch and ray are imported in each), Tune's own work, waiting for the last.
    """

    training: float
    evaluation: float
    setup: float
    idle: float

    @property
    def overhead(self) -> float:
        """Everything but training."""
        return 1.0 - self.training


def shares(trials: Sequence[TrialTimes], wall_s: float, num_slots: int) -> Shares:
    """Where the time went of a search that took `wall_s` seconds with `num_slots` trials at a time."""
    available = wall_s * num_slots
    training = sum(trial.training_s for trial in trials)
    evaluation = sum(trial.evaluation_s * len(trial.reports) for trial in trials)
    spans = sum(trial.ended_s - trial.started_s for trial in trials)
    parts = np.array([training, evaluation, spans - training - evaluation, available - spans]) / available
    return Shares(*(round(float(part), 4) for part in parts))


def as_json(trials: dict[str, TrialTimes]) -> dict[str, Any]:
    """All times, in the trials' order."""
    return {name: asdict(trials[name]) for name in sorted(trials)}
