"""The days of a table: the column that holds them, and the day and the time zone that a timestamp means."""

from __future__ import annotations

from datetime import tzinfo
from zoneinfo import available_timezones

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rllib_portfolio.errors import DataError
from rllib_portfolio.market.labels import CALENDAR_NAMES, key, plain

DATE_NAMES = ("date", "datetime", "timestamp", "time")
"""Names, as `labels.key` makes them, of a column that holds the days."""

DATE_COLUMN, TIME_ZONE = "date_column", "time_zone"
"""Attributes of a dated frame: the name that its column of days had, and the time zone of its timestamps or None."""

LIKELY_ZONES = ("America/New_York", "Europe/Berlin", "Europe/London", "America/Chicago", "Australia/Sydney")
"""Time zones that are tried before all others if timestamps have only offsets from UTC."""


def names_days(label: object) -> bool:
    """Return whether a column or index with this label holds the days."""
    return key(plain(label)) in DATE_NAMES


def dated(frame: pd.DataFrame, source: str) -> pd.DataFrame:
    """Take the days from the column with a name of `DATE_NAMES`, or from the first column if there is none.

    Args:
        frame: A table with its days in a column.
        source: Where the table came from, for messages.

    Returns:
        The other columns, with the days as a DatetimeIndex without time zone, in the order of the table. The days are
        local days in the time zone of the timestamps, which `attrs` hold.

    Raises:
        DataError: If there are two columns of days, a cell that is no day, or timestamps of several time zones.
    """
    named = [position for position, label in enumerate(frame.columns) if names_days(label)]
    if len(named) > 1:
        found = ", ".join(frame.columns[named])
        raise DataError(
            f"the price file must have one column of days, got {found} ({source}). Remove the others, or rename what "
            "is an asset."
        )
    position = named[0] if named else 0
    name = str(frame.columns[position])
    days, zone = _days(frame.iloc[:, position].rename(name), source)
    rest = frame.iloc[:, [other for other in range(frame.shape[1]) if other != position]].set_axis(days, axis=0)
    rest.attrs = {**frame.attrs, DATE_COLUMN: name, TIME_ZONE: zone}
    return rest


def repeats_calendar(column: pd.Series) -> bool:
    """Return whether a column repeats a part of the days of the rows: the year, the week, the day of the week.

    The column must have a name of `CALENDAR_NAMES`. Its numbers are compared, too, because a stock may be called DAY.
    Any hours are accepted, because the days have none.
    """
    part = CALENDAR_NAMES[key(str(column.name))]
    numbers = pd.to_numeric(column, errors="coerce").to_numpy(dtype=float)
    if part == "hour":
        return bool(np.isin(numbers, np.arange(24)).all())
    return any(np.array_equal(numbers, reading) for reading in _readings(part, pd.DatetimeIndex(column.index)))


def _readings(part: str, days: pd.DatetimeIndex) -> list[NDArray[np.float64]]:
    """Return the numbers of days under each convention: weeks count from 0 or 1, and begin on Sunday or Monday."""
    if part == "weekday":
        from_monday = days.day_of_week.to_numpy(dtype=float)
        from_sunday = (from_monday + 1.0) % 7.0
        return [from_monday, from_monday + 1.0, from_sunday, from_sunday + 1.0]
    if part == "week":
        counted = [days.strftime(rule).to_numpy().astype(float) for rule in ("%U", "%W")]
        return [days.isocalendar().week.to_numpy(dtype=float), *counted, *(week + 1.0 for week in counted)]
    return [getattr(days, part).to_numpy(dtype=float)]


def require_one_zone(prices: pd.DataFrame, prices_source: str, index: pd.DataFrame, index_source: str) -> None:
    """Raise a DataError unless two tables are in one time zone; otherwise one moment could lie on two days.

    The error is also raised if only one of the tables has a time zone, as pandas does when it joins such tables. Two
    zones with the same offsets on all days of the prices count as one.

    Args:
        prices: Dated table of the prices, with its time zone in `attrs`.
        prices_source: Where the prices came from, for messages.
        index: Dated table of the index, with its time zone in `attrs`.
        index_source: Where the index came from, for messages.
    """
    zones, sources = [frame.attrs[TIME_ZONE] for frame in (prices, index)], (prices_source, index_source)
    if zones[0] == zones[1]:
        return
    if None not in zones:
        noons = pd.DatetimeIndex(prices.index.unique()).shift(12, freq="h")
        first, second = (noons.tz_localize(zone, ambiguous="NaT", nonexistent="NaT").tz_convert(None) for zone in zones)
        if first.equals(second):
            return
    told = [f"{zone or 'no time zone'} ({source})" for zone, source in zip(zones, sources, strict=True)]
    raise DataError(
        f"prices and index must be in one time zone, got {told[0]} and {told[1]}. Write the days of the exchange into "
        "both as YYYY-MM-DD, or convert the stamps of one to the zone of the other."
    )


def _days(column: pd.Series, source: str) -> tuple[pd.DatetimeIndex, tzinfo | None]:
    if pd.api.types.is_datetime64_any_dtype(column.dtype):
        _check_each_day(column, column.isna(), source)
        days = pd.DatetimeIndex(column)
    else:
        text = column.astype("string")
        moments = pd.to_datetime(text, format="ISO8601", errors="coerce", utc=True)
        # Shorter text is a year, a month or a row number, not a day.
        _check_each_day(column, moments.isna() | (text.str.len() < 8).fillna(True), source)
        try:
            days = pd.DatetimeIndex(pd.to_datetime(text, format="ISO8601"))
        except ValueError:  # several offsets from UTC
            days = _local_time(text, pd.DatetimeIndex(moments), source)
    return days.tz_localize(None).normalize().rename("date"), days.tz


def _local_time(text: pd.Series, moments: pd.DatetimeIndex, source: str) -> pd.DatetimeIndex:
    """Return the moments in the time zone that has the offset of each timestamp, including summer time."""
    offsets = text.str.extract(r"\d[T ].*?(Z|[+-]\d\d(?::?\d\d)?)$")[0]
    if offsets.notna().all():
        written = pd.to_datetime(text.str.replace(r"(Z|[+-]\d\d(?::?\d\d)?)$", "", regex=True), format="ISO8601")
        local = pd.DatetimeIndex(written)
        first_of_each = np.unique(offsets.to_numpy(), return_index=True)[1]
        known = available_timezones()
        for zone in (*(zone for zone in LIKELY_ZONES if zone in known), *sorted(name for name in known if "/" in name)):
            for rows in (first_of_each, slice(None)):  # few moments rule out most zones
                if not moments[rows].tz_convert(zone).tz_localize(None).equals(local[rows]):
                    break
            else:
                return moments.tz_convert(zone)
    told = "stamps with and without an offset from UTC"
    if offsets.notna().all():
        told = f"offsets from UTC that no zone has on these days: {', '.join(sorted(offsets.unique()))}"
    raise DataError(f"{text.name} must be in one time zone, got {told} ({source}). Write plain days (YYYY-MM-DD).")


def _check_each_day(column: pd.Series, bad: pd.Series, source: str) -> None:
    if bad.any():
        row = int(bad.to_numpy().argmax())
        raise DataError(
            f"{column.name} must hold days as YYYY-MM-DD, got {str(column.iloc[row])!r} ({source}, row {row + 1}). "
            "Give the table a date column, in ISO 8601."
        )
