"""The user's own features, which are named as `module:function`, and checks of their values."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from rllib_portfolio.config.user_values import import_function
from rllib_portfolio.dates import date_text
from rllib_portfolio.errors import DataError
from rllib_portfolio.market.features import warm_up

Feature = pd.DataFrame | pd.Series
CustomFeature = Callable[[pd.DataFrame], Feature]


def custom_feature(name: str, prices: pd.DataFrame) -> Feature:
    """Compute a feature of prices by a user's own function.

    Args:
        name: The function, as `module:function`.
        prices: Prices, [T, N], with the days as index; NaN outside of the lives of assets.

    Returns:
        A DataFrame [T, N] or a Series [T]; leading rows with NaN are the warm-up of the feature. The DataFrame may also
        be NaN where there is no price, and in the warm-up of each asset.

    Raises:
        ConfigError: If there is no such function.
        DataError: If the result has another shape, other rows or columns, text, infinite values, NaN after the warm-up,
            or changes when later rows are cut off, which is look-ahead bias.
    """
    function: CustomFeature = import_function(name, "features.custom")
    values = _checked(name, function(prices.copy()), prices)
    _check_prefix(name, function, prices, values)
    return values


def _checked(name: str, values: object, prices: pd.DataFrame) -> Feature:
    if not isinstance(values, pd.DataFrame | pd.Series):
        raise DataError(f"{name} must return a DataFrame or a Series, got {type(values).__name__}. Wrap its values.")
    if len(values) != len(prices) or not values.index.equals(prices.index):
        raise DataError(
            f"{name} must return one row per day, got {len(values)} rows for {len(prices)} days. "
            "Keep the index of the prices; leave warm-up rows NaN."
        )
    if isinstance(values, pd.DataFrame) and list(values.columns) != list(prices.columns):
        raise DataError(
            f"{name} must return one column per asset in their order, got {list(values.columns)}. "
            "Keep the columns of the prices, or return a Series."
        )
    try:
        values = values.astype(float)
    except (ValueError, TypeError) as error:
        raise DataError(f"{name} must return numbers, got text ({error}). Return floats.") from None
    _check_cells(name, values, prices)
    return values


def _check_cells(name: str, values: Feature, prices: pd.DataFrame) -> None:
    cells = values.to_numpy().reshape(len(values), -1)
    missing = np.isnan(cells)
    has_gaps = bool(prices.isna().to_numpy().any()) and isinstance(values, pd.DataFrame)
    first = int(np.argmin(missing.all(axis=1))) if has_gaps else warm_up(cells)
    if missing.all() or first == len(cells):
        raise DataError(f"{name} must return values after its warm-up, got NaN on every day. Shorten its window.")
    if has_gaps:  # each asset warms up on its own, and has no value without a price
        missing &= np.logical_or.accumulate(~missing, axis=0) & prices.notna().to_numpy()
    bad = np.isinf(cells).any(axis=1)
    bad[first:] |= missing[first:].any(axis=1)
    if bad.any():
        row = int(np.argmax(bad))
        raise DataError(
            f"{name} must be finite after its warm-up, got {cells[row][~np.isfinite(cells[row])][0]} "
            f"({date_text(values.index[row])}). Return a number for each day after the first {first}."
        )


def _check_prefix(name: str, function: CustomFeature, prices: pd.DataFrame, values: Feature) -> None:
    """Raise unless the function gives the same values for the first two thirds of the prices alone."""
    cut = 2 * len(prices) // 3
    prefix = _rows(function(prices.iloc[:cut].copy()), cut)
    same = np.isclose(prefix, _rows(values, cut), rtol=1e-9, atol=1e-12, equal_nan=True).all(axis=1)
    if not same.all():
        raise DataError(
            f"{name} must depend on prices up to its own day only, got another value once later days were cut off "
            f"({date_text(prices.index[int(np.argmin(same))])}). Use trailing windows; no global mean, no "
            "negative shift."
        )


def _rows(values: Feature, count: int) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    return values.iloc[:count].to_numpy(dtype=float).reshape(count, -1)
