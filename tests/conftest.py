"""Session defaults of the test suite: quiet, local, single-threaded, repeatable."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

# Read by ray, torch and numpy when they are imported, and inherited by every process that a test starts.
os.environ.setdefault("OMP_NUM_THREADS", "1")  # torch's and BLAS's thread count: tests share few cores
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # else ray.init writes a token file into the home directory
os.environ.setdefault("RAY_ADDRESS", "local")  # a cluster that happens to run on this machine is not ours

settings.register_profile(
    "house", deadline=None, derandomize=True
)  # shared cores stall: a deadline would be a timed test
settings.load_profile("house")


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """One local Ray with two CPUs for all tests marked `ray`."""
    import ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()
