"""The actor-critics by the name that a configuration gives them, and what each is built from."""

from __future__ import annotations

from typing import Any

from rllib_portfolio.config import NetworkConfig
from rllib_portfolio.modules.actor_critic import LayerNormActorCritic, PortfolioActorCritic
from rllib_portfolio.modules.per_asset_actor_critic import PerAssetActorCritic

PER_ASSET = "per_asset"
ACTOR_CRITICS: dict[str, type[PortfolioActorCritic]] = {"flat": LayerNormActorCritic, PER_ASSET: PerAssetActorCritic}


def model_config(network: NetworkConfig, logit_scale: float, num_asset_features: int | None) -> dict[str, Any]:
    """What RLlib calls `model_config`.

    Args:
        network: Settings of the network.
        logit_scale: Of the environment, whose softmax multiplies actions by it.
        num_asset_features: Features of each asset in an observation; the flat architecture needs none.
    """
    own = {} if network.architecture != PER_ASSET else {"num_asset_features": num_asset_features}
    return {**network.model_dump(), "logit_scale": logit_scale, **own}
