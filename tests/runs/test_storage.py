"""Tests of the places of runs: a folder on a disk, and an object store that may fail at any moment."""

from __future__ import annotations

import pickle
import platform
import re
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from fsspec.implementations.local import LocalFileSystem
from pyarrow.fs import FileSystem, FSSpecHandler, PyFileSystem

from rllib_portfolio.errors import ClaimLostError, ConfigError, MachineError
from rllib_portfolio.new_folder import IN_USE
from rllib_portfolio.policies.checkpoint import (
    checkpoints,
    newest_checkpoint,
    prune_checkpoints,
    read_progress,
    write_checkpoint,
)
from rllib_portfolio.runs import storage as run_storage
from rllib_portfolio.runs.folder import MARKET, require_fresh
from rllib_portfolio.runs.folder_lock import Holder
from rllib_portfolio.runs.storage import RunStorage

NAME = "trial_0000"


class Disk(LocalFileSystem):
    """Notes what is written, and fails when `writes_left` are used up."""

    cachable = False

    def __init__(self, writes_left: int = 10**6) -> None:
        super().__init__()
        self.written: list[str] = []
        self.writes_left = writes_left

    def _open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        if "w" in mode:
            if not self.writes_left:
                raise OSError("the connection was lost")
            self.writes_left -= 1
            self.written.append(path.partition(f"{NAME}/")[2])
        return super()._open(path, mode, **options)


@dataclass(frozen=True, slots=True)
class Store(RunStorage):
    """Folders in an object store that is a folder behind a file system of its own."""

    KEPT_WITHIN_S: ClassVar[float] = 0.0
    disk: Disk
    bucket: Path

    def _remote(self, name: str = "") -> tuple[FileSystem, str]:
        return PyFileSystem(FSSpecHandler(self.disk)), f"{self.bucket}/{name}".rstrip("/")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    store = Store("store://bucket/search/trials", Disk(), tmp_path / "bucket")
    yield store
    assert [path.name for path in store.local("").iterdir() if "-unkept-" not in path.name] == []  # copies vanish


def train(run_dir: Path, steps: int, text: str = "") -> None:
    """Write the files of a run at an evaluation after some steps; the one after 100 is the best."""
    run_dir.mkdir(parents=True, exist_ok=True)
    for name in ("config.yaml", "market.npz", "run.json"):
        (run_dir / name).write_text(name)
    with (run_dir / "progress.csv").open("a") as file:
        file.write(f"{steps}\n")

    def files(folder: Path) -> None:
        (folder / "rllib").mkdir()
        (folder / "rllib" / "state.pkl").write_text(text or f"networks after {steps}")
        (folder / "policy").mkdir()
        (folder / "policy" / "policy.json").write_text(f"policy after {steps}")

    write_checkpoint(run_dir, steps, files, {"steps": steps, "best_checkpoint": "step_000000100"})
    prune_checkpoints(run_dir, 1, "step_000000100")


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# ---------------------------------------------------------------- a folder that all machines share


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_on_a_shared_file_system_a_run_works_where_its_run_stays(tmp_path: Path, scheme: str) -> None:
    folders = RunStorage(f"{scheme}{tmp_path}/trials")
    assert not folders.is_remote
    folders.require_new()
    with folders.fetched(NAME) as run_dir:
        assert run_dir == tmp_path / "trials" / NAME
        train(run_dir, 100)
        before = files_of(run_dir)
        folders.keep(NAME)
    assert files_of(run_dir) == before
    assert folders.beside("retrained").local("x") == tmp_path / "retrained" / "x"


@pytest.mark.parametrize("name", ["a b", "we?ird", "h#sh", "50%20", "lä"])
def test_the_uri_of_a_folder_is_the_folder(tmp_path: Path, name: str) -> None:
    """pyarrow reads `%20` in a URI as a space."""
    shared = tmp_path / name
    shared.mkdir()
    for root in (shared.as_uri(), str(shared)):
        folders = RunStorage(root)
        assert folders.local(NAME) == shared / NAME
        folders.local(NAME).mkdir()
        with pytest.raises(ConfigError, match="--storage-path must hold no runs of another search"):
            folders.require_new()
        folders.local(NAME).rmdir()


def test_a_place_that_holds_runs_is_none_for_a_new_search(tmp_path: Path) -> None:
    folders = RunStorage(f"{tmp_path}/trials")
    train(folders.local(NAME), 100)
    message = f"--storage-path must hold no runs of another search, got {tmp_path}/trials."
    with pytest.raises(ConfigError, match=re.escape(message)):
        folders.require_new()


@pytest.mark.parametrize("root", ["nowhere://bucket/search", "not a place://"])
def test_a_place_that_nobody_knows_is_refused_in_one_line(root: str) -> None:
    with pytest.raises(ConfigError) as raised:
        RunStorage(root).require_new()
    text = str(raised.value)
    assert text.startswith(f"--storage-path must be a shared folder or the URI of an object store, got {root} (")
    assert "\n" not in text


@pytest.mark.parametrize(
    ("root", "run", "beside"),
    [
        ("/shared/trials", "/shared/trials/a", "/shared/retrained"),
        ("/odd?folder/trials/", "/odd?folder/trials/a", "/odd?folder/retrained"),
        ("s3://bucket/trials", "s3://bucket/trials/a", "s3://bucket/retrained"),
        (
            "s3://bucket/trials?endpoint_override=http://store:9000&scheme=http",
            "s3://bucket/trials/a?endpoint_override=http://store:9000&scheme=http",
            "s3://bucket/retrained?endpoint_override=http://store:9000&scheme=http",
        ),
    ],
)
def test_how_a_store_is_reached_stays_at_the_end_of_its_uri(root: str, run: str, beside: str) -> None:
    folders = RunStorage(root)
    assert folders.place("a") == run
    assert folders.beside("retrained").root == beside
    again, name = RunStorage.of_run(run)
    assert (again.root, name) == (root.rstrip("/"), "a")


# ---------------------------------------------------------------- an object store


def test_an_upload_brings_what_changed_and_then_takes_away_what_made_way(store: Store) -> None:
    store.require_new()
    with store.fetched(NAME) as run_dir:
        assert not run_dir.exists()
        train(run_dir, 100)
        store.keep(NAME)
        assert store.disk.written == [
            "checkpoints/step_000000100/policy/policy.json",
            "checkpoints/step_000000100/progress.json",
            "checkpoints/step_000000100/rllib/state.pkl",
            "market.npz",
            "progress.csv",
            "run.json",
            "config.yaml",
            "checkpoints/step_000000100/manifest.json",
        ]
        assert files_of(store.bucket / NAME) == files_of(run_dir)
        store.disk.written.clear()
        store.keep(NAME)
        assert store.disk.written == []
        for steps in (200, 300):
            train(run_dir, steps)
        store.keep(NAME)
        assert {name.split("/")[1] for name in store.disk.written if "/" in name} == {"step_000000300"}
        assert [name for name in store.disk.written if "/" not in name] == ["progress.csv"]
        train(run_dir, 400)
        store.keep(NAME)
        assert files_of(store.bucket / NAME) == files_of(run_dir)
    assert [folder.name for folder in checkpoints(store.bucket / NAME)] == ["step_000000100", "step_000000400"]
    assert not run_dir.exists()
    with pytest.raises(ConfigError, match="must hold no runs of another search"):
        store.require_new()


def test_a_file_that_was_written_again_and_is_as_long_is_brought_too(store: Store) -> None:
    with store.fetched(NAME) as folder:
        train(folder, 100)
        (folder / "walks").mkdir()
        for text in ("three seeds", "seven seeds"):
            (folder / "walks" / "ppo.parquet").write_text(text)
            store.keep(NAME)
        assert (store.bucket / NAME / "walks" / "ppo.parquet").read_text() == "seven seeds"
        assert store.disk.written.count("walks/ppo.parquet") == 2
        assert store.disk.written.count("market.npz") == 1


def test_folders_that_others_keep_are_neither_written_nor_taken_away(store: Store) -> None:
    others = store.bucket / NAME / "ppo" / "checkpoint"
    others.parent.mkdir(parents=True)
    others.write_text("theirs")
    with store.fetched(NAME) as folder:
        (folder / "ppo" / "checkpoint").write_text("what was theirs once")
        (folder / "ppo" / "more").touch()
        (folder / "results.csv").write_text("ours")
        store.keep(NAME, without=("ppo",))
    assert files_of(store.bucket / NAME) == {"ppo/checkpoint": b"theirs", "results.csv": b"ours"}


def test_another_machine_goes_on_with_what_was_kept(store: Store) -> None:
    with store.fetched(NAME) as run_dir:
        train(run_dir, 100)
        store.keep(NAME)
        train(run_dir, 200)  # then the machine is lost
        (run_dir / "rubbish").touch()
    with store.fetched(NAME) as run_dir:
        newest = newest_checkpoint(run_dir)
        assert newest is not None
        assert read_progress(newest)["steps"] == 100
        assert (run_dir / "progress.csv").read_text() == "100\n"
        assert not (run_dir / "rubbish").exists()


@pytest.mark.parametrize("num_writes", range(5))
def test_an_upload_that_breaks_off_leaves_a_checkpoint_that_does_not_count(store: Store, num_writes: int) -> None:
    with store.fetched(NAME) as run_dir:
        train(run_dir, 100)
        store.keep(NAME)
        train(run_dir, 200, text="one attempt")
        store.disk.writes_left = num_writes  # of 5: three files, the table, the manifest
        with pytest.raises(MachineError, match="the connection was lost"):
            store.keep(NAME)
    with store.fetched(NAME) as run_dir:
        assert [folder.name for folder in checkpoints(run_dir)] == ["step_000000100"]
        newest = newest_checkpoint(run_dir)
        assert newest is not None
        assert read_progress(newest)["steps"] == 100
        train(run_dir, 200, text="the retries")  # as long, and not the same
        store.disk.writes_left = 10**6
        store.keep(NAME)
        newest = newest_checkpoint(store.bucket / NAME)
        assert newest is not None
        assert read_progress(newest)["steps"] == 200  # checks every file's digest
        assert files_of(store.bucket / NAME) == files_of(run_dir)


@pytest.mark.parametrize("num_writes", range(9))
def test_a_run_whose_only_upload_breaks_off_has_not_begun_or_can_be_opened_and_is_not_finished(
    store: Store, num_writes: int
) -> None:
    with store.fetched(NAME) as run_dir:
        train(run_dir, 100)
        (run_dir / "finished.json").write_text("{}")
        store.disk.writes_left = num_writes  # of 9
        with pytest.raises(MachineError, match="the connection was lost"):
            store.keep(NAME)
    with store.fetched(NAME) as run_dir:
        if (run_dir / "config.yaml").is_file():
            assert {"market.npz", "run.json"} < {path.name for path in run_dir.iterdir()}
        assert (run_dir / "config.yaml").is_file() == (num_writes >= 7)
        assert not (run_dir / "finished.json").exists()
        assert len(checkpoints(run_dir)) == (num_writes == 8)


def set_aside(store: Store) -> Path:
    """The one local copy that could not be kept."""
    (copy,) = store.local("").glob(f"{NAME}-unkept-*")
    return copy


def test_a_store_that_cannot_be_reached_gets_at_the_next_checkpoint_what_it_missed(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    with store.fetched(NAME) as run_dir:
        train(run_dir, 100)
        store.disk.writes_left = 3
        store.keep_so_far(NAME)
        place = "store://bucket/search/trials/trial_0000"
        assert caplog.messages == [
            f"Warning: a checkpoint was not uploaded to {place} (OSError: the connection was lost). The next "
            "upload includes it."
        ]
        assert checkpoints(store.bucket / NAME) == []
        train(run_dir, 200)
        store.disk.writes_left = 10**6
        store.keep_so_far(NAME)
        assert files_of(store.bucket / NAME) == files_of(run_dir)
    assert len(caplog.messages) == 1
    assert list(store.local("").iterdir()) == []


class Unavailable(BaseHTTPRequestHandler):
    """An object store that answers every request with 503."""

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(503)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def __getattr__(self, name: str) -> Any:
        """The handler of any method, which is looked up as `do_` with the method's name."""
        if name.startswith("do_"):
            return self.answer
        raise AttributeError(name)

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


def test_a_store_that_answers_503_holds_a_run_up_for_seconds_and_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name, value in {"ACCESS_KEY_ID": "a", "SECRET_ACCESS_KEY": "b", "EC2_METADATA_DISABLED": "true"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), Unavailable) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        way = f"endpoint_override=127.0.0.1:{server.server_port}&scheme=http&region=us-east-1"
        store = RunStorage(f"s3://bucket/runs?{way}")
        train(store.local(NAME), 100)
        assert store._remote(NAME)[0] is store._remote(NAME)[0]  # S3 may be asked for the region of a bucket
        started = time.monotonic()
        store.keep_so_far(NAME)
        assert time.monotonic() - started < 30.0
        (warning,) = caplog.messages
        assert warning.startswith(f"Warning: a checkpoint was not uploaded to s3://bucket/runs/{NAME}?{way} (OSError: ")
        assert "HTTP status 503" in warning
        with pytest.raises(ConfigError, match="HTTP status 503"):  # as --resume
            store.bring(NAME, tmp_path / "another machine")
        server.shutdown()
    assert len(checkpoints(store.local(NAME))) == 1


def test_what_the_last_word_could_not_bring_stays_here_and_the_error_says_where(store: Store) -> None:
    with store.fetched(NAME) as run_dir:
        train(run_dir, 100)
        before = files_of(run_dir)
        store.disk.writes_left = 0
        with pytest.raises(MachineError) as raised:
            store.keep(NAME)
    assert str(raised.value) == (
        "object store must take what a run wrote, got OSError: the connection was lost "
        f"(store://bucket/search/trials/trial_0000). All of it stays in {set_aside(store)} on {platform.node()}: copy "
        "that to the store, then continue."
    )
    with store.fetched(NAME) as run_dir:  # the next one begins with what the store has
        assert files_of(run_dir) == {}
    assert files_of(set_aside(store)) == before


@pytest.mark.parametrize("is_back_after_s", [60.0, 600.0])
def test_the_end_of_a_run_is_tried_again_for_two_minutes(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, is_back_after_s: float
) -> None:
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds
        if now[0] >= is_back_after_s:
            store.disk.writes_left = 10**6

    monkeypatch.setattr(Store, "KEPT_WITHIN_S", RunStorage.KEPT_WITHIN_S)
    monkeypatch.setattr(run_storage, "time", SimpleNamespace(monotonic=lambda: now[0], sleep=sleep))
    with store.fetched(NAME) as run_dir:
        train(run_dir, 100)
        store.disk.writes_left = 0
        with nullcontext() if is_back_after_s < 120.0 else pytest.raises(MachineError, match="All of it stays in "):
            store.keep(NAME)
            assert files_of(store.bucket / NAME) == files_of(run_dir)
    assert now[0] == min(is_back_after_s, 120.0)
    assert caplog.messages == [
        "Warning: the end of a run is not stored yet, got OSError: the connection was lost "
        "(store://bucket/search/trials/trial_0000). Trying again for 120 s."
    ]


def test_what_is_kept_nowhere_else_outlives_a_process_that_is_killed(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    killed = store.fetched(NAME)  # and never left
    run_dir = killed.__enter__()
    train(run_dir, 100)
    store.disk.writes_left = 0
    store.keep_so_far(NAME)
    before = files_of(run_dir)
    store.disk.writes_left = 10**6
    with store.fetched(NAME) as run_dir:  # the next process
        assert files_of(run_dir) == {}
        assert f" stays in {set_aside(store)} on " in caplog.messages[-1]
    assert files_of(set_aside(store)) == before
    with store.fetched(NAME) as run_dir:
        train(run_dir, 200)
        store.keep(NAME)
    assert len(caplog.messages) == 2  # all of it was kept


# ---------------------------------------------------------------- one writer at a time


def claim_of_another(folder: Path, age: timedelta = timedelta()) -> bytes:
    """Write the claim of a process on another host into a folder of the store, and return its bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    then = datetime.now(UTC) - age
    text = Holder(key="another", pid=7, host="another", started=then, renewed=then).model_dump_json().encode()
    (folder / "written").write_bytes(text)
    (folder / "written").replace(folder / IN_USE)  # at once, as stores do it
    return text


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rllib_portfolio.runs.folder_lock.SETTLES_AFTER_S", 0.0)


def test_a_claim_on_a_run_in_a_store_is_beside_its_files_and_gone_at_the_end(store: Store, at_once: None) -> None:
    with store.only_writer(NAME, is_new=True), store.fetched(NAME) as run_dir:
        claimed = Holder.parse((store.bucket / NAME / IN_USE).read_bytes())
        assert claimed is not None
        assert claimed.is_this_process
        require_fresh(run_dir)
        train(run_dir, 100)
        store.keep(NAME)
        assert (store.bucket / NAME / IN_USE).is_file()
    assert IN_USE not in files_of(store.bucket / NAME)
    with store.only_writer("no run", is_new=False):
        assert not (store.bucket / "no run").exists()


@pytest.mark.parametrize("claimed", ["", NAME])
def test_a_run_in_a_store_that_another_host_writes_is_refused_until_the_claim_is_old(
    store: Store, at_once: None, claimed: str, caplog: pytest.LogCaptureFixture
) -> None:
    with store.fetched(NAME) as run_dir:
        train(run_dir, 100)
        store.keep(NAME)
    claim_of_another(store.bucket / claimed)
    before = files_of(store.bucket)
    place = "/".join(["store://bucket/search/trials", *([claimed] if claimed else [])])
    with pytest.raises(ConfigError, match=f"^{place} is in use by process 7 on another since "):
        store.only_writer(NAME, is_new=False).__enter__()
    assert files_of(store.bucket) == before
    claim_of_another(store.bucket / claimed, age=timedelta(minutes=6))
    with store.only_writer(NAME, is_new=False):
        assert IN_USE in files_of(store.bucket / NAME)
    assert len(caplog.messages) == bool(claimed)  # it was taken over


def test_a_local_copy_that_lost_files_takes_none_from_the_store(store: Store) -> None:
    with store.fetched(NAME) as run_dir:
        train(run_dir, 100)
        store.keep(NAME)
        before = files_of(store.bucket)
        (run_dir / MARKET).unlink()
        with pytest.raises(MachineError, match=rf"must stay whole, got no {MARKET} .*was left as it was"):
            store.keep(NAME)
    assert files_of(store.bucket) == before


@pytest.mark.parametrize("has_ended", [False, True])
def test_a_run_whose_claim_was_taken_over_ends_and_brings_nothing_more(
    store: Store, at_once: None, caplog: pytest.LogCaptureFixture, has_ended: bool
) -> None:
    def lose() -> None:
        with store.only_writer(NAME, is_new=True), store.fetched(NAME) as run_dir:
            train(run_dir, 100)
            store.keep_so_far(NAME)
            claim_of_another(store.bucket / NAME)
            if has_ended:
                (store.bucket / NAME / IN_USE).unlink()
            before.update(files_of(store.bucket / NAME))
            train(run_dir, 200)
            with pytest.raises(ClaimLostError):
                store.keep_so_far(NAME)
            (store.bucket / NAME / IN_USE).unlink(missing_ok=True)  # the other one is done: its work stays
            store.keep(NAME)

    before: dict[str, bytes] = {}
    writer = "another process, or its claim in .* was removed" if has_ended else "process 7 on another since .*"
    with pytest.raises(ClaimLostError, match=rf"trial_0000 is now written by {writer}\. This process stops ") as lost:
        lose()
    assert lost.value.__notes__ == [f"What was not brought there stays in {set_aside(store)} on {platform.node()}."]
    assert len(checkpoints(set_aside(store))) == 2
    before.pop(IN_USE, None)
    assert files_of(store.bucket / NAME) == before
    assert caplog.messages == []


def test_a_process_that_works_for_one_whose_claim_was_taken_over_brings_nothing_more(
    store: Store, at_once: None
) -> None:
    def work(worker: Store) -> None:
        with worker.fetched(NAME) as run_dir:
            train(run_dir, 100)
            worker.keep_so_far(NAME)
            claim_of_another(store.bucket)
            before.update(files_of(store.bucket))
            train(run_dir, 200)
            worker.keep_so_far(NAME)

    before: dict[str, bytes] = {}
    with pytest.raises(ClaimLostError, match="trials is now written by process 7"), store.only_writer("", is_new=True):
        work(pickle.loads(pickle.dumps(store.under_claims())))
    assert len(before) > len(files_of(store.bucket / NAME)) > 0
    assert files_of(store.bucket) == before
