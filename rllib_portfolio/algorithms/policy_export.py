"""Conversion of a trained RLlib algorithm to a numpy policy, and of a policy back to a torch module."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from ray.rllib.connectors.env_to_module import MeanStdFilter
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.rl_module.torch import TorchRLModule
from ray.rllib.utils.filter import RunningStat
from ray.rllib.utils.numpy import SMALL_NUMBER

from rllib_portfolio.algorithms.registry import ALGORITHMS
from rllib_portfolio.config import QNetworkConfig, RunConfig
from rllib_portfolio.env.action_table import ActionTable, build_action_map
from rllib_portfolio.env.observation import ObservationLayout
from rllib_portfolio.market import MarketData
from rllib_portfolio.market.universe import TRADABLE
from rllib_portfolio.modules.architectures import ACTOR_CRITICS, model_config, q_model_config
from rllib_portfolio.modules.dueling_noisy_q import DuelingNoisyQ
from rllib_portfolio.modules.stacked_actor_critic import StackedActorCritic
from rllib_portfolio.policies.saved_policy import PolicySpec, PortfolioPolicy


def current_policy(algorithm: Any, config: RunConfig, market: MarketData) -> PortfolioPolicy:
    """Return the policy with the current weights of an algorithm's learners.

    Args:
        algorithm: Result of `build` of the algorithm's module.
        config: The run's configuration.
        market: Its market.

    Raises:
        ConfigError: If a weight is not finite.
    """
    learned = algorithm.learner_group.get_weights([DEFAULT_MODULE_ID])[DEFAULT_MODULE_ID]
    weights = ALGORITHMS[config.algo].deciding_weights(learned)
    mean, std = _filter_moments(algorithm) if config.market.observation_filter == "running" else (None, None)
    spec = PolicySpec(
        algo=config.algo,
        assets=market.assets,
        observation_names=ObservationLayout(market).names,
        network=config.for_assets(market.num_assets, market.universe is not None).network.model_dump(mode="json"),
        market=config.market.model_dump(mode="json"),
        environment=config.environment.model_dump(mode="json"),
        fitted=market.fitted,
        action_table=build_action_map(config.environment, market.assets, market.asset_feature_names).to_json(),
        observation_mean=mean,
        observation_std=std,
        num_asset_features=len(market.asset_feature_names),
        num_members=len(config.seeds),
    )
    return PortfolioPolicy(spec, weights)


def _filter_moments(algorithm: Any) -> tuple[list[float], list[float]]:
    """Return mean and standard deviation of RLlib's running observation filter, merged over the env runners."""
    pipeline = algorithm.env_runner._env_to_module if algorithm.env_runner else algorithm.env_to_module_connector
    (mean_std_filter,) = (piece for piece in pipeline.connectors if isinstance(piece, MeanStdFilter))
    (state,) = mean_std_filter.get_state().values()
    (running,) = (RunningStat.from_state(moments) for moments in state["running_stats"])
    return running.mean.tolist(), (running.std + SMALL_NUMBER).tolist()


def torch_module(policy: PortfolioPolicy) -> TorchRLModule:
    """Return the RLModule of a policy for inference, with a copy of the policy's weights."""
    # The meta device skips the initial weights: drawing them is slow, and advances the generator that samples actions.
    with torch.device("meta"), _without_deprecations():
        module = _inference_module(policy.spec)
    module.load_state_dict({name: torch.tensor(values) for name, values in policy.weights.items()}, assign=True)
    assert not any(tensor.is_meta for tensor in (*module.parameters(), *module.buffers()))
    return module.eval()


@contextmanager
def _without_deprecations() -> Iterator[None]:
    """Silence RLlib's deprecation warnings: the constructor of its modules uses a class that RLlib has deprecated."""
    logger = logging.getLogger("ray._common.deprecation")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _inference_module(spec: PolicySpec) -> TorchRLModule:
    """Return the RLModule for inference with its initial weights."""
    network = spec.network_config
    spaces: dict[str, Any] = {
        "observation_space": gym.spaces.Box(-np.inf, np.inf, (len(spec.observation_names),), np.float32),
        "action_space": spec.action_map.space,
        "inference_only": True,
    }
    features = spec.num_asset_features, TRADABLE in spec.asset_features
    if isinstance(network, QNetworkConfig):
        assert isinstance(spec.action_map, ActionTable)
        return DuelingNoisyQ(model_config=q_model_config(network, spec.action_map, *features), **spaces)
    environment = spec.environment_config
    settings = model_config(network, environment.logit_scale, *features, environment.partial_trading)
    if spec.num_members > 1:
        return StackedActorCritic(model_config=settings | {"num_members": spec.num_members}, **spaces)
    return ACTOR_CRITICS[network.architecture](model_config=settings, **spaces)
