"""Session defaults of the test suite: quiet, local, single-threaded, repeatable."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Generator, Iterator
from pathlib import Path
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


DURATIONS = Path(__file__).with_name("durations.json")
"""Seconds that the longer tests took, by node id, in the last run with `--update-durations`."""
NOT_DEFAULT = {"slow", "ray", "learning"}
"""Markers of the tests that the default suite leaves out, and that may take as long as they need."""
_spent_s = pytest.StashKey[float]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="rewrite the figures of tests/golden, for review")
    parser.addoption("--update-durations", action="store_true", help="rewrite tests/durations.json after a whole run")
    parser.addoption("--max-seconds", type=float, metavar="S", help="fail unmarked tests of more processor time")


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark the tests that use Ray, directly or through a finished run, and those that open a browser."""
    for fixture, marker in {"ray_session": "ray", "browser": "slow"}.items():
        if fixture in getattr(item, "fixturenames", ()):
            item.add_marker(marker)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the longest files first, so that no process of pytest-xdist is left with a long one at the end."""
    durations, total = json.loads(DURATIONS.read_text()), Counter[Path]()
    for item in items:
        total[item.path] += durations.get(item.nodeid, 0.0)
    items.sort(key=lambda item: -total[item.path])


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest) -> Generator[None]:
    """Count what a test's own fixtures cost; those of a module or the session are shared."""
    before = _processor_s()
    result = yield
    if fixturedef.scope == "function":
        request.node.stash[_spent_s] = request.node.stash.get(_spent_s, 0.0) + _processor_s() - before
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None]:
    """Fail a test of the default suite that takes too long.

    Processor time is counted, not time on the clock, which is twice as long where other processes share the cores. It
    includes the processes that the test started and waited for. What only waits is ended by `--timeout`.
    """
    before = _processor_s()
    result = yield
    spent_s, limit_s = item.stash.get(_spent_s, 0.0) + _processor_s() - before, item.config.getoption("--max-seconds")
    if limit_s and spent_s > limit_s and not any(item.get_closest_marker(name) for name in NOT_DEFAULT):
        pytest.fail(
            f"a test of the default suite must take at most {limit_s:g} s of processor time, got {spent_s:.1f} s. "
            "Make it faster, share what it prepares in a fixture of the module, or mark it `slow`.",
            pytrace=False,
        )
    return result


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Write what each test took, fixtures included, where that was asked for."""
    if config.getoption("--update-durations"):
        spent_s = Counter[str]()
        for report in (report for reports in terminalreporter.stats.values() for report in reports):
            if isinstance(report, pytest.TestReport):
                spent_s[report.nodeid] += report.duration
        kept = {test: round(seconds, 1) for test, seconds in sorted(spent_s.items()) if seconds >= 0.5}
        DURATIONS.write_text(json.dumps(kept, indent=0) + "\n")


def _processor_s() -> float:
    """Return the processor time of this process and of those that it has waited for, in seconds."""
    return sum(os.times()[:4])


@pytest.fixture(scope="session")
def update_golden(pytestconfig: pytest.Config) -> bool:
    """Return whether golden tests write their figures instead of comparing them."""
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
