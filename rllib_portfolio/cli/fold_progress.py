"""How far the runs of a walk-forward analysis are, on a terminal and elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rllib_portfolio.walk_forward import Progress, RunOutcome


class FoldDisplay:
    """One bar over all runs on a terminal; elsewhere a line for each run that ends; nothing when quiet."""

    def __init__(self, quiet: bool, known: Sequence[RunOutcome]) -> None:
        self._quiet = quiet
        self._told = {outcome.run for outcome in known}
        self._bar: Any = None

    def __enter__(self) -> FoldDisplay:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def show(self, progress: Progress) -> None:
        """Tell what ended since the last time, and move the bar."""
        if self._quiet:
            return
        from tqdm import tqdm

        if self._bar is None:
            self._bar = tqdm(
                total=progress.total_steps,
                initial=progress.steps,
                unit="step",
                unit_scale=True,
                disable=not sys.stderr.isatty(),
                dynamic_ncols=True,
                bar_format="{percentage:3.0f}% |{bar:20}| {n_fmt}/{total_fmt} steps, {remaining} left{postfix}",
            )
        for outcome in progress.outcomes:
            if outcome.run not in self._told:
                self._told.add(outcome.run)
                tqdm.write(_sentence(outcome, len(self._told), progress.num_runs), file=sys.stderr)
        under_way = ", ".join(f"{run} at {steps:,}" for run, steps in progress.running.items())
        self._bar.set_postfix_str(
            f"{len(progress.outcomes)} of {progress.num_runs} runs; {under_way or 'waiting for room'}", refresh=False
        )
        self._bar.update(max(0, progress.steps - self._bar.n))


def _sentence(outcome: RunOutcome, count: int, num_runs: int) -> str:
    """What became of a run, as one line."""
    if outcome.status == "failed":
        return f"[{count}/{num_runs}] {outcome.run}: failed ({outcome.error})"
    score = "undefined" if outcome.validation_sharpe is None else f"{outcome.validation_sharpe:.3f}"
    return (
        f"[{count}/{num_runs}] {outcome.run}: {outcome.status} after {outcome.steps:,} steps, {outcome.training_s:.0f} "
        f"s, best validation Sharpe {score}"
    )
