"""Price paths of tables that hold returns (`market.kind: returns`)."""

from __future__ import annotations

import numpy as np
import pandas as pd

from rllib_portfolio.dates import date_text
from rllib_portfolio.errors import DataError

LEAST_OF_PRICES = 0.5
"""Median from which on positive numbers are prices rather than returns."""


def price_paths(returns: pd.DataFrame, source: str) -> pd.DataFrame:
    """Return prices that start at 1 and have the given returns.

    The path of an asset starts one row before its first return, or at the first row of the table, whose return is then
    not used. A price is missing where a later return is missing; the next return is applied to the last price.

    Args:
        returns: Simple returns as fractions, [T, N]; NaN where missing.
        source: Where the table came from, for messages.

    Raises:
        DataError: If a column does not hold returns as fractions.
    """
    values = returns.to_numpy(dtype=float)
    _require_returns(returns, values, source)
    is_known = ~np.isnan(values)
    growth = np.where(is_known, 1.0 + values, 1.0)
    growth[0] = 1.0
    first = np.maximum(is_known.argmax(axis=0) - 1, 0)
    has_price = is_known
    has_price[first, np.arange(values.shape[1])] = is_known.any(axis=0)
    return pd.DataFrame(np.where(has_price, growth.cumprod(axis=0), np.nan), returns.index, returns.columns)


def _require_returns(returns: pd.DataFrame, values: np.ndarray, source: str) -> None:
    with np.errstate(invalid="ignore"):
        bad = (values < -1.0) | np.isinf(values)
    if bad.any():
        row, column = (int(position) for position in np.argwhere(bad)[0])
        raise DataError(
            f"{returns.columns[column]} must hold returns of -1 or more, got {values[row, column]:g} ({source}, "
            f"{date_text(returns.index[row])}). Divide returns in per cent by 100."
        )
    for name, column_values in zip(returns.columns, values.T, strict=True):
        known = column_values[~np.isnan(column_values)]
        if len(known) and known.min() >= 0.0 and np.median(known) > LEAST_OF_PRICES:
            raise DataError(
                f"{name} must hold returns (market.kind: returns), got numbers from {known.min():g} to {known.max():g} "
                f"({source}). Set market.kind to prices if they are prices; divide returns in per cent by 100."
            )
