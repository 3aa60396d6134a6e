"""Features of prices. Row t of each is a function of rows up to t: no global mean, no centred window, no back-fill.

One feature is one small function from prices to values of the same shape, NaN until its window is full. All of them are
unchanged when prices are multiplied by a constant, and treat each asset alone; ranks then compare the assets of a row.
pandas' rolling and exponential windows run forward row by row, so later rows cannot change earlier results, not even in
the last bit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np
import pandas as pd

from rllib_portfolio.arrays import FloatArray
from rllib_portfolio.config import FeatureConfig

Table = TypeVar("Table", pd.DataFrame, "pd.Series[float]")

VOLATILITY_DAYS = 21
"""Window of `MarketData.volatility`; also one trading month, which momentum leaves out."""


def log_return(prices: Table, days: int) -> Table:
    """log(p_t / p_{t - days})."""
    return _log(prices / prices.shift(days))


def momentum(prices: Table, days: int) -> Table:
    """log(p_{t - 21} / p_{t - days}): the last month is left out because it tends to reverse.

    Source: Jegadeesh and Titman (1993), "Returns to buying winners and selling losers".
    """
    return _log(prices.shift(VOLATILITY_DAYS) / prices.shift(days))


def volatility(prices: Table, days: int) -> Table:
    """Sample standard deviation (ddof 1) of the last `days` daily log returns."""
    return log_return(prices, 1).rolling(days).std()


def drawdown(prices: Table, days: int) -> Table:
    """1 - p_t / max(p_{t - days + 1} ... p_t), in [0, 1)."""
    return 1.0 - prices / prices.rolling(days).max()


def rsi(prices: pd.DataFrame, days: int) -> pd.DataFrame:
    """Relative strength index, scaled to [-1, 1]: (G - L) / (G + L), which is RSI / 50 - 1; 0 when nothing moved.

    G and L are Wilder's averages of gains and losses: the plain mean of the first `days` changes, then
    G_t = G_{t-1} + (gain_t - G_{t-1}) / days.

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
    """MACD histogram over the price: (m_t - EMA_signal(m)_t) / p_t with m = EMA_fast(p) - EMA_slow(p), in [-1, 1].

    EMA_k starts at the first price and moves by 2 / (k + 1) of the distance. Rows before slow + signal - 2 are NaN. The
    averages lag behind a price that collapses, so the histogram is limited to the price.
    """
    fast, slow, signal = spans
    line = prices.ewm(span=fast, adjust=False).mean() - prices.ewm(span=slow, adjust=False).mean()
    histogram = (line - line.ewm(span=signal, adjust=False).mean()) / prices
    histogram.iloc[: max(slow + signal - 2, 0)] = np.nan
    return histogram.clip(-1.0, 1.0)


def moving_average_distance(prices: Table, days: int) -> Table:
    """log(p_t / mean(p_{t - days + 1} ... p_t))."""
    return _log(prices / prices.rolling(days).mean())


def asset_features(prices: pd.DataFrame, config: FeatureConfig) -> dict[str, pd.DataFrame]:
    """Every configured feature of each asset: name to values [T, N], float64, NaN before its window is full."""
    per_days: tuple[tuple[str, Callable[[pd.DataFrame, int], pd.DataFrame], tuple[int, ...]], ...] = (
        ("log_return", log_return, config.log_return_days),
        ("momentum", momentum, config.momentum_days),
        ("volatility", volatility, config.volatility_days),
        ("drawdown", drawdown, _optional(config.drawdown_days)),
        ("rsi", rsi, _optional(config.rsi_days)),
        ("moving_average", moving_average_distance, config.moving_average_days),
    )
    features = {f"{name}_{days}": feature(prices, days) for name, feature, all_days in per_days for days in all_days}
    if config.macd_days is not None:
        features["macd_" + "_".join(map(str, config.macd_days))] = macd(prices, config.macd_days)
    return features


def cross_sectional_ranks(values: FloatArray) -> FloatArray:
    """Ranks among the assets of the same row, [T, N], from -1 (lowest) to 1 (highest); NaN where any asset has none.

    Ties share the mean of their ranks; one asset alone ranks 0. What moves all assets alike is gone, and an outlier
    counts no more than the next asset.
    """
    from scipy.stats import rankdata  # a second to import

    ranks = rankdata(values, axis=1, nan_policy="propagate")
    return np.asarray((2.0 * ranks - values.shape[1] - 1.0) / max(values.shape[1] - 1, 1))


def index_features(index: pd.Series[float]) -> dict[str, pd.Series[float]]:
    """Volatility and trend (log return) of the index: name to values [T]."""
    return {
        "index_volatility_21": volatility(index, 21),
        "index_volatility_63": volatility(index, 63),
        "index_trend_21": log_return(index, 21),
        "index_trend_252": log_return(index, 252),
    }


def trailing_volatility(returns: FloatArray) -> FloatArray:
    """Sample standard deviation of the last 21 simple daily returns, [T, N]; row 0 is no return and is left out.

    Rows 2 to 20 use the returns there are, rows 0 and 1 are zero.
    """
    values = pd.DataFrame(returns).iloc[1:].rolling(VOLATILITY_DAYS, min_periods=2).std()
    return values.reindex(range(len(returns))).fillna(0.0).to_numpy()


def warm_up(values: FloatArray) -> int:
    """First row without NaN, T if there is none; values are [T, ...]."""
    missing = np.isnan(values.reshape(len(values), -1)).any(axis=1)
    return len(values) if missing.all() else int(np.argmin(missing))


def _log(values: Table) -> Table:
    return values.transform(np.log)


def _optional(days: int | None) -> tuple[int, ...]:
    return () if days is None else (days,)
