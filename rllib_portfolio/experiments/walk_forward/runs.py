"""The training runs of an analysis: one per algorithm, fold and seed."""

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
    """Train everything that is not finished, as many runs at a time as the Ray cluster has room for.

    Args:
        plan: What to train.
        output: Absolute path of the analysis' folder, on a file system that all machines share unless `folders` says
            where else runs are kept. It holds every run that is finished when this returns.
        on_progress: Called a few times a second.
        should_stop: Asked as often. Runs that train then stop after their iteration, each with a checkpoint.
        folders: Where runs are kept, by their folder's name in `output`; default: there.

    Returns:
        One outcome per run of the plan, in its order; runs that never started are `stopped`.

    Raises:
        ClaimLostError: If another process has taken over where the runs are kept.
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
    """Return the outcome of a run that finished earlier, or None."""
    outcome = finished_training(run.folder(output))
    return None if outcome is None else RunOutcome(run, "finished", **asdict(outcome))
