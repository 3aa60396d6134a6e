"""Progress displays and the result of a search. Displays are a bar or a table on a terminal, otherwise lines."""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from rllib_portfolio.cli.console import tell
from rllib_portfolio.command_names import as_invoked
from rllib_portfolio.shown_text import displayable_lines

if TYPE_CHECKING:
    from pathlib import Path

    from rllib_portfolio.experiments.progress import Progress, RunOutcome
    from rllib_portfolio.experiments.search.session import SearchOutcome
    from rllib_portfolio.runs.loop import Status

LINE_INTERVAL_S = 10.0
"""Seconds between two progress lines if standard error is not a terminal."""
SHOWN_RUNS = 6
TABLE_WIDTH = 100
_BAR_FORMAT = "{{desc}}{{percentage:3.0f}}% |{{bar:20}}| {{n_fmt}}/{{total_fmt}} {unit}s{{postfix}}"


class ProgressMeter:
    """A display of how much work is done; the rate and the time left count the work of this process only.

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
            done: Units that are done, earlier sessions included.
            total: Units in all.
            note: Text after the numbers.
            made: Units that this process has done; None counts them from the first call on.
        """
        if self._quiet:
            return
        if sys.stderr.isatty():
            self._move_bar(done, total, [*self._speed(done, total, made), *filter(None, [note])])
        else:
            self.tell_at_intervals(self.line(done, total, note, made=made))

    def line(self, done: int, total: int, note: str = "", *, made: int | None = None) -> str:
        """Return how much is done as one line.

        Args:
            done: Units that are done, earlier sessions included.
            total: Units in all.
            note: Text after the numbers.
            made: Units that this process has done; None counts them from the first call on.
        """
        parts = [f"{done:,} of {total:,} {self._unit}s", *self._speed(done, total, made), *filter(None, [note])]
        return f"{self._label}{', '.join(parts)}"

    def tell_at_intervals(self, line: str) -> None:
        """Print a line, unless another was printed in the last `LINE_INTERVAL_S` seconds."""
        if time.monotonic() - self._last_line >= LINE_INTERVAL_S:
            self._last_line = time.monotonic()
            self.tell(line)

    def tell(self, line: str) -> None:
        """Print a line, above the bar if there is one."""
        if self._quiet:
            return
        from tqdm import tqdm

        tqdm.write(displayable_lines(line), file=sys.stderr)

    def _speed(self, done: int, total: int, made: int | None) -> list[str]:
        """Return the rate and the time left; empty before they are known."""
        if self._first is None:
            self._first = done, time.monotonic()
        first, started = self._first
        made, seconds = done - first if made is None else made, time.monotonic() - started
        if made <= 0 or seconds <= 0.0:
            return []
        rate = made / seconds
        shown = f"{rate:,.0f}" if rate >= 10.0 else f"{rate:.2g}"
        return [f"{shown} {self._unit}s/s", f"{timedelta(seconds=round(max(0, total - done) / rate))} left"]

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
        """Show a status; its notice and its message are printed on separate lines."""
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
    """Show a labelled progress bar while this context is open; the bar is removed at the end.

    Args:
        arguments: Parsed arguments with the flag --quiet.
        label: Name of the work, shown in front of the numbers.
        unit: Name of the unit of work, in the singular.

    Yields:
        A function that takes the number of units done and in total, and shows them.
    """
    with ProgressMeter(arguments.quiet, unit, label, leave=False) as meter:
        if not sys.stderr.isatty():
            meter.tell(f"{label} ...")
        yield meter.show


# ---------------------------------------------------------------- many runs


class RunsDisplay:
    """The progress of many runs: a live table on a terminal, otherwise lines, and a line for each run that ends.

    Args:
        quiet: Show nothing.
        noun: Name of a run in the singular, such as "trial".
        is_contest: Show the best run so far, as in a search.
    """

    def __init__(self, quiet: bool, noun: str = "run", *, is_contest: bool = False) -> None:
        self._quiet, self._noun, self._is_contest = quiet, noun, is_contest
        self._meter = ProgressMeter(quiet, "step")
        self._told: set[Any] | None = None
        self._num_retries = 0
        self._live: Any = None

    def __enter__(self) -> RunsDisplay:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, progress: Progress) -> None:
        """Print a line for each event since the last call, and show the progress of the runs."""
        if self._quiet:
            return
        for line in self._news(progress):
            if self._live is None:
                self._meter.tell(line)
            else:
                self._live.console.print(line, highlight=False, soft_wrap=True)
        under_way = [f"{run} at {steps:,}" for run, steps in progress.running.items()]
        more = [f"and {len(under_way) - SHOWN_RUNS} more"] if len(under_way) > SHOWN_RUNS else []
        where = self._counts(progress)
        if not sys.stderr.isatty():
            where = f"{where}; {', '.join([*under_way[:SHOWN_RUNS], *more]) or 'waiting for resources'}"
        shown = self._meter.line(progress.steps, progress.total_steps, where, made=progress.steps_made)
        if sys.stderr.isatty():
            self._show_table(progress, shown)
        else:
            self._meter.tell_at_intervals(shown)

    def _news(self, progress: Progress) -> Iterator[str]:
        """Yield a line for each new retry after a failure and for each run that has newly ended."""
        num_runs, outcomes = progress.num_runs, progress.outcomes
        if self._told is None:  # runs of an earlier session are counted in one line
            self._told = {outcome.run for outcome in outcomes[: progress.num_before]}
            if self._told:
                yield f"{len(self._told)} of {num_runs} {self._noun}s had already ended."
        yield from progress.retries[self._num_retries :]
        self._num_retries = len(progress.retries)
        best = progress.best if self._is_contest else None
        so_far = "" if best is None else f" (best: {best.run}, {_number(best.validation_sharpe)})"
        for outcome in outcomes:
            if outcome.run not in self._told:
                self._told.add(outcome.run)
                yield f"[{len(self._told)}/{num_runs}] {_sentence(outcome, self._is_contest)}{so_far}"

    def _counts(self, progress: Progress) -> str:
        """Return how many runs have ended, with a count per status if there are several."""
        counts = Counter(outcome.status for outcome in progress.outcomes)
        how = ", ".join(f"{count} {status}" for status, count in counts.items())
        kinds = f" ({how})" if len(counts) > 1 else ""
        return f"{len(progress.outcomes)} of {progress.num_runs} {self._noun}s{kinds}"

    def _show_table(self, progress: Progress, caption: str) -> None:
        from rich.live import Live

        from rllib_portfolio.reporting.plain_console import PlainConsole

        if self._live is None:
            self._live = Live(console=PlainConsole(stderr=True), refresh_per_second=4, transient=False)
            self._live.start()
        self._live.update(table_of_runs(progress, self._noun, caption, is_contest=self._is_contest))


def table_of_runs(progress: Progress, noun: str, caption: str, *, is_contest: bool) -> Any:
    """Return a `rich` table of the running runs.

    Args:
        progress: The progress of all runs.
        noun: Name of a run in the singular.
        caption: Line below the table.
        is_contest: Add a row for the best run so far.
    """
    from rich import box
    from rich.table import Table

    found = Table(box=box.SIMPLE, pad_edge=False, caption=displayable_lines(caption), caption_justify="left")
    for heading in (noun, "state", "steps", "validation Sharpe, best"):
        found.add_column(heading, justify="left" if heading in (noun, "state") else "right")
    running = list(progress.running.items())
    for run, steps in running[:SHOWN_RUNS]:
        found.add_row(str(run), "running", f"{steps:,}", _number(progress.sharpes.get(run)))
    if len(running) > SHOWN_RUNS:
        found.add_row(f"and {len(running) - SHOWN_RUNS} more", "running", "", "")
    if is_contest and (best := progress.best) is not None:
        sharpe = _number(best.validation_sharpe)
        found.add_row(str(best.run), "best so far", f"{best.steps:,}", sharpe, style="bold")
    return found


def _sentence(outcome: RunOutcome, is_contest: bool) -> str:
    """Return one line about how a run ended."""
    if outcome.status == "failed":
        return f"{outcome.run}: failed ({outcome.error})"
    score = "undefined" if outcome.validation_sharpe is None else _number(outcome.validation_sharpe)
    took = "" if is_contest else f"{outcome.training_s:.0f} s, best "
    return f"{outcome.run}: {outcome.status} after {outcome.steps:,} steps, {took}validation Sharpe {score}"


def print_outcome(outcome: SearchOutcome, output: Path) -> None:
    """Print the outcome of a search: counts of trials, the best trials on fresh seeds, 1/N, and the files.

    Args:
        outcome: The outcome.
        output: Folder of the search.
    """
    from rich import box
    from rich.table import Table

    from rllib_portfolio.reporting.plain_console import PlainConsole

    counts = ", ".join(f"{count} {word}" for word, count in outcome.counts.items())
    tell(f"Trials: {counts}.")
    console = PlainConsole()
    if not console.is_terminal:
        console.width = TABLE_WIDTH
    bar = _number(outcome.equal_weight_sharpe)
    if outcome.candidates:
        seeds = len(outcome.candidates[0].retrained)
        shown = Table(box=box.SIMPLE_HEAD, title="Validation Sharpe ratio after costs", title_justify="left")
        fresh = (f"median of {seeds} fresh seeds", "each fresh seed")
        for heading in ("trial", "in the search", *fresh, "selection bias"):
            shown.add_column(heading, justify="left" if heading == "trial" else "right")
        for place, found in enumerate(outcome.candidates):
            each = ", ".join(_number(value) for value in found.retrained)
            cells = (_number(found.searched), _number(found.median), each, f"{found.selection_bias:+.3f}")
            shown.add_row(found.name, *cells, style="bold" if place == 0 else None)
        shown.add_row("1/N", "", bar, "", "")
        console.print(shown)
    if outcome.best is None:
        print("No trial finished, so there is no best configuration. The table gives the reasons.")
    else:
        name, sharpe = outcome.best
        best_config = next(path for path in outcome.files if path.suffix == ".yaml")
        tell(f"Best: {name}, validation Sharpe ratio {sharpe:.3f}; 1/N has {bar} on the same days.")
        tell(f"Train it: {as_invoked('python train.py')} --config {best_config}")
    tell(f"Written to {output}: {', '.join(path.name for path in outcome.files)}")


def _number(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.3f}"
