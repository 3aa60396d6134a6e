"""Files of Kenneth French's data library as they are downloaded: prose, then returns in per cent by day or month.

Only the first section is read, which holds value-weighted returns where a file has several. Its rows begin with
YYYYMMDD or YYYYMM; a section of annual returns follows the monthly one. Missing returns are -99.99 or -999.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pandas as pd

from rllib_portfolio.errors import DataError
from rllib_portfolio.market.frequency import WEEKDAYS, frequency_of

LIBRARY = "library"
"""Attribute of a table that was read from such a file: the title of its section."""

CASH_COLUMN = "RF"
"""The return of one-month bills, which is read as an annual rate."""

MISSING = (-99.99, -999.0)

_PROSE = re.compile(r"this file was created|missing data are indicated by", re.IGNORECASE)
_ROW = re.compile(r"\s*(\d{8}|\d{6})\s*,")


def is_library_file(lines: Sequence[str]) -> bool:
    """Return whether the first lines of a text file are those of a file of the library."""
    start = _header(lines)
    return start is not None and any(map(_PROSE.search, lines[:start]))


def read_library(text: str, source: str) -> pd.DataFrame:
    """Read the first section of a file of the library.

    Args:
        text: The whole file.
        source: Where it came from, for messages.

    Returns:
        Simple returns as fractions, with the days in the column `date`: months are named by their last day. The column
        RF, if there is one, holds annual rates. `attrs` hold the title of the section.

    Raises:
        DataError: If the section is not a table of numbers.
    """
    lines = text.splitlines()
    start = _header(lines) or 0
    width = len(_first_cell(lines[start + 1]))
    stop = next((row for row in range(start + 1, len(lines)) if not _is_row(lines[row], width)), len(lines))
    section = lines[start:stop]
    ragged = next((row for row, line in enumerate(section) if line.count(",") != section[0].count(",")), None)
    if ragged is not None:
        raise DataError(
            f"each row must have one cell per column, got {section[ragged].strip()!r} ({source}, "
            f"line {start + ragged + 1}). Download the file again."
        )
    cells = pd.read_csv(io.StringIO("\n".join(section)), skipinitialspace=True, index_col=0, dtype=str)
    returns = cells.apply(pd.to_numeric, errors="coerce")
    bad = np.argwhere((returns.isna() & cells.notna()).to_numpy())
    if len(bad):
        row, column = bad[0]
        raise DataError(
            f"{cells.columns[column].strip()} must be a return in per cent, got {cells.iloc[row, column]!r} ({source}, "
            f"line {start + row + 2}). Download the file again."
        )
    returns = returns.mask(returns.isin(MISSING)) / 100.0
    returns.columns = returns.columns.str.strip()
    days = pd.to_datetime(cells.index.str.strip(), format="%Y%m%d" if width == 8 else "%Y%m", errors="coerce")
    days = days if width == 8 else days + pd.offsets.MonthEnd(0)
    if CASH_COLUMN in returns and not days.hasnans:
        found = frequency_of(days.to_numpy().astype("datetime64[D]"))
        rows_a_year = found.periods if found else WEEKDAYS if width == 8 else 12
        returns[CASH_COLUMN] = (1.0 + returns[CASH_COLUMN]) ** rows_a_year - 1.0
    frame: pd.DataFrame = returns.set_axis(days, axis=0).rename_axis("date").reset_index()
    title = next((line.strip() for line in reversed(lines[:start]) if line.strip()), "")
    frame.attrs[LIBRARY] = title if "returns" in title.lower() and not _PROSE.search(title) else "returns"
    return frame


def _header(lines: Sequence[str]) -> int | None:
    """Return the row of the names of the first section: the first cell is empty, and the next row begins with a day."""
    rows = enumerate(pairwise(lines))
    return next((row for row, (line, after) in rows if line.lstrip().startswith(",") and _ROW.match(after)), None)


def _first_cell(line: str) -> str:
    return line.partition(",")[0].strip()


def _is_row(line: str, width: int) -> bool:
    first = _first_cell(line)
    return "," in line and first.isdigit() and len(first) == width
