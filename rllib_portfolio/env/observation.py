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
EXACT_ROWS = 2**24
"""Number of rows up to which a single-precision number holds each row number exactly."""


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
    def features(self) -> tuple[NDArray[np.float32], ...]:
        """Features of all rows in the order of an observation: [T, N F] and [T, M], without those that are empty.

        They are views of the market's arrays, which would take as much memory again as copies.
        """
        market = self._market
        parts = (market.asset_features.reshape(market.num_days, -1), market.market_features)
        return tuple(np.asarray(part, dtype=np.float32) for part in parts if part.shape[1])

    @property
    def has_references(self) -> bool:
        """Whether an observation can be held by reference, see `refer`: row numbers are exact and save memory."""
        return self._num_features > 1 and self._market.num_days <= EXACT_ROWS

    def observe(self, rows: NDArray[np.integer[Any]], weights: FloatArray) -> FloatArray:
        """Return a batch of observations, float32 [B, D].

        Args:
            rows: Row of the features of each observation, [B], in [0, T).
            weights: Weights of each portfolio as known at the close of its row, [B, N+1], cash last.
        """
        parts = (*(part.take(rows, axis=0) for part in self.features), weights)  # `take` is faster than an index
        return np.concatenate(parts, axis=1, dtype=np.float32, casting="same_kind")

    def refer(self, rows: NDArray[np.integer[Any]], weights: FloatArray) -> FloatArray:
        """Return a batch of observations by reference, float32 [B, N+2]: the row in place of its features, and weights.

        Their size does not depend on the number of features. `observe` returns the observations that they stand for.

        Args:
            rows: Row of the features of each observation, [B], in [0, T).
            weights: Weights of each portfolio as known at the close of its row, [B, N+1], cash last.
        """
        reference = np.empty((len(rows), len(self.names) - self._num_features + 1), dtype=np.float32)
        reference[:, 0], reference[:, 1:] = rows, weights
        return reference

    def observe_one(self, row: int, weights: FloatArray) -> FloatArray:
        """Return one observation, float32 [D], without copying the features of all rows.

        Args:
            row: Row of the features, in [0, T).
            weights: Weights of the portfolio as known at the close of that row, [N+1], cash last.
        """
        parts = (self._market.asset_features[row].ravel(), self._market.market_features[row], weights)
        return np.concatenate(parts, dtype=np.float32, casting="same_kind")
