"""Reading of a CSV or Parquet file, or of a DataFrame, as a dated table; unusable content raises a DataError.

Cells are not converted here: only the columns that get a role must be numbers (see `sources.py`).
"""

from __future__ import annotations

import csv
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from rllib_portfolio.errors import DataError, file_error, reason
from rllib_portfolio.market.csv_header import read_header
from rllib_portfolio.market.days import dated, names_days
from rllib_portfolio.market.labels import Label, plain, price_among, split_labels

PARQUET_MAGIC = b"PAR1"
SUFFIXES = (".csv", ".parquet")
MOMENTS = ("datetime64", "datetime", "date", "period")
"""Types, as pandas infers them, of an index that holds days."""
LEVELS = "levels"
"""Attribute of a table that was read: the two names of each column with two levels, and the names of both levels."""


def read_frame(path: Path) -> pd.DataFrame:
    """Read a .csv or .parquet file whose rows are days.

    The days are in the column named date (datetime, timestamp, time), in the index of a Parquet table, or else in the
    first column, as ISO 8601.

    Returns:
        The other columns as they are, with the days as a DatetimeIndex without time zone, in the order of the file.
        Names of columns have no spaces around them, and two levels of names are joined. `attrs` hold the levels, the
        time zone and the name of the column of days (see `days.dated`).

    Raises:
        DataError: If the file cannot be read, or does not hold a table with dates and distinct names.
    """
    try:
        return _dated(_read(path), str(path))
    except OSError as error:
        text = f"the price file must be readable, got {path} ({reason(error)})"
        raise file_error(error, text, "Check its path and permissions.", DataError) from None


def tabulated(frame: pd.DataFrame, source: str) -> pd.DataFrame:
    """Return a DataFrame as a dated table, in the form that `read_frame` returns for a file.

    Args:
        frame: A table with the days as index or in a column.
        source: Where the table came from, for messages.

    Raises:
        DataError: If it is not a table with dates and distinct names.
    """
    return _dated(_with_days_in_a_column(frame, source), source)


def _dated(frame: pd.DataFrame, source: str) -> pd.DataFrame:
    frame = dated(frame, source)
    if frame.empty:
        raise DataError(
            f"the price file must hold dated prices, got {frame.shape[0]} rows of {frame.shape[1]} columns ({source}). "
            "Add rows and price columns."
        )
    return frame


def _read(path: Path) -> pd.DataFrame:
    if path.is_dir():
        tables = sorted(file.name for file in path.iterdir() if file.suffix.lower() in SUFFIXES)
        named = f"one of the tables in it, such as {tables[0]}" if tables else "a .csv or .parquet file"
        raise DataError(f"the price file must be a file, got a folder ({path}). Name {named}.")
    if not path.is_file():
        raise DataError(f"the price file must exist, got {path}. Check the path.")
    if path.suffix.lower() not in SUFFIXES:
        raise DataError(
            f"the price file must end in .csv or .parquet, got {path.name} ({path}). Convert it, or correct its name."
        )
    is_named_csv = path.suffix.lower() == ".csv"
    with path.open("rb") as file:
        is_parquet = file.read(4) == PARQUET_MAGIC
    if is_named_csv and is_parquet:
        raise DataError(f"a .csv file must be text, got a Parquet file ({path}). Rename it to .parquet.")
    if not (is_named_csv or is_parquet):
        raise DataError(f"a .parquet file must be Parquet, got other content ({path}). Rename it by its content.")
    return _read_parquet(path) if is_parquet else _read_csv(path)


def _read_csv(path: Path) -> pd.DataFrame:
    try:
        header = read_header(path)
        _check_header(header.labels, str(path))
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            frame = pd.read_csv(
                path, encoding="utf-8-sig", index_col=False, low_memory=False, skiprows=header.skipped_lines
            )
    except UnicodeDecodeError:
        raise DataError(f"a .csv file must be UTF-8 text, got other bytes ({path}). Save it as UTF-8 CSV.") from None
    except (pd.errors.ParserError, pd.errors.ParserWarning, csv.Error) as error:
        why = " ".join(str(error).split())
        raise DataError(f"each row must have one cell per column, got another table ({path}: {why}).") from None
    return _named(frame, header.labels, header.level_names)


def _read_parquet(path: Path) -> pd.DataFrame:
    try:
        frame = pd.read_parquet(path)
    except (ValueError, OSError) as error:
        text = f"a .parquet file must be readable, got a damaged one ({path}: {error})"
        raise file_error(error, text, "Write it again.", DataError) from None
    return _with_days_in_a_column(frame, str(path))


def _with_days_in_a_column(frame: pd.DataFrame, source: str) -> pd.DataFrame:
    """Return the table with an index of days turned into a column, as a CSV file would hold it."""
    if frame.index.nlevels > 1:
        names = [str(name or f"level_{level}") for level, name in enumerate(frame.index.names)]
        values = [plain(label) for label in frame.columns]
        value = price_among(values) or (values or ["close"])[0]
        raise DataError(
            f"a price table must have one row per day, got a MultiIndex of {', '.join(names)} ({source}). Pivot it "
            f"to a wide table: frame[{value!r}].unstack({names[-1]!r})."
        )
    if frame.columns.nlevels > 2:
        raise DataError(
            f"columns must have one level, or two (field and ticker), got {frame.columns.nlevels} ({source}). "
            "Drop the others."
        )
    level_names = tuple(frame.columns.names)
    if len(level_names) == 2:
        labels: Sequence[Label] = [(str(label[0]).strip(), str(label[1]).strip()) for label in frame.columns]
    else:
        labels, level_names = split_labels(list(map(str, frame.columns))), (None, None)
    days, has_days = frame.index, any(map(names_days, labels))
    named = [plain(label) for label in labels]
    is_needed = not (has_days or isinstance(days, pd.RangeIndex))
    is_other = names_days(days.name) and str(days.name).strip() not in named
    if has_days and not is_other and days.inferred_type in MOMENTS:
        _require_days_of_index(frame.set_axis(named, axis=1), source)
        kept = [position for position, name in enumerate(named) if not names_days(name)]
        frame, labels, is_needed = frame.iloc[:, kept], [labels[position] for position in kept], True
    if is_needed or is_other:
        frame = frame.set_axis(range(frame.shape[1]), axis=1).rename_axis(index="days").reset_index()
        labels = [str(days.name).strip() if names_days(days.name) else "date", *labels]
    _check_header(labels, source)
    return _named(frame, labels, level_names)


def _require_days_of_index(frame: pd.DataFrame, source: str) -> None:
    """Raise if a column with a name for days (`names_days`) holds other days than the index."""
    index = dated(frame.index.to_frame(name="index"), source).index
    for name in filter(names_days, frame.columns):
        try:
            is_same = dated(frame[[name]], source).index.equals(index)
        except DataError:  # times of day, or numbers
            is_same = False
        if not is_same:
            raise DataError(
                f"the days must be in one place, got an index of days and a column {name} that does not hold the same "
                f"({source}). Remove the column, or rename what is an asset."
            )


def _named(frame: pd.DataFrame, labels: Sequence[Label], level_names: Sequence[object]) -> pd.DataFrame:
    named = frame.set_axis([plain(label) for label in labels], axis=1)
    pairs = {plain(label): label for label in labels if isinstance(label, tuple) and all(label)}
    named.attrs = {**frame.attrs, LEVELS: (pairs, level_names)}
    return named


def _check_header(labels: Sequence[Label], source: str) -> None:
    names = [plain(label) for label in labels]
    for position, name in enumerate(names, start=1):
        if not name.strip():
            raise DataError(f"each column must have a name, got none for column {position} ({source}). Name the asset.")
    # pandas would read a second AAPL as AAPL.1, and the universe would hold it twice.
    repeated = sorted(name for name, count in Counter(names).items() if count > 1)
    if repeated:
        raise DataError(f"column names must differ, got {', '.join(repeated)} twice ({source}). Keep one of each.")
