"""The observation: the features of one row, then the weights known at its close, as one flat float32 vector."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from rllib_portfolio.arrays import FloatArray
from rllib_portfolio.market import CASH, MarketData

FEATURE_BOUND = float(np.finfo(np.float32).max)


class ObservationLayout:
    """The meaning of each number of an observation.

    | index | meaning | range |
    |---|---|---|
    | 0 .. N F - 1 | feature f of asset i at i F + f | finite |
    | N F .. N F + M - 1 | features of the market | finite |
    | N F + M .. D - 1 | the portfolio's own weights as known at that close, cash last | [0, 1] |
    """

    def __init__(self, market: MarketData) -> None:
        self._market = market
        self.names = (
            *(f"{asset}.{name}" for asset in market.assets for name in market.asset_feature_names),
            *market.market_feature_names,
            *(f"weight.{asset}" for asset in (*market.assets, CASH)),
        )
        self._num_features = len(self.names) - market.num_assets - 1

    @cached_property
    def space(self) -> spaces.Box:
        """Bounds of each number; computed on first use, because Gymnasium formats them as text, which is slow."""
        low = np.full(len(self.names), -FEATURE_BOUND, dtype=np.float32)
        high = np.full(len(self.names), FEATURE_BOUND, dtype=np.float32)
        low[self._num_features :], high[self._num_features :] = 0.0, 1.0
        return spaces.Box(low, high, dtype=np.float32)

    @cached_property
    def _features(self) -> FloatArray:
        """Features of all rows in the order of an observation, float32 [T, N F + M]."""
        by_day = self._market.asset_features.reshape(self._market.num_days, -1)
        return np.ascontiguousarray(np.concatenate([by_day, self._market.market_features], axis=1), dtype=np.float32)

    def observe(self, rows: NDArray[np.integer[Any]], weights: FloatArray) -> FloatArray:
        """Return a batch of observations, float32 [B, D].

        Args:
            rows: Row of the features of each observation, [B], in [0, T).
            weights: Weights of each portfolio as known at the close of its row, [B, N+1], cash last.
        """
        observation = np.empty((len(rows), len(self.names)), dtype=np.float32)
        observation[:, : self._num_features] = self._features[rows]
        observation[:, self._num_features :] = weights
        return observation

    def observe_one(self, row: int, weights: FloatArray) -> FloatArray:
        """Return one observation, float32 [D], without copying the features of all rows.

        Args:
            row: Row of the features, in [0, T).
            weights: Weights of the portfolio as known at the close of that row, [N+1], cash last.
        """
        parts = (self._market.asset_features[row].ravel(), self._market.market_features[row], weights)
        return np.concatenate(parts, dtype=np.float32, casting="same_kind")
