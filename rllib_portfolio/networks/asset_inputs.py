"""The inputs of networks that read each asset with shared parameters, and means over the assets of a universe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor


class AssetInputs(NamedTuple):
    """Tensors that a per-asset network computes from B observations of N assets."""

    each: Tensor
    """Features of an asset, its portfolio weight, and the features of the market, [B, N, F + 1 + M]."""
    tradable: Tensor | None
    """Whether each asset may be bought, bool [B, N]; None if all may."""
    shares: Tensor | None
    """Share of each asset in a mean over those that are tradable or held, [B, 1, N]; all 0 if there is none. None for
    the mean over all assets."""


@dataclass(frozen=True, slots=True)
class AssetLayout:
    """Splits observations of a fixed number of assets into the inputs of a torch network that is trained.

    The order of an observation's parts is that of `env.observation.ObservationLayout`.

    Attributes:
        num_assets: N, the number of risky assets.
        num_features: F, the number of features of each asset.
        num_market: M, the number of features of the market.
        sees_tradable: Whether the last feature of an asset is 1 if it may be bought and 0 if not.
    """

    num_assets: int
    num_features: int
    num_market: int
    sees_tradable: bool = False

    @property
    def num_inputs(self) -> int:
        """Number of inputs per asset: its features, its weight and the features of the market, F + 1 + M."""
        return self.num_features + 1 + self.num_market

    def read(self, observations: Tensor) -> AssetInputs:
        """Return the inputs of each asset.

        A portfolio weight w is read as w (n + 1) - 1, which is 0 for the uniform weight. n is the number of assets; in
        a universe, it is the number of tradable ones, so that assets that are never listed change nothing.

        Args:
            observations: [B, D] with D = N F + M + N + 1.
        """
        own_size = self.num_assets * self.num_features
        own, market, weights, _ = observations.split([own_size, self.num_market, self.num_assets, 1], dim=-1)
        own = own.unflatten(-1, (self.num_assets, self.num_features))
        tradable, shares, uniform = None, None, self.num_assets + 1
        if self.sees_tradable:
            tradable = own[..., -1] > 0.5
            counted = (tradable | (weights > 0.0)).to(observations.dtype)
            shares = (counted / counted.sum(-1, keepdim=True).clamp(min=1.0)).unsqueeze(-2)
            uniform = tradable.sum(-1, keepdim=True) + 1
        multiples = (weights * uniform - 1.0).unsqueeze(-1)
        shared = market.unsqueeze(-2).expand(*own.shape[:-1], self.num_market)
        return AssetInputs(torch.cat([own, multiples, shared], dim=-1), tradable, shares)

    def tradable(self, observations: Tensor) -> Tensor:
        """Return whether each asset may be bought, bool [B, N]; only if the observation shows it."""
        own = observations[..., : self.num_assets * self.num_features]
        return own.unflatten(-1, (self.num_assets, self.num_features))[..., -1] > 0.5


def mean_over_assets(embeddings: Tensor, shares: Tensor | None) -> Tensor:
    """Return the mean embedding, [B, h].

    Args:
        embeddings: Embeddings of the assets, [B, N, h].
        shares: Share of each asset in the mean, [B, 1, N], or None for equal shares.
    """
    return embeddings.mean(-2) if shares is None else (shares @ embeddings).squeeze(-2)
