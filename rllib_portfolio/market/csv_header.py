"""The header of a CSV file: one or two rows of names, and the marks between them; other content raises an error."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from rllib_portfolio.errors import DataError
from rllib_portfolio.market.days import names_days
from rllib_portfolio.market.labels import TICKER_NAMES, Label, key, level_cells, split_labels

NUM_LINES = 8
"""Number of rows that are searched for the header."""

OTHER_DELIMITERS = ";\t|"
"""Marks between columns besides the comma."""

_DAY = re.compile(r"\d{1,4}([-/.])\d{1,2}\1\d{1,4}([T ].*)?|(19|20)\d{6}")

Row = tuple[int, list[str]]
"""Number of the physical line that a row ends on, from 1, and its cells."""


@dataclass(frozen=True, slots=True)
class CsvHeader:
    """Names of the columns of a CSV file."""

    labels: Sequence[Label]
    """A name for each column, or a pair of names where the header has two rows."""
    skipped_lines: list[int]
    """Physical lines, from 0, that pandas must not read: blank ones, and rows of the header but the first."""
    cells: Sequence[str]
    """The cells of the first row, as pandas names the columns."""
    delimiter: str = ","
    level_names: tuple[str, str] = ("", "")
    """First cells of the rows of a two-row header, where pandas writes the names of its levels."""


def delimiter_of(lines: Sequence[str]) -> str:
    """Return the mark between the columns: a comma unless the first line has another one and the lines agree on it.

    Args:
        lines: The first lines of a CSV file.
    """
    filled = [line for line in lines if line.strip()]
    if not filled or not any(mark in filled[0] for mark in OTHER_DELIMITERS):
        return ","
    try:
        return csv.Sniffer().sniff("".join(filled), "," + OTHER_DELIMITERS).delimiter
    except csv.Error:  # as for one column
        return ","


def read_header(lines: Sequence[str], delimiter: str, path: str) -> CsvHeader:
    """Read the header of a CSV file.

    Args:
        lines: The first lines of the file.
        delimiter: The mark between the columns.
        path: Where the table came from, for messages.

    Raises:
        DataError: If the file is empty, or its first row is no header.
    """
    reader = csv.reader(lines, delimiter=delimiter)
    rows = [(reader.line_num, cells) for cells in islice(reader, NUM_LINES)]
    filled = [(line, cells) for line, cells in rows if any(cell.strip() for cell in cells)]
    if not filled:
        raise DataError(f"the price file must hold dated prices, got an empty file ({path}). Write a header.")
    first_line, names = filled[0]
    before = list(range(first_line - 1))
    levels = _two_levels(filled)
    if levels is not None:
        labels, num_rows = levels
        skipped_lines = [*before, *range(first_line, filled[num_rows - 1][0])]
        return CsvHeader(labels, skipped_lines, names, delimiter, (names[0], filled[1][1][0]))
    _refuse_lines_before(filled, path)
    if len(names) < 2:
        raise DataError(
            f"the price file must have a date and at least one price column, got one column {names[0]!r} "
            f"({path}). Separate columns by commas or semicolons."
        )
    _refuse_data(names, path)
    return CsvHeader(split_labels(_named(names, any(map(names_days, names)))), before, names, delimiter)


def _refuse_lines_before(rows: Sequence[Row], path: str) -> None:
    """Raise if the first row is a comment or a title, and the header follows it."""
    line, first = rows[0]
    texts = [cell for cell in first if cell.strip()]
    is_comment = first[0].lstrip().startswith("#") and len(first[0].strip()) > 1
    if is_comment or any(_follows_title(cells, texts) for _, cells in rows[1:]):
        raise DataError(
            f"the first line must be the header, got {','.join(texts)!r} ({path}, line {line}). Remove the lines "
            "before the header."
        )


def _follows_title(row: Sequence[str], title: Sequence[str]) -> bool:
    """Return whether a row is the header of a table, and the row before it is only its title."""
    names = [cell for cell in row if cell.strip()]
    if len(names) < 2 or any(_is_number(name) or _is_day(name) for name in names):
        return False
    names_them = any(map(names_days, names)) and not any(map(names_days, title))
    return names_them or (len(title) == 1 and len(names) > len(title))


def _refuse_data(names: Sequence[str], path: str) -> None:
    """Raise if the first row is a day with its prices, or if its names of columns are days."""
    rest = [name for name in names[1:] if name.strip()]
    if len(rest) > 1 and all(map(_is_day, rest)):
        raise DataError(
            f"a price table must have one row per day, got days as names of columns: {', '.join(rest[:2])} ({path}). "
            "Exchange rows and columns: frame.T"
        )
    if _is_day(names[0]):
        written = ",".join(["date", *(f"ASSET_{number}" for number in range(1, len(names)))][:4])
        more = ",..." if len(names) > 4 else ""
        raise DataError(
            f"the price file must have a header, got a first line with a day and its prices: {','.join(names[:4])!r} "
            f"({path}). Write the names of the columns above it: {written}{more}"
        )


def _two_levels(rows: Sequence[Row]) -> tuple[Sequence[Label], int] | None:
    """Return the labels of a header of two rows and its number of rows, or None if it has one row.

    pandas writes the names of the levels into the first cells, and the name of the days into a third row.
    """
    if len(rows) < 3 or len(rows[0][1]) != len(rows[1][1]) or _is_day(rows[1][1][0]):
        return None
    first, second = rows[0][1], rows[1][1]
    pairs = [(a.strip(), b.strip()) for a, b in zip(first[1:], second[1:], strict=True)]
    both = [pair for pair in pairs if all(pair)]
    if not both or (any(_is_number(pair[1]) for pair in both) and key(second[0]) not in TICKER_NAMES):
        return None
    if level_cells(both, (first[0], second[0])) is None:
        return None
    third = rows[2][1]
    has_third = bool(third[0].strip()) and not any(cell.strip() for cell in third[1:])
    days = next((cell for cell in (first[0], second[0], third[0] if has_third else "") if names_days(cell)), "")
    days = days or (third[0] if has_third else "")
    named = _named([days, *(" ".join(filter(None, pair)) for pair in pairs)], any(names_days(pair) for pair in pairs))
    return [named[0].strip(), *pairs], 3 if has_third else 2


def _named(names: Sequence[str], has_days: bool) -> list[str]:
    """Return the names, and name an unnamed first column, where pandas writes days or row numbers."""
    first = names[0] if names[0].strip() else "Unnamed: 0" if has_days else "date"
    return [first, *names[1:]]


def _is_day(cell: str) -> bool:
    return _DAY.fullmatch(cell.strip()) is not None


def _is_number(cell: str) -> bool:
    try:
        float(cell.replace(",", "").strip(" $%"))
    except ValueError:
        return False
    return True
