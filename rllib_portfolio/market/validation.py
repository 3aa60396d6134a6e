"""What a price table must fulfil before anything is computed from it. Nothing is filled or dropped silently."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pandas as pd

from rllib_portfolio.config import MarketConfig
from rllib_portfolio.errors import ConfigError, DataError
from rllib_portfolio.market.data import CASH
from rllib_portfolio.market.table import PriceTable
from rllib_portfolio.user_values import require_annual_rate

MIN_HOLE_DAYS = 14
"""Calendar days without any row that daily data may have: the longest exchange holidays are 11 to 12 days."""


def validate_table(table: PriceTable, config: MarketConfig) -> PriceTable:
    """Check a table and forward-fill at most `config.fill_days` days.

    Returns:
        The table, with a note for each column that was filled.

    Raises:
        DataError: Naming table, column, day and remedy, for the first thing that is wrong.
    """
    _check_names(table)
    _check_days(table, config.periods_per_year)
    table = _filled(table, config.fill_days)
    _check_prices(table.prices, table.source, config.fill_days)
    if table.index is not None:
        _check_prices(table.index.to_frame("index"), table.source, config.fill_days)
    _check_extra(table.extra, table.source)
    if isinstance(config.cash_rate, str):
        _check_rate(table, config.cash_rate)
    return table


def _check_names(table: PriceTable) -> None:
    names = [str(name) for name in table.prices.columns]
    if not names:
        raise DataError(f"the table must hold at least one asset, got none ({table.source}). Add a price column.")
    for name in names:
        if not name.strip() or names.count(name) > 1:
            raise DataError(f"asset names must be different and not empty, got {name!r} ({table.source}). Rename it.")
        if name.strip().upper() == CASH:
            raise DataError(
                f"asset names must not be {CASH}, got {name!r} ({table.source}). Cash is always there: rename the "
                "asset, or leave it out and set cash_rate."
            )


def _check_days(table: PriceTable, periods_per_year: int) -> None:
    days = table.prices.index
    if not isinstance(days, pd.DatetimeIndex):
        raise DataError(f"prices must be indexed by days, got {type(days).__name__} ({table.source}). Use dates.")
    steps = np.diff(days.to_numpy().astype("datetime64[D]")).astype(int)
    largest = max(MIN_HOLE_DAYS, 3 * 365 // periods_per_year)
    for bad, rule, remedy in (
        (steps == 0, "be unique", "Keep one row per day"),
        (steps < 0, "increase", "Sort the rows by date"),
        (
            steps > largest,
            f"have no hole of more than {largest} calendar days",
            "Add the missing days, or cut the table",
        ),
    ):
        if bad.any():
            row = int(bad.argmax())
            raise DataError(
                f"dates must {rule}, got {days[row + 1]:%Y-%m-%d} after {days[row]:%Y-%m-%d} "
                f"({table.source}, row {row + 2}). {remedy}."
            )
    if days[-1] - days[0] < timedelta(days=1):
        raise DataError(f"the table must hold at least two days, got {len(days)} ({table.source}). Add rows.")


def _filled(table: PriceTable, fill_days: int) -> PriceTable:
    if fill_days == 0:
        return table
    parts: list[pd.DataFrame] = [table.prices, table.extra]
    if table.index is not None:
        parts.append(table.index.to_frame("index"))
    after = [part.ffill(limit=fill_days) for part in parts]
    counts = {
        str(name): int(count)
        for old, new in zip(parts, after, strict=True)
        for name, count in (old.isna().sum() - new.isna().sum()).items()
        if count
    }
    if not counts:
        return table
    listed = ", ".join(f"{name} {count}" for name, count in counts.items())
    note = f"{sum(counts.values())} missing cells were filled forward, at most {fill_days} days in a row: {listed}."
    index = after[2]["index"] if table.index is not None else None
    return replace(table, prices=after[0], extra=after[1], index=index, notes=(*table.notes, note))


def _check_prices(prices: pd.DataFrame, source: str, fill_days: int) -> None:
    values = prices.to_numpy(dtype=float)
    with np.errstate(invalid="ignore"):
        bad = ~(np.isfinite(values) & (values > 0.0))
    if not bad.any():
        return
    row, column = (int(position) for position in np.argwhere(bad)[0])
    value = values[row, column]
    where = f"{source}, {prices.index[row]:%Y-%m-%d}"
    if np.isnan(value):
        raise DataError(
            f"{prices.columns[column]} must have a price on each day, got a gap longer than fill_days = {fill_days} "
            f"({where}). Complete the column, start the table later, or raise fill_days."
        )
    raise DataError(
        f"{prices.columns[column]} must be a positive finite price, got {value:g} ({where}). Correct the cell."
    )


def _check_extra(extra: pd.DataFrame, source: str) -> None:
    """Leading NaN is warm-up; anything not finite after it is an error."""
    for name in extra.columns:
        values = extra[name].to_numpy(dtype=float)
        started = np.maximum.accumulate(~np.isnan(values))
        bad = np.isinf(values) | (started & np.isnan(values))
        if bad.any() or not started.any():
            row = int(bad.argmax())
            raise DataError(
                f"{name} must be a finite number on each day after its first, got {values[row]:g} "
                f"({source}, {extra.index[row]:%Y-%m-%d}). Complete the column, or raise fill_days."
            )


def _check_rate(table: PriceTable, name: str) -> None:
    if name not in table.extra.columns:
        raise ConfigError(f"cash_rate must be a number or a column of the table, got {name!r} ({table.source}).")
    values = table.extra[name].to_numpy(dtype=float)
    for day, rate in zip(table.extra.index, values, strict=True):
        require_annual_rate(rate, name, f"{table.source}, {day.date()}", DataError)
