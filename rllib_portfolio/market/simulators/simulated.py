"""What all simulated markets share: `MarketData` of drawn returns, and the checks of their parameters.

Days are weekdays from 2000-01-03. Their prices are nobody's prices: reports must say so, and `notes` do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from rllib_portfolio.arrays import FloatArray
from rllib_portfolio.config import MarketConfig
from rllib_portfolio.errors import ConfigError
from rllib_portfolio.market.data import MarketData
from rllib_portfolio.market.features import trailing_volatility
from rllib_portfolio.market.splits import split
from rllib_portfolio.market.table import data_hash

FIRST_DAY = "2000-01-03"
MIN_DAYS = 10
MOST_ASSETS, MOST_RETURNS = 5_000, 100_000_000
"""Largest number of assets, and of days times assets: 0.8 GB an array."""


def simulated_market(
    returns: FloatArray, assets: tuple[str, ...], source: str, cash_rate: float, periods_per_year: int
) -> MarketData:
    """A market without features from simple returns [T, N], the first row of which is none and is set to zero."""
    check_number("cash_rate", cash_rate, -0.99, 1.0)
    returns[0] = 0.0
    num_days, num_assets = returns.shape
    dates = weekdays(num_days)
    by_date, windows = split(dates, MarketConfig(data={}))
    return MarketData(
        dates=dates,
        assets=assets,
        returns=returns,
        cash_returns=np.full(num_days, (1.0 + cash_rate) ** (1.0 / periods_per_year) - 1.0),
        volatility=trailing_volatility(returns),
        asset_features=np.empty((num_days, num_assets, 0), dtype=np.float32),
        market_features=np.empty((num_days, 0), dtype=np.float32),
        asset_feature_names=(),
        market_feature_names=(),
        first_row=0,
        windows=windows,
        periods_per_year=periods_per_year,
        fitted={
            "features": None,
            "asset_feature_names": [],
            "market_feature_names": [],
            "observation_filter": "none",
            "purge_days": 0,
            "windows": {name: list(days) for name, days in by_date.items()},
            "fit_window": None,
            "scaler": None,
            "gmm": None,
            "hmm": None,
        },
        source=source,
        data_hash=data_hash(dates, assets, returns),
        notes=(f"Prices are simulated, not real: {source}.",),
    )


def with_features(
    market: MarketData, kind: Literal["asset", "market"], features: NDArray[Any], names: Sequence[str]
) -> MarketData:
    """Return the market with other features of a kind, [T, N, F] or [T, M], which are never scaled."""
    changes: dict[str, Any] = {
        f"{kind}_features": np.ascontiguousarray(features, dtype=np.float32),
        f"{kind}_feature_names": tuple(names),
        "fitted": {**market.fitted, f"{kind}_feature_names": list(names)},
    }
    return replace(market, **changes)


def bounded_shocks(
    rng: np.random.Generator, num_days: int, num_assets: int, degrees: float, radius: float
) -> FloatArray:
    """Draw uncorrelated shocks [T, N] of Student's multivariate t with unit scale, no longer than `radius`.

    A longer one is cut to `radius` in its direction, so that the law is the same in all directions: the shock of any
    portfolio is a multiple of the same number. Infinite `degrees` of freedom give normal shocks.
    """
    shocks = rng.standard_normal((num_days, num_assets))
    if np.isfinite(degrees):
        shocks /= np.sqrt(rng.chisquare(degrees, (num_days, 1)) / degrees)
    lengths = np.sqrt((shocks**2).sum(axis=1, keepdims=True))
    return np.asarray(shocks * np.minimum(1.0, radius / lengths))


def shock_radius(means: FloatArray, scales: FloatArray, worst_loss: float) -> float:
    """Length of a day's shocks [N] beyond which an asset with one of these means and scales could lose more."""
    radius = float(((worst_loss + means) / np.maximum(scales, 1e-12)).min())
    if radius <= 0.0:
        raise ConfigError(
            f"mean must leave a day's loss below worst_loss {worst_loss:g}, got {means.min():g} a day (synthetic "
            "market). Raise the mean."
        )
    return radius


def correlation_factor(correlation: float | Sequence[Sequence[float]], num_assets: int) -> FloatArray:
    """Lower Cholesky factor of the correlation matrix, [N, N]."""
    try:
        matrix = np.array(correlation, dtype=float)
    except (TypeError, ValueError):
        matrix = np.empty(0)
    if matrix.ndim == 0:
        matrix = np.full((num_assets, num_assets), float(matrix))
        np.fill_diagonal(matrix, 1.0)
    is_valid = matrix.shape == (num_assets, num_assets) and np.allclose(matrix, matrix.T)
    if not is_valid or not np.allclose(np.diag(matrix), 1.0):
        raise ConfigError(
            f"correlation must be a number or a symmetric {num_assets} x {num_assets} matrix with ones on its "
            f"diagonal, got {correlation!r}. Correct the matrix."
        )
    try:
        factor: FloatArray = np.linalg.cholesky(matrix)
    except np.linalg.LinAlgError:
        raise ConfigError(
            f"correlation must be positive definite, got {correlation!r}. Bring the correlations nearer to 0."
        ) from None
    return factor


def weekdays(num_days: int) -> NDArray[np.datetime64]:
    """The first weekdays from 2000-01-03 on."""
    return np.busday_offset(np.datetime64(FIRST_DAY, "D"), np.arange(num_days), roll="forward")


def check_outcomes(up: float, down: float) -> None:
    """Raise ConfigError unless a gain is above 0 and a loss leaves something."""
    check_number("up", up, 1e-9, 100.0)
    check_number("down", down, 1e-9, 0.999)


def check_days(num_days: int, num_assets: int = 1) -> None:
    """Raise ConfigError unless a market can have so many rows of so many assets."""
    check_count("num_days", num_days, MIN_DAYS)
    if num_assets > MOST_ASSETS or num_days * num_assets > MOST_RETURNS:
        raise ConfigError(
            f"a synthetic market must have at most {MOST_ASSETS:,} assets and {MOST_RETURNS:,} returns, got "
            f"{num_days} days of {num_assets} assets. Lower num_days."
        )


def check_count(name: str, value: int, low: int) -> None:
    """Raise ConfigError unless a parameter is a whole number of at least `low`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise ConfigError(f"{name} must be a whole number of at least {low}, got {value!r}. Raise it.")


def check_number(name: str, value: object, low: float, high: float) -> None:
    """Raise ConfigError unless a parameter is a number in [low, high]."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not low <= value <= high:  # type: ignore[operator]
        raise ConfigError(f"{name} must be a number in [{low:g}, {high:g}], got {value!r} (synthetic market).")
