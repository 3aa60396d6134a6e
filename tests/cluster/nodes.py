"""A Ray cluster of `cluster/local.sh` for tests: jobs go to it as its user would send them, and nodes are lost."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.test_local import SCRIPT, session_of

ROOT = SCRIPT.parents[1]
PINNED = ("--entrypoint-num-cpus", "1", "--entrypoint-resources", '{"node:__internal_head__": 0.001}')
"""The driver takes the head's only CPU, so that all else runs on worker nodes."""
_OURS = (
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER",
    "RAY_ADDRESS",
    "RAY_AUTH_MODE",
    "RAY_AUTH_TOKEN",
    "RAY_API_SERVER_ADDRESS",
    "PYTHONPATH",
    "PYTHONWARNINGS",
)


@dataclass(frozen=True, slots=True)
class LocalCluster:
    """A head and worker nodes.

    Attributes:
        folder: Its CLUSTER_DIR.
        environment: Of a shell that would run local.sh.
    """

    folder: Path
    environment: dict[str, str]

    def local(self, *arguments: str) -> str:
        """Run local.sh; what it says."""
        done = subprocess.run(
            [str(SCRIPT), *arguments], env=self.environment, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def shell(self, *, with_token: bool = True) -> dict[str, str]:
        """The environment after `eval "$(cluster/local.sh env)"`."""
        lines = [line.removeprefix("export ") for line in self.local("env").splitlines() if line.startswith("export ")]
        told = {name: value.strip("'") for name, value in (line.split("=", 1) for line in lines)}
        if not with_token:
            told = {"RAY_API_SERVER_ADDRESS": told["RAY_API_SERVER_ADDRESS"]}
        return {**self.environment, **told}

    def start(self, log: Path, options: Sequence[str], *command: object) -> subprocess.Popen[bytes]:
        """`ray job submit` of a command in the checkout, its output into a file."""
        submit = [*self._ray(), "job", "submit", "--working-dir", ".", *options, "--", *map(str, command)]
        with log.open("wb") as file:
            return subprocess.Popen(submit, cwd=ROOT, env=self.shell(), stdout=file, stderr=subprocess.STDOUT)

    def submit(self, *arguments: str, with_token: bool = True) -> subprocess.CompletedProcess[str]:
        """`ray job submit` with these arguments, to its end."""
        return subprocess.run(
            [*self._ray(), "job", "submit", *arguments],
            cwd=ROOT, env=self.shell(with_token=with_token), capture_output=True, text=True, timeout=200, check=False,
        )  # fmt: skip

    def workers_with(self, title: str) -> list[str]:
        """Worker nodes on which a process of Ray's whose title begins with `title` runs."""
        return [
            file.stem
            for file in sorted(self.folder.glob("worker-*.pid"))
            if any(_title(pid).startswith(title) for pid in session_of(int(file.read_text().split()[0])))
        ]

    def _ray(self) -> list[str]:
        return [sys.executable, "-m", "ray.scripts.scripts"]


@contextmanager
def local_cluster(num_workers: int) -> Iterator[LocalCluster]:
    """One CPU a node; it goes with its folder when the context ends."""
    folder = Path(tempfile.mkdtemp(prefix="cluster-", dir="/tmp"))  # sockets are in it: its path must be short
    ports = dict(zip(("GCS_PORT", "DASHBOARD_PORT", "CLIENT_PORT"), _free_ports(3), strict=True))
    kept = {name: value for name, value in os.environ.items() if name not in _OURS}
    environment = {**kept, **ports, "CLUSTER_DIR": str(folder), "HOME": str(folder), "VENV": sys.prefix}
    cluster = LocalCluster(folder, environment)
    try:
        cluster.local("up", "--workers", str(num_workers), "--cpus-per-node", "1", "--object-store-mb", "100")
        yield cluster
    finally:
        cluster.local("down")
        shutil.rmtree(folder, ignore_errors=True)


def wait_until(is_so: Callable[[], bool], job: subprocess.Popen[bytes], log: Path, timeout_s: float = 150.0) -> None:
    """Wait for something that a running job brings about."""
    deadline = time.monotonic() + timeout_s
    while not is_so():
        assert job.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)


def _free_ports(count: int) -> list[str]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [str(server.getsockname()[1]) for server in sockets]
    for server in sockets:
        server.close()
    return ports


def _title(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:  # it ended while we looked
        return ""
