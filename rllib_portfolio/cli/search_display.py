"""How far a search is, on a terminal and elsewhere."""

from __future__ import annotations

import math
import sys
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from rllib_portfolio.cli.console import tell
from rllib_portfolio.cli.progress import LINE_INTERVAL_S
from rllib_portfolio.command_names import as_invoked

if TYPE_CHECKING:
    from pathlib import Path

    from rllib_portfolio.experiments.search.progress import SearchProgress, TrialProgress
    from rllib_portfolio.experiments.search.session import SearchOutcome

SHOWN_TRIALS = 6
TABLE_WIDTH = 100


class SearchDisplay:
    """A live table on a terminal; elsewhere a line at intervals and for each trial that ends; nothing with --quiet."""

    def __init__(self, quiet: bool, title: str) -> None:
        self._quiet, self._title = quiet, title
        self._told: set[str] | None = None
        self._num_retries = 0
        self._live: Any = None
        self._last_line = time.monotonic()

    def __enter__(self) -> SearchDisplay:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, progress: SearchProgress) -> None:
        """Show where the search is."""
        if self._quiet:
            return
        if sys.stderr.isatty():
            self._show_table(progress)
        else:
            self._tell(progress)

    def _tell(self, progress: SearchProgress) -> None:
        ended = progress.ended
        if self._told is None:  # what ended in an earlier session is no news
            self._told = {trial.name for trial in ended} if progress.is_continued else set()
            if self._told:
                tell(f"{len(self._told)} of {progress.num_trials} trials ended before.", sys.stderr)
        for text in progress.retries[self._num_retries :]:
            tell(text, sys.stderr)
        self._num_retries = len(progress.retries)
        for trial in ended:
            if trial.name not in self._told:
                self._told.add(trial.name)
                place = f"[{len(self._told)}/{progress.num_trials}]"
                tell(f"{place} {sentence(trial)}{_best(progress)}", sys.stderr)

        if time.monotonic() - self._last_line >= LINE_INTERVAL_S:
            self._last_line = time.monotonic()
            under_way = [trial for trial in progress.trials.values() if trial.status == "running"]
            steps = ", ".join(f"{trial.name} at {trial.steps:,} steps" for trial in under_way[:SHOWN_TRIALS])
            tell(f"{summary(progress)}{f'; {steps}' if steps else ''}", sys.stderr)

    def _show_table(self, progress: SearchProgress) -> None:
        from rich.live import Live

        from rllib_portfolio.reporting.plain_console import PlainConsole

        if self._live is None:
            self._live = Live(console=PlainConsole(stderr=True), refresh_per_second=4, transient=False)
            self._live.start()
        self._live.update(table(progress, self._title))


def table(progress: SearchProgress, title: str) -> Any:
    """Counts, the best so far, and the trials that run."""
    from rich import box
    from rich.table import Table

    found = Table(box=box.SIMPLE, title=title, title_justify="left", pad_edge=False)
    for heading in ("trial", "state", "steps", "validation Sharpe, best"):
        found.add_column(heading, justify="left" if heading in ("trial", "state") else "right")
    running = [trial for trial in progress.trials.values() if trial.status == "running"]
    for trial in running[:SHOWN_TRIALS]:
        found.add_row(trial.name, "running", f"{trial.steps:,} of {progress.max_steps:,}", _number(trial.best))
    if len(running) > SHOWN_TRIALS:
        found.add_row(f"and {len(running) - SHOWN_TRIALS} more", "running", "", "")
    if (best := progress.best) is not None:
        found.add_row(best.name, "best so far", f"{best.steps:,}", _number(best.best), style="bold")
    found.caption = summary(progress)
    found.caption_justify = "left"
    return found


def summary(progress: SearchProgress) -> str:
    """Return the numbers of trials and, once it is known, the time left as one line."""
    left = progress.seconds_left
    counts = ", ".join(f"{progress.count(status)} {status}" for status in ("running", "finished", "pruned", "failed"))
    time_left = "" if math.isnan(left) else f"; about {timedelta(seconds=round(left))} left"
    return f"{len(progress.ended)} of {progress.num_trials} trials ended: {counts}{time_left}"


def sentence(trial: TrialProgress) -> str:
    """What became of a trial, as one line."""
    if trial.status == "failed":
        return f"{trial.name}: failed ({trial.error})"
    return f"{trial.name}: {trial.status} after {trial.steps:,} steps, validation Sharpe {_number(trial.best)}"


def print_outcome(outcome: SearchOutcome, output: Path) -> None:
    """Print the outcome of a search: counts, the best trials on fresh seeds, 1/N, and the files."""
    from rich import box
    from rich.table import Table

    from rllib_portfolio.reporting.plain_console import PlainConsole

    counts = ", ".join(f"{count} {word}" for word, count in outcome.counts.items())
    tell(f"Trials: {counts}.")
    console = PlainConsole()
    if not console.is_terminal:
        console.width = TABLE_WIDTH
    bar = _number(math.nan if outcome.equal_weight_sharpe is None else outcome.equal_weight_sharpe)
    if outcome.candidates:
        seeds = len(outcome.candidates[0].retrained)
        shown = Table(box=box.SIMPLE_HEAD, title="Validation Sharpe ratio after costs", title_justify="left")
        for heading in ("trial", "in the search", f"median of {seeds} fresh seeds", "of each", "selection bias"):
            shown.add_column(heading, justify="left" if heading == "trial" else "right")
        for place, found in enumerate(outcome.candidates):
            each = ", ".join(_number(value) for value in found.retrained)
            cells = (_number(found.searched), _number(found.median), each, f"{found.selection_bias:+.3f}")
            shown.add_row(found.name, *cells, style="bold" if place == 0 else None)
        shown.add_row("1/N", "", bar, "", "")
        console.print(shown)
    if outcome.best is None:
        print("No trial came to its end: there is no best configuration. The table says why.")
    else:
        name, sharpe = outcome.best
        best_config = next(path for path in outcome.files if path.suffix == ".yaml")
        tell(f"Best: {name}, validation Sharpe ratio {sharpe:.3f}; 1/N has {bar} on the same days.")
        tell(f"Train it: {as_invoked('python train.py')} --config {best_config}")
    tell(f"Written to {output}: {', '.join(path.name for path in outcome.files)}")


def _best(progress: SearchProgress) -> str:
    best = progress.best
    return "" if best is None else f" (best: {best.name}, {_number(best.best)})"


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"
