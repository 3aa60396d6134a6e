"""Progress displays: a bar or a table on a terminal, lines elsewhere, and nothing with --quiet; what a search found."""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from rllib_portfolio.cli.console import tell
from rllib_portfolio.shown_text import displayable_lines

if TYPE_CHECKING:
    from pathlib import Path

    from rllib_portfolio.experiments.runner import Progress, RunOutcome
    from rllib_portfolio.experiments.search.progress import SearchProgress, TrialProgress
    from rllib_portfolio.experiments.search.session import SearchOutcome
    from rllib_portfolio.runs.loop import Status

LINE_INTERVAL_S = 10.0
"""Time between two progress lines where the output is not a terminal."""
SHOWN_TRIALS = 6
TABLE_WIDTH = 100
_BAR_FORMAT = "{{desc}}{{percentage:3.0f}}% |{{bar:20}}| {{n_fmt}}/{{total_fmt}} {unit}s{{postfix}}"


class ProgressMeter:
    """A display of how much work is done. The rate and the time left are computed from this session alone.

    Args:
        quiet: Show nothing.
        unit: Name of the unit of work, in the singular.
        label: Name of the work, shown in front of the numbers.
        leave: Leave the bar on the terminal when it is closed.
    """

    def __init__(self, quiet: bool, unit: str, label: str = "", *, leave: bool = True) -> None:
        self._quiet, self._unit, self._leave = quiet, unit, leave
        self._label = f"{displayable_lines(label)}: " if label else ""
        self._last_line = time.monotonic()
        self._first: tuple[int, float] | None = None
        self._bar: Any = None

    def __enter__(self) -> ProgressMeter:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def show(self, done: int, total: int, note: str = "", *, made: int | None = None) -> None:
        """Show that `done` of `total` units are done.

        Args:
            done: Units that need no more work.
            total: Units in all.
            note: Text after the numbers.
            made: Units that this session has made; None counts them from the first call on.
        """
        if self._quiet:
            return
        if self._first is None:
            self._first = done, time.monotonic()
        first, started = self._first
        speed = self._speed(done - first if made is None else made, time.monotonic() - started, total - done)
        if sys.stderr.isatty():
            self._move_bar(done, total, [*speed, *filter(None, [note])])
        elif time.monotonic() - self._last_line >= LINE_INTERVAL_S:
            self._last_line = time.monotonic()
            what = ", ".join([f"{done:,} of {total:,} {self._unit}s", *speed, *filter(None, [note])])
            self.tell(f"{self._label}{what}")

    def tell(self, line: str) -> None:
        """Print a line, above the bar if there is one."""
        if self._quiet:
            return
        from tqdm import tqdm

        tqdm.write(displayable_lines(line), file=sys.stderr)

    def _speed(self, made: int, seconds: float, left: int) -> list[str]:
        """Return the rate and the time left; empty before they are known."""
        if made <= 0 or seconds <= 0.0:
            return []
        rate = made / seconds
        shown = f"{rate:,.0f}" if rate >= 10.0 else f"{rate:.2g}"
        return [f"{shown} {self._unit}s/s", f"{timedelta(seconds=round(left / rate))} left"]

    def _move_bar(self, done: int, total: int, notes: list[str]) -> None:
        from tqdm import tqdm

        if self._bar is None:
            self._bar = tqdm(
                desc=self._label or None,
                total=total,
                initial=done,
                unit_scale=total >= 10_000,
                leave=self._leave,
                dynamic_ncols=True,
                bar_format=_BAR_FORMAT.format(unit=self._unit),
            )
        self._bar.total = total
        self._bar.set_postfix_str(displayable_lines(", ".join(notes)), refresh=False)
        self._bar.update(max(0, done - self._bar.n))


class TrainingDisplay:
    """The meter of a training run, with a line for each evaluation."""

    def __init__(self, quiet: bool) -> None:
        self._meter = ProgressMeter(quiet, "step")

    def __enter__(self) -> TrainingDisplay:
        return self

    def __exit__(self, *exception: object) -> None:
        self._meter.__exit__(*exception)

    def show(self, status: Status) -> None:
        """Show a `loop.Status`; its notice and its message are printed on lines of their own."""
        for line in (status.notice, status.message):
            if line is not None:
                self._meter.tell(line)
        known = {
            f"return {status.episode_return:+.3f}": status.episode_return,
            f"validation Sharpe {status.validation_sharpe:.2f}": status.validation_sharpe,
        }
        note = ", ".join(text for text, value in known.items() if not math.isnan(value))
        self._meter.show(status.steps, status.total_steps, note)


@contextmanager
def progress_bar(arguments: argparse.Namespace, label: str, unit: str) -> Iterator[Callable[[int, int], None]]:
    """Yield a function that shows (done, total) on a labelled bar, which is removed at the end."""
    with ProgressMeter(arguments.quiet, unit, label, leave=False) as meter:
        if not sys.stderr.isatty():
            meter.tell(f"{label} ...")
        yield meter.show


# ---------------------------------------------------------------- many runs


class _News:
    """What has happened since it was last asked for: a line for each failure that a run goes on after and each end.

    Args:
        known: Runs that ended in an earlier session.
    """

    def __init__(self, known: Iterable[object]) -> None:
        self._told = set(known)
        self._num_retries = 0

    def lines(self, ends: Iterable[tuple[object, str]], num_runs: int, retries: Sequence[str]) -> Iterator[str]:
        """Yield the lines that are new.

        Args:
            ends: The runs that have ended, with what became of each.
            num_runs: Runs in all.
            retries: Failures that a run went on after.
        """
        yield from retries[self._num_retries :]
        self._num_retries = len(retries)
        for run, sentence in ends:
            if run not in self._told:
                self._told.add(run)
                yield f"[{len(self._told)}/{num_runs}] {sentence}"


class RunsDisplay:
    """The meter of many runs, with a line for each run that ends.

    Args:
        quiet: Show nothing.
        known: Runs that an earlier session finished.
    """

    def __init__(self, quiet: bool, known: Sequence[RunOutcome]) -> None:
        self._meter = ProgressMeter(quiet, "step")
        self._news = _News(outcome.run for outcome in known)

    def __enter__(self) -> RunsDisplay:
        return self

    def __exit__(self, *exception: object) -> None:
        self._meter.__exit__(*exception)

    def show(self, progress: Progress) -> None:
        """Print a line for what has happened since the last call, and move the meter."""
        ends = ((outcome.run, _end_of_run(outcome)) for outcome in progress.outcomes)
        for line in self._news.lines(ends, progress.num_runs, progress.retries):
            self._meter.tell(line)
        under_way = ", ".join(f"{run} at {steps:,}" for run, steps in progress.running.items())
        note = f"{len(progress.outcomes)} of {progress.num_runs} runs; {under_way or 'waiting for room'}"
        self._meter.show(progress.steps, progress.total_steps, note, made=progress.steps_made)


def _end_of_run(outcome: RunOutcome) -> str:
    """Return what became of a run as one line."""
    if outcome.status == "failed":
        return f"{outcome.run}: failed ({outcome.error})"
    score = "undefined" if outcome.validation_sharpe is None else f"{outcome.validation_sharpe:.3f}"
    return (
        f"{outcome.run}: {outcome.status} after {outcome.steps:,} steps, {outcome.training_s:.0f} s, best validation "
        f"Sharpe {score}"
    )


class SearchDisplay:
    """A live table on a terminal; elsewhere a line at intervals and for each trial that ends; nothing with --quiet."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._news: _News | None = None
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
        if self._news is None:  # what ended in an earlier session is no news
            before = [trial.name for trial in ended] if progress.is_continued else []
            self._news = _News(before)
            if before:
                tell(f"{len(before)} of {progress.num_trials} trials ended before.", sys.stderr)
        best = progress.best
        best_so_far = "" if best is None else f" (best: {best.name}, {_number(best.best)})"
        ends = ((trial.name, f"{_end_of_trial(trial)}{best_so_far}") for trial in ended)
        for line in self._news.lines(ends, progress.num_trials, progress.retries):
            tell(line, sys.stderr)
        if time.monotonic() - self._last_line >= LINE_INTERVAL_S:
            self._last_line = time.monotonic()
            under_way = [trial for trial in progress.trials.values() if trial.status == "running"]
            steps = ", ".join(f"{trial.name} at {trial.steps:,} steps" for trial in under_way[:SHOWN_TRIALS])
            tell(f"{_summary(progress)}{f'; {steps}' if steps else ''}", sys.stderr)

    def _show_table(self, progress: SearchProgress) -> None:
        from rich.live import Live

        from rllib_portfolio.reporting.plain_console import PlainConsole

        if self._live is None:
            self._live = Live(console=PlainConsole(stderr=True), refresh_per_second=4, transient=False)
            self._live.start()
        self._live.update(table(progress))


def table(progress: SearchProgress) -> Any:
    """Return a table of the trials that run and the best so far, with the counts below it."""
    from rich import box
    from rich.table import Table

    found = Table(box=box.SIMPLE, title="search", title_justify="left", pad_edge=False)
    for heading in ("trial", "state", "steps", "validation Sharpe, best"):
        found.add_column(heading, justify="left" if heading in ("trial", "state") else "right")
    running = [trial for trial in progress.trials.values() if trial.status == "running"]
    for trial in running[:SHOWN_TRIALS]:
        found.add_row(trial.name, "running", f"{trial.steps:,} of {progress.max_steps:,}", _number(trial.best))
    if len(running) > SHOWN_TRIALS:
        found.add_row(f"and {len(running) - SHOWN_TRIALS} more", "running", "", "")
    if (best := progress.best) is not None:
        found.add_row(best.name, "best so far", f"{best.steps:,}", _number(best.best), style="bold")
    found.caption = _summary(progress)
    found.caption_justify = "left"
    return found


def _summary(progress: SearchProgress) -> str:
    """Return the numbers of trials and, once it is known, the time left as one line."""
    left = progress.seconds_left
    counts = ", ".join(f"{progress.count(status)} {status}" for status in ("running", "finished", "pruned", "failed"))
    time_left = "" if math.isnan(left) else f"; about {timedelta(seconds=round(left))} left"
    return f"{len(progress.ended)} of {progress.num_trials} trials ended: {counts}{time_left}"


def _end_of_trial(trial: TrialProgress) -> str:
    """Return what became of a trial as one line."""
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
        tell(f"Train it: python train.py --config {best_config}")
    tell(f"Written to {output}: {', '.join(path.name for path in outcome.files)}")


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"
