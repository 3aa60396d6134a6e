"""The per-asset actor-critic network: one small network, with hundreds of parameters, scores every asset."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from rllib_portfolio.networks.actor_critic import (
    ACTOR_GAIN,
    CRITIC_GAIN,
    HIDDEN_GAIN,
    ActorCriticNetwork,
    ActorCriticShape,
    linear,
    run_layers,
)
from rllib_portfolio.networks.asset_inputs import AssetLayout, mean_over_assets


class AssetEmbeddings(NamedTuple):
    """Embeddings of the assets of B observations."""

    each: Tensor
    """[B, N, h]."""
    mean: Tensor | None
    """Mean over the assets that are tradable or held, [B, h]; None if all assets always are."""
    tradable: Tensor | None
    """Whether each asset may be bought, bool [B, N]; None if all always may."""


class PerAssetNetwork(ActorCriticNetwork):
    """Scores each asset by its features, its portfolio weight and the market's features, with shared parameters.

    Hidden layers are Linear -> Tanh. With hidden sizes (h_1, ... h_k), F features per asset and M market features, the
    encoder F + 1 + M -> h_1 embeds each asset. The actor branch h_1 -> ... -> h_k -> 1 maps an asset's embedding to its
    logit. Two branches of the same shape map the mean embedding of all assets to the cash logit, with that of the
    trading rate if there is one, and to the state value. All assets share one log standard deviation; cash and the rate
    have their own.

    Permuting the assets of an observation permutes their logits; all other outputs do not change. The
    number of parameters does not depend on the number of assets: with one hidden layer of 16, four asset features and
    no market features it is 96 + 3 * 17 + 2 = 149.

    If the observation shows which assets are tradable, means are over those that are tradable or held. The logits of
    the others are the constant 0 without a deviation, so that they take no part in the policy.
    """

    def add_layers(self, shape: ActorCriticShape) -> None:
        sizes = shape.hidden_sizes
        num_assets, num_features = shape.num_weights - 1, shape.num_asset_features
        num_market = shape.num_inputs - shape.num_weights - num_assets * num_features
        self._layout = AssetLayout(num_assets, num_features, num_market, shape.sees_tradable)
        self.encoder = nn.Sequential(linear(self._layout.num_inputs, sizes[0], HIDDEN_GAIN), nn.Tanh())
        last_logits = shape.initial_last_logits
        self.actor = _branch(sizes, 1, ACTOR_GAIN)
        self.cash = _branch(sizes, len(last_logits), ACTOR_GAIN)
        with torch.no_grad():
            self.cash[-1].bias[:] = last_logits
        self.log_std = nn.Parameter(torch.full((1 + len(last_logits),), float(shape.initial_log_std)))
        if shape.has_critic:
            self.critic = _branch(sizes, 1, CRITIC_GAIN)

    def embed(self, observations: Tensor) -> AssetEmbeddings:
        """Return the embeddings of the assets, with h = h_1."""
        inputs = self._layout.read(observations)
        each = run_layers(self.encoder, inputs.each)
        mean = None if inputs.shares is None else mean_over_assets(each, inputs.shares)
        return AssetEmbeddings(each, mean, inputs.tradable)

    def logits(self, embeddings: AssetEmbeddings) -> Tensor:
        scores = run_layers(self.actor, embeddings.each).squeeze(-1)
        if embeddings.tradable is not None:
            scores = scores.masked_fill(~embeddings.tradable, 0.0)
        return torch.cat([scores, run_layers(self.cash, _mean(embeddings))], dim=-1)

    def log_stds(self, embeddings: AssetEmbeddings) -> Tensor:
        assets, others = self.log_std[:1], self.log_std[1:]
        if embeddings.tradable is None:
            return torch.cat([assets.expand(self._layout.num_assets), others])
        each = assets.expand(embeddings.tradable.shape).masked_fill(~embeddings.tradable, -torch.inf)
        return torch.cat([each, others.expand(len(each), -1)], dim=-1)

    def values(self, embeddings: AssetEmbeddings) -> Tensor:
        return run_layers(self.critic, _mean(embeddings)).squeeze(-1)


def _mean(embeddings: AssetEmbeddings) -> Tensor:
    return embeddings.each.mean(-2) if embeddings.mean is None else embeddings.mean


def _branch(sizes: Sequence[int], outputs: int, gain: float) -> nn.Sequential:
    hidden = [
        layer for inputs, outputs in pairwise(sizes) for layer in (linear(inputs, outputs, HIDDEN_GAIN), nn.Tanh())
    ]
    return nn.Sequential(*hidden, linear(sizes[-1], outputs, gain))
