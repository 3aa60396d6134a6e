"""Which trials are stopped early, counted in environment steps, and remembered over an interruption."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, MedianStoppingRule, TrialScheduler

from rllib_portfolio.experiments.search.optuna_search import NUMBER, OBJECTIVE, SPEC
from rllib_portfolio.experiments.search.settings import SearchSettings
from rllib_portfolio.experiments.search.study import STEPS

History = Mapping[int, Mapping[int, float]]
"""What trials reported before: number of the trial to environment steps to objective."""
MIN_OTHERS = 3
"""Trials that must have come as far before the median of them means anything."""


def scheduler(settings: SearchSettings, history: History) -> TrialScheduler:
    """The scheduler of a search, with what an earlier session reported."""
    if settings.scheduler == "median":
        return StepMedianStopping(settings, history)
    if settings.scheduler == "asha":
        return StepHalving(settings, history)
    return FIFOScheduler()


class StepMedianStopping(MedianStoppingRule):
    """Ray's median stopping rule, its clock in environment steps (Golovin et al. 2017, section 3.2.3).

    At an evaluation after t >= `grace_steps` steps a trial is stopped if its best objective so far is below the median,
    over the other trials that have come to t, of their mean objective over [`grace_steps`, t].
    """

    def __init__(self, settings: SearchSettings, history: History) -> None:
        super().__init__(
            time_attr=STEPS,
            grace_period=settings.grace_steps,
            min_samples_required=MIN_OTHERS,
            min_time_slice=float("inf"),  # else it pauses each trial once to let others catch up
        )
        for number, values in history.items():
            if values:
                self._results[number] = _results(values)

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        """Give a trial that goes on what it reported before. One that is retried is added again."""
        super().on_trial_add(tune_controller, trial)
        number = trial.config[SPEC][NUMBER]
        if number in self._results:
            self._results[trial] = self._results.pop(number)

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Stop or continue. An evaluation that comes again, after a retry or as a trial's last word, counts once."""
        self._results[trial] = [past for past in self._results[trial] if past[STEPS] != result[STEPS]]
        return str(super().on_trial_result(tune_controller, trial, result))

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        """Its last result was told to `on_trial_result`."""


class StepHalving(AsyncHyperBandScheduler):
    """Ray's asynchronous successive halving, its clock in environment steps (Li et al. 2020): a quarter goes on."""

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
        """Give a trial that goes on the rungs that it has passed."""
        super().on_trial_add(tune_controller, trial)
        past = _past_id(trial.config[SPEC][NUMBER])
        for _, recorded in self._bracket._rungs:
            if past in recorded:
                recorded[trial.trial_id] = recorded.pop(past)


class _Past:
    """Stands for a trial of an earlier session."""

    def __init__(self, trial_id: str) -> None:
        self.trial_id = trial_id


def _past_id(number: int) -> str:
    return f"trial {number}"


def _results(values: Mapping[int, float]) -> list[dict[str, float]]:
    return [{STEPS: steps, OBJECTIVE: value} for steps, value in sorted(values.items())]
