"""CSV that no spreadsheet runs as a formula, and values that JSON can hold."""

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
    """Plain values with displayable texts, and null for what is undefined: JSON has no NaN."""
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
    """Write a table for spreadsheets: a text that they would run as a formula begins with an apostrophe."""
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
