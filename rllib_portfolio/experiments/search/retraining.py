"""Retraining of the best trials on fresh seeds, by which nothing was selected, to measure the selection bias."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import optuna

from rllib_portfolio.experiments.progress import RunOutcome, Watch
from rllib_portfolio.experiments.runner import Batch, Place, Runner, RunTask
from rllib_portfolio.experiments.search.space import SearchSpace
from rllib_portfolio.experiments.search.study import best_trials, trial_name
from rllib_portfolio.experiments.search.trial import TrialTask, finite, note_hyperparameters
from rllib_portfolio.market import MarketData
from rllib_portfolio.policies.checkpoint import keep_best_checkpoint
from rllib_portfolio.runs.resumable import TrainingOutcome, finished_training

FOLDER = "retrained"
"""Name of the folder of these runs, beside the folder of the trials."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One of the best trials, trained again.

    Attributes:
        number: The trial's number.
        searched: The validation Sharpe ratio that the search found for it.
        retrained: Validation Sharpe ratios of the fresh seeds, without those that failed.
    """

    number: int
    searched: float
    retrained: tuple[float, ...]

    @property
    def name(self) -> str:
        """The trial's name, such as `trial_0007`."""
        return trial_name(self.number)

    @property
    def median(self) -> float:
        """Median validation Sharpe ratio of the fresh seeds."""
        return statistics.median(self.retrained)

    @property
    def selection_bias(self) -> float:
        """Sharpe ratio found by the search, as the best of many, minus the median of the fresh seeds."""
        return self.searched - self.median

    def to_json(self) -> dict[str, Any]:
        """Return the candidate as JSON values."""
        return {
            "trial": self.name,
            "searched": self.searched,
            "retrained": list(self.retrained),
            "median": self.median,
            "selection_bias": self.selection_bias,
        }


class FreshRun(NamedTuple):
    """One of the best trials, trained again on one fresh seed."""

    trial: int
    seed: int

    @property
    def name(self) -> str:
        """The run's name, such as `trial_0007_seed_1`."""
        return f"{trial_name(self.trial)}_seed_{self.seed}"

    def __str__(self) -> str:
        return self.name


class Retraining:
    """The training of a study's best trials on fresh seeds.

    Args:
        task: Settings that all trials of the search share.
        study: The study.
        space: The search space.
    """

    def __init__(self, task: TrialTask, study: optuna.Study, space: SearchSpace) -> None:
        settings, step = task.settings, len(task.base.seeds)  # a trial may have several seeds, and so has a fresh run
        self._task, self._folders = task, task.folders.beside(FOLDER)
        self._chosen = best_trials(study, settings.num_retrained)
        self._overrides = {
            FreshRun(trial.number, seed): {**space.overrides(trial.params), "seed": seed}
            for trial in self._chosen
            for seed in range(settings.seed + step, settings.seed + step * (1 + settings.num_retrain_seeds), step)
        }
        self.known = tuple(outcome for run in self._overrides if (outcome := self._finished(run)) is not None)
        """Outcomes of the training runs that an earlier session finished."""
        self._outcomes = self.known

    @property
    def num_left(self) -> int:
        """Number of training runs that are not finished."""
        return len(self._overrides) - len(self._sharpes())

    def train(self, market: MarketData, place: Place, watch: Watch) -> None:
        """Train the runs that are not finished.

        Args:
            market: The market, the same for all runs.
            place: Resources of each run.
            watch: Receives the progress, and may stop the runs.

        Raises:
            ClaimLostError: If another process has taken over the storage of the runs.
        """
        base, settings = self._task.base, self._task.settings
        configs = {run: settings.trial_config(base, overrides, run.name) for run, overrides in self._overrides.items()}
        task = RunTask(
            self._folders, market_file=self._task.market_file, finish=partial(_finish, overrides=self._overrides)
        )
        runner = Runner([Batch(configs, lambda: market)], task, self.known, place, settings.max_failures)
        self._outcomes = runner.train(watch)

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """The candidates with at least one finished seed, best median first."""
        sharpes = self._sharpes()
        found = (
            Candidate(
                trial.number,
                float(trial.value or 0.0),
                tuple(sharpes[run] for run in self._overrides if run.trial == trial.number and run in sharpes),
            )
            for trial in self._chosen
            if any(run.trial == trial.number for run in sharpes)
        )
        return tuple(sorted(found, key=lambda candidate: (-candidate.median, candidate.number)))

    def _sharpes(self) -> dict[FreshRun, float]:
        """Return the validation Sharpe ratio of each finished run."""
        return {
            outcome.run: finite(outcome.validation_sharpe) for outcome in self._outcomes if outcome.status == "finished"
        }

    def _finished(self, run: FreshRun) -> RunOutcome | None:
        """Return the outcome of a run that an earlier session finished, or None."""
        with self._folders.fetched(run.name) as folder:
            outcome = finished_training(folder)
        return None if outcome is None else RunOutcome(run, "finished", **asdict(outcome))


def _finish(
    run: FreshRun, folder: Path, outcome: TrainingOutcome, overrides: Mapping[FreshRun, Mapping[str, Any]]
) -> None:
    """Keep only the best checkpoint of a run, and record its settings for TensorBoard."""
    keep_best_checkpoint(folder)
    note_hyperparameters(folder, overrides[run], outcome.validation_sharpe, outcome.steps)
