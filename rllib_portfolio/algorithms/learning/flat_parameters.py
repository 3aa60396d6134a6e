"""Module parameters as views of one flat buffer, so that clipping and the optimiser step take one kernel each."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


class FlatParameters:
    """Moves a module's parameters and gradients into two flat buffers, of which they become views.

    Args:
        module: A module on its final device; its device and dtype must not change afterwards.
        order: Maps a parameter's name to its rank in the buffer; parameters of equal rank keep the module's order.
        holds: Returns whether the parameter of a given name belongs in the buffers; the others are not moved.
    """

    def __init__(
        self,
        module: nn.Module,
        order: Callable[[str], int] = lambda name: 0,
        holds: Callable[[str], bool] = lambda name: True,
    ) -> None:
        named = [(name, each) for name, each in module.named_parameters() if each.requires_grad and holds(name)]
        named.sort(key=lambda item: order(item[0]))
        self._names = [name for name, _ in named]
        self._sizes = [parameter.numel() for _, parameter in named]
        self._shapes = [parameter.shape for _, parameter in named]
        flat = torch.cat([parameter.detach().reshape(-1) for _, parameter in named])
        self.parameter = nn.Parameter(flat)
        self.gradient = torch.zeros_like(flat)
        self.parameter.grad = self.gradient
        for (_, parameter), value, gradient in zip(
            named, self.parameter.data.split(self._sizes), self.gradient.split(self._sizes), strict=True
        ):
            parameter.data = value.view(parameter.shape)
            parameter.grad = gradient.view(parameter.shape)
        self._matrices = [parameter.data for _, parameter in named if parameter.ndim > 1]

    def stacked(self, num_parts: int) -> dict[str, Tensor]:
        """Return the parameters of S equal parts of the module, [S, ...] each, by their names in the first part.

        Gradients flow from them into the flat buffer. The parts must follow each other in the buffer.

        Args:
            num_parts: S.
        """
        num_each = len(self._sizes) // num_parts
        pieces = self.parameter.view(num_parts, -1).split(self._sizes[:num_each], dim=1)
        return {
            name: piece.unflatten(1, shape)
            for name, piece, shape in zip(self._names[:num_each], pieces, self._shapes, strict=False)
        }

    def clip_gradient(self, max_norm: float | None) -> Tensor:
        """Scale the gradient down to `max_norm` if its norm is larger and finite; return the norm before clipping."""
        norm = torch.linalg.vector_norm(self.gradient)
        if max_norm is None or (norm.device.type == "cpu" and not max_norm < norm.item() < math.inf):
            return norm  # on CUDA this comparison would synchronise
        scale = (max_norm / (norm + 1e-6)).clamp(max=1.0)
        self.gradient.mul_(torch.where(norm.isfinite(), scale, 1.0))
        return norm

    def shrink_matrices(self, share: float) -> None:
        """Multiply every weight matrix by 1 - `share`, but no biases, LayerNorm scales or log standard deviations."""
        torch._foreach_mul_(self._matrices, 1.0 - share)

    def non_finite_gradients(self) -> list[str]:
        """Return the names of the parameters whose gradient holds a NaN or an infinity."""
        pieces = self.gradient.split(self._sizes)
        return [name for name, piece in zip(self._names, pieces, strict=True) if not bool(torch.isfinite(piece).all())]


class Snapshot:
    """A copy of parameters and optimiser state, from which they can be restored."""

    def __init__(self, flat: FlatParameters, optimizer: torch.optim.Optimizer) -> None:
        self._flat, self._optimizer = flat, optimizer
        self._parameter = flat.parameter.detach().clone()
        self._state = {name: value.clone() for name, value in _tensors(optimizer, flat).items()}

    def restore(self) -> None:
        """Restore the parameters and the optimiser state in place."""
        with torch.no_grad():
            self._flat.parameter.copy_(self._parameter)
        if not self._state:
            self._optimizer.state.clear()
        for name, value in _tensors(self._optimizer, self._flat).items():
            value.copy_(self._state[name])


def _tensors(optimizer: torch.optim.Optimizer, flat: FlatParameters) -> dict[str, Any]:
    return {name: value for name, value in optimizer.state[flat.parameter].items() if isinstance(value, Tensor)}
