"""The dueling Q-network for discrete portfolio actions, with noise on the weights of its streams or without."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from rllib_portfolio.networks.noisy_linear import LayerNoise, NoisyLinear, draw_noise

Noise = Sequence[LayerNoise]
"""One for each noisy layer, in the order of `DuelingQNetwork.streams`."""
QFunction = Callable[[Tensor], Tensor]
"""Observations [B, D] to action values [B, K]."""


class DuelingQNetwork(nn.Module):
    """Action values Q = V + A - mean A (Wang et al. 2016, arXiv 1511.06581, eq. 9).

    features: Linear(D -> h_1) -> ReLU -> LayerNorm; each stream: NoisyLinear(h_1 -> h_2) -> ReLU -> NoisyLinear(h_2 ->
    1 for the value, K for the advantage).

    Args:
        inputs: D.
        actions: K.
        hidden_sizes: (h_1, h_2).
        dueling: Two streams; otherwise Q is the advantage stream alone.
        sigma0: Initial noise of the streams, or None for plain linear layers.
    """

    def __init__(
        self, inputs: int, actions: int, hidden_sizes: Sequence[int], *, dueling: bool, sigma0: float | None
    ) -> None:
        super().__init__()
        width, stream_width = hidden_sizes
        self.features = nn.Sequential(nn.Linear(inputs, width), nn.ReLU(), nn.LayerNorm(width))
        self.advantage = _stream((width, stream_width, actions), sigma0)
        self.value = _stream((width, stream_width, 1), sigma0) if dueling else None

    @property
    def streams(self) -> list[nn.Module]:
        """The layers of the advantage stream, then those of the value stream."""
        return [*self.advantage, *(self.value if self.value is not None else ())]

    @property
    def is_noisy(self) -> bool:
        """Whether there is noise to draw."""
        return isinstance(self.advantage[0], NoisyLinear)

    def draw_noise(self, rows: int | None, generator: torch.Generator | None = None) -> Noise | None:
        """One draw for all rows (None), or one for each; None of a network without noise."""
        return _noise_of(self.streams, rows, generator) if self.is_noisy else None

    def forward(self, observations: Tensor, noise: Noise | None = None) -> Tensor:
        """Action values [B, K], with the mean weights or with noise of one draw for each row."""
        if noise is None:
            return self._values(observations, self.streams)
        return self._values(observations, _under(noise, self.streams))

    def perturbed(self, noise: Noise | None) -> QFunction:
        """The network under one draw for all rows; its weights are computed once, for any number of calls."""
        if noise is None:
            return self
        parameters = [layer.perturbed(draw) for layer, draw in zip(self.streams, noise, strict=True)]
        layers = [partial(functional.linear, weight=weight, bias=bias) for weight, bias in parameters]
        return lambda observations: self._values(observations, layers)

    def explore(self, observations: Tensor) -> Tensor:
        """What actions are worth beside each other under fresh noise for each row, [B, K]: enough to choose one."""
        layers: Sequence[QFunction] = list(self.advantage)
        if self.is_noisy:
            layers = _under(_noise_of(layers, len(observations)), layers)
        return _run(layers, self.features(observations))

    def _values(self, observations: Tensor, layers: Sequence[QFunction]) -> Tensor:
        """Action values [B, K] with `layers` in the places of the streams'."""
        features = self.features(observations)
        advantages = _run(layers[:2], features)
        if self.value is None:
            return advantages
        return advantages + (_run(layers[2:], features) - advantages.mean(-1, keepdim=True))


def _noise_of(layers: Sequence[NoisyLinear], rows: int | None, generator: torch.Generator | None = None) -> Noise:
    """One draw for all rows (None), or one for each."""
    sizes = [size for layer in layers for size in layer.noise_sizes]
    drawn = draw_noise(sizes, rows, generator, layers[0].weight_mean.device)
    return [LayerNoise(*pair) for pair in zip(drawn[::2], drawn[1::2], strict=True)]


def _under(noise: Noise, layers: Sequence[NoisyLinear]) -> list[QFunction]:
    return [partial(layer, noise=draw) for layer, draw in zip(layers, noise, strict=True)]


def _run(stream: Sequence[QFunction], features: Tensor) -> Tensor:
    hidden, output = stream
    return output(functional.relu(hidden(features), inplace=True))


def _stream(sizes: Sequence[int], sigma0: float | None) -> nn.ModuleList:
    if sigma0 is None:
        return nn.ModuleList(nn.Linear(inputs, outputs) for inputs, outputs in pairwise(sizes))
    return nn.ModuleList(NoisyLinear(inputs, outputs, sigma0) for inputs, outputs in pairwise(sizes))
