"""PPO finds the known optimum, from the uniform portfolio, with the default settings.

`make learn` runs all of it; `make test-all` runs the short cases that are not marked `learning`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.learning.certificates import FREE_TRADING, Certificate, action_of, trained_policy
from benchmarks.learning.known_optima import kelly, oracle, regimes
from rllib_portfolio.env import PortfolioVectorEnv
from rllib_portfolio.market import gbm_market

SEEDS = (0, 1, 2)
STEPS = 500_000

pytestmark = pytest.mark.usefixtures("ray_session")


def test_a_minute_of_training_finds_the_kelly_fraction(tmp_path: Path) -> None:
    certificate = kelly(0.2, 0.58)
    policy = trained_policy(certificate.market(0), tmp_path, seed=0, total_timesteps=120_000)
    growth, gap = certificate.shares(policy, seed=0)
    assert growth >= 0.95
    assert gap >= 0.75


def test_training_against_the_odds_would_be_noticed(tmp_path: Path) -> None:
    certificate = kelly(0.2, 0.58)
    mirrored = kelly(0.2, 0.42).market(0)  # the same market with up and down exchanged: its optimum is all cash
    policy = trained_policy(mirrored, tmp_path, seed=0, total_timesteps=40_000)
    _, gap = certificate.shares(policy, seed=0)
    assert gap < 0.0


@pytest.mark.learning
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("certificate", "least_growth", "least_gap"),
    [
        pytest.param(kelly(0.2, 0.58), 0.95, 0.75, id="kelly-optimum-0.8"),
        pytest.param(kelly(0.5, 0.55), 0.95, 0.75, id="kelly-optimum-0.2"),
        pytest.param(regimes(), 0.95, 0.75, id="observable-regime"),
        pytest.param(oracle(), 0.80, 0.60, id="leaked-next-return"),
    ],
)
def test_ppo_reaches_the_optimum(
    certificate: Certificate, least_growth: float, least_gap: float, seed: int, tmp_path: Path, record_property
) -> None:
    policy = trained_policy(certificate.market(seed), tmp_path, seed, STEPS)
    growth, gap = certificate.shares(policy, seed)
    print(f"seed {seed}: {growth:.1%} of the optimal growth, {gap:.1%} of the gap closed")
    record_property("growth", growth)
    record_property("gap", gap)
    assert growth >= least_growth
    assert gap >= least_gap


@pytest.mark.learning
@pytest.mark.parametrize("seed", SEEDS)
def test_ppo_does_not_beat_the_uniform_portfolio_on_noise(seed: int, tmp_path: Path) -> None:
    def noise(draw: int):
        # Independent assets of the same odds: the growth optimum is mean / volatility^2 = 0.01 / 0.04 = 1 / 4 of each,
        # which is the uniform portfolio over three assets and cash. Whatever differs from it has learned noise.
        return gbm_market(mean=(0.01,) * 3, volatility=(0.2,) * 3, num_days=50_000, seed=draw)

    policy = trained_policy(noise(seed), tmp_path, seed, STEPS)
    env = PortfolioVectorEnv(1, noise(seed + 1000), "all", random_start=False, episode_days=None, **FREE_TRADING)
    observation, _ = env.reset(seed=0)
    excess, finished = [], False
    while not finished:
        weights = policy(observation)
        observation, reward, _, truncated, _ = env.step(action_of(weights))
        excess.append(reward[0])
        finished = bool(truncated[0])
    mean, standard_error = np.mean(excess), np.std(excess, ddof=1) / np.sqrt(len(excess))
    print(f"seed {seed}: excess over uniform {mean:.2e} a day, standard error {standard_error:.2e}")
    assert mean <= 2.0 * standard_error
