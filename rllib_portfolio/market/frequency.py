"""How many rows of a table make a year, as its dates tell."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rllib_portfolio.config import MarketConfig
from rllib_portfolio.errors import ConfigError, DataError

Dates = NDArray[np.datetime64]

DAYS_A_YEAR = 365.25
WEEKDAYS = 252
"""Rows of a year of weekdays, by convention: exchanges are closed on about nine of them. Also of simulated markets."""
ALL_DAYS = 365
RHYTHMS = {52: "one a week", 12: "one a month", 4: "one a quarter", 1: "one a year"}

TOLERANCE = 0.1
"""Weekdays may be so many fewer or more than 252, and a stated number may differ by it: exchanges have 240 to 262."""
EXACT_TOLERANCE = 0.05
"""The same for the other rhythms, which have no holidays: 13 periods of four weeks are not 12 months."""

MIN_ROWS, MIN_DAILY_ROWS = 12, 20
"""Fewer rows tell nothing; of daily rows, Monday to Friday may be the start of any week."""
PART_ROWS, MIXED = 60, 2.0
"""A table has several rhythms where two parts of so many rows differ so many times in rows a year: six trading days in
place of five, or a few holidays, do not make as much."""
MIN_HOLE_DAYS = 14
"""Calendar days without a row that are no hole: the longest holidays of an exchange are 11 to 12 days."""


class Frequency(NamedTuple):
    """The rhythm of a table.

    Attributes:
        periods: Rows of a year that annual figures are scaled by.
        rows_a_year: Rows of a calendar year as counted, without holes.
        rhythm: The same in words.
    """

    periods: int
    rows_a_year: float
    rhythm: str


def frequency_of(dates: Dates) -> Frequency | None:
    """The rhythm of a table; None where it is too short to tell.

    A table that spans less than a year is told by its weekdays or its usual step alone: a few holidays would count for
    too much.

    Args:
        dates: Days, datetime64[D] [T], increasing.

    Returns:
        252 rows a year of weekdays, 365 of all days, 52, 12, 4 or 1 of weeks, months, quarters or years, and the
        rounded count of any other rhythm.
    """
    steps = np.diff(dates).astype(int)
    usual = float(np.median(steps)) if len(steps) else 0.0
    is_daily, is_short = usual < 2.0, steps.sum() < DAYS_A_YEAR
    if len(dates) < (MIN_DAILY_ROWS if is_daily else MIN_ROWS):
        return None
    steps = steps[steps <= max(MIN_HOLE_DAYS, 3.0 * usual)]
    count = DAYS_A_YEAR / (usual if is_short and not is_daily else steps.mean())
    num_weekdays = _num_weekdays(dates)
    if is_daily:
        periods, rhythm = (WEEKDAYS if num_weekdays < 7 else ALL_DAYS), f"{_NUMBERS[num_weekdays]} days a week"
    else:
        periods = min(RHYTHMS, key=lambda rows: abs(np.log(count / rows)))
        rhythm = RHYTHMS[periods]
    tolerance = TOLERANCE if periods == WEEKDAYS else EXACT_TOLERANCE
    is_usual_week = num_weekdays in (5, 7)
    if (is_daily and is_short and is_usual_week) or abs(count - periods) <= tolerance * periods:
        return Frequency(periods, count, rhythm)
    return Frequency(max(1, round(count)), count, rhythm if is_daily else f"usually one every {usual:g} days")


_NUMBERS = {1: "one", 2: "two", 3: "three", 4: "four", 5: "five", 6: "six", 7: "seven"}


def require_one_rhythm(dates: Dates, source: str) -> None:
    """Raise if parts of a table have clearly different rhythms, as weeks before days: no number of rows is a year then.

    Args:
        dates: Days of the table, datetime64[D] [T], increasing. Fewer than two parts are not looked at.
        source: For messages.

    Raises:
        DataError: With the slowest and the fastest rhythm, and where they are.
    """
    parts = np.array_split(dates, max(1, len(dates) // PART_ROWS))
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
    """Calendar days from one row to the next that are no hole: two weeks, or three periods if that is longer."""
    return max(MIN_HOLE_DAYS, 3 * 365 // periods)


def periods_per_year(dates: Dates, config: MarketConfig, source: str) -> int:
    """Rows of a year: what is stated, or else what the dates tell, or else 252.

    Args:
        dates: Days of the table, datetime64[D] [T], increasing.
        config: States the number, or leaves it out. Days of simulated markets are made up and tell nothing.
        source: For messages.

    Raises:
        ConfigError: If a stated number is more than 10 % off what the dates tell.
    """
    found = None if isinstance(config.data, dict) else frequency_of(dates)
    stated = config.periods_per_year
    if found is None:
        return stated or WEEKDAYS
    if stated is not None and abs(stated - found.periods) > TOLERANCE * found.periods:
        raise ConfigError(
            f"market.periods_per_year must be within 10 % of the table's rows a year, got {stated}, and the table has "
            f"{found.rows_a_year:.0f} ({found.rhythm}, {source}). Set it to {found.periods}, or to null."
        )
    return stated or found.periods


def frequency_notes(dates: Dates, periods: int, config: MarketConfig, slowest: tuple[str, int]) -> tuple[str, ...]:
    """What was inferred, and in years how far the slowest feature looks back where a year has not about 252 rows.

    Args:
        dates: Days of the table.
        periods: What `periods_per_year` gave.
        config: States the number, or leaves it out.
        slowest: Name of the feature with the longest window, and its rows.
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
        notes.append(f"Windows count rows: {name} looks back {rows} rows, {rows / periods:.1f} years of this table.")
    return tuple(notes)


def _num_weekdays(dates: Dates) -> int:
    """On how many days of the week there are rows; a day with fewer than one row in 20 is an exception."""
    weekday = (dates.astype("datetime64[D]").astype(int) + 3) % 7  # 1970-01-01 was a Thursday, the third after Monday
    return int((np.bincount(weekday, minlength=7) > 0.05 * len(dates)).sum())
