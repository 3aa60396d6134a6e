"""Policies with a trading rate: numpy decides what torch decides, and a back-test trades what the environment does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rllib_portfolio import load_policy
from rllib_portfolio.algorithms.policy_export import _inference_module, torch_module
from rllib_portfolio.backtest.engine import backtest
from rllib_portfolio.config import EnvironmentConfig, NetworkConfig
from rllib_portfolio.env import PortfolioEnv
from rllib_portfolio.env.action_map import ActionInputs
from rllib_portfolio.env.observation import ObservationLayout
from rllib_portfolio.market import MarketData
from rllib_portfolio.networks.actor_critic import INITIAL_RATE_LOGIT
from rllib_portfolio.policies.saved_policy import PolicySpec, PortfolioPolicy
from tests.policies.test_any_assets import complete_market, observations_of
from tests.policies.tiny_policies import CONFIG
from tests.universes import universe_market

NUM_ASSETS = 6
CASES = ["flat", "per_asset", "universe"]


@pytest.fixture(scope="module")
def markets() -> dict[str, MarketData]:
    complete = complete_market(NUM_ASSETS)
    return {"flat": complete, "per_asset": complete, "universe": universe_market(200, NUM_ASSETS)}


def policy_for(
    market: MarketData, case: str, num_members: int = 1, noise: float = 0.5, **settings: Any
) -> PortfolioPolicy:
    """A policy with a trading rate and random weights, strong enough that what it sees moves it."""
    environment = EnvironmentConfig(partial_trading=True, **settings)
    architecture = "flat" if case == "flat" else "per_asset"
    spec = PolicySpec(
        algo="apg",
        assets=market.assets,
        observation_names=ObservationLayout(market).names,
        network=NetworkConfig(architecture=architecture, hidden_sizes=(16, 8)).model_dump(mode="json"),
        market=CONFIG.model_dump(mode="json"),
        environment=environment.model_dump(mode="json"),
        fitted=market.fitted,
        num_asset_features=len(market.asset_feature_names),
        num_members=num_members,
    )
    torch.manual_seed(0)
    module = _inference_module(spec)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(noise * torch.randn_like(parameter))
    return PortfolioPolicy(spec, module.state_dict())


def rates_of(policy: PortfolioPolicy, observations: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-10.0 * policy._decided(observations)[..., -1].astype(float)))


@pytest.mark.parametrize("case", CASES)
def test_weights_are_those_of_torch(markets: dict[str, MarketData], case: str) -> None:
    policy = policy_for(markets[case], case)
    observations, _ = observations_of(markets[case])
    known = torch.from_numpy(observations[:, -NUM_ASSETS - 1 :])
    module = torch_module(policy)
    with torch.no_grad():
        inputs = module.forward_inference({"obs": torch.from_numpy(observations)})["action_dist_inputs"]
    assert inputs.shape == (len(observations), 2 * (NUM_ASSETS + 2))
    weights = policy(observations)
    np.testing.assert_allclose(weights, module.deterministic_weights(inputs, known).numpy(), rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(weights.sum(axis=1), 1.0, atol=1e-6)
    assert np.ptp(rates_of(policy, observations)) > 0.02  # it sees something


@pytest.mark.parametrize("lag", [0, 1])
@pytest.mark.parametrize("case", CASES)
def test_a_back_test_of_a_saved_policy_trades_what_the_environment_does(
    markets: dict[str, MarketData], case: str, lag: int, tmp_path: Path
) -> None:
    market, settings = markets[case], {"execution_lag": lag, "rebalance_days": 2, "max_turnover": 0.4}
    policy_for(market, case, **settings).save(tmp_path / "policy")
    policy = load_policy(tmp_path / "policy")
    first = market.windows["all"][0] + 1
    (result,) = backtest(market, (first, first + 80), [policy], policy.spec.environment_config)
    dates = str(market.dates[first]), str(market.dates[first + 79])
    env = PortfolioEnv(market, dates, partial_trading=True, random_start=False, episode_days=None, **settings)
    observation, _ = env.reset()
    for day in range(0, 80, 2):
        observation, *_, info = env.step(policy._decided(observation[None])[0])
        np.testing.assert_array_equal(info["weights"], result.weights[day])
        assert info["wealth"] == result.wealth[day + 2]
    assert result.turnover[2:].max() > 0.01


@pytest.mark.parametrize("case", CASES)
def test_the_rate_of_each_member_is_applied_before_their_weights_are_averaged(
    markets: dict[str, MarketData], case: str
) -> None:
    policy = policy_for(markets[case], case, num_members=3)
    observations, rows = observations_of(markets[case])
    weights = policy(observations)
    members = [member(observations) for member in policy.members]
    np.testing.assert_array_equal(weights, np.mean(members, axis=0))
    assert np.std(members, axis=0).max() > 0.05
    with torch.no_grad():
        inputs = torch_module(policy).forward_inference({"obs": torch.from_numpy(observations)})["action_dist_inputs"]
    actions = inputs[:, : NUM_ASSETS + 2].clamp(-1.0, 1.0).numpy()
    assert (actions[:, -1] == 1.0).all()
    universe = markets[case].universe
    tradable = None if universe is None else universe.tradable[rows]
    known = observations[:, -NUM_ASSETS - 1 :].astype(float)
    decided = policy.action_map.target(actions, known, ActionInputs(tradable=tradable, known=known))
    if tradable is not None:  # one action cannot keep a part of what may not be bought
        is_whole = np.where(tradable, 0.0, known[:, :-1]).sum(1) == 0.0
        decided, weights = decided[is_whole], weights[is_whole]
    assert len(decided) > 10
    np.testing.assert_allclose(decided, weights, rtol=0.0, atol=2e-4)


@pytest.mark.parametrize("case", CASES)
def test_an_untrained_policy_trades_nearly_all_of_the_way_to_equal_weights(
    markets: dict[str, MarketData], case: str
) -> None:
    policy = policy_for(markets[case], case, noise=0.0)
    observations, _ = observations_of(markets[case])
    np.testing.assert_allclose(rates_of(policy, observations), 1.0 / (1.0 + np.exp(-INITIAL_RATE_LOGIT)), atol=0.01)


def test_other_numbers_of_assets_have_a_trading_rate_as_well(markets: dict[str, MarketData]) -> None:
    policy = policy_for(markets["universe"], "universe")
    other = universe_market(200, 9, seed=3)
    policy.require_compatible(other)
    (result,) = backtest(other, other.windows["all"], [policy], policy.spec.environment_config)
    assert result.weights.shape[1] == 10
    assert result.turnover.max() > 0.01
