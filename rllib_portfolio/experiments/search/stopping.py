"""Schedulers that stop trials early, by environment steps, and that continue after an interruption."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, MedianStoppingRule, TrialScheduler

from rllib_portfolio.experiments.search.optuna_search import NUMBER, OBJECTIVE, SPEC
from rllib_portfolio.experiments.search.settings import SearchSettings
from rllib_portfolio.experiments.search.study import STEPS

History = Mapping[int, Mapping[int, float]]
"""Earlier reports: maps the number of a trial and its environment steps to the objective."""
MIN_OTHERS = 3
"""Smallest number of other trials that must have come as far for a comparison with their median."""


def scheduler(settings: SearchSettings, history: History) -> TrialScheduler:
    """Return the scheduler of a search, which knows the reports of earlier sessions.

    Args:
        settings: Settings of the search, with the kind of scheduler.
        history: Reports of earlier sessions.
    """
    if settings.scheduler == "median":
        return StepMedianStopping(settings, history)
    if settings.scheduler == "asha":
        return StepHalving(settings, history)
    return FIFOScheduler()


class StepMedianStopping(MedianStoppingRule):
    """Ray's median stopping rule in environment steps (Golovin et al. 2017, section 3.2.3).

    At an evaluation after t >= `grace_steps` steps, each of the other trials that has reached t is represented by its
    mean objective over [`grace_steps`, t]. The trial is stopped if its best objective so far is below their median.
    """

    def __init__(self, settings: SearchSettings, history: History) -> None:
        super().__init__(
            time_attr=STEPS,
            grace_period=settings.grace_steps,
            min_samples_required=MIN_OTHERS,
            min_time_slice=float("inf"),  # otherwise each trial is paused once until others have caught up
        )
        for number, values in history.items():
            if values:
                self._results[number] = _results(values)

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        """Assign earlier reports to a trial that continues. Ray calls this again for a trial that is retried."""
        super().on_trial_add(tune_controller, trial)
        number = trial.config[SPEC][NUMBER]
        if number in self._results:
            self._results[trial] = self._results.pop(number)

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Return whether to stop. An evaluation that is reported twice, after a retry or at the end, counts once."""
        self._results[trial] = [past for past in self._results[trial] if past[STEPS] != result[STEPS]]
        return str(super().on_trial_result(tune_controller, trial, result))

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        """Do nothing, since `on_trial_result` received the last result already."""


class StepHalving(AsyncHyperBandScheduler):
    """Ray's asynchronous successive halving in environment steps (Li et al. 2020): a quarter of trials continues."""

    def __init__(self, settings: SearchSettings, history: History) -> None:
        super().__init__(
            time_attr=STEPS,
            max_t=settings.max_steps,
            grace_period=max(1, min(settings.grace_steps, settings.max_steps)),
        )
        (self._bracket,) = self._brackets
        for number, values in history.items():
            for steps, value in sorted(values.items()):
                self._bracket.on_result(_Past(_past_id(number)), steps, value)

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        """Assign the rungs that a continued trial has passed."""
        super().on_trial_add(tune_controller, trial)
        past = _past_id(trial.config[SPEC][NUMBER])
        for _, recorded in self._bracket._rungs:
            if past in recorded:
                recorded[trial.trial_id] = recorded.pop(past)


class _Past:
    """A placeholder for a trial of an earlier session."""

    def __init__(self, trial_id: str) -> None:
        self.trial_id = trial_id


def _past_id(number: int) -> str:
    return f"trial {number}"


def _results(values: Mapping[int, float]) -> list[dict[str, float]]:
    return [{STEPS: steps, OBJECTIVE: value} for steps, value in sorted(values.items())]
