"""What a measurement was made on."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

_PACKAGES = ("ray", "torch", "stable-baselines3", "gymnasium", "numpy", "scipy")
_CODE = (".", ":!*.md", ":!benchmarks/results", ":!docs")
"""What was measured, for git: `make results` writes the rest as it goes."""
_ROOT = Path(__file__).resolve().parent.parent


def description() -> dict[str, Any]:
    """Processor, memory, system, versions, revision of the code and the load that others put on the machine now."""
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


def load_average() -> float:
    """Processes that wanted a core over the last minute, mean."""
    return round(os.getloadavg()[0], 2)


def peak_memory_mb() -> float:
    """Peak resident memory of this process and all processes below it, summed; pages that they share count in each.

    Of processes that still run: ask before they are stopped.
    """
    return round(sum(map(_peak_mb, [os.getpid(), *_descendants(os.getpid())])), 1)


def resident_memory_mb() -> float:
    """Resident memory of this process now."""
    return _status_mb("self", "VmRSS:")


def _peak_mb(pid: int) -> float:
    return _status_mb(str(pid), "VmHWM:")


def _status_mb(pid: str, field: str) -> float:
    """A field of /proc/<pid>/status, MiB; 0 if the process is gone. The resource module knows no other's peak."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(field)), 0.0)


def _descendants(root: int) -> Iterable[int]:
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            pid, after_name = int(stat.parent.name), stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        children.setdefault(int(after_name[1]), []).append(pid)
    waiting = list(children.get(root, ()))
    while waiting:
        pid = waiting.pop()
        waiting += children.get(pid, ())
        yield pid


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def _git(*arguments: str) -> str | None:
    done = subprocess.run(["git", *arguments], cwd=_ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None
