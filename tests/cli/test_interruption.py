"""Tests of interruptions from outside: signals to the process group, closed pipes, a lost terminal."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rllib_portfolio.policies.checkpoint import newest_checkpoint, read_progress
from tests.cli.test_train import train_command, write_config
from tests.runs.test_tracking import rows_of
from tests.tiny_runs import COIN

ENDLESS = {"schedule.total_timesteps": 10**8, "schedule.evaluation_interval": 10**8}


@pytest.fixture
def shell(pytestconfig: pytest.Config) -> dict[str, Any]:
    """Options of a process in the checkout, without the settings that these tests make for Ray."""
    ours = ("RAY_ADDRESS", "RAY_USAGE_STATS_ENABLED", "PYTHONWARNINGS")
    environment = {name: value for name, value in os.environ.items() if name not in ours}
    return {"cwd": pytestconfig.rootpath, "env": environment, "text": True}


# ---------------------------------------------------------------- output that nobody receives

TALKATIVE = """
import sys
from pathlib import Path
from rllib_portfolio.cli.console import guarded, warn
def command():
    from tqdm import tqdm
    for number in range(2000):
        print("a line of some length for standard output", number)
        print("a line of some length for standard error", number, file=sys.stderr)
    warn("in red")
    tqdm.write("above a bar", file=sys.stderr)
    with tqdm(total=2, file=sys.stderr, mininterval=0) as bar:
        bar.update(1)
    Path(sys.argv[1]).write_text("done")
    return 3
sys.exit(guarded(command))
"""


def talk(path: Path, *options: str, **streams: Any) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, *options, "-c", TALKATIVE, str(path)]
    return subprocess.run(words, text=True, timeout=60, check=False, **streams)


@pytest.fixture
def unread() -> Iterator[int]:
    """The writing end of a pipe that nobody reads."""
    reading, writing = os.pipe()
    os.close(reading)
    yield writing
    os.close(writing)


@pytest.mark.parametrize("options", [(), ("-u",)])
def test_a_command_whose_output_nobody_reads_comes_to_its_end(
    tmp_path: Path, unread: int, options: tuple[str, ...]
) -> None:
    done = talk(tmp_path / "result", *options, stdout=unread, stderr=subprocess.PIPE)
    assert done.returncode == 3
    assert (tmp_path / "result").read_text() == "done"
    assert "for standard error 1999" in done.stderr
    assert "BrokenPipe" not in done.stderr
    assert talk(tmp_path / "again", *options, stdout=unread, stderr=unread).returncode == 3
    assert (tmp_path / "again").read_text() == "done"


def test_a_command_whose_terminal_is_gone_comes_to_its_end(tmp_path: Path) -> None:
    ours, terminal = pty.openpty()
    os.close(ours)
    with pytest.raises(OSError, match="Input/output error"):
        os.write(terminal, b"nobody is there")
    done = talk(tmp_path / "result", stdout=terminal, stderr=terminal)
    os.close(terminal)
    assert done.returncode == 3
    assert (tmp_path / "result").read_text() == "done"


def test_a_command_that_begins_without_output_comes_to_its_end(tmp_path: Path) -> None:
    def close() -> None:
        os.close(1)
        os.close(2)

    assert talk(tmp_path / "result", preexec_fn=close).returncode == 3
    assert (tmp_path / "result").read_text() == "done"


def test_what_a_full_disk_does_not_take_is_told_at_the_end(tmp_path: Path) -> None:
    with open("/dev/full", "w") as full:
        done = talk(tmp_path / "result", stdout=full, stderr=subprocess.PIPE)
    assert (tmp_path / "result").read_text() == "done"
    assert done.returncode == 3
    assert done.stderr.splitlines()[-1].startswith(
        "error: output must be writable, got standard output: No space left on device."
    )


# ---------------------------------------------------------------- signals

WAITING = """
import sys, time
from rllib_portfolio.cli.interruption import stop_signals
with stop_signals("Stopping ...") as received:
    print("ready", flush=True)
    end = time.monotonic() + 30.0
    while len(received) < int(sys.argv[1]) and time.monotonic() < end:
        time.sleep(0.01)
sys.exit(128 + received[0])
"""


def signalled(wanted: int, *numbers: signal.Signals, **options: Any) -> subprocess.Popen[str]:
    """A process that ends when it has noted so many signals, and was sent some, one after the other."""
    process = subprocess.Popen(
        [sys.executable, "-c", WAITING, str(wanted)], stdout=subprocess.PIPE, text=True, **options
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    for number in numbers:
        process.send_signal(number)
        time.sleep(0.1)
    process.communicate(timeout=20)
    return process


def default_hangup() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # this suite may run under nohup


def test_a_hang_up_may_come_twice_and_a_request_to_end_only_once(unread: int) -> None:
    numbers = (signal.SIGHUP, signal.SIGHUP, signal.SIGTERM)  # a shell, the kernel and a session manager
    assert signalled(3, *numbers, preexec_fn=default_hangup, stderr=unread).returncode == 128 + signal.SIGHUP
    process = signalled(9, signal.SIGTERM, signal.SIGTERM, stderr=subprocess.DEVNULL)
    assert process.returncode == -signal.SIGTERM


def test_a_hang_up_that_is_ignored_from_the_beginning_stays_ignored() -> None:
    def ignore() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does

    process = signalled(1, signal.SIGHUP, signal.SIGTERM, preexec_fn=ignore, stderr=subprocess.DEVNULL)
    assert process.returncode == 128 + signal.SIGTERM


# ---------------------------------------------------------------- a pipeline: a command, and tee, in one process group


class Pipeline:
    """`command 2>&1 | tee log` in a process group of its own."""

    def __init__(self, words: list[str], log: Path, options: dict[str, Any]) -> None:
        reading, writing = os.pipe()
        outputs = {"stdout": writing, "stderr": writing, "process_group": 0, "preexec_fn": default_hangup}
        self.command = subprocess.Popen(words, **outputs, **options)
        self.reader = subprocess.Popen(
            ["tee", log], stdin=reading, stdout=subprocess.DEVNULL, process_group=self.command.pid
        )
        os.close(reading)
        os.close(writing)

    def wait_until(self, is_under_way: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 240
        while not is_under_way():
            assert self.command.poll() is None, "the command has ended"
            assert time.monotonic() < deadline, "training does not get going"
            time.sleep(0.05)

    def signal(self, number: signal.Signals) -> int:
        """Send a signal to the whole group; the exit code of the command."""
        os.killpg(self.command.pid, number)
        return self.command.wait(timeout=120)


@pytest.fixture
def pipelines() -> Iterator[list[Pipeline]]:
    """Pipelines of a test; those that are left over are ended."""
    started: list[Pipeline] = []
    yield started
    for pipeline in started:
        for process in (pipeline.command, pipeline.reader):
            if process.poll() is None:
                process.kill()
            process.wait()


@pytest.mark.ray
@pytest.mark.timeout(600)
def test_a_hang_up_of_a_pipeline_leaves_a_checkpoint_that_training_goes_on_from(
    tmp_path: Path, shell: dict[str, Any], pipelines: list[Pipeline]
) -> None:
    config, run_dir = write_config(tmp_path / "endless.yaml", COIN, ENDLESS), tmp_path / "run"
    pipeline = Pipeline(train_command("--config", config, "--output-dir", run_dir), tmp_path / "log", shell)
    pipelines.append(pipeline)
    pipeline.wait_until(lambda: (run_dir / "progress.csv").is_file() and len(rows_of(run_dir)) >= 2)
    assert pipeline.signal(signal.SIGHUP) == 128 + signal.SIGHUP
    newest = newest_checkpoint(run_dir)
    assert newest is not None
    assert read_progress(newest)["steps"] == int(rows_of(run_dir)[-1]["steps"])
