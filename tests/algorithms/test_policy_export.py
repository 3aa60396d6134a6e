"""Tests of the export of a trained module to a policy in numpy, and of the way back to a torch module."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rllib_portfolio.algorithms.policy_export import current_policy, torch_module
from rllib_portfolio.config import EnvironmentConfig, QNetworkConfig
from rllib_portfolio.env.action_table import build_action_table
from rllib_portfolio.market import MarketData, prepare_market
from rllib_portfolio.modules.actor_critic import LayerNormActorCritic
from rllib_portfolio.networks.dueling_q import DuelingQNetwork
from rllib_portfolio.policies.saved_policy import PortfolioPolicy
from tests.market.tables import random_table
from tests.policies.tiny_policies import CONFIG, observations_of, policy_for
from tests.tiny_runs import start_run, tiny_config


@pytest.fixture(scope="module")
def market() -> MarketData:
    return prepare_market(random_table(600), CONFIG)


def test_the_torch_module_of_a_policy_has_a_copy_of_its_weights(market: MarketData) -> None:
    policy, observations = policy_for(market), observations_of(market)
    before, module = policy(observations), torch_module(policy)
    assert isinstance(module, LayerNormActorCritic)
    inputs = module.forward_inference({"obs": torch.from_numpy(observations)})["action_dist_inputs"]
    np.testing.assert_allclose(before, module.deterministic_weights(inputs).detach(), rtol=1e-5)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
    np.testing.assert_array_equal(policy(observations), before)
    np.testing.assert_array_equal(PortfolioPolicy(policy.spec, policy.weights)(observations), before)


def test_the_torch_module_of_a_discrete_policy_values_its_actions(market: MarketData) -> None:
    settings = QNetworkConfig(hidden_sizes=(16, 8)).model_dump(mode="json")
    table = asdict(build_action_table(EnvironmentConfig(action_mode="discrete"), market.assets))
    observations, num_actions = observations_of(market), len(table["names"])
    inputs = observations.shape[1]
    network = DuelingQNetwork(inputs, num_actions, (16, 8), dueling=True, sigma0=0.1)
    weights = {f"q_net.{name}": values for name, values in network.state_dict().items()}
    policy = policy_for(market, weights=weights, network=settings, action_table=table)
    with torch.no_grad():
        expected = network(torch.from_numpy(observations))
        values = torch_module(policy).compute_q_values({"obs": torch.from_numpy(observations)})["qf_preds"]
    torch.testing.assert_close(values, expected, rtol=0, atol=0)
    np.testing.assert_array_equal(policy._decided(observations), expected.argmax(-1))


def test_neither_a_policy_nor_its_torch_module_draws_a_random_number(market: MarketData) -> None:
    # a run builds a policy at each evaluation and checkpoint: its training must not depend on how often it does
    before = torch.get_rng_state()
    torch_module(policy_for(market))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("num_env_runners", [0, 2])
def test_the_running_filter_is_part_of_the_policy(
    ray_session: None, tmp_path: Path, price_settings: dict[str, Any], num_env_runners: int
) -> None:
    from ray.rllib.connectors.env_to_module import MeanStdFilter
    from ray.rllib.core import COMPONENT_ENV_TO_MODULE_CONNECTOR, DEFAULT_MODULE_ID
    from ray.rllib.env.single_agent_episode import SingleAgentEpisode

    from rllib_portfolio.algorithms.ppo import algorithm as ppo

    settings = {"market.observation_filter": "running", "resources.num_env_runners": num_env_runners}
    run = start_run(tmp_path / "run", tiny_config(price_settings, settings))
    rllib_config = ppo.algorithm_config(run.config, run.run_dir / "market.npz")
    algorithm = rllib_config.build_algo()
    try:
        for _ in range(2):
            algorithm.train()
        policy = current_policy(algorithm, run.config, run.market)
        states = algorithm.env_runner_group.foreach_env_runner(
            lambda runner: (runner.get_state([COMPONENT_ENV_TO_MODULE_CONNECTOR]), runner.get_spaces()),
            local_env_runner=num_env_runners == 0,
        )
        weights = algorithm.learner_group.get_weights()[DEFAULT_MODULE_ID]
    finally:
        algorithm.stop()

    frozen = rllib_config.copy(copy_frozen=False)
    frozen.env_runners(env_to_module_connector=lambda env, spaces, device: MeanStdFilter(update_stats=False))
    observations, module = observations_of(run.market), torch_module(policy)
    unfiltered = PortfolioPolicy(replace(policy.spec, observation_mean=None, observation_std=None), weights)
    assert not np.allclose(unfiltered(observations), policy(observations), atol=1e-4)
    for state, spaces in states:  # of every env runner: they are merged after each iteration
        pipeline = frozen.build_env_to_module_connector(spaces=spaces)
        pipeline.set_state(state[COMPONENT_ENV_TO_MODULE_CONNECTOR])
        for observation in observations:
            episode = SingleAgentEpisode(observation_space=spaces[DEFAULT_MODULE_ID][0])
            episode.add_env_reset(observation)
            batch = pipeline(
                rl_module=module, batch={}, episodes=[episode], explore=False, shared_data={}, metrics=None
            )
            filtered = batch["obs"].numpy()[0]
            np.testing.assert_allclose(unfiltered(filtered), policy(observation), atol=1e-6)
