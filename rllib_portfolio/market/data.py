"""`MarketData`: everything that an environment or a back-test knows about a market, as read-only arrays.

Row t is the close of day t, or of a period within a day in an intraday table. There is no look-ahead bias:
`asset_features[t]`, `market_features[t]`, `volatility[t]` and `cash_returns[t + 1]` are functions of prices up to t.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from rllib_portfolio.arrays import FloatArray
from rllib_portfolio.atomic import sealed, unsealed
from rllib_portfolio.config.user_values import require_names
from rllib_portfolio.errors import DataError, file_error, one_line
from rllib_portfolio.market.universe import Universe

Window = tuple[int, int]
"""Half-open range of rows whose returns are earned: the first decision is at the close of row `start - 1`."""

CASH = "CASH"


@dataclass(frozen=True, slots=True, eq=False)
class MarketData:
    """A market of N risky assets over T days.

    Attributes:
        dates: Trading days, datetime64[D] [T], or moments of an intraday table, datetime64[m] [T], increasing.
        assets: Names of the N risky assets; cash comes after them, at index N.
        returns: Simple returns, float64 [T, N]: `returns[t]` is earned from close t - 1 to close t; row 0 is zero.
        cash_returns: Simple returns of cash, float64 [T]; `cash_returns[t]` is known at close t - 1.
        volatility: Trailing standard deviation of daily returns, float64 [T, N].
        asset_features: Features of each asset, float32 [T, N, F]; rows before `first_row` are zero.
        market_features: Features of the market, float32 [T, M]; rows before `first_row` are zero.
        asset_feature_names: Names of the F asset features.
        market_feature_names: Names of the M market features.
        first_row: First row at which every feature is defined.
        universe: The days on which each asset is listed, a member and quoted; None if that is so on each day. With a
            universe, `returns` are 0 without a quote, a halt's return is booked on the first quote after it, and the
            first row after a life has its exit return. Features that are missing are 0.
        dollar_volume: Trailing average daily volume in currency, float64 [T, N], known at the close; None without
            volumes.
        cost_bps: Proportional cost of each asset in basis points, float64 [N], NaN where the execution settings apply;
            None if they always do.
        groups: Name of the group of each asset, [N], "" for none; None if there are no groups.
        windows: Maps names ("train", "validation", "test", "all") to half-open row ranges.
        index_returns: Simple returns of the index, float64 [T], or None.
        periods_per_year: Rows per year, by which annual figures are scaled.
        fitted: Scaler and regime models fitted on the training window, and the settings of the fit, as JSON values.
        source: Where the prices came from, for messages and reports.
        data_hash: SHA-256 of dates, assets and prices.
        notes: Plain sentences that a report must repeat (no index, filled cells, user columns ...).
    """

    dates: NDArray[np.datetime64]
    assets: tuple[str, ...]
    returns: FloatArray
    cash_returns: FloatArray
    volatility: FloatArray
    asset_features: FloatArray
    market_features: FloatArray
    asset_feature_names: tuple[str, ...]
    market_feature_names: tuple[str, ...]
    first_row: int
    windows: dict[str, Window]
    universe: Universe | None = None
    dollar_volume: FloatArray | None = None
    cost_bps: FloatArray | None = None
    groups: tuple[str, ...] | None = None
    index_returns: FloatArray | None = None
    periods_per_year: int = 252
    fitted: dict[str, Any] = field(default_factory=dict)
    source: str = ""
    data_hash: str = ""
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        names = (*self.assets, *self.asset_feature_names, *self.market_feature_names)
        require_names(map(str, names), "assets and features", self.source, DataError)
        for name in _ARRAYS:
            array = getattr(self, name)
            if array is not None:
                array.setflags(write=False)

    @property
    def num_days(self) -> int:
        """Number of days, T."""
        return len(self.dates)

    @property
    def num_assets(self) -> int:
        """Number of risky assets, N, without cash."""
        return len(self.assets)

    def with_cash_rate(self, annual_rate: float) -> MarketData:
        """Return a copy of the market in which cash earns `annual_rate`, a fraction."""
        per_day = (1.0 + annual_rate) ** (1.0 / self.periods_per_year) - 1.0
        return replace(self, cash_returns=np.full(self.num_days, per_day))

    def save(self, path: Path) -> None:
        """Write the market to one .npz file, without pickle."""
        arrays = {name: getattr(self, name) for name in _ARRAYS if getattr(self, name) is not None}
        if self.universe is not None:
            arrays |= {name: getattr(self.universe, name) for name in _MASKS}
        values = {name: getattr(self, name) for name in _VALUES} | {_SHAPES: _shapes(arrays)}
        np.savez(path, values=np.array(json.dumps(sealed(values))), **arrays)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a market that `save` wrote.

        Raises:
            DataError: If the file does not hold such a market, or is damaged.
        """
        try:
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
                arrays = {name: file[name] for name in (*_ARRAYS, *_MASKS) if name in file}
                values = unsealed(json.loads(str(file["values"])))
            if values.pop(_SHAPES, None) not in (None, _shapes(arrays)):
                raise ValueError("other arrays than were written")
            for name in ("assets", "asset_feature_names", "market_feature_names", "notes"):
                values[name] = tuple(values[name])
            values["groups"] = None if values.get("groups") is None else tuple(values["groups"])
            values["windows"] = {name: (start, stop) for name, (start, stop) in values["windows"].items()}
            masks = {name: arrays.pop(name) for name in _MASKS if name in arrays}
            return cls(**arrays, **values, universe=Universe(**masks) if masks else None)
        except Exception as error:  # numpy and zipfile raise almost any exception for damaged files
            text = f"market must be a prepared .npz file, got {path} ({one_line(error)})"
            raise file_error(error, text, "Prepare it again.", DataError) from None


def _shapes(arrays: Mapping[str, NDArray[Any]]) -> dict[str, list[Any]]:
    """Return type and shape of each array; their values have checksums in the zip format."""
    return {name: [array.dtype.str, *array.shape] for name, array in arrays.items()}


_SHAPES = "arrays"
_ARRAYS = (
    "dates",
    "returns",
    "cash_returns",
    "volatility",
    "asset_features",
    "market_features",
    "index_returns",
    "dollar_volume",
    "cost_bps",
)
_MASKS = tuple(entry.name for entry in fields(Universe))
_VALUES = tuple(entry.name for entry in fields(MarketData) if entry.name not in (*_ARRAYS, "universe"))
