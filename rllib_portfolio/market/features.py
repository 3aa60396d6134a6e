"""Features of prices. Row t of each is a function of rows up to t: no global mean, no centred window, no back-fill.

Each feature is a function from prices to values of the same shape, NaN until its window is full, and in every window
with a missing price. Features do not change if prices are multiplied by a constant; `liquidity` holds those that do.
They are computed for each asset on its own; ranks then compare the assets of a row. The rolling and exponential windows
of pandas run forward row by row, so that later rows cannot change earlier results, not even in the last bit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np
import pandas as pd

from rllib_portfolio.arrays import FloatArray
from rllib_portfolio.config import FeatureConfig
from rllib_portfolio.errors import ConfigError
from rllib_portfolio.market.index_regression import Index, beta, residual_volatility

Table = TypeVar("Table", pd.DataFrame, "pd.Series[float]")

VOLATILITY_DAYS = 21
"""Window of `MarketData.volatility`, and the trading month that momentum leaves out, in rows."""


def log_return(prices: Table, days: int) -> Table:
    """Return log(p_t / p_{t - days}). Over 21 days it is short-term reversal with the opposite sign.

    Args:
        prices: Positive prices, [T, N] or [T].
        days: Distance in rows, at least 1.

    Source: Jegadeesh (1990), "Evidence of predictable behavior of security returns", for the reversal.
    """
    return _log(prices / prices.shift(days))


def momentum(prices: Table, days: int, skipped: int = VOLATILITY_DAYS) -> Table:
    """Return log(p_{t - skipped} / p_{t - days}); the last month is left out because it tends to reverse.

    Returns of months 13 to 36, from 756 to 252 rows ago, tend to reverse, too.

    Args:
        prices: Positive prices, [T, N] or [T].
        days: Distance in rows of the earlier price, above `skipped`.
        skipped: Distance in rows of the later price, at least 0.

    Source: Jegadeesh and Titman (1993), "Returns to buying winners and selling losers"; De Bondt and Thaler (1985),
        "Does the stock market overreact?", for months 13 to 36.
    """
    return _log(prices.shift(skipped) / prices.shift(days))


def volatility(prices: Table, days: int) -> Table:
    """Return the sample standard deviation (ddof 1) of the last `days` daily log returns.

    Args:
        prices: Positive prices, [T, N] or [T].
        days: Window in rows, at least 2.
    """
    return log_return(prices, 1).rolling(days).std()


def drawdown(prices: Table, days: int) -> Table:
    """Return the drawdown 1 - p_t / max(p_{t - days + 1} ... p_t), in [0, 1).

    Over 252 days it is 1 less the nearness to the 52-week high, which is therefore no feature of its own.

    Args:
        prices: Positive prices, [T, N] or [T].
        days: Window in rows, at least 1.

    Source: George and Hwang (2004), "The 52-week high and momentum investing", for the nearness.
    """
    return 1.0 - prices / prices.rolling(days).max()


def max_return(prices: Table, days: int) -> Table:
    """Return the highest of the last `days` daily log returns.

    Args:
        prices: Positive prices, [T, N] or [T].
        days: Window in rows, at least 1.

    Source: Bali, Cakici and Whitelaw (2011), "Maxing out: Stocks as lotteries and the cross-section of expected
        returns".
    """
    return log_return(prices, 1).rolling(days).max()


def rsi(prices: pd.DataFrame, days: int) -> pd.DataFrame:
    """Return the relative strength index scaled to [-1, 1], (G - L) / (G + L) = RSI / 50 - 1; 0 if no price moved.

    G and L are Wilder's averages of gains and losses: the plain mean of the first `days` changes, then
    G_t = G_{t-1} + (gain_t - G_{t-1}) / days.

    Args:
        prices: Positive prices, [T, N].
        days: Smoothing window in rows, at least 1.

    Source: Wilder (1978), "New Concepts in Technical Trading Systems".
    """
    change = prices.diff()
    gain, loss = (_wilder_average(side, days) for side in (change.clip(lower=0.0), (-change).clip(lower=0.0)))
    moved = gain + loss
    return ((gain - loss) / moved.where(moved > 0.0, 1.0)).where(moved.notna())


def _wilder_average(values: pd.DataFrame, days: int) -> pd.DataFrame:
    seeded = values.copy()
    seeded.iloc[: days + 1] = np.nan
    if len(values) > days:
        seeded.iloc[days] = values.iloc[1 : days + 1].mean()
    return seeded.ewm(alpha=1.0 / days, adjust=False).mean()


def macd(prices: pd.DataFrame, spans: tuple[int, int, int]) -> pd.DataFrame:
    """Return the MACD histogram as a fraction of the price: (m_t - EMA_signal(m)_t) / p_t, clipped to [-1, 1].

    Here m = EMA_fast(p) - EMA_slow(p). EMA_k starts at the first value and has the smoothing factor 2 / (k + 1). Rows
    before slow + signal - 2 are NaN. Values are clipped because the averages lag behind a price that collapses.

    Args:
        prices: Positive prices, [T, N].
        spans: Fast, slow and signal spans in rows.
    """
    fast, slow, signal = spans
    line = prices.ewm(span=fast, adjust=False).mean() - prices.ewm(span=slow, adjust=False).mean()
    histogram = (line - line.ewm(span=signal, adjust=False).mean()) / prices
    histogram.iloc[: max(slow + signal - 2, 0)] = np.nan
    return histogram.clip(-1.0, 1.0)


def moving_average_distance(prices: Table, days: int) -> Table:
    """Return log(p_t / mean(p_{t - days + 1} ... p_t)).

    Args:
        prices: Positive prices, [T, N] or [T].
        days: Window in rows, at least 1.
    """
    return _log(prices / prices.rolling(days).mean())


def asset_features(prices: pd.DataFrame, config: FeatureConfig, index: Index | None = None) -> dict[str, pd.DataFrame]:
    """Return the configured features of each asset by name, each [T, N], NaN until its window is full.

    Args:
        prices: Positive prices, [T, N].
        config: The features and their windows.
        index: Level of the index on the rows of the prices, [T] or [T, N], or None.

    Raises:
        ConfigError: If a feature needs an index, and there is none.
    """
    per_days: tuple[tuple[str, Callable[[pd.DataFrame, int], pd.DataFrame], tuple[int, ...]], ...] = (
        ("log_return", log_return, config.log_return_days),
        ("momentum", momentum, config.momentum_days),
        ("volatility", volatility, config.volatility_days),
        ("drawdown", drawdown, _optional(config.drawdown_days)),
        ("rsi", rsi, _optional(config.rsi_days)),
        ("moving_average", moving_average_distance, config.moving_average_days),
        ("max_return", max_return, _optional(config.max_return_days)),
    )
    features = {f"{name}_{days}": feature(prices, days) for name, feature, all_days in per_days for days in all_days}
    if config.macd_days is not None:
        features["macd_" + "_".join(map(str, config.macd_days))] = macd(prices, config.macd_days)
    if config.long_momentum_days is not None:
        skipped, days = config.long_momentum_days
        features[f"long_momentum_{skipped}_{days}"] = momentum(prices, days, skipped)
    return features | _features_with_index(prices, config, index)


def _features_with_index(prices: pd.DataFrame, config: FeatureConfig, index: Index | None) -> dict[str, pd.DataFrame]:
    days = {"beta_days": config.beta_days, "residual_volatility_days": config.residual_volatility_days}
    wanted = {name: str(value) for name, value in days.items() if value is not None}
    if not wanted:
        return {}
    if index is None:
        raise ConfigError(
            f"market.features.{' and '.join(wanted)} must be null for a table without an index, got "
            f"{' and '.join(wanted.values())}. Name its file (market.index_path), or leave the feature out."
        )
    returns, index_returns = log_return(prices, 1), log_return(index, 1)
    features = {f"beta_{window}": beta(returns, index_returns, window) for window in _optional(config.beta_days)}
    for window in _optional(config.residual_volatility_days):
        features[f"residual_volatility_{window}"] = residual_volatility(returns, index_returns, window)
    return features


def cross_sectional_ranks(values: FloatArray) -> FloatArray:
    """Return ranks among the assets of each row, [T, N], from -1 (lowest) to 1 (highest).

    Ties share the mean of their ranks, a single asset has rank 0, and a row with any NaN becomes NaN. Ranks remove
    moves that all assets share, and limit the influence of outliers.
    """
    from scipy.stats import rankdata  # imported here because it takes a second

    ranks = rankdata(values, axis=1, nan_policy="propagate")
    return np.asarray((2.0 * ranks - values.shape[1] - 1.0) / max(values.shape[1] - 1, 1))


def index_features(index: pd.Series[float]) -> dict[str, pd.Series[float]]:
    """Return volatility and trend (log return) of the index by name, each [T]."""
    return {
        "index_volatility_21": volatility(index, 21),
        "index_volatility_63": volatility(index, 63),
        "index_trend_21": log_return(index, 21),
        "index_trend_252": log_return(index, 252),
    }


def trailing_volatility(returns: FloatArray) -> FloatArray:
    """Return the sample standard deviation of the last 21 simple daily returns, [T, N].

    Row 0 has no return and is left out. Rows 2 to 20 use the returns so far; rows 0 and 1 are zero.
    """
    values = pd.DataFrame(returns).iloc[1:].rolling(VOLATILITY_DAYS, min_periods=2).std()
    return np.ascontiguousarray(values.reindex(range(len(returns))).fillna(0.0))


def warm_up(values: FloatArray) -> int:
    """Return the first row of values [T, ...] without NaN, or T if there is none."""
    missing = np.isnan(values.reshape(len(values), -1)).any(axis=1)
    return len(values) if missing.all() else int(np.argmin(missing))


def _log(values: Table) -> Table:
    return values.transform(np.log)


def _optional(days: int | None) -> tuple[int, ...]:
    return () if days is None else (days,)
