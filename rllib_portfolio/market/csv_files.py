"""Reading of CSV files: marks between columns, decimal signs, headers, and files of Kenneth French's data library."""

from __future__ import annotations

import csv
import io
import warnings
from itertools import islice
from typing import IO

import pandas as pd

from rllib_portfolio.errors import DataError
from rllib_portfolio.market.csv_header import CsvHeader, delimiter_of, read_header
from rllib_portfolio.market.days import names_days
from rllib_portfolio.market.french import is_library_file, read_library
from rllib_portfolio.market.labels import TICKER_NAMES, key, price_among, returns_among
from rllib_portfolio.market.numerals import DECIMAL, uses_decimal_commas

ENCODING = "utf-8-sig"
NUM_SEEN = 60
"""Number of lines from which marks, decimal signs and header are recognised."""


def read_csv(stream: IO[bytes], source: str) -> tuple[pd.DataFrame, CsvHeader | None]:
    """Read a CSV file.

    Args:
        stream: The file, at its start.
        source: Where it came from, for messages.

    Returns:
        The table, with columns as pandas names them, and its header; None for a file of Kenneth French's library, whose
        columns have their names.

    Raises:
        DataError: If the file is not a table in UTF-8 text.
    """
    try:
        lines = _first_lines(stream)
        if is_library_file(lines):
            return read_library(stream.read().decode(ENCODING), source), None
        header = read_header(lines, delimiter_of(lines[:NUM_SEEN]), source)
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            readable = [line for line in lines if len(line) <= csv.field_size_limit()]
            rows = islice(csv.reader(readable, delimiter=header.delimiter), 1, None)
            decimal = "," if uses_decimal_commas([cell for row in rows for cell in row[1:]]) else "."
            frame = pd.read_csv(
                stream, encoding=ENCODING, sep=header.delimiter, decimal=decimal, index_col=False, low_memory=False,
                skiprows=header.skipped_lines, dtype=_types(header),
            )  # fmt: skip
            if frame.shape[1] != len(header.labels):  # as after a stray quotation mark
                counted = f"{frame.shape[1]} columns below {len(header.labels)} names"
                raise DataError(f"each column must have a name, got {counted} ({source}). Check its first lines.")
            frame.attrs[DECIMAL] = decimal if decimal == "," else None
            return frame, header
    except UnicodeDecodeError:
        raise DataError(f"a .csv file must be UTF-8 text, got other bytes ({source}). Save it as UTF-8 CSV.") from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError, pd.errors.ParserWarning, csv.Error) as error:
        why = " ".join(str(error).split())
        raise DataError(f"each row must have one cell per column, got another table ({source}: {why}).") from None


def _first_lines(stream: IO[bytes]) -> list[str]:
    """Return the first lines with their ends, and go back to the start."""
    text = io.TextIOWrapper(stream, encoding=ENCODING, newline="")
    lines = list(islice(text, NUM_SEEN))
    text.detach()
    stream.seek(0)
    return lines


def _types(header: CsvHeader) -> dict[str, str] | None:
    """Return the types of columns that pandas must not infer.

    In a long table names of stocks keep their leading zeros, and days, which repeat, are stored once.
    """
    names = [str(label) for label in header.cells]
    stocks = [name for name in names if key(name) in TICKER_NAMES]
    if header.level_names != ("", "") or not stocks or not (price_among(names) or returns_among(names)):
        return None
    return dict.fromkeys(stocks, "str") | dict.fromkeys(filter(names_days, names), "category")
