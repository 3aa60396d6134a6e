"""The networks of saved policies in numpy, built from the arrays of a weights file.

A back-test decides day by day, because each decision depends on the result of the previous one. With such small inputs
torch spends most of its time on the overhead of its calls, which is far lower in numpy. Each row of a batch is
multiplied on its own, so that a decision is bit-identical whatever other rows the batch has.

The layers of each network and their names are those of the trained torch module in `networks/`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rllib_portfolio.arrays import FloatArray

ArrayFunction = Callable[[NDArray[Any]], NDArray[Any]]
"""Maps observations, float32 [B, D], to decisions: mean actions, float32 [B, A], or indices of actions, [B]."""

LAYER_NORM_EPSILON = 1e-5
"""Torch's default."""


@dataclass(frozen=True, slots=True, eq=False)
class Layers:
    """A sequence of layers, functions from [B, n, p] to [B, n, q]; the last one may return indices, [B, n]."""

    layers: tuple[ArrayFunction, ...]

    def __call__(self, observations: FloatArray) -> NDArray[Any]:
        """Return decisions for observations [B, D]."""
        # each row alone and contiguous: rounding depends on the shape and, on some CPUs, on the strides
        return self.rows(np.ascontiguousarray(observations)[:, None])[:, 0]

    def rows(self, hidden: FloatArray) -> NDArray[Any]:
        """Return outputs [B, n, q] for inputs [B, n, p]; each of the B items is multiplied on its own."""
        for layer in self.layers:
            hidden = layer(hidden)
        return hidden


@dataclass(frozen=True, slots=True, eq=False)
class Linear:
    """y = x W + b, with W [p, q] and b [q]."""

    weight: FloatArray
    bias: FloatArray

    def __call__(self, inputs: FloatArray) -> FloatArray:
        """Return outputs [..., q] for inputs [..., p]."""
        outputs: FloatArray = inputs @ self.weight
        outputs += self.bias
        return outputs


@dataclass(frozen=True, slots=True, eq=False)
class LayerNorm:
    """(x - mean x) / sqrt(var x + epsilon) * scale + shift over the last axis (Ba, Kiros, Hinton 2016, eq. 4)."""

    scale: FloatArray
    shift: FloatArray
    epsilon: float
    average: FloatArray
    """A column of values 1 / p, [p, 1]: a product with it is a mean, in half the time of `numpy.mean`."""

    def __call__(self, inputs: FloatArray) -> FloatArray:
        """Return outputs of the shape of the inputs, [..., p]."""
        centred: FloatArray = inputs - inputs @ self.average
        variance = (centred * centred) @ self.average
        centred *= self.scale / np.sqrt(variance + self.epsilon)
        centred += self.shift
        return centred


def relu(inputs: FloatArray) -> FloatArray:
    """Return max(x, 0)."""
    return np.maximum(inputs, 0.0)


def greedy(values: FloatArray) -> NDArray[np.intp]:
    """Return the index of the largest value in each row; the first one if several are equal."""
    return np.asarray(values.argmax(-1))


@dataclass(frozen=True, slots=True)
class NamedWeights:
    """Makes layers from named weights, and checks each array for the shape that the network's settings require.

    Attributes:
        source: Arrays or tensors by their names in the torch module's state; the network need not use all of them.
        taken: Copies of the arrays that the network has, float32 and read-only.
        prefix: Prefix of the names in both, before those that the methods take.
    """

    source: Mapping[str, Any]
    taken: dict[str, FloatArray] = field(default_factory=dict)
    prefix: str = ""

    def take(self, name: str, *shape: int) -> FloatArray:
        """Return a copy of one array, float32 and read-only.

        Args:
            name: Name of the array in `source`.
            *shape: Shape that the array must have.

        Raises:
            KeyError: If the array is missing.
            ValueError: If the array has another shape.
        """
        name = self.prefix + name
        values = np.asarray(self.source[name]).astype(np.float32, order="C")
        if values.shape != shape:
            raise ValueError(f"{name} must have the shape {shape} of the network's settings, got {values.shape}")
        values.setflags(write=False)
        self.taken[name] = values
        return values

    def linear(self, name: str, inputs: int, outputs: int, suffix: str = "") -> Linear:
        """Return a torch `Linear` layer.

        Args:
            name: Name of the layer.
            inputs: Number p of inputs.
            outputs: Number q of outputs.
            suffix: End of the names of its arrays, after `weight` and `bias`.
        """
        weight = self.take(f"{name}.weight{suffix}", outputs, inputs)
        return Linear(np.ascontiguousarray(weight.T), self.take(f"{name}.bias{suffix}", outputs))

    def noisy_linear(self, name: str, inputs: int, outputs: int) -> Linear:
        """Return a `NoisyLinear` layer with its mean weights; its noise scales are only copied to `taken`.

        Args:
            name: Name of the layer.
            inputs: Number p of inputs.
            outputs: Number q of outputs.
        """
        self.linear(name, inputs, outputs, "_deviation")
        return self.linear(name, inputs, outputs, "_mean")

    def layer_norm(self, name: str, size: int) -> LayerNorm:
        """Return a torch `LayerNorm` over the last axis.

        Args:
            name: Name of the layer.
            size: Length p of the last axis.
        """
        average = np.full((size, 1), 1.0 / size, dtype=np.float32)
        scale, shift = self.take(f"{name}.weight", size), self.take(f"{name}.bias", size)
        return LayerNorm(scale, shift, LAYER_NORM_EPSILON, average)


def flat_actor(
    weights: NamedWeights, num_inputs: int, num_actions: int, hidden_sizes: Sequence[int], logit_scale: float
) -> Layers:
    """Return the network for the mean actions of a `LayerNormActorCritic` whose first hidden layer is the trunk.

    The actions are divided by `logit_scale`, because the softmax of the environment multiplies them by it.

    Args:
        weights: Weights by their names in the torch module.
        num_inputs: Length D of an observation.
        num_actions: Number A of components of an action: N+1, or N+2 with a trading rate.
        hidden_sizes: Width of each hidden layer.
        logit_scale: Factor of the environment's softmax, above 0.
    """
    layers: list[ArrayFunction] = []
    sizes = (num_inputs, *hidden_sizes)
    for i, (inputs, outputs) in enumerate(pairwise(sizes)):
        branch, first = ("trunk", 0) if i == 0 else ("actor", 3 * (i - 1))
        layers += [weights.linear(f"{branch}.{first}", inputs, outputs), np.tanh]
        layers.append(weights.layer_norm(f"{branch}.{first + 2}", outputs))
    layers.append(weights.linear(f"actor.{3 * (len(hidden_sizes) - 1)}", sizes[-1], num_actions))
    weights.take("log_std", num_actions)
    return Layers((*layers, partial(np.multiply, np.float32(1.0 / logit_scale))))


def greedy_actions(
    weights: NamedWeights, num_inputs: int, num_actions: int, hidden_sizes: Sequence[int], *, dueling: bool, noisy: bool
) -> Layers:
    """Return the network for the greedy actions of a `DuelingNoisyQ` under its mean weights.

    Only the advantages decide, because a dueling network adds the same value to all of them.

    Args:
        weights: Weights by their names in the torch module.
        num_inputs: Length D of an observation.
        num_actions: Number K of actions.
        hidden_sizes: Width of the feature layer, and of the hidden layer of each stream.
        dueling: Whether the network has a value stream.
        noisy: Whether the layers of the streams are `NoisyLinear`.
    """
    width, stream_width = hidden_sizes
    layer = weights.noisy_linear if noisy else weights.linear

    def stream(name: str, outputs: int) -> tuple[Linear, Linear]:
        return layer(f"q_net.{name}.0", width, stream_width), layer(f"q_net.{name}.1", stream_width, outputs)

    features = weights.linear("q_net.features.0", num_inputs, width)
    norm = weights.layer_norm("q_net.features.2", width)
    hidden, advantages = stream("advantage", num_actions)
    if dueling:
        stream("value", 1)
    return Layers((features, relu, norm, hidden, relu, advantages, greedy))
