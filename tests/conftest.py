"""Session defaults of the test suite: quiet, local, single-threaded, repeatable."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from rllib_portfolio.market import MarketData
    from tests.tiny_runs import TinyRun

# Read by ray, torch and numpy when they are imported, and inherited by every process that a test starts.
os.environ.setdefault("OMP_NUM_THREADS", "1")  # torch's and BLAS's thread count: tests share few cores
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # else ray.init writes a token file into the home directory
os.environ.setdefault("RAY_ADDRESS", "local")  # a cluster that happens to run on this machine is not ours

settings.register_profile(
    "house", deadline=None, derandomize=True
)  # shared cores stall: a deadline would be a timed test
settings.load_profile("house")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="rewrite the figures of tests/golden, for review")


@pytest.fixture(scope="session")
def update_golden(pytestconfig: pytest.Config) -> bool:
    """Whether a golden test is to write its figures instead of comparing them."""
    return bool(pytestconfig.getoption("--update-golden"))


@pytest.fixture(scope="session")
def ray_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One local Ray with two CPUs for all tests marked `ray`, one for each process of pytest-xdist.

    They start one after the other: when a raylet dies while it starts, Ray's core ends the process that called
    `ray.init`, without an exception, and two that start at the same time are known to race.
    """
    import ray
    from filelock import FileLock

    with FileLock(tmp_path_factory.getbasetemp().parent / "ray.lock"):
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def tiny_market() -> MarketData:
    """A, B, C over 64 days; features that are the number of their row; `train`, `validation`, `test`, `all`.

    Returns repeat every 4, 5 and 7 days, in per cent, so that no two of the days are alike. Cash earns 1, 2 or 3 basis
    points a day. Volatility differs by asset and day. The features of row t hold t, so that an observation tells which
    row it was taken from.
    """
    import numpy as np

    from rllib_portfolio.market import MarketData

    days, assets = 64, ("A", "B", "C")
    row = np.arange(days)
    percent = ([1.0, -2.0, 3.0, 0.5], [2.0, -1.0, 0.0, -3.0, 1.5], [-0.5, 4.0, -1.0, 1.0, -2.5, 0.25, 2.0])
    returns = np.stack([np.resize(cycle, days) for cycle in percent], axis=1) / 100.0
    returns[0] = 0.0
    asset_rows = np.stack([np.stack([row, 1000 * (i + 1) + row], axis=1) for i in range(len(assets))], axis=1)
    return MarketData(
        dates=np.busday_offset("2001-01-01", row, roll="forward"),
        assets=assets,
        returns=returns,
        cash_returns=(1 + row % 3) * 1e-4,
        volatility=0.01 * np.array([1.0, 2.0, 4.0]) * (1.0 + 0.01 * row[:, None]),
        asset_features=asset_rows.astype(np.float32),
        market_features=-row[:, None].astype(np.float32),
        asset_feature_names=("row", "asset_and_row"),
        market_feature_names=("minus_row",),
        first_row=3,
        windows={"train": (5, 40), "validation": (40, 50), "test": (50, 64), "all": (5, 64)},
        index_returns=returns.mean(axis=1),
        source="the tiny market",
    )


@pytest.fixture(scope="session")
def price_settings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Settings of a market with features: three random walks over 600 days, in a CSV file."""
    from tests.tiny_runs import write_prices

    return write_prices(tmp_path_factory.mktemp("prices") / "prices.csv")


@pytest.fixture(scope="session")
def finished_run(
    ray_session: None, tmp_path_factory: pytest.TempPathFactory, price_settings: dict[str, Any]
) -> TinyRun:
    """A run of ten iterations that came to its end, with its closing comparison. Copy the folder to change it."""
    from rllib_portfolio.runs.summary import compare_best_policy
    from tests.tiny_runs import start_run, tiny_config

    schedule = {
        "schedule.checkpoint_interval": 150,
        "schedule.checkpoints_kept": 2,
        "schedule.evaluation_interval": 128,
        "training.entropy_coefficient": 0.01,
    }
    run = start_run(tmp_path_factory.mktemp("runs") / "finished", tiny_config(price_settings, schedule))
    assert run.train()
    compare_best_policy(run.run_dir, run.config, run.market)
    return run


@pytest.fixture(scope="session")
def run_in_cash(ray_session: None, tmp_path_factory: pytest.TempPathFactory) -> TinyRun:
    """A run whose best checkpoint is its first evaluation, whatever is learned. Copy the folder to change it."""
    from tests.tiny_runs import IN_CASH, start_run, tiny_config

    run = start_run(tmp_path_factory.mktemp("runs") / "in-cash", tiny_config(IN_CASH))
    assert run.train()
    return run
