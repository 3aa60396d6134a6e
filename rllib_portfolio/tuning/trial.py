"""A trial: a training run with some settings changed, in a run folder of its own, that reports each evaluation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from ray import tune

from rllib_portfolio.algorithms.checkpoint import keep_best_checkpoint
from rllib_portfolio.config import RunConfig
from rllib_portfolio.market import MarketData
from rllib_portfolio.tracking import log_hyperparameters
from rllib_portfolio.training import Status, TrainingOutcome, finished_training, train_in_folder
from rllib_portfolio.tuning.folders import TrialFolders
from rllib_portfolio.tuning.search import IS_FINISHED, NAME, OBJECTIVE, OVERRIDES, SPEC
from rllib_portfolio.tuning.settings import SearchSettings
from rllib_portfolio.tuning.study import BEST, STEPS, TRAINING_S

NO_RISK = 0.0
"""The objective of a policy that only holds cash: its Sharpe ratio is undefined, and it earns nothing over cash."""


@dataclass(frozen=True, slots=True)
class TrialTask:
    """What all trials of a search have in common.

    Attributes:
        settings: The search.
        base: The configuration that trials start from.
        folders: Where they work.
        market_file: The prepared market on the file system of `folders`, if it is there.
    """

    settings: SearchSettings
    base: RunConfig
    folders: TrialFolders
    market_file: Path | None = None


def run_trial(config: dict[str, Any], task: TrialTask, market: MarketData) -> None:
    """Tune's trainable: `train_in_folder` with overrides. Continues where the trial's folder is.

    Args:
        config: From `StudySearch.suggest`: name and overrides of the trial.
        task: What all trials have in common.
        market: The market, the same for all.
    """
    name, overrides = config[SPEC][NAME], config[SPEC][OVERRIDES]
    run_config = task.settings.trial_config(task.base, overrides, name)
    torch.set_num_threads(run_config.resources.torch_threads)
    with task.folders.fetched(name) as run_dir:
        reports = _Reports(task.folders, name)
        try:
            outcome, _ = train_in_folder(
                run_dir, run_config, market, on_progress=reports.show, market_file=task.market_file
            )
            keep_best_checkpoint(run_dir)
        finally:  # a trial that the scheduler stops ends in a SystemExit
            reports.close(run_dir, overrides)
        reports.finish(outcome)


class _Reports:
    """What a trial tells Tune: at each evaluation but the last, and at the end."""

    def __init__(self, folders: TrialFolders, name: str) -> None:
        self._folders, self._name = folders, name
        self._last: Status | None = None

    def show(self, status: Status) -> None:
        if status.is_evaluated:
            self._last = status
            self._folders.keep(self._name)
            if not status.is_finished:
                tune.report(
                    {
                        OBJECTIVE: finite(status.validation_sharpe),
                        BEST: finite(status.best_validation_sharpe),
                        STEPS: status.steps,
                        TRAINING_S: status.elapsed_s,
                        IS_FINISHED: False,
                    }
                )

    def finish(self, outcome: TrainingOutcome) -> None:
        best = finite(math.nan if outcome.validation_sharpe is None else outcome.validation_sharpe)
        tune.report(
            {
                OBJECTIVE: best if self._last is None else finite(self._last.validation_sharpe),
                BEST: best,
                STEPS: outcome.steps,
                TRAINING_S: outcome.training_s,
                IS_FINISHED: True,
            }
        )

    def close(self, run_dir: Path, overrides: dict[str, Any]) -> None:
        """Note the trial's settings beside its curves, and bring all of it to where it is kept."""
        finished = finished_training(run_dir)
        if self._last is not None:
            plain = {
                name: value if isinstance(value, int | float | str) else str(value) for name, value in overrides.items()
            }
            best = finite(self._last.best_validation_sharpe)
            log_hyperparameters(run_dir, plain, {"validation/best_sharpe_ratio": best}, self._last.steps)
        if self._last is not None or finished is not None:
            self._folders.keep(self._name)


def finite(sharpe: float) -> float:
    """The objective that a Sharpe ratio stands for."""
    return float(sharpe) if math.isfinite(sharpe) else NO_RISK
