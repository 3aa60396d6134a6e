"""Synthetic markets with known parameters, whose optimal policy can be computed, and a bootstrap of real prices.

Days are weekdays from 2000-01-03. Reports must say that the prices are not real, as `notes` do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rllib_portfolio.arrays import FloatArray
from rllib_portfolio.config import MarketConfig
from rllib_portfolio.config.fields import RowsPerYear, Seed
from rllib_portfolio.errors import ConfigError
from rllib_portfolio.market.data import MarketData
from rllib_portfolio.market.prepare import prepare_market
from rllib_portfolio.market.simulators.simulated import (
    bounded_shocks,
    check_count,
    check_days,
    check_number,
    check_outcomes,
    correlation_factor,
    shock_radius,
    simulated_market,
    weekdays,
    with_features,
)
from rllib_portfolio.market.table import PriceTable


def kelly_market(
    *,
    up: float = 0.2,
    down: float = 0.2,
    probability: float = 0.58,
    num_days: int = 100_000,
    seed: Seed = 0,
    cash_rate: float = 0.0,
    periods_per_year: RowsPerYear = 252,
) -> MarketData:
    """Return a market with one asset, RISKY, that gains `up` with `probability` and loses `down` otherwise.

    The days are independent, and there are no features. Without transaction costs and with a cash rate of 0, log wealth
    grows fastest if RISKY has the weight probability / down - (1 - probability) / up (0.8 by default; between 0 and 1
    for a long-only portfolio).

    Args:
        up: Gain, a fraction above 0.
        down: Loss, a fraction in (0, 1).
        probability: Probability of a gain, in [0, 1].

    Source: Kelly (1956), "A new interpretation of information rate".
    """
    check_outcomes(up, down)
    check_number("probability", probability, 0.0, 1.0)
    check_days(num_days)
    gains = np.random.default_rng(seed).random(num_days) < probability
    source = f"kelly(up={up}, down={down}, probability={probability}, num_days={num_days}, seed={seed})"
    return simulated_market(np.where(gains, up, -down)[:, None], ("RISKY",), source, cash_rate, periods_per_year)


def gbm_market(
    *,
    mean: Sequence[float] = (0.08, 0.04),
    volatility: Sequence[float] = (0.2, 0.1),
    correlation: float | Sequence[Sequence[float]] = 0.0,
    num_days: int = 10_000,
    seed: Seed = 0,
    cash_rate: float = 0.0,
    assets: Sequence[str] | None = None,
    periods_per_year: RowsPerYear = 252,
) -> MarketData:
    """Return a market of correlated geometric Brownian motions; the days are independent, and there are no features.

    In continuous time log wealth grows fastest with weights covariance^-1 (mean - log(1 + cash_rate)) of the assets.

    Args:
        mean: Annual drift of each asset, [N]: the expected simple return of a day is exp(mean / periods_per_year) - 1.
        volatility: Annual standard deviation of log returns of each asset, [N], not negative.
        correlation: Correlation of the Brownian motions: one number for all pairs, or a matrix [N, N].
        assets: N names; None gives ASSET_0, ASSET_1 ...

    Source: Merton (1969), "Lifetime portfolio selection under uncertainty".
    """
    _check_moments(mean, volatility)
    check_days(num_days, len(mean))
    names = tuple(assets) if assets is not None else _numbered(len(mean))
    if len(names) != len(mean) or len(set(names)) != len(names):
        raise ConfigError(f"assets must be {len(mean)} different names, got {list(names)}. Name each asset once.")
    annual_drift, sigma = np.array(mean, dtype=float), np.array(volatility, dtype=float)
    shocks = (
        np.random.default_rng(seed).standard_normal((num_days, len(mean)))
        @ correlation_factor(correlation, len(mean)).T
    )
    log_returns = (annual_drift - sigma**2 / 2) / periods_per_year + sigma / np.sqrt(periods_per_year) * shocks
    source = f"gbm(mean={list(mean)}, volatility={list(volatility)}, num_days={num_days}, seed={seed})"
    return simulated_market(np.expm1(log_returns), names, source, cash_rate, periods_per_year)


def crash_market(
    *,
    up: float = 0.0022963,
    down: float = 0.5,
    probability: float = 0.996,
    mean: Sequence[float] = (0.08, 0.04, 0.06),
    volatility: Sequence[float] = (0.2, 0.1, 0.3),
    correlation: float | Sequence[Sequence[float]] = 0.0,
    num_days: int = 100_000,
    seed: Seed = 0,
    cash_rate: float = 0.0,
    periods_per_year: RowsPerYear = 252,
) -> MarketData:
    """Return the market of `gbm_market` with an additional first asset, CRASH, which has rare, large losses.

    CRASH follows the distribution of `kelly_market` and is independent of the others. By default it gains 0.23 % a day
    and loses half of its value once in 250 days on average, so that its optimal weight without the others is a quarter.
    There are no features.

    Args:
        up: Gain of CRASH, a fraction above 0.
        down: Loss of CRASH, a fraction in (0, 1).
        probability: Probability of a gain of CRASH, in [0, 1].
        mean: Annual drift of each other asset, [N].
        volatility: Annual standard deviation of log returns of each other asset, [N], not negative.
        correlation: Correlation of the other assets: one number for all pairs, or a matrix [N, N].
    """
    check_outcomes(up, down)
    check_number("probability", probability, 0.0, 1.0)
    others = gbm_market(
        mean=mean,
        volatility=volatility,
        correlation=correlation,
        num_days=num_days,
        seed=seed,
        periods_per_year=periods_per_year,
    )
    gains = np.random.default_rng((seed, 1)).random(num_days) < probability  # independent of the other assets
    returns = np.column_stack([np.where(gains, up, -down), others.returns])
    source = f"crash(up={up}, down={down}, probability={probability}, beside {others.source})"
    return simulated_market(returns, ("CRASH", *others.assets), source, cash_rate, periods_per_year)


def student_t_market(
    *,
    mean: Sequence[float] = (0.08, 0.04),
    volatility: Sequence[float] = (0.2, 0.1),
    correlation: float | Sequence[Sequence[float]] = 0.0,
    degrees: float = 3.0,
    worst_loss: float = 0.9,
    num_days: int = 10_000,
    seed: Seed = 0,
    cash_rate: float = 0.0,
    periods_per_year: RowsPerYear = 252,
) -> MarketData:
    """Return a market of fat-tailed simple returns from a bounded multivariate Student's t distribution.

    The days are independent, and there are no features. All assets have their extreme days together. The shocks of a
    day are cut to `shock_radius`, so that no asset loses more than `worst_loss`. The return of a portfolio w is then
    distributed as w'mean + sqrt(w'S w) Y, with scale matrix S and the same distribution of Y for all portfolios.

    Args:
        mean: Annual mean of each asset's simple returns, [N].
        volatility: Annual standard deviation of each asset before its shocks are cut, [N].
        correlation: One number for all pairs, or a matrix [N, N].
        degrees: Degrees of freedom, above 2; the fewer, the fatter the tails.
        worst_loss: Largest loss of an asset in a day, a fraction in (0, 1).
    """
    _check_moments(mean, volatility)
    check_days(num_days, len(mean))
    check_number("degrees", degrees, 2.01, 1e6)
    check_number("worst_loss", worst_loss, 0.01, 0.99)
    means = np.array(mean, dtype=float) / periods_per_year
    scales = np.array(volatility, dtype=float) * np.sqrt((degrees - 2.0) / degrees / periods_per_year)
    radius = shock_radius(means, scales, worst_loss)
    shocks = bounded_shocks(np.random.default_rng(seed), num_days, len(means), degrees, radius)
    returns = means + scales * (shocks @ correlation_factor(correlation, len(means)).T)
    parameters = f"mean={list(mean)}, volatility={list(volatility)}, degrees={degrees:g}, worst_loss={worst_loss:g}"
    source = f"student_t({parameters}, num_days={num_days}, seed={seed})"
    return simulated_market(returns, _numbered(len(means)), source, cash_rate, periods_per_year)


def signal_market(
    *,
    num_assets: int = 20,
    edge: float = 0.003,
    volatility: float = 0.03,
    correlation: float | Sequence[Sequence[float]] = 0.3,
    stay: float = 0.9,
    worst_loss: float = 0.9,
    num_days: int = 20_000,
    seed: Seed = 0,
    cash_rate: float = 0.0,
    periods_per_year: RowsPerYear = 252,
) -> MarketData:
    """Return a market of similar assets, each with a signal that determines the sign of its next day's mean return.

    The asset feature `signal` is +1 or -1, unscaled; a signal of +1 (-1) on day t means a mean return of +edge (-edge)
    on day t + 1. Simple returns are normal, and bounded as in `student_t_market`.

    Args:
        num_assets: N, at least 2.
        edge: Mean simple return of the day after a signal of +1, a fraction above 0.
        volatility: Daily standard deviation given the signal, before shocks are cut; a fraction above 0.
        correlation: Correlation of returns given their signals: one number for all pairs, or a matrix [N, N].
        stay: Probability that an asset's signal is the same on the next day.
        worst_loss: Largest loss of an asset in a day, a fraction in (0, 1).
    """
    check_count("num_assets", num_assets, 2)
    check_days(num_days, num_assets)
    check_number("edge", edge, 1e-9, 0.1)
    check_number("volatility", volatility, 1e-9, 1.0)
    check_number("stay", stay, 0.0, 1.0)
    check_number("worst_loss", worst_loss, 0.2, 0.99)
    rng = np.random.default_rng(seed)
    flips = np.where(rng.random((num_days, num_assets)) < stay, 1, -1)
    flips[0] = rng.choice((-1, 1), num_assets)
    signals = np.cumprod(flips, axis=0)
    radius = shock_radius(np.array([-edge]), np.array([volatility]), worst_loss)
    shocks = bounded_shocks(rng, num_days, num_assets, np.inf, radius)
    returns = volatility * (shocks @ correlation_factor(correlation, num_assets).T)
    returns[1:] += edge * signals[:-1]
    parameters = f"num_assets={num_assets}, edge={edge:g}, volatility={volatility:g}"
    source = f"signal({parameters}, stay={stay:g}, num_days={num_days}, seed={seed})"
    market = simulated_market(returns, _numbered(num_assets), source, cash_rate, periods_per_year)
    return with_features(market, "asset", signals[:, :, None], ["signal"])


def bootstrap_market(
    table: PriceTable,
    *,
    num_days: int | None = None,
    mean_block_days: float = 63.0,
    seed: Seed = 0,
    config: MarketConfig | None = None,
    fitted: Mapping[str, Any] | None = None,
) -> MarketData:
    """Return a stationary block bootstrap of real prices, prepared like a real table.

    Days of the table are drawn in blocks of random, geometrically distributed length, for all assets and the index
    together. This preserves correlations and the dependence within a block, but no longer dependence. Extra columns are
    left out.

    Args:
        table: Real prices.
        num_days: Rows to draw; None draws as many as the table has.
        mean_block_days: Expected length of a block, at least 1.
        seed: Seed of the random draws.
        config: Features, windows and cash rate; None takes the defaults.
        fitted: `MarketData.fitted` of another run, which is applied instead of fitting.

    Source: Politis and Romano (1994), "The stationary bootstrap".
    """
    length = len(table.prices) if num_days is None else num_days
    check_days(length, table.prices.shape[1])
    check_number("mean_block_days", mean_block_days, 1.0, float(len(table.prices)))
    rows = _stationary_rows(len(table.prices) - 1, length - 1, mean_block_days, seed)
    days = pd.DatetimeIndex(weekdays(length), name="date")
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
    """Return the market with look-ahead bias: the asset feature `next_return`, the standardised return of the next day.

    This is for tests only: with execution lag 0 a policy that reads the feature must have implausibly high returns, and
    a causality test must fail. The feature is standardised by moments of the training window. It is 0 in the last row,
    which has no next day.
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


def _check_moments(mean: Sequence[float], volatility: Sequence[float]) -> None:
    if not mean or len(mean) != len(volatility):
        raise ConfigError(f"mean and volatility must have one number per asset, got {len(mean)} and {len(volatility)}.")
    for value in volatility:
        check_number("volatility", value, 0.0, 10.0)
    for value in mean:
        check_number("mean", value, -10.0, 10.0)


def _numbered(num_assets: int) -> tuple[str, ...]:
    return tuple(f"ASSET_{i}" for i in range(num_assets))


def _stationary_rows(num_rows: int, num_draws: int, mean_block_days: float, seed: int) -> NDArray[np.int64]:
    """Draw rows in [0, num_rows) in blocks that wrap around the end, [num_draws]."""
    rng = np.random.default_rng(seed)
    draw = np.arange(num_draws)
    starts_block = rng.random(num_draws) < 1.0 / mean_block_days
    starts_block[:1] = True
    block_start = np.maximum.accumulate(np.where(starts_block, draw, 0))
    rows: NDArray[np.int64] = (rng.integers(0, num_rows, num_draws)[block_start] + draw - block_start) % num_rows
    return rows


def _resampled(prices: FloatArray, rows: NDArray[np.int64]) -> FloatArray:
    """Return prices that start at those of the first row and earn the gross returns of `rows`."""
    gross = (prices[1:] / prices[:-1])[rows]
    return np.vstack([prices[:1], prices[:1] * np.cumprod(gross, axis=0)])
