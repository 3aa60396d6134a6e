"""The RLModule of the per-asset actor-critic network."""

from __future__ import annotations

from rllib_portfolio.modules.actor_critic import PortfolioActorCritic
from rllib_portfolio.networks.per_asset_actor_critic import PerAssetNetwork


class PerAssetActorCritic(PortfolioActorCritic, PerAssetNetwork):
    """The RLModule of the architecture that scores each asset with shared parameters."""
