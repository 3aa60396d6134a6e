"""The actor-critic network for continuous portfolio actions, and its flat architecture with LayerNorm."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

HIDDEN_GAIN = math.sqrt(2.0)
ACTOR_GAIN = 0.01
CRITIC_GAIN = 1.0
INITIAL_RATE_LOGIT = 3.0
"""Logit of the trading rate of an untrained policy, which trades 95 % of the way to its target. It therefore starts
near the portfolio that it would hold without partial trading, and the rate's gradient has not vanished."""


@dataclass(frozen=True, slots=True)
class ActorCriticShape:
    """The sizes and initial values that an actor-critic network is built from.

    Attributes:
        num_inputs: D, the length of an observation.
        num_actions: N+1, the number of assets plus one for cash; N+2 with a trading rate.
        hidden_sizes: Width of each hidden layer.
        initial_log_std: Initial log standard deviation of each logit.
        initial_cash_logit: Initial bias of the cash logit.
        num_asset_features: Number of features per asset in an observation. The flat architecture does not use it.
        sees_tradable: Whether the last of these features is 1 if the asset may be bought and 0 if not.
        has_critic: Whether the network has a value head.
        has_trading_rate: Whether the last action is the trading rate (see `env.action_map.partial_weights`).
    """

    num_inputs: int
    num_actions: int
    hidden_sizes: Sequence[int]
    initial_log_std: float
    initial_cash_logit: float = 0.0
    num_asset_features: int | None = None
    sees_tradable: bool = False
    has_critic: bool = True
    has_trading_rate: bool = False

    @property
    def num_weights(self) -> int:
        """Number of portfolio weights, N+1."""
        return self.num_actions - self.has_trading_rate

    @property
    def initial_last_logits(self) -> Tensor:
        """Initial biases of the logits after those of the assets: of cash and, if there is one, of the rate."""
        return torch.tensor([self.initial_cash_logit, INITIAL_RATE_LOGIT][: 1 + self.has_trading_rate])


class ActorCriticNetwork(nn.Module, ABC):
    """A network that embeds an observation and computes portfolio logits and a state value from the embedding.

    The log standard deviation of the logits is learned and does not depend on the observation. A newly initialised
    network targets approximately the uniform portfolio if `initial_cash_logit` is 0. The logit of the trading rate, if
    there is one, is the last of A logits, after that of cash: A = N+2 with it, and N+1 without.
    """

    def __init__(self, shape: ActorCriticShape) -> None:
        super().__init__()
        self.add_layers(shape)

    @abstractmethod
    def add_layers(self, shape: ActorCriticShape) -> None:
        """Add the layers. A subclass that has a constructor of its own must call this method there."""

    @abstractmethod
    def embed(self, observations: Tensor) -> Any:
        """Return the embeddings of observations [B, D], which actor and critic share, in a form of their own."""

    @abstractmethod
    def logits(self, embeddings: Any) -> Tensor:
        """Return the mean logits [B, A]; 0 for assets that are not tradable."""

    @abstractmethod
    def log_stds(self, embeddings: Any) -> Tensor:
        """Return the log standard deviations of the logits, [A] or [B, A]; -inf for assets not tradable."""

    @abstractmethod
    def values(self, embeddings: Any) -> Tensor:
        """Return the state values [B]."""


class LayerNormNetwork(ActorCriticNetwork):
    """A shared trunk with an actor and a critic branch, whose hidden layers are normalised.

    Every hidden layer is Linear -> Tanh -> LayerNorm (Ba, Kiros, Hinton 2016). With hidden sizes (h_1, h_2, ... h_k)
    the trunk maps D -> h_1 and each branch maps h_1 -> h_2 ... -> h_k. The actor ends in A logits and the critic in one
    value. Each logit has its own log standard deviation.
    """

    def add_layers(self, shape: ActorCriticShape) -> None:
        sizes = shape.hidden_sizes
        self.trunk = nn.Sequential(*_hidden_layer(shape.num_inputs, sizes[0]))
        self.actor = _branch(sizes, shape.num_actions, ACTOR_GAIN)
        with torch.no_grad():
            self.actor[-1].bias[shape.num_weights - 1 :] = shape.initial_last_logits
        self.log_std = nn.Parameter(torch.full((shape.num_actions,), float(shape.initial_log_std)))
        if shape.has_critic:
            self.critic = _branch(sizes, 1, CRITIC_GAIN)

    def embed(self, observations: Tensor) -> Tensor:
        return run_layers(self.trunk, observations)

    def logits(self, embeddings: Tensor) -> Tensor:
        return run_layers(self.actor, embeddings)

    def log_stds(self, embeddings: Tensor) -> Tensor:
        return self.log_std

    def values(self, embeddings: Tensor) -> Tensor:
        return run_layers(self.critic, embeddings).squeeze(-1)


def run_layers(layers: nn.Sequential, inputs: Tensor) -> Tensor:
    """Apply the layers in order through `forward`, which skips the look-up of hooks in `Module.__call__`.

    Args:
        layers: The layers.
        inputs: Inputs of the first layer, [B, ...].

    Returns:
        Outputs of the last layer, [B, ...].
    """
    for layer in layers:
        inputs = layer.forward(inputs)
    return inputs


def linear(inputs: int, outputs: int, gain: float) -> nn.Linear:
    """Return a linear layer with orthogonal weights and zero biases.

    Args:
        inputs: Number of inputs.
        outputs: Number of outputs.
        gain: Factor on the orthogonal weights.
    """
    layer = nn.Linear(inputs, outputs)
    nn.init.orthogonal_(layer.weight, gain)
    nn.init.zeros_(layer.bias)
    return layer


def _hidden_layer(inputs: int, outputs: int) -> list[nn.Module]:
    return [linear(inputs, outputs, HIDDEN_GAIN), nn.Tanh(), nn.LayerNorm(outputs)]


def _branch(sizes: Sequence[int], outputs: int, gain: float) -> nn.Sequential:
    layers = [layer for i in range(1, len(sizes)) for layer in _hidden_layer(sizes[i - 1], sizes[i])]
    return nn.Sequential(*layers, linear(sizes[-1], outputs, gain))
