"""Meanings of column names: a field of the bars of a stock (close, volume), a reserved name, or an asset.

Names are compared in lower case and without spaces, underscores or other marks. A label is a name, or the two names of
a column that has two levels, as (field, ticker) or (ticker, field). Spaces around a name are ignored.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

CLOSES = (
    *("adjclose", "adjustedclose", "closeadj", "closeadjusted", "adjusted"),
    *("close", "closelast", "closingprice", "closeprice", "pxlast", "settle", "last", "lastprice", "price"),
)
"""Fields that are the price of a stock; if there are several, the first in this order is read."""

OTHER_PRICES = (
    *("open", "high", "low", "openprice", "highprice", "lowprice", "pxopen", "pxhigh", "pxlow"),
    *("adjopen", "adjhigh", "adjlow", "vwap", "bid", "ask", "prevclose", "previousclose"),
)
OPENS = ("open", "openprice", "pxopen", "adjopen")
NO_PRICES = (
    *("volume", "vol", "adjvolume", "pxvolume", "turnover", "amount", "trades", "numberoftrades", "marketcap"),
    *("dividend", "dividends", "dividendamount", "divcash", "capitalgains", "stocksplits", "splits", "splitfactor"),
    *("splitcoefficient", "repaired", "openinterest", "openint", "change", "changepercent", "chg"),
    *("return", "returns", "dailyreturn", "dailyreturns", "logreturn", "logreturns", "pctchange", "ret"),
)
VOLUMES = ("volume", "vol", "adjvolume", "pxvolume")
RETURNS = ("return", "returns", "ret", "dailyreturn", "dailyreturns", "pctchange")
"""Fields that are the simple return of a stock."""
ADJUSTMENTS = (
    *("dividend", "dividends", "dividendamount", "divcash", "capitalgains"),
    *("stocksplits", "splits", "splitfactor", "splitcoefficient", "repaired"),
)
"""Fields from which adjusted prices are computed."""
FIELDS = dict.fromkeys((*CLOSES, *OTHER_PRICES, *NO_PRICES))
"""All fields, in this order, in a dictionary for fast look-up."""

INDICATOR = "indicator"
INDICATORS = ("rsi", "macd", "sma", "ema", "atr", "adx", "cci", "obv", "signal", "volatility")
"""Indicators computed from a price. In a joined name (AAPL_rsi_14) they are not prices; alone they may be tickers."""

ALSO_TICKERS = ("open", "low", "bid")
"""Fields that are also ticker symbols: Opendoor, Lowe's and Sotheby's."""

TICKER_NAMES = (
    *("ticker", "tickers", "tic", "symbol", "symbols", "asset", "security", "stock", "instrument", "company", "name"),
    *("isin", "cusip", "permno", "gvkey", "sid", "id", "assetid", "code"),
)
"""Names of a column that holds the stock of each row."""

INDEX_NAMES = ("index", "benchmark", "marketindex", "indexlevel", "benchmarkindex")
VIX_NAMES = ("vix", "vixcls", "cboevix", "vixindex", "vixlevel")
RATE_NAMES = ("rate", "cashrate", "riskfree", "riskfreerate", "interestrate", "tbillrate", "fedfunds")
CALENDAR_NAMES = {
    **{name: name for name in ("year", "quarter", "month", "week", "day", "weekday", "hour")},
    **{"weekofyear": "week", "weeknumber": "week", "isoweek": "week", "dayofmonth": "day", "dayofweek": "weekday"},
    **{"dow": "weekday", "isoweekday": "weekday", "dayofyear": "day_of_year"},
}
"""Maps the names of a column that repeats a part of the day of its row to that part."""
FAMOUS_INDICES = ("sp500", "snp500", "sandp500", "spx", "gspc")

_KEYS = (*FIELDS, *INDICATORS)
_FIELD = "|".join(r"[\s_.-]*".join(field) for field in sorted(_KEYS, key=len, reverse=True))
_FIELD = rf"(?:{_FIELD})(?:[\s_.-]*\d+)?"
_MARKS = r"[\s_.|:/()-]+"
_TICKER_FIRST = re.compile(rf"(?P<ticker>.+?){_MARKS}(?P<field>{_FIELD})\)?", re.IGNORECASE)
_FIELD_FIRST = re.compile(rf"(?P<field>{_FIELD}){_MARKS}(?P<ticker>.+?)\)?", re.IGNORECASE)


Label = str | tuple[str, str]


@dataclass(frozen=True, slots=True)
class Cell:
    """A column that is one field of one stock."""

    name: str
    ticker: str
    written: str
    """The field as the file spells it."""
    field: str
    """One of `FIELDS`, or `indicator`."""


def plain(label: object) -> str:
    """Return a label as one name; the names of two levels are joined, without empty ones."""
    return " ".join(part for part in map(str, label) if part) if isinstance(label, tuple) else str(label)


@lru_cache(maxsize=2**16)
def key(name: str) -> str:
    """Return the letters and digits of a name, in lower case."""
    return "".join(character for character in name.lower() if character.isalnum())


def field_of(name: str) -> str | None:
    """Return the field that a name means (`Adj Close**`, `5. adjusted close`, `<CLOSE>`, `Vol.`), or None."""
    found = key(name).lstrip("0123456789")
    return found if found in FIELDS else None


def price_among(names: Sequence[str]) -> str | None:
    """Return the name that means the price, or None; adjusted prices are preferred."""
    closes = [name for name in names if field_of(name) in CLOSES]
    return min(closes, key=lambda name: CLOSES.index(field_of(name) or ""), default=None)


def returns_among(names: Sequence[str]) -> str | None:
    """Return the name that means the simple return, or None."""
    found = [name for name in names if field_of(name) in RETURNS]
    return min(found, key=lambda name: RETURNS.index(field_of(name) or ""), default=None)


@lru_cache(maxsize=2**16)
def role_of(name: str) -> str | None:
    """Return the role that a name is reserved for: `index`, `VIX`, `extra` or `rate`; None for other names."""
    close = next((cell for cell in joined_cells([name]) if cell.field in CLOSES), None)
    for each in (key(name), key(close.ticker) if close else ""):
        if each in INDEX_NAMES:
            return "index"
        if each in VIX_NAMES:
            return "VIX"
    found = key(name)
    if found.startswith(("regime", "feargreed", "fearandgreed", "fearngreed")) or "sentiment" in found:
        return "extra"
    return "rate" if found in RATE_NAMES else None


def joined_cells(names: Sequence[str]) -> list[Cell]:
    """Return the names that join a ticker and a field, such as `AAPL_Close`, `Close_AAPL` or `AAPL Adj Close`.

    If names can be read in both orders, the order in which more stocks have a close is used.
    """
    readings = []
    last = [name for name in names if key(name).rstrip("0123456789").endswith(_KEYS)]
    first = [name for name in names if key(name).startswith(_KEYS)]
    for pattern, candidates in ((_TICKER_FIRST, last), (_FIELD_FIRST, first)):  # patterns are slow
        matches = [(name, pattern.fullmatch(name.strip())) for name in candidates]
        found = [
            Cell(name, m["ticker"].strip(), m["field"], field_of(m["field"]) or INDICATOR) for name, m in matches if m
        ]
        readings.append(found)
    return max(readings, key=lambda cells: (sum(cell.field in CLOSES for cell in cells), len(cells)))


def level_cells(labels: Sequence[tuple[str, str]], level_names: Sequence[object]) -> list[Cell] | None:
    """Return the ticker and the field of each column with two levels, or None if it is unclear which level is which.

    If the tickers could also be fields (LOW), the name of their level (Ticker) decides.

    Args:
        labels: The two names of each column.
        level_names: Names of the two levels.
    """
    are_fields = [all(field_of(label[level]) for label in labels) for level in (0, 1)]
    if all(are_fields):
        are_fields = [key(str(name)) not in TICKER_NAMES for name in level_names]
    if are_fields[0] == are_fields[1]:
        return None
    level = are_fields.index(True)
    return [
        Cell(plain(label), label[1 - level].strip(), label[level].strip(), field_of(label[level]) or "")
        for label in labels
    ]


def split_labels(names: Sequence[str]) -> Sequence[Label]:
    """Return the labels of two levels that were written as text, `('Volume', 'XOM')`; other names do not change."""
    names = [name.strip() for name in names]
    pairs = []
    for name in names:
        try:
            pair = ast.literal_eval(name) if name.startswith("(") else (name, "")
        except (SyntaxError, ValueError):
            return names
        if not (isinstance(pair, tuple) and len(pair) == 2):
            return names
        pairs.append((str(pair[0]).strip(), str(pair[1]).strip()))
    return pairs if any(second for _, second in pairs) else names
