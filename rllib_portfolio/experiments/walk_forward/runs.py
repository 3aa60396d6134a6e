"""The training runs of an analysis: one per algorithm, fold and seed, or for all seeds that are trained together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path

from rllib_portfolio.experiments.progress import Progress, RunOutcome, Watch
from rllib_portfolio.experiments.runner import Batch, Runner, RunTask
from rllib_portfolio.experiments.walk_forward.plan import Run, WalkForwardPlan
from rllib_portfolio.experiments.walk_forward.record import RECORD
from rllib_portfolio.runs.resumable import finished_training
from rllib_portfolio.runs.storage import RunStorage


def train_runs(
    plan: WalkForwardPlan,
    output: Path,
    *,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    should_stop: Callable[[], bool] = lambda: False,
    folders: RunStorage | None = None,
) -> tuple[RunOutcome, ...]:
    """Train all unfinished runs, as many at a time as the Ray cluster has room for.

    Args:
        plan: The plan of the analysis.
        output: Absolute path of the analysis' folder, on a file system that all machines share, unless `folders` is
            another storage. It holds all finished runs when this function returns.
        on_progress: Called a few times a second.
        should_stop: Called as often. If it returns true, running runs stop after their iteration with a checkpoint.
        folders: Storage of the runs, under the names of their folders in `output`; default: `output`.

    Returns:
        One outcome per run of the plan, in its order; runs that never started are `stopped`.

    Raises:
        ClaimLostError: If another process has taken over the storage of the runs.
    """
    folders = folders or RunStorage(str(output))
    batches = [
        Batch({run: plan.run_config(run) for run in plan.runs if run.fold == fold}, partial(plan.load_fold, fold))
        for fold in range(len(plan.folds))
    ]
    known = [outcome for run in plan.runs if (outcome := finished_outcome(run, output)) is not None]
    task = RunTask(folders.under_claims(), record=RECORD)
    outcomes = Runner(batches, task, known).train(Watch(on_progress, should_stop))
    for outcome in outcomes:
        if outcome.status == "finished" and finished_outcome(outcome.run, output) is None:
            folders.bring(outcome.run.name, outcome.run.folder(output))
    return outcomes


def finished_outcome(run: Run, output: Path) -> RunOutcome | None:
    """Return the outcome of a run that finished earlier, or None if it is not finished.

    Args:
        run: The run.
        output: Folder of the analysis.

    Raises:
        ConfigError: If the record of the outcome is damaged.
    """
    outcome = finished_training(run.folder(output))
    return None if outcome is None else RunOutcome(run, "finished", **asdict(outcome))
