"""The subject of an audit: a market and an environment, with or without a policy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from rllib_portfolio.config import EnvironmentConfig, MarketConfig
from rllib_portfolio.env import PortfolioEnv
from rllib_portfolio.errors import DataError
from rllib_portfolio.market import MarketData, PriceTable, load_market, prepare_market
from rllib_portfolio.market.loading import load_table
from rllib_portfolio.policies.strategy import Strategy


@dataclass(frozen=True, eq=False)
class Specimen:
    """The subject of an audit: a market and an environment, with or without a policy.

    Attributes:
        market_config: Source of prices, features and windows.
        environment: Costs, limits, action map and reward.
        policy: A trained policy or any other strategy; None audits the baselines only.
        fitted: `MarketData.fitted` with which the policy was trained; None fits anew.
        trained_on: The saved market on which the policy was trained; None if there is none.
        is_newer_data: Whether the prices are newer than those of training, so that nothing may be fitted on them.
        seed: Seed of actions and episodes.
    """

    market_config: MarketConfig
    environment: EnvironmentConfig
    policy: Strategy | None = None
    fitted: Mapping[str, Any] | None = None
    trained_on: MarketData | None = None
    is_newer_data: bool = False
    seed: int = 0

    @cached_property
    def table(self) -> PriceTable | None:
        """The table of prices; None for a simulated or a prepared market."""
        data = self.market_config.data
        return None if isinstance(data, dict) or data.endswith(".npz") else load_table(self.market_config)

    @cached_property
    def market(self) -> MarketData:
        """The market, with the fitted models of the policy if there are any.

        Raises:
            DataError: If the prices are not those that the policy was trained on.
        """
        if self.table is None:
            market = load_market(self.market_config)
        else:
            market = prepare_market(self.table, self.market_config, self.fitted)
        trained_on = self.trained_on
        if trained_on is not None and market.data_hash != trained_on.data_hash:
            raise DataError(
                f"prices must be those of the run, got other ones (hash {market.data_hash[:12]} instead of "
                f"{trained_on.data_hash[:12]}, {market.source}). Restore the file, or give the newer one with "
                "--data-path."
            )
        return market

    @cached_property
    def env(self) -> PortfolioEnv:
        """The environment on the training window, or on all days if the market has no training window."""
        window = "train" if "train" in self.market.windows else "all"
        return PortfolioEnv(self.market, window, **self.environment.model_dump())

    @property
    def custom_features(self) -> tuple[str, ...]:
        """Names of the user's features, as `module:function`."""
        return () if self.table is None else self.market_config.features.custom
