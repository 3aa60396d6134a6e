"""The per-asset actor-critic network: one small network, with hundreds of parameters, scores every asset."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

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

NUM_DEVIATIONS = 2
"""Number of log standard deviations: one that all assets share, and one for cash."""


class PerAssetNetwork(ActorCriticNetwork):
    """Scores each asset by its features, its portfolio weight and the market's features, with shared parameters.

    Hidden layers are Linear -> Tanh. With hidden sizes (h_1, ... h_k), F features per asset and M market features, the
    encoder F + 1 + M -> h_1 embeds each asset. The actor branch h_1 -> ... -> h_k -> 1 maps an asset's embedding to its
    logit. Two branches of the same shape map the mean embedding of all assets to the cash logit and to the state value.
    All assets share one log standard deviation, and cash has its own.

    Permuting the assets of an observation permutes their logits; the cash logit and the value do not change. The
    number of parameters does not depend on the number of assets: with one hidden layer of 16, four asset features and
    no market features it is 96 + 3 * 17 + 2 = 149.

    The observation has the layout of `env.observation.ObservationLayout`. Portfolio weights w enter the encoder as
    w (N + 1) - 1, which is 0 for the uniform weight.
    """

    def add_layers(self, shape: ActorCriticShape) -> None:
        sizes = shape.hidden_sizes
        self._num_assets = shape.num_actions - 1
        self._num_features = shape.num_asset_features
        own = self._num_assets * self._num_features
        num_market = shape.num_inputs - shape.num_actions - own
        self._splits = [own, num_market, self._num_assets, 1]
        encoder = linear(self._num_features + 1 + num_market, sizes[0], HIDDEN_GAIN)
        self.encoder = nn.Sequential(encoder, nn.Tanh())
        self.actor = _branch(sizes, ACTOR_GAIN)
        self.cash = _branch(sizes, ACTOR_GAIN)
        with torch.no_grad():
            self.cash[-1].bias.fill_(shape.initial_cash_logit)
        self.log_std = nn.Parameter(torch.full((NUM_DEVIATIONS,), float(shape.initial_log_std)))
        if shape.has_critic:
            self.critic = _branch(sizes, CRITIC_GAIN)

    def embed(self, observations: Tensor) -> Tensor:
        """Return the embeddings of the assets, [B, N, h_1]."""
        features, market, weights, _ = observations.split(self._splits, dim=-1)
        shape = (*observations.shape[:-1], self._num_assets)
        own = features.unflatten(-1, (self._num_assets, self._num_features))
        multiples = (weights * (self._num_assets + 1) - 1.0).unsqueeze(-1)
        shared = market.unsqueeze(-2).expand(*shape, market.shape[-1])
        return run_layers(self.encoder, torch.cat([own, multiples, shared], dim=-1))

    def logits(self, embeddings: Tensor) -> Tensor:
        scores = run_layers(self.actor, embeddings).squeeze(-1)
        return torch.cat([scores, run_layers(self.cash, embeddings.mean(-2))], dim=-1)

    def log_stds(self) -> Tensor:
        assets, cash = self.log_std[:1], self.log_std[1:]
        return torch.cat([assets.expand(self._num_assets), cash])

    def values(self, embeddings: Tensor) -> Tensor:
        return run_layers(self.critic, embeddings.mean(-2)).squeeze(-1)


def _branch(sizes: Sequence[int], gain: float) -> nn.Sequential:
    hidden = [
        layer for inputs, outputs in pairwise(sizes) for layer in (linear(inputs, outputs, HIDDEN_GAIN), nn.Tanh())
    ]
    return nn.Sequential(*hidden, linear(sizes[-1], 1, gain))
