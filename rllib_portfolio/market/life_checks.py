"""Checks that the lives of assets are clear: one asset per name, no gaps, and an end that is known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rllib_portfolio.config import MarketConfig
from rllib_portfolio.dates import date_text
from rllib_portfolio.errors import DataError
from rllib_portfolio.market.lives import life_rows, listed_names, within
from rllib_portfolio.market.table import PriceTable
from rllib_portfolio.market.universe import BoolArray

LONGEST_GAP_DAYS = 365
"""Calendar days without a price after which a ticker is taken to name another asset."""
LONGEST_CONSTANT_TAIL = 20
"""Days of rows without a move at the end of a table from which on a column counts as padded after the end of its
asset."""


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
        steps = np.diff(days.astype("datetime64[D]")).astype(int)
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
        if end.date <= (day := table.prices.index[last[column]]):
            raise DataError(
                f"the end of {name} must be after its last price, got {date_text(end.date)} and a price on "
                f"{date_text(day)} ({table.source}). Its date is the first day on which {name} is not listed: correct "
                "the date, or leave the cells from that day on empty."
            )


def _require_no_gaps(table: PriceTable, fill_days: int, missing: BoolArray, last: NDArray[np.int64]) -> None:
    if not missing.any():
        return
    row, column = (int(position) for position in np.argwhere(missing)[0])
    name, day = table.prices.columns[column], date_text(table.prices.index[row])
    after = missing[row:, column]
    length = int(after.argmin()) if not after.all() else len(after)
    if row > last[column]:
        end = table.exits[str(name)].date
        raise DataError(
            f"the end of {name} must follow its last price, got {date_text(end)} after {length} rows without a price "
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
            f"{listed_names(unknown)} must have a price on each day up to the last, "
            f"{date_text(table.prices.index[-1])}, or a return in exits.csv, got no price of {unknown[0]} after "
            f"{date_text(table.prices.index[row])} ({table.source}). Complete the prices, add rows "
            "asset,date,return,reason to exits.csv beside the table, or set market.default_exit_return."
        )


def require_moving_ends(table: PriceTable) -> None:
    """Raise a DataError if a column repeats its last price up to the end of the table, as vendors pad the dead.

    A column that never moves is not judged here.

    Args:
        table: Prices before they are filled, NaN where there is none.
    """
    values, days = table.price_values, np.unique(table.dates.astype("datetime64[D]"))
    if len(days) < LONGEST_CONSTANT_TAIL:
        return
    tail = values[np.searchsorted(table.dates, days[-LONGEST_CONSTANT_TAIL]) :]
    for column in np.flatnonzero((tail == tail[-1]).all(axis=0)).tolist():
        quotes = values[:, column][~np.isnan(values[:, column])]
        moves = np.flatnonzero(np.diff(quotes))
        if not len(moves):
            continue
        rows, name = len(quotes) - 1 - int(moves[-1]), table.prices.columns[column]
        where = f"{table.source}, from {date_text(table.prices.index[-rows])}"
        raise DataError(
            f"{name} must move up to the end of the table, got the price {quotes[-1]:g} in each of the last {rows} "
            f"rows ({where}). Vendors repeat the last price of an asset that has left: leave these cells empty and add "
            "the end to exits.csv. If the prices are real, set market.accept_moves to true."
        )
