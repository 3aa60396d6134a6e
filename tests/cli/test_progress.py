"""How far a command says that it is: a bar on a terminal, a line every ten seconds elsewhere."""

from __future__ import annotations

import argparse
import io
import math
from typing import Any

import pytest

from rllib_portfolio.cli import progress as module
from rllib_portfolio.cli.progress import ProgressMeter, RunsDisplay, TrainingDisplay, progress_bar
from rllib_portfolio.experiments.runner import Progress, RunOutcome
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


def test_days_that_are_walked_are_told_without_a_terminal(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar(argparse.Namespace(quiet=False), "Walking the out-of-sample days", "day") as show:
        for day in range(1, 301):
            show(day, 300)
            clock.now += 0.1
    assert capsys.readouterr().err.splitlines() == [
        "Walking the out-of-sample days ...",
        "Walking the out-of-sample days: 101 of 300 days, 10 days/s, 0:00:20 left",
        "Walking the out-of-sample days: 201 of 300 days, 10 days/s, 0:00:10 left",
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
    with RunsDisplay(quiet=False, known=[earlier]) as display:
        display.show(Progress({}, (earlier,), 3, steps=1_000, total_steps=3_000, steps_made=0))
        clock.now += 10.0
        # it goes on from 400 steps, and has made 100 of its own
        display.show(Progress({run: 500}, (earlier,), 3, steps=1_500, total_steps=3_000, steps_made=100))
        clock.now += 1.0
        ended = RunOutcome(run, "finished", 1_000, 12.4, 0.5)
        display.show(Progress({}, (earlier, ended), 3, steps=2_000, total_steps=3_000, steps_made=600))
    assert capsys.readouterr().err.splitlines() == [
        "1,500 of 3,000 steps, 10 steps/s, 0:02:30 left, 1 of 3 runs; ppo fold 0 seed 1 at 500",
        "[2/3] ppo fold 0 seed 1: finished after 1,000 steps, 12 s, best validation Sharpe 0.500",
    ]
