"""local.sh without Ray: what it refuses, and that it ends its own processes and no others."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="local.sh reads /proc")
SCRIPT = Path(__file__).parents[2] / "cluster" / "local.sh"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "c").mkdir()
    return tmp_path / "c"


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process in a session of its own, as a node is, with a child in another process group, as Ray's workers are."""
    child = "subprocess.Popen(['sleep', '100'], process_group=0)"
    command = f"import os, subprocess; {child}; os.execlp('sleep', 'sleep', '100')"
    process = subprocess.Popen([sys.executable, "-c", command], start_new_session=True)
    yield process
    for pid in session_of(process.pid):
        os.kill(pid, signal.SIGKILL)
    process.wait()


def fields_of(pid: int) -> list[str]:
    """The fields of /proc/PID/stat after the command: state, parent, group, session, ... start time (the 20th)."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()


def session_of(leader: int) -> list[int]:
    members = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and fields_of(int(entry.name))[3] == str(leader):
                members.append(int(entry.name))
        except OSError:  # it ended while we looked
            continue
    return members


def local(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "CLUSTER_DIR": str(folder), **variables}
    return subprocess.run(
        [str(SCRIPT), *arguments], env=environment, capture_output=True, text=True, timeout=60, check=False
    )


def settled(sleeper: subprocess.Popen[bytes]) -> int:
    """Wait until the child is there and the leader is what it will be; its start time."""
    while len(session_of(sleeper.pid)) < 2 or b"sleep" not in Path(f"/proc/{sleeper.pid}/cmdline").read_bytes()[:5]:
        assert sleeper.poll() is None
        time.sleep(0.02)
    return int(fields_of(sleeper.pid)[19])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["up", "--workers", "two"], "--workers must be a whole number of at least 0, got 'two'."),
        (["up", "--cpus-per-node", "0"], "--cpus-per-node must be a whole number of at least 1, got '0'."),
        (["up", "--workers"], "--workers must be a whole number of at least 0, got ''."),
        (["up", "--gpus", "1"], "no such option: --gpus."),
        (["status"], "no cluster is up. First: cluster/local.sh up"),
        (["env"], "no cluster is up. First: cluster/local.sh up"),
        (["lose", "worker-1"], "NODE must be one that is up, got 'worker-1'."),
        (["join", "worker-1"], "no cluster is up. First: cluster/local.sh up"),
        (["join", "head"], "NODE must be a worker's name, such as worker-1, got 'head'."),
    ],
)
def test_what_cannot_be_done_is_told_in_one_line(folder: Path, arguments: list[str], said: str) -> None:
    done = local(folder, *arguments)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {said}")
    assert len(done.stderr.splitlines()) == 1
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("variable", ["GCS_PORT", "DASHBOARD_PORT", "CLIENT_PORT"])
def test_a_port_that_is_taken_is_told_with_the_variable_that_moves_it(folder: Path, variable: str) -> None:
    free = {}
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = server.getsockname()[1]
        for name in ("GCS_PORT", "DASHBOARD_PORT", "CLIENT_PORT"):
            with socket.create_server(("127.0.0.1", 0)) as other:
                free[name] = str(other.getsockname()[1])
        done = local(folder, "up", **{**free, variable: str(taken)})
    assert done.returncode == 1
    assert done.stderr == (
        f"error: port {taken} must be free, and something listens on it. "
        f"Choose another: {variable}=PORT cluster/local.sh up\n"
    )


def test_down_ends_the_whole_session_of_a_node(folder: Path, sleeper: subprocess.Popen[bytes]) -> None:
    (folder / "worker-1.pid").write_text(f"{sleeper.pid} {settled(sleeper)}\n")
    done = local(folder, "down")
    assert done.returncode == 0, done.stderr
    assert "worker-1 is down" in done.stdout
    assert sleeper.wait(timeout=30) == -signal.SIGTERM
    assert [pid for pid in session_of(sleeper.pid) if fields_of(pid)[0] != "Z"] == []
    assert not (folder / "worker-1.pid").exists()


def test_lose_kills_without_asking(folder: Path, sleeper: subprocess.Popen[bytes]) -> None:
    (folder / "worker-1.pid").write_text(f"{sleeper.pid} {settled(sleeper)}\n")
    assert local(folder, "lose", "worker-1").returncode == 0
    assert sleeper.wait(timeout=30) == -signal.SIGKILL


def test_down_spares_a_process_that_was_given_the_number_later(folder: Path, sleeper: subprocess.Popen[bytes]) -> None:
    (folder / "head.pid").write_text(f"{sleeper.pid} {settled(sleeper) - 1}\n")
    assert local(folder, "down").returncode == 0
    assert sleeper.poll() is None
    assert len(session_of(sleeper.pid)) == 2
    assert not (folder / "head.pid").exists()
