"""Long tables, which have a row per day and asset: each numeric column becomes a table of days by assets.

A column that is the same for all assets of each day belongs to the market; any other one belongs to the assets.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rllib_portfolio.arrays import FloatArray
from rllib_portfolio.dates import date_text
from rllib_portfolio.errors import ConfigError, DataError
from rllib_portfolio.market.archives import STACKED
from rllib_portfolio.market.columns import UNNAMED, VOLUME, Columns, numbered_columns, sort_market_columns
from rllib_portfolio.market.labels import (
    ADJUSTMENTS,
    CLOSES,
    OTHER_PRICES,
    TICKER_NAMES,
    VOLUMES,
    field_of,
    key,
    price_among,
    returns_among,
    role_of,
)
from rllib_portfolio.market.numerals import may_be_two_numbers

STABLE_NAMES = ("permno", "gvkey", "isin", "cusip")
"""Names of columns whose identifiers are never used again for another asset; they are preferred to tickers."""


def stock_column(frame: pd.DataFrame) -> str | None:
    """Return the column that names the asset of each row if a dated frame is a long table, or None.

    The table is long if a column with a name of `TICKER_NAMES` is text, or stands beside a price, or days repeat; or if
    days repeat and another column of text has several values.
    """
    repeats = not frame.index.is_unique
    names = [str(name) for name in frame.columns]
    texts = [str(name) for name, dtype in frame.dtypes.items() if dtype.kind == "O" and _is_text(frame[name])]
    has_price = bool(price_among(names) or returns_among(names))
    called = [name for name in names if key(name) in TICKER_NAMES and (repeats or has_price or name in texts)]
    found = sorted(called, key=lambda name: key(name) not in STABLE_NAMES) or (texts if repeats else [])
    for name in found:
        count = frame[name].nunique()
        if 1 < count < len(frame) + (name in texts) or (count == 1 and has_price and name in called):
            return name
    return None


def with_categories(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a table whose texts are stored once each if its days repeat."""
    if frame.index.is_unique:
        return frame
    texts = [name for name, dtype in frame.dtypes.items() if isinstance(dtype, pd.StringDtype)]
    return frame.astype(dict.fromkeys(texts, "category")) if texts else frame


def _is_text(column: pd.Series) -> bool:
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = pd.Series(column.cat.categories)
    return column.dtype.kind == "O" and bool(pd.to_numeric(column.astype("string"), errors="coerce").isna().all())


def widened(
    frame: pd.DataFrame, stock: str, rate: str | None, is_returns: bool, source: str
) -> tuple[pd.DataFrame, Columns, dict[str, pd.DataFrame]]:
    """Turn a long table into tables of days by assets.

    Args:
        frame: A dated table with a row per day and asset, in any order.
        stock: The column that names the assets.
        rate: The column of the cash rate, or None.
        is_returns: Whether returns are read instead of prices.
        source: Where the table came from, for messages.

    Returns:
        A table of the prices, and of the columns of the market, with increasing days and with assets in alphabetical
        order; the roles of its columns; and a table of days by assets for each other numeric column, by its name.

    Raises:
        DataError: If the table has no price, two rows of a day and asset, or a cell that is no number.
        ConfigError: If the cash rate differs between the assets of a day.
    """
    grid = _Grid.of(frame, stock, source)
    value = _value_column(frame, stock, is_returns, source)
    prices = grid.table(grid.spread(_number(frame[value], grid, source)))
    market, by_asset, left_out = _other_columns(frame, frame.columns.drop([stock, value]), grid, rate, source)
    columns = Columns({name: name for name in prices.columns}, shape=f"a long table with a row per day and {stock}")
    price_names, others = frame.attrs.get(STACKED, ([value], {}))
    if STACKED in frame.attrs:
        columns.shape = "one table per asset"
    columns.remarks = [f"the {'return' if is_returns else 'price'} is {', '.join(price_names)}"]
    beside = pd.DataFrame(market, index=prices.index)
    _require_different(prices, beside, source)
    numbered = numbered_columns(beside, rate, source)
    columns.left_out = others | left_out | numbered
    sort_market_columns(columns, [str(name) for name in beside if name not in numbered], rate, source)
    wide = pd.concat([prices, beside], axis=1)
    wide.attrs = frame.attrs
    if len(columns.assets) < prices.shape[1]:
        by_asset = {name: table[list(columns.assets)] for name, table in by_asset.items()}
    return wide, columns, by_asset


def _other_columns(
    frame: pd.DataFrame, names: Iterable[str], grid: _Grid, rate: str | None, source: str
) -> tuple[dict[str, FloatArray], dict[str, pd.DataFrame], dict[str, str]]:
    """Return columns of the market, [T], tables of the assets, [T, N], and why the other columns are left out."""
    left_out: dict[str, str] = {}
    market: dict[str, FloatArray] = {}
    by_asset: dict[str, pd.DataFrame] = {}
    for name in names:
        is_volume = field_of(name) in VOLUMES
        reason = None if name == rate else _reason_against(frame[name], by_asset, source)
        if reason:
            left_out[name] = reason
            continue
        values = grid.spread(_number(frame[name], grid, source))
        shared = None if is_volume else grid.shared(values, name)
        if shared is not None:
            market[name] = shared
        elif name == rate:
            raise ConfigError(
                f"cash_rate must name a column that is the same for all assets of a day, got {name} ({source}). "
                "Name another one, or give a number."
            )
        else:
            by_asset[VOLUME if is_volume else name] = grid.table(values)
    return market, by_asset, left_out


@dataclass(frozen=True)
class _Grid:
    """The place of each row of a long table in tables of T days by N assets."""

    days: pd.DatetimeIndex
    assets: list[str]
    places: NDArray[np.int64]
    """Position of each row in a flattened table."""

    @classmethod
    def of(cls, frame: pd.DataFrame, stock: str, source: str) -> _Grid:
        day_codes, days = pd.factorize(frame.index, sort=True)
        asset_codes, assets = _assets(frame[stock], source)
        places = day_codes.astype(np.int64) * len(assets) + asset_codes
        is_taken = np.zeros(len(days) * len(assets), dtype=bool)
        is_taken[places] = True
        if is_taken.sum() < len(places):
            row = int(pd.Series(places).duplicated().to_numpy().argmax())
            raise DataError(
                f"each day must have one row per {stock}, got two of {assets[asset_codes[row]]} ({source}, "
                f"{date_text(frame.index[row])}). Keep one of them."
            )
        return cls(pd.DatetimeIndex(days).rename("date"), assets, places)

    @cached_property
    def has_row(self) -> NDArray[np.bool_]:
        """Whether the long table has a row of the day and asset, [T, N]."""
        is_taken = np.zeros(len(self.days) * len(self.assets), dtype=bool)
        is_taken[self.places] = True
        return is_taken.reshape(len(self.days), -1)

    def spread(self, values: FloatArray) -> FloatArray:
        """Return the values of the rows as a table, [T, N]; NaN without a row."""
        table = np.full(len(self.days) * len(self.assets), np.nan)
        table[self.places] = values
        return table.reshape(len(self.days), -1)

    def table(self, values: FloatArray) -> pd.DataFrame:
        """Return values [T, N] with their days and assets."""
        return pd.DataFrame(values, self.days, self.assets, copy=False)

    def shared(self, values: FloatArray, name: str) -> FloatArray | None:
        """Return the value of each day, [T], if all assets of the day have it; None if they differ.

        With one asset on each day nothing could differ, and the name of the column decides.
        """
        is_known = ~np.isnan(values)
        num_known = is_known.sum(axis=1)
        is_whole = bool(((num_known == 0) | (num_known == self.has_row.sum(axis=1))).all())
        if not is_whole or not num_known.any():
            return None
        low = np.where(is_known, values, np.inf).min(axis=1)
        high = np.where(is_known, values, -np.inf).max(axis=1)
        if (low != high)[num_known > 0].any() or (num_known.max() == 1 and role_of(name) is None):
            return None
        return np.where(num_known > 0, low, np.nan)


def _assets(column: pd.Series, source: str) -> tuple[NDArray[np.int64], list[str]]:
    """Return the number of the asset of each row, and the names of the assets in alphabetical order."""
    missing = column.isna().to_numpy()
    if missing.any():
        row = int(missing.argmax())
        raise DataError(
            f"{column.name} must name the asset of each row, got an empty cell ({source}, "
            f"{date_text(column.index[row])}). Fill it in, or remove the row."
        )
    if column.dtype.kind == "f" and (column % 1 == 0).all():
        column = column.astype("int64")
    codes, found = pd.factorize(column)
    is_numbered = pd.api.types.is_integer_dtype(found)
    names = pd.Series([str(name).strip() for name in found])
    order = np.argsort(np.asarray(found)) if is_numbered else np.argsort(names.to_numpy(dtype=str), kind="stable")
    ranks, different = pd.factorize(names.iloc[order])
    by_code = np.empty(len(order), dtype=np.int64)
    by_code[order] = ranks
    return by_code[codes], list(different)


def _value_column(frame: pd.DataFrame, stock: str, is_returns: bool, source: str) -> str:
    names = [str(name) for name in frame.columns if name != stock]
    found = returns_among(names) if is_returns else price_among(names)
    numeric = [name for name in names if frame[name].dtype.kind in "fiu" and not name.startswith(UNNAMED)]
    if found is None and len(numeric) == 1 and (is_returns or field_of(numeric[0]) is None):
        found = numeric[0]
    if found is not None:
        return found
    wanted = "returns (return, ret)" if is_returns else "prices (adj_close, adjusted, close or price)"
    other = None if is_returns else returns_among(names)
    remedy = "Set market.kind to returns" if other else "Rename the column that holds them"
    raise DataError(
        f"a long table must have a column of {wanted}, got {', '.join(names[:5]) or 'none'} ({source}). {remedy}."
    )


def _reason_against(column: pd.Series, taken: Mapping[str, object], source: str) -> str | None:
    """Return why a column of a long table is left out, or None if it is read."""
    name = str(column.name)
    found = field_of(name)
    if name.startswith(UNNAMED) or key(name) in ("index", "level0"):
        is_counter = column.dtype.kind in "iu" and bool(column.is_unique)
        if is_counter:
            return "row numbers"
        if name.startswith(UNNAMED):
            raise DataError(f"each column must have a name, got {name!r} ({source}). Name it, or remove it.")
    if found in (*CLOSES, *OTHER_PRICES, *ADJUSTMENTS) or (found in VOLUMES and VOLUME in taken):
        return "other fields"
    if key(name) in (*TICKER_NAMES, "currency"):
        return "names"
    if column.dtype.kind in "fiu":
        return "no value" if column.isna().all() else None
    return "text" if column.dtype.kind in "bMm" or _is_text(column) else None


def _number(column: pd.Series, grid: _Grid, source: str) -> FloatArray:
    """Return the cells of a column as numbers; a cell that is neither a number nor empty is an error."""
    if column.dtype.kind in "fiu":
        return column.to_numpy(dtype=np.float64, na_value=np.nan)
    numbers = pd.to_numeric(column.astype("string"), errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    bad = np.isnan(numbers) & column.notna().to_numpy()
    if bad.any():
        row = int(bad.argmax())
        cell = str(column.iloc[row])
        remedy = (
            "Write it without a thousands separator" if may_be_two_numbers(cell) else "Correct the cell, or empty it"
        )
        asset = grid.assets[grid.places[row] % len(grid.assets)]
        raise DataError(
            f"{column.name} must be a number, got {cell!r} of {asset} ({source}, "
            f"{date_text(column.index[row])}). {remedy}."
        )
    return numbers


def _require_different(prices: pd.DataFrame, market: pd.DataFrame, source: str) -> None:
    both = [name for name in market.columns if name in prices.columns]
    if both:
        raise DataError(
            f"names of assets and of columns must differ, got {', '.join(both)} for both ({source}). Rename the column."
        )
