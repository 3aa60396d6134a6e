"""The best trials again, on seeds that nothing was selected by: what the search found, and how much of it was luck."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from rllib_portfolio.market import MarketData
from rllib_portfolio.tuning.runner import Place, Watch, run_specs
from rllib_portfolio.tuning.search import NAME, OVERRIDES
from rllib_portfolio.tuning.space import SearchSpace
from rllib_portfolio.tuning.study import best_trials, trial_name
from rllib_portfolio.tuning.trial import TrialTask

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


def retrain(
    task: TrialTask, study: optuna.Study, space: SearchSpace, market: MarketData, place: Place, watch: Watch
) -> tuple[Candidate, ...]:
    """Train the best trials of a study again, each on fresh seeds; what is finished of that is not repeated.

    Returns:
        Those of which a seed came to its end, best median first.
    """
    settings = task.settings
    chosen = best_trials(study, settings.num_retrained)
    seeds = [settings.seed + 1 + offset for offset in range(settings.num_retrain_seeds)]
    specs = [_spec(trial, seed, space) for trial in chosen for seed in seeds]
    if not specs:
        return ()
    progress = run_specs(replace(task, folders=task.folders.beside(FOLDER)), specs, market, place, watch)
    reached = {trial.name: trial.best for trial in progress.trials.values() if trial.status == "finished"}
    return _ranked(
        Candidate(
            trial.number,
            float(trial.value or 0.0),
            tuple(reached[name] for seed in seeds if (name := _name(trial, seed)) in reached),
        )
        for trial in chosen
    )


def _ranked(candidates: Any) -> tuple[Candidate, ...]:
    found: Sequence[Candidate] = [candidate for candidate in candidates if candidate.retrained]
    return tuple(sorted(found, key=lambda candidate: (-candidate.median, candidate.number)))


def _spec(trial: FrozenTrial, seed: int, space: SearchSpace) -> dict[str, Any]:
    return {NAME: _name(trial, seed), OVERRIDES: {**space.overrides(trial.params), "seed": seed}}


def _name(trial: FrozenTrial, seed: int) -> str:
    return f"{trial_name(trial.number)}_seed_{seed}"
