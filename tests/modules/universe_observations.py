"""Observations of random universes, and the same with assets that are never listed, or in another order."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class Observed(NamedTuple):
    """B observations of N assets in parts; the last feature of an asset is `tradable`."""

    features: np.ndarray
    """[B, N, F]."""
    market: np.ndarray
    """[B, M]."""
    weights: np.ndarray
    """[B, N+1]."""

    @property
    def tradable(self) -> np.ndarray:
        return self.features[..., -1] > 0.5

    @property
    def num_assets(self) -> int:
        return self.features.shape[1]

    def tensor(self) -> Tensor:
        return torch.from_numpy(self.array())

    def array(self) -> np.ndarray:
        """The observations as `ObservationLayout` lays them out, float32 [B, D]."""
        own = self.features.reshape(len(self.features), -1)
        return np.concatenate([own, self.market, self.weights], axis=1).astype(np.float32)

    def padded(self, number: int, noise: float = 5.0) -> Observed:
        """With assets behind the others that are never listed; their features are noise, which must not matter."""
        batch, _, num_features = self.features.shape
        never = np.random.default_rng(9).normal(0.0, noise, (batch, number, num_features))
        never[..., -1] = 0.0
        weights = np.concatenate([self.weights[:, :-1], np.zeros((batch, number)), self.weights[:, -1:]], axis=1)
        return Observed(np.concatenate([self.features, never], axis=1), self.market, weights)

    def permuted(self, order: np.ndarray) -> Observed:
        weights = np.concatenate([self.weights[:, :-1][:, order], self.weights[:, -1:]], axis=1)
        return Observed(self.features[:, order], self.market, weights)


def observed(
    num_assets: int = 6, batch: int = 40, num_features: int = 4, num_market: int = 2, *, seed: int = 0
) -> Observed:
    """Two of three assets are tradable; some of the others are held. In row 0 nothing is, in row 1 all are."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(batch, num_assets, num_features))
    tradable = rng.random((batch, num_assets)) < 2 / 3
    held = tradable | (rng.random((batch, num_assets)) < 0.3)
    held[0] = tradable[0] = False
    held[1] = tradable[1] = True
    features[..., -1] = tradable
    parts = np.concatenate([rng.random((batch, num_assets)) * held, rng.random((batch, 1)) + 0.1], axis=1)
    return Observed(features, rng.normal(size=(batch, num_market)), parts / parts.sum(1, keepdims=True))
