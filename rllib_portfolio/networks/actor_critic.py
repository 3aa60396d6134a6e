"""The actor-critic network for continuous portfolio actions, and its flat architecture with LayerNorm."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

HIDDEN_GAIN = math.sqrt(2.0)
ACTOR_GAIN = 0.01
CRITIC_GAIN = 1.0


@dataclass(frozen=True, slots=True)
class ActorCriticShape:
    """What an actor-critic network is built from.

    Attributes:
        num_inputs: D, numbers of an observation.
        num_actions: N+1, the assets and cash.
        hidden_sizes: Width of each hidden layer.
        initial_log_std: Initial log standard deviation of each logit.
        initial_cash_logit: Initial bias of the logit of cash.
        num_asset_features: Features of each asset in an observation; the flat architecture needs none.
        has_critic: Whether the network gives values.
    """

    num_inputs: int
    num_actions: int
    hidden_sizes: Sequence[int]
    initial_log_std: float
    initial_cash_logit: float = 0.0
    num_asset_features: int | None = None
    has_critic: bool = True


class ActorCriticNetwork(nn.Module, ABC):
    """Logits of the portfolio's weights, and a value, of what an embedding makes of an observation.

    The log standard deviation of the logits is learned and depends on no observation. A fresh network asks for the
    uniform portfolio, unless `initial_cash_logit` is not 0.
    """

    def __init__(self, shape: ActorCriticShape) -> None:
        super().__init__()
        self.add_layers(shape)

    @abstractmethod
    def add_layers(self, shape: ActorCriticShape) -> None:
        """Add the layers; a subclass that has a constructor of its own calls this in it."""

    @abstractmethod
    def embed(self, observations: Tensor) -> Tensor:
        """Return what actor and critic share, [B, ...], of observations [B, D]."""

    @abstractmethod
    def logits(self, embeddings: Tensor) -> Tensor:
        """Return mean logits [B, N+1], cash last."""

    @abstractmethod
    def log_stds(self) -> Tensor:
        """Return log standard deviations of the logits, [N+1]."""

    @abstractmethod
    def values(self, embeddings: Tensor) -> Tensor:
        """Return values [B]."""


class LayerNormNetwork(ActorCriticNetwork):
    """Shared trunk, two branches; every hidden layer is Linear -> Tanh -> LayerNorm (Ba, Kiros, Hinton 2016).

    With hidden sizes (h_1, h_2, ... h_k) the trunk is D -> h_1, each branch h_1 -> h_2 ... -> h_k; the actor ends in
    N + 1 logits, the critic in one value. Each asset has a log standard deviation of its own.
    """

    def add_layers(self, shape: ActorCriticShape) -> None:
        sizes = shape.hidden_sizes
        self.trunk = nn.Sequential(*_hidden_layer(shape.num_inputs, sizes[0]))
        self.actor = _branch(sizes, shape.num_actions, ACTOR_GAIN)
        with torch.no_grad():
            self.actor[-1].bias[-1] = shape.initial_cash_logit
        self.log_std = nn.Parameter(torch.full((shape.num_actions,), float(shape.initial_log_std)))
        if shape.has_critic:
            self.critic = _branch(sizes, 1, CRITIC_GAIN)

    def embed(self, observations: Tensor) -> Tensor:
        return run_layers(self.trunk, observations)

    def logits(self, embeddings: Tensor) -> Tensor:
        return run_layers(self.actor, embeddings)

    def log_stds(self) -> Tensor:
        return self.log_std

    def values(self, embeddings: Tensor) -> Tensor:
        return run_layers(self.critic, embeddings).squeeze(-1)


def run_layers(layers: nn.Sequential, inputs: Tensor) -> Tensor:
    """Run the layers one after the other, without the search for hooks that calling a module begins with."""
    for layer in layers:
        inputs = layer.forward(inputs)
    return inputs


def linear(inputs: int, outputs: int, gain: float) -> nn.Linear:
    """Return a linear layer with orthogonal weights of the given gain and zero biases."""
    layer = nn.Linear(inputs, outputs)
    nn.init.orthogonal_(layer.weight, gain)
    nn.init.zeros_(layer.bias)
    return layer


def _hidden_layer(inputs: int, outputs: int) -> list[nn.Module]:
    return [linear(inputs, outputs, HIDDEN_GAIN), nn.Tanh(), nn.LayerNorm(outputs)]


def _branch(sizes: Sequence[int], outputs: int, gain: float) -> nn.Sequential:
    layers = [layer for i in range(1, len(sizes)) for layer in _hidden_layer(sizes[i - 1], sizes[i])]
    return nn.Sequential(*layers, linear(sizes[-1], outputs, gain))
