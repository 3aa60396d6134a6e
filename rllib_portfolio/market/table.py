"""`PriceTable`: dated prices with the columns that go with them, before anything is computed from them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pandas as pd

from rllib_portfolio.arrays import FloatArray
from rllib_portfolio.dates import Dates, dates_of


class Exit(NamedTuple):
    """The end of an asset's life."""

    date: pd.Timestamp | None
    """First day or moment at which the asset is not listed any more; None if it is the day after the last price."""
    terminal_return: float
    """Simple return from the last price to the payment."""
    reason: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class PriceTable:
    """Closing prices of N assets on T days, or at T moments of an intraday table.

    Attributes:
        prices: Prices, float64 [T, N]; the index holds the days, the columns name the assets. NaN where an asset has no
            price: before and after its life, and in gaps and halts.
        index: Level of the market index on the same days, [T], or None.
        extra: The user's own columns on the same days, [T, E], E may be 0.
        source: Where the prices came from, for messages and reports.
        asset_extra: The user's own columns per asset by name, each a frame like `prices`; NaN where a value is missing.
        membership: Whether each asset may be held on each day, a frame of bool like `prices`; None if always.
        exits: Maps the name of an asset to the end of its life, if the user gave it.
        assets_info: Columns `group` and `cost_bps`, indexed by asset, as far as the user gave them; None without.
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
    asset_extra: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    membership: pd.DataFrame | None = None
    exits: Mapping[str, Exit] = field(default_factory=dict)
    assets_info: pd.DataFrame | None = None

    @property
    def dates(self) -> Dates:
        """The days, datetime64[D] [T], or the moments of an intraday table, datetime64[m] [T]."""
        return dates_of(pd.DatetimeIndex(self.prices.index))

    @property
    def price_values(self) -> FloatArray:
        """Prices, [T, N]."""
        return np.asarray(self.prices, dtype=np.float64)

    @property
    def index_values(self) -> FloatArray | None:
        """Level of the index, [T], or None."""
        return None if self.index is None else np.asarray(self.index, dtype=np.float64)


def data_hash(dates: Dates, assets: Sequence[str], values: FloatArray) -> str:
    """Return the SHA-256 of dates, asset names and values, in hexadecimal digits.

    Args:
        dates: Days or moments, datetime64 [T].
        assets: Names of the N assets.
        values: Prices, or returns of a market without prices, [T, N].
    """
    digest = hashlib.sha256()
    digest.update(dates_of(dates).astype("<i8").tobytes())
    digest.update("\0".join(assets).encode())
    digest.update(np.ascontiguousarray(values, dtype="<f8").tobytes())
    return digest.hexdigest()
