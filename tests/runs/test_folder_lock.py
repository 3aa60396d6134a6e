"""One writer at a time: locks of folders, and claims where there is no lock."""

from __future__ import annotations

import errno
import fcntl
import os
import platform
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from rllib_portfolio import cli
from rllib_portfolio.errors import ClaimLostError, ConfigError
from rllib_portfolio.new_folder import IN_USE, REPORT_IN_USE
from rllib_portfolio.runs import folder_lock
from rllib_portfolio.runs.folder import CONFIG, require_fresh
from rllib_portfolio.runs.folder_lock import Holder, only_writer, require_claims
from tests.cli.test_train import assert_in_use

HOLD = """
import subprocess, sys, os, time
from pathlib import Path
from rllib_portfolio.runs.folder_lock import only_writer
with only_writer(Path(sys.argv[1]), is_new=True, record=sys.argv[2]):
    ready, told = os.pipe()
    child = os.fork()
    if not child:
        os.write(told, b"1")  # it has closed what it inherited
        time.sleep(60)
        os._exit(0)
    os.read(ready, 1)
    print(subprocess.Popen(["sleep", "60"]).pid, child, flush=True)
    sys.stdin.read()
"""
DEAD = 2**22 + 1
"""More than the number of any process on Linux."""


@contextmanager
def held_by_another(folder: Path, record: str = IN_USE) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """A process that writes into a folder, and two that it started: one that is forked, one with another program."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder), record], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    started = [int(word) for word in process.stdout.readline().split()]
    try:
        yield process, started
    finally:
        process.stdin.close()
        process.wait()
        process.stdout.close()
        for pid in started:
            os.kill(pid, signal.SIGKILL)


def claim(pid: int = DEAD, age: timedelta = timedelta(), **of_host: str) -> Holder:
    then = datetime.now(UTC) - age
    claimed = {"key": "another", "pid": pid, "started": then, "renewed": then, **of_host}
    return Holder.this_process().model_copy(update=claimed)


def leave(folder: Path, holder: Holder) -> bytes:
    """Write the claim that a process left in a folder, and return its bytes."""
    folder.mkdir(exist_ok=True)
    (folder / IN_USE).write_text(holder.model_dump_json())
    return (folder / IN_USE).read_bytes()


def take(folder: Path) -> None:
    with only_writer(folder, is_new=False):
        holder = Holder.parse((folder / IN_USE).read_bytes())
        assert holder is not None
        assert holder.is_this_process
    assert not (folder / IN_USE).exists()


def test_a_folder_that_a_process_writes_into_is_refused_to_others_and_is_free_when_it_is_killed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "run"
    with held_by_another(folder) as (process, _):
        before = (folder / IN_USE).read_bytes()
        since = r"since 20\d\d-\d\d-\d\d \d\d:\d\d"
        user = f"{re.escape(str(folder))} is in use by process {process.pid} on {platform.node()} {since}"
        for is_new in (False, True):
            with (
                pytest.raises(ConfigError, match=rf"^{user}\. Wait for it or stop it\.$"),
                only_writer(folder, is_new=is_new),
            ):
                pass
        assert (folder / IN_USE).read_bytes() == before
        process.kill()
        process.wait()
        take(folder)  # at once, though the processes that it started still run
    assert re.fullmatch(
        f"Note: {user.replace('is in', 'was left in')}, which is gone. This command uses it now.",
        caplog.text[caplog.text.index("Note") :].strip(),
    )


@pytest.mark.parametrize(
    ("command", "words"),
    [(cli.train, []), (cli.tune, []), (cli.backtest, ["walk-forward"])],
    ids=["train", "tune", "walk-forward"],
)
def test_every_command_that_writes_into_a_folder_refuses_one_that_is_in_use(
    tmp_path: Path, command: Callable[[list[str]], int], words: list[object]
) -> None:
    with held_by_another(tmp_path / "out") as (process, _):
        for flag in ("--resume", "--output-dir"):
            assert_in_use(command, [*words, flag, tmp_path / "out"], tmp_path / "out", process.pid)
        assert [path.name for path in (tmp_path / "out").iterdir()] == [IN_USE]


def test_a_second_back_test_into_one_folder_is_refused(tmp_path: Path) -> None:
    run, report = tmp_path / "run", tmp_path / "run" / "report"
    run.mkdir()
    (run / CONFIG).touch()
    for words in ([run], [run, "--output-dir", report]):
        with held_by_another(report, REPORT_IN_USE) as (process, _):
            assert_in_use(cli.backtest, words, report, process.pid)
            assert [path.name for path in report.iterdir()] == [REPORT_IN_USE]
        assert [path.name for path in run.iterdir()] == [CONFIG]


@pytest.mark.parametrize("inside", ["report", "trials/trial_0003/report", "ppo/fold-0/report"])
def test_training_and_a_back_test_in_its_folder_do_not_wait_for_each_other(tmp_path: Path, inside: str) -> None:
    report = tmp_path / inside
    with held_by_another(tmp_path), only_writer(report, is_new=True, record=REPORT_IN_USE):
        assert [path.name for path in report.iterdir()] == [REPORT_IN_USE]
    with held_by_another(report, REPORT_IN_USE):
        take(tmp_path)


def test_a_new_folder_into_which_nothing_was_written_is_gone_again_and_counts_as_new_before(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    for folder in (tmp_path / "runs" / "ppo" / "new", tmp_path / "mine"):
        with only_writer(folder, is_new=True):
            require_fresh(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize("inside", ["trials/trial_0003", "ppo/fold-0/seed-1"])
def test_a_run_of_a_search_or_an_analysis_has_one_writer_with_it(tmp_path: Path, inside: str) -> None:
    run = tmp_path / "out" / inside
    for first, second in ((tmp_path / "out", run), (run, tmp_path / "out")):
        with held_by_another(first):
            run.mkdir(parents=True, exist_ok=True)
            with pytest.raises(ConfigError, match=f"^{re.escape(str(first))} is in use by"):
                take(second)
    take(tmp_path / "out")
    with only_writer(tmp_path / "out", is_new=False):
        take(run)  # this process' own


@pytest.mark.parametrize("is_link", [False, True])
def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path, is_link: bool) -> None:
    if is_link:
        (tmp_path / "precious").write_text("precious")
        (tmp_path / IN_USE).symlink_to(tmp_path / "precious")
    else:
        (tmp_path / IN_USE).mkdir()
    with pytest.raises(ConfigError, match=f"^folder must be writable, got {re.escape(str(tmp_path / IN_USE))} \\("):
        take(tmp_path)
    assert not is_link or (tmp_path / "precious").read_text() == "precious"


@pytest.mark.parametrize("text", ["", "[" * 4096, '{"pid": 1}', '{"host": "\\u001b[31m"}', "\x00\xff"])
def test_a_claim_that_cannot_be_read_counts_as_none(tmp_path: Path, text: str) -> None:
    (tmp_path / IN_USE).write_text(text)
    take(tmp_path)


# ---------------------------------------------------------------- where there is no lock, or not between hosts


@pytest.fixture(params=[False, True], ids=["lock", "no lock"])
def has_no_lock(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    def unsupported(descriptor: int, kind: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    if request.param:
        monkeypatch.setattr(fcntl, "flock", unsupported)
        monkeypatch.setattr(folder_lock, "SETTLES_AFTER_S", 0.0)
    return bool(request.param)


def test_the_claim_of_another_host_holds_until_it_is_old(tmp_path: Path, has_no_lock: bool) -> None:
    before = leave(tmp_path, claim(host="another", age=timedelta(minutes=4)))
    message = f"Wait for it or stop it. If it is gone, wait 5 minutes or remove {tmp_path / IN_USE}."
    with pytest.raises(ConfigError, match=f"process {DEAD} on another since .*{re.escape(message)}$"):
        take(tmp_path)
    assert (tmp_path / IN_USE).read_bytes() == before
    for age in (timedelta(minutes=6), timedelta(days=-1)):  # a clock was set back
        leave(tmp_path, claim(host="another", age=age))
        take(tmp_path)


def test_the_claim_of_a_process_that_is_not_alive_is_stale(
    tmp_path: Path, has_no_lock: bool, caplog: pytest.LogCaptureFixture
) -> None:
    leave(tmp_path, claim())
    take(tmp_path)
    assert "which is gone. This command uses it now." in caplog.text


@pytest.mark.parametrize("pid", [DEAD, os.getpid()], ids=["dead", "own"])
@pytest.mark.parametrize("part", ["boot", "namespace", "all"])
def test_a_claim_from_a_container_or_a_boot_with_other_process_numbers_holds_until_it_is_old(
    tmp_path: Path, has_no_lock: bool, part: str, pid: int
) -> None:
    boot, namespace = Holder.this_process().pid_space.split()
    other = {"boot": f"{boot[::-1]} {namespace}", "namespace": f"{boot} pid:[1]", "all": ""}[part]
    before = leave(tmp_path, claim(pid=pid, pid_space=other))
    with pytest.raises(ConfigError, match=f"is in use by process {pid} on {platform.node()} since "):
        take(tmp_path)
    assert (tmp_path / IN_USE).read_bytes() == before
    leave(tmp_path, claim(pid=pid, pid_space=other, age=timedelta(minutes=6)))
    take(tmp_path)


def test_of_two_that_begin_at_the_same_time_the_later_to_write_goes_on(
    tmp_path: Path, has_no_lock: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: leave(tmp_path, claim(host="another")))
    if has_no_lock:
        with pytest.raises(ConfigError, match="is in use by process"):
            take(tmp_path)
        assert (tmp_path / IN_USE).exists()
    else:
        take(tmp_path)  # the lock decides, and nobody waits


def test_a_claim_is_renewed_and_one_that_was_replaced_ends_the_work_and_is_left_alone(
    tmp_path: Path, has_no_lock: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_lock, "RENEWED_EVERY_S", 0.01)
    now = datetime.now(UTC) + timedelta(hours=1)
    others: list[bytes] = []

    def work() -> None:
        with only_writer(tmp_path, is_new=False):
            monkeypatch.setattr(folder_lock, "_now", lambda: now)
            while f'"{now:%Y-%m-%dT%H:%M}' not in (tmp_path / IN_USE).read_text():
                require_claims()
            with folder_lock._one_at_a_time:  # not while the thread that renews is about to write
                others.append(leave(tmp_path, claim(host="another")))
            while True:  # the thread that renews tells the one that works
                require_claims()

    lost = f"{tmp_path} is now written by process {DEAD} on another since .* stops so as not to write over it.$"
    with pytest.raises(ClaimLostError, match=lost):
        work()
    assert [(tmp_path / IN_USE).read_bytes()] == others
    require_claims()  # it was given up
