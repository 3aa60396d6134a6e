"""Chronological windows: train, validation and test by date, and walk-forward folds.

A window is a half-open range of rows whose returns are earned. Training is purged at its END, by the longest feature
window and the execution lag: no observation of a later window looks back at a day that was trained on, and later
windows stay contiguous. Averages that forget geometrically (RSI, MACD, the Markov filter) count with their nominal
window.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from rllib_portfolio.config import MarketConfig
from rllib_portfolio.dates import Dates, parse_date, rows_between
from rllib_portfolio.errors import ConfigError, DataError
from rllib_portfolio.market.data import MarketData, Window
from rllib_portfolio.market.sources import BUNDLED

NAMES = ("train", "validation", "test")
BUNDLED_DATES = {
    "train": ("1990-01-01", "2011-12-31"),
    "validation": ("2012-01-01", "2015-12-31"),
    "test": ("2016-01-01", "2022-12-31"),
}
FRACTIONS = (0.6, 0.8)
"""Fractions of the rows at which validation and test start in a table for which no windows are given."""

LATEST_TENTHS = 7
"""Latest start of validation in a short table, in tenths of its rows, if training needs more days."""

LARGEST_LAG = 1
"""Largest execution lag: an observation is at most this many days older than the trade that it decides."""

DateWindows = dict[str, tuple[str, str]]


class Fold(NamedTuple):
    """One walk-forward fold: three windows in chronological order."""

    train: Window
    validation: Window
    test: Window


class RowsNeeded(NamedTuple):
    """Rows that the features need in a table that is split by fractions."""

    first_row: int
    """First row at which every feature is defined."""
    purge_days: int
    """Rows between training and validation."""
    num_fitted: int
    """Fewest rows that regimes are fitted on; they begin at `first_row`."""

    @property
    def before_validation(self) -> int:
        """Rows for the warm-up, for training (one earned day, and the days to fit regimes on), and for the purge."""
        return self.first_row + max(1 + LARGEST_LAG + 1, self.num_fitted) + self.purge_days

    @property
    def num_rows(self) -> int:
        """Number of rows of the shortest table that can be split."""
        return -(-self.before_validation * 10 // LATEST_TENTHS)


def split(
    dates: Dates,
    config: MarketConfig,
    first_row: int = 0,
    purge_days: int = 0,
    known: DateWindows | None = None,
    needs: RowsNeeded | None = None,
) -> tuple[DateWindows, dict[str, Window]]:
    """Return the days (`window_dates`) and the rows (`split_windows`) of each window of a table.

    Args:
        dates: Dates of the table, [T], increasing.
        config: Windows given by the user, and the source of the data.
        first_row: First row at which every feature is defined.
        purge_days: Rows between training and validation.
        known: Windows of the run whose fitted objects are used, or None.
        needs: Rows that the features need, or None if they need no warm-up.

    Raises:
        ConfigError: If the windows are invalid, see `window_dates`.
        DataError: If the table is too short for one of its windows, unless they are `known` from another run.
    """
    by_date = window_dates(dates, config, known, needs)
    windows = split_windows(dates, by_date, first_row, purge_days)
    empty = next((name for name in NAMES if name not in windows), None)
    if empty is not None and known is None:
        first, last = by_date[empty]
        raise DataError(
            f"the {empty} window must hold at least one day, got none ({first} to {last} of {len(dates)} rows; "
            f"features warm up for {first_row} rows, and {purge_days} are purged from the end of training). "
            "Use more days, other windows, or shorter features."
        )
    return by_date, windows


def window_dates(
    dates: Dates,
    config: MarketConfig,
    known: DateWindows | None = None,
    needs: RowsNeeded | None = None,
) -> DateWindows:
    """Return first and last day, or moment of an intraday table, of train, validation and test, both inclusive.

    Windows in `config` take precedence, then the windows `known` from the run whose fitted objects are used, then those
    of the bundled universe. Any other table is cut at 60 and 80 % of its rows. If that leaves fewer days for training
    than the features need, validation starts later, at 70 % of the rows at most, and takes half of the remaining rows.

    Args:
        dates: Dates of the table, [T], increasing.
        config: Windows given by the user, and the source of the data.
        known: Windows of the run whose fitted objects are used, or None.
        needs: Rows that the features need, or None if they need no warm-up.

    Raises:
        ConfigError: If a date is invalid, only some windows of the user's own data are given, or windows overlap.
        DataError: If a table for which no windows are given is too short; the message says how many rows it needs.
    """
    explicit = {name: window for name in NAMES if (window := getattr(config, name)) is not None}
    default = known or (BUNDLED_DATES if config.data == BUNDLED else {})
    missing = [name for name in NAMES if name not in explicit and name not in default]
    if missing and explicit:
        raise ConfigError(
            f"train, validation and test must be given together for own data, got none for {', '.join(missing)}. "
            "Give all three date windows, or none for 60 / 20 / 20 %."
        )
    windows = (
        _by_fraction(dates, needs or RowsNeeded(0, 0, 0))
        if missing
        else {name: tuple(explicit.get(name) or default[name]) for name in NAMES}
    )
    _check_order(windows, dates)
    return windows


def split_windows(dates: Dates, by_date: DateWindows, first_row: int, purge_days: int) -> dict[str, Window]:
    """Return the rows of `train` (purged), `validation`, `test` and `all`; windows without a row are left out.

    Returns are earned from two rows after `first_row` on, at which every feature is defined. Their decision is at the
    previous close, and with execution lag 1 it is based on the features of one more day before.

    Args:
        dates: Dates of the table, [T], increasing.
        by_date: First and last day of train, validation and test, both inclusive.
        first_row: First row at which every feature is defined.
        purge_days: Rows between training and validation.
    """
    start = first_row + 1 + LARGEST_LAG
    windows = {}
    for name, (first_day, last_day) in by_date.items():
        first, stop = rows_between(dates, parse_date(first_day, dates), parse_date(last_day, dates))
        windows[name] = max(start, first), stop
    validation_start = windows["validation"][0]
    windows["train"] = (windows["train"][0], min(windows["train"][1], validation_start - purge_days))
    windows["all"] = (start, len(dates))
    return {name: (first, stop) for name, (first, stop) in windows.items() if first < stop}


def walk_forward(
    market: MarketData,
    *,
    train_days: int,
    validation_days: int,
    test_days: int,
    is_expanding: bool = True,
    purge_days: int | None = None,
) -> Iterator[Fold]:
    """Yield folds whose test windows are contiguous and cover all rows after the first validation window.

    Each fold is [train] [purge] [validation] [test]; the last test window may be shorter. Lengths are in rows.

    Args:
        market: The market to split.
        train_days: Length of the training windows, or of the first one if they expand.
        validation_days: Length of the validation windows.
        test_days: Length of the test windows.
        is_expanding: True if all training windows start at the first row, False if they roll and keep their length.
        purge_days: Rows between training and validation; by default those of the market's features.

    Raises:
        ConfigError: If a length is below 1, or the market is too short for one fold.
    """
    purge = market.fitted.get("purge_days", market.first_row) if purge_days is None else purge_days
    for name, days in (("train", train_days), ("validation", validation_days), ("test", test_days)):
        if days < 1:
            raise ConfigError(f"{name}_days must be at least 1, got {days} (walk-forward). Give a number of rows.")
    first, stop = market.windows["all"]
    needed = train_days + purge + validation_days
    if purge < 0 or needed >= stop - first:
        raise ConfigError(
            f"train_days + purge_days + validation_days must be below the {stop - first} rows that can be earned, got "
            f"{train_days} + {purge} + {validation_days} (walk-forward). Shorten the windows."
        )
    for test_start in range(first + needed, stop, test_days):
        validation_start = test_start - validation_days
        train_stop = validation_start - purge
        yield Fold(
            train=(first if is_expanding else train_stop - train_days, train_stop),
            validation=(validation_start, test_start),
            test=(test_start, min(test_start + test_days, stop)),
        )


def fold_config(config: MarketConfig, market: MarketData, fold: Fold) -> MarketConfig:
    """Return a configuration whose windows are those of a fold.

    A market that is loaded with it has its scaler and regimes fitted on the fold's training window.

    Args:
        config: Configuration of the market.
        market: The market that was split into folds.
        fold: One of its folds.
    """
    return config.model_copy(update=_days(market.dates, fold))


def _by_fraction(dates: Dates, needs: RowsNeeded) -> DateWindows:
    num_days = len(dates)
    if num_days < needs.num_rows:
        before = int(FRACTIONS[0] * num_days)
        found = before - needs.purge_days - needs.first_row
        is_empty = found <= 1 + LARGEST_LAG
        raise DataError(
            f"the train window must hold at least {'one day' if is_empty else f'{needs.num_fitted} days'}, got "
            f"{'none' if is_empty else found} ({dates[0]} to {dates[before - 1]} of {num_days} rows; features warm "
            f"up for {needs.first_row} rows, and {needs.purge_days} are purged from the end of training). The table "
            f"needs {needs.num_rows} rows with these feature windows: add rows, or shorten market.features."
        )
    validation, test = (int(fraction * num_days) for fraction in FRACTIONS)
    if needs.before_validation > validation:
        validation, test = needs.before_validation, (needs.before_validation + num_days) // 2
    return _days(dates, ((0, validation), (validation, test), (test, num_days)))


def _days(dates: Dates, windows: Iterable[Window]) -> DateWindows:
    """Return the first and the last day of train, validation and test, for their ranges of rows."""
    return {name: (str(dates[start]), str(dates[stop - 1])) for name, (start, stop) in zip(NAMES, windows, strict=True)}


def _check_order(windows: DateWindows, dates: Dates) -> None:
    end: np.datetime64 | None = None
    for name, window in windows.items():
        try:
            first, last = (parse_date(text, dates) for text in window)
        except ValueError as error:
            raise ConfigError(f"{name} must hold two days as YYYY-MM-DD, got {list(window)} ({error}).") from None
        if first > last or (end is not None and first < end + np.timedelta64(1)):  # the end includes its whole day
            raise ConfigError(
                f"{name} must start after the window before it and not after its own end, got {first} to {last}"
                f"{f' after {end}' if end else ''}. Order train, validation, test by date."
            )
        end = last
