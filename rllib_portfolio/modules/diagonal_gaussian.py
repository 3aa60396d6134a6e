"""A normal distribution with diagonal covariance that computes from the log standard deviation."""

from __future__ import annotations

import math
from typing import Any, Self

import torch
from ray.rllib.core.distribution.torch.torch_distribution import TorchDeterministic, TorchDiagGaussian
from torch import Tensor

_LOG_SQRT_2_PI = 0.5 * math.log(2.0 * math.pi)


class DiagonalGaussian(TorchDiagGaussian):
    """RLlib's diagonal Gaussian in closed forms of the mean and log standard deviation, which take fewer kernels.

    Args:
        loc: Mean, [B, A].
        log_std: Log standard deviation, [B, A], or [A] if all rows share it.
    """

    def __init__(self, loc: Tensor, log_std: Tensor) -> None:
        self.loc = loc
        self.log_std = log_std

    @classmethod
    def from_logits(cls, logits: Tensor, **kwargs: object) -> Self:
        loc, log_std = logits.chunk(2, dim=-1)
        return cls(loc, log_std)

    @property
    def _dist(self) -> Any:
        """Torch's distribution, built on access, for the methods that have no closed form here."""
        return self._get_torch_distribution(self.loc, self.log_std.exp())

    def sample(self, *, sample_shape: tuple[int, ...] | None = None) -> Tensor:
        shape = (*(sample_shape or ()), *self.loc.shape)
        noise = torch.randn(shape, dtype=self.loc.dtype, device=self.loc.device)
        return torch.addcmul(self.loc, noise, self.log_std.exp())

    def to_deterministic(self) -> TorchDeterministic:
        return TorchDeterministic(loc=self.loc)

    def logp(self, value: Tensor) -> Tensor:
        standardised = (value - self.loc) * torch.exp(-self.log_std)
        return -0.5 * standardised.square().sum(-1) - (self.log_std + _LOG_SQRT_2_PI).sum(-1)

    def kl(self, other: DiagonalGaussian) -> Tensor:
        """Return the exact KL divergence KL(self || other) in nats, [B]."""
        log_ratio = self.log_std - other.log_std
        distance = (self.loc - other.loc) * torch.exp(-other.log_std)
        return (0.5 * (torch.expm1(2.0 * log_ratio) + distance.square()) - log_ratio).sum(-1)

    def entropy(self) -> Tensor:
        return (self.log_std + (0.5 + _LOG_SQRT_2_PI)).sum(-1)


class MaskedGaussian(DiagonalGaussian):
    """A diagonal Gaussian in which a dimension with log standard deviation -inf is a constant, its mean.

    Such a dimension takes no part in log-probabilities, entropy and KL divergence, whatever its value, and passes no
    gradient on. Rows may differ in it, but two distributions of one observation have the same constants.

    Args:
        loc: Mean, [B, A].
        log_std: Log standard deviation, [B, A].
    """

    def __init__(self, loc: Tensor, log_std: Tensor) -> None:
        super().__init__(loc, log_std)
        self._is_constant = log_std == -torch.inf

    def logp(self, value: Tensor) -> Tensor:
        value = torch.where(self._is_constant, self.loc, value)
        log_std = self.log_std.masked_fill(self._is_constant, 0.0)
        standardised = (value - self.loc) * torch.exp(-log_std)
        constants = (log_std + _LOG_SQRT_2_PI).masked_fill(self._is_constant, 0.0)
        return -0.5 * standardised.square().sum(-1) - constants.sum(-1)

    def kl(self, other: DiagonalGaussian) -> Tensor:
        return self._free().kl(MaskedGaussian(other.loc, other.log_std)._free())

    def entropy(self) -> Tensor:
        return (self.log_std + (0.5 + _LOG_SQRT_2_PI)).masked_fill(self._is_constant, 0.0).sum(-1)

    def _free(self) -> DiagonalGaussian:
        """Return a distribution whose constants are standard normal, so that their KL divergence is 0."""
        loc, log_std = (each.masked_fill(self._is_constant, 0.0) for each in (self.loc, self.log_std))
        return DiagonalGaussian(loc, log_std)
