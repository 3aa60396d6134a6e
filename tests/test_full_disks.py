"""A disk that is full, or a place that its user may not write, while a folder or a file is begun."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rllib_portfolio.audit.certificate import Certificate
from rllib_portfolio.cli import report_folder
from rllib_portfolio.cli.console import guarded
from rllib_portfolio.config.files import load_run_config
from rllib_portfolio.experiments.search.record import SearchRecord
from rllib_portfolio.experiments.search.settings import SearchSettings
from rllib_portfolio.experiments.search.space import SearchSpace
from rllib_portfolio.experiments.walk_forward.folds import FoldLengths
from rllib_portfolio.experiments.walk_forward.plan import plan_walk_forward
from rllib_portfolio.experiments.walk_forward.record import start_analysis
from rllib_portfolio.market import load_market
from rllib_portfolio.new_folder import REPORT_IN_USE
from rllib_portfolio.runs.folder import create_run_folder, record_settings
from rllib_portfolio.runs.folder_lock import only_writer
from tests.tiny_runs import COIN, start_run, tiny_config

MACHINE = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE)
USER = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.ENAMETOOLONG, errno.EISDIR, errno.ELOOP)


def begin_run(folder: Path) -> None:
    create_run_folder(folder, tiny_config(COIN), load_market(tiny_config(COIN).market))


def begin_search(folder: Path) -> None:
    config, settings = tiny_config(COIN), SearchSettings()
    space = {"training.gamma": {"low": 0.9, "high": 0.99}}
    record = SearchRecord(settings, config, SearchSpace.parse(space, config, "tests"))
    record.start(folder, load_market(config.market))


def begin_analysis(folder: Path) -> None:
    start_analysis(plan_walk_forward([tiny_config(COIN)], 1, FoldLengths(num_folds=2)), folder)


def begin_back_test(folder: Path) -> None:
    with (
        only_writer(folder, is_new=True, record=REPORT_IN_USE),
        report_folder.renewed(folder, {"command": "new"}) as unfinished,
    ):
        (unfinished / "returns").mkdir()
        (unfinished / "returns" / "a.parquet").write_text("new")


def begin_certificate(folder: Path) -> None:
    Certificate((), {}).write(folder / "audit.json")


BEGINNINGS = {
    "run": begin_run,
    "search": begin_search,
    "analysis": begin_analysis,
    "back-test": begin_back_test,
    "certificate": begin_certificate,
}


def fail_at(monkeypatch: pytest.MonkeyPatch, number: int, move: int) -> None:
    """Let every file that is complete fail to take its place, from the given one on."""
    replace, moves = Path.replace, iter(range(move))

    def moved(path: Path, target: Path) -> Path:
        if next(moves, None) is None:
            raise OSError(number, os.strerror(number))
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", moved)


def told(capsys: pytest.CaptureFixture[str], work: Callable[[], Any], number: int, place: Path) -> str:
    """Return the output of a command whose work fails with an error of the operating system."""

    def command() -> int:
        work()
        return 0

    assert guarded(command) == (2 if number in USER else 1)
    (line,) = capsys.readouterr().err.splitlines()
    assert str(place) in line
    assert os.strerror(number) in line
    assert ("Free space on that disk" in line) == (number in MACHINE)
    return line


def files_in(folder: Path) -> dict[str, bytes | None]:
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@pytest.mark.parametrize("number", [*MACHINE, *USER])
@pytest.mark.parametrize("what", BEGINNINGS)
def test_a_full_disk_is_no_error_of_the_user_and_nothing_half_begun_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], what: str, number: int
) -> None:
    fail_at(monkeypatch, number, move=0)
    place = tmp_path / "runs" / "new"
    told(capsys, lambda: BEGINNINGS[what](place), number, place)
    assert files_in(tmp_path) == {}


@pytest.mark.parametrize(("what", "move"), [("run", 1), ("back-test", 1), ("back-test", 2), ("back-test", 3)])
def test_what_was_written_before_the_disk_was_full_goes_away_and_a_folder_that_was_there_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], what: str, move: int
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "precious.txt").write_text("precious")
    before = files_in(tmp_path)
    fail_at(monkeypatch, errno.ENOSPC, move)
    told(capsys, lambda: BEGINNINGS[what](tmp_path / "mine"), errno.ENOSPC, tmp_path / "mine")
    assert files_in(tmp_path) == before


@pytest.mark.parametrize("what", ["back-test", "certificate"])
def test_a_full_disk_leaves_the_earlier_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    BEGINNINGS[what](tmp_path / "out")
    before = files_in(tmp_path)
    fail_at(monkeypatch, errno.ENOSPC, move=0)
    told(capsys, lambda: BEGINNINGS[what](tmp_path / "out"), errno.ENOSPC, tmp_path / "out")
    assert files_in(tmp_path) == before


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_settings_of_a_resumed_run_that_find_the_disk_full_leave_the_old_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int
) -> None:
    run = start_run(tmp_path / "run", tiny_config(COIN))
    before = files_in(tmp_path)
    fail_at(monkeypatch, number, move=0)
    other = tiny_config(COIN, {"schedule.total_timesteps": 900})
    told(capsys, lambda: record_settings(run.run_dir, other), number, run.run_dir)
    assert files_in(tmp_path) == before


@pytest.mark.parametrize("number", [*MACHINE, errno.EROFS])
@pytest.mark.parametrize("call", ["os.pwrite", "rllib_portfolio.runs.folder_lock.TemporaryFile", "os.mkdir"])
def test_a_folder_that_cannot_be_claimed_tells_whose_fault_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int, call: str
) -> None:
    def fail(*arguments: Any, **options: Any) -> None:
        raise OSError(number, os.strerror(number))

    def take() -> None:
        with only_writer(tmp_path / "runs" / "new", is_new=True):
            begin_run(tmp_path / "runs" / "new")

    with monkeypatch.context() as patch:
        patch.setattr(call, fail)
        told(capsys, take, number, tmp_path / "runs" / "new")
    assert files_in(tmp_path) == {}


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES])
def test_a_disk_that_cannot_be_read_is_no_error_of_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int
) -> None:
    def fail(*arguments: Any, **options: Any) -> None:
        raise OSError(number, os.strerror(number))

    path = tmp_path / "run.yaml"
    path.write_text("algo: ppo\n")
    monkeypatch.setattr(Path, "read_text", fail)
    assert guarded(lambda: load_run_config(path, {}).seed) == (2 if number in USER else 1)
    assert str(path) in capsys.readouterr().err
