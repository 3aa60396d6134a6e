"""The days of a table, or its hours: the column that holds them, and what a timestamp and its time zone mean."""

from __future__ import annotations

from datetime import UTC, tzinfo

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rllib_portfolio.dates import minutes_between
from rllib_portfolio.errors import DataError
from rllib_portfolio.market.day_formats import Days, days_of_text
from rllib_portfolio.market.labels import CALENDAR_NAMES, TICKER_NAMES, key, plain

DATE_NAMES = ("date", "datetime", "timestamp", "time")
"""Names, as `labels.key` makes them, of a column that holds the days."""

TIME_ZONE, DAY_FORMAT = "time_zone", "day_format"
"""Attributes of a dated frame: the time zone of its timestamps or None, and the format in which its days were written
if day and month could be exchanged in it, or None."""

LEAST_STAMPS_A_DAY = 2.0
"""Usual number of time stamps per day from which on the rows are hours, not days."""
SHORTEST_STEP = 60.0
"""Least usual number of minutes between two time stamps of a day."""


def names_days(label: object) -> bool:
    """Return whether a column or index with this label holds the days."""
    return key(plain(label)) in DATE_NAMES


def dated(frame: pd.DataFrame, source: str, date_format: str | None = None) -> pd.DataFrame:
    """Take the days from the column with a name of `DATE_NAMES`, or from the first column if there is none.

    A long table may also have its days in a column whose name ends in date (datadate, trade_date).

    Args:
        frame: A table with its days in a column.
        source: Where the table came from, for messages.
        date_format: Format of the days, see `MarketConfig.date_format`.

    Returns:
        The other columns, with the days as a DatetimeIndex without time zone, in the order of the table. The days are
        local days in the time zone of the timestamps, which `attrs` hold. If a usual day has several timestamps, they
        stay as they are, to the minute; those with a time zone are in UTC, in which no hour repeats.

    Raises:
        DataError: If there are two columns of days, a cell that is no day, timestamps of several time zones, or rows
            that are shorter than an hour.
    """
    named = [position for position, label in enumerate(frame.columns) if names_days(label)]
    if not named and any(key(plain(label)) in TICKER_NAMES for label in frame.columns):
        named = [position for position, label in enumerate(frame.columns) if key(plain(label)).endswith("date")]
    if len(named) > 1:
        found = ", ".join(frame.columns[named])
        raise DataError(
            f"the price file must have one column of days, got {found} ({source}). Remove the others, or rename what "
            "is an asset."
        )
    position = named[0] if named else 0
    name = str(frame.columns[position])
    days, zone, written = _days(frame.iloc[:, position].rename(name), date_format, source)
    rest = frame.iloc[:, [other for other in range(frame.shape[1]) if other != position]].set_axis(days, axis=0)
    rest.attrs = {**frame.attrs, TIME_ZONE: zone, DAY_FORMAT: written}
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
    if part == "day":
        return [days.day.to_numpy(dtype=float), *_readings("weekday", days)]
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


def _days(
    column: pd.Series, date_format: str | None, source: str
) -> tuple[pd.DatetimeIndex, tzinfo | None, str | None]:
    """Return the day of each row, the time zone, and the format in which day and month could be exchanged."""
    if pd.api.types.is_datetime64_any_dtype(column.dtype):
        _check_each_day(column, column.isna(), date_format, source)
        stamps = pd.DatetimeIndex(column)
        found = Days(stamps)
        codes, different = np.arange(len(stamps)), found.moments
    else:
        codes, texts = pd.factorize(
            column if isinstance(column.dtype, pd.CategoricalDtype) else column.astype("string")
        )
        found = days_of_text(pd.Series(texts).astype("string").rename(str(column.name)), date_format, source)
        different = found.moments
        bad = np.append(np.asarray(different.isna()), True)  # the code of an empty cell is -1
        _check_each_day(column, pd.Series(bad[codes]), date_format, source)
    local = different.tz_localize(None)
    days, zone = local.normalize(), different.tz
    if _are_hours(local, len(codes), source):
        days = (local if zone is None else different.tz_convert(UTC).tz_localize(None)).floor("min")
        zone = None if zone is None else UTC
    return days.take(codes).rename("date"), zone, found.written


def _are_hours(stamps: pd.DatetimeIndex, num_rows: int, source: str) -> bool:
    """Return whether a usual day has several time stamps; raise a DataError if they are less than an hour apart.

    In a long table a usual day is the mean one, because assets with different closing times make two stamps of a day.
    """
    different = stamps.unique().sort_values()
    a_day = pd.Series(1, different.normalize()).groupby(level=0).size()
    usual = a_day.median() if len(different) == num_rows else a_day.mean()
    if not usual >= LEAST_STAMPS_A_DAY:
        return False
    if (minutes := minutes_between(different.to_numpy())) < SHORTEST_STEP:
        raise DataError(
            f"rows must be hours, days or longer periods, got {a_day.mean():.1f} time stamps a day, usually one every "
            f"{minutes:g} minutes ({source}). Keep the last row of each hour, or of each day: "
            'frame.groupby(frame.index.ceil("h")).last(), or normalize() in place of ceil("h").'
        )
    return True


def _check_each_day(column: pd.Series, bad: pd.Series, date_format: str | None, source: str) -> None:
    if bad.any():
        row = int(bad.to_numpy().argmax())
        written = "YYYY-MM-DD" if date_format is None else f"{date_format} (market.date_format)"
        remedy = (
            "Correct the cell, or the format."
            if date_format
            else ("Give the table a date column, in ISO 8601, or state its format in market.date_format.")
        )
        raise DataError(
            f"{column.name} must hold days as {written}, got {str(column.iloc[row])!r} ({source}, row {row + 1}). "
            f"{remedy}"
        )
