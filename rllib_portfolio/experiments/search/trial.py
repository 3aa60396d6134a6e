"""A trial: a training run with some settings changed, in its own run folder, that reports each evaluation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from ray import tune

from rllib_portfolio.config import RunConfig
from rllib_portfolio.config.consent import restricted_to
from rllib_portfolio.experiments.search.optuna_search import IS_FINISHED, NAME, OBJECTIVE, OVERRIDES, SPEC
from rllib_portfolio.experiments.search.settings import SearchSettings
from rllib_portfolio.experiments.search.study import BEST, STEPS, TRAINING_S
from rllib_portfolio.market import MarketData
from rllib_portfolio.policies.checkpoint import keep_best_checkpoint, newest_checkpoint, read_progress
from rllib_portfolio.runs.loop import Status
from rllib_portfolio.runs.resumable import TrainingOutcome, finished_training, train_in_folder
from rllib_portfolio.runs.storage import RunStorage
from rllib_portfolio.runs.tracking import Sparing, log_hyperparameters

NO_RISK = 0.0
"""Objective of a policy with an undefined Sharpe ratio, such as one that only holds cash and earns nothing over it."""


@dataclass(frozen=True, slots=True)
class TrialTask:
    """The settings that all trials of a search share.

    Attributes:
        settings: Settings of the search.
        base: The configuration that trials start from.
        folders: Storage of the trials.
        market_file: The prepared market as a file on the file system of `folders`, if there is one.
        trusted: The functions that trials may import if settings name them; None for all functions.
    """

    settings: SearchSettings
    base: RunConfig
    folders: RunStorage
    market_file: Path | None = None
    trusted: frozenset[str] | None = None


def run_trial(config: dict[str, Any], task: TrialTask, market: MarketData) -> None:
    """Train one trial, as the trainable of Ray Tune, or continue it from its folder.

    Args:
        config: Number, name and overrides of the trial, from `StudySearch.suggest`.
        task: Settings that all trials share.
        market: The market, the same for all trials.
    """
    name, overrides = config[SPEC][NAME], config[SPEC][OVERRIDES]
    run_config = task.settings.trial_config(task.base, overrides, name)
    torch.set_num_threads(run_config.resources.torch_threads)
    with restricted_to(task.trusted), task.folders.fetched(name) as run_dir:
        reports = _Reports(task.folders, name)
        try:
            reports.repeat(run_dir, run_config.schedule.total_timesteps)
            outcome, _ = train_in_folder(
                run_dir, run_config, market, on_progress=reports.show, market_file=task.market_file
            )
            keep_best_checkpoint(run_dir)
        finally:  # a trial that the scheduler stops ends in a SystemExit
            reports.close(run_dir, overrides)
        reports.finish(outcome)


class _Reports:
    """The reports of a trial to Tune: at each evaluation except the last one, and at the end."""

    def __init__(self, folders: RunStorage, name: str) -> None:
        self._folders, self._name = folders, name
        self._last: Status | None = None

    def repeat(self, run_dir: Path, total_steps: int) -> None:
        """Report the last evaluation before an interruption again, since it may not have reached the driver."""
        newest = newest_checkpoint(run_dir)
        if newest is None or finished_training(run_dir) is not None:
            return
        state = read_progress(newest)
        if state["steps"] < total_steps:  # otherwise `finish` reports it
            reached = TrainingOutcome(state["steps"], state["elapsed_s"], state["best_sharpe"])
            tune.report(_result(state["validation_sharpe"], reached, is_finished=False))

    def show(self, status: Status) -> None:
        if not status.is_evaluated:
            return
        self._last = status
        self._folders.keep_so_far(self._name)
        if not status.is_finished:
            reached = TrainingOutcome(status.steps, status.elapsed_s, status.best_validation_sharpe)
            tune.report(_result(status.validation_sharpe, reached, is_finished=False))

    def finish(self, outcome: TrainingOutcome) -> None:
        last = outcome.validation_sharpe if self._last is None else self._last.validation_sharpe
        tune.report(_result(last, outcome, is_finished=True))

    def close(self, run_dir: Path, overrides: dict[str, Any]) -> None:
        """Record the trial's settings for TensorBoard, and upload its folder."""
        if self._last is not None:
            note_hyperparameters(run_dir, overrides, self._last.best_validation_sharpe, self._last.steps)
        if run_dir.is_dir():
            self._folders.keep(self._name)


def _result(last: float | None, reached: TrainingOutcome, *, is_finished: bool) -> dict[str, Any]:
    """Return a report for Tune, the scheduler and the study: the last evaluation, and the outcome so far."""
    return {
        OBJECTIVE: finite(last),
        BEST: finite(reached.validation_sharpe),
        STEPS: reached.steps,
        TRAINING_S: reached.training_s,
        IS_FINISHED: is_finished,
    }


def note_hyperparameters(run_dir: Path, overrides: Mapping[str, Any], best: float | None, steps: int) -> None:
    """Record the settings of a run for TensorBoard.

    Args:
        run_dir: Folder of the run.
        overrides: Its settings, by dotted name.
        best: Its best validation Sharpe ratio.
        steps: Its environment steps.
    """
    searched = {
        name: value if isinstance(value, int | float | str) else str(value)
        for name, value in overrides.items()
        if name != "seed"  # TensorBoard groups the seeds of the same settings
    }
    with Sparing("TensorBoard"):
        log_hyperparameters(run_dir, searched, {"search/validation_sharpe": finite(best)}, steps)


def finite(sharpe: float | None) -> float:
    """Return a Sharpe ratio as an objective, which is `NO_RISK` if it is undefined."""
    return float(sharpe) if sharpe is not None and math.isfinite(sharpe) else NO_RISK
