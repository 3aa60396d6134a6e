"""Division of the days of a market into walk-forward folds."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from rllib_portfolio.dates import parse_date
from rllib_portfolio.errors import ConfigError
from rllib_portfolio.market import Fold, MarketData, walk_forward
from rllib_portfolio.market.sources import BUNDLED

NUM_FOLDS = 4
FIRST_TEST_DAY = {BUNDLED: "2000-01-01"}
"""Default first test day by data source. It leaves about six years of training before it, and every crisis window of
the reports after it."""
FIRST_TEST_FRACTION = 0.4
"""Share of the days before the first test day, for all other data sources."""
VALIDATION_YEARS = 2.0
VALIDATION_FRACTION = 0.1
"""Largest share of the days in a validation window of the default length."""


@dataclass(frozen=True, slots=True)
class FoldLengths:
    """Lengths of the folds. A year has `periods_per_year` rows; None takes the default.

    Attributes:
        num_folds: Number of equal test windows, which end with the last day; default 4, unless `test_years` is given.
        test_years: Length of each test window; the last one may be shorter.
        validation_years: Length of each validation window, which precedes a test window; default 2 years, but at most a
            tenth of all days.
        train_years: Length of the (first, if they expand) training window; default: all days before the validation
            window and the purge.
        first_test_day: ISO date. The default follows from `train_years` if that is given; otherwise it is 2000-01-01
            for `sp500`, and the day after 40 % of the days for any other market.
        is_expanding: Whether all training windows start on the same day; otherwise they have the same length.
    """

    num_folds: int | None = None
    test_years: float | None = None
    validation_years: float | None = None
    train_years: float | None = None
    first_test_day: str | None = None
    is_expanding: bool = True


def plan_folds(market: MarketData, lengths: FoldLengths, data: object = None) -> tuple[Fold, ...]:
    """Return the folds of a market in chronological order; their test windows are contiguous and end with the market.

    If J equal test windows do not divide the test days, the first test day moves later by up to J - 1 days.

    Args:
        market: The market whose days are divided.
        lengths: Lengths of the folds.
        data: `market.data` of the configuration, for the default of `first_test_day`.

    Raises:
        ConfigError: If a length is out of range, or the folds do not fit.
    """
    start, stop = market.windows["all"]
    purge = purge_days(market)
    validation_days = _validation_days(market, lengths)
    train_days = None if lengths.train_years is None else _rows("train_years", lengths.train_years, market)
    first_day = lengths.first_test_day
    if first_day is None and train_days is None and isinstance(data, str):
        first_day = FIRST_TEST_DAY.get(data)
    if first_day is not None:
        test_start = _row_of(first_day, market)
    elif train_days is not None:
        test_start = start + train_days + purge + validation_days
    else:
        test_start = start + int(FIRST_TEST_FRACTION * (stop - start))
    test_days, test_start = _test_days(market, lengths, test_start)
    train_start = start if train_days is None else test_start - validation_days - purge - train_days
    train_days = test_start - validation_days - purge - train_start
    if train_start < start or train_days < 1:
        raise ConfigError(
            f"first test day must leave room for training, {purge} purged and {validation_days} validation days, got "
            f"{market.dates[min(test_start, stop - 1)]}, {test_start - start} days after the first (walk-forward). "
            "Choose a later --test-start, or shorten --train-years or --validation-years."
        )
    used = replace(market, windows={**market.windows, "all": (train_start, stop)})
    lengths_in_days = {"train_days": train_days, "validation_days": validation_days, "test_days": test_days}
    return tuple(walk_forward(used, **lengths_in_days, is_expanding=lengths.is_expanding, purge_days=purge))


def _test_days(market: MarketData, lengths: FoldLengths, test_start: int) -> tuple[int, int]:
    """Return the number of rows of a test window, and the first row of the first one."""
    stop = market.windows["all"][1]
    if lengths.test_years is not None:
        if lengths.num_folds is not None:
            raise ConfigError(
                f"folds must follow from test_years, got both, {lengths.num_folds} folds and {lengths.test_years:g} "
                "years (walk-forward). Give --folds or --test-years."
            )
        return _rows("test_years", lengths.test_years, market), test_start
    num_folds = NUM_FOLDS if lengths.num_folds is None else lengths.num_folds
    if num_folds < 1:
        raise ConfigError(f"folds must be at least 1, got {num_folds} (walk-forward). Raise --folds.")
    test_days = (stop - test_start) // num_folds
    if test_days < 1:
        raise ConfigError(
            f"folds must be at most the days that are left for testing, got {num_folds} folds for "
            f"{max(0, stop - test_start)} days (walk-forward). Lower --folds, or choose an earlier --test-start."
        )
    return test_days, stop - num_folds * test_days


def _validation_days(market: MarketData, lengths: FoldLengths) -> int:
    if lengths.validation_years is not None:
        return _rows("validation_years", lengths.validation_years, market)
    start, stop = market.windows["all"]
    return max(1, min(int(VALIDATION_YEARS * market.periods_per_year), int(VALIDATION_FRACTION * (stop - start))))


def _rows(name: str, years: float, market: MarketData) -> int:
    rows = years * market.periods_per_year
    if not math.isfinite(rows):
        raise ConfigError(f"{name} must be a number of years, got {years:g} (walk-forward). Correct it.")
    if round(rows) < 1:
        raise ConfigError(f"{name} must be at least one day, got {years:g} years (walk-forward). Raise it.")
    return round(rows)


def _row_of(day: str, market: MarketData) -> int:
    try:
        row = int(np.searchsorted(market.dates, parse_date(day, market.dates)))
    except ValueError:
        raise ConfigError(f"first test day must be a date as YYYY-MM-DD, got {day!r} (walk-forward).") from None
    if row >= market.num_days:
        raise ConfigError(
            f"first test day must not come after the last day, {market.dates[-1]}, got {day} (walk-forward). "
            "Choose an earlier --test-start."
        )
    return row


def purge_days(market: MarketData) -> int:
    """Return the number of rows between the end of a training window and the start of its validation window."""
    return int(market.fitted.get("purge_days", market.first_row))
