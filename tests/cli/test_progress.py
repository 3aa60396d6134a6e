"""Tests of progress: a bar on a terminal, otherwise a line every ten seconds."""

from __future__ import annotations

import argparse
import io
import math
from typing import Any

import pytest
from rich.console import Console

from rllib_portfolio.cli import progress as module
from rllib_portfolio.cli.progress import ProgressMeter, RunsDisplay, TrainingDisplay, progress_bar, table_of_runs
from rllib_portfolio.experiments.progress import Progress, RunOutcome
from rllib_portfolio.experiments.walk_forward.plan import Run
from rllib_portfolio.runs.loop import Status


class Clock:
    """A clock that tests move."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def status(steps: int, **others: Any) -> Status:
    values = {
        "total_steps": 50_000,
        "steps_per_second": math.nan,
        "episode_return": math.nan,
        "validation_sharpe": math.nan,
        "best_validation_sharpe": math.nan,
        "is_evaluated": False,
        "is_finished": False,
        "is_saved": False,
        "elapsed_s": 0.0,
    }
    return Status(steps=steps, **{**values, **others})


def test_off_a_terminal_a_line_every_ten_seconds_tells_the_steps_the_speed_and_the_time_left(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with TrainingDisplay(quiet=False) as display:
        for _ in range(26):  # one iteration a second from where an earlier session stopped
            display.show(status(20_000 + 500 * round(clock.now - 1_000.0)))
            clock.now += 1.0
        display.show(status(33_000, episode_return=0.125, validation_sharpe=0.5, message="an evaluation"))
        clock.now += 5.0
        display.show(status(33_000, episode_return=0.125, validation_sharpe=0.5))
    assert capsys.readouterr().err.splitlines() == [
        "25,000 of 50,000 steps, 500 steps/s, 0:00:50 left",
        "30,000 of 50,000 steps, 500 steps/s, 0:00:40 left",
        "an evaluation",
        # 13,000 steps in 31 seconds: the other 17,000 take 41
        "33,000 of 50,000 steps, 419 steps/s, 0:00:41 left, return +0.125, validation Sharpe 0.50",
    ]


def test_a_bar_begins_where_the_run_goes_on_and_leaves_out_what_is_not_known(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    with TrainingDisplay(quiet=False) as display:
        display.show(status(25_000))
        first = terminal.getvalue()
        clock.now += 10.0
        display.show(status(25_100, episode_return=0.125))
    assert " 50% |" in first
    assert "25.0k/50.0k steps" in first
    assert "steps/s" not in first
    assert "nan" not in terminal.getvalue()
    # 100 steps in 10 seconds
    assert "10 steps/s, 0:41:30 left, return +0.125" in terminal.getvalue()


def test_slow_steps_are_told_with_their_fractions(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    meter = ProgressMeter(quiet=False, unit="walk", label="Walking")
    meter.show(0, 4)
    clock.now += 40.0
    meter.show(1, 4)
    assert capsys.readouterr().err == "Walking: 1 of 4 walks, 0.025 walks/s, 0:02:00 left\n"


def test_work_past_its_total_has_no_time_left(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    meter = ProgressMeter(quiet=False, unit="step")
    meter.show(0, 40)
    clock.now += 40.0
    meter.show(48, 40)
    assert ", 0:00:00 left" in capsys.readouterr().err


def test_days_that_are_walked_are_told_without_a_terminal(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar(argparse.Namespace(quiet=False), "Back-testing the out-of-sample days", "day") as show:
        for day in range(1, 301):
            show(day, 300)
            clock.now += 0.1
    assert capsys.readouterr().err.splitlines() == [
        "Back-testing the out-of-sample days ...",
        "Back-testing the out-of-sample days: 101 of 300 days, 10 days/s, 0:00:20 left",
        "Back-testing the out-of-sample days: 201 of 300 days, 10 days/s, 0:00:10 left",
    ]


@pytest.mark.parametrize("is_on_terminal", [False, True])
def test_quiet_is_quiet(clock: Clock, monkeypatch: pytest.MonkeyPatch, is_on_terminal: bool) -> None:
    stream = Terminal() if is_on_terminal else io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    with TrainingDisplay(quiet=True) as display, progress_bar(argparse.Namespace(quiet=True), "Walking", "day") as show:
        clock.now += 20.0
        display.show(status(100, message="an evaluation"))
        show(1, 2)
    assert stream.getvalue() == ""


def test_the_runs_of_an_analysis_are_as_fast_as_this_session_makes_them(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    earlier, run = RunOutcome(Run("ppo", 0, 0), "finished", 1_000), Run("ppo", 0, 1)
    totals = {Run("ppo", 0, seed): 1_000 for seed in range(3)}
    with RunsDisplay(quiet=False) as display:
        display.show(Progress({}, {}, 0, totals, (earlier,), num_before=1))
        clock.now += 10.0
        # it goes on from 400 steps, and has made 100 of its own
        display.show(Progress({run: 500}, {}, 100, totals, (earlier,), num_before=1))
        clock.now += 1.0
        ended = RunOutcome(run, "finished", 1_000, 12.4, 0.5)
        display.show(Progress({}, {}, 600, totals, (earlier, ended), num_before=1))
    assert capsys.readouterr().err.splitlines() == [
        "1 of 3 runs had already ended.",
        "1,500 of 3,000 steps, 10 steps/s, 0:02:30 left, 1 of 3 runs; ppo fold 0 seed 1 at 500",
        "[2/3] ppo fold 0 seed 1: finished after 1,000 steps, 12 s, best validation Sharpe 0.500",
    ]


# ---------------------------------------------------------------- a search

RUNNING = {f"trial_{number:04d}": 1_000 * number for number in range(8)}
SHARPES = {name: 0.1 * number for number, name in enumerate(RUNNING) if number}
ENDED = (
    RunOutcome("trial_0008", "finished", 50_000, 12.4, 0.5),
    RunOutcome("trial_0009", "pruned", 10_000, 2.0, 0.75),
    RunOutcome("trial_0010", "failed", error="RuntimeError: lost"),
)


def search_of(running: dict[str, int], *ended: RunOutcome, steps_made: int = 0, **others: Any) -> Progress:
    totals = {f"trial_{number:04d}": 50_000 for number in range(20)}
    return Progress(running, SHARPES, steps_made, totals, ended, **others)


def test_the_table_shows_what_runs_and_the_best_that_came_to_its_end() -> None:
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(table_of_runs(search_of(RUNNING, *ENDED), "trial", "3 of 20 trials", is_contest=True))
    lines = [" ".join(line.split()) for line in console.export_text().splitlines()]
    assert "trial_0000 running 0 -" in lines
    assert "trial_0005 running 5,000 0.500" in lines
    assert "and 2 more running" in lines
    assert "trial_0008 best so far 50,000 0.500" in lines  # the pruned one had 0.75, and was not brought to its end
    assert lines[-1] == "3 of 20 trials"


def test_a_terminal_shows_the_table_with_the_lines_above_it(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    with RunsDisplay(quiet=False, noun="trial", is_contest=True) as display:
        display.show(search_of(RUNNING))
        display.show(search_of(RUNNING, ENDED[0]))
    assert "trial_0005" in terminal.getvalue()
    assert "[1/20] trial_0008: finished after 50,000 steps, validation Sharpe 0.500" in terminal.getvalue()
    assert "1 of 20 trials" in terminal.getvalue()


def test_each_end_and_each_retry_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    retry = ("trial_0000: goes on from its last checkpoint after RuntimeError: lost",)
    with RunsDisplay(quiet=False, noun="trial", is_contest=True) as display:
        for num_ended in range(4):
            display.show(search_of({"trial_0000": 0}, *ENDED[:num_ended]))
        for _ in range(2):
            display.show(search_of({"trial_0000": 0}, *ENDED, retries=retry))
    assert capsys.readouterr().err.splitlines() == [
        "[1/20] trial_0008: finished after 50,000 steps, validation Sharpe 0.500 (best: trial_0008, 0.500)",
        "[2/20] trial_0009: pruned after 10,000 steps, validation Sharpe 0.750 (best: trial_0008, 0.500)",
        "[3/20] trial_0010: failed (RuntimeError: lost) (best: trial_0008, 0.500)",
        *retry,
    ]


def test_a_line_every_ten_seconds_tells_where_the_search_is(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with RunsDisplay(quiet=False, noun="trial", is_contest=True) as display:
        display.show(search_of({"trial_0001": 1_000}, *ENDED, num_before=3))
        clock.now += 10.0
        display.show(search_of({"trial_0001": 1_500, "trial_0002": 0}, *ENDED, num_before=3, steps_made=500))
    # 848,500 of 1,000,000 steps are left, 50 a second
    assert capsys.readouterr().err.splitlines() == [
        "3 of 20 trials had already ended.",
        "151,500 of 1,000,000 steps, 50 steps/s, 4:42:50 left, 3 of 20 trials (1 finished, 1 pruned, 1 failed); "
        "trial_0001 at 1,500, trial_0002 at 0",
    ]


def test_the_best_before_any_end_is_none() -> None:
    assert search_of(RUNNING).best is None
    assert search_of({}, ENDED[1]).best == ENDED[1]
