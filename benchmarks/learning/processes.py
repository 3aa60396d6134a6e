"""Runs in processes of their own, some at a time, each with one thread and a Ray of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from rllib_portfolio.atomic import whole_file

ROOT = Path(__file__).resolve().parents[2]
_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "PYTHONWARNINGS": "ignore",
    "RAY_ADDRESS": "local",
    "RAY_AUTH_MODE": "disabled",
    "RAY_USAGE_STATS_ENABLED": "0",
}

Job = TypeVar("Job")


def output_of(module: str, *arguments: str) -> str:
    """What `python -m module arguments...` prints.

    Raises:
        RuntimeError: If it fails; holds the end of what it complained about.
    """
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        env={**os.environ, **_ENVIRONMENT},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(
            f"{module} {' '.join(arguments)} must succeed, got exit code {done.returncode}: {done.stderr[-2000:]}"
        )
    return done.stdout


def in_parallel(work: Callable[[Job], str], jobs: Sequence[Job], num_processes: int) -> None:
    """Do all jobs, `num_processes` at a time, and print a line for each as it ends, in order."""
    with ThreadPoolExecutor(num_processes) as pool:
        for count, line in enumerate(pool.map(work, jobs), start=1):
            print(f"{count:>3}/{len(jobs)}  {line}", flush=True)


def write_whole(path: Path, text: str) -> None:
    """A file that is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as file:
        file.write_text(text)
