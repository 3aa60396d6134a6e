"""`Quotes`: the prices of each asset one after another, without the rows on which it has none.

A function of prices that is applied to packed rows treats each asset as if it had a table of its own: a window counts
the quotes of the asset, begins with its first one, and passes over halts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from rllib_portfolio.arrays import FloatArray
from rllib_portfolio.market.universe import BoolArray


@dataclass(frozen=True, slots=True, eq=False)
class Quotes:
    """Rows of a table on which N assets have a price.

    Attributes:
        quoted: Whether the asset has a price, bool [T, N].
        counts: Number of prices up to each row, int64 [T, N].
    """

    quoted: BoolArray
    counts: FloatArray

    @classmethod
    def of(cls, quoted: BoolArray) -> Quotes:
        """Return the quotes on the rows at which `quoted`, [T, N], is true."""
        return cls(quoted, np.cumsum(quoted, axis=0))

    def packed(self, values: FloatArray) -> pd.DataFrame:
        """Return the values at the quotes of each asset from row 0 on, [Q, N]; NaN after its last quote.

        Args:
            values: Values on the rows of the table, [T, N].
        """
        totals = self.counts[-1]
        is_filled = np.arange(int(totals.max(initial=0)))[:, None] < totals
        packed = np.full(is_filled.T.shape, np.nan)
        packed[is_filled.T] = values.T[self.quoted.T]
        return pd.DataFrame(packed.T)

    def unpacked(self, packed: pd.DataFrame | FloatArray) -> FloatArray:
        """Return packed values, [Q, N], on the rows of the table, [T, N]; NaN on rows without a quote."""
        is_filled = np.arange(len(packed))[:, None] < self.counts[-1]
        values = np.full(self.quoted.T.shape, np.nan)
        values[self.quoted.T] = np.asarray(packed, dtype=np.float64).T[is_filled.T]
        return np.ascontiguousarray(values.T)
