"""The networks of saved policies that score each asset with shared weights, in numpy (see `numpy_networks`).

Such a network decides for any number of assets: how many there are follows from the length of an observation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rllib_portfolio.arrays import FloatArray
from rllib_portfolio.market.universe import BoolArray
from rllib_portfolio.policies.numpy_networks import Layers, NamedWeights, greedy, relu


class AssetInputs(NamedTuple):
    """Arrays that a saved policy computes from B observations: those of the torch class of the same name.

    Attributes:
        each: Inputs of each asset, float32 [B, N, F + 1 + M].
        tradable: Whether each asset may be bought, [B, N]; None if all may.
        shares: Share of each asset in a mean embedding, float32 [B, 1, N]; None for equal shares.
    """

    each: FloatArray
    tradable: BoolArray | None
    shares: FloatArray | None


@dataclass(frozen=True, slots=True)
class AssetReader:
    """Splits observations into the inputs of a saved policy, which may have more or fewer assets than in training.

    Attributes:
        num_features: F, the features per asset that the policy was trained with.
        num_market: M, the features of the market that the policy was trained with.
        sees_tradable: Whether the last of the F features says if the asset may be bought.
    """

    num_features: int
    num_market: int
    sees_tradable: bool = False

    @property
    def num_inputs(self) -> int:
        """Number of inputs that the policy's encoder takes for one asset, F + 1 + M."""
        return self.num_features + 1 + self.num_market

    def num_assets(self, length: int) -> int:
        """Return the number N of assets of an observation with `length` = N F + M + N + 1 numbers.

        Raises:
            ValueError: If there is no such number.
        """
        num_assets, rest = divmod(length - self.num_market - 1, self.num_features + 1)
        if rest or num_assets < 1:
            raise ValueError(
                f"observation must have {self.num_features + 1} numbers for each asset and {self.num_market + 1} more "
                f"in its last axis, got {length}. Build it with the features that the policy was trained with."
            )
        return num_assets

    def read(self, observations: FloatArray) -> AssetInputs:
        """Return the inputs of each asset for observations [B, D], as `AssetLayout.read` does in torch."""
        num_assets = self.num_assets(observations.shape[-1])
        own_size = num_assets * self.num_features
        each = np.empty((len(observations), num_assets, self.num_inputs), dtype=np.float32)
        each[..., : self.num_features] = observations[:, :own_size].reshape(len(each), num_assets, self.num_features)
        weights = observations[:, -num_assets - 1 : -1]
        tradable, shares, uniform = None, None, np.float32(num_assets + 1)
        if self.sees_tradable:
            tradable = each[..., self.num_features - 1] > 0.5
            counted = (tradable | (weights > 0.0)).astype(np.float32)
            shares = (counted / np.maximum(counted.sum(-1, keepdims=True), np.float32(1.0)))[:, None]
            uniform = tradable.sum(-1, keepdims=True, dtype=np.float32) + np.float32(1.0)
        each[..., self.num_features] = weights * uniform - 1.0
        each[..., self.num_features + 1 :] = observations[:, None, own_size : -num_assets - 1]
        return AssetInputs(each, tradable, shares)


def _mean(embeddings: FloatArray, shares: FloatArray | None) -> FloatArray:
    """Return the mean embedding, [B, h], of embeddings [B, N, h]."""
    return embeddings.mean(axis=1) if shares is None else (shares @ embeddings)[:, 0]


@dataclass(frozen=True, slots=True, eq=False)
class PerAssetActor:
    """The network for the mean actions of a `PerAssetActorCritic`."""

    reader: AssetReader
    encoder: Layers
    actor: Layers
    cash: Layers
    """The logits of cash and, if there is one, of the trading rate."""
    scale: float

    def __call__(self, observations: FloatArray) -> FloatArray:
        """Return mean actions [B, A] for observations [B, D], 0 for assets that are not tradable."""
        inputs = self.reader.read(observations)
        embeddings = self.encoder.rows(inputs.each)
        scores = self.actor.rows(embeddings)[..., 0]
        logits = np.concatenate([scores, self.cash(_mean(embeddings, inputs.shares))], axis=-1)
        logits *= self.scale
        if inputs.tradable is not None:
            logits[:, : scores.shape[1]][~inputs.tradable] = 0.0
        return logits


@dataclass(frozen=True, slots=True, eq=False)
class PerAssetGreedy:
    """The network for the greedy actions of a `DuelingNoisyQ` over a `PerAssetQNetwork`."""

    reader: AssetReader
    encoder: Layers
    advantages: Layers
    """The layer norm of the mean embedding, and the stream of the advantages."""
    tilts: Layers | None
    """The same for the embedding of an asset and the stream of the tilts."""
    first_tilt: int | None

    def __call__(self, observations: FloatArray) -> NDArray[np.intp]:
        """Return the best available action of each observation, [B], for observations [B, D]."""
        inputs = self.reader.read(observations)
        embeddings = self.encoder.rows(inputs.each)
        values = self.advantages(_mean(embeddings, inputs.shares))
        if inputs.tradable is not None:
            values[~inputs.tradable.any(-1), 1:-1] = -np.inf
        if self.tilts is not None:
            tilts = self.tilts.rows(embeddings)[..., 0]
            if inputs.tradable is not None:
                tilts[~inputs.tradable] = -np.inf
            values = np.concatenate([values[:, : self.first_tilt], tilts, values[:, self.first_tilt :]], axis=-1)
        return greedy(values)


def per_asset_actor(
    weights: NamedWeights,
    reader: AssetReader,
    hidden_sizes: Sequence[int],
    logit_scale: float,
    partial_trading: bool = False,
) -> PerAssetActor:
    """Return the network for the mean actions of a `PerAssetActorCritic` whose first hidden layer is the encoder.

    The actions are divided by `logit_scale`, because the softmax of the environment multiplies them by it.

    Args:
        weights: Weights by their names in the torch module.
        reader: Reader of the observations.
        hidden_sizes: Width of each hidden layer.
        logit_scale: Factor of the environment's softmax, above 0.
        partial_trading: Whether the last action is the trading rate.
    """
    encoder = Layers((weights.linear("encoder.0", reader.num_inputs, hidden_sizes[0]), np.tanh))

    def branch(name: str, outputs: int) -> Layers:
        hidden = [
            layer
            for i, (inputs, outputs) in enumerate(pairwise(hidden_sizes))
            for layer in (weights.linear(f"{name}.{2 * i}", inputs, outputs), np.tanh)
        ]
        return Layers((*hidden, weights.linear(f"{name}.{len(hidden)}", hidden_sizes[-1], outputs)))

    num_others = 1 + partial_trading  # cash and the rate
    weights.take("log_std", 1 + num_others)
    return PerAssetActor(reader, encoder, branch("actor", 1), branch("cash", num_others), 1.0 / logit_scale)


def per_asset_greedy(
    weights: NamedWeights,
    reader: AssetReader,
    num_common: int,
    hidden_sizes: Sequence[int],
    *,
    dueling: bool,
    noisy: bool,
    first_tilt: int | None,
) -> PerAssetGreedy:
    """Return the network for the greedy actions of a `DuelingNoisyQ` over a `PerAssetQNetwork`, with its mean weights.

    Args:
        weights: Weights by their names in the torch module.
        reader: Reader of the observations.
        num_common: Number of actions that tilt to no single asset.
        hidden_sizes: Width of the encoder, and of the hidden layer of each stream.
        dueling: Whether the network has a value stream.
        noisy: Whether the layers of the streams are `NoisyLinear`.
        first_tilt: Index of the first tilt to a single asset, or None if there are none.
    """
    width, stream_width = hidden_sizes
    layer: Any = weights.noisy_linear if noisy else weights.linear

    encoder = Layers((weights.linear("q_net.features.0", reader.num_inputs, width), relu))
    norm = weights.layer_norm("q_net.features.2", width)

    def stream(name: str, outputs: int) -> Layers:
        hidden = layer(f"q_net.{name}.0", width, stream_width)
        return Layers((norm, hidden, relu, layer(f"q_net.{name}.1", stream_width, outputs)))

    advantages = stream("advantage", num_common)
    if dueling:
        stream("value", 1)
    tilts = None if first_tilt is None else stream("tilt", 1)
    return PerAssetGreedy(reader, encoder, advantages, tilts, first_tilt)
