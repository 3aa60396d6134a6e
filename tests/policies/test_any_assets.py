"""Policies that score each asset: what they decide in a universe, and for assets that they were not trained on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from rllib_portfolio import load_policy
from rllib_portfolio.algorithms.policy_export import torch_module
from rllib_portfolio.backtest.engine import backtest
from rllib_portfolio.config import EnvironmentConfig, ExecutionConfig, NetworkConfig, QNetworkConfig
from rllib_portfolio.env.action_map import ActionInputs
from rllib_portfolio.env.action_table import build_action_map, build_action_table
from rllib_portfolio.env.observation import ObservationLayout
from rllib_portfolio.errors import ConfigError
from rllib_portfolio.market import MarketData, prepare_market
from rllib_portfolio.modules.architectures import model_config, q_model_config
from rllib_portfolio.modules.dueling_noisy_q import QF_PREDS, DuelingNoisyQ
from rllib_portfolio.modules.per_asset_actor_critic import PerAssetActorCritic
from rllib_portfolio.networks.dueling_q import DuelingQNetwork
from rllib_portfolio.policies.saved_policy import PolicySpec, PortfolioPolicy
from rllib_portfolio.policies.strategy import MarketViewer
from tests.market.tables import random_table
from tests.policies.tiny_policies import CONFIG
from tests.universes import universe_market

KINDS = ["softmax", "ladder", "quantiles"]


def policy_for(market: MarketData, kind: str, seed: int = 0, **spec: Any) -> PortfolioPolicy:
    """A policy that scores each asset, with random weights, strong enough that what it sees moves it."""
    names, features = ObservationLayout(market).names, market.asset_feature_names
    environment = EnvironmentConfig() if kind == "softmax" else EnvironmentConfig(
        action_mode="discrete", action_table=kind
    )  # fmt: skip
    values: dict[str, Any] = {
        "algo": "ppo",
        "assets": market.assets,
        "observation_names": names,
        "market": CONFIG.model_dump(mode="json"),
        "environment": environment.model_dump(mode="json"),
        "fitted": market.fitted,
        "num_asset_features": len(features),
        **spec,
    }
    torch.manual_seed(seed)
    if kind == "softmax":
        network: Any = NetworkConfig(architecture="per_asset", hidden_sizes=(8, 4))
        own: Any = {"model_config": model_config(network, 10.0, len(features), "tradable" in features)}
        module_class: Any = PerAssetActorCritic
    else:
        network = QNetworkConfig(architecture="per_asset", hidden_sizes=(8, 6), sigma0=0.5)
        table = build_action_table(environment, market.assets, features)
        own = {"model_config": q_model_config(network, table, len(features), "tradable" in features)}
        values["action_table"], module_class = table.to_json(), DuelingNoisyQ
    space = build_action_map(environment, market.assets, features).space
    module = module_class(observation_space=ObservationLayout(market).space, action_space=space, **own)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter))
    spec_of = PolicySpec(network=network.model_dump(mode="json"), **values)
    return PortfolioPolicy(spec_of, module.state_dict())


def complete_market(num_assets: int, fitted: dict[str, Any] | None = None) -> MarketData:
    """A market of random prices of assets that are always there."""
    table = random_table(600)
    moves = np.random.default_rng(num_assets).normal(0.0, 0.01, (600, num_assets))
    prices = pd.DataFrame(100.0 * np.exp(moves.cumsum(0)), table.prices.index, [f"B{i}" for i in range(num_assets)])
    return prepare_market(replace(table, prices=prices), CONFIG, fitted)


def observations_of(market: MarketData, count: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Observations at random rows with random portfolios of what is tradable or halted, and their rows."""
    rng = np.random.default_rng(0)
    rows = rng.integers(market.first_row, market.num_days, count)
    parts = rng.random((count, market.num_assets + 1))
    if market.universe is not None:
        parts[:, :-1] *= market.universe.listed[rows] & (rng.random((count, market.num_assets)) < 0.7)
    return ObservationLayout(market).observe(rows, parts / parts.sum(1, keepdims=True)), rows


# ---------------------------------------------------------------- numpy decides what torch decides


@pytest.mark.parametrize("num_assets", [6, 9])
@pytest.mark.parametrize("has_universe", [True, False])
def test_mean_actions_are_those_of_torch(num_assets: int, has_universe: bool) -> None:
    market = universe_market(200, num_assets) if has_universe else complete_market(num_assets)
    policy = policy_for(market, "softmax")
    observations, rows = observations_of(market)
    module = torch_module(policy)
    with torch.no_grad():
        inputs = module.forward_inference({"obs": torch.from_numpy(observations)})["action_dist_inputs"]
    np.testing.assert_allclose(
        policy._decided(observations), inputs[:, : num_assets + 1].clamp(-1, 1).numpy(), rtol=0, atol=1e-5
    )
    weights = policy(observations)
    np.testing.assert_allclose(weights, module.deterministic_weights(inputs).numpy(), rtol=1e-3, atol=1e-6)
    if has_universe:
        assert market.universe is not None
        assert (weights[:, :-1][~market.universe.tradable[rows]] == 0.0).all()
    assert weights.std(axis=0).max() > 0.01


@pytest.mark.parametrize("kind", ["ladder", "quantiles"])
@pytest.mark.parametrize("has_universe", [True, False])
def test_greedy_actions_are_those_of_torch_except_at_ties(kind: str, has_universe: bool) -> None:
    market = universe_market(400, 6) if has_universe else complete_market(6)
    observations, rows = observations_of(market, 300)
    chosen: set[int] = set()
    for seed in range(5):
        policy = policy_for(market, kind, seed)
        with torch.no_grad():
            values = torch_module(policy).compute_q_values({"obs": torch.from_numpy(observations)})[QF_PREDS].numpy()
        best, second = np.sort(values, axis=-1)[:, :-3:-1].T
        is_clear = best - second > 1e-4
        assert is_clear.mean() > 0.75  # rectified embeddings may be equal
        decided = policy._decided(observations)
        np.testing.assert_array_equal(decided[is_clear], values.argmax(-1)[is_clear])
        chosen |= set(decided.tolist())
        if market.universe is not None:
            mask = policy.action_map.available(ActionInputs(tradable=market.universe.tradable[rows]))
            assert mask is not None
            assert mask[np.arange(300), decided].all()
    assert len(chosen) > 3


@pytest.mark.parametrize("kind", KINDS)
def test_a_decision_is_the_same_to_the_bit_whatever_it_is_decided_with(kind: str) -> None:
    market = universe_market(200, 7)
    policy = policy_for(market, kind)
    observations, rows = observations_of(market)
    volatility = market.volatility[rows]
    together = policy(observations, volatility)
    for index in range(len(observations)):
        np.testing.assert_array_equal(policy(observations[index], volatility[index]), together[index])


# ---------------------------------------------------------------- other assets


@pytest.mark.parametrize("kind", KINDS)
def test_a_policy_decides_for_any_assets_as_for_its_own(kind: str, tmp_path: Path) -> None:
    # Assets behind those of training that never were listed change no decision; and other assets are decided for, too.
    market = universe_market(200, 5)
    policy_for(market, kind).save(tmp_path / "policy")
    policy = load_policy(tmp_path / "policy")
    observations, rows = observations_of(market)
    weights = policy(observations, market.volatility[rows])
    num_features = len(market.asset_feature_names)
    own, rest = np.split(observations, [5 * num_features], axis=1)
    padded = np.hstack([own, np.zeros((60, 3 * num_features)), rest[:, :-1], np.zeros((60, 3)), rest[:, -1:]])
    more = policy(padded, np.hstack([market.volatility[rows], np.zeros((60, 3))]))
    np.testing.assert_allclose(np.delete(more, [5, 6, 7], axis=1), weights, rtol=1e-4, atol=1e-7)
    other = universe_market(200, 23, seed=3)
    policy.require_compatible(other)
    (result,) = backtest(other, other.windows["all"], [policy], ExecutionConfig())
    held = result.weights[:, :-1]
    assert ((held > 0.0).any(axis=1)).mean() > 0.3
    observations, rows = observations_of(other)
    weights = policy(observations, other.volatility[rows])
    np.testing.assert_allclose(weights.sum(axis=1), 1.0, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_the_assets_of_a_complete_market_may_change_but_neither_features_nor_fit(kind: str) -> None:
    market = complete_market(4)
    policy = policy_for(market, kind)
    other = complete_market(7)
    with pytest.raises(ConfigError, match=r"market must be prepared with the fit that the policy was trained on"):
        policy.require_compatible(other)
    fitted = complete_market(7, policy.spec.fitted)
    policy.require_compatible(fitted)
    (result,) = backtest(fitted, fitted.windows["test"], [policy], ExecutionConfig())
    assert result.weights.shape[1] == 8
    with_mask = universe_market(200, 4)
    with pytest.raises(ConfigError, match=r"^asset features must be those of training, got 2 instead of"):
        policy.require_compatible(with_mask)


def test_a_scaler_is_that_of_all_assets() -> None:
    # One mean and one scale for each feature, so that they apply to any asset.
    market = complete_market(4)
    for moments in market.fitted["scaler"]["asset"].values():
        assert np.shape(moments) == (len(market.asset_feature_names),)


def test_a_length_that_no_number_of_assets_has_is_refused() -> None:
    policy = policy_for(universe_market(60, 5), "softmax")  # 2 features and a weight for each asset, 2 numbers more
    with pytest.raises(ValueError, match=r"^observation must have 3 numbers for each asset and 2 more .*, got 18\."):
        policy(np.zeros(18))
    for length in (2, 1):
        with pytest.raises(ValueError, match=r"observation must have 3 numbers for each asset"):
            policy(np.zeros(length))


def test_a_table_without_tilts_is_for_a_single_asset() -> None:
    market = universe_market(60, 1)
    policy = policy_for(market, "ladder")
    policy.require_compatible(market)
    with pytest.raises(ConfigError, match=r"^assets must be those of training, got 2 instead of 1"):
        policy.require_compatible(universe_market(60, 2))


def test_policies_with_a_running_filter_stay_with_their_assets() -> None:
    market = complete_market(4)
    num_inputs = len(ObservationLayout(market).names)
    moments = {"observation_mean": [0.0] * num_inputs, "observation_std": [1.0] * num_inputs}
    policy = policy_for(market, "softmax", **moments)
    policy.require_compatible(market)
    with pytest.raises(ConfigError, match=r"^assets must be those of training, got 7 instead of 4"):
        policy.require_compatible(complete_market(7, market.fitted))
    with pytest.raises(ValueError, match=rf"observation must have {num_inputs} numbers"):
        policy(np.zeros(num_inputs + len(market.asset_feature_names) + 1))


# ---------------------------------------------------------------- policies of earlier versions


def test_a_discrete_policy_of_an_earlier_version_decides_what_it_decided(tmp_path: Path) -> None:
    market = complete_market(4)
    environment = EnvironmentConfig(action_mode="discrete", action_table="ladder")
    table = build_action_table(environment, market.assets, market.asset_feature_names)
    torch.manual_seed(0)
    names = ObservationLayout(market).names
    network = DuelingQNetwork(len(names), table.num_actions, (16, 8), dueling=True, sigma0=0.1)
    with torch.no_grad():
        network.advantage[1].weight_mean.mul_(100.0)
    spec = PolicySpec(
        algo="dqn",
        assets=market.assets,
        observation_names=names,
        network=QNetworkConfig(architecture="flat", hidden_sizes=(16, 8)).model_dump(mode="json"),
        market=CONFIG.model_dump(mode="json"),
        environment=environment.model_dump(mode="json"),
        fitted=market.fitted,
        action_table=table.to_json(),
    )
    policy = PortfolioPolicy(spec, {f"q_net.{name}": values for name, values in network.state_dict().items()})
    policy.save(tmp_path / "policy")
    file = tmp_path / "policy" / "policy.json"
    values = json.loads(file.read_text())
    for name in ("sha256", "weights_sha256", "num_asset_features"):
        values.pop(name, None)
    for name in ("equal_share", "first_tilt", "feature_tilts"):
        del values["action_table"][name]
    del values["network"]["architecture"]
    del values["environment"]["action_features"]
    file.write_text(json.dumps(values))
    old = load_policy(tmp_path / "policy")
    observations, rows = observations_of(market)
    volatility = market.volatility[rows]
    decided = policy(observations, volatility)
    assert len(np.unique(decided, axis=0)) > 2
    np.testing.assert_array_equal(old(observations, volatility), decided)
    with pytest.raises(ConfigError, match=r"^assets must be those of training"):
        old.require_compatible(complete_market(7, market.fitted))


@pytest.mark.parametrize("kind", KINDS)
def test_the_view_of_a_back_test_shows_what_is_tradable(kind: str) -> None:
    market = universe_market(120, 5)
    policy = policy_for(market, kind)
    assert market.universe is not None
    for row in range(10, 100, 7):
        weights = np.append(np.zeros(5), 1.0)
        (view,) = MarketViewer(market, 1).views(row, True, weights[None])
        target = policy.decide(view)
        if target is not None:
            assert (target[:-1][~market.universe.tradable[row - 1]] == 0.0).all()
            assert target.sum() == pytest.approx(1.0)
