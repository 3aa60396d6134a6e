"""Reading of a file, of a folder or archive of files, or of a DataFrame, as a dated table.

Unusable content raises a DataError. Numbers are checked later, where a column gets a role (see `sources.py`).
"""

from __future__ import annotations

import gzip
import io
import zlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import IO, cast

import pandas as pd

from rllib_portfolio.errors import DataError, file_error, reason
from rllib_portfolio.market.csv_files import read_csv
from rllib_portfolio.market.days import dated, names_days
from rllib_portfolio.market.labels import TICKER_NAMES, Label, key, plain, split_labels
from rllib_portfolio.market.numerals import with_numbers

KINDS = {
    ".csv": "a CSV file",
    ".csv.gz": "a compressed CSV file",
    ".parquet": "a Parquet file",
    ".feather": "a Feather file",
}
"""Maps the endings of files that hold a table to their names in messages."""
CONTENTS = {".csv": "text", ".csv.gz": "compressed by gzip", ".parquet": "Parquet", ".feather": "Feather"}
ARCHIVE = ".zip"
MAGIC = {b"PAR1": ".parquet", b"ARROW1": ".feather", b"FEA1": ".feather", b"\x1f\x8b": ".csv.gz", b"PK\x03\x04": ".zip"}
"""Maps the first bytes of files to their kinds; other files are text."""
MOMENTS = ("datetime64", "datetime", "date", "period")
"""Types, as pandas infers them, of an index that holds days."""
LEVELS = "levels"
"""Attribute of a table that was read: the two names of each column with two levels, and the names of both levels."""


def read_frame(path: Path, date_format: str | None = None) -> pd.DataFrame:
    """Read a file whose rows are days, or days of an asset.

    The days are in the column named date (datetime, timestamp, time), in the index of a Parquet or Feather table, or
    else in the first column.

    Args:
        path: A file with an ending of `KINDS`.
        date_format: Format of the days, see `MarketConfig.date_format`.

    Returns:
        The other columns as they are, with the days as a DatetimeIndex without time zone, in the order of the file, or
        increasing if the file has the newest day first. Names of columns have no spaces around them, and two levels of
        names are joined. `attrs` hold the levels and what `days.dated` found.

    Raises:
        DataError: If the file cannot be read, or does not hold a table with dates and distinct names.
    """
    try:
        if not path.is_file():
            raise DataError(f"the price file must exist, got {path}. Check the path.")
        require_kind(path.name, str(path))
        with path.open("rb") as stream:
            return frame_of_stream(stream, path.name, str(path), date_format)
    except (OSError, EOFError, zlib.error) as error:
        text = f"the price file must be readable, got {path} ({reason(error)})"
        raise file_error(error, text, "Check its path and permissions.", DataError) from None


def tabulated(frame: pd.DataFrame, source: str, date_format: str | None = None) -> pd.DataFrame:
    """Return a DataFrame as a dated table, in the form that `read_frame` returns for a file.

    Args:
        frame: A table with the days as index or in a column.
        source: Where the table came from, for messages.
        date_format: Format of the days, see `MarketConfig.date_format`.

    Raises:
        DataError: If it is not a table with dates and distinct names.
    """
    return _dated(_with_days_in_a_column(frame, source), source, date_format)


def kind_of(name: str) -> str | None:
    """Return the ending of a file's name that tells its kind, in lower case; None for no kind of table."""
    return next((ending for ending in (*KINDS, ARCHIVE) if name.lower().endswith(ending)), None)


def stem_of(name: str) -> str:
    """Return a file's name without the ending that tells its kind."""
    kind = kind_of(name)
    return name[: -len(kind)] if kind else name


def require_kind(name: str, source: str) -> None:
    """Require that a file's name has the ending of a table.

    Args:
        name: Name of the file.
        source: Path of the file or archive, for the message.

    Raises:
        DataError: If it has another ending.
    """
    if kind_of(name) is None:
        raise DataError(
            f"the price file must end in {', '.join(KINDS)} or {ARCHIVE}, got {name} ({source}). Convert it, or "
            "correct its name."
        )


def frame_of_stream(stream: IO[bytes], name: str, source: str, date_format: str | None) -> pd.DataFrame:
    """Read a table from an open file.

    Args:
        stream: The file, at its start.
        name: Its name, whose ending tells its kind.
        source: Where it came from, for messages.
        date_format: Format of the days, see `MarketConfig.date_format`.

    Raises:
        DataError: If its content is of another kind, or no table.
    """
    kind = kind_of(name)
    start = stream.read(6)
    stream.seek(0)
    found = next((of for first, of in MAGIC.items() if start.startswith(first)), ".csv")
    if found != kind:
        got = "other content" if found == ".csv" else {**KINDS, ARCHIVE: "a zip file"}[found]
        remedy = "by its content" if found == ".csv" else f"to {found}"
        raise DataError(f"a {kind} file must be {CONTENTS[str(kind)]}, got {got} ({source}). Rename it {remedy}.")
    if kind == ".csv.gz":
        with gzip.GzipFile(fileobj=stream) as unpacked:
            return _csv(cast(IO[bytes], unpacked), source, date_format)
    if kind == ".csv":
        return _csv(stream, source, date_format)
    return _dated(_with_days_in_a_column(_columnar(stream, str(kind), source), source), source, date_format)


def _csv(stream: IO[bytes], source: str, date_format: str | None) -> pd.DataFrame:
    frame, header = read_csv(stream, source)
    if header is None:
        return _dated(frame, source)
    _check_header(header.labels, source)
    return _dated(_named(frame, header.labels, header.level_names), source, date_format)


def _columnar(stream: IO[bytes], kind: str, source: str) -> pd.DataFrame:
    try:
        content = io.BytesIO(stream.read())
        return pd.read_parquet(content) if kind == ".parquet" else pd.read_feather(content)
    except (ValueError, OSError) as error:
        text = f"a {kind} file must be readable, got a damaged one ({source}: {' '.join(str(error).split())})"
        raise file_error(error, text, "Write it again.", DataError) from None


def _dated(frame: pd.DataFrame, source: str, date_format: str | None = None) -> pd.DataFrame:
    frame = dated(frame, source, date_format)
    if frame.empty:
        raise DataError(
            f"the price file must hold dated prices, got {frame.shape[0]} rows of {frame.shape[1]} columns ({source}). "
            "Add rows and price columns."
        )
    is_newest_first = len(frame) > 1 and frame.index.is_monotonic_decreasing and frame.index.is_unique
    return with_numbers(frame.iloc[::-1] if is_newest_first else frame)


def _with_days_in_a_column(frame: pd.DataFrame, source: str) -> pd.DataFrame:
    """Return the table with an index of days turned into a column, as a CSV file would hold it."""
    if frame.columns.nlevels > 2:
        raise DataError(
            f"columns must have one level, or two (field and ticker), got {frame.columns.nlevels} ({source}). "
            "Drop the others."
        )
    if frame.index.nlevels > 1:
        frame = _with_index_in_columns(frame, source)
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


def _with_index_in_columns(frame: pd.DataFrame, source: str) -> pd.DataFrame:
    """Return a table whose index holds days and assets as a long table with both in columns."""
    levels = [frame.index.get_level_values(level) for level in range(frame.index.nlevels)]
    are_days = [level.inferred_type in MOMENTS or names_days(level.name) for level in levels]
    names = [str(level.name or "no name") for level in levels]
    if len(levels) > 2 or sum(are_days) != 1 or frame.columns.nlevels > 1:
        raise DataError(
            f"an index of several levels must hold days and assets, above one level of columns, got {', '.join(names)} "
            f"({source}). Drop or rename the others."
        )
    stock = levels[are_days.index(False)]
    stock_name = str(stock.name) if key(str(stock.name)) in TICKER_NAMES else "asset"
    held = {"date": levels[are_days.index(True)], stock_name: stock}
    return pd.concat([pd.DataFrame(held), frame.reset_index(drop=True)], axis=1)


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
