"""Decisions in numpy: a network's layers as arrays, for those who decide one observation at a time.

A back-test takes its decisions day by day, each from what the one before came to. Torch then spends its time on
calling its kernels, not in them; numpy's calls are cheaper by far. A batch is worked off row by row, each row with
products of a matrix and a vector of its own: a decision is the same to the bit, whatever it is taken together with.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.torch import TorchRLModule
from torch import Tensor, nn

from rllib_portfolio.networks.noisy_linear import NoisyLinear

FloatArray = NDArray[np.floating[Any]]
ArrayFunction = Callable[[NDArray[Any]], NDArray[Any]]
"""Observations float32 [B, D] to decisions: mean actions float32 [B, N+1], or indices of actions [B]."""


@runtime_checkable
class ArrayInference(Protocol):
    """A module that can decide in numpy."""

    def array_forward(self) -> ArrayFunction:
        """What `_forward_inference` decides, with the weights that the module has now."""
        ...


def inference(module: TorchRLModule) -> ArrayFunction:
    """What a module decides without exploring: in numpy where it can, through torch where it cannot.

    Args:
        module: Its weights are copied, unless it needs torch.
    """
    return module.array_forward() if isinstance(module, ArrayInference) else TorchInference(module)


@dataclass(frozen=True, slots=True, eq=False)
class TorchInference:
    """The decisions of a module that is in evaluation mode, through torch."""

    module: TorchRLModule

    def __call__(self, observations: FloatArray) -> NDArray[Any]:
        with torch.inference_mode():  # `forward_inference` would walk all layers to set a mode that they are in
            outputs = self.module._forward_inference({Columns.OBS: torch.from_numpy(observations)})
        if Columns.ACTIONS in outputs:
            return np.asarray(outputs[Columns.ACTIONS])
        mean, _ = np.split(np.asarray(outputs[Columns.ACTION_DIST_INPUTS]), 2, axis=-1)
        return mean


@dataclass(frozen=True, slots=True, eq=False)
class ArrayForward:
    """Layers one after the other.

    Attributes:
        layers: Functions of [B, n, p] that give [B, n, q]; the last may give indices, [B, n].
    """

    layers: tuple[ArrayFunction, ...]

    @classmethod
    def of(cls, *layers: nn.Module | ArrayFunction) -> ArrayForward:
        """Of torch's layers, whose weights are copied, and of functions of arrays."""
        return cls(tuple(_as_arrays(layer) if isinstance(layer, nn.Module) else layer for layer in layers))

    def __call__(self, observations: FloatArray) -> NDArray[Any]:
        # each row alone and contiguous: rounding depends on the shape and, on some processors, on the strides
        return self.rows(np.ascontiguousarray(observations)[:, None])[:, 0]

    def rows(self, hidden: FloatArray) -> NDArray[Any]:
        """Of [B, n, p], whose B products of n rows each have the same shape: [B, n, q]."""
        for layer in self.layers:
            hidden = layer(hidden)
        return hidden


@dataclass(frozen=True, slots=True, eq=False)
class Linear:
    """y = x W + b, with W [p, q] and b [q]."""

    weight: FloatArray
    bias: FloatArray

    def __call__(self, inputs: FloatArray) -> FloatArray:
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
    """1 / p, [p, 1]: a product with it is a mean, in half the time of `numpy.mean`."""

    def __call__(self, inputs: FloatArray) -> FloatArray:
        centred: FloatArray = inputs - inputs @ self.average
        variance = (centred * centred) @ self.average
        centred *= self.scale / np.sqrt(variance + self.epsilon)
        centred += self.shift
        return centred


def relu(inputs: FloatArray) -> FloatArray:
    """max(x, 0)."""
    return np.maximum(inputs, 0.0)


def greedy(values: FloatArray) -> NDArray[np.intp]:
    """The best action of each row, the first of equals."""
    return np.asarray(values.argmax(-1))


def _as_arrays(layer: nn.Module) -> ArrayFunction:
    """One layer; a noisy one with its mean weights."""
    match layer:
        case nn.Linear():
            return Linear(_copied(layer.weight.T), _copied(layer.bias))
        case NoisyLinear():
            return Linear(_copied(layer.weight_mean.T), _copied(layer.bias_mean))
        case nn.LayerNorm():
            (size,) = layer.normalized_shape
            average = np.full((size, 1), 1.0 / size, dtype=np.float32)
            return LayerNorm(_copied(layer.weight), _copied(layer.bias), layer.eps, average)
        case nn.Tanh():
            return np.tanh
        case nn.ReLU():
            return relu
    raise TypeError(
        f"layer must be one of those that numpy has here, got {type(layer).__name__}. Give its function of arrays."
    )


def _copied(values: Tensor) -> FloatArray:
    """Contiguous, in memory of its own: the module may go on learning."""
    return np.array(values.detach().cpu().numpy(), dtype=np.float32, order="C")
