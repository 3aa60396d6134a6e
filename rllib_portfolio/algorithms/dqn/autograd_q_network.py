"""Any Q-network behind the interface of `FusedQNetwork`, with the gradients of autograd."""

from __future__ import annotations

import torch
from torch import Tensor

from rllib_portfolio.networks.dueling_q import DuelingQNetwork, Noise


class AutogradQNetwork:
    """Computes the action values of a network and their gradient, under the noise of the last `draw`.

    Args:
        network: A network whose parameters have gradient buffers, if it learns.
    """

    def __init__(self, network: DuelingQNetwork) -> None:
        self._network = network
        self._noise: Noise | None = None
        self._function = network.perturbed(None)

    def draw(self, generator: torch.Generator) -> None:
        """Draw noise and compute the noisy weights from the current parameters; do nothing without noisy layers."""
        self._noise = self._network.draw_noise(None, generator)
        self._function = self._network.perturbed(self._noise)

    def available(self, observations: Tensor) -> Tensor | None:
        """Return whether each action can be traded, bool [B, K]; None if all can."""
        return self._network.available(observations)

    def forward(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        """Return action values [B, K] for observations [B, D], and what `backward` needs."""
        with torch.enable_grad():
            values = self._network.perturbed(self._noise)(observations)
        return values.detach(), values

    def values(self, observations: Tensor) -> Tensor:
        """Return action values [B, K] for observations [B, D]."""
        return self._function(observations)

    def advantages(self, observations: Tensor) -> Tensor:
        """Return the action values, which rank the actions as their advantages do."""
        return self._function(observations)

    def backward(self, values: Tensor, gradient: Tensor) -> None:
        """Write the gradients of all parameters.

        Args:
            values: Second result of `forward`.
            gradient: Gradient of the loss with respect to the action values, [B, K].
        """
        for parameter in self._network.parameters():
            parameter.grad.zero_()
        values.backward(gradient.to(values.dtype))
