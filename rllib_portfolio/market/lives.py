"""Lives of assets: from missing prices and stated ends to the days on which each asset is listed, quoted and a member.

A life is one block of rows from the first price of an asset to the row before its end. An end is stated in
`PriceTable.exits`, follows from a price of 0 (a total loss), or is a sale at the last price if
`market.default_exit_return` is set. Nothing else may be missing: what is not clear is an error.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rllib_portfolio.arrays import FloatArray
from rllib_portfolio.config import MarketConfig
from rllib_portfolio.errors import DataError
from rllib_portfolio.market.table import Exit, PriceTable
from rllib_portfolio.market.universe import BoolArray, Universe

LONGEST_GAP_DAYS = 365
"""Calendar days without a price after which a ticker is taken to name another asset."""
LONGEST_CONSTANT_TAIL = 20
"""Rows without a move at the end of a table from which on a column counts as padded after the end of its asset."""
MOST_NAMES = 8
"""Largest number of assets that a message lists."""
ZERO_PRICE, SALE = "price of 0", "end of prices"
"""Reasons of ends that no file states."""


def listed_names(names: Iterable[str]) -> str:
    """Return the first names, and how many there are if there are more."""
    names = list(names)
    more = f" and {len(names) - MOST_NAMES} more ({len(names)} assets)" if len(names) > MOST_NAMES else ""
    return ", ".join(names[:MOST_NAMES]) + more


def with_total_losses(table: PriceTable) -> PriceTable:
    """Return the table with a price of 0, after which there is no other price, turned into an end with return -1.

    Raises:
        DataError: If a stated end of the asset has another return.
    """
    values = table.price_values
    is_zero = values == 0.0
    prices, exits = table.prices, dict(table.exits)
    for column in np.flatnonzero(is_zero.any(axis=0)).tolist():
        row = int(is_zero[:, column].argmax())
        if np.nan_to_num(values[row:, column]).any() or not (values[:row, column] > 0.0).any():
            continue  # not an end: `validation` names the cell
        name, day = str(prices.columns[column]), prices.index[row]
        stated = exits.get(name)
        if stated is not None and stated.terminal_return > -1.0:
            raise DataError(
                f"the return of {name} in exits.csv must be -1 because its price is 0, got {stated.terminal_return:g} "
                f"({table.source}, {day:%Y-%m-%d}). Correct the return, or leave the cells from that day on empty."
            )
        if prices is table.prices:
            prices = prices.copy()
        prices.iloc[row:, column] = np.nan
        exits[name] = Exit(day, -1.0, stated.reason if stated is not None and stated.reason else ZERO_PRICE)
    return table if prices is table.prices else replace(table, prices=prices, exits=exits)


def life_rows(table: PriceTable, fill_days: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the first row of each life and the row after it, int64 [N] each; both are T without any price.

    A life lasts until the day of its stated end, or else its last price. A life without a stated end that misses at
    most `fill_days` rows of the table lasts to the end of the table.

    Args:
        table: Prices, NaN where there is none.
        fill_days: Most missing prices in a row that are filled.
    """
    quoted = ~np.isnan(table.price_values)
    num_days = len(quoted)
    has_prices = quoted.any(axis=0)
    first = np.where(has_prices, quoted.argmax(axis=0), num_days)
    stop = np.where(has_prices, num_days - quoted[::-1].argmax(axis=0), num_days)
    for column, name in enumerate(map(str, table.prices.columns)):
        end = table.exits.get(name)
        if end is not None and end.date is not None:
            day = np.datetime64(end.date.date(), "D")
            stop[column] = max(stop[column], int(np.searchsorted(table.dates, day)))
        elif end is None and num_days - stop[column] <= fill_days:
            stop[column] = num_days
    return first, stop


def within(rows: tuple[NDArray[np.int64], NDArray[np.int64]], num_days: int) -> BoolArray:
    """Return whether each row lies within the life of each asset, bool [T, N], for the rows of `life_rows`."""
    days = np.arange(num_days)[:, None]
    return np.asarray((days >= rows[0]) & (days < rows[1]))


def require_lives(table: PriceTable, config: MarketConfig) -> None:
    """Check that the lives of the assets are clear, after the prices have been filled.

    Args:
        table: Positive prices, NaN where there is none.
        config: How gaps and ends without a stated return are read.

    Raises:
        DataError: If there is an end of an unknown asset, a ticker was used twice, prices are missing within a life, a
            stated end contradicts the prices, or an end is not known.
    """
    names, quoted = [str(name) for name in table.prices.columns], ~np.isnan(table.price_values)
    unknown = [name for name in table.exits if name not in set(names)]
    if unknown:
        raise DataError(
            f"exits must be of assets of the table, got {listed_names(unknown)} ({table.source}). Remove them."
        )
    if quoted.all() and not table.exits:
        return
    first, stop = life_rows(table, 0)
    last = np.where(quoted.any(axis=0), len(quoted) - 1 - quoted[::-1].argmax(axis=0), -1)
    _require_one_asset_per_name(table, quoted)
    _require_no_price_after_an_end(table, last)
    if config.gaps == "refuse":
        _require_no_gaps(table, config.fill_days, within((first, stop), len(quoted)) & ~quoted, last)
    _require_known_ends(table, config, names, stop, last)


def _require_one_asset_per_name(table: PriceTable, quoted: BoolArray) -> None:
    for column in np.flatnonzero(~quoted.all(axis=0)).tolist():
        days = table.dates[quoted[:, column]]
        steps = np.diff(days).astype(int)
        if len(steps) and steps.max() > LONGEST_GAP_DAYS:
            row, name = int(steps.argmax()), table.prices.columns[column]
            raise DataError(
                f"{name} must be the name of one asset, got no price for {steps[row]} days ({table.source}, "
                f"{days[row]} to {days[row + 1]}). If the ticker was used again, give each asset a column with a "
                f"name of its own, such as {name}_old and {name}; if it is one asset, cut off one of the parts."
            )


def _require_no_price_after_an_end(table: PriceTable, last: NDArray[np.int64]) -> None:
    for column, name in enumerate(map(str, table.prices.columns)):
        end = table.exits.get(name)
        if end is None or end.date is None or last[column] < 0:
            continue
        if end.date.date() <= (day := pd.Timestamp(table.dates[last[column]])).date():
            raise DataError(
                f"the end of {name} must be after its last price, got {end.date:%Y-%m-%d} and a price on "
                f"{day:%Y-%m-%d} ({table.source}). Its date is the first day on which {name} is not listed: correct "
                "the date, or leave the cells from that day on empty."
            )


def _require_no_gaps(table: PriceTable, fill_days: int, missing: BoolArray, last: NDArray[np.int64]) -> None:
    if not missing.any():
        return
    row, column = (int(position) for position in np.argwhere(missing)[0])
    name, day = table.prices.columns[column], f"{table.prices.index[row]:%Y-%m-%d}"
    after = missing[row:, column]
    length = int(after.argmin()) if not after.all() else len(after)
    if row > last[column]:
        end = table.exits[str(name)].date
        raise DataError(
            f"the end of {name} must follow its last price, got {end:%Y-%m-%d} after {length} rows without a price "
            f"({table.source}, from {day}). Correct the date; if trading was halted before the end, set market.gaps to "
            "halt."
        )
    raise DataError(
        f"{name} must have a price on each day, got a gap of {length} rows, longer than fill_days = "
        f"{fill_days} ({table.source}, {day}). Complete the column, raise market.fill_days, or set market.gaps to halt "
        "if trading was halted."
    )


def _require_known_ends(
    table: PriceTable, config: MarketConfig, names: Sequence[str], stop: NDArray[np.int64], last: NDArray[np.int64]
) -> None:
    if config.default_exit_return is not None:
        return
    ended = (stop < len(table.prices)) & (last >= 0)
    unknown = [
        name for name, is_over in zip(names, ended, strict=True)
        if is_over and (name not in table.exits or np.isnan(table.exits[name].terminal_return))
    ]  # fmt: skip
    if unknown:
        row = int(last[names.index(unknown[0])])
        raise DataError(
            f"{listed_names(unknown)} must have a price on each day up to the last, {table.prices.index[-1]:%Y-%m-%d}, "
            f"or a return in exits.csv, got no price of {unknown[0]} after {table.prices.index[row]:%Y-%m-%d} "
            f"({table.source}). Complete the prices, add rows asset,date,return,reason to exits.csv beside the table, "
            "or set market.default_exit_return."
        )


def require_moving_ends(table: PriceTable) -> None:
    """Raise a DataError if a column repeats its last price up to the end of the table, as vendors pad the dead.

    A column that never moves is not judged here.

    Args:
        table: Prices before they are filled, NaN where there is none.
    """
    values = table.price_values
    if len(values) < LONGEST_CONSTANT_TAIL:
        return
    tail = values[-LONGEST_CONSTANT_TAIL:]
    for column in np.flatnonzero((tail == tail[-1]).all(axis=0)).tolist():
        quotes = values[:, column][~np.isnan(values[:, column])]
        moves = np.flatnonzero(np.diff(quotes))
        if not len(moves):
            continue
        rows, name = len(quotes) - 1 - int(moves[-1]), table.prices.columns[column]
        raise DataError(
            f"{name} must move up to the end of the table, got the price {quotes[-1]:g} on each of the last "
            f"{rows} rows ({table.source}, from {table.prices.index[-rows]:%Y-%m-%d}). Vendors repeat the last price of "
            "an asset that has left: leave these cells empty and add the end to exits.csv. If the prices are real, set "
            "market.accept_moves to true."
        )


def universe_of(table: PriceTable, config: MarketConfig, *, is_needed: bool = False) -> Universe | None:
    """Return the universe of a valid table, or None if each asset is always listed, quoted and a member.

    Args:
        table: The table after `validate_table`.
        config: Return of an end that is not stated.
        is_needed: True to return a universe for a complete table, too.
    """
    quoted = ~np.isnan(table.price_values)
    listed = within(life_rows(table, 0), len(quoted))
    member = listed if table.membership is None else listed & np.asarray(table.membership, dtype=np.bool_)
    if quoted.all() and member.all() and not is_needed:
        return None
    num_assets = quoted.shape[1]
    exit_return, is_sold = np.full(num_assets, np.nan), np.zeros(num_assets, dtype=np.bool_)
    has_ended = listed.any(axis=0) & ~listed[-1]
    for column in np.flatnonzero(has_ended).tolist():
        end = table.exits.get(str(table.prices.columns[column]))
        stated = np.nan if end is None else end.terminal_return
        is_sold[column] = np.isnan(stated)
        exit_return[column] = config.default_exit_return if is_sold[column] else stated
    return Universe(listed, member.copy(), quoted, exit_return, is_sold)


def universe_notes(table: PriceTable, universe: Universe) -> tuple[str, ...]:
    """Return sentences on who lists late, leaves, is halted and is a member.

    Args:
        table: The table after `validate_table`.
        universe: Its universe.
    """
    listed, member = universe.listed, universe.member
    is_late = listed.any(axis=0) & ~listed[0]
    has_left = listed.any(axis=0) & ~listed[-1]
    reasons = Counter(
        _reason(table.exits.get(str(name))) for name in table.prices.columns[has_left]
    )  # fmt: skip
    counted = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
    losses = int((universe.exit_return[has_left] == -1.0).sum())
    left = f"{has_left.sum()} leave ({counted}; {losses} with a total loss)" if has_left.any() else "none leaves"
    sizes = member.sum(axis=1)[member.any(axis=1)]
    notes = [
        f"Universe: of {listed.shape[1]} assets {is_late.sum()} list late and {left}; "
        f"{sizes.min(initial=listed.shape[1])} to {sizes.max(initial=0)} can be held on a day."
    ]
    if universe.halted.any():
        assets, cells = universe.halted.any(axis=0), int(universe.halted.sum())
        notes.append(f"Trading halts (market.gaps): {cells} days without a price of {assets.sum()} assets.")
    if table.membership is not None:
        never = [str(name) for name, is_member in table.membership.any().items() if not is_member]
        notes.append(
            "Membership is that of membership.csv"
            + (f"; without a period in it, and never held: {listed_names(never)}." if never else ".")
        )
    if universe.is_sold.any():
        notes.append(
            f"The ends of {universe.is_sold.sum()} assets are not stated: they are sold for "
            f"{_sold_for(universe.exit_return[universe.is_sold][0])} their last price (market.default_exit_return)."
        )
    if not has_left.any():
        notes.append("No asset leaves the table: if it holds survivors only, every return on it is biased upward.")
    return tuple(notes)


def _reason(end: Exit | None) -> str:
    return (end.reason if end is not None else "") or ("without a reason" if end is not None else SALE)


def _sold_for(exit_return: float) -> str:
    return f"{100.0 * (1.0 + exit_return):.4g} % of"


def booked_returns(simple: FloatArray, universe: Universe) -> FloatArray:
    """Return the returns that `MarketData` holds, [T, N]: those between quotes, and those of exits.

    Args:
        simple: Simple returns between two quotes, on the row of the later one, NaN elsewhere, [T, N].
        universe: The universe of the table.
    """
    returns = np.nan_to_num(simple, nan=0.0)
    columns = np.flatnonzero(~np.isnan(universe.exit_return))
    returns[universe.exit_rows[columns], columns] = universe.exit_return[columns]
    return returns
