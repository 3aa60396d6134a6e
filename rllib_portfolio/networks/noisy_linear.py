"""A linear layer with learned, factorised Gaussian noise on its weights (Fortunato et al. 2017, arXiv 1706.10295)."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional


class LayerNoise(NamedTuple):
    """The factors f(eps) of the noise of one layer (eq. 10): one draw for all rows, or one draw per row."""

    inputs: Tensor
    """[p] or [B, p]."""
    outputs: Tensor
    """[q] or [B, q]."""


class NoisyLinear(nn.Module):
    """A noisy linear layer y = (mu_w + sigma_w * eps_w) x + mu_b + sigma_b * eps_b (eq. 9).

    The noise is factorised (eqs. 10 and 11): eps_w[i, j] = f(eps_i) f(eps_j) and eps_b[j] = f(eps_j). Without noise the
    layer is linear with its mean weights.

    Args:
        inputs: p, the number of inputs.
        outputs: q, the number of outputs.
        sigma0: Scale of the initial noise: each sigma starts at sigma0 / sqrt(p). Initial means are drawn from
            +-1 / sqrt(p) (section 3.2).
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
        """The numbers of inputs p and of outputs q, for each of which noise is drawn."""
        return self.weight_mean.shape[1], self.weight_mean.shape[0]

    def forward(self, inputs: Tensor, noise: LayerNoise | None = None) -> Tensor:
        """Return outputs [B, q].

        Args:
            inputs: [B, p].
            noise: One draw per row, or None to use the mean weights.
        """
        mean = functional.linear(inputs, self.weight_mean, self.bias_mean)
        if noise is None:
            return mean
        # For each row, (sigma_w * (f_out f_in')) x + sigma_b * f_out = f_out * (sigma_w (f_in * x) + sigma_b), so that
        # no weight matrix per row is needed.
        deviation = functional.linear(inputs * noise.inputs, self.weight_deviation, self.bias_deviation)
        return mean + noise.outputs * deviation

    def perturbed(self, noise: LayerNoise) -> tuple[Tensor, Tensor]:
        """Return the weights [q, p] and biases [q] under one noise draw that all rows share."""
        weight_noise = torch.outer(noise.outputs, noise.inputs)
        weight = torch.addcmul(self.weight_mean, self.weight_deviation, weight_noise)
        return weight, torch.addcmul(self.bias_mean, self.bias_deviation, noise.outputs)


def draw_noise(
    sizes: list[int], rows: int | None, generator: torch.Generator | None = None, device: torch.device | None = None
) -> tuple[Tensor, ...]:
    """Draw f(eps) = sgn(eps) sqrt|eps| for standard normal eps.

    Args:
        sizes: Number of values in each tensor.
        rows: Number of independent draws, or None for one draw without a leading axis.
        generator: Random generator on `device`; None takes torch's default generator.
        device: Device of the result.

    Returns:
        One tensor [size] or [rows, size] per entry of `sizes`.
    """
    shape = (sum(sizes),) if rows is None else (rows, sum(sizes))
    normal = torch.randn(shape, generator=generator, device=device)
    return (normal.sign() * normal.abs().sqrt()).split(sizes, dim=-1)
