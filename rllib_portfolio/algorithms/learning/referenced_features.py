"""Gathering of the features of observations by reference, from arrays that a process holds once."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rllib_portfolio.algorithms.sampling.shared_market import take_market
from rllib_portfolio.env.observation import ObservationLayout
from rllib_portfolio.env.portfolio_env import resolve_market

ALIGNMENT = 16
"""Single-precision numbers to whose multiples torch aligns a tensor, 64 bytes."""


class ReferencedFeatures:
    """The features of all rows of a market on one device.

    Args:
        layout: Layout of the market's observations.
        device: Where observations are gathered. On the CPU, the market's own arrays are used, without a copy.
    """

    def __init__(self, layout: ObservationLayout, device: Any) -> None:
        self._parts = [_tensor(part).to(device) for part in layout.features]
        self._sizes = tuple(part.shape[1] for part in self._parts)

    @classmethod
    def of(cls, env_config: Mapping[str, Any], device: Any) -> Self:
        """Return the features of the market that the environments with the configuration `env_config` use.

        Args:
            env_config: Arguments of `PortfolioVectorEnv`.
            device: Where observations are gathered.
        """
        data = env_config.get("data", "sp500")
        take_market(data)
        return cls(ObservationLayout(resolve_market(data, features=env_config.get("features"))), device)

    def rows(self, rows: Tensor) -> Tensor:
        """Return the features of the given rows, [B, D - N - 1], in the order of an observation."""
        parts = [part[rows] for part in self._parts]
        if len(parts) == 1:
            return parts[0]
        return torch.cat(parts, dim=-1) if parts else torch.empty((len(rows), 0), device=rows.device)

    def observations(self, references: Tensor) -> Tensor:
        """Return the observations [..., D] that observations by reference [..., N+2] stand for.

        They have the alignment in memory of the same rows of a batch of whole observations, because the last bits of
        small matrix products depend on it.
        """
        flat = references.flatten(0, -2)
        rows, weights = flat[:, 0].long(), flat[:, 1:]
        sizes = (*self._sizes, weights.shape[1])
        width = sum(sizes)
        shift = flat.storage_offset() // flat.shape[1] * width % ALIGNMENT
        observations = flat.new_empty(len(flat) * width + shift)[shift:].view(-1, width)
        *features, own = observations.split_with_sizes(sizes, 1)
        for part, gathered in zip(self._parts, features, strict=True):
            torch.index_select(part, 0, rows, out=gathered)  # straight into the observations
        own.copy_(weights)
        return observations.unflatten(0, references.shape[:-1])


def _tensor(array: NDArray[Any]) -> Tensor:
    """Return a tensor that shares the memory of a read-only array."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(np.ascontiguousarray(array))
