"""Progress displays: a bar on a terminal, a line at intervals elsewhere, and nothing with --quiet."""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from rllib_portfolio.shown_text import displayable_lines

if TYPE_CHECKING:
    from rllib_portfolio.runs.loop import Status

LINE_INTERVAL_S = 10.0
"""Time between two progress lines where the output is not a terminal."""
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
