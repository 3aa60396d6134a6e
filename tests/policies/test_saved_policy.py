"""A saved policy: the same weights without torch and Ray, for the observations it was trained on and no others."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import save_file

from rllib_portfolio import load_policy
from rllib_portfolio.algorithms.policy_export import torch_module
from rllib_portfolio.audit.differences import scrambled
from rllib_portfolio.backtest.engine import backtest
from rllib_portfolio.config import EnvironmentConfig, MarketConfig, NetworkConfig
from rllib_portfolio.env.observation import ObservationLayout
from rllib_portfolio.errors import ConfigError
from rllib_portfolio.market import MarketData, leaked, prepare_market
from rllib_portfolio.modules import architectures
from rllib_portfolio.modules.per_asset_actor_critic import PerAssetActorCritic
from rllib_portfolio.policies.checkpoint import checkpoint_name
from rllib_portfolio.policies.saved_policy import PortfolioPolicy
from tests.market.tables import SHORT, config, random_table
from tests.policies.tiny_policies import CONFIG, observations_of, policy_for, random_weights
from tests.tiny_runs import TinyRun

DAY_ZERO = EnvironmentConfig(execution_lag=0)


@pytest.fixture(scope="module")
def market() -> MarketData:
    return prepare_market(random_table(600), CONFIG)


@pytest.fixture(scope="module")
def policy(market: MarketData) -> PortfolioPolicy:
    return policy_for(market)


# ---------------------------------------------------------------- weights


def test_weights_are_a_portfolio_for_one_observation_and_for_many(market: MarketData, policy: PortfolioPolicy) -> None:
    observations = observations_of(market)
    weights = policy(observations)
    assert weights.shape == (5, 4)
    np.testing.assert_allclose(weights.sum(axis=1), 1.0, atol=1e-12)
    assert (weights > 0).all()
    assert weights.std(axis=0).max() > 0.01  # it sees something
    for row, observation in zip(weights, observations, strict=True):
        assert policy(observation).shape == (4,)
        np.testing.assert_array_equal(policy(observation), row)  # alone or together: the same decision


def test_weights_are_softmax_of_the_logits_cut_at_the_action_space(market: MarketData, policy: PortfolioPolicy) -> None:
    observations = observations_of(market)
    with torch.no_grad():
        logits = 10.0 * torch_module(policy).forward_inference({"obs": torch.from_numpy(observations)})[
            "action_dist_inputs"
        ][:, :4].numpy().astype(np.float64)  # fmt: skip
    exponentials = np.exp(np.clip(logits, -10.0, 10.0))
    np.testing.assert_allclose(policy(observations), exponentials / exponentials.sum(axis=1, keepdims=True), rtol=1e-5)


def test_a_policy_decides_the_same_every_time(market: MarketData, policy: PortfolioPolicy) -> None:
    observation = observations_of(market)[0]
    np.testing.assert_array_equal(policy(observation), policy(observation))


@pytest.mark.parametrize("shape", [(0,), (27,), (29,), (3, 27), (28, 3)])
def test_an_observation_of_another_length_is_refused(policy: PortfolioPolicy, shape: tuple[int, ...]) -> None:
    expected = len(policy.spec.observation_names)
    if shape[-1] == expected:
        shape = (*shape[:-1], expected + 1)
    with pytest.raises(ValueError, match=rf"observation must have {expected} numbers in its last axis, got shape"):
        policy(np.zeros(shape))


def test_a_policy_keeps_its_weights_when_those_it_was_built_from_go_on_learning(
    tmp_path: Path, market: MarketData, policy: PortfolioPolicy
) -> None:
    weights = random_weights(len(policy.spec.observation_names), len(market.assets) + 1)
    built = PortfolioPolicy(policy.spec, weights)
    for tensor in weights.values():
        tensor.fill_(0.5)
    built.save(tmp_path / "policy")
    for one in (built, load_policy(tmp_path / "policy")):
        np.testing.assert_array_equal(one(observations_of(market)), policy(observations_of(market)))


# ---------------------------------------------------------------- files


def test_a_saved_policy_gives_identical_weights(tmp_path: Path, market: MarketData, policy: PortfolioPolicy) -> None:
    policy.save(tmp_path / "policy")
    loaded = load_policy(tmp_path / "policy")
    assert loaded.spec == policy.spec
    np.testing.assert_array_equal(loaded(observations_of(market)), policy(observations_of(market)))


def test_a_network_that_scores_each_asset_is_saved_and_loaded_like_any_other(
    tmp_path: Path, market: MarketData
) -> None:
    network = NetworkConfig(architecture="per_asset", hidden_sizes=(8,), initial_cash_logit=-5.0)
    names, num_features = ObservationLayout(market).names, len(market.asset_feature_names)
    box = gym.spaces.Box(-1.0, 1.0, (4,), np.float32)
    module = PerAssetActorCritic(
        observation_space=gym.spaces.Box(-np.inf, np.inf, (len(names),), np.float32),
        action_space=box,
        model_config=architectures.model_config(network, 10.0, num_features),
    )
    with torch.no_grad():
        module.actor[0].weight.mul_(100.0)
    policy = policy_for(
        market,
        weights=module.state_dict(),
        network=network.model_dump(mode="json"),
        num_asset_features=num_features,
    )
    policy.save(tmp_path / "policy")
    loaded = load_policy(tmp_path / "policy")
    observations = observations_of(market)
    weights = policy(observations)
    np.testing.assert_array_equal(loaded(observations), weights)
    inputs = module.forward_inference({"obs": torch.from_numpy(observations)})["action_dist_inputs"]
    np.testing.assert_allclose(weights, module.deterministic_weights(inputs).detach(), rtol=1e-5)
    assert weights[:, -1].max() < 0.02 < weights[:, :-1].std()
    for wrong in (None, float(num_features), num_features + 1):
        with pytest.raises(ValueError, match=r"num_asset_features must be a whole number|must have the shape"):
            PortfolioPolicy(replace(policy.spec, num_asset_features=wrong), policy.weights)


def test_weights_that_are_not_finite_are_neither_taken_nor_loaded(
    tmp_path: Path, market: MarketData, policy: PortfolioPolicy
) -> None:
    num_inputs, num_outputs = len(policy.spec.observation_names), len(market.assets) + 1
    with pytest.raises(ValueError, match="read-only"):
        policy.weights["log_std"][0] = np.nan
    weights = random_weights(num_inputs, num_outputs)
    for value in (np.nan, np.inf):
        bias = torch.zeros(num_outputs)
        bias[1] = value
        with pytest.raises(ConfigError, match=r"must be finite, got 1 of actor\.3\.bias"):
            policy_for(market, weights=weights | {"actor.3.bias": bias})
    policy.save(tmp_path / "policy")
    save_file(
        {**policy.weights, "log_std": np.full(num_outputs, np.nan, np.float32)},
        tmp_path / "policy" / "weights.safetensors",
    )
    settings = json.loads((tmp_path / "policy" / "policy.json").read_text())
    del settings["sha256"], settings["weights_sha256"]  # as a former version wrote it, which exported such weights
    (tmp_path / "policy" / "policy.json").write_text(json.dumps(settings))
    with pytest.raises(ConfigError, match=r"got damaged files .*must be finite"):
        load_policy(tmp_path / "policy")


def test_everyone_whom_the_umask_lets_may_read_a_saved_policy(tmp_path: Path, policy: PortfolioPolicy) -> None:
    before = os.umask(0o027)
    try:
        policy.save(tmp_path / "policy")
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "policy").iterdir()}
    assert modes == {"policy.json": 0o640, "weights.safetensors": 0o640}


def edit_json(folder: Path, **changes: Any) -> None:
    values = json.loads((folder / "policy.json").read_text())
    (folder / "policy.json").write_text(json.dumps({**values, **changes}))


DAMAGES: dict[str, Callable[[Path], object]] = {
    "weights cut short": lambda folder: (folder / "weights.safetensors").write_bytes(
        (folder / "weights.safetensors").read_bytes()[:-10]
    ),
    "weights overwritten": lambda folder: (folder / "weights.safetensors").write_bytes(b"\xff" * 100),
    "weights changed": lambda folder: (folder / "weights.safetensors").write_bytes(
        (folder / "weights.safetensors").read_bytes()[:-1] + b"\x40"
    ),
    "a setting changed": lambda folder: (folder / "policy.json").write_text(
        (folder / "policy.json").read_text().replace('"logit_scale": ', '"logit_scale": 1')
    ),
    "weights empty": lambda folder: (folder / "weights.safetensors").write_bytes(b""),
    "weights missing": lambda folder: (folder / "weights.safetensors").unlink(),
    "json cut short": lambda folder: (folder / "policy.json").write_text(
        (folder / "policy.json").read_text()[:100]
    ),
    "json of something else": lambda folder: (folder / "policy.json").write_text("[1, 2]"),
    "json without a field": lambda folder: (folder / "policy.json").write_text('{"algo": "ppo"}'),
    "json with an unknown field": lambda folder: edit_json(folder, future=1),
    "another network": lambda folder: edit_json(folder, network={"hidden_sizes": [32, 32], "initial_log_std": 0.0}),
    "an impossible network": lambda folder: edit_json(folder, network={"hidden_sizes": [0]}),
    "a later format": lambda folder: edit_json(folder, format_version=2),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda name: name.replace(" ", "-"))
def test_damaged_files_are_told_in_one_line(tmp_path: Path, policy: PortfolioPolicy, damage: str) -> None:
    folder = tmp_path / "policy"
    policy.save(folder)
    DAMAGES[damage](folder)
    with pytest.raises(ConfigError) as raised:
        load_policy(folder)
    text = str(raised.value)
    assert text.startswith("policy must be a folder with policy.json and weights.safetensors, got damaged files")
    assert str(folder) in text
    assert "\n" not in text


@pytest.mark.parametrize("name", [".", "missing"])
def test_a_folder_without_a_policy_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=r"policy must be a run, checkpoint or policy folder, got .* Name a folder"):
        load_policy(tmp_path / name)


# ---------------------------------------------------------------- markets that a policy understands


def refused(policy: PortfolioPolicy, market: MarketData) -> str:
    with pytest.raises(ConfigError) as raised:
        policy.require_compatible(market)
    return str(raised.value)


def test_newer_rows_of_the_same_universe_are_welcome_and_change_no_old_decision(
    market: MarketData, policy: PortfolioPolicy
) -> None:
    old, new = random_table(600), random_table(700, seed=1)
    prices = pd.concat([old.prices, new.prices[600:]])
    extended = replace(new, prices=prices, index=prices.mean(axis=1), extra=pd.DataFrame(index=prices.index))
    longer = prepare_market(extended, CONFIG, policy.spec.fitted)
    policy.require_compatible(longer)
    assert longer.num_days == 700
    (before,), (after,) = (
        backtest(some, market.windows["test"], [policy], EnvironmentConfig()) for some in (market, longer)
    )
    np.testing.assert_array_equal(before.weights, after.weights)


@pytest.mark.parametrize(
    ("assets", "difference"),
    [
        (("AAA", "XYZ", "CCC"), "the first difference at 1: XYZ instead of BBB"),
        (("BBB", "AAA", "CCC"), "the first difference at 0: BBB instead of AAA"),
        (("AAA", "BBB"), "got 2 instead of 3, the first difference at 2: nothing instead of CCC"),
    ],
)
def test_other_assets_are_refused_and_named(
    market: MarketData, policy: PortfolioPolicy, assets: tuple[str, ...], difference: str
) -> None:
    columns = slice(len(assets))
    other = replace(
        market,
        assets=assets,
        **{name: getattr(market, name)[:, columns] for name in ("returns", "volatility", "asset_features")},
    )
    text = refused(policy, other)
    assert "assets must be those of training" in text
    assert difference in text


def test_another_feature_set_is_refused_and_named(policy: PortfolioPolicy) -> None:
    features = SHORT.model_copy(update={"rsi_days": 9})
    text = refused(policy, prepare_market(random_table(600), config(features=features)))
    assert "observations must be those of training" in text
    assert "AAA.rsi_9 instead of AAA.rsi_7" in text


def test_the_same_features_with_another_scale_are_refused(market: MarketData, policy: PortfolioPolicy) -> None:
    # a new fit moves every number that the policy reads, and no name shows it
    half = random_table(600)
    half = replace(half, prices=half.prices[:400], index=half.index[:400], extra=half.extra[:400])
    fitted_anew = prepare_market(half, CONFIG)
    assert ObservationLayout(fitted_anew).names == ObservationLayout(market).names
    text = refused(policy, fitted_anew)
    assert "the fit that the policy was trained on, got another scaler, gmm, hmm" in text
    assert "fitted=policy.spec.fitted" in text
    raw = prepare_market(random_table(600), config(observation_filter="none"))
    assert "another observation_filter" in refused(policy, raw)


# ---------------------------------------------------------------- no decision sees the future


def decisions_up_to(policy: PortfolioPolicy, market: MarketData, row: int, execution: EnvironmentConfig) -> np.ndarray:
    """Weights of the decisions of the test window that see no day after `row`: traded up to the close of row + lag."""
    start, _ = market.windows["test"]
    (result,) = backtest(market, market.windows["test"], [policy], execution)
    return result.weights[: row + execution.execution_lag - (start - 1) + 1]


@pytest.mark.parametrize("lag", [0, 1])
def test_decisions_up_to_t_ignore_every_later_price(market: MarketData, policy: PortfolioPolicy, lag: int) -> None:
    execution = EnvironmentConfig(execution_lag=lag)
    start, stop = market.windows["test"]
    for row in (start - 1, start + 30, stop - 3 - lag):
        other = prepare_market(scrambled(random_table(600), row), CONFIG, market.fitted)
        one, two = (decisions_up_to(policy, some, row, execution) for some in (market, other))
        assert len(one) == row + lag - start + 2
        np.testing.assert_array_equal(one, two)
        (all_one,), (all_two,) = (
            backtest(some, market.windows["test"], [policy], execution) for some in (market, other)
        )
        assert not np.array_equal(all_one.weights[len(one)], all_two.weights[len(one)])


@pytest.mark.ray
def test_a_trained_policys_decisions_up_to_t_ignore_every_later_price(finished_run: TinyRun) -> None:
    market, run_config = finished_run.market, finished_run.config
    from rllib_portfolio.market import read_table

    table, trained = read_table(run_config.market), load_policy(finished_run.run_dir)
    row = market.windows["test"][0] + 40
    other = prepare_market(scrambled(table, row), run_config.market, trained.spec.fitted)
    trained.require_compatible(other)
    one, two = (decisions_up_to(trained, some, row, run_config.environment) for some in (market, other))
    np.testing.assert_array_equal(one, two)
    last_row = market.windows["test"][1] - 2
    one, two = (decisions_up_to(trained, some, last_row, run_config.environment) for some in (market, other))
    assert not np.array_equal(one, two)


def test_a_leak_is_caught(market: MarketData) -> None:
    row = market.windows["test"][0] + 30
    other = prepare_market(scrambled(random_table(600), row), CONFIG, market.fitted)
    cheat = policy_for(leaked(market))
    one, two = (decisions_up_to(cheat, leaked(some), row, DAY_ZERO) for some in (market, other))
    assert not np.array_equal(one, two)
    np.testing.assert_array_equal(one[:-1], two[:-1])  # it knows one day, no more


# ---------------------------------------------------------------- the running observation filter


def test_the_running_filter_survives_the_file(tmp_path: Path, market: MarketData) -> None:
    names = ObservationLayout(market).names
    rng = np.random.default_rng(0)
    mean, std = rng.normal(size=len(names)), rng.uniform(0.5, 2.0, len(names))
    policy = policy_for(market, observation_mean=mean.tolist(), observation_std=std.tolist())
    policy.save(tmp_path / "policy")
    observations = observations_of(market)
    np.testing.assert_array_equal(load_policy(tmp_path / "policy")(observations), policy(observations))
    by_hand = np.clip((observations - mean) / std, -10.0, 10.0)
    np.testing.assert_allclose(policy(observations), policy_for(market)(by_hand), atol=1e-6)
    far_away = 1e6 * np.ones(len(names))
    np.testing.assert_allclose(policy(far_away), policy_for(market)(np.full(len(names), 10.0)), atol=1e-6)


# ---------------------------------------------------------------- a policy of a run


@pytest.mark.ray
def test_a_policy_of_a_run_is_the_one_that_was_best_on_validation(run_in_cash: TinyRun) -> None:
    best, newest = (run_in_cash.run_dir / "checkpoints" / checkpoint_name(steps) for steps in (0, 640))
    observations = observations_of(run_in_cash.market)
    of_run, of_checkpoint, of_folder = (load_policy(path) for path in (run_in_cash.run_dir, best, best / "policy"))
    np.testing.assert_array_equal(of_run(observations), of_checkpoint(observations))
    np.testing.assert_array_equal(of_run(observations), of_folder(observations))
    assert not np.array_equal(of_run(observations), load_policy(newest)(observations))


@pytest.mark.ray
def test_a_policy_says_what_it_was_trained_on(finished_run: TinyRun) -> None:
    spec = load_policy(finished_run.run_dir).spec
    assert spec.assets == ("AAA", "BBB", "CCC")
    assert spec.environment_config.model_dump() == finished_run.config.environment.model_dump()
    assert spec.market_config == finished_run.config.market
    assert spec.fitted == finished_run.market.fitted
    assert asdict(spec)["algo"] == "ppo"
    assert isinstance(spec.market_config, MarketConfig)
