"""What a search shows while it goes on: a table on a terminal, a line for each trial that ends elsewhere."""

from __future__ import annotations

import io
import math
import re
import time

import pytest
from rich.console import Console

from rllib_portfolio.cli import progress as module
from rllib_portfolio.cli.progress import SearchDisplay, table
from rllib_portfolio.experiments.search.progress import SearchProgress, TrialProgress
from tests.cli.test_progress import Clock


def progress_of(*trials: TrialProgress) -> SearchProgress:
    progress = SearchProgress(num_trials=20, max_steps=50_000)
    for trial in trials:
        progress.note(trial)
    return progress


RUNNING = tuple(TrialProgress(f"trial_{number:04d}", "running", 1_000 * number, 0.1 * number) for number in range(8))
ENDED = (
    TrialProgress("trial_0008", "finished", 50_000, 0.5),
    TrialProgress("trial_0009", "pruned", 10_000, 0.75),
    TrialProgress("trial_0010", "failed", error="RuntimeError: lost"),
)


def test_the_table_counts_trials_and_shows_the_best_that_came_to_its_end_and_the_time_left() -> None:
    progress = progress_of(*RUNNING, *ENDED)
    progress.started = time.monotonic() - 30.0  # 3 of 20 trials in 30 s: the other 17 take 170 s
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(table(progress))
    lines = [" ".join(line.split()) for line in console.export_text().splitlines()]
    assert "trial_0005 running 5,000 of 50,000 0.500" in lines
    assert "and 2 more running" in lines
    assert "trial_0008 best so far 50,000 0.500" in lines  # the pruned one had 0.75, and was not brought to its end
    text = " ".join(lines)
    assert "3 of 20 trials ended: 8 running, 1 finished, 1 pruned, 1 failed; about 0:02:50 left" in text


def test_before_the_first_end_no_time_is_guessed_and_the_best_so_far_is_among_all() -> None:
    progress = progress_of(*RUNNING)
    assert math.isnan(progress.seconds_left)
    assert progress.best == RUNNING[-1]
    assert progress_of(TrialProgress("trial_0000", "running")).best is None


def test_elsewhere_each_end_and_each_retry_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    progress = progress_of(RUNNING[0])
    with SearchDisplay(quiet=False) as display:
        display.show(progress)
        for trial in ENDED:
            progress.note(trial)
            display.show(progress)
        progress.note_retry("trial_0000", "RuntimeError: lost")
        display.show(progress)
        display.show(progress)
    assert capsys.readouterr().err.splitlines() == [
        "[1/20] trial_0008: finished after 50,000 steps, validation Sharpe 0.500 (best: trial_0008, 0.500)",
        "[2/20] trial_0009: pruned after 10,000 steps, validation Sharpe 0.750 (best: trial_0008, 0.500)",
        "[3/20] trial_0010: failed (RuntimeError: lost) (best: trial_0008, 0.500)",
        "trial_0000: goes on from its last checkpoint after RuntimeError: lost",
    ]


def test_elsewhere_a_line_every_ten_seconds_tells_where_the_search_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    with SearchDisplay(quiet=False) as display:
        for _ in range(25):
            display.show(progress_of(RUNNING[1], RUNNING[2]))
            clock.now += 1.0
    assert capsys.readouterr().err.splitlines() == 2 * [
        "0 of 20 trials ended: 2 running, 0 finished, 0 pruned, 0 failed; trial_0001 at 1,000 steps, trial_0002 at "
        "2,000 steps"
    ]


def test_quiet_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    with SearchDisplay(quiet=True) as display:
        display.show(progress_of(*ENDED))
    assert re.fullmatch(r"\s*", "".join(capsys.readouterr()))


def test_a_trial_that_runs_again_keeps_what_it_had_reached() -> None:
    progress = progress_of(RUNNING[5], TrialProgress("trial_0005", "running"))
    assert progress.trials["trial_0005"] == RUNNING[5]
