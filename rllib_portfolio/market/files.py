"""One CSV or Parquet file, read to a dated table, with every surprise of such files turned into a DataError.

Cells are not converted here: only the columns that get a role must be numbers (see `sources.py`).
"""

from __future__ import annotations

import csv
import warnings
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from rllib_portfolio.errors import DataError

DATE_NAMES = ("date", "datetime", "timestamp", "time")
"""Names, in any case, of a column that holds the days."""

PARQUET_MAGIC = b"PAR1"


def read_frame(path: Path) -> pd.DataFrame:
    """Read a table whose rows are days.

    Args:
        path: A .csv or .parquet file. Its days are in the column named date (datetime, timestamp, time), in the index
            of a Parquet table, or else in the first column, as ISO 8601.

    Returns:
        The other columns as they are, with the days as a DatetimeIndex without time zone, in the order of the file.

    Raises:
        DataError: If the file is missing or cannot be read, of another kind than its suffix says, empty, without
            dates or with two columns of them, or has missing or duplicate column names.
    """
    try:
        frame = _dated(_read(path), path)
    except OSError as error:
        raise DataError(
            f"the price file must be readable, got {path} ({error.strerror}). Check its path and permissions."
        ) from None
    if frame.empty:
        raise DataError(
            f"the price file must hold dated prices, got {frame.shape[0]} rows of {frame.shape[1]} columns ({path}). "
            "Add rows and price columns."
        )
    return frame


def _read(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise DataError(f"the price file must exist, got {path}. Check the path.")
    if path.suffix.lower() == ".csv":
        return _read_csv(path)
    if path.suffix.lower() == ".parquet":
        return _read_parquet(path)
    raise DataError(
        f"the price file must end in .csv or .parquet, got {path.name} ({path}). Convert it, or correct its name."
    )


def _read_csv(path: Path) -> pd.DataFrame:
    with path.open("rb") as file:
        if file.read(4) == PARQUET_MAGIC:
            raise DataError(f"a .csv file must be text, got a Parquet file ({path}). Rename it to .parquet.")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header = next(csv.reader(file), [])
            if not any(cell.strip() for cell in header):
                raise DataError(f"the price file must hold dated prices, got an empty file ({path}). Write a header.")
            if not any(map(_names_days, header)):
                header[0] = header[0].strip() or "date"
            _check_header(header, path)
            if len(header) < 2:
                raise DataError(
                    f"the price file must have a date and at least one price column, got one column {header[0]!r} "
                    f"({path}). Separate columns by commas."
                )
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            frame = pd.read_csv(path, encoding="utf-8-sig", index_col=False, low_memory=False)
    except UnicodeDecodeError:
        raise DataError(f"a .csv file must be UTF-8 text, got other bytes ({path}). Save it as UTF-8 CSV.") from None
    except (pd.errors.ParserError, pd.errors.ParserWarning, csv.Error) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"each row must have one cell per column, got another table ({path}: {reason}).") from None
    return frame.set_axis(header, axis=1)


def _read_parquet(path: Path) -> pd.DataFrame:
    with path.open("rb") as file:
        if file.read(4) != PARQUET_MAGIC:
            raise DataError(f"a .parquet file must be Parquet, got other content ({path}). Rename it by its content.")
    try:
        frame = pd.read_parquet(path)
    except (ValueError, OSError) as error:
        raise DataError(
            f"a .parquet file must be readable, got a damaged one ({path}: {error}). Write it again."
        ) from None
    frame.columns = frame.columns.map(str)
    if frame.index.nlevels > 1:
        raise DataError(
            f"a price table must have one row per day, got a MultiIndex ({path}). Pivot it to a wide table."
        )
    if not any(map(_names_days, frame.columns)):
        frame = frame.rename_axis("date").reset_index()
    elif _names_days(frame.index.name) and frame.index.name not in frame.columns:
        frame = frame.reset_index()
    _check_header(list(frame.columns), path)
    return frame


def _check_header(names: Sequence[str], path: Path) -> None:
    for position, name in enumerate(names, start=1):
        if not name.strip():
            raise DataError(f"each column must have a name, got none for column {position} ({path}). Name the asset.")
    # pandas would read a second AAPL as AAPL.1, and the universe would hold it twice.
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise DataError(f"column names must differ, got {', '.join(repeated)} twice ({path}). Keep one of each.")


def _names_days(name: object) -> bool:
    return str(name).lower() in DATE_NAMES


def _dated(frame: pd.DataFrame, path: Path) -> pd.DataFrame:
    named = list(filter(_names_days, frame.columns))
    if len(named) > 1:
        raise DataError(
            f"the price file must have one column of days, got {', '.join(named)} ({path}). Remove the others, or "
            "rename what is an asset."
        )
    name = named[0] if named else frame.columns[0]
    days = _days(frame[name], path)
    return frame.drop(columns=name).set_axis(days, axis=0)


def _days(column: pd.Series, path: Path) -> pd.DatetimeIndex:
    if pd.api.types.is_datetime64_any_dtype(column.dtype):
        _check_each_day(column, column.isna(), path)
        days = pd.DatetimeIndex(column)
    else:
        text = column.astype("string")
        moments = pd.to_datetime(text, format="ISO8601", errors="coerce", utc=True)
        # Shorter text is a year, a month or a row number, not a day.
        _check_each_day(column, moments.isna() | (text.str.len() < 8).fillna(True), path)
        try:
            days = pd.DatetimeIndex(pd.to_datetime(text, format="ISO8601"))
        except ValueError:
            raise DataError(
                f"{column.name} must be in one time zone, got several ({path}). Write plain days (YYYY-MM-DD)."
            ) from None
    return days.tz_localize(None).normalize().rename("date")


def _check_each_day(column: pd.Series, bad: pd.Series, path: Path) -> None:
    if bad.any():
        row = int(bad.to_numpy().argmax())
        raise DataError(
            f"{column.name} must hold days as YYYY-MM-DD, got {column.iloc[row]!r} ({path}, row {row + 1}). "
            "Give the table a date column, in ISO 8601."
        )
