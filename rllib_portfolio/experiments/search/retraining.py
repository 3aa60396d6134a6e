"""The best trials again, on seeds that nothing was selected by: what the search found, and how much of it was luck."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from rllib_portfolio.experiments.search.optuna_search import NAME, OVERRIDES
from rllib_portfolio.experiments.search.progress import TrialProgress
from rllib_portfolio.experiments.search.runner import Place, Watch, run_specs
from rllib_portfolio.experiments.search.space import SearchSpace
from rllib_portfolio.experiments.search.study import best_trials, trial_name
from rllib_portfolio.experiments.search.trial import TrialTask, finite
from rllib_portfolio.market import MarketData
from rllib_portfolio.runs.resumable import finished_training

FOLDER = "retrained"
"""Beside the trials'."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One of the best trials, trained again.

    Attributes:
        number: The trial's number.
        searched: The validation Sharpe ratio that the search found for it.
        retrained: The same of fresh seeds, those that failed left out.
    """

    number: int
    searched: float
    retrained: tuple[float, ...]

    @property
    def name(self) -> str:
        """`trial_0007`."""
        return trial_name(self.number)

    @property
    def median(self) -> float:
        """Of the fresh seeds: what these settings are worth."""
        return statistics.median(self.retrained)

    @property
    def selection_bias(self) -> float:
        """What the search's figure has of luck: it is the best of many."""
        return self.searched - self.median

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "trial": self.name,
            "searched": self.searched,
            "retrained": list(self.retrained),
            "median": self.median,
            "selection_bias": self.selection_bias,
        }


class Retraining:
    """The training of a study's best trials on fresh seeds: the finished runs and those that are left.

    Args:
        task: Settings that all trials of the search share.
        study: The study.
        space: The search space.
    """

    def __init__(self, task: TrialTask, study: optuna.Study, space: SearchSpace) -> None:
        settings = task.settings
        self._task = replace(task, folders=task.folders.beside(FOLDER))
        self._chosen = best_trials(study, settings.num_retrained)
        self._seeds = [settings.seed + 1 + offset for offset in range(settings.num_retrain_seeds)]
        specs = [_spec(trial, seed, space) for trial in self._chosen for seed in self._seeds]
        known = [self._finished(spec[NAME]) for spec in specs]
        self._reached = {trial.name: trial.best for trial in known if trial is not None}
        self._before = [trial for trial in known if trial is not None]
        self._left = [spec for spec, trial in zip(specs, known, strict=True) if trial is None]

    @property
    def num_left(self) -> int:
        """Training runs that are not finished."""
        return len(self._left)

    @property
    def num_before(self) -> int:
        """Training runs that were finished before."""
        return len(self._before)

    def train(self, market: MarketData, place: Place, watch: Watch) -> None:
        """Train the runs that are left."""
        if self._left:
            progress = run_specs(self._task, self._left, market, place, watch, self._before)
            self._reached |= {
                trial.name: trial.best for trial in progress.trials.values() if trial.status == "finished"
            }

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """Return the candidates with at least one finished seed, best median first."""
        return _ranked(
            Candidate(
                trial.number,
                float(trial.value or 0.0),
                tuple(self._reached[name] for seed in self._seeds if (name := _name(trial, seed)) in self._reached),
            )
            for trial in self._chosen
        )

    def _finished(self, name: str) -> TrialProgress | None:
        """Return a run that an earlier session finished, or None."""
        with self._task.folders.fetched(name) as folder:
            outcome = finished_training(folder)
        if outcome is None:
            return None
        return TrialProgress(name, "finished", outcome.steps, finite(outcome.validation_sharpe))


def _ranked(candidates: Any) -> tuple[Candidate, ...]:
    found: Sequence[Candidate] = [candidate for candidate in candidates if candidate.retrained]
    return tuple(sorted(found, key=lambda candidate: (-candidate.median, candidate.number)))


def _spec(trial: FrozenTrial, seed: int, space: SearchSpace) -> dict[str, Any]:
    return {NAME: _name(trial, seed), OVERRIDES: {**space.overrides(trial.params), "seed": seed}}


def _name(trial: FrozenTrial, seed: int) -> str:
    return f"{trial_name(trial.number)}_seed_{seed}"
