"""Values for JSON, and CSV files whose cells no spreadsheet runs as formulas."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rllib_portfolio.shown_text import displayable

_FORMULA = ("=", "+", "-", "@")


def json_value(value: Any) -> Any:
    """Return a value as plain types with displayable texts; NaN and infinity become None, since JSON has neither."""
    if isinstance(value, dict):
        return {displayable(str(name)): json_value(each) for name, each in value.items()}
    if isinstance(value, str):
        return displayable(value)
    if isinstance(value, list | tuple):
        return [json_value(each) for each in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_csv(table: pd.DataFrame | pd.Series[Any], path: Path, *, index: bool = True) -> None:
    """Write a table as CSV, with an apostrophe before texts that a spreadsheet would run as formulas.

    Args:
        table: The table.
        path: The file; an existing one is replaced.
        index: Whether to write the index as the first columns.
    """
    rows = csv.reader(io.StringIO(table.to_csv(index=index)))
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(map(_without_formula, row) for row in rows)


def _without_formula(cell: str) -> str:
    if not cell.startswith(_FORMULA):
        return cell
    try:
        float(cell)
    except ValueError:
        return f"'{cell}"
    return cell
