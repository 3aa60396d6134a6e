"""Starts measurements, each in a process of its own, one at a time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.throughput.plan import Cell, Effort, Part, in_order
from benchmarks.throughput.worker import Job

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 900
Measurement = dict[str, Any]


class WorkerError(RuntimeError):
    """A worker process failed; the text ends with what it wrote last."""


def measure_part(part: Part, effort: Effort, market_folder: Path) -> Iterator[Measurement]:
    """Measure all cells of a part, repetition after repetition; a worker that fails gives an `error` instead."""
    for repetition in range(effort.repetitions):
        for cell in in_order(part.cells, repetition):
            measurement = {**asdict(cell), "repetition": repetition}
            try:
                measurement |= _measure(cell, effort, market_folder)
            except WorkerError as error:
                measurement["error"] = str(error)
            yield measurement


def _measure(cell: Cell, effort: Effort, market_folder: Path) -> Measurement:
    job = Job(
        contender=cell.contender,
        task=cell.task,
        setting=cell.setting,
        measure_s=effort.measure_s,
        warmup_iterations=effort.warmup_iterations,
        with_components=cell.with_components,
        market_folder=str(market_folder),
    )
    return answer_of("benchmarks.throughput.worker", json.dumps(asdict(job)), num_threads=cell.setting.num_threads)


def answer_of(module: str, argument: str, num_threads: int) -> Measurement:
    """Run `python -m module argument`; the last line that it prints is its answer, as JSON.

    Raises:
        WorkerError: If it fails, takes too long or does not answer.
    """
    done = _run([sys.executable, "-m", module, argument], num_threads)
    lines = done.stdout.strip().splitlines()
    try:
        answer: Measurement = json.loads(lines[-1])
    except (IndexError, ValueError):
        raise WorkerError(f"{module} must answer in JSON, got {lines[-1:]}. {done.stderr[-2000:]}") from None
    return answer


def seconds_of_training() -> float:
    """Wall time of `python train.py --algo ppo`: what `make train` runs once its packages are there.

    Raises:
        WorkerError: If it fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        _run(
            [sys.executable, "train.py", "--algo", "ppo", "--quiet", "--output-dir", f"{folder}/run"], num_threads=None
        )
        return time.perf_counter() - started


def _run(command: list[str], num_threads: int | None) -> subprocess.CompletedProcess[str]:
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=_environment(num_threads),
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise WorkerError(f"{' '.join(command[:4])} must end within {TIMEOUT_S} s.") from None
    if done.returncode != 0:
        raise WorkerError(f"{' '.join(command[:4])} ended with {done.returncode}. {done.stderr[-2000:]}")
    return done


def _environment(num_threads: int | None) -> dict[str, str]:
    """Read by torch, BLAS and Ray when they are imported."""
    threads = {} if num_threads is None else dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(num_threads))
    ray_settings = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled", "RAY_ADDRESS": "local"}
    return {**os.environ, **ray_settings, **threads, "PYTHONWARNINGS": "ignore"}


@contextmanager
def market_folder() -> Iterator[Path]:
    """A folder for prepared markets, gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as folder:
        yield Path(folder)
