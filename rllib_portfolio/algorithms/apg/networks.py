"""The networks of a learner as functions of observations [S x B, D]: one network, or S networks as one program."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from rllib_portfolio.algorithms.learning.flat_parameters import FlatParameters
from rllib_portfolio.networks.actor_critic import ActorCriticNetwork

NETWORK = "network."


class NetworkFunctions(Protocol):
    """The mean logits and the values of S networks. `refresh` must precede the first call after each gradient step."""

    def refresh(self) -> None:
        """Take the present parameters."""
        ...

    def logits(self, observations: Tensor) -> Tensor:
        """Return mean logits [S x B, A] for observations [S x B, D]."""
        ...

    def values(self, observations: Tensor) -> Tensor:
        """Return values [S x B] from embeddings that are treated as constants, so that only the critic learns."""
        ...

    def fixed_values(self, observations: Tensor) -> Tensor:
        """Return values [S x B] with the parameters treated as constants: gradients flow to the observations alone."""
        ...


class OneNetwork:
    """A network of which the learner has only one, S = 1."""

    def __init__(self, network: ActorCriticNetwork) -> None:
        self._network, self._frozen = network, _Values(_without_parameters(network))
        self._constants: dict[str, Tensor] = {}

    def refresh(self) -> None:
        """Take the present parameters."""
        self._constants = {NETWORK + name: value.detach() for name, value in self._network.named_parameters()}

    def logits(self, observations: Tensor) -> Tensor:
        """Return mean logits [B, A]."""
        return self._network.logits(self._network.embed(observations))

    def values(self, observations: Tensor) -> Tensor:
        """Return values [B] from embeddings that are treated as constants."""
        values: Tensor = _Values(self._network)(observations, learns=True)
        return values

    def fixed_values(self, observations: Tensor) -> Tensor:
        """Return values [B] with the parameters treated as constants."""
        values: Tensor = functional_call(self._frozen, self._constants, (observations,))
        return values


class StackedNetworks:
    """S networks of one shape, evaluated by one batched program (`torch.func.vmap`).

    Args:
        members: The networks.
        flat: Flat buffer of their parameters, one network after the other.
    """

    def __init__(self, members: Sequence[ActorCriticNetwork], flat: FlatParameters) -> None:
        self._flat, self._num_members = flat, len(members)
        template = _without_parameters(members[0])
        self._logits, self._values = _Logits(template), _Values(template)
        self._parameters: dict[str, Tensor] = {}
        self._constants: dict[str, Tensor] = {}

    def refresh(self) -> None:
        """Take the present parameters, whose gradients flow into the flat buffer."""
        named = self._flat.stacked(self._num_members).items()
        self._parameters = {NETWORK + name.split(".", 2)[2]: value for name, value in named}
        self._constants = {name: value.detach() for name, value in self._parameters.items()}

    def logits(self, observations: Tensor) -> Tensor:
        """Return mean logits [S x B, A]."""
        return _mapped(self._logits, self._parameters, observations)

    def values(self, observations: Tensor) -> Tensor:
        """Return values [S x B] from embeddings that are treated as constants."""
        return _mapped(self._values, self._parameters, observations, learns=True)

    def fixed_values(self, observations: Tensor) -> Tensor:
        """Return values [S x B] with the parameters treated as constants."""
        return _mapped(self._values, self._constants, observations)


class _Logits(nn.Module):
    """The mean logits of a network as a module, which `functional_call` needs."""

    def __init__(self, network: ActorCriticNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, observations: Tensor) -> Tensor:
        return self.network.logits(self.network.embed(observations))


class _Values(nn.Module):
    """The values of a network as a module."""

    def __init__(self, network: ActorCriticNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, observations: Tensor, learns: bool = False) -> Tensor:
        """Return values; with `learns`, the embeddings are constants."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not learns):
            embeddings = self.network.embed(observations)
        return self.network.values(embeddings)


def _mapped(module: nn.Module, parameters: Mapping[str, Tensor], observations: Tensor, **kwargs: bool) -> Tensor:
    """Return the module's outputs [S x B, ...] for parameters [S, ...] and observations [S x B, D]."""

    def one(own: dict[str, Tensor], observed: Tensor) -> Tensor:
        outputs: Tensor = functional_call(module, own, (observed,), kwargs)
        return outputs

    num_members = len(next(iter(parameters.values())))
    outputs: Tensor = vmap(one)(dict(parameters), observations.unflatten(0, (num_members, -1)))
    return outputs.flatten(0, 1)


def _without_parameters(network: ActorCriticNetwork) -> ActorCriticNetwork:
    """Return a copy of a network without values, which stands for any network of its shape."""
    return copy.deepcopy(network).to("meta")
