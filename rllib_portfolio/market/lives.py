"""Lives of assets: from missing prices and stated ends to the days on which each asset is listed, quoted and a member.

A life is one block of rows from the first price of an asset to the row before its end. An end is stated in
`PriceTable.exits`, follows from a price of 0 (a total loss), or is a sale at the last price if
`market.default_exit_return` is set. Nothing else may be missing: what is not clear is an error.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from rllib_portfolio.arrays import FloatArray
from rllib_portfolio.config import MarketConfig
from rllib_portfolio.dates import date_text
from rllib_portfolio.errors import DataError
from rllib_portfolio.market.table import Exit, PriceTable
from rllib_portfolio.market.universe import BoolArray, Universe

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
                f"({table.source}, {date_text(day)}). Correct the return, or leave the cells from that day on empty."
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
            stop[column] = max(stop[column], int(table.prices.index.searchsorted(end.date)))
        elif end is None and num_days - stop[column] <= fill_days:
            stop[column] = num_days
    return first, stop


def within(rows: tuple[NDArray[np.int64], NDArray[np.int64]], num_days: int) -> BoolArray:
    """Return whether each row lies within the life of each asset, bool [T, N].

    Args:
        rows: First row of each life and the row after it, as `life_rows` returns them, [N] each.
        num_days: T.
    """
    days = np.arange(num_days)[:, None]
    return np.asarray((days >= rows[0]) & (days < rows[1]))


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
    left = f"exits {has_left.sum()} ({counted}), of which total losses {losses}" if has_left.any() else "no exits"
    sizes = member.sum(axis=1)[member.any(axis=1)]
    notes = [
        f"Universe: assets {listed.shape[1]}; late listings {is_late.sum()}; {left}; members of a day "
        f"{sizes.min(initial=listed.shape[1])} to {sizes.max(initial=0)}."
    ]
    if universe.halted.any():
        assets, cells = universe.halted.any(axis=0), int(universe.halted.sum())
        notes.append(f"Trading halts (market.gaps): days without a price {cells}, assets {assets.sum()}.")
    if table.membership is not None and not (is_ever := table.membership.any()).all():
        never = [str(name) for name, is_member in is_ever.items() if not is_member]
        notes.append(f"Never held, because they have no period of membership: {listed_names(never)}.")
    if universe.is_sold.any():
        notes.append(
            f"Exits without a stated return {universe.is_sold.sum()}: a sale for "
            f"{100.0 * (1.0 + universe.exit_return[universe.is_sold][0]):.4g} % of the last price "
            "(market.default_exit_return)."
        )
    if not has_left.any():
        notes.append("No asset leaves the table: if it holds survivors only, every return on it is biased upward.")
    return tuple(notes)


def _reason(end: Exit | None) -> str:
    return (end.reason if end is not None else "") or ("without a reason" if end is not None else SALE)


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
