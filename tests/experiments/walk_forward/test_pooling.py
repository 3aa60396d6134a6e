"""One portfolio over several folds, against a loop through the kernel that is written out."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from rllib_portfolio.arrays import FloatArray
from rllib_portfolio.backtest.engine import backtest
from rllib_portfolio.config import ExecutionConfig
from rllib_portfolio.env import kernel
from rllib_portfolio.env.observation import ObservationLayout
from rllib_portfolio.errors import ConfigError
from rllib_portfolio.experiments.walk_forward.folds import FoldLengths, plan_folds
from rllib_portfolio.experiments.walk_forward.pooling import (
    FoldPolicy,
    PooledPolicy,
    missing_rows,
    without_days,
    without_rows,
)
from rllib_portfolio.market import MarketData, PriceTable, fold_config, prepare_market
from rllib_portfolio.policies.ensemble import Ensemble
from rllib_portfolio.policies.strategy import MarketView
from tests.backtest.hand_made import by_row, market_of, random_market
from tests.market.tables import config, random_table

TERMS = ExecutionConfig(cost_bps=10.0)


@dataclass
class Frozen:
    """Weights as a fixed function of the observation; keeps what it was shown."""

    seed: int = 0
    name: str = "frozen"
    seen: dict[int, FloatArray] = field(default_factory=dict)

    def weights(self, observation: FloatArray, num_weights: int) -> FloatArray:
        rng = np.random.default_rng(self.seed)
        logits = rng.standard_normal((num_weights, len(observation))) @ observation.astype(np.float64)
        exponentials = np.exp(logits - logits.max())
        return exponentials / exponentials.sum()

    def decide(self, view: MarketView) -> FloatArray:
        self.seen[view.row] = view.observation
        return self.weights(view.observation, len(view.weights))


def rescaled(market: MarketData, factor: float) -> MarketData:
    """The same days as another fold's scaler shows them."""
    return replace(market, asset_features=market.asset_features * np.float32(factor))


def test_the_pooled_walk_is_the_loop_through_the_kernel_to_the_bit() -> None:
    market, first, second = random_market(days=40), Frozen(1), Frozen(2)
    other = rescaled(market, 3.0)
    folds = [FoldPolicy(market, (10, 22), first), FoldPolicy(other, (22, 40), second)]
    (walk,) = backtest(market, (10, 40), [PooledPolicy("pooled", folds)], TERMS)

    state = kernel.initial_state(1, market.num_assets)
    target = state.weights  # at a lag of 1, the weights that are known are those of the trade before
    costs = kernel.CostModel.from_bps(10.0, market.num_assets)
    held, paid, wealth = [], [], [1.0]
    for row in range(9, 39):
        policy, own = (first, market) if row + 1 < 22 else (second, other)
        observation = ObservationLayout(own).observe(np.array([row - 1]), target)[0]
        target = policy.weights(observation, market.num_assets + 1)[None]
        day = np.append(market.returns[row + 1], market.cash_returns[row + 1])
        state, outcome = kernel.step(state, target, day, market.volatility[row], costs)
        held.append(target[0])
        paid.append(outcome.cost[0])
        wealth.append(state.wealth[0])
    np.testing.assert_array_equal(walk.weights, held)
    np.testing.assert_array_equal(walk.cost, paid)
    np.testing.assert_array_equal(walk.wealth, wealth)


def test_the_change_of_policy_is_paid_for_from_drifted_weights() -> None:
    # One asset, +10 % a day, cash earns nothing. Fold 1 (rows 2, 3) holds half of it, fold 2 (rows 4, 5) all of it.
    market = market_of([[0.0]] + [[0.1]] * 5)
    half, full = by_row({1: [0.5, 0.5]}), by_row({3: [1.0, 0.0]})
    folds = [FoldPolicy(market, (2, 4), half), FoldPolicy(market, (4, 6), full)]
    (walk,) = backtest(market, (2, 6), [PooledPolicy("pooled", folds)], ExecutionConfig(cost_bps=100.0))
    # bought at row 1: 0.5 x 1 % = 0.005. After two days 0.5 has drifted to 0.605 / 1.105 = 0.547511
    # the change at row 3 costs 1 % x (1 - 0.547511) = 0.00452489, not 1 % x 0.5, nor 1 % of a start in cash
    np.testing.assert_allclose(walk.cost, [0.005, 0.0, 0.0045248869, 0.0], rtol=1e-8)
    # 0.995 in two halves, one grows: 0.995 (0.55 + 0.5), then 0.995 (0.605 + 0.5), then all of it
    np.testing.assert_allclose(walk.wealth[:3], [1.0, 0.995 * 1.05, 0.995 * 1.105], rtol=1e-12)
    np.testing.assert_allclose(walk.wealth[3], 0.995 * 1.105 * (1.0 - 0.0045248869) * 1.1, rtol=1e-8)


@pytest.mark.parametrize("lag", [0, 1])
def test_a_policy_sees_the_features_of_its_own_fold_alone(tiny_market: MarketData, lag: int) -> None:
    # the first feature of the tiny market is the number of its row; the second fold's is larger by 10000
    shifted = replace(tiny_market, asset_features=tiny_market.asset_features + np.float32(10_000.0))
    first, second = Frozen(1), Frozen(2)
    folds = [FoldPolicy(tiny_market, (20, 30), first), FoldPolicy(shifted, (30, 40), second)]
    backtest(tiny_market, (20, 40), [PooledPolicy("pooled", folds)], ExecutionConfig(execution_lag=lag))
    # the return of row 20 is decided at row 19, on features of row 19 - lag
    assert {row: seen[0] for row, seen in first.seen.items()} == {row: row - lag for row in range(19, 29)}
    assert {row: seen[0] for row, seen in second.seen.items()} == {row: 10_000 + row - lag for row in range(29, 39)}


def test_an_ensemble_of_each_fold_trades_the_mean_and_a_holding_member_counts_as_what_it_knows() -> None:
    market = market_of([[0.0]] + [[0.1]] * 4)
    buyer, holder = by_row({1: [1.0, 0.0], 3: [1.0, 0.0]}), by_row({})
    folds = [
        FoldPolicy(market, (2, 4), Ensemble((buyer, holder), "both")),
        FoldPolicy(market, (4, 5), Ensemble((holder, holder), "both")),
    ]
    (walk,) = backtest(market, (2, 5), [PooledPolicy("ensemble", folds)], ExecutionConfig(cost_bps=0.0))
    # row 1: mean of (1, 0) and the (0, 1) that is held. Row 2: both hold. Row 3 is of the second fold, where both hold.
    drifted = 0.55 / 1.05
    twice = drifted * 1.1 / (drifted * 1.1 + 1.0 - drifted)
    np.testing.assert_allclose(walk.weights[:, 0], [0.5, drifted, twice], rtol=1e-12)
    np.testing.assert_array_equal(walk.traded[1:], [0.0, 0.0])


def test_days_of_no_fold_are_held() -> None:
    market = market_of([[0.0]] + [[0.1]] * 6)
    bought, sold = by_row({1: [0.5, 0.5]}), by_row({4: [0.0, 1.0]})
    folds = [FoldPolicy(market, (2, 3), bought), FoldPolicy(market, (5, 7), sold)]
    (walk,) = backtest(market, (2, 7), [PooledPolicy("pooled", folds)], TERMS)
    np.testing.assert_array_equal(walk.traded[1:3], [0.0, 0.0])
    assert walk.traded[3] == pytest.approx(0.5 * 1.331 / (0.5 * 1.331 + 0.5))  # three days of +10 %, then sold


def test_folds_that_overlap_or_differ_in_prices_are_refused() -> None:
    market, policy = random_market(days=40), Frozen()
    with pytest.raises(ConfigError, match=r"folds must follow each other, got test windows \(10, 20\) and \(19, 30\)"):
        PooledPolicy("pooled", [FoldPolicy(market, (10, 20), policy), FoldPolicy(market, (19, 30), policy)])
    for name, other in (
        ("returns", random_market(days=40, seed=1)),
        ("dates", replace(market, dates=market.dates + np.timedelta64(1, "D"))),
        ("assets", replace(market, assets=("A", "B", "C", "E"))),
    ):
        with pytest.raises(ConfigError, match=f"markets of all folds must have the same {name}, got others"):
            PooledPolicy("pooled", [FoldPolicy(market, (10, 20), policy), FoldPolicy(other, (20, 30), policy)])


# ---------------------------------------------------------------- causality


def scrambled_after(table: PriceTable, row: int) -> PriceTable:
    """Other prices after a row, of the same universe."""
    other = random_table(len(table.dates), seed=99)
    prices, index = table.prices.copy(), table.index.copy()
    prices.iloc[row + 1 :] = other.prices.iloc[row + 1 :]
    index.iloc[row + 1 :] = other.index.iloc[row + 1 :]
    return replace(table, prices=prices, index=index)


def pooled_walk(table: PriceTable) -> tuple[tuple[Any, ...], Any]:
    """The folds of a table, each prepared anew, and the walk of a frozen policy over them."""
    own = config()
    market = prepare_market(table, own)
    folds = plan_folds(market, FoldLengths(num_folds=3))
    markets = [prepare_market(table, fold_config(own, market, fold)) for fold in folds]
    policies = [
        FoldPolicy(each, fold.test, Frozen(seed)) for seed, (each, fold) in enumerate(zip(markets, folds, strict=True))
    ]
    window = (folds[0].test[0], folds[-1].test[1])
    return folds, backtest(markets[0], window, [PooledPolicy("pooled", policies)], TERMS)[0]


@pytest.mark.parametrize("fold_of_t", [0, 1])
def test_prices_after_a_day_change_no_decision_up_to_it(fold_of_t: int) -> None:
    table = random_table(700)
    folds, walk = pooled_walk(table)
    t = folds[fold_of_t].test[0] + 40
    folds_again, again = pooled_walk(scrambled_after(table, t))
    assert folds_again == folds
    decided = t - folds[0].test[0] + 2  # rows up to t decide the days up to t + 1
    np.testing.assert_array_equal(again.weights[:decided], walk.weights[:decided])
    np.testing.assert_array_equal(again.returns[: decided - 1], walk.returns[: decided - 1])
    assert not np.array_equal(again.weights[decided : decided + 3], walk.weights[decided : decided + 3])


# ---------------------------------------------------------------- missing days


def test_missing_days_leave_walks_and_market_alike() -> None:
    market = random_market(days=12)
    (walk,) = backtest(market, (2, 12), [Frozen()], TERMS)
    rows = missing_rows((2, 12), [(2, 5), (8, 12)])
    np.testing.assert_array_equal(rows, [5, 6, 7])
    cut, short = without_days(walk, market.dates[rows]), without_rows(market, rows)
    np.testing.assert_array_equal(cut.dates, short.dates[2:9])
    np.testing.assert_array_equal(cut.returns, np.delete(walk.returns, [3, 4, 5]))
    np.testing.assert_array_equal(short.returns[2:9], market.returns[[2, 3, 4, 8, 9, 10, 11]])
    assert short.windows["all"] == (2, 9)
    # wealth is that of the days that are left
    assert cut.wealth[-1] == pytest.approx(np.prod(1.0 + np.delete(walk.returns, [3, 4, 5])), rel=1e-12)
    assert len(cut.to_frame()) == 7
    assert pd.DatetimeIndex(cut.dates).is_monotonic_increasing
