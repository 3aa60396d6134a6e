"""Folders of results, the description of the machine, and separate processes for measurements."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

from rllib_portfolio.atomic import whole_file

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
"""Folder of the results of complete runs, which are committed."""
SCRATCH = ROOT / "runs" / "benchmarks"
"""Folder of the results of quick and partial runs."""
_PACKAGES = ("ray", "torch", "stable-baselines3", "gymnasium", "numpy", "scipy")
_CODE = (".", ":!*.md", ":!benchmarks/results", ":!docs")
"""Paths that git compares to find uncommitted changes; documents and results are written after a measurement."""
Job = TypeVar("Job")


def description() -> dict[str, Any]:
    """Return processor, memory, system, versions, revision of the code and the current load of the machine."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in _PACKAGES},
        "git_revision": _git("rev-parse", "HEAD"),
        "git_is_clean": _git("status", "--porcelain", "--", *_CODE) == "",
        "load_average": load_average(),
    }


def destination(module: str, text: str | None) -> tuple[Path, bool]:
    """Read the command line of a benchmark without parts; return the folder of its JSON, and whether it is quick."""
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=text)
    parser.add_argument("--quick", action="store_true", help="smaller: shows that all of it works, and says nothing")
    parser.add_argument("--output", type=Path, metavar="DIR", help="default: benchmarks/results, or runs/benchmarks")
    arguments = parser.parse_args()
    return arguments.output or (SCRATCH if arguments.quick else RESULTS), arguments.quick


def load_average() -> float:
    """Return the mean number of processes that used or waited for a core in the last minute."""
    return round(os.getloadavg()[0], 2)


def output_of(module: str, *arguments: str, num_threads: int = 1, timeout_s: float | None = None) -> str:
    """Return what `python -m module arguments...` prints, in a process with its own Ray.

    Raises:
        RuntimeError: If it fails or takes too long; the text ends with what it wrote last.
    """
    environment = {
        **os.environ,
        **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(num_threads)),
        "PYTHONWARNINGS": "ignore",
        "RAY_ADDRESS": "local",
        "RAY_AUTH_MODE": "disabled",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    command = [sys.executable, "-m", module, *arguments]
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=timeout_s
        )
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"{module} {' '.join(arguments)} must end within {timeout_s} s.") from None
    if done.returncode != 0:
        raise RuntimeError(
            f"{module} {' '.join(arguments)} must succeed, got exit code {done.returncode}: {done.stderr[-2000:]}"
        )
    return done.stdout


@contextmanager
def one_process() -> Iterator[None]:
    """One torch thread, and a Ray of its own on this machine, for runs that go one after the other."""
    import ray
    import torch

    torch.set_num_threads(1)
    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        yield
    finally:
        ray.shutdown()


def in_parallel(work: Callable[[Job], str], jobs: Sequence[Job], num_processes: int) -> None:
    """Do all jobs, `num_processes` at a time, and print a line for each as it ends, in order."""
    with ThreadPoolExecutor(num_processes) as pool:
        for count, line in enumerate(pool.map(work, jobs), start=1):
            print(f"{count:>3}/{len(jobs)}  {line}", flush=True)


def write_record(path: Path, values: Mapping[str, Any]) -> None:
    """Write a JSON file that is there whole or not at all, and say where it is."""
    write_whole(path, json.dumps(values, indent=1) + "\n")
    print(f"Wrote {path}.")


def write_whole(path: Path, text: str) -> None:
    """Write a file that is there whole or not at all, and its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as file:
        file.write_text(text)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def _git(*arguments: str) -> str | None:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None
