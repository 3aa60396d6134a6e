"""Functions that all simulated markets share: `MarketData` for drawn returns, and checks of parameters.

Days are weekdays from 2000-01-03. Reports must say that the prices are not real, as `notes` do.
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
"""Largest number of assets, and of days times assets (0.8 GB per array)."""


def simulated_market(
    returns: FloatArray, assets: tuple[str, ...], source: str, cash_rate: float, periods_per_year: int
) -> MarketData:
    """Return a market without features for simple returns [T, N], whose first row is set to zero in place."""
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
    """Return the market with other asset features [T, N, F] or market features [T, M], which are never scaled."""
    changes: dict[str, Any] = {
        f"{kind}_features": np.ascontiguousarray(features, dtype=np.float32),
        f"{kind}_feature_names": tuple(names),
        "fitted": {**market.fitted, f"{kind}_feature_names": list(names)},
    }
    return replace(market, **changes)


def bounded_shocks(
    rng: np.random.Generator, num_days: int, num_assets: int, degrees: float, radius: float
) -> FloatArray:
    """Draw uncorrelated shocks [T, N] from a multivariate Student's t distribution of unit scale, cut at `radius`.

    A longer vector is shortened to `radius` in its direction, so that the distribution is the same in all directions:
    the shocks of all portfolios have the same distribution up to a factor. Infinite `degrees` of freedom give normal
    shocks.
    """
    shocks = rng.standard_normal((num_days, num_assets))
    if np.isfinite(degrees):
        shocks /= np.sqrt(rng.chisquare(degrees, (num_days, 1)) / degrees)
    lengths = np.sqrt((shocks**2).sum(axis=1, keepdims=True))
    return np.asarray(shocks * np.minimum(1.0, radius / lengths))


def shock_radius(means: FloatArray, scales: FloatArray, worst_loss: float) -> float:
    """Return the length of a day's shocks [N] beyond which an asset could lose more than `worst_loss`.

    Args:
        means: Mean daily returns of the assets.
        scales: Factors from shocks to daily returns of the assets.
        worst_loss: Largest loss of an asset in a day, a fraction.

    Raises:
        ConfigError: If a mean return is as low as -`worst_loss`.
    """
    radius = float(((worst_loss + means) / np.maximum(scales, 1e-12)).min())
    if radius <= 0.0:
        raise ConfigError(
            f"mean must leave a day's loss below worst_loss {worst_loss:g}, got {means.min():g} a day (synthetic "
            "market). Raise the mean."
        )
    return radius


def correlation_factor(correlation: float | Sequence[Sequence[float]], num_assets: int) -> FloatArray:
    """Return the lower Cholesky factor of the correlation matrix, [N, N].

    Raises:
        ConfigError: If it is no correlation matrix of N assets, or is not positive definite.
    """
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
    """Return the first `num_days` weekdays from 2000-01-03 on."""
    return np.busday_offset(np.datetime64(FIRST_DAY, "D"), np.arange(num_days), roll="forward")


def check_outcomes(up: float, down: float) -> None:
    """Raise a ConfigError unless the gain `up` is above 0 and the loss `down` is above 0 and below the whole wealth."""
    check_number("up", up, 1e-9, 100.0)
    check_number("down", down, 1e-9, 0.999)


def check_days(num_days: int, num_assets: int = 1) -> None:
    """Raise a ConfigError unless a market can have `num_days` rows of `num_assets` assets."""
    check_count("num_days", num_days, MIN_DAYS)
    if num_assets > MOST_ASSETS or num_days * num_assets > MOST_RETURNS:
        raise ConfigError(
            f"a synthetic market must have at most {MOST_ASSETS:,} assets and {MOST_RETURNS:,} returns, got "
            f"{num_days} days of {num_assets} assets. Lower num_days."
        )


def check_count(name: str, value: int, low: int) -> None:
    """Raise a ConfigError unless a parameter is a whole number of at least `low`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise ConfigError(f"{name} must be a whole number of at least {low}, got {value!r}. Raise it.")


def check_number(name: str, value: object, low: float, high: float) -> None:
    """Raise a ConfigError unless a parameter is a number in [low, high]."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not low <= value <= high:  # type: ignore[operator]
        raise ConfigError(f"{name} must be a number in [{low:g}, {high:g}], got {value!r} (synthetic market).")
