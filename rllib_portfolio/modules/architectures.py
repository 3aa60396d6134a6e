"""The actor-critic RLModules by their names in the configuration, and the `model_config` of all modules."""

from __future__ import annotations

from typing import Any

from rllib_portfolio.config import NetworkConfig, QNetworkConfig
from rllib_portfolio.config.networks import PER_ASSET
from rllib_portfolio.env.action_table import ActionTable
from rllib_portfolio.errors import ConfigError
from rllib_portfolio.modules.actor_critic import LayerNormActorCritic, PortfolioActorCritic
from rllib_portfolio.modules.per_asset_actor_critic import PerAssetActorCritic
from rllib_portfolio.networks.actor_critic import ActorCriticNetwork, LayerNormNetwork
from rllib_portfolio.networks.per_asset_actor_critic import PerAssetNetwork

ACTOR_CRITICS: dict[str, type[PortfolioActorCritic]] = {"flat": LayerNormActorCritic, PER_ASSET: PerAssetActorCritic}
NETWORKS: dict[str, type[ActorCriticNetwork]] = {"flat": LayerNormNetwork, PER_ASSET: PerAssetNetwork}
"""The same networks without RLlib."""


def model_config(
    network: NetworkConfig,
    logit_scale: float,
    num_asset_features: int | None,
    sees_tradable: bool = False,
    partial_trading: bool = False,
) -> dict[str, Any]:
    """Return RLlib's `model_config` of an actor-critic module.

    Args:
        network: Settings of the network.
        logit_scale: Factor by which the environment multiplies actions before its softmax.
        num_asset_features: Number of features per asset in an observation. The flat architecture does not use it.
        sees_tradable: Whether the last of these features is 1 if the asset may be bought and 0 if not.
        partial_trading: Whether the last action is the trading rate.
    """
    own = {"num_asset_features": num_asset_features, "sees_tradable": sees_tradable}
    scale = {"logit_scale": logit_scale, "partial_trading": partial_trading}
    return {**network.model_dump(), **scale, **(own if network.architecture == PER_ASSET else {})}


def q_model_config(
    network: QNetworkConfig, table: ActionTable, num_asset_features: int | None, sees_tradable: bool = False
) -> dict[str, Any]:
    """Return RLlib's `model_config` of a Q-network's module, without its epsilon.

    Args:
        network: Settings of the network.
        table: The discrete actions.
        num_asset_features: Number of features per asset in an observation. The flat architecture does not use it.
        sees_tradable: Whether the last of these features is 1 if the asset may be bought and 0 if not.

    Raises:
        ConfigError: If a network that scores each asset is asked for over a lattice.
    """
    if network.architecture != PER_ASSET:
        return network.model_dump()
    if table.equal_share is None:
        raise ConfigError(
            "environment.action_table must be ladder or quantiles with network.architecture=per_asset, got a lattice, "
            "whose actions name single assets (environment). Set environment.action_table=ladder."
        )
    return {
        **network.model_dump(),
        "num_assets": table.weights.shape[1] - 1,
        "num_asset_features": num_asset_features,
        "sees_tradable": sees_tradable,
        "first_tilt": table.first_tilt,
    }
