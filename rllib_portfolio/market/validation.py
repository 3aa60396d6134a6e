"""Checks of a price table before anything is computed from it. Nothing is filled or dropped silently."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pandas as pd

from rllib_portfolio.config import MarketConfig
from rllib_portfolio.config.user_values import require_annual_rate, require_names
from rllib_portfolio.dates import Dates, are_intraday, date_text
from rllib_portfolio.errors import ConfigError, DataError
from rllib_portfolio.market.data import CASH
from rllib_portfolio.market.features import warm_up
from rllib_portfolio.market.frequency import DAYS_A_YEAR, largest_step, periods_per_year, require_one_rhythm
from rllib_portfolio.market.life_checks import require_lives, require_moving_ends
from rllib_portfolio.market.lives import life_rows, with_total_losses, within
from rllib_portfolio.market.plausibility import MIN_ROWS, doubt, require_prices
from rllib_portfolio.market.table import PriceTable

MAX_CLOSURE_DAYS = 183
"""Calendar days for which an exchange may have been closed; New York's was closed for 138 days in 1914."""
YEARS_PER_CLOSURE = 2
"""Fewest years per closure of an exchange; more frequent holes are an error in the table."""
RECURRING = 3
"""Number of holes from which on they count as a pattern of the table."""
LARGEST_SHARE_OF_CHANGES = 0.2
"""A column with a larger share of values of 0 or less holds changes, not prices."""


def validate_table(table: PriceTable, config: MarketConfig) -> PriceTable:
    """Check a table, and forward-fill at most `config.fill_days` days in a row within the lives of its assets.

    Args:
        table: The table as it was read.
        config: How missing prices are read, cash rate, and stated rows per year.

    Returns:
        The table, with filled cells, ends in place of prices of 0, and notes on fills and closures of the exchange.

    Raises:
        ConfigError: If `cash_rate` or `periods_per_year` does not fit the table.
        DataError: If the table has a fault; names table, column, day and remedy of the first one.
    """
    _check_names(table)
    _check_days(table)
    require_one_rhythm(table.dates, table.source)
    closures = _closures(table, periods_per_year(table.dates, config, table.source))
    table = replace(table, notes=(*table.notes, *closures))
    table = with_total_losses(table)
    if not config.accept_moves:
        require_moving_ends(table)
    table = _filled(table, config.fill_days)
    _check_prices(table.prices, table.source, config.fill_days, may_be_missing=True)
    if table.index is not None:
        _check_prices(table.index.to_frame("index"), table.source, config.fill_days)
    require_lives(table, config)
    _check_extra(table.extra, table.source)
    _check_asset_extra(table)
    if isinstance(config.cash_rate, str):
        _check_rate(table, config.cash_rate)
    return table


def plausibility_notes(table: PriceTable, config: MarketConfig) -> tuple[str, ...]:
    """Return a note on each column that does not look like prices but was accepted.

    Args:
        table: A valid table.
        config: Whether implausible columns and moves are accepted, and the stated rows per year.

    Raises:
        DataError: If a column has no price, or such a column was not accepted; names the first one, what was measured,
            and what it may be.
    """
    periods = periods_per_year(table.dates, config, table.source)
    notes = []
    columns = (each for levels in _levels(table) for each in zip(levels, levels.to_numpy(dtype=float).T, strict=True))
    for name, with_gaps in columns:  # not `levels.items()`, which builds a Series for each column
        values = with_gaps[~np.isnan(with_gaps)]
        if not len(values):
            raise DataError(
                f"{name} must have a price, got none on any day ({table.source}). Leave it out of the table or of "
                "market.assets."
            )
        if not config.accept_moves:
            require_prices(str(name), values, periods, table.source)
        elif (found := doubt(values, periods)) is not None:
            notes.append(f"{name} looks like {found[1]}, and was accepted (market.accept_moves): {found[0]}.")
    return tuple(notes)


def _levels(table: PriceTable) -> tuple[pd.DataFrame, ...]:
    """Return the prices, and the level of the index in a separate table, because an asset may be called index, too."""
    return (table.prices,) if table.index is None else (table.prices, table.index.to_frame("index"))


def _check_names(table: PriceTable) -> None:
    names = [str(name) for name in table.prices.columns]
    if not names:
        raise DataError(f"the table must hold at least one asset, got none ({table.source}). Add a price column.")
    extra = (*map(str, table.extra.columns), *map(str, table.asset_extra))
    require_names([*names, *extra], "columns", table.source, DataError)
    counts = Counter(names)
    for name in names:
        if not name.strip() or counts[name] > 1:
            raise DataError(f"asset names must be different and not empty, got {name!r} ({table.source}). Rename it.")
        if name.strip().upper() == CASH:
            raise DataError(
                f"asset names must not be {CASH}, got {name!r} ({table.source}). Cash is always there: rename the "
                "asset, or leave it out and set cash_rate."
            )


def _check_days(table: PriceTable) -> None:
    days = table.prices.index
    if not isinstance(days, pd.DatetimeIndex):
        raise DataError(f"prices must be indexed by days, got {type(days).__name__} ({table.source}). Use dates.")
    if len(days) < 2:
        raise DataError(f"the table must hold at least two days, got {len(days)} ({table.source}). Add rows.")
    steps = np.diff(table.dates).astype(int)
    if (steps == 0).any():
        hours = "hour. If clocks were set back, write the stamps with their offsets from UTC"
        remedy = f"Keep one row per {hours if are_intraday(table.dates) else 'day'}."
        raise DataError(f"dates must be unique, got {_hole(table, int((steps == 0).argmax()))}. {remedy}")
    if (steps < 0).any():
        raise DataError(f"dates must increase, got {_hole(table, int((steps < 0).argmax()))}. Sort the rows by date.")


def _closures(table: PriceTable, periods: int) -> tuple[str, ...]:
    """Return a note on the rare periods in which an exchange was closed.

    Raises:
        DataError: If holes in the calendar are too many, or too long, to be closures.
    """
    dates, largest = table.dates, largest_step(periods)
    steps = np.diff(dates.astype("datetime64[D]")).astype(int)
    holes = np.flatnonzero(steps > largest)
    if not len(holes):
        return ()
    years = float(steps.sum()) / DAYS_A_YEAR
    num_days = 1 + np.count_nonzero(steps)
    num_allowed = max(1, int(years / YEARS_PER_CLOSURE)) if num_days >= MIN_ROWS else 0
    longest = max(largest, MAX_CLOSURE_DAYS)
    if len(holes) > num_allowed or steps.max() > longest:
        row, limit = (int(holes[0]), largest) if len(holes) > num_allowed else (int(steps.argmax()), longest)
        also = f", and {len(holes) - 1} more" if len(holes) > 1 else ""
        raise DataError(
            f"dates must have no hole of more than {limit} calendar days, got {_hole(table, row)}{also}. "
            f"{_remedy(dates, len(holes))}"
        )
    spans = ", ".join(f"{dates[row]} to {dates[row + 1]} ({steps[row]} days)" for row in holes)
    return (f"There are no rows for longer than usual, as when an exchange is closed: {spans}.",)


def _remedy(dates: Dates, num_holes: int) -> str:
    """Return a remedy for the holes in a table."""
    if num_holes < RECURRING:
        return "Add the missing days, or cut the table."
    day_of_month = (dates.astype("datetime64[D]") - dates.astype("datetime64[M]")).astype(int) + 1
    if day_of_month.max() <= 12:
        return "Days and months look exchanged (no day is after the 12th): write the dates as YYYY-MM-DD."
    return "Rows seem to be missing repeatedly: add them, or keep one row per week or per month throughout."


def _hole(table: PriceTable, row: int) -> str:
    return f"{table.dates[row + 1]} after {table.dates[row]} ({table.source}, row {row + 2})"


def _filled(table: PriceTable, fill_days: int) -> PriceTable:
    if fill_days == 0:
        return table
    parts = (table.prices, table.extra, *_levels(table)[1:])
    prices, extra, *index = filled = [part.ffill(limit=fill_days) for part in parts]
    if prices.isna().to_numpy().any() or table.exits:
        filled[0] = prices = prices.where(within(life_rows(table, fill_days), len(prices)))
    counts = pd.concat([old.isna().sum() - new.isna().sum() for old, new in zip(parts, filled, strict=True)])
    counts = counts[counts > 0]
    if counts.empty:
        return table
    listed = ", ".join(f"{name} {count:.0f}" for name, count in counts.items())
    note = f"{counts.sum():.0f} missing cells were filled forward, at most {fill_days} days in a row: {listed}."
    level = index[0]["index"] if index else None
    return replace(table, prices=prices, extra=extra, index=level, notes=(*table.notes, note))


def _check_prices(prices: pd.DataFrame, source: str, fill_days: int, *, may_be_missing: bool = False) -> None:
    values = prices.to_numpy(dtype=float)
    with np.errstate(invalid="ignore"):
        bad = ~(np.isfinite(values) & (values > 0.0))
    if may_be_missing:
        bad &= ~np.isnan(values)
    if not bad.any():
        return
    row, column = (int(position) for position in np.argwhere(bad)[0])
    value = values[row, column]
    where = f"{source}, {date_text(prices.index[row])}"
    share = float((values[:, column] <= 0.0).mean())
    if share > LARGEST_SHARE_OF_CHANGES and len(values) >= MIN_ROWS:
        raise DataError(
            f"{prices.columns[column]} must be a column of prices, got {100 * share:.0f} % of its values at 0 or below "
            f"({where}). It looks like returns or other changes: give the prices themselves, or leave it out."
        )
    if np.isnan(value):
        raise DataError(
            f"{prices.columns[column]} must have a price on each day, got a gap longer than fill_days = {fill_days} "
            f"({where}). Complete the column, start the table later, or raise fill_days."
        )
    raise DataError(
        f"{prices.columns[column]} must be a positive finite price, got {value:g} ({where}). Correct the cell."
    )


def _check_extra(extra: pd.DataFrame, source: str) -> None:
    """Raise a DataError unless each extra column is finite after its leading NaN, which are a warm-up."""
    for name in extra.columns:
        values = extra[name].to_numpy(dtype=float)
        first = warm_up(values)
        bad = np.isinf(values)
        bad[first:] |= np.isnan(values[first:])
        if bad.any() or first == len(values):
            row = int(bad.argmax())
            raise DataError(
                f"{name} must be a finite number on each day after its first, got {values[row]:g} "
                f"({source}, {date_text(extra.index[row])}). Complete the column, or raise fill_days."
            )


def _check_asset_extra(table: PriceTable) -> None:
    """Raise a DataError unless the user's columns per asset are finite where they have a value."""
    for name, frame in table.asset_extra.items():
        is_infinite = np.isinf(frame.to_numpy(dtype=float))
        if is_infinite.any():
            row, column = (int(position) for position in np.argwhere(is_infinite)[0])
            raise DataError(
                f"{name} must be a finite number or missing, got an infinite one of {frame.columns[column]} "
                f"({table.source}, {date_text(frame.index[row])}). Correct the cell, or leave it empty."
            )


def _check_rate(table: PriceTable, name: str) -> None:
    if name not in table.extra.columns:
        raise ConfigError(f"cash_rate must be a number or a column of the table, got {name!r} ({table.source}).")
    values = table.extra[name].to_numpy(dtype=float)
    for day, rate in zip(table.extra.index, values, strict=True):
        require_annual_rate(rate, name, f"{table.source}, {date_text(day)}", DataError)
