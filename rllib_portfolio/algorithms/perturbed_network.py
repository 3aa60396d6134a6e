"""A noisy network under one draw of noise for a whole batch, with a few kernels over all its layers together.

Layer by layer, perturbing the weights and telling their gradient back to means and deviations takes as long as a third
of the matrix products. Here means lie side by side in memory, and deviations too: mu + sigma * eps is one kernel, and
so is the gradient of sigma, which is eps times that of mu (Fortunato et al. 2017, arXiv 1706.10295, eqs. 8 and 9).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import accumulate, pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from rllib_portfolio.modules.dueling_noisy_q import DuelingQNetwork


def by_role(name: str) -> int:
    """Where the parameter of this name belongs: all means side by side, then all deviations, in the same order."""
    if name.endswith("_mean"):
        return 1
    return 2 if name.endswith("_deviation") else 0


class PerturbedNetwork:
    """The network as a function of observations [B, D], under the noise of the last `draw`.

    Args:
        network: With noise; its parameters lie in the order of `by_role`. If they have gradients, those lie so, too.
    """

    def __init__(self, network: DuelingQNetwork) -> None:
        layers = network.streams
        means = [parameter for layer in layers for parameter in (layer.weight_mean, layer.bias_mean)]
        deviations = [parameter for layer in layers for parameter in (layer.weight_deviation, layer.bias_deviation)]
        self._network = network
        self._means, self._deviations = _joined(means), _joined(deviations)
        self._noise, self._weights = torch.empty_like(self._means), torch.empty_like(self._means)
        self._noise_views = _views(self._noise, means)
        leaves = [view.detach() for view in _views(self._weights, means)]
        self._learns = means[0].requires_grad
        if self._learns:
            self._mean_gradient, self._deviation_gradient = (
                _joined([p.grad for p in group]) for group in (means, deviations)
            )
            for leaf, gradient in zip(leaves, _views(self._mean_gradient, means), strict=True):
                leaf.requires_grad_()
                leaf.grad = gradient
        self._layers = [
            partial(functional.linear, weight=weight, bias=bias)
            for weight, bias in zip(leaves[::2], leaves[1::2], strict=True)
        ]

    def draw(self, generator: torch.Generator) -> None:
        """Perturb the weights anew, by the parameters as they are now."""
        views = self._noise_views
        with torch.no_grad():
            for noise, weight, bias in zip(
                self._network.draw_noise(None, generator), views[::2], views[1::2], strict=True
            ):
                torch.outer(noise.outputs, noise.inputs, out=weight)
                bias.copy_(noise.outputs)
            torch.addcmul(self._means, self._deviations, self._noise, out=self._weights)

    def __call__(self, observations: Tensor) -> Tensor:
        """Action values [B, K]; their gradient lands where that of the means is."""
        return self._network.values(observations, self._layers)

    def advantages(self, observations: Tensor) -> Tensor:
        """What actions are worth beside each other, [B, K]: enough to find the best one."""
        return self._network.advantages(observations, self._layers)

    def finish_gradient(self) -> None:
        """After a backward pass: the gradient of the deviations."""
        if self._learns:
            torch.mul(self._mean_gradient, self._noise, out=self._deviation_gradient)


def lay_out(network: nn.Module) -> None:
    """Move the parameters of a network that does not learn into one buffer, in the order of `by_role`."""
    ordered = [p for _, p in sorted(network.named_parameters(), key=lambda item: by_role(item[0]))]
    buffer = torch.cat([parameter.detach().reshape(-1) for parameter in ordered])
    for parameter, view in zip(ordered, _views(buffer, ordered), strict=True):
        parameter.data = view


def _views(flat: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """`flat` cut into the shapes of `like`."""
    edges = accumulate((tensor.numel() for tensor in like), initial=0)
    return [flat[a:b].view(tensor.shape) for (a, b), tensor in zip(pairwise(edges), like, strict=True)]


def _joined(tensors: Sequence[Tensor]) -> Tensor:
    """One flat view of tensors that lie side by side."""
    for tensor, following in pairwise(tensors):
        assert tensor.data_ptr() + tensor.numel() * tensor.element_size() == following.data_ptr()
    size = sum(tensor.numel() for tensor in tensors)
    return tensors[0].detach().as_strided((size,), (1,))
