"""Days written as text: ISO 8601, YYYYMMDD, day and month in either order, or a format that the user states."""

from __future__ import annotations

from typing import NamedTuple
from zoneinfo import available_timezones

import numpy as np
import pandas as pd

from rllib_portfolio.errors import DataError

LIKELY_ZONES = ("America/New_York", "Europe/Berlin", "Europe/London", "America/Chicago", "Australia/Sydney")
"""Time zones that are tried before all others if timestamps have only offsets from UTC."""

LARGEST_MONTH = 12

_TIME = r"(?:[ T]\s*\d{1,2}:\d{2}(?::\d{2}(?:\.\d+)?)?)?"
_DAY_OR_MONTH_FIRST = rf"\s*(\d{{1,2}})([./-])(\d{{1,2}})[./-](\d{{4}}){_TIME}\s*"
_YEAR_FIRST = rf"\s*(\d{{4}})([./-])(\d{{1,2}})[./-](\d{{1,2}}){_TIME}\s*"


class Days(NamedTuple):
    """Moments that were read from text."""

    moments: pd.DatetimeIndex
    """In local time, with its time zone if the text has one; NaT for text that is no day."""
    written: str | None = None
    """Format of the text where day and month could be exchanged, as %d/%m/%Y; None for ISO 8601."""


def days_of_text(text: pd.Series, date_format: str | None, source: str) -> Days:
    """Return the moments that different texts mean.

    Args:
        text: Different texts, named as the column that holds them.
        date_format: Their format, as for `datetime.strptime`; None recognises it.
        source: Where the table came from, for messages.

    Raises:
        DataError: If the order of day and month cannot be told, or the texts are of several time zones.
    """
    if date_format is not None:
        moments = pd.to_datetime(text, format=date_format, errors="coerce", utc="%z" in date_format)
        return Days(pd.DatetimeIndex(moments), date_format)
    moments = pd.to_datetime(text, format="ISO8601", errors="coerce", utc=True)
    moments = moments.mask(text.str.len() < 8)  # a year, a month or a row number, not a day
    if moments.isna().any():
        return _numbered(text, source) or Days(pd.DatetimeIndex(moments).tz_localize(None))
    try:
        return Days(pd.DatetimeIndex(pd.to_datetime(text, format="ISO8601")))
    except ValueError:  # several offsets from UTC
        return Days(_local_time(text, pd.DatetimeIndex(moments), source))


def _numbered(text: pd.Series, source: str) -> Days | None:
    """Return days that are written as three numbers with marks between them; None if a text is none of these."""
    is_year_first = bool(text.str.match(r"\s*\d{4}\D").all())
    pattern = _YEAR_FIRST if is_year_first else _DAY_OR_MONTH_FIRST
    parts = text.astype(object).str.extract(f"^{pattern}$")
    if not parts.notna().to_numpy().all():
        return None
    mark = str(parts[1].iloc[0])
    if is_year_first:
        year, month, day, written = parts[0], parts[2], parts[3], None
    else:
        is_day_first = _is_day_first(text, parts[0].astype(int), parts[2].astype(int), mark, source)
        day, month = (parts[0], parts[2]) if is_day_first else (parts[2], parts[0])
        year, written = parts[3], mark.join(("%d", "%m", "%Y") if is_day_first else ("%m", "%d", "%Y"))
    numbers = pd.DataFrame({"year": year, "month": month, "day": day}).astype(int)
    return Days(pd.DatetimeIndex(pd.to_datetime(numbers, errors="coerce")), written)


def _is_day_first(text: pd.Series, first: pd.Series, second: pd.Series, mark: str, source: str) -> bool:
    """Return whether the first of two numbers is the day; a number above 12 is no month."""
    days_first, months_first = first > LARGEST_MONTH, second > LARGEST_MONTH
    if days_first.any() and months_first.any():
        both = f"{text[days_first].iloc[0]!r} and {text[months_first].iloc[0]!r}"
        raise DataError(
            f"{text.name} must have day and month in one order, got {both} ({source}). Write the days as YYYY-MM-DD."
        )
    if not (days_first.any() or months_first.any()):
        formats = " or ".join(f'"{mark.join(order)}"' for order in (("%d", "%m", "%Y"), ("%m", "%d", "%Y")))
        raise DataError(
            f"{text.name} must show which number is the month, got no number above {LARGEST_MONTH} from "
            f"{text.iloc[0]!r} to {text.iloc[-1]!r} ({source}). Set market.date_format to {formats}."
        )
    return bool(days_first.any())


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
