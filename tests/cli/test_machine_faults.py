"""Faults of the machine while a command runs: one line says what was saved and how to go on, and the exit code is 1."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from optuna.trial import TrialState

from rllib_portfolio import cli
from rllib_portfolio.cli.console import guarded, ray_session
from rllib_portfolio.experiments.search.optuna_search import StudySearch
from rllib_portfolio.experiments.search.session import SearchSession
from rllib_portfolio.experiments.search.study import STEPS
from rllib_portfolio.experiments.walk_forward import record
from rllib_portfolio.new_folder import IN_USE
from rllib_portfolio.policies.checkpoint import checkpoints
from rllib_portfolio.runs import health, loop
from tests.cli.test_train import write_config
from tests.cli.test_tune import trials_in, write_search
from tests.full_disk import full_disk, read_only
from tests.runs.test_tracking import rows_of
from tests.tiny_runs import COIN, STEPS_PER_ITERATION, TOTAL_STEPS, tiny_config

SOON = {"schedule.checkpoint_interval": STEPS_PER_ITERATION, "schedule.total_timesteps": TOTAL_STEPS}
FAULT_AT = 4 * STEPS_PER_ITERATION


@pytest.fixture
def run_dir(ray_session: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Return a folder for a run; commands find a running Ray session."""
    for name in ("train", "tune", "walk_forward"):
        module = import_module(f"rllib_portfolio.cli.{name}")  # as an attribute of the package it may be a function
        monkeypatch.setattr(module, "ray_session", lambda config, address: nullcontext())
    return tmp_path / "run"


def train(run_dir: Path, *settings: dict[str, Any]) -> int:
    path = run_dir.with_name("tiny.yaml")
    path.write_text(yaml.safe_dump(tiny_config(COIN, SOON, *settings).model_dump(mode="json")))
    return cli.train(["--quiet", "--config", str(path), "--output-dir", str(run_dir)])


def fail_within(monkeypatch: pytest.MonkeyPatch, method: str, fault: Callable[[Any], Any]) -> None:
    """Let a method of the loop run inside the context that `fault` makes of the loop, once 256 steps are done."""
    original = getattr(loop._Run, method)

    def failing(run: Any, *arguments: Any) -> Any:
        with fault(run) or nullcontext() if run.state.steps >= FAULT_AT else nullcontext():
            return original(run, *arguments)

    monkeypatch.setattr(loop._Run, method, failing)


def told(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line of a command that printed nothing else."""
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    return line


# ---------------------------------------------------------------- disks


@pytest.mark.ray
@pytest.mark.parametrize("method", ["_checkpoint", "_status"])
def test_a_full_disk_ends_a_run_with_the_way_to_continue_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, run_dir: Path, method: str
) -> None:
    with monkeypatch.context() as patch:
        if method == "_status":  # the curves of the next iteration are what does not fit
            fail_within(patch, "_iterate", lambda run: patch.setattr(run.tracker, "log", _on_full_disk(run.tracker)))
        else:
            fail_within(patch, method, lambda run: full_disk(300))
        assert train(run_dir) == 1
    line = told(capsys)
    assert line.startswith("error: files must be readable and writable, got File too large")
    newest = checkpoints(run_dir)[-1]
    assert line.endswith(f"Saved last: checkpoint {newest.name}. Continue with: python train.py --resume {run_dir}")
    assert cli.train(["--quiet", "--resume", str(run_dir)]) == 0
    assert [int(row["steps"]) for row in rows_of(run_dir)][-10:] == list(range(64, TOTAL_STEPS + 1, 64))


def _on_full_disk(tracker: Any) -> Callable[..., None]:
    log = tracker.log

    def logs(*arguments: Any) -> None:
        with full_disk(300):
            log(*arguments)

    return logs


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize("was_left_in_use", [False, True])
@pytest.mark.parametrize(
    ("command", "words"),
    [(cli.train, []), (cli.tune, []), (cli.backtest, ["walk-forward"])],
    ids=["train", "tune", "walk-forward"],
)
def test_nothing_is_resumed_in_a_folder_that_cannot_be_written(
    capsys: pytest.CaptureFixture[str],
    open_folder: Path,
    command: Callable[[list[str]], int],
    words: list[str],
    was_left_in_use: bool,
) -> None:
    if was_left_in_use:  # by a process that was killed
        (open_folder / IN_USE).touch()
        (open_folder / IN_USE).chmod(0o666)
    with read_only(open_folder):
        assert command([*words, "--quiet", "--resume", str(open_folder)]) == 2
    assert told(capsys) == (
        f"error: folder must be writable, got {open_folder / IN_USE} (Permission denied). Correct its permissions, or "
        "choose another folder."
    )


@pytest.mark.ray
@pytest.mark.timeout(600)
def test_a_full_disk_ends_a_search_with_the_way_to_continue_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, run_dir: Path
) -> None:
    path = write_search(run_dir.with_name("tiny.yaml"), COIN)
    limits = ("--num-samples", "1", "--max-steps", "384", "--report-interval", "128", "--retrain-top", "0")
    again = f"The finished work is saved. Continue with: python tune.py --resume {run_dir}"
    with fails_on_full_disk(monkeypatch, StudySearch, "write"):
        assert cli.tune(["--quiet", "--config", str(path), "--output-dir", str(run_dir), *limits]) == 1
    line = told(capsys)
    assert line.startswith("error: the study's database must answer and have room, got OperationalError: ")
    assert line.endswith(again)
    with fails_on_full_disk(monkeypatch, SearchSession, "finish"):
        assert cli.tune(["--quiet", "--resume", str(run_dir)]) == 1
    line = told(capsys)
    assert line.startswith("error: files must be readable and writable, got File too large")
    assert line.endswith(again)
    assert cli.tune(["--quiet", "--resume", str(run_dir)]) == 0
    (trial,) = trials_in(run_dir)
    assert trial.state == TrialState.COMPLETE
    # what was told between the first report, which could not be filed, and the end of the command is in the run alone
    assert set(trial.intermediate_values) <= {128, 256, 384}
    assert trial.user_attrs[STEPS] == max(trial.intermediate_values) == 384
    assert [int(row["steps"]) for row in rows_of(run_dir / "trials" / "trial_0000")] == list(range(64, 385, 64))


@pytest.mark.ray
@pytest.mark.timeout(600)
def test_a_full_disk_ends_a_walk_forward_analysis_with_the_way_to_continue_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, run_dir: Path, price_settings: dict[str, Any]
) -> None:
    path = write_config(run_dir.with_name("tiny.yaml"), price_settings, {"schedule.total_timesteps": 128})
    words = ["walk-forward", "--quiet", "--config", str(path), "--output-dir", str(run_dir)]
    with fails_on_full_disk(monkeypatch, record, "note_training"):
        assert cli.backtest([*words, "--folds", "1", "--seeds", "1"]) == 1
    line = told(capsys)
    assert line.startswith("error: files must be readable and writable, got File too large")
    again = f"python backtest.py walk-forward --resume {run_dir}"
    assert line.endswith(f"The finished work is saved. Continue with: {again}")
    assert cli.backtest(["walk-forward", "--quiet", "--resume", str(run_dir)]) == 0
    assert (run_dir / "report.html").is_file() or list(run_dir.glob("report*"))


@contextmanager
def fails_on_full_disk(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> Iterator[None]:
    """Within, a function finds the disk full."""
    original = getattr(owner, name)

    def fails(*arguments: Any, **options: Any) -> Any:
        with full_disk(300):
            return original(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, fails)
        yield


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_every_command_tells_a_fault_of_a_disk_in_one_line(capsys: pytest.CaptureFixture[str], number: int) -> None:
    def command() -> int:
        raise OSError(number, os.strerror(number), "results.csv")

    assert guarded(command) == 1
    assert told(capsys).startswith(
        f"error: files must be readable and writable, got {os.strerror(number)} (results.csv)."
    )


def test_a_lack_of_memory_is_told_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert guarded(lambda: np.ones(2**50).size) == 1
    line = "error: memory must hold what the command works on, got MemoryError: Unable to allocate 8.00 PiB "
    assert told(capsys).startswith(line)


def test_a_mistake_in_the_program_is_no_fault_of_the_machine() -> None:
    def command() -> int:
        return len(Path("no such file").read_text())

    with pytest.raises(FileNotFoundError):
        guarded(command)


# ---------------------------------------------------------------- what somebody removes


@pytest.mark.ray
@pytest.mark.parametrize(
    ("method", "name"),
    [("_iterate", "market.npz"), ("_validate", ""), ("_checkpoint", "")],
)
def test_a_run_whose_folder_is_removed_says_so_and_does_not_come_back_in_part(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, run_dir: Path, name: str, method: str
) -> None:
    def remove(run: Any) -> None:
        if not name:
            shutil.rmtree(run_dir, ignore_errors=True)
        else:
            (run_dir / name).unlink(missing_ok=True)

    fail_within(monkeypatch, method, remove)
    assert train(run_dir, {"schedule.evaluation_interval": STEPS_PER_ITERATION}) == 1
    line = told(capsys)
    missing = name or "config.yaml and no market.npz"
    assert line.startswith(f"error: run folder must stay as it is during training, got no {missing} ({run_dir}).")
    assert run_dir.exists() == bool(name)
    if name:
        assert checkpoints(run_dir)[-1].name == "step_000000256"  # of before


# ---------------------------------------------------------------- processes


def test_a_machine_that_is_too_busy_for_ray_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**options: Any) -> None:
        raise Exception("The current node timed out during startup.")

    def command() -> int:
        with ray_session(tiny_config(), None):
            return 0

    monkeypatch.setattr("ray.init", fail)
    assert guarded(command) == 1
    assert told(capsys) == (
        "error: Ray must start on this machine, got Exception: The current node timed out during startup. Try again "
        "when the machine is less busy."
    )


@pytest.mark.ray
def test_a_run_whose_env_runners_do_not_come_back_ends_with_the_way_to_continue_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, run_dir: Path
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(health, "NOBODY_SAMPLES_S", 3.0)
        fail_within(patch, "_iterate", lambda run: setattr(run.algorithm, "training_step", lambda: None))
        assert train(run_dir) == 1
    assert told(capsys) == (
        "error: env runners must come back when they are lost, got none that has sampled for 3 s. Look for a lack of "
        "memory, a full disk or object store, or for machines that were lost. Saved last: checkpoint step_000000256. "
        f"Continue with: python train.py --resume {run_dir}"
    )
    assert cli.train(["--quiet", "--resume", str(run_dir)]) == 0


@pytest.mark.ray
def test_a_learner_that_is_killed_ends_a_run_with_the_way_to_continue_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, run_dir: Path
) -> None:
    def kill(run: Any) -> None:
        results = run.algorithm.learner_group.foreach_learner(lambda learner: os.getpid())
        os.kill([result.get() for result in results][-1], signal.SIGKILL)

    with monkeypatch.context() as patch:
        fail_within(patch, "_iterate", kill)
        assert train(run_dir, {"resources.num_learners": 1}) == 1
    line = capsys.readouterr().err.splitlines()[-1]  # Ray may say in a line before that a worker died
    assert line == (
        f"error: learners must live until training ends, got 1 of 1 whose process ended. Look for a lack "
        "of memory, or for a machine that was lost. Saved last: checkpoint step_000000256. Continue with: "
        f"python train.py --resume {run_dir}"
    )
    assert cli.train(["--quiet", "--resume", str(run_dir), "--num-learners", "0"]) == 0
    assert [int(row["steps"]) for row in rows_of(run_dir)][-10:] == list(range(64, TOTAL_STEPS + 1, 64))
