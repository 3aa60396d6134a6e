"""The dueling Q-network for discrete portfolio actions, with optional noise on the weights of its streams."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from rllib_portfolio.networks.noisy_linear import LayerNoise, NoisyLinear, draw_noise

Noise = Sequence[LayerNoise]
"""The noise of each noisy layer, in the order of `DuelingQNetwork.streams`."""
QFunction = Callable[[Tensor], Tensor]
"""A function that maps observations [B, D] to action values [B, K]."""


class DuelingQNetwork(nn.Module):
    """A Q-network with action values Q = V + A - mean A (Wang et al. 2016, arXiv 1511.06581, eq. 9).

    The features are Linear(D -> h_1) -> ReLU -> LayerNorm. Each stream is NoisyLinear(h_1 -> h_2) -> ReLU ->
    NoisyLinear(h_2 -> 1 for the value V, K for the advantage A).

    Args:
        inputs: D, the length of an observation.
        actions: K, the number of actions.
        hidden_sizes: (h_1, h_2).
        dueling: Whether there are two streams. If False, Q is the advantage stream alone.
        sigma0: Initial noise of the streams (see `NoisyLinear`), or None for plain linear layers.
    """

    def __init__(
        self, inputs: int, actions: int, hidden_sizes: Sequence[int], *, dueling: bool, sigma0: float | None
    ) -> None:
        super().__init__()
        width, stream_width = hidden_sizes
        self.features = nn.Sequential(nn.Linear(inputs, width), nn.ReLU(), nn.LayerNorm(width))
        self.advantage = make_stream((width, stream_width, actions), sigma0)
        self.value = make_stream((width, stream_width, 1), sigma0) if dueling else None

    @property
    def streams(self) -> list[nn.Module]:
        """The layers of the advantage stream, followed by the layers of the value stream if there is one."""
        return [*self.advantage, *(self.value if self.value is not None else ())]

    @property
    def is_noisy(self) -> bool:
        """Whether the streams have noisy layers."""
        return isinstance(self.advantage[0], NoisyLinear)

    def draw_noise(self, rows: int | None, generator: torch.Generator | None = None) -> Noise | None:
        """Draw noise for all noisy layers, or return None if the network has none.

        Args:
            rows: B, for one draw per row of a batch, or None for one draw that all rows share.
            generator: Random generator on the network's device; None takes torch's default generator.
        """
        return self._noise_of(self.streams, rows, generator) if self.is_noisy else None

    def available(self, observations: Tensor) -> Tensor | None:
        """Return whether each action can be traded, bool [B, K], for observations [B, D]; None if all can."""
        return None

    def forward(self, observations: Tensor, noise: Noise | None = None) -> Tensor:
        """Return action values [B, K].

        Args:
            observations: [B, D].
            noise: One draw per row, or None to use the mean weights.
        """
        if noise is None:
            return self._values(observations, self.streams)
        return self._values(observations, self._under(noise, self.streams))

    def perturbed(self, noise: Noise | None) -> QFunction:
        """Return the network's function under one noise draw for all rows; the noisy weights are computed once."""
        if noise is None:
            return self
        parameters = [layer.perturbed(draw) for layer, draw in zip(self.streams, noise, strict=True)]
        layers = [partial(functional.linear, weight=weight, bias=bias) for weight, bias in parameters]
        return lambda observations: self._values(observations, layers)

    def explore(self, observations: Tensor) -> Tensor:
        """Return advantages [B, K] of observations [B, D] under fresh noise for each row.

        They rank the actions as the action values do, so that the value stream is not needed to choose an action.
        """
        layers: Sequence[QFunction] = list(self.advantage)
        if self.is_noisy:
            layers = self._under(self._noise_of(layers, len(observations)), layers)
        return run_stream(layers, self.features(observations))

    def _values(self, observations: Tensor, layers: Sequence[QFunction]) -> Tensor:
        """Return action values [B, K], computed with `layers` in place of the layers of the streams."""
        features = self.features(observations)
        advantages = run_stream(layers[:2], features)
        if self.value is None:
            return advantages
        return advantages + (run_stream(layers[2:], features) - advantages.mean(-1, keepdim=True))

    @staticmethod
    def _noise_of(layers: Sequence[NoisyLinear], rows: int | None, generator: torch.Generator | None = None) -> Noise:
        """Draw the noise of the layers: once for all rows if `rows` is None, otherwise once per row."""
        sizes = [size for layer in layers for size in layer.noise_sizes]
        drawn = draw_noise(sizes, rows, generator, layers[0].weight_mean.device)
        return [LayerNoise(*pair) for pair in zip(drawn[::2], drawn[1::2], strict=True)]

    def _under(self, noise: Noise, layers: Sequence[NoisyLinear]) -> list[QFunction]:
        return [partial(layer, noise=draw) for layer, draw in zip(layers, noise, strict=True)]


def run_stream(stream: Sequence[QFunction], features: Tensor) -> Tensor:
    """Return the outputs of the two layers of a stream, [..., q].

    Args:
        stream: The two layers.
        features: Inputs of the first layer, [..., h_1].
    """
    hidden, output = stream
    return output(functional.relu(hidden(features), inplace=True))


def make_stream(sizes: Sequence[int], sigma0: float | None) -> nn.ModuleList:
    """Return the two layers of a stream.

    Args:
        sizes: Numbers of inputs, of hidden units and of outputs.
        sigma0: Initial noise of `NoisyLinear` layers, or None for plain linear layers.
    """
    if sigma0 is None:
        return nn.ModuleList(nn.Linear(inputs, outputs) for inputs, outputs in pairwise(sizes))
    return nn.ModuleList(NoisyLinear(inputs, outputs, sigma0) for inputs, outputs in pairwise(sizes))
