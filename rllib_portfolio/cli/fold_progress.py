"""How far the runs of a walk-forward analysis are, on a terminal and elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rllib_portfolio.cli.progress import ProgressMeter

if TYPE_CHECKING:
    from rllib_portfolio.experiments.walk_forward.runs import Progress, RunOutcome


class FoldDisplay:
    """The meter of all runs, with a line for each run that ends."""

    def __init__(self, quiet: bool, known: Sequence[RunOutcome]) -> None:
        self._meter = ProgressMeter(quiet, "step")
        self._told = {outcome.run for outcome in known}

    def __enter__(self) -> FoldDisplay:
        return self

    def __exit__(self, *exception: object) -> None:
        self._meter.__exit__(*exception)

    def show(self, progress: Progress) -> None:
        """Print a line for each run that has ended since the last call, and move the meter."""
        for outcome in progress.outcomes:
            if outcome.run not in self._told:
                self._told.add(outcome.run)
                self._meter.tell(_sentence(outcome, len(self._told), progress.num_runs))
        under_way = ", ".join(f"{run} at {steps:,}" for run, steps in progress.running.items())
        note = f"{len(progress.outcomes)} of {progress.num_runs} runs; {under_way or 'waiting for room'}"
        self._meter.show(progress.steps, progress.total_steps, note, made=progress.steps_made)


def _sentence(outcome: RunOutcome, count: int, num_runs: int) -> str:
    """What became of a run, as one line."""
    if outcome.status == "failed":
        return f"[{count}/{num_runs}] {outcome.run}: failed ({outcome.error})"
    score = "undefined" if outcome.validation_sharpe is None else f"{outcome.validation_sharpe:.3f}"
    return (
        f"[{count}/{num_runs}] {outcome.run}: {outcome.status} after {outcome.steps:,} steps, {outcome.training_s:.0f} "
        f"s, best validation Sharpe {score}"
    )
