"""The per-asset actor-critic network: one small network scores every asset, so that it has hundreds of parameters."""

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
"""Of the assets, and of cash."""


class PerAssetNetwork(ActorCriticNetwork):
    """Scores each asset by its own features, its own weight and the market's features, with weights that all share.

    Hidden layers are Linear -> Tanh. With hidden sizes (h_1, ... h_k), F features of an asset and M of the market, the
    encoder F + 1 + M -> h_1 embeds each asset. The score branch h_1 -> ... -> h_k -> 1 makes the logit of an asset of
    its embedding. Cash is scored, and the observation valued, by branches of the same shape from the mean embedding of
    the assets, which holds the market's features, too. The assets share one log standard deviation, cash has its own.

    Permuting the assets of an observation permutes the weights; values and cash stay as they are. One layer of 16, four
    features and no market features: 96 + 3 * 17 + 2 = 149 parameters, for any number of assets.

    The observation is that of `env.observation.ObservationLayout`; own weights enter as multiples of the uniform one.
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
        """Embeddings of the assets, [B, N, h_1]."""
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
