"""slurm.sh with stand-ins for Slurm's and Ray's commands: signals reach the driver, its exit code is the job's."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "cluster" / "slurm.sh"

# `srun [options] ray ...` runs its command here; `ray symmetric-run ... -- COMMAND` runs COMMAND.
STAND_INS = {
    "srun": 'echo "srun $*" >>"$RECORD"; while [[ $1 == --* ]]; do shift; done; exec "$@"',
    "ray": """case $1 in
get-auth-token) mkdir -p "$HOME/.ray" && echo of-a-test >"$HOME/.ray/auth_token" ;;
symmetric-run) while [[ $1 != -- ]]; do shift; done; shift; "$@" ;;
*) exit 9 ;;
esac""",
}
DRIVER = """import os, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
print("driver", os.environ["RAY_ADDRESS"], os.environ["RAY_AUTH_MODE"], sys.argv[1:], flush=True)
time.sleep(float(sys.argv[2]))
sys.exit(int(sys.argv[1]))
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    commands = tmp_path / "venv" / "bin"
    commands.mkdir(parents=True)
    for name, script in STAND_INS.items():
        (commands / name).write_text(f"#!/usr/bin/env bash\n{script}\n")
        (commands / name).chmod(0o755)
    (tmp_path / "driver.py").write_text(DRIVER)
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "VENV": str(tmp_path / "venv"),
        "RECORD": str(tmp_path / "record"),
        "SLURM_JOB_ID": "17",
        "SLURM_JOB_NUM_NODES": "3",
        "SLURM_CPUS_PER_TASK": "8",
        "SLURMD_NODENAME": "node-a",
        "RAY_ADDRESS": "another-cluster:6379",
    }


def start(environment: dict[str, str], *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        ["bash", str(SCRIPT), *arguments],
        cwd=environment["HOME"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


@pytest.mark.parametrize("code", [0, 5])
def test_the_drivers_exit_code_is_the_jobs_and_its_address_is_the_clusters(
    environment: dict[str, str], tmp_path: Path, code: int
) -> None:
    job = start(environment, "driver.py", str(code), "0", "a b")
    said, _ = job.communicate(timeout=60)
    assert job.returncode == code
    assert f"driver node-a:6379 token ['{code}', '0', 'a b']" in said
    record = (tmp_path / "record").read_text()
    assert "--address node-a:6379 --min-nodes 3 --num-cpus 8" in record
    assert (tmp_path / ".ray" / "auth_token").stat().st_mode & 0o777 == 0o600
    assert not list(Path("/tmp").glob("rllib-portfolio-17-*"))


def test_a_signal_before_the_time_limit_stops_the_driver(environment: dict[str, str]) -> None:
    job = start(environment, "driver.py", "0", "50")
    assert job.stdout is not None
    while "driver" not in job.stdout.readline():
        time.sleep(0.01)
    job.send_signal(signal.SIGUSR1)
    said, _ = job.communicate(timeout=60)
    assert "Stopping" in said
    assert job.returncode == 143


def test_without_slurm_it_says_so(environment: dict[str, str]) -> None:
    job = start({**environment, "SLURM_JOB_ID": ""}, "driver.py")
    said, _ = job.communicate(timeout=60)
    assert job.returncode != 0
    assert "SLURM_JOB_ID: must be set: start this script with sbatch" in said
