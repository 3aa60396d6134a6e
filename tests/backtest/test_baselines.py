from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from rllib_portfolio.backtest.baselines import (
    AllCash,
    BuyAndHold,
    ConstantMix,
    EqualWeight,
    index_result,
    merton_weights,
)
from rllib_portfolio.backtest.classical import merton
from rllib_portfolio.backtest.engine import backtest
from rllib_portfolio.backtest.refitting import History, RefitSchedule, Refitted
from rllib_portfolio.config import ExecutionConfig
from rllib_portfolio.errors import ConfigError
from tests.backtest.hand_made import market_of, random_market

TEN_BPS = ExecutionConfig(cost_bps=10.0, execution_lag=0)
SHORT = RefitSchedule(refit_days=1, window_days=28, min_days=20)
TWO_ASSETS = market_of([[0.0, 0.0], [0.0, 0.0], [0.10, 0.0], [-0.5, 0.2]], cash_return=0.01)


def test_buy_and_hold_is_worth_the_mean_growth_of_the_assets_after_its_first_cost() -> None:
    # A grows 1.1 * 0.5 = 0.55, B 1.0 * 1.2 = 1.2, their mean is 0.875; 10 bp of a traded notional of 1 is 0.001
    (result,) = backtest(TWO_ASSETS, (2, 4), [BuyAndHold()], TEN_BPS)
    assert result.wealth[-1] == pytest.approx(0.999 * 0.875, rel=1e-12)
    assert result.cost == pytest.approx([0.001, 0.0], abs=1e-15)
    assert result.turnover == pytest.approx([1.0, 0.0], abs=1e-15)


def test_equal_weight_trades_back_to_one_nth() -> None:
    # After row 2 the weights are 0.55 / 1.05 and 0.5 / 1.05: each is 0.025 / 1.05 = 1 / 42 off.
    # turnover 0.5 (2 / 42) = 1 / 42, traded 2 / 42, cost 0.001 * 2 / 42
    (result,) = backtest(TWO_ASSETS, (2, 4), [EqualWeight()], TEN_BPS)
    assert result.turnover == pytest.approx([1.0, 1 / 42], rel=1e-12)
    assert result.traded == pytest.approx([1.0, 2 / 42], rel=1e-12)
    assert result.cost == pytest.approx([0.001, 0.001 * 2 / 42], rel=1e-12)
    # wealth 0.999 * 1.05, then (1 - 0.002 / 42) * (0.5 * 0.5 + 0.5 * 1.2) = (1 - 0.002 / 42) * 0.85
    assert result.wealth[-1] == pytest.approx(0.999 * 1.05 * (1 - 0.002 / 42) * 0.85, rel=1e-12)
    np.testing.assert_array_equal(result.weights, [[0.5, 0.5, 0.0]] * 2)


def test_all_cash_earns_the_cash_rate_and_never_trades() -> None:
    (result,) = backtest(TWO_ASSETS, (2, 4), [AllCash()], TEN_BPS)
    assert result.wealth == pytest.approx([1.0, 1.01, 1.01**2], rel=1e-12)
    assert not result.traded.any()
    assert not result.cost.any()


def test_constant_mix_returns_to_its_weights() -> None:
    mix = ConstantMix(np.array([0.2, 0.3, 0.5]), name="20/30/50")
    (result,) = backtest(TWO_ASSETS, (2, 4), [mix], TEN_BPS)
    np.testing.assert_array_equal(result.weights, [[0.2, 0.3, 0.5]] * 2)
    assert result.name == "20/30/50"


@pytest.mark.parametrize("cost_bps", [0.0, 1.0, 10.0, 100.0, 1000.0])
def test_terminal_wealth_of_buy_and_hold_falls_linearly_in_its_cost(cost_bps: float) -> None:
    free, paid = (
        backtest(random_market(), (3, 60), [BuyAndHold()], ExecutionConfig(cost_bps=bps))[0].wealth[-1]
        for bps in (0.0, cost_bps)
    )
    assert paid == pytest.approx((1.0 - cost_bps * 1e-4) * free, rel=1e-12)


def test_terminal_wealth_of_each_trading_baseline_falls_in_cost() -> None:
    strategies = [EqualWeight(), BuyAndHold(), AllCash(), Refitted("Merton", merton, SHORT)]
    terminal = np.array(
        [
            [
                result.wealth[-1]
                for result in backtest(random_market(), (30, 60), strategies, ExecutionConfig(cost_bps=c))
            ]
            for c in (0.0, 5.0, 50.0, 500.0)
        ]
    )
    trades = [strategy.name != "all cash" for strategy in strategies]
    assert (np.diff(terminal[:, trades], axis=0) < 0.0).all()


def test_merton_is_the_closed_form_where_no_bound_binds() -> None:
    # Sigma = [[0.04, 0.01], [0.01, 0.09]], det 0.0035; m = (0.04, 0.02), gamma = 3:
    # Sigma^-1 m = (0.09 * 0.04 - 0.01 * 0.02, -0.01 * 0.04 + 0.04 * 0.02) / 0.0035 = (0.0034, 0.0004) / 0.0035
    weights = merton_weights(np.array([0.04, 0.02]), np.array([[0.04, 0.01], [0.01, 0.09]]), risk_aversion=3.0)
    risky = np.array([0.0034, 0.0004]) / 0.0035 / 3.0
    assert weights == pytest.approx([*risky, 1.0 - risky.sum()], abs=1e-8)


def test_merton_of_one_asset_is_the_kelly_fraction() -> None:
    # 0.03 / 0.2^2 = 0.75 of the asset
    assert merton_weights(np.array([0.03]), np.array([[0.04]])) == pytest.approx([0.75, 0.25], abs=1e-8)
    # 0.06 / 0.04 = 1.5 would be borrowed: everything in the asset
    assert merton_weights(np.array([0.06]), np.array([[0.04]])) == pytest.approx([1.0, 0.0], abs=1e-8)
    # a negative premium would be sold short: everything in cash
    assert merton_weights(np.array([-0.06]), np.array([[0.04]])) == pytest.approx([0.0, 1.0], abs=1e-8)


@pytest.mark.parametrize("seed", range(8))
def test_merton_meets_the_optimality_conditions_on_the_simplex(seed: int) -> None:
    # Kuhn-Tucker: the marginal utility m - gamma Sigma w is the same (lambda >= 0) for all that is held, at most lambda
    # for what is not, and lambda = 0 where cash is held.
    rng = np.random.default_rng(seed)
    factors = rng.normal(0.0, 0.15, (12, 6))
    covariance, mean = factors.T @ factors + 0.01 * np.eye(6), rng.normal(0.05, 0.1, 6)
    weights = merton_weights(mean, covariance, risk_aversion=2.0)
    assert weights.min() >= 0.0
    assert weights.sum() == pytest.approx(1.0, abs=1e-12)
    marginal = mean - 2.0 * covariance @ weights[:-1]
    price = max(0.0, marginal.max())
    held = weights[:-1] > 1e-6
    assert marginal[held] == pytest.approx(price, abs=1e-6)
    assert weights[-1] < 1e-6 or price < 1e-6


def test_merton_beats_every_portfolio_of_a_fine_lattice() -> None:
    market = random_market(assets=2)
    history = History(market.returns[2:60], market.cash_returns[2:60])
    excess = market.returns[2:60] - market.cash_returns[2:60, None]
    mean, covariance = excess.mean(0), np.cov(market.returns[2:60], rowvar=False)

    def utility(risky: np.ndarray) -> float:
        return float(mean @ risky - 0.5 * risky @ covariance @ risky)

    grid = np.linspace(0.0, 1.0, 101)
    best = max(utility(np.array([a, b])) for a in grid for b in grid if a + b <= 1.0)
    assert utility(merton(history)[:-1]) >= best - 1e-10


def test_merton_does_not_depend_on_the_unit_of_time() -> None:
    market = random_market()
    history = History(market.returns[2:60], market.cash_returns[2:60])
    monthly = merton(history, risk_aversion=5.0, periods_per_year=12)
    assert monthly == pytest.approx(merton(history, risk_aversion=5.0), abs=1e-6)


def test_equal_weight_and_merton_follow_a_permutation_of_the_assets() -> None:
    market, order = random_market(), np.array([2, 0, 3, 1])
    shuffled = replace(
        market,
        assets=tuple(market.assets[i] for i in order),
        **{name: getattr(market, name)[:, order] for name in ("returns", "volatility", "asset_features")},
    )
    columns = np.append(order, 4)
    execution = ExecutionConfig(max_turnover=0.3)
    first, second = (
        backtest(
            each, (30, 60), [EqualWeight(), Refitted("Merton", partial(merton, risk_aversion=4.0), SHORT)], execution
        )
        for each in (market, shuffled)
    )
    for ours, theirs, tolerance in zip(first, second, (1e-12, 1e-6), strict=True):
        assert theirs.weights == pytest.approx(ours.weights[:, columns], abs=tolerance)
        assert theirs.wealth == pytest.approx(ours.wealth, rel=tolerance)


@pytest.mark.parametrize(
    ("mean", "covariance", "risk_aversion", "message"),
    [
        ([0.1, 0.1], np.eye(2), 0.0, r"risk_aversion must be above 0, got 0.0"),
        ([0.1, np.nan], np.eye(2), 1.0, r"moments must be finite"),
        ([0.1, 0.1], np.diag([1.0, -1.0]), 1.0, r"covariance must be positive semi-definite, got an eigenvalue of -1"),
        ([0.1, 0.1], 1e300 * np.eye(2), 1.0, r"Merton's weights must have an optimum, got solver status failed"),
        (
            [1e20, 0.1],
            np.diag([1e-20, 1e20]),
            1.0,
            r"Merton's weights must have an optimum, got solver status unbounded",
        ),
    ],
)
def test_merton_says_why_it_has_no_weights(
    mean: list[float], covariance: np.ndarray, risk_aversion: float, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        merton_weights(np.array(mean), covariance, risk_aversion)


def test_duplicate_assets_do_not_stop_merton() -> None:
    weights = merton_weights(np.array([0.03, 0.03]), np.full((2, 2), 0.04))
    assert weights[:-1].sum() == pytest.approx(0.75, abs=1e-6)


def test_the_index_is_bought_once_and_pays_once() -> None:
    # 10 bp once: 0.999 * 1.02 * 0.97; assets' limits and impact do not apply to the fund
    market = replace(TWO_ASSETS, index_returns=np.array([0.0, 0.0, 0.02, -0.03]))
    execution = ExecutionConfig(cost_bps=(5.0, 15.0), execution_lag=0, max_weight=0.4, max_turnover=0.1, impact=1.0)
    result = index_result(market, (2, 4), execution)
    assert result.name == "index"
    assert result.wealth[-1] == pytest.approx(0.999 * 1.02 * 0.97, rel=1e-12)
    assert list(result.dates) == list(market.dates[2:4])


def test_a_market_without_an_index_has_no_index_row() -> None:
    assert index_result(TWO_ASSETS, (2, 4), TEN_BPS) is None
