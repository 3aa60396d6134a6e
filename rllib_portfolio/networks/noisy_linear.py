"""A linear layer with learned, factorised Gaussian noise on its weights (Fortunato et al. 2017, arXiv 1706.10295)."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional


class LayerNoise(NamedTuple):
    """f(eps) of eq. 10, one draw for all rows or one for each."""

    inputs: Tensor
    """[p] or [B, p]."""
    outputs: Tensor
    """[q] or [B, q]."""


class NoisyLinear(nn.Module):
    """y = (mu_w + sigma_w * eps_w) x + mu_b + sigma_b * eps_b, eq. 9, with p inputs and q outputs.

    The noise is factorised (eqs. 10 and 11): eps_w[i, j] = f(eps_i) f(eps_j) and eps_b[j] = f(eps_j). Without noise the
    layer is linear with its mean weights.

    Args:
        inputs: p.
        outputs: q.
        sigma0: Initial deviations are sigma0 / sqrt(p); initial means lie in +-1 / sqrt(p) (section 3.2).
    """

    def __init__(self, inputs: int, outputs: int, sigma0: float) -> None:
        super().__init__()
        bound = 1.0 / math.sqrt(inputs)
        self.weight_mean = nn.Parameter(torch.empty(outputs, inputs).uniform_(-bound, bound))
        self.bias_mean = nn.Parameter(torch.empty(outputs).uniform_(-bound, bound))
        self.weight_deviation = nn.Parameter(torch.full((outputs, inputs), sigma0 * bound))
        self.bias_deviation = nn.Parameter(torch.full((outputs,), sigma0 * bound))

    @property
    def noise_sizes(self) -> tuple[int, int]:
        """P and q."""
        return self.weight_mean.shape[1], self.weight_mean.shape[0]

    def forward(self, inputs: Tensor, noise: LayerNoise | None = None) -> Tensor:
        """Outputs [B, q] of inputs [B, p]: with the mean weights, or with noise of one draw for each row."""
        mean = functional.linear(inputs, self.weight_mean, self.bias_mean)
        if noise is None:
            return mean
        # (sigma_w * (f_out f_in')) x + sigma_b * f_out = f_out * (sigma_w (f_in * x) + sigma_b), row by row: no row
        # needs weights of its own.
        deviation = functional.linear(inputs * noise.inputs, self.weight_deviation, self.bias_deviation)
        return mean + noise.outputs * deviation

    def perturbed(self, noise: LayerNoise) -> tuple[Tensor, Tensor]:
        """Weights [q, p] and biases [q] under one draw for all rows."""
        weight_noise = torch.outer(noise.outputs, noise.inputs)
        weight = torch.addcmul(self.weight_mean, self.weight_deviation, weight_noise)
        return weight, torch.addcmul(self.bias_mean, self.bias_deviation, noise.outputs)


def draw_noise(
    sizes: list[int], rows: int | None, generator: torch.Generator | None = None, device: torch.device | None = None
) -> tuple[Tensor, ...]:
    """f(eps) = sgn(eps) sqrt|eps| of standard normal eps, one tensor [size] or [rows, size] for each size."""
    shape = (sum(sizes),) if rows is None else (rows, sum(sizes))
    normal = torch.randn(shape, generator=generator, device=device)
    return (normal.sign() * normal.abs().sqrt()).split(sizes, dim=-1)
