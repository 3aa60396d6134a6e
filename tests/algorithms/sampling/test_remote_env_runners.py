"""Env runners in processes of their own: how the market reaches them, and what happens when one says nothing."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import ray
from ray.rllib.utils.metrics import ENV_RUNNER_RESULTS, NUM_ENV_STEPS_SAMPLED_LIFETIME

from rllib_portfolio.algorithms.dqn import algorithm as dqn
from rllib_portfolio.algorithms.ppo import algorithm as ppo
from rllib_portfolio.algorithms.sampling.rounds import sample_round
from rllib_portfolio.algorithms.sampling.shared_market import shared_market, take_market
from rllib_portfolio.env import portfolio_env
from rllib_portfolio.env.portfolio_env import resolve_market
from rllib_portfolio.errors import DataError
from rllib_portfolio.market import MarketData
from tests.tiny_runs import STEPS_PER_ITERATION, tiny_config, tiny_dqn_config

TWO = {"resources.num_env_runners": 2}
TIMEOUT_S = 5.0


@pytest.fixture(scope="module")
def nowhere(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a path without a file, as on a machine that does not share the driver's file system."""
    return str(tmp_path_factory.mktemp("elsewhere") / "market.npz")


@pytest.fixture(scope="module")
def shared(ray_session: None, nowhere: str, tiny_market: MarketData) -> Iterator[str]:
    with shared_market(nowhere, tiny_market):
        yield nowhere


@pytest.fixture(scope="module")
def algorithm(shared: str) -> Iterator[ppo.PortfolioPPO]:
    """PPO with two env runners on a market that is no file; they are waited for five seconds."""
    config = ppo.algorithm_config(tiny_config(TWO), Path(shared))
    algorithm = config.env_runners(sample_timeout_s=TIMEOUT_S).build_algo()
    yield algorithm
    algorithm.stop()


# ---------------------------------------------------------------- the market


def test_env_runners_walk_a_market_that_they_have_no_file_of(
    algorithm: ppo.PortfolioPPO, tiny_market: MarketData
) -> None:
    hashes = algorithm.env_runner_group.foreach_env_runner(
        lambda runner: runner.env.unwrapped.simulation.market.data_hash, local_env_runner=False
    )
    assert hashes == [tiny_market.data_hash] * 2


def test_all_processes_of_a_machine_read_the_market_in_the_same_memory(shared: str) -> None:
    @ray.remote(num_cpus=0)
    def ask_twice() -> tuple[list[int], list[bool]]:
        found = []
        for _ in range(2):
            take_market(shared)
            found.append(resolve_market(shared))
        return [market.returns.ctypes.data for market in found], [market.returns.flags.owndata for market in found]

    addresses, are_copies = ray.get(ask_twice.remote(), timeout=60)
    assert addresses[0] == addresses[1]  # two unpickled objects, one array
    assert are_copies == [False, False]


def test_a_market_that_nobody_shares_is_read_from_its_file(
    ray_session: None, tmp_path: Path, tiny_market: MarketData
) -> None:
    path = str(tmp_path / "market.npz")
    take_market(path)
    assert path not in portfolio_env._provided
    with pytest.raises(DataError, match=r"market\.npz"):
        resolve_market(path)
    tiny_market.save(tmp_path / "market.npz")
    np.testing.assert_array_equal(resolve_market(path).returns, tiny_market.returns)


def test_a_market_can_be_shared_again_as_soon_as_it_is_no_more(ray_session: None, tiny_market: MarketData) -> None:
    for rate in (0.01, 0.02):  # as for a trial that is tried again
        market = tiny_market.with_cash_rate(rate)
        with shared_market("again.npz", market):
            take_market("again.npz")
            found = resolve_market("again.npz")
            np.testing.assert_array_equal(found.cash_returns, market.cash_returns)
    portfolio_env._provided.pop("again.npz")


# ---------------------------------------------------------------- silence


def steps_of(algorithm: ppo.PortfolioPPO | dqn.PortfolioDQN) -> int:
    return int(algorithm.train()[ENV_RUNNER_RESULTS][NUM_ENV_STEPS_SAMPLED_LIFETIME])


def test_an_iteration_waits_once_for_a_silent_env_runner_and_counts_nothing_of_it(
    algorithm: ppo.PortfolioPPO,
) -> None:
    before = steps_of(algorithm)
    assert before == 2 * STEPS_PER_ITERATION
    pid = algorithm.env_runner_group.foreach_env_runner(lambda runner: os.getpid(), local_env_runner=False)[1]
    os.kill(pid, signal.SIGSTOP)
    try:
        started = time.monotonic()
        without = steps_of(algorithm)
        duration = time.monotonic() - started
    finally:
        os.kill(pid, signal.SIGCONT)
    assert without == before + STEPS_PER_ITERATION
    assert algorithm.silent_env_runners == (2,)
    assert TIMEOUT_S <= duration < 2 * TIMEOUT_S
    # it is back with the next iteration; what it made in answer to the earlier request is not counted
    assert steps_of(algorithm) == without + 2 * STEPS_PER_ITERATION
    assert algorithm.silent_env_runners == ()
    assert algorithm.env_runner_group.num_healthy_remote_workers() == 2


def test_an_iteration_of_many_rounds_ends_with_the_one_that_a_silent_env_runner_missed(shared: str) -> None:
    config = tiny_dqn_config(TWO, {"resources.num_cpus_per_env_runner": 0.0})  # beside PPO's, which hold the CPUs
    algorithm = dqn.algorithm_config(config, Path(shared)).env_runners(sample_timeout_s=TIMEOUT_S).build_algo()
    pid = algorithm.env_runner_group.foreach_env_runner(lambda runner: os.getpid(), local_env_runner=False)[0]
    try:
        assert steps_of(algorithm) == STEPS_PER_ITERATION
        os.kill(pid, signal.SIGSTOP)
        # one fragment of the other's four environments, where an iteration is two rounds of both
        assert steps_of(algorithm) == STEPS_PER_ITERATION + 4 * config.training.rollout_steps
        assert algorithm.silent_env_runners == (1,)
    finally:
        os.kill(pid, signal.SIGCONT)
        algorithm.stop()


def test_a_round_says_whether_all_env_runners_answered(algorithm: ppo.PortfolioPPO) -> None:
    assert sample_round(algorithm.env_runner_group, 60.0).is_complete
    missed = sample_round(algorithm.env_runner_group, 0.0)
    assert not missed.is_complete
    assert len(missed.results) < 2


@pytest.mark.parametrize(("algo", "config"), [(ppo, tiny_config(TWO)), (dqn, tiny_dqn_config(TWO))], ids=["ppo", "dqn"])
def test_all_that_an_iteration_may_wait_for_stays_below_thirty_seconds(
    shared: str, algo: object, config: object
) -> None:
    told = algo.algorithm_config(config, Path(shared))  # type: ignore[attr-defined]
    assert told.sample_timeout_s > 10.0  # a link that is lost for ten seconds costs nothing
    silent = told.sample_timeout_s + told.sync_filters_on_rollout_workers_timeout_s
    lost = told.env_runner_health_probe_timeout_s + told.env_runner_restore_timeout_s
    assert silent + lost < 30.0
    assert told.restart_failed_env_runners is True
    assert told.num_consecutive_env_runner_failures_tolerance >= 100
