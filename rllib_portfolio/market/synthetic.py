"""Synthetic markets: known parameters, so that the best policy can be computed, and a bootstrap of real prices.

Days are weekdays from 2000-01-03. Their prices are nobody's prices: reports must say so, and `notes` do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rllib_portfolio.config import MarketConfig
from rllib_portfolio.errors import ConfigError
from rllib_portfolio.market.data import MarketData
from rllib_portfolio.market.features import trailing_volatility
from rllib_portfolio.market.prepare import prepare_market
from rllib_portfolio.market.splits import split_windows, window_dates
from rllib_portfolio.market.table import PriceTable, data_hash

FloatArray = NDArray[np.float64]

FIRST_DAY = "2000-01-03"
MIN_DAYS = 10


def kelly_market(
    *,
    up: float = 0.2,
    down: float = 0.2,
    probability: float = 0.58,
    num_days: int = 100_000,
    seed: int = 0,
    cash_rate: float = 0.0,
    periods_per_year: int = 252,
) -> MarketData:
    """One asset, RISKY, that gains `up` with `probability` and loses `down` otherwise, each day alone. No features.

    Without costs and with cash at 0, log wealth grows fastest with probability / down - (1 - probability) / up in RISKY
    (0.8 by default, between 0 and 1 for a long-only portfolio).

    Args:
        up: Gain, a fraction above 0.
        down: Loss, a fraction in (0, 1).
        probability: Of a gain, in [0, 1].
        num_days: Rows, the first without a return.
        seed: Of the draws.
        cash_rate: Annual rate of cash, a fraction.
        periods_per_year: Rows per year.

    Source: Kelly (1956), "A new interpretation of information rate".
    """
    _check_outcomes(up, down)
    _check("probability", probability, 0.0, 1.0)
    _check_days(num_days)
    gains = np.random.default_rng(seed).random(num_days) < probability
    source = f"kelly(up={up}, down={down}, probability={probability}, num_days={num_days}, seed={seed})"
    return _market(np.where(gains, up, -down)[:, None], ("RISKY",), source, cash_rate, periods_per_year)


def gbm_market(
    *,
    mean: Sequence[float] = (0.08, 0.04),
    volatility: Sequence[float] = (0.2, 0.1),
    correlation: float | Sequence[Sequence[float]] = 0.0,
    num_days: int = 10_000,
    seed: int = 0,
    cash_rate: float = 0.0,
    assets: Sequence[str] | None = None,
    periods_per_year: int = 252,
) -> MarketData:
    """Correlated geometric Brownian motions. No features: the days are independent.

    In continuous time log wealth grows fastest with covariance^-1 (mean - log(1 + cash_rate)) in the assets.

    Args:
        mean: Annual drift of each asset, [N]: the expected simple return of a day is exp(mean / periods_per_year) - 1.
        volatility: Annual standard deviation of log returns of each asset, [N], not negative.
        correlation: Of the Brownian motions: one number for all pairs, or a matrix [N, N].
        num_days: Rows, the first without a return.
        seed: Of the draws.
        cash_rate: Annual rate of cash, a fraction.
        assets: N names; null gives ASSET_0, ASSET_1 ...
        periods_per_year: Rows per year.

    Source: Merton (1969), "Lifetime portfolio selection under uncertainty".
    """
    _check_days(num_days)
    if not mean or len(mean) != len(volatility):
        raise ConfigError(f"mean and volatility must have one number per asset, got {len(mean)} and {len(volatility)}.")
    for value in volatility:
        _check("volatility", value, 0.0, 10.0)
    for value in mean:
        _check("mean", value, -10.0, 10.0)
    names = tuple(assets) if assets is not None else tuple(f"ASSET_{i}" for i in range(len(mean)))
    if len(names) != len(mean) or len(set(names)) != len(names):
        raise ConfigError(f"assets must be {len(mean)} different names, got {list(names)}. Name each asset once.")
    annual_drift, sigma = np.array(mean, dtype=float), np.array(volatility, dtype=float)
    shocks = np.random.default_rng(seed).standard_normal((num_days, len(mean))) @ _factor(correlation, len(mean)).T
    log_returns = (annual_drift - sigma**2 / 2) / periods_per_year + sigma / np.sqrt(periods_per_year) * shocks
    source = f"gbm(mean={list(mean)}, volatility={list(volatility)}, num_days={num_days}, seed={seed})"
    return _market(np.expm1(log_returns), names, source, cash_rate, periods_per_year)


def regime_market(
    *,
    probability: Sequence[Sequence[float]] = ((0.58, 0.42), (0.42, 0.58)),
    up: float = 0.02,
    down: float = 0.02,
    stay: float = 0.98,
    num_days: int = 20_000,
    seed: int = 0,
    cash_rate: float = 0.0,
    periods_per_year: int = 252,
) -> MarketData:
    """Assets whose odds depend on an observable regime: the regime of day t decides the distribution of day t + 1.

    The regime is one-hot in `market_features` (regime_0 ... regime_{K-1}), never scaled. Given the regime, assets are
    independent: asset i gains `up` with probability[regime][i] and loses `down` otherwise. By default the better one of
    two assets changes with the regime. The exact growth of weights w is a sum over the 2^N outcomes.

    Args:
        probability: Of a gain, [K, N], each in [0, 1].
        up: Gain, a fraction above 0.
        down: Loss, a fraction in (0, 1).
        stay: Probability that the next day has the same regime, in [0, 1]; the others are equally likely.
        num_days: Rows, the first without a return.
        seed: Of the draws.
        cash_rate: Annual rate of cash, a fraction.
        periods_per_year: Rows per year.
    """
    _check_outcomes(up, down)
    _check("stay", stay, 0.0, 1.0)
    _check_days(num_days)
    if len(probability) < 2 or not probability[0] or len({len(row) for row in probability}) != 1:
        raise ConfigError(
            f"probability must have two regimes or more, with one number per asset each, got {probability!r}. "
            "Give K rows of N numbers."
        )
    for value in (value for row in probability for value in row):
        _check("probability", value, 0.0, 1.0)
    odds = np.array(probability, dtype=float)
    rng = np.random.default_rng(seed)
    jumps = np.where(rng.random(num_days) < stay, 0, rng.integers(1, len(odds), num_days))
    regime = np.cumsum(jumps) % len(odds)
    returns = np.empty((num_days, odds.shape[1]))
    returns[1:] = np.where(rng.random((num_days - 1, odds.shape[1])) < odds[regime[:-1]], up, -down)
    source = f"regime(probability={odds.tolist()}, up={up}, down={down}, stay={stay}, num_days={num_days}, seed={seed})"
    market = _market(returns, tuple(f"ASSET_{i}" for i in range(odds.shape[1])), source, cash_rate, periods_per_year)
    names = tuple(f"regime_{k}" for k in range(len(odds)))
    return replace(
        market,
        market_features=np.eye(len(odds), dtype=np.float32)[regime],
        market_feature_names=names,
        fitted={**market.fitted, "market_feature_names": list(names)},
    )


def bootstrap_market(
    table: PriceTable,
    *,
    num_days: int | None = None,
    mean_block_days: float = 63.0,
    seed: int = 0,
    config: MarketConfig | None = None,
    fitted: Mapping[str, Any] | None = None,
) -> MarketData:
    """A stationary block bootstrap of real prices, prepared like a real table.

    Days of the table are drawn in blocks of random, geometric length, all assets and the index together, so that
    correlations and short-lived dependence survive; what is longer than a block does not. Extra columns are left out.

    Args:
        table: Real prices.
        num_days: Rows to draw; null draws as many as the table has.
        mean_block_days: Expected length of a block, at least 1.
        seed: Of the draws.
        config: Features, windows and cash; null takes the defaults.
        fitted: `MarketData.fitted` of another run, applied instead of fitting.

    Source: Politis and Romano (1994), "The stationary bootstrap".
    """
    length = len(table.prices) if num_days is None else num_days
    _check_days(length)
    _check("mean_block_days", mean_block_days, 1.0, float(len(table.prices)))
    rows = _stationary_rows(len(table.prices) - 1, length - 1, mean_block_days, seed)
    days = pd.DatetimeIndex(_weekdays(length), name="date")
    prices = _resampled(table.price_values, rows)
    index = None
    if table.index_values is not None:
        index = pd.Series(_resampled(table.index_values[:, None], rows)[:, 0], index=days, name="index")
    source = f"bootstrap(table={table.source}, num_days={length}, mean_block_days={mean_block_days:g}, seed={seed})"
    note = f"Prices are resampled, not real: a stationary block bootstrap of {table.source}."
    resampled = PriceTable(
        prices=pd.DataFrame(prices, index=days, columns=table.prices.columns),
        index=index,
        extra=pd.DataFrame(index=days),
        source=source,
        notes=(*table.notes, note),
    )
    return prepare_market(resampled, config or MarketConfig(data={"source": "bootstrap"}), fitted)


def leaked(market: MarketData) -> MarketData:
    """`market` with a LEAK: the asset feature `next_return`, the return of the next day, standardised.

    For tests only: with execution lag 0 a policy that reads it must become absurdly rich, and a causality test must
    fail on it. It is standardised by the training window; the last row, which has no next day, is zero.
    """
    next_returns = np.zeros_like(market.returns)
    next_returns[:-1] = market.returns[1:]
    start, stop = market.windows["train"]
    scale = float(market.returns[start:stop].std()) or 1.0
    leak = (next_returns - float(market.returns[start:stop].mean())) / scale
    leak[: market.first_row] = 0.0
    leak[-1] = 0.0
    names = (*market.asset_feature_names, "next_return")
    return replace(
        market,
        asset_features=np.concatenate([market.asset_features, leak[:, :, None].astype(np.float32)], axis=-1),
        asset_feature_names=names,
        fitted={**market.fitted, "asset_feature_names": list(names)},
        notes=(*market.notes, "LEAK: the feature next_return is the return of the next day."),
    )


def _market(
    returns: FloatArray, assets: tuple[str, ...], source: str, cash_rate: float, periods_per_year: int
) -> MarketData:
    _check("cash_rate", cash_rate, -0.99, 1.0)
    returns[0] = 0.0
    num_days, num_assets = returns.shape
    dates = _weekdays(num_days)
    by_date = window_dates(dates, MarketConfig(data={}))
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
        windows=split_windows(dates, by_date, first_row=0, purge_days=0),
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


def _weekdays(num_days: int) -> NDArray[np.datetime64]:
    return np.busday_offset(np.datetime64(FIRST_DAY, "D"), np.arange(num_days), roll="forward")


def _stationary_rows(num_rows: int, num_draws: int, mean_block_days: float, seed: int) -> NDArray[np.int64]:
    """Rows in [0, num_rows), drawn in blocks that wrap around the end, [num_draws]."""
    rng = np.random.default_rng(seed)
    draw = np.arange(num_draws)
    starts_block = rng.random(num_draws) < 1.0 / mean_block_days
    starts_block[:1] = True
    block_start = np.maximum.accumulate(np.where(starts_block, draw, 0))
    rows: NDArray[np.int64] = (rng.integers(0, num_rows, num_draws)[block_start] + draw - block_start) % num_rows
    return rows


def _resampled(prices: FloatArray, rows: NDArray[np.int64]) -> FloatArray:
    """Prices that start at the first row's and earn the gross returns of `rows`."""
    gross = (prices[1:] / prices[:-1])[rows]
    return np.vstack([prices[:1], prices[:1] * np.cumprod(gross, axis=0)])


def _factor(correlation: float | Sequence[Sequence[float]], num_assets: int) -> FloatArray:
    """Lower Cholesky factor of the correlation matrix, [N, N]."""
    matrix = np.array(correlation, dtype=float)
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


def _check_outcomes(up: float, down: float) -> None:
    _check("up", up, 1e-9, 100.0)
    _check("down", down, 1e-9, 0.999)


def _check_days(num_days: int) -> None:
    if isinstance(num_days, bool) or not isinstance(num_days, int) or num_days < MIN_DAYS:
        raise ConfigError(f"num_days must be a whole number of at least {MIN_DAYS}, got {num_days!r}. Raise it.")


def _check(name: str, value: object, low: float, high: float) -> None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not low <= value <= high:  # type: ignore[operator]
        raise ConfigError(f"{name} must be a number in [{low:g}, {high:g}], got {value!r} (synthetic market).")
