"""DQN finds the best portfolio of its action table on markets whose optimum is known.

`make learn` runs all of it; `make test-all` runs the short cases that are not marked `learning`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.learning.certificates import FREE_TRADING, Certificate, action_of, trained_policy
from benchmarks.learning.known_optima import kelly, regimes
from rllib_portfolio.env import PortfolioVectorEnv
from rllib_portfolio.market import kelly_market

SEEDS = (0, 1, 2)
STEPS = 200_000
LADDER = {"environment": {"action_table": "ladder", "action_levels": 5}}
"""One asset: 0, 20, 40, 60, 80, 100 % of it, and hold."""

pytestmark = pytest.mark.usefixtures("ray_session")


def short_run(probability: float, folder: Path) -> np.ndarray:
    """Return the bets on a coin after short training, from all cash, half of each, and all in the asset."""
    fast = {"training": {"learning_rate": 1e-3, "gamma": 0.9}, **LADDER}
    policy = trained_policy(kelly(0.2, probability).market(0), folder, 0, 12_000, algo="dqn", **fast)
    held = np.array([[0.0, 1.0], [0.5, 0.5], [1.0, 0.0]], dtype=np.float32)  # all that is observed
    return policy(held)[:, 0]


def test_seconds_of_training_leave_a_bad_bet(tmp_path: Path) -> None:
    # the odds are against it: all cash is the optimum, and who always holds bets 0, 0.5 and 1
    assert short_run(0.25, tmp_path).max() <= 0.2


def test_training_against_the_odds_would_be_noticed(tmp_path: Path) -> None:
    # the same market with up and down exchanged: all in is the optimum
    assert short_run(0.75, tmp_path).min() >= 0.8


@pytest.mark.learning
@pytest.mark.parametrize("seed", SEEDS)
def test_dqn_bets_about_the_kelly_fraction(seed: int, tmp_path: Path, record_property: Any) -> None:
    certificate = kelly(0.2, 0.58)
    policy = trained_policy(certificate.market(seed), tmp_path, seed, STEPS, algo="dqn", **LADDER)
    growth, gap = certificate.shares(policy, seed)
    env = PortfolioVectorEnv(64, certificate.market(seed + 1000), "all", random_start=True, **FREE_TRADING)
    weights = policy(env.reset(seed=seed)[0])[:, 0]
    print(f"seed {seed}: {growth:.1%} of the optimal growth, {gap:.1%} of the gap, weights {np.unique(weights)}")
    record_property("growth", growth)
    assert growth >= 0.92
    assert np.abs(weights - 0.8).max() <= 0.2 + 1e-9  # the optimum or its neighbour


@pytest.mark.learning
@pytest.mark.parametrize("seed", SEEDS)
def test_the_small_kelly_fraction_is_reported(seed: int, tmp_path: Path) -> None:
    certificate = kelly(0.2, 0.52)  # optimum 0.2, whose neighbours earn far less: no bound
    policy = trained_policy(certificate.market(seed), tmp_path, seed, STEPS, algo="dqn", **LADDER)
    growth, gap = certificate.shares(policy, seed)
    print(f"seed {seed}: {growth:.1%} of the optimal growth, {gap:.1%} of the gap closed")
    assert np.isfinite(growth)


@pytest.mark.learning
@pytest.mark.parametrize("seed", SEEDS)
def test_dqn_follows_the_observable_regime(seed: int, tmp_path: Path, record_property: Any) -> None:
    certificate: Certificate = regimes()
    lattice = {"environment": {"action_table": "lattice", "action_levels": 5}}
    policy = trained_policy(certificate.market(seed), tmp_path, seed, STEPS, algo="dqn", **lattice)
    growth, gap = certificate.shares(policy, seed)
    print(f"seed {seed}: {growth:.1%} of the optimal growth, {gap:.1%} of the gap closed")
    record_property("growth", growth)
    assert growth >= 0.92


@pytest.mark.learning
@pytest.mark.parametrize("seed", SEEDS)
def test_dqn_holds_where_costs_are_larger_than_the_edge(seed: int, tmp_path: Path) -> None:
    def market(draw: int):
        return kelly_market(up=0.01, down=0.01, probability=0.52, num_days=100_000, seed=draw)

    # the edge is 0.01 (2 * 0.52 - 1) = 4 basis points a day of what is held, a trade costs 50 of what is traded
    costs = {"environment": {**LADDER["environment"], "cost_bps": 50.0}}
    policy = trained_policy(market(seed), tmp_path, seed, STEPS, algo="dqn", **costs)
    env = PortfolioVectorEnv(32, market(seed + 1000), "all", random_start=True, execution_lag=0, cost_bps=50.0)
    observation, _ = env.reset(seed=seed)
    turnover = []
    for _ in range(251):
        observation, _, _, _, info = env.step(action_of(policy(observation)))
        turnover.append(info["turnover"].mean())
    print(f"seed {seed}: mean turnover {np.mean(turnover):.2%} a day")
    assert np.mean(turnover) < 0.01
