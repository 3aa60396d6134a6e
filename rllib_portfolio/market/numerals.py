"""Numbers that are written with a decimal comma, or with thousands separators.

A table has one decimal sign. A cell such as 1,234 may be either number; only other cells of the table settle it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd

from rllib_portfolio.market.labels import TICKER_NAMES, key

Sign = Literal[".", ","]

DECIMAL = "decimal"
"""Attribute of a table that was read from text with decimal commas: the comma. The table has no fractions with points,
and what could not be read in this way is still text."""

_GROUPED = r"[1-9]\d{{0,2}}(?:{mark}\d{{3}})+"
_NUMBER = r"[+-]?(?:\d*|{grouped})(?:{decimal}\d+)?(?:[eE][+-]?\d+)?"
_POINT = _NUMBER.format(grouped=_GROUPED.format(mark=","), decimal=r"\.")
_COMMA = _NUMBER.format(grouped=_GROUPED.format(mark=r"\."), decimal=",")
_SPACED = r"([0-9])[ \u00a0\u202f'\u2019]([0-9]{3})"
_CURRENCY = r"^([+-]?)[$\u20ac\u00a3]\s?"
_SCALES = {"K": 1e3, "M": 1e6, "B": 1e9}
"""Endings of large counts, as in 1.23M."""


def uses_decimal_commas(cells: Sequence[str]) -> bool:
    """Return whether cells of the first rows of a CSV file settle that the file writes decimal commas."""
    bare = [re.sub(_SPACED, r"\1\2", cell.strip()) for cell in cells]
    commas = any(re.fullmatch(_COMMA, cell) and not re.fullmatch(_POINT, cell) for cell in bare)
    return commas and not any(re.fullmatch(_POINT, cell) and not re.fullmatch(_COMMA, cell) for cell in bare)


def may_be_two_numbers(cell: str) -> bool:
    """Return whether a cell is one number with a decimal point and another one with a decimal comma, such as 1,234."""
    bare = cell.strip()
    return bool("," in bare and re.fullmatch(_POINT, bare) and re.fullmatch(_COMMA, bare))


def with_numbers(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a table in which columns of text that hold numbers are converted, if their decimal sign is clear.

    A column stays as it is if one of its cells is no number with this sign. Names of stocks and columns of categories
    are not looked at.
    """
    names = [str(name) for name, dtype in frame.dtypes.items() if isinstance(dtype, pd.StringDtype)]
    texts = {name: _bare(frame[name]) for name in names if key(name) not in TICKER_NAMES}
    texts = {name: text for name, text in texts.items() if text.str.contains(r"[0-9]").any()}
    if not texts:
        return frame
    sign = frame.attrs.get(DECIMAL) or _sign(list(texts.values()), frame)
    if sign is None:
        return frame
    numbers = {name: found for name, text in texts.items() if (found := _numbers(text, sign)) is not None}
    converted = frame.assign(**numbers)
    converted.attrs = frame.attrs
    return converted


def _bare(column: pd.Series) -> pd.Series:
    text = column.str.strip()
    if text.str.contains("[ \u00a0\u202f'\u2019$\u20ac\u00a3]", regex=True).any():
        for _ in range(2):  # neighbouring groups share no character, but their matches do
            text = text.str.replace(_SPACED, r"\1\2", regex=True)
        text = text.str.replace(_CURRENCY, r"\1", regex=True)
    return text


def _sign(texts: Sequence[pd.Series], frame: pd.DataFrame) -> Sign | None:
    """Return the decimal sign of a table, or None if its cells settle none, or both."""
    with_mark = [text[text.str.contains("[.,]").fillna(False)] for text in texts]
    points, commas = ([text.str.fullmatch(pattern) for text in with_mark] for pattern in (_POINT, _COMMA))
    has_commas = any(bool((comma & ~point).any()) for point, comma in zip(points, commas, strict=True))
    has_points = any(bool((point & ~comma).any()) for point, comma in zip(points, commas, strict=True))
    if not has_points:
        floats = frame.select_dtypes("float")
        has_points = any(bool((values[np.isfinite(values)] % 1 != 0).any()) for values in floats.to_numpy().T)
    if has_commas == has_points:
        return None
    return "," if has_commas else "."


def _numbers(text: pd.Series, sign: Sign) -> pd.Series | None:
    """Return a column of text as numbers, or None if a cell is none."""
    scale: pd.Series | float = 1.0
    last = text.str[-1:]
    if last.isin(list(_SCALES)).any():
        scale = last.map(_SCALES).fillna(1.0).astype(float)
        text = text.str.rstrip("".join(_SCALES))
    if not text.dropna().str.fullmatch(_POINT if sign == "." else _COMMA).all():
        return None
    plain = text.str.replace(",", "", regex=False)
    if sign == ",":
        plain = text.str.replace(".", "", regex=False).str.replace(",", ".", regex=False)
    numbers = pd.to_numeric(plain, errors="coerce").astype(float)
    return None if (numbers.isna() & text.notna()).any() else numbers * scale
