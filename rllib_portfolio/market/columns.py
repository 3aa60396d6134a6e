"""The role of each column of a dated table: an asset, the index, an extra column, or none.

Volume, highs and lows, reserved names, row numbers and the calendar are never assets. What cannot be told apart is
refused.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from rllib_portfolio.errors import DataError
from rllib_portfolio.market.days import DATE_COLUMN, repeats_calendar
from rllib_portfolio.market.files import LEVELS
from rllib_portfolio.market.labels import (
    ALSO_TICKERS,
    CALENDAR_NAMES,
    CLOSES,
    FAMOUS_INDICES,
    INDICATOR,
    NO_PRICES,
    OPENS,
    TICKER_NAMES,
    Cell,
    field_of,
    joined_cells,
    key,
    level_cells,
    price_among,
    role_of,
)

INDEX_COLUMN = "index"
PRICE_PREFIX = "price_"

WIDE = "a table with one price column per asset"
UNNAMED = "Unnamed:"
"""Prefix of the name that pandas gives to a column without one."""

SURELY_NUMBERED = 10
"""Number of successive rises by exactly one that prove row numbers; no index level rises like this."""


@dataclass(frozen=True, slots=True)
class Columns:
    """The role of each column.

    Attributes:
        assets: Name of each asset to the column of its prices.
        index: The column of the market index, or None.
        extra: Name of each extra column to the column in the table.
        left_out: Each column, or field of several columns, without a role, and why it has none.
        shape: The kind of table, in words.
        remarks: Other remarks on the columns for the user.
    """

    assets: Mapping[str, str]
    index: str | None = None
    extra: Mapping[str, str] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)
    shape: str = WIDE
    remarks: tuple[str, ...] = ()


def sort_columns(frame: pd.DataFrame, rate: str | None, stock: str, source: str) -> Columns:
    """Give each column of a dated frame its role.

    Args:
        frame: A table as `files.read_frame` reads it.
        rate: The column of the cash rate, or None.
        stock: Name of the asset where the table holds the bars of one stock and does not name it.
        source: For messages.

    Raises:
        DataError: If it is a long table, or a column cannot be told from an asset.
    """
    pairs, level_names = frame.attrs.get(LEVELS, ({}, ()))
    _require_wide(frame, source)
    counted = [name for name in frame.columns if name.startswith(UNNAMED) or key(name) in ("index", "level0")]
    calendar = [name for name in frame.columns if name != rate and key(name) in CALENDAR_NAMES]
    numbered = {name: "row numbers" for name in counted if _holds_row_numbers(frame[name], source)}
    numbered |= {name: "calendar" for name in calendar if repeats_calendar(frame[name])}
    names = [name for name in frame.columns if name not in numbered]
    priced = [name for name in names if name.startswith(PRICE_PREFIX) and name != rate]
    if priced:
        sorted_ = Columns({name.removeprefix(PRICE_PREFIX): name for name in priced})
        are_priced = set(priced)
        rest = [name for name in names if name not in are_priced]
    elif pairs:
        sorted_ = _of_levels(pairs, level_names, source)
        rest = [name for name in names if name not in pairs]
    else:
        rest = [name for name in names if name == rate or role_of(name)]
        sorted_ = _of_names([name for name in names if name not in rest], frame, stock, source)
    sorted_ = _with_reserved(sorted_, rest, rate, source)
    remarks = (*sorted_.remarks, *_traded(sorted_))
    return replace(sorted_, left_out={**sorted_.left_out, **numbered}, remarks=remarks)


def require_assets(columns: Columns, source: str) -> None:
    """Raise an error that lists the roles of all columns if none is an asset."""
    if not columns.assets:
        index = {} if columns.index is None else {columns.index: "the index"}
        roles = {**index, **dict.fromkeys(columns.extra, "an extra column"), **columns.left_out}
        told = ", ".join(f"{name} ({role})" for name, role in roles.items())
        raise DataError(
            f"the table must hold at least one asset, got none: {told} ({source}). Add a column of prices, or name it "
            f"{PRICE_PREFIX}<asset>."
        )


def _require_wide(frame: pd.DataFrame, source: str) -> None:
    """Raise an error that names the pandas call to pivot the table if each row holds one day of one asset."""
    repeats = not frame.index.is_unique
    others = [name for name, dtype in frame.dtypes.items() if repeats or dtype.kind == "O"]  # else one sign at most
    keys = [name for name in others if _tells_stocks(frame[name])]
    if not keys:
        return
    unnamed = [name for name in frame.columns if name.startswith(UNNAMED)]
    values = [name for name in frame.columns if name not in (*keys, *unnamed)]
    value = price_among(values) or (values or ["close"])[0]
    numbers = " Leave its row numbers out, too: to_csv(..., index=False)." if unnamed else ""
    raise DataError(
        f"a price table must have one row per day and one column per asset, got a long table with a row per day and "
        f"{keys[0]} ({source}). Pivot it: frame.pivot(index={frame.attrs.get(DATE_COLUMN, 'date')!r}, "
        f"columns={keys[0]!r}, values={value!r}).{numbers}"
    )


def _tells_stocks(column: pd.Series) -> bool:
    """Return whether a column names the stock of each row."""
    is_text = column.dtype.kind == "O" and pd.to_numeric(column.astype("string"), errors="coerce").isna().all()
    repeats = not column.index.is_unique
    names_stocks = key(str(column.name)) in TICKER_NAMES
    return bool(sum((is_text, repeats, names_stocks)) >= 2 and column.nunique() > 1)


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


def _field(name: str) -> str:
    return field_of(name) or ""


def _of_names(names: Sequence[str], frame: pd.DataFrame, stock: str, source: str) -> Columns:
    """Return the roles of columns with one name each, none of which is reserved."""
    texts = [name for name in names if key(name) in (*TICKER_NAMES, "currency") and frame[name].dtype.kind == "O"]
    told = [str(frame[name].iloc[0]) for name in texts if key(name) in TICKER_NAMES]
    names = [name for name in names if name not in texts]
    fields = [name for name in names if field_of(name)]
    closes = [name for name in fields if field_of(name) in CLOSES]
    if closes and len(fields) == len(names) and (told or len(names) > 1):
        cells = [Cell(name, (told or [stock])[0], name, _field(name)) for name in fields]
        bars = _closes(cells, "the bars of one stock", source)
        return replace(bars, left_out={**bars.left_out, **dict.fromkeys(texts, "text")})
    return _wide_or_joined(names, dict.fromkeys(texts, "text"), source)


def _wide_or_joined(names: Sequence[str], left_out: Mapping[str, str], source: str) -> Columns:
    """Return the roles in a table of prices by asset, or of several fields by stock with names such as AAPL_Close."""
    fields = {name: _field(name) for name in names if field_of(name)}
    others = [name for name in names if name not in fields]
    cells = joined_cells(others)
    beside = _beside_prices(cells, set(others) - {cell.name for cell in cells}, source)
    cells = [cell for cell in cells if cell.name not in beside]
    assets = [name for name in others if name not in beside]
    are_assets = set(assets)
    not_prices = {name: "no price" for name, found in fields.items() if found in NO_PRICES}
    if _are_bars(cells):
        if len(cells) < len(assets) or len(not_prices) < len(fields):
            _refuse(set(assets) - {cell.name for cell in cells} | set(fields), cells[0].name, source)
        joined = _closes(cells, "the bars of stocks, ticker and field in each name", source)
        return replace(joined, left_out={**joined.left_out, **beside, **not_prices, **left_out})
    remarks: tuple[str, ...] = ()
    doubtful = {name: found for name, found in fields.items() if name not in not_prices}
    if len(names) > 1 and doubtful:
        if not assets or not_prices or not set(doubtful.values()) <= set(ALSO_TICKERS):
            _refuse(doubtful, ", ".join(assets[:3]) or "no close", source)
        remarks = (f"{', '.join(doubtful)} is read as the name of an asset",)
    wide = {name: name for name in names if name in are_assets or name in doubtful}
    return Columns(wide, left_out={**beside, **not_prices, **left_out}, remarks=remarks)


def _beside_prices(cells: Sequence[Cell], alone: Collection[str], source: str) -> dict[str, str]:
    """Return the columns of other fields (AAPL_Volume) of assets whose price column has their name (AAPL)."""
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


def _of_levels(pairs: Mapping[str, tuple[str, str]], level_names: Sequence[object], source: str) -> Columns:
    cells = level_cells(list(pairs.values()), level_names)
    if cells is None:
        raise DataError(
            f"columns of two levels must be fields (Close, Volume) by ticker, got {', '.join(list(pairs)[:3])} "
            f"({source}). Keep one column of closes per asset."
        )
    return _closes(cells, "the bars of stocks, ticker and field in two levels", source)


def _closes(cells: Sequence[Cell], shape: str, source: str) -> Columns:
    """Return the close of each stock as an asset; the adjusted close is preferred."""
    by_ticker: dict[str, list[Cell]] = {}
    for cell in cells:
        by_ticker.setdefault(cell.ticker, []).append(cell)
    chosen = {}
    for ticker, group in by_ticker.items():
        found = [cell.field for cell in group]
        if len(set(found)) < len(found):
            raise DataError(f"fields of {ticker} must differ, got one twice ({source}). Keep one of each.")
        closes = [cell for cell in group if cell.field in CLOSES]
        if not closes:
            raise DataError(
                f"each stock must have a close, got {', '.join(cell.written for cell in group)} of {ticker} alone "
                f"({source}). Add its close, or remove its columns."
            )
        chosen[ticker] = min(closes, key=lambda cell: CLOSES.index(cell.field))
    read = {cell.name for cell in chosen.values()}
    written = list(dict.fromkeys(cell.written for cell in chosen.values()))
    left = dict.fromkeys((cell.written for cell in cells if cell.name not in read), "other fields")
    assets = {ticker: cell.name for ticker, cell in chosen.items()}
    return Columns(assets, left_out=left, shape=shape, remarks=(f"the price is {', '.join(written)}",))


def _with_reserved(columns: Columns, rest: Sequence[str], rate: str | None, source: str) -> Columns:
    """Return the columns with reserved names, and stocks with such names, moved to their roles."""
    is_prefixed = all(column.startswith(PRICE_PREFIX) for column in columns.assets.values())
    tickers = {} if is_prefixed else {name: column for name, column in columns.assets.items() if role_of(name)}
    assets = {name: column for name, column in columns.assets.items() if name not in tickers}
    index: list[str] = []
    extra: dict[str, str] = {}
    left_out = dict(columns.left_out)
    for name, column in ({name: name for name in rest} | tickers).items():
        role = "extra" if name == rate else role_of(name)
        if role == "index":
            index.append(column)
        elif role == "VIX" or role == "extra":
            known_as = "VIX" if role == "VIX" else name.strip()
            if known_as in extra:
                raise DataError(
                    f"{known_as} must be one column, got {extra[known_as]} and {column} ({source}). Keep one."
                )
            extra[known_as] = column
        elif role == "rate":
            left_out[name] = "a rate, which market.cash_rate may name"
        else:
            left_out[name] = "no role"
    if len(index) > 1:
        raise DataError(f"the index must be one column, got {', '.join(index)} ({source}). Keep one of them.")
    return replace(columns, assets=assets, index=index[0] if index else None, extra=extra, left_out=left_out)


def _traded(columns: Columns) -> tuple[str, ...]:
    """Return a remark on indices that are traded as assets."""
    found = [name for name in columns.assets if name.startswith("^") or key(name) in FAMOUS_INDICES]
    if not found or columns.index is not None:
        return ()
    return (f"{', '.join(found)} is read as an asset; name the column {INDEX_COLUMN} to use it as the index",)
