"""`PriceTable`: dated prices with the columns that go with them, before anything is computed from them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rllib_portfolio.arrays import FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class PriceTable:
    """Closing prices of N assets on T days.

    Attributes:
        prices: Prices, float64 [T, N]; the index holds the days, the columns name the assets.
        index: Level of the market index on the same days, [T], or None.
        extra: The user's own columns on the same days, [T, E], E may be 0.
        source: Where the prices came from, for messages and reports.
        notes: Plain sentences that a report must repeat; the first one says how a table was read.
        extra_fitted_until: Last day, in ISO 8601, on which regime columns in `extra` were fitted, if
            `python -m rllib_portfolio.market process` computed them.
    """

    prices: pd.DataFrame
    index: pd.Series[float] | None
    extra: pd.DataFrame
    source: str
    notes: tuple[str, ...] = ()
    extra_fitted_until: str | None = None

    @property
    def dates(self) -> NDArray[np.datetime64]:
        """The days, datetime64[D] [T]."""
        return self.prices.index.to_numpy().astype("datetime64[D]")

    @property
    def price_values(self) -> FloatArray:
        """Prices, [T, N]."""
        return np.asarray(self.prices, dtype=np.float64)

    @property
    def index_values(self) -> FloatArray | None:
        """Level of the index, [T], or None."""
        return None if self.index is None else np.asarray(self.index, dtype=np.float64)


def data_hash(dates: NDArray[np.datetime64], assets: Sequence[str], values: FloatArray) -> str:
    """Return the SHA-256 of days, asset names and values, in hexadecimal digits.

    Args:
        dates: Days, datetime64 [T].
        assets: Names of the N assets.
        values: Prices, or returns of a market without prices, [T, N].
    """
    digest = hashlib.sha256()
    digest.update(dates.astype("datetime64[D]").astype("<i8").tobytes())
    digest.update("\0".join(assets).encode())
    digest.update(np.ascontiguousarray(values, dtype="<f8").tobytes())
    return digest.hexdigest()
