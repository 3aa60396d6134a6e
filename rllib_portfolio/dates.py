"""Dates of rows: days, or the moments of an intraday table."""

from __future__ import annotations

from datetime import date
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Dates = NDArray[np.datetime64]
"""Days, datetime64[D], or moments of an intraday table, datetime64[m]."""


def dates_of(stamps: pd.DatetimeIndex | Dates) -> Dates:
    """Return the dates of rows: datetime64[D], or datetime64[m] if some are not at midnight.

    Args:
        stamps: Days or moments without time zone, [T].
    """
    moments = np.asarray(stamps).astype("datetime64[m]")
    days = moments.astype("datetime64[D]")
    return days if (days == moments).all() else moments


def are_intraday(dates: Dates) -> bool:
    """Return whether dates, as `dates_of` returns them, are moments and not days."""
    return dates.dtype == np.dtype("datetime64[m]")


def minutes_between(dates: Dates) -> float:
    """Return the usual number of minutes between two rows of a day.

    Args:
        dates: Moments of an intraday table in any unit, [T], increasing.
    """
    is_same_day = np.diff(dates.astype("datetime64[D]")) == np.timedelta64(0, "D")
    seconds = np.diff(dates.astype("datetime64[s]"))[is_same_day].astype(int)
    return float(np.median(seconds)) / 60.0


def date_text(stamp: Any) -> str:
    """Return a moment (pd.Timestamp) as 2020-03-23, or as 2020-03-23T14:00 if it is not at midnight."""
    return str(dates_of(pd.DatetimeIndex([stamp]))[0])


def parse_date(text: str, dates: Dates) -> np.datetime64:
    """Return a day that is written as YYYY-MM-DD, or, for an intraday table, also a moment as YYYY-MM-DDTHH:MM.

    Python also accepts 20151231 and 2015-W53-4, and numpy reads the former as a year; both are errors here.

    Args:
        text: The day or moment.
        dates: Dates of the table, [T].

    Raises:
        ValueError: If the text is no such day or moment.
    """
    is_moment = are_intraday(dates) and "T" in text
    moment = np.datetime64(text, "m") if is_moment else np.datetime64(date.fromisoformat(text))
    if str(moment) != text:
        raise ValueError(f"{text} is not written as YYYY-MM-DD")
    return moment


def rows_between(dates: Dates, first: np.datetime64, last: np.datetime64) -> tuple[int, int]:
    """Return the half-open range of the rows from `first` to `last`, both inclusive.

    Args:
        dates: Dates of the table, [T], increasing.
        first: A day or a moment.
        last: A moment, or a day, of which all rows are inside.
    """
    start, stop = np.searchsorted(dates, first), np.searchsorted(dates, last + np.timedelta64(1))
    return int(start), int(stop)
