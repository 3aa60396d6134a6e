"""Synthetic markets whose return probabilities depend on a Markov chain: observed, hidden, or determined by prices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from rllib_portfolio.arrays import FloatArray
from rllib_portfolio.config.fields import RowsPerYear, Seed
from rllib_portfolio.errors import ConfigError
from rllib_portfolio.market.data import MarketData
from rllib_portfolio.market.simulators.simulated import (
    check_days,
    check_number,
    check_outcomes,
    simulated_market,
    with_features,
)


def regime_market(
    *,
    probability: Sequence[Sequence[float]] = ((0.58, 0.42), (0.42, 0.58)),
    up: float = 0.02,
    down: float = 0.02,
    stay: float = 0.98,
    num_days: int = 20_000,
    seed: Seed = 0,
    cash_rate: float = 0.0,
    periods_per_year: RowsPerYear = 252,
) -> MarketData:
    """Return a market with an observable regime: the regime of day t determines the return distribution of day t + 1.

    `market_features` hold the regime, one-hot encoded and unscaled (regime_0 ... regime_{K-1}). Given the regime, the
    assets are independent: asset i gains `up` with probability[regime][i] and loses `down` otherwise. By default the
    better of two assets depends on the regime. The exact expected growth of weights w is a sum over the 2^N outcomes.

    Args:
        probability: Probability of a gain in each regime and of each asset, [K, N], each in [0, 1].
        up: Gain, a fraction above 0.
        down: Loss, a fraction in (0, 1).
        stay: Probability that the next day has the same regime, in [0, 1]; the other regimes are equally likely.
    """
    check_outcomes(up, down)
    check_number("stay", stay, 0.0, 1.0)
    check_days(num_days)
    if len(probability) < 2 or not probability[0] or len({len(row) for row in probability}) != 1:
        raise ConfigError(
            f"probability must have two regimes or more, with one number per asset each, got {probability!r}. "
            "Give K rows of N numbers."
        )
    for value in (value for row in probability for value in row):
        check_number("probability", value, 0.0, 1.0)
    odds = np.array(probability, dtype=float)
    rng = np.random.default_rng(seed)
    jumps = np.where(rng.random(num_days) < stay, 0, rng.integers(1, len(odds), num_days))
    regime = np.cumsum(jumps) % len(odds)
    returns = np.empty((num_days, odds.shape[1]))
    returns[1:] = np.where(rng.random((num_days - 1, odds.shape[1])) < odds[regime[:-1]], up, -down)
    source = f"regime(probability={odds.tolist()}, up={up}, down={down}, stay={stay}, num_days={num_days}, seed={seed})"
    names = tuple(f"ASSET_{i}" for i in range(odds.shape[1]))
    market = simulated_market(returns, names, source, cash_rate, periods_per_year)
    return with_features(market, "market", np.eye(len(odds))[regime], [f"regime_{k}" for k in range(len(odds))])


def hidden_regime_market(
    *,
    probability: Sequence[Sequence[float]] = ((0.65,), (0.35,)),
    up: float = 0.2,
    down: float = 0.2,
    stay: float = 0.95,
    num_days: int = 20_000,
    seed: Seed = 0,
    cash_rate: float = 0.0,
    periods_per_year: RowsPerYear = 252,
) -> MarketData:
    """Return the market of `regime_market` with a hidden regime: features are its filtered probabilities.

    The feature `belief_k` at day t is P(regime of day t is k | returns up to t) under the true parameters: Bayes' rule
    on the gains and losses of each day, then one step of the chain.

    Args:
        probability: Probability of a gain in each regime and of each asset, [K, N], each in [0, 1].
        up: Gain, a fraction above 0.
        down: Loss, a fraction in (0, 1).
        stay: Probability that the next day has the same regime, in [0, 1]; the other regimes are equally likely.

    Source: Hamilton (1994), "Time Series Analysis", equations 22.4.5 and 22.4.6.
    """
    market = regime_market(
        probability=probability,
        up=up,
        down=down,
        stay=stay,
        num_days=num_days,
        seed=seed,
        cash_rate=cash_rate,
        periods_per_year=periods_per_year,
    )
    odds = np.array(probability, dtype=float)
    beliefs = filtered_beliefs(market.returns[1:] > 0.0, odds, stay)
    source = market.source.replace("regime(", "hidden_regime(", 1)
    hidden = with_features(market, "market", beliefs, [f"belief_{k}" for k in range(len(odds))])
    return replace(hidden, source=source, notes=(f"Prices are simulated, not real: {source}.",))


def filtered_beliefs(gains: NDArray[np.bool_], odds: FloatArray, stay: float) -> FloatArray:
    """Return probabilities [T, K] of K regimes after each of T - 1 days; the first row is uniform.

    Args:
        gains: Whether each asset gained, [T - 1, N]; row t depends on the regime in row t of the result.
        odds: Probability of a gain in each regime, [K, N].
        stay: Probability that a regime lasts another day; the other regimes are equally likely to follow.
    """
    num_regimes = len(odds)
    chain = np.full((num_regimes, num_regimes), (1.0 - stay) / (num_regimes - 1))
    np.fill_diagonal(chain, stay)
    likelihoods = np.where(gains[:, None, :], odds, 1.0 - odds).prod(axis=-1)
    beliefs = np.empty((len(gains) + 1, num_regimes))
    beliefs[0] = 1.0 / num_regimes
    for t, likelihood in enumerate(likelihoods):
        posterior = beliefs[t] * likelihood
        beliefs[t + 1] = posterior / posterior.sum() @ chain
    return beliefs


def mean_reverting_market(
    *,
    half_width: int = 10,
    move: float = 0.2,
    num_days: int = 20_000,
    seed: Seed = 0,
    cash_rate: float = 0.0,
    periods_per_year: RowsPerYear = 252,
) -> MarketData:
    """Return a market with one mean-reverting asset, RISKY, which follows the urn model of the Ehrenfests.

    The balance x, gains less losses so far, moves by 1 a day between -half_width and half_width; it rises with
    probability (1 - x / half_width) / 2. The day's return is +move or -move. The feature `deviation` is x / half_width,
    unscaled.

    Args:
        half_width: Largest balance, at least 1.
        move: Size of the gain or loss of each day, a fraction in (0, 1).

    Source: P. and T. Ehrenfest (1907), "Über zwei bekannte Einwände gegen das Boltzmannsche H-Theorem".
    """
    check_outcomes(move, move)
    check_days(num_days)
    check_number("half_width", half_width, 1, 1000)
    draws = np.random.default_rng(seed).random(num_days - 1)
    balance = np.zeros(num_days, dtype=np.int64)
    for t, draw in enumerate(draws):
        balance[t + 1] = balance[t] + (1 if draw < (1.0 - balance[t] / half_width) / 2.0 else -1)
    returns = np.zeros((num_days, 1))
    returns[1:, 0] = np.diff(balance) * move
    source = f"mean_reverting(half_width={half_width}, move={move}, num_days={num_days}, seed={seed})"
    market = simulated_market(returns, ("RISKY",), source, cash_rate, periods_per_year)
    return with_features(market, "market", balance[:, None] / half_width, ["deviation"])
