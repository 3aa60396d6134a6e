"""Beta and residual volatility: the market model r = alpha + beta r_index + e of each asset, over trailing rows.

Both come from ordinary least squares with an intercept, computed from rolling means, variances and products, so that
row t is a function of the rows up to t. A window with a missing return is NaN.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import pandas as pd

Index = TypeVar("Index", pd.DataFrame, "pd.Series[float]")
"""One value per row, [T], or one per row and asset, [T, N], where each asset has rows of its own."""
STILL = 1e-16
"""An index whose daily returns have at most this variance did not move, and explains nothing."""
ROUNDING = 1e-12
"""A residual variance below this share of the variance is a rounding error of an asset that equals the index."""


def beta(returns: pd.DataFrame, index_returns: Index, days: int) -> pd.DataFrame:
    """Return the slope of the returns of each asset on those of the index, [T, N]; 0 while the index did not move.

    Args:
        returns: Daily returns, [T, N].
        index_returns: Daily returns of the index, [T] or [T, N].
        days: Window in rows, at least 2.
    """
    variance = index_returns.rolling(days).var(ddof=0)
    return _covariance(returns, index_returns, days).div(variance.where(variance > STILL, np.inf), axis=0)


def residual_volatility(returns: pd.DataFrame, index_returns: Index, days: int) -> pd.DataFrame:
    """Return the standard error of the regression on the index, sqrt(sum of e^2 / (days - 2)), [T, N].

    Args:
        returns: Daily returns, [T, N].
        index_returns: Daily returns of the index, [T] or [T, N].
        days: Window in rows, at least 3.

    Source: Ang, Hodrick, Xing and Zhang (2006), "The cross-section of volatility and expected returns"; here the index
        is the only factor.
    """
    explained = beta(returns, index_returns, days) * _covariance(returns, index_returns, days)
    variance = returns.rolling(days).var(ddof=0)
    residual = variance - explained
    return (residual.mask(residual <= ROUNDING * variance, 0.0) * (days / (days - 2.0))) ** 0.5


def _covariance(returns: pd.DataFrame, index_returns: Index, days: int) -> pd.DataFrame:
    """Return covariances (ddof 0) with the index over trailing rows, [T, N]."""
    products = returns.mul(index_returns, axis=0).rolling(days).mean()
    return products - returns.rolling(days).mean().mul(index_returns.rolling(days).mean(), axis=0)
