"""The per-asset actor-critic as RLlib trains it."""

from __future__ import annotations

from rllib_portfolio.modules.actor_critic import PortfolioActorCritic
from rllib_portfolio.networks.per_asset_actor_critic import PerAssetNetwork


class PerAssetActorCritic(PortfolioActorCritic, PerAssetNetwork):
    """The architecture that scores each asset with weights that all assets share."""
