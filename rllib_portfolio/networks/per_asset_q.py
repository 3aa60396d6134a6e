"""The per-asset dueling Q-network: an encoder with shared parameters reads each asset."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from rllib_portfolio.networks.asset_inputs import AssetLayout, mean_over_assets
from rllib_portfolio.networks.dueling_q import DuelingQNetwork, Noise, QFunction, make_stream, run_stream
from rllib_portfolio.networks.noisy_linear import LayerNoise, NoisyLinear


class PerAssetQNetwork(DuelingQNetwork):
    """A Q-network whose parameters do not depend on the number of assets.

    The encoder F + 1 + M -> h_1 is Linear -> ReLU and embeds each asset. The streams of the value and of the advantages
    of `DuelingQNetwork` map the mean embedding, over the assets that are tradable or held, to the value and to the
    advantages of the actions on all assets together. Where the action table has a tilt to each asset, a third stream
    h_1 -> h_2 -> 1 maps the embedding of an asset to the advantage of its tilt. What enters a stream is normalised by
    one LayerNorm, the mean after it is taken, because to normalise each of many assets takes longer than all the rest.

    Advantages are centred over the available actions, so that assets that are never listed change no value.

    Args:
        layout: The layout of an observation.
        actions: K, the number of actions: cash first and hold last, as in a ladder or a table of quantiles.
        hidden_sizes: (h_1, h_2).
        dueling: Whether there is a value stream.
        sigma0: Initial noise of the streams, or None for plain linear layers.
        first_tilt: Index of the first of N actions that tilt to one asset each, or None if there are none.
    """

    def __init__(
        self,
        layout: AssetLayout,
        actions: int,
        hidden_sizes: Sequence[int],
        *,
        dueling: bool,
        sigma0: float | None,
        first_tilt: int | None,
    ) -> None:
        num_common = actions if first_tilt is None else actions - layout.num_assets
        super().__init__(layout.num_inputs, num_common, hidden_sizes, dueling=dueling, sigma0=sigma0)
        self.tilt = None if first_tilt is None else make_stream((*hidden_sizes, 1), sigma0)
        self._layout, self._num_actions, self._first_tilt = layout, actions, first_tilt

    @property
    def streams(self) -> list[nn.Module]:
        """The layers of the streams of advantages, value (if there is one) and tilts (if there are any)."""
        return [*super().streams, *(self.tilt if self.tilt is not None else ())]

    def available(self, observations: Tensor) -> Tensor | None:
        if not self._layout.sees_tradable:
            return None
        tradable = self._layout.tradable(observations)
        available = tradable.any(-1, keepdim=True).repeat(1, self._num_actions)
        available[:, [0, -1]] = True
        if self._first_tilt is not None:
            available[:, self._first_tilt : self._first_tilt + self._layout.num_assets] = tradable
        return available

    def explore(self, observations: Tensor) -> Tensor:
        layers: Sequence[QFunction] = [*self.advantage, *(self.tilt if self.tilt is not None else ())]
        if self.is_noisy:
            layers = self._under(self._noise_of(layers, len(observations)), layers)
        return self._advantages(*self._embedded(observations), layers[:2], layers[2:])

    def _values(self, observations: Tensor, layers: Sequence[QFunction]) -> Tensor:
        each, mean = self._embedded(observations)
        if self.value is None:
            return self._advantages(each, mean, layers[:2], layers[2:])
        advantages = self._advantages(each, mean, layers[:2], layers[4:])
        available = self.available(observations)
        if available is None:
            centre = advantages.mean(-1, keepdim=True)
        else:
            kept = advantages.masked_fill(~available, 0.0).sum(-1, keepdim=True)
            centre = kept / available.sum(-1, keepdim=True)
        return advantages + (run_stream(layers[2:4], mean) - centre)

    def _embedded(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        """Return the embeddings of the assets, [B, N, h_1], and their normalised mean, [B, h_1]."""
        linear, rectify, normalise = self.features
        inputs = self._layout.read(observations)
        each = rectify(linear(inputs.each))
        return each, normalise(mean_over_assets(each, inputs.shares))

    def _advantages(self, each: Tensor, mean: Tensor, common: Sequence[QFunction], tilt: Sequence[QFunction]) -> Tensor:
        """Return advantages [B, K], with the tilts among the actions on all assets together."""
        advantages = run_stream(common, mean)
        if self._first_tilt is None:
            return advantages
        tilts = run_stream(tilt, self.features[-1](each)).squeeze(-1)
        return torch.cat([advantages[:, : self._first_tilt], tilts, advantages[:, self._first_tilt :]], dim=-1)

    def _under(self, noise: Noise, layers: Sequence[NoisyLinear]) -> list[QFunction]:
        """Return the layers under noise; in a row of a batch, all assets share the noise of their stream."""
        of_assets = set(map(id, self.tilt if self.tilt is not None else ()))
        return [
            partial(layer, noise=LayerNoise(*(part.unsqueeze(-2) for part in draw)) if id(layer) in of_assets else draw)
            for layer, draw in zip(layers, noise, strict=True)
        ]
