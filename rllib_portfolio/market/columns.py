"""The role of each column of a dated table: an asset, the index, an extra column, or none.

Volume, highs and lows, reserved names, row numbers and the calendar are never assets. A column whose role is unclear
raises an error.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from rllib_portfolio.errors import DataError
from rllib_portfolio.market.days import repeats_calendar
from rllib_portfolio.market.files import LEVELS
from rllib_portfolio.market.french import CASH_COLUMN, LIBRARY
from rllib_portfolio.market.labels import (
    ALSO_TICKERS,
    CALENDAR_NAMES,
    CLOSES,
    FAMOUS_INDICES,
    INDICATOR,
    NO_PRICES,
    OPENS,
    TICKER_NAMES,
    VOLUMES,
    Cell,
    field_of,
    joined_cells,
    key,
    level_cells,
    role_of,
)

INDEX_COLUMN = "index"
VOLUME = "volume"
"""The name under which traded volumes are read, whatever the table calls them."""
PRICE_PREFIX = "price_"

WIDE = "a table with one price column per asset"
UNNAMED = "Unnamed:"
"""Prefix of the name that pandas gives to a column without one."""

CASH_RATE = "a rate, which market.cash_rate may name"

SURELY_NUMBERED = 10
"""Number of successive rises by exactly one that prove row numbers; no index level rises like this."""


@dataclass(slots=True)
class Columns:
    """The role of each column."""

    assets: dict[str, str]
    """Maps the name of each asset to the column of its prices."""
    index: str | None = None
    """The column of the market index."""
    extra: dict[str, str] = field(default_factory=dict)
    """Maps the name of each extra column to the column in the table."""
    left_out: dict[str, str] = field(default_factory=dict)
    """Maps each column without a role, or field of several such columns, to the reason why it has none."""
    by_asset: dict[str, dict[str, str]] = field(default_factory=dict)
    """Maps the name of each other field of the assets, such as volume, to the column of each asset that has it."""
    price_names: list[str] = field(default_factory=list)
    """The names of the fields that hold the prices, where there are several fields per asset."""
    shape: str = WIDE
    """The kind of table, in words."""
    remarks: list[str] = field(default_factory=list)
    """Other remarks on the columns for the user."""


def sort_columns(frame: pd.DataFrame, rate: str | None, stock: str, source: str) -> Columns:
    """Give each column of a wide table its role.

    Args:
        frame: A table with one row per day, as `files.read_frame` reads it.
        rate: The column of the cash rate, or None.
        stock: Name of the asset if the table holds the bars of one stock and does not name it.
        source: Where the table came from, for messages.

    Raises:
        DataError: If the role of a column is unclear.
    """
    if (section := frame.attrs.get(LIBRARY)) is not None:
        return _of_library(frame, section, rate)
    pairs, level_names = frame.attrs.get(LEVELS, ({}, ()))
    numbered = numbered_columns(frame, rate, source)
    names = [name for name in frame.columns if name not in numbered]
    if any(name.startswith(PRICE_PREFIX) and name != rate for name in names):
        assets = [name for name in names if name.startswith(PRICE_PREFIX) and name != rate]
        columns = Columns({name.removeprefix(PRICE_PREFIX): name for name in assets})
        columns.by_asset = _prefixed(names, columns.assets, frame, rate)
        assets += [name for found in columns.by_asset.values() for name in found.values()]
    elif pairs:
        assets = [name for name in names if name in pairs]
        columns = _of_levels(pairs, level_names, frame, source)
    else:
        assets = [name for name in names if name != rate and not role_of(name)]
        columns = _of_names(assets, frame, stock, source)
    are_assets = set(assets)
    _take_reserved(columns, [name for name in names if name not in are_assets], rate, source)
    columns.left_out |= numbered
    traded = [name for name in columns.assets if name.startswith("^") or key(name) in FAMOUS_INDICES]
    if traded and columns.index is None:
        told = f"{', '.join(traded)} is read as an asset"
        columns.remarks.append(f"{told}; name the column {INDEX_COLUMN} to use it as the index")
    return columns


def numbered_columns(frame: pd.DataFrame, rate: str | None, source: str) -> dict[str, str]:
    """Return the columns that hold row numbers or parts of the date, and the kind of each.

    Args:
        frame: A dated table with one row per day.
        rate: The column of the cash rate, which is neither, or None.
        source: Where the table came from, for messages.
    """
    counted = [name for name in frame.columns if name.startswith(UNNAMED) or key(name) in ("index", "level0")]
    calendar = [name for name in frame.columns if name != rate and key(name) in CALENDAR_NAMES]
    numbered = {name: "row numbers" for name in counted if _holds_row_numbers(frame[name], source)}
    return numbered | {name: "calendar" for name in calendar if repeats_calendar(frame[name])}


def require_assets(columns: Columns, source: str) -> None:
    """Raise a DataError that lists the roles of all columns unless at least one is an asset.

    Args:
        columns: The roles of the columns of a table.
        source: Where the table came from, for messages.
    """
    if not columns.assets:
        index = {} if columns.index is None else {columns.index: "the index"}
        roles = {**index, **dict.fromkeys(columns.extra, "an extra column"), **columns.left_out}
        told = ", ".join(f"{name} ({role})" for name, role in roles.items())
        raise DataError(
            f"the table must hold at least one asset, got none: {told} ({source}). Add a column of prices, or name it "
            f"{PRICE_PREFIX}<asset>."
        )


def _holds_row_numbers(column: pd.Series, source: str) -> bool:
    name = str(column.name)
    is_unnamed = name.startswith(UNNAMED)
    numbers = pd.to_numeric(column, errors="coerce").to_numpy(dtype=float)
    steps = np.diff(numbers)
    is_whole = bool((numbers % 1 == 0).all())
    if is_unnamed and not (is_whole and (steps > 0).all()):
        raise DataError(f"each column must have a name, got {name!r} ({source}). Name the asset.")
    counts_up = bool(len(steps) and (steps == 1).all() and (numbers[0] in (0, 1) or len(numbers) >= SURELY_NUMBERED))
    return is_whole and (is_unnamed or counts_up)


def _of_names(names: Sequence[str], frame: pd.DataFrame, stock: str, source: str) -> Columns:
    """Return the roles of columns with one name each, none of which is reserved."""
    texts = [name for name in names if key(name) in (*TICKER_NAMES, "currency") and frame[name].dtype.kind == "O"]
    names = [name for name in names if name not in texts]
    fields = {name: found for name in names if (found := field_of(name))}
    if len(fields) == len(names) and set(fields.values()) & set(CLOSES) and len(names) > 1:
        cells = [Cell(name, stock, name, found) for name, found in fields.items()]
        columns = _closes(cells, "the bars of one stock", frame, source)
    else:
        columns = _wide_or_joined(names, fields, frame, source)
    columns.left_out |= dict.fromkeys(texts, "text")
    return columns


def _wide_or_joined(names: Sequence[str], fields: Mapping[str, str], frame: pd.DataFrame, source: str) -> Columns:
    """Return the roles in a table of prices by asset, or of several fields by stock with names such as AAPL_Close."""
    others = [name for name in names if name not in fields]
    all_cells = joined_cells(others)
    beside = _beside_prices(all_cells, set(others) - {cell.name for cell in all_cells}, source)
    cells = [cell for cell in all_cells if cell.name not in beside]
    assets = [name for name in others if name not in beside]
    not_prices = {name: "no price" for name, found in fields.items() if found in NO_PRICES}
    if _are_bars(cells):
        if len(cells) < len(assets) or len(not_prices) < len(fields):
            _refuse(set(assets) - {cell.name for cell in cells} | set(fields), cells[0].name, source)
        columns = _closes(cells, "the bars of stocks, ticker and field in each name", frame, source)
    else:
        doubtful = {name: found for name, found in fields.items() if name not in not_prices} if len(names) > 1 else {}
        if doubtful and (not assets or not_prices or not set(doubtful.values()) <= set(ALSO_TICKERS)):
            _refuse(doubtful, ", ".join(assets[:3]) or "no close", source)
        no_assets = {*beside, *not_prices}
        columns = Columns({name: name for name in names if name not in no_assets})
        if doubtful:
            columns.remarks.append(f"{', '.join(doubtful)} is read as the name of an asset")
    volumes = _volumes([cell for cell in all_cells if cell.name in beside and cell.ticker in columns.assets], frame)
    if volumes:
        columns.by_asset[VOLUME] = volumes
    columns.left_out |= {name: why for name, why in (beside | not_prices).items() if name not in volumes.values()}
    return columns


def _volumes(cells: Sequence[Cell], frame: pd.DataFrame) -> dict[str, str]:
    """Map each ticker that has a column of traded volumes to this column; text is no volume."""
    found: dict[str, Cell] = {}
    for cell in cells:
        if cell.field in VOLUMES and frame[cell.name].dtype.kind in "fiu":
            first = found.setdefault(cell.ticker, cell)
            found[cell.ticker] = min(first, cell, key=lambda each: VOLUMES.index(each.field))
    return {ticker: cell.name for ticker, cell in found.items()}


def _prefixed(
    names: Sequence[str], assets: Collection[str], frame: pd.DataFrame, rate: str | None
) -> dict[str, dict[str, str]]:
    """Return the columns of numbers `<field>_<asset>` beside `price_<asset>`, by field and asset."""
    found: dict[str, dict[str, str]] = {}
    for name in names:
        if name == rate or name.startswith(PRICE_PREFIX) or role_of(name) or frame[name].dtype.kind not in "fiu":
            continue
        marks = [place for place, letter in enumerate(name) if letter == "_" and name[place + 1 :] in assets]
        if marks and marks[0] > 0:
            found.setdefault(name[: marks[0]], {})[name[marks[0] + 1 :]] = name
    return found


def _beside_prices(cells: Sequence[Cell], alone: Collection[str], source: str) -> dict[str, str]:
    """Map each column with another field (AAPL_Volume) of an asset to the reason why it is left out.

    The asset has a column of prices of its own (AAPL).
    """
    opened = {cell.ticker for cell in cells if cell.field in OPENS}
    beside = {}
    for cell in cells:
        if cell.ticker in alone and cell.field in CLOSES:
            _refuse([cell.name], cell.ticker, source)
        # High and Low alone may be part of a name: `Small`, `Small High` and `Small Low` are portfolios.
        is_field = cell.ticker in alone and (cell.field in (*NO_PRICES, INDICATOR) or cell.ticker in opened)
        if is_field or role_of(cell.ticker):
            beside[cell.name] = f"a field of {cell.ticker}"
    return beside


def _are_bars(cells: Sequence[Cell]) -> bool:
    """Return whether some stock has a close and another field."""
    fields: dict[str, set[str]] = {}
    for cell in cells:
        fields.setdefault(cell.ticker, set()).add(cell.field)
    return any(len(found) > 1 and found & set(CLOSES) for found in fields.values())


def _refuse(names: Collection[str], beside: str, source: str) -> None:
    raise DataError(
        f"columns must be told apart as prices of assets and other fields, got {', '.join(sorted(names)[:5])} beside "
        f"{beside} ({source}). Keep one column of closes per asset, or name these {PRICE_PREFIX}<asset>."
    )


def _of_levels(
    pairs: Mapping[str, tuple[str, str]], level_names: Sequence[object], frame: pd.DataFrame, source: str
) -> Columns:
    cells = level_cells(list(pairs.values()), level_names)
    if cells is None:
        raise DataError(
            f"columns of two levels must be fields (Close, Volume) by ticker, got {', '.join(list(pairs)[:3])} "
            f"({source}). Keep one column of closes per asset."
        )
    return _closes(cells, "the bars of stocks, ticker and field in two levels", frame, source)


def _closes(cells: Sequence[Cell], shape: str, frame: pd.DataFrame, source: str) -> Columns:
    """Return the close of each stock as an asset, and its volume; the adjusted close is preferred."""
    by_ticker: dict[str, list[Cell]] = {}
    for cell in cells:
        by_ticker.setdefault(cell.ticker, []).append(cell)
    chosen = {}
    for ticker, group in by_ticker.items():
        if len({cell.field for cell in group}) < len(group):
            raise DataError(f"fields of {ticker} must differ, got one twice ({source}). Keep one of each.")
        closes = [cell for cell in group if cell.field in CLOSES]
        if not closes:
            raise DataError(
                f"each stock must have a close, got {', '.join(cell.written for cell in group)} of {ticker} alone "
                f"({source}). Add its close, or remove its columns."
            )
        chosen[ticker] = min(closes, key=lambda cell: CLOSES.index(cell.field))
    volumes = _volumes(cells, frame)
    read = {*(cell.name for cell in chosen.values()), *volumes.values()}
    left_out = dict.fromkeys((cell.written for cell in cells if cell.name not in read), "other fields")
    names = list(dict.fromkeys(cell.written for cell in chosen.values()))
    assets = {ticker: cell.name for ticker, cell in chosen.items()}
    remarks = [f"the price is {', '.join(names)}"]
    by_asset = {VOLUME: volumes} if volumes else {}
    return Columns(assets, left_out=left_out, by_asset=by_asset, price_names=names, shape=shape, remarks=remarks)


def _of_library(frame: pd.DataFrame, section: str, rate: str | None) -> Columns:
    """Return the roles in a file of Kenneth French's data library."""
    columns = Columns({name: name for name in frame.columns if name not in (CASH_COLUMN, rate)})
    columns.shape, columns.remarks = "a file of Kenneth French's data library", [f"its first section, {section}"]
    if CASH_COLUMN in frame:
        if rate == CASH_COLUMN:
            columns.extra[CASH_COLUMN] = CASH_COLUMN
        else:
            columns.left_out[CASH_COLUMN] = CASH_RATE
    return columns


def sort_market_columns(columns: Columns, names: Sequence[str], rate: str | None, source: str) -> None:
    """Give columns that belong to the market, and stocks with reserved names, their roles.

    Args:
        columns: The roles so far; the roles of the columns are added.
        names: Columns of the market in a long table, each of which is at least an extra column.
        rate: The column of the cash rate, or None.
        source: Where the table came from, for messages.

    Raises:
        DataError: If two columns have one role.
    """
    _take_reserved(columns, names, rate, source, "extra")


def _take_reserved(
    columns: Columns, rest: Sequence[str], rate: str | None, source: str, others: str | None = None
) -> None:
    """Move columns with reserved names, and stocks with such names, to their roles. `others` is the role of others."""
    reserved = {name: name for name in rest}
    if not all(column.startswith(PRICE_PREFIX) for column in columns.assets.values()):
        reserved |= {name: columns.assets.pop(name) for name in tuple(columns.assets) if role_of(name)}
    index: list[str] = []
    for name, column in reserved.items():
        role = "extra" if name == rate else role_of(name) or others
        for found in columns.by_asset.values():
            found.pop(name, None)
        if role == "index":
            index.append(column)
        elif role in ("VIX", "extra"):
            known_as = "VIX" if role == "VIX" else name.strip()
            if known_as in columns.extra:
                got = f"{columns.extra[known_as]} and {column}"
                raise DataError(f"{known_as} must be one column, got {got} ({source}). Keep one.")
            columns.extra[known_as] = column
        else:
            columns.left_out[name] = CASH_RATE if role == "rate" else "no role"
    if len(index) > 1:
        raise DataError(f"the index must be one column, got {', '.join(index)} ({source}). Keep one of them.")
    columns.index = index[0] if index else None
