"""Inference of the rows per year from the dates of a table."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from rllib_portfolio.config import FeatureConfig, MarketConfig
from rllib_portfolio.dates import Dates, minutes_between
from rllib_portfolio.errors import ConfigError, DataError

DAYS_A_YEAR = 365.25
WEEKDAYS = 252
"""Rows per year of weekdays and of simulated markets, by convention: exchanges close on about nine weekdays a year."""
ALL_DAYS, MOST_DAYS = 365, 366
NUMBERS = ("one", "two", "three", "four", "five", "six", "seven")
RHYTHMS = {52: "one a week", 12: "one a month", 4: "one a quarter", 1: "one a year"}

TOLERANCE = 0.1
"""Relative tolerance for the number of weekdays around 252 (exchanges have 240 to 262) and for a stated number."""
EXACT_TOLERANCE = 0.05
"""Relative tolerance for other frequencies, which have no holidays: 13 periods of four weeks are not 12 months."""

MIN_ROWS, MIN_DAILY_ROWS, MIN_DAYS_OF_HOURS = 12, 20, 8
"""Fewest rows from which a frequency is inferred, fewest daily rows, and fewest days of an intraday table; one week
does not exclude weekend rows."""
PART_ROWS, MIXED = 60, 2.0
"""A table has several rhythms if two parts of this many days with rows differ by this factor in their rows per year.
Six trading days a week instead of five, or a few holidays, make a smaller difference."""
LONGEST_DEFAULT_YEARS = 2.5
"""Longest time for which a default window may look back in a table of weeks or longer periods."""
MIN_HOLE_DAYS = 14
"""Largest step in calendar days that is never a hole: the longest holidays of an exchange are 11 to 12 days."""


class Frequency(NamedTuple):
    """The frequency of the rows of a table, as a number and in words."""

    periods: int
    """Rows per year, by which annual figures are scaled."""
    rows_a_year: float
    """Rows per calendar year as counted in the table, without holes."""
    rhythm: str


def frequency_of(dates: Dates) -> Frequency | None:
    """Return the frequency of the rows of a table, or None if the table is too short.

    A table that spans less than a year is classified by its weekdays or its usual step alone, because a few holidays
    would distort the count.

    Args:
        dates: Days or moments, datetime64 [T], increasing.

    Returns:
        252 rows a year for weekdays, 365 for all days, 52, 12, 4 or 1 for weeks, months, quarters or years, and the
        rounded count for any other frequency. In an intraday table these are multiplied by the usual rows of a day.
    """
    days, a_day = _usual_days(dates)
    steps = np.diff(days).astype(int)
    usual = float(np.median(steps)) if len(steps) else 0.0
    is_daily, is_short = usual < 2.0, steps.sum() < DAYS_A_YEAR
    fewest_daily = MIN_DAILY_ROWS if a_day == 1 else MIN_DAYS_OF_HOURS
    if len(days) < (fewest_daily if is_daily else MIN_ROWS):
        return None
    steps = steps[steps <= max(MIN_HOLE_DAYS, 3.0 * usual)]
    count = DAYS_A_YEAR / (usual if is_short and not is_daily else steps.mean()) * (len(dates) / len(days) / a_day)
    num_weekdays = _num_weekdays(dates)
    if is_daily:
        periods, rhythm = (WEEKDAYS if num_weekdays < 7 else ALL_DAYS), f"{NUMBERS[num_weekdays - 1]} days a week"
    else:
        periods = min(RHYTHMS, key=lambda rows: abs(np.log(count / rows)))
        rhythm = RHYTHMS[periods]
    tolerance = TOLERANCE if periods == WEEKDAYS else EXACT_TOLERANCE
    is_usual_week = num_weekdays in (5, 7)
    if not ((is_daily and is_short and is_usual_week) or abs(count - periods) <= tolerance * periods):
        periods = max(1, round(count))
        rhythm = rhythm if is_daily else f"usually one every {usual:g} days"
    if a_day > 1:
        rhythm = f"{_within_days(dates)}, {a_day} a day, {rhythm}"
    return Frequency(a_day * periods, a_day * count, rhythm)


def require_one_rhythm(dates: Dates, source: str) -> None:
    """Raise a DataError if parts of a table have clearly different rhythms.

    Its rows per year would be undefined.

    Args:
        dates: Days or moments, datetime64 [T], increasing.
        source: Where the table came from, for messages.
    """
    days, _ = _usual_days(dates)
    firsts = [part[0] for part in np.array_split(days, max(1, len(days) // PART_ROWS))]
    parts = np.split(dates, np.searchsorted(dates, firsts[1:]))
    rhythms = [(found, part) for part in parts if (found := frequency_of(part)) is not None]
    if len(rhythms) < 2:
        return
    slow, fast = (pick(rhythms, key=lambda each: each[0].rows_a_year) for pick in (min, max))
    if fast[0].rows_a_year < MIXED * slow[0].rows_a_year:
        return
    told = [
        f"{found.rows_a_year:.0f} rows a year ({found.rhythm}) from {part[0]} to {part[-1]}"
        for found, part in (slow, fast)
    ]
    raise DataError(
        f"dates must have one rhythm, got {told[0]} and {told[1]} ({source}). Keep only the part of one rhythm, or so "
        "few of the rows that all parts have the slower one."
    )


def largest_step(periods: int) -> int:
    """Return the largest step in calendar days that is no hole: two weeks, or three periods if that is longer."""
    return max(MIN_HOLE_DAYS, 3 * 365 // periods)


def periods_per_year(dates: Dates, config: MarketConfig, source: str) -> int:
    """Return the rows per year: the stated number, else the one inferred from the dates, else 252 times rows of a day.

    The dates of simulated markets are artificial and are not used.

    Args:
        dates: Days or moments, datetime64 [T], increasing.
        config: The stated number, if any, and the source of the data.
        source: Where the table came from, for messages.

    Raises:
        ConfigError: If a stated number differs from the inferred one by more than 10 %.
    """
    found = None if isinstance(config.data, dict) else frequency_of(dates)
    stated = config.periods_per_year
    if found is None:
        return stated or WEEKDAYS * _usual_days(dates)[1]
    if stated is not None and abs(stated - found.periods) > TOLERANCE * found.periods:
        raise ConfigError(
            f"market.periods_per_year must be within 10 % of the table's rows a year, got {stated}, and the table has "
            f"{found.rows_a_year:.0f} ({found.rhythm}, {source}). Set it to {found.periods}, or to null."
        )
    return stated or found.periods


def frequency_notes(dates: Dates, periods: int, config: MarketConfig, slowest: tuple[str, int]) -> tuple[str, ...]:
    """Return notes on the inferred frequency, and on the longest window unless a year has about 252 rows.

    Args:
        dates: Days or moments, datetime64 [T], increasing.
        periods: Rows per year.
        config: The stated number of rows per year, if any, and the source of the data.
        slowest: Name of the feature with the longest window, and the length of this window in rows.
    """
    notes = []
    if config.periods_per_year is None and not isinstance(config.data, dict):
        found = frequency_of(dates)
        told = (
            "The table is too short to tell how many rows a year has"
            if found is None
            else f"The table has {found.rows_a_year:.0f} rows a year, {found.rhythm}"
        )
        notes.append(f"{told}: periods_per_year is {periods}.")
    name, rows = slowest
    if abs(periods - WEEKDAYS) > TOLERANCE * WEEKDAYS:
        more = " Where days are counted, they are rows." if periods > MOST_DAYS else ""
        notes.append(f"Windows count rows: {name} looks back {rows} rows, {span(rows, periods)} of this table.{more}")
    return tuple(notes)


def span(rows: int, periods: int) -> str:
    """Return the time of some rows in words, in years, or in calendar days for an intraday table.

    Args:
        rows: Number of rows.
        periods: Rows per year.
    """
    return f"{rows / periods:.1f} years" if periods <= MOST_DAYS else f"{rows / periods * ALL_DAYS:.0f} calendar days"


def require_windows(periods: int, features: FeatureConfig, index_rows: int, source: str) -> None:
    """Raise a ConfigError if windows that were chosen for daily rows are left in a table of longer periods.

    In rows of hours they look back for days instead of months. That can be wanted, so a note tells it
    (`frequency_notes`), and nothing is refused.

    Args:
        periods: Rows per year.
        features: The features, whose windows count rows.
        index_rows: Longest window of the features of the index; 0 without an index.
        source: Where the table came from, for messages.
    """
    if periods > WEEKDAYS / 2:
        return
    found = {}
    for name, field in FeatureConfig.model_fields.items():
        rows = getattr(features, name)
        if name.endswith("_days") and rows and rows == field.default:
            longest = max(rows) if isinstance(rows, tuple) else rows
            if longest > LONGEST_DEFAULT_YEARS * periods:
                found[name] = rows
    remedies = [f"{name} to {_in_rows(name, rows, periods)}" for name, rows in found.items()]
    if features.index and index_rows > LONGEST_DEFAULT_YEARS * periods:
        found["index"] = index_rows
        remedies.append("index to false")
    if found:
        told = ", ".join(f"{name} {list(rows) if isinstance(rows, tuple) else rows}" for name, rows in found.items())
        raise ConfigError(
            f"windows of market.features count rows and must suit a table of {periods} rows a year, got defaults for "
            f"daily rows: {told} ({source}). Under market.features set {', '.join(remedies)}."
        )


def _in_rows(name: str, rows: Any, periods: int) -> str:
    """Return windows of daily rows as the same time in the rows of a table."""
    if name == "momentum_days":  # it leaves out 21 rows, which are no month here
        return "[]"
    if name in ("macd_days", "rsi_days"):
        return "null"
    if isinstance(rows, tuple):
        return str(sorted({max(2, round(each * periods / WEEKDAYS)) for each in rows}))
    return str(max(2, round(rows * periods / WEEKDAYS)))


def _usual_days(dates: Dates) -> tuple[Dates, int]:
    """Return the days with rows, and the rows of a usual one: 1 unless a table is intraday."""
    days, counts = np.unique(dates.astype("datetime64[D]"), return_counts=True)
    return days, int(np.median(counts)) if len(counts) else 1


def _within_days(dates: Dates) -> str:
    """Return the usual step between two rows of a day in words."""
    hours = minutes_between(dates) / 60.0
    return "one an hour" if hours == 1.0 else f"one every {hours:.3g} hours"


def _num_weekdays(dates: Dates) -> int:
    """Return the number of days of the week with rows; a day with fewer than one row in 20 is an exception."""
    weekday = (dates.astype("datetime64[D]").astype(int) + 3) % 7  # 1970-01-01 was a Thursday, the third after Monday
    return int((np.bincount(weekday, minlength=7) > 0.05 * len(dates)).sum())
