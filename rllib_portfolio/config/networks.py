"""Settings of networks that several algorithms can share."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from rllib_portfolio.config.fields import LayerSize, StrictModel
from rllib_portfolio.errors import ConfigError

PER_ASSET = "per_asset"


class AnyNetworkConfig(StrictModel):
    """The network of any algorithm."""

    architecture: str = "flat"
    hidden_sizes: tuple[LayerSize, ...] = ()
    per_asset_from: ClassVar[int | None] = None
    """Smallest number of assets for which `auto` chooses per_asset on a complete table; None never does."""
    per_asset_sizes: ClassVar[tuple[int, ...]] = ()
    """Hidden layers of the per_asset network that `auto` chooses; `hidden_sizes` applies to the flat one."""

    def for_assets(self, num_assets: int, has_universe: bool = False) -> Self:
        """Return the settings with `auto` replaced by the architecture for the market.

        Args:
            num_assets: Number N of risky assets.
            has_universe: Whether the market has a universe, in which assets come and go.

        Raises:
            ConfigError: If a flat network is asked for in a market with a universe.
        """
        if self.architecture == "flat" and has_universe:
            raise ConfigError(
                "network.architecture must be per_asset in a market whose assets come and go, got flat, which reads a "
                "fixed list of assets (network). Set network.architecture=per_asset, or auto."
            )
        if self.architecture != "auto":
            return self
        if not has_universe and (self.per_asset_from is None or num_assets < self.per_asset_from):
            return self.model_copy(update={"architecture": "flat"})
        changes: dict[str, Any] = {"architecture": PER_ASSET, "hidden_sizes": self.per_asset_sizes}
        return self.model_copy(update=changes)


PER_ASSET_FROM = 50
"""Smallest number of assets for which `network.architecture: auto` chooses per_asset."""
PER_ASSET_SIZES = (16,)
"""Hidden layers of the per_asset network that `auto` chooses; `hidden_sizes` applies to the flat one."""


class NetworkConfig(AnyNetworkConfig):
    """The actor-critic network."""

    per_asset_from = PER_ASSET_FROM
    per_asset_sizes = PER_ASSET_SIZES

    architecture: Literal["auto", "flat", "per_asset"] = "auto"
    """flat: one network over the whole observation. per_asset: one small network with shared weights that scores each
    asset. auto: flat below 50 assets that are always there, otherwise per_asset with one hidden layer of 16."""
    hidden_sizes: tuple[LayerSize, ...] = Field((256, 256), min_length=1, max_length=16)
    """The first size is that of the shared trunk (per_asset: of the encoder of an asset), the others are those of each
    branch. flat needs at least two."""
    initial_log_std: float = Field(-0.7, ge=-5, le=2)
    """Logarithm of the standard deviation of an untrained policy, in logits."""
    initial_cash_logit: float = Field(0.0, ge=-10, le=10)
    """Logit of cash in an untrained policy, where those of the assets are 0. With 0 it starts at the uniform portfolio
    over assets and cash, with -5 at 1/N of the assets and almost no cash."""

    @field_validator("hidden_sizes")
    @classmethod
    def _flat_has_branches(cls, sizes: tuple[int, ...], info: ValidationInfo) -> tuple[int, ...]:
        if len(sizes) < 2 and info.data.get("architecture") in ("auto", "flat"):
            raise PydanticCustomError(
                "too_short", "tuple should have at least 2 items where architecture is flat, or auto, which may be flat"
            )
        return sizes
