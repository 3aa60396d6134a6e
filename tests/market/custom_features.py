"""Features as users write them: two good ones, and one for each mistake."""

from __future__ import annotations

import numpy as np
import pandas as pd

NOT_A_FUNCTION = 3


def ten_day_position(prices: pd.DataFrame) -> pd.DataFrame:
    low, high = prices.rolling(10).min(), prices.rolling(10).max()
    return (prices - low) / (high - low)


def breadth(prices: pd.DataFrame) -> pd.Series:
    return (prices.diff() > 0).mean(axis=1)


def tomorrow(prices: pd.DataFrame) -> pd.DataFrame:
    return prices.pct_change().shift(-1).fillna(0.0)


def demeaned(prices: pd.DataFrame) -> pd.DataFrame:
    return prices - prices.mean()


def late_nan(prices: pd.DataFrame) -> pd.DataFrame:
    values = prices.copy()
    values.iloc[40, 1] = np.nan
    return values


def infinite(prices: pd.DataFrame) -> pd.Series:
    values = prices.iloc[:, 0].copy()
    values.iloc[5] = np.inf
    return values


def always_nan(prices: pd.DataFrame) -> pd.DataFrame:
    return prices * np.nan


def text(prices: pd.DataFrame) -> pd.Series:
    return pd.Series("up", index=prices.index)


def array(prices: pd.DataFrame) -> np.ndarray:
    return prices.to_numpy()


def shorter(prices: pd.DataFrame) -> pd.DataFrame:
    return prices.iloc[1:]


def other_columns(prices: pd.DataFrame) -> pd.DataFrame:
    return prices.iloc[:, ::-1]


def spoils_its_input(prices: pd.DataFrame) -> pd.DataFrame:
    prices *= 2.0
    return prices


def month_ratio(prices: pd.DataFrame) -> pd.DataFrame:
    return prices / prices.rolling(21).mean()
