"""A normal distribution with diagonal covariance that never leaves the log standard deviation."""

from __future__ import annotations

import math
from typing import Self

import torch
from ray.rllib.core.distribution.torch.torch_distribution import TorchDiagGaussian
from torch import Tensor

_LOG_SQRT_2_PI = 0.5 * math.log(2.0 * math.pi)


class DiagonalGaussian(TorchDiagGaussian):
    """RLlib's diagonal Gaussian in closed forms of mean and log deviation: the same numbers in fewer kernels."""

    def __init__(self, loc: Tensor, log_std: Tensor) -> None:
        self.log_std = log_std
        super().__init__(loc=loc, scale=log_std.exp())

    @classmethod
    def from_logits(cls, logits: Tensor, **kwargs: object) -> Self:
        loc, log_std = logits.chunk(2, dim=-1)
        return cls(loc, log_std)

    def logp(self, value: Tensor) -> Tensor:
        standardised = (value - self.loc) * torch.exp(-self.log_std)
        return -(0.5 * standardised.square() + self.log_std + _LOG_SQRT_2_PI).sum(-1)

    def entropy(self) -> Tensor:
        return (self.log_std + (0.5 + _LOG_SQRT_2_PI)).sum(-1)
