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
    """Return a market without features for given returns.

    Args:
        returns: Simple returns, [T, N]; row 0 is set to zero in place.
        assets: Names of the N assets.
        source: Name and parameters of the simulator, for reports.
        cash_rate: Annual rate of cash, a fraction.
        periods_per_year: Rows per year.

    Raises:
        ConfigError: If the cash rate is out of its range.
    """
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
    """Return a market with other features, which are never scaled.

    Args:
        market: A simulated market.
        kind: Whether to replace the features of the assets or of the market.
        features: Asset features, [T, N, F], or market features, [T, M].
        names: Names of the F or M features.
    """
    changes: dict[str, Any] = {
        f"{kind}_features": np.ascontiguousarray(features, dtype=np.float32),
        f"{kind}_feature_names": tuple(names),
        "fitted": {**market.fitted, f"{kind}_feature_names": list(names)},
    }
    return replace(market, **changes)


def bounded_shocks(
    rng: np.random.Generator, num_days: int, num_assets: int, degrees: float, radius: float
) -> FloatArray:
    """Draw uncorrelated shocks, [T, N], from a multivariate Student's t distribution of unit scale, cut at `radius`.

    A longer vector is shortened to `radius` in its direction, so that the distribution is the same in all directions:
    the shocks of all portfolios have the same distribution up to a factor.

    Args:
        rng: Generator of the draws.
        num_days: Number T of days.
        num_assets: Number N of assets.
        degrees: Degrees of freedom, above 2; infinite for normal shocks.
        radius: Largest length of the shocks of a day.
    """
    shocks = rng.standard_normal((num_days, num_assets))
    if np.isfinite(degrees):
        shocks /= np.sqrt(rng.chisquare(degrees, (num_days, 1)) / degrees)
    lengths = np.sqrt((shocks**2).sum(axis=1, keepdims=True))
    return np.asarray(shocks * np.minimum(1.0, radius / lengths))


def shock_radius(means: FloatArray, scales: FloatArray, worst_loss: float) -> float:
    """Return the length of a day's shocks [N] beyond which an asset could lose more than `worst_loss`.

    Args:
        means: Mean daily returns of the assets, [N].
        scales: Factors from shocks to daily returns of the assets, [N].
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

    Args:
        correlation: One number for all pairs of assets, or a matrix [N, N].
        num_assets: Number N of assets.

    Raises:
        ConfigError: If it is not a correlation matrix of N assets, or is not positive definite.
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
    """Raise a ConfigError unless the gain is above 0, and the loss is above 0 and below the whole wealth.

    Args:
        up: Gain, a fraction.
        down: Loss, a fraction.
    """
    check_number("up", up, 1e-9, 100.0)
    check_number("down", down, 1e-9, 0.999)


def check_days(num_days: int, num_assets: int = 1) -> None:
    """Raise a ConfigError if a market is too short or too large to be simulated.

    Args:
        num_days: Number T of days, at least 10.
        num_assets: Number N of assets.
    """
    check_count("num_days", num_days, MIN_DAYS)
    if num_assets > MOST_ASSETS or num_days * num_assets > MOST_RETURNS:
        raise ConfigError(
            f"a synthetic market must have at most {MOST_ASSETS:,} assets and {MOST_RETURNS:,} returns, got "
            f"{num_days} days of {num_assets} assets. Lower num_days."
        )


def check_count(name: str, value: int, low: int) -> None:
    """Raise a ConfigError unless a parameter is a whole number of at least `low`.

    Args:
        name: Name of the parameter, for messages.
        value: Value of the parameter.
        low: Smallest valid value.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise ConfigError(f"{name} must be a whole number of at least {low}, got {value!r}. Raise it.")


def check_number(name: str, value: object, low: float, high: float) -> None:
    """Raise a ConfigError unless a parameter is a number in [low, high].

    Args:
        name: Name of the parameter, for messages.
        value: Value of the parameter.
        low: Smallest valid value.
        high: Largest valid value.
    """
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not low <= value <= high:  # type: ignore[operator]
        raise ConfigError(f"{name} must be a number in [{low:g}, {high:g}], got {value!r} (synthetic market).")
