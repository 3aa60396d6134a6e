"""The markets of the certification suite."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.learning.certificates import Certificate, Decision
from benchmarks.learning.elliptical import Elliptical
from benchmarks.learning.lottery import Lottery, beside, best_of, fastest, log_normal, optimal_weights
from benchmarks.learning.trading_costs import Chain, CostlyTrading, belief_chain, regime_chain, spread, urn_chain
from rllib_portfolio.arrays import FloatArray
from rllib_portfolio.market import (
    crash_market,
    gbm_market,
    hidden_regime_market,
    kelly_market,
    leaked,
    mean_reverting_market,
    regime_market,
    signal_market,
    student_t_market,
)
from rllib_portfolio.market.simulators.simulated import shock_radius

NUM_DAYS = 100_000
CRASH_DAYS = 1_000_000
"""Number of days on which the share of crashes is close to their probability. 100,000 days have 240 in training, and
the portfolio that is best on these reaches between 46 and 100 % of the optimum."""
BELIEF_POINTS = 101
CRASH = {"up": 0.0022963, "down": 0.5, "probability": 0.996}
"""An asset whose gains look riskless until it halves."""


def kelly(up: float, probability: float, down: float | None = None, num_days: int = NUM_DAYS) -> Certificate:
    """One asset that gains `up` or loses `down`, by default as much; the optimum is p / down - (1 - p) / up.

    At most 1, at least 0 (Kelly 1956).
    """
    coin = {"up": up, "down": up if down is None else down, "probability": probability}
    return _one_lottery(_coin(**coin), _drawn(kelly_market, **coin, num_days=num_days))


def crash() -> Certificate:
    """One asset that gains 0.23 % on 249 days of 250 and halves on one: the optimum is 0.25."""
    return kelly(**CRASH, num_days=CRASH_DAYS)


def crash_among_others() -> Certificate:
    """The asset of `crash` beside three independent log-normal ones and cash: about 25, 39, 25, 0 and 11 %."""
    mean, volatility = (0.0008, 0.0009, -0.0002), (0.045, 0.06, 0.075)
    market = _drawn(crash_market, **CRASH, mean=mean, volatility=volatility, num_days=CRASH_DAYS, periods_per_year=1)
    certificate = _one_lottery(beside(_coin(**CRASH), log_normal(mean, np.diag(np.square(volatility)))), market)
    return replace(certificate, action_table="lattice")


def merton() -> Certificate:
    """Three correlated log-normal assets and cash: about 5, 80, 10 and 5 % (Merton 1969), exactly by quadrature."""
    mean, volatility, correlation = (0.0062, 0.0341, 0.02385), (0.1, 0.2, 0.3), 0.3
    covariance = _covariance(np.array(volatility), correlation)
    market = _drawn(gbm_market, mean=mean, volatility=volatility, correlation=correlation, periods_per_year=1)
    return _one_lottery(log_normal(mean, covariance), market)


def noise() -> Certificate:
    """Three independent assets of the same odds: the optimum is mean / volatility^2 = 0.01 / 0.04 = 1 / 4 of each.

    That is the uniform portfolio over three assets and cash: whatever differs from it has learned noise.
    """
    mean, volatility = (0.01,) * 3, (0.2,) * 3
    lottery = log_normal(tuple(value / 252 for value in mean), np.eye(3) * 0.2**2 / 252)
    return _one_lottery(lottery, _drawn(gbm_market, mean=mean, volatility=volatility))


def fat_tails() -> Certificate:
    """Ten assets with fat tails that come together: Student's t with 3 degrees of freedom, correlated by 0.3.

    Five of them deserve a share of the wealth, from about 29 % to 6 %, and cash about 6 %.
    """
    mean = (0.0080, 0.0075, 0.0069, 0.0062, 0.0053, 0.0015, 0.0010, 0.0, -0.0010, -0.0015)
    volatility, correlation, degrees, worst_loss = 0.15, 0.3, 3.0, 0.9
    means = np.array([mean])
    scales = np.full(len(mean), volatility * np.sqrt((degrees - 2.0) / degrees))
    covariance = _covariance(scales, correlation)
    day = Elliptical.bounded(covariance, degrees, shock_radius(means, scales, worst_loss))
    market = _drawn(
        student_t_market,
        mean=mean,
        volatility=(volatility,) * len(mean),
        correlation=correlation,
        degrees=degrees,
        worst_loss=worst_loss,
        periods_per_year=1,
    )
    best = np.array(fastest(lambda weights: float(day.growth(weights[None], means)[0]), len(mean)))
    return _elliptical(day, lambda observations: means, lambda means: best[None], market)


def signals(num_assets: int = 20, edge: float = 0.003, volatility: float = 0.03) -> Certificate:
    """Twenty like assets, each of which shows the sign of its own mean: equal weights of those that will rise."""
    correlation, worst_loss = 0.3, 0.9
    scales = np.full(num_assets, volatility)
    radius = shock_radius(np.array([-edge]), scales, worst_loss)
    day = Elliptical.bounded(_covariance(scales, correlation), np.inf, radius, lengths=12, directions=8)
    # Assets are alike, so that only the number of those that will rise matters.
    best = np.zeros((num_assets + 1, 2))
    for rising in range(num_assets + 1):
        means = np.where(np.arange(num_assets) < rising, edge, -edge)[None]
        weights = np.array(fastest(lambda weights, m=means: float(day.growth(weights[None], m)[0]), num_assets))
        best[rising] = [part.mean() if len(part) else 0.0 for part in (weights[rising:-1], weights[:rising])]

    def optimum(means: FloatArray) -> FloatArray:
        rises = means > 0.0
        risky = best[rises.sum(axis=1)[:, None], rises.astype(np.intp)]
        return np.column_stack([risky, 1.0 - risky.sum(axis=1)])

    market = _drawn(
        signal_market,
        num_assets=num_assets,
        edge=edge,
        volatility=volatility,
        correlation=correlation,
        worst_loss=worst_loss,
    )
    return _elliptical(
        day, lambda observations: edge * observations[:, :num_assets].astype(np.float64), optimum, market
    )


def regimes(move: float = 0.2, odds: float = 0.58) -> Certificate:
    """Two assets; the observable regime says which of them has the odds on its side."""
    table = ((odds, 1.0 - odds), (1.0 - odds, odds))
    ups = tuple(product((True, False), repeat=2))
    returns = tuple(tuple(move if up else -move for up in row) for row in ups)
    lotteries = [
        Lottery(returns, tuple(math.prod(p if up else 1.0 - p for p, up in zip(row, u, strict=True)) for u in ups))
        for row in table
    ]
    market = _drawn(regime_market, probability=table, up=move, down=move)
    return _by_state(lotteries, lambda observations: observations[:, :2].argmax(axis=1), market)


def oracle(move: float = 0.02) -> Certificate:
    """The next day's return stands in the observation: all in before a gain, all out before a loss."""
    returns = ((move,), (-move,))
    lotteries = [Lottery(returns, (0.0, 1.0)), Lottery(returns, (1.0, 0.0))]

    plain = _drawn(kelly_market, up=move, down=move, probability=0.5)
    return _by_state(
        lotteries, lambda observations: (observations[:, 0] > 0.0).astype(np.intp), lambda seed: leaked(plain(seed))
    )


def hidden_regimes(
    move: float = 0.2, odds: tuple[float, float] = (0.65, 0.35), stay: float = 0.95, cost_bps: float = 20.0
) -> Certificate:
    """One asset whose odds are good or bad; only the filtered probability of either is seen, and trading costs."""
    return _chain(
        belief_chain(BELIEF_POINTS, odds, stay, move),
        lambda observations: spread(observations[:, 0].astype(np.float64), BELIEF_POINTS),
        _drawn(hidden_regime_market, probability=tuple((p,) for p in odds), up=move, down=move, stay=stay),
        cost_bps,
    )


def mean_reversion(half_width: int = 10, move: float = 0.2, cost_bps: float = 100.0) -> Certificate:
    """One asset that is drawn back to where it was; costs open a region in which nothing is traded."""
    return _chain(
        urn_chain(half_width, move),
        lambda observations: spread((observations[:, 0].astype(np.float64) + 1.0) / 2.0, 2 * half_width + 1),
        _drawn(mean_reverting_market, half_width=half_width, move=move),
        cost_bps,
    )


def costs_exceed_gains() -> Certificate:
    """One asset whose expected gain, 20 basis points, lasts a day; buying and selling cost 100, so cash is optimal."""
    return costly_regimes(0.55, 0.5, 50.0)


def costly_regimes(odds: float, stay: float, cost_bps: float, move: float = 0.02) -> Certificate:
    """One asset with `odds` of a gain or of a loss, by an observable regime that lasts another day with `stay`.

    Where regimes last for weeks and a trade costs more than a day's edge, only who looks far ahead trades.
    """
    probability = (odds, 1.0 - odds)
    return _chain(
        regime_chain(probability, stay, move),
        lambda observations: observations[:, :2].astype(np.float64),
        _drawn(regime_market, probability=tuple((p,) for p in probability), up=move, down=move, stay=stay),
        cost_bps,
    )


@dataclass(frozen=True)
class Exam:
    """A market of the suite.

    Attributes:
        title: In tables.
        certificate: Made when it is needed.
        growth_target: Least share of the optimal growth; None where the optimum is not to grow.
        gap_target: Least share of the gap; None where it is not asked for.
        may_not_lose: Whether no seed may end with a loss.
    """

    title: str
    certificate: Callable[[], Certificate]
    growth_target: float | None = None
    gap_target: float | None = None
    may_not_lose: bool = False


EXAMS: dict[str, Exam] = {
    "kelly-0.8": Exam("Kelly, optimum 0.8", partial(kelly, 0.2, 0.58), 0.97, 0.85),
    "kelly-0.2": Exam("Kelly, optimum 0.2", partial(kelly, 0.5, 0.55), 0.97, 0.85),
    "kelly-1": Exam("Kelly, optimum 1", partial(kelly, 0.2, 0.62), 0.97, 0.85),
    "crash": Exam("rare crashes, optimum 0.25", crash, 0.80, may_not_lose=True),
    "crash-mixed": Exam("rare crashes of one of four assets", crash_among_others, 0.80, may_not_lose=True),
    "fat-tails": Exam("ten assets with fat tails", fat_tails, 0.97, 0.85),
    "signals": Exam("twenty assets with a signal each", signals, 0.97, 0.85),
    "merton": Exam("Merton, three assets and cash", merton, 0.97, 0.85),
    "regimes": Exam("two observable regimes", regimes, 0.97, 0.85),
    "hidden-regimes": Exam("hidden regimes, seen as filtered probabilities", hidden_regimes, 0.90),
    "mean-reversion": Exam("mean reversion with costs", mean_reversion, 0.90),
    "slow-0.53": Exam("slow regimes with costs, probability 0.53", partial(costly_regimes, 0.53, 0.98, 100.0), 0.90),
    "slow-0.54": Exam("slow regimes with costs, probability 0.54", partial(costly_regimes, 0.54, 0.98, 100.0), 0.90),
    "costs": Exam("costs exceed gains", costs_exceed_gains),
    "oracle": Exam("next day's return leaked", oracle, 0.95),
    "noise": Exam("noise, where the uniform portfolio is optimal", noise),
}


def _coin(up: float, down: float, probability: float) -> Lottery:
    return Lottery(((up,), (-down,)), (probability, 1.0 - probability))


def _drawn(simulate: Callable[..., Any], num_days: int = NUM_DAYS, **parameters: Any) -> Callable[[int], Any]:
    """The market of a seed."""
    return lambda seed: simulate(seed=seed, num_days=num_days, **parameters)


def _one_lottery(lottery: Lottery, market: Callable[[int], Any]) -> Certificate:
    return _by_state([lottery], lambda observations: np.zeros(len(observations), dtype=np.intp), market)


def _by_state(
    lotteries: list[Lottery], state: Callable[[FloatArray], NDArray[np.intp]], market: Callable[[int], Any]
) -> Certificate:
    """Free trading, where each state has a lottery with the same outcomes: what was held does not matter.

    But for a table without the optimum among its rows: letting its best row drift can be a little better than trading
    back to it, which is left out. The bound is then too low: by about half a per cent of the growth on Merton, to first
    order.
    """
    returns = np.array(lotteries[0].returns)
    probabilities = np.array([lottery.probabilities for lottery in lotteries])

    def optimum(table: FloatArray | None) -> Decision:
        rows = [optimal_weights(lottery) if table is None else best_of(lottery, table) for lottery in lotteries]
        best = np.array(rows)
        return lambda observations: best[state(observations)]

    return Certificate(
        market=market,
        num_assets=returns.shape[1],
        outcomes=lambda weights, observations: (weights[:, :-1] @ returns.T, probabilities[state(observations)]),
        optimum=optimum,
    )


def _elliptical(day: Elliptical, means: Decision, best: Decision, market: Callable[[int], Any]) -> Certificate:
    """Free trading of assets with the `means` [B, N] of observations, whose optimal weights are `best` of the means.

    As in `_by_state`, the bound of a table leaves out that a row may drift.
    """

    def optimum(table: FloatArray | None) -> Decision:
        if table is None:
            return lambda observations: _rows(best(means(observations)), observations)
        return lambda observations: _rows(day.best_of(table, means(observations)), observations)

    return Certificate(
        market=market,
        num_assets=len(day.scale),
        outcomes=lambda weights, observations: (day.returns(weights, means(observations)), day.probabilities[None]),
        optimum=optimum,
    )


def _rows(weights: FloatArray, observations: FloatArray) -> FloatArray:
    return np.broadcast_to(weights, (len(observations), weights.shape[1]))


def _covariance(scales: FloatArray, correlation: float) -> FloatArray:
    return np.outer(scales, scales) * (correlation + (1.0 - correlation) * np.eye(len(scales)))


def _chain(chain: Chain, states: Decision, market: Callable[[int], Any], cost_bps: float) -> Certificate:
    """One asset over a chain, with costs; `states` are weights over the chain's states [B, K]."""

    def optimum(table: FloatArray | None) -> Decision:
        targets = None if table is None else tuple(sorted({round(float(row[0]), 9) for row in table}))
        best = CostlyTrading(chain, cost_bps / 1e4, targets)

        def decide(observations: FloatArray) -> FloatArray:
            risky = best.target(states(observations), observations[:, -2].astype(np.float64))
            return np.column_stack([risky, 1.0 - risky])

        return decide

    return Certificate(
        market=market,
        num_assets=1,
        outcomes=lambda weights, observations: (
            weights[:, :1] * chain.returns,
            states(observations) @ chain.probabilities,
        ),
        optimum=optimum,
        cost_bps=cost_bps,
    )
