from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rllib_portfolio.backtest.baselines import AllCash, BuyAndHold, EqualWeight
from rllib_portfolio.backtest.engine import BacktestResult, backtest
from rllib_portfolio.config import ExecutionConfig
from rllib_portfolio.env import PortfolioEnv
from rllib_portfolio.env.action_map import softmax_weights
from rllib_portfolio.errors import ConfigError
from rllib_portfolio.market import MarketData
from tests.backtest.hand_made import Scripted, by_row, market_of, random_market

FREE = ExecutionConfig(cost_bps=0.0, execution_lag=0)
BOUNDED = {"max_weight": 0.35, "max_turnover": 0.2, "min_cash": 0.05}


def test_a_day_by_hand() -> None:
    # Decision at row 1, all cash -> 60 % A, 40 % cash at 100 bp: traded 0.6, turnover 0.5 (0.6 + 0.6) = 0.6,
    # cost 0.006. Row 2: A gains 10 %, cash 1 %: growth 0.994 (0.6 * 1.1 + 0.4 * 1.01) = 0.994 * 1.064 = 1.057616.
    # Hold over row 3, A at 0.66 / 1.064, cash at 0.404 / 1.064: A loses 50 %: growth (0.33 + 0.40804) / 1.064.
    market = market_of([[0.0], [0.3], [0.1], [-0.5]], cash_return=0.01)
    execution = ExecutionConfig(cost_bps=100.0, execution_lag=0)
    (result,) = backtest(market, (2, 4), [by_row({1: [0.6, 0.4]})], execution)
    assert result.wealth == pytest.approx([1.0, 1.057616, 1.057616 * 0.73804 / 1.064], rel=1e-12)
    assert result.returns == pytest.approx([0.057616, 0.73804 / 1.064 - 1.0], rel=1e-12)
    assert result.weights == pytest.approx(np.array([[0.6, 0.4], [0.66 / 1.064, 0.404 / 1.064]]), rel=1e-12)
    assert result.traded == pytest.approx([0.6, 0.0], abs=1e-15)
    assert result.turnover == pytest.approx([0.6, 0.0], abs=1e-15)
    assert result.cost == pytest.approx([0.006, 0.0], abs=1e-15)
    assert list(result.dates) == list(market.dates[2:4])
    assert result.assets == ("A",)


@pytest.mark.parametrize("lag", [0, 1])
@pytest.mark.parametrize("rebalance_days", [1, 3, 5])
@pytest.mark.parametrize("limits", [{}, BOUNDED, {"impact": 0.5, "cost_bps": (5.0, 10.0, 20.0, 40.0)}])
def test_a_scripted_walk_equals_the_environment_to_the_bit(
    lag: int, rebalance_days: int, limits: dict[str, Any]
) -> None:
    market = random_market()
    window, settings = (3, 60), {"execution_lag": lag, "rebalance_days": rebalance_days, **limits}
    actions = np.random.default_rng(1).uniform(-0.3, 0.3, (57, 5)).astype(np.float32)
    env = _env(market, window, settings)
    walked = _walk(env, list(actions[::rebalance_days]))
    script = Scripted(lambda view: softmax_weights(actions[view.row - 2], 10.0))
    observations: list[np.ndarray] = []
    watcher = Scripted(lambda view: observations.append(view.observation) or script.decide(view), "watcher")
    execution = ExecutionConfig(**settings)
    alone, crowd = backtest(market, window, [watcher], execution), _in_a_crowd(market, window, script, execution)
    for result in (alone[0], crowd):
        whole = 57 // rebalance_days  # a step cut short by the end of the window is compared below
        np.testing.assert_array_equal(result.wealth[rebalance_days::rebalance_days], walked["wealth"][:whole])
        assert result.wealth[-1] == pytest.approx(walked["wealth"][-1], rel=1e-15)
        np.testing.assert_array_equal(result.turnover[::rebalance_days], walked["turnover"])
        np.testing.assert_array_equal(result.cost[::rebalance_days], walked["cost"])
        np.testing.assert_array_equal(result.weights[::rebalance_days], walked["weights"])
    np.testing.assert_array_equal(observations, walked["observation"])
    assert {observation.dtype for observation in observations} == {np.dtype(np.float32)}


@pytest.mark.parametrize("limits", [{}, BOUNDED])
def test_holding_equals_the_environments_hold_action_to_the_bit(limits: dict[str, Any]) -> None:
    market = random_market()
    env = _env(market, (3, 60), {"action_mode": "discrete", "action_table": "ladder", **limits})
    equal, hold = env.action_names.index("100% equal weight"), env.action_names.index("hold")
    walked = _walk(env, [equal] + [hold] * 56)
    (result,) = backtest(market, (3, 60), [BuyAndHold()], ExecutionConfig(**limits))
    np.testing.assert_array_equal(result.wealth[1:], walked["wealth"])
    np.testing.assert_array_equal(result.weights, walked["weights"])


def test_strategies_do_not_influence_each_other() -> None:
    market, strategies = random_market(), [EqualWeight(), BuyAndHold(), AllCash()]
    together = backtest(market, (3, 60), strategies, ExecutionConfig())
    for strategy, result in zip(strategies, together, strict=True):
        (alone,) = backtest(market, (3, 60), [strategy], ExecutionConfig())
        assert result.name == strategy.name
        np.testing.assert_array_equal(result.wealth, alone.wealth)
        np.testing.assert_array_equal(result.weights, alone.weights)


def test_decisions_come_every_rebalance_days() -> None:
    rows: list[int] = []
    strategy = Scripted(lambda view: rows.append(view.row))
    backtest(random_market(), (3, 15), [strategy], ExecutionConfig(rebalance_days=5))
    assert rows == [2, 7, 12]


def test_limits_apply_to_hold_too() -> None:
    # A doubles: held, 0.5 / 0.5 would drift to 2/3, 1/3. The maximum weight 0.5 sells A back to 0.5; the rest is cash.
    market = market_of([[0.0, 0.0], [0.0, 0.0], [1.0, 0.0], [0.0, 0.0]])
    free, bounded = (
        backtest(market, (2, 4), [BuyAndHold()], ExecutionConfig(cost_bps=0.0, execution_lag=0, max_weight=limit))[0]
        for limit in (1.0, 0.5)
    )
    assert free.weights[1] == pytest.approx([2 / 3, 1 / 3, 0.0], abs=1e-15)
    assert bounded.weights[1] == pytest.approx([0.5, 1 / 3, 1 / 6], abs=1e-15)
    assert bounded.traded[1] == pytest.approx(1 / 6, abs=1e-15)


def test_progress_is_told_of_every_day() -> None:
    told: list[tuple[int, int]] = []
    backtest(random_market(), (3, 8), [AllCash()], FREE, progress=lambda done, total: told.append((done, total)))
    assert told == [(1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]


def test_to_frame_has_one_row_per_day_and_a_column_per_weight() -> None:
    market = random_market()
    (result,) = backtest(market, (3, 8), [EqualWeight()], FREE)
    frame = result.to_frame()
    expected = ["return", "wealth", "turnover", "traded", "cost", *(f"weight.{name}" for name in "ABCD"), "weight.CASH"]
    assert list(frame.columns) == expected
    assert list(frame.index.to_numpy().astype("datetime64[D]")) == list(market.dates[3:8])
    assert list(frame["wealth"]) == list(result.wealth[1:])


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.ones(4) / 4, r"weights must have shape \(5,\), .* got shape \(4,\)"),
        (np.array([0.5, 0.5, np.nan, 0.0, 0.0]), "weights must be finite"),
        (np.array([0.5, 0.5, 0.01, 0.0, 0.0]), "sum to 1 within 1e-06, got a sum of 1.01"),
        (np.array([1.1, 0.0, -0.1, 0.0, 0.0]), "a smallest weight of -0.1"),
        (np.array([0.5, 0.5, 2e-6, 0.0, 0.0]), "got a sum of 1.000002"),
    ],
)
def test_weights_that_are_no_portfolio_are_refused_by_strategy_and_date(weights: np.ndarray, message: str) -> None:
    market = random_market()
    with pytest.raises(ConfigError, match=message) as raised:
        backtest(market, (3, 60), [AllCash(), by_row({9: weights}, "clumsy")], ExecutionConfig())
    assert f"(strategy clumsy, {market.dates[9]})" in str(raised.value)


@pytest.mark.parametrize(
    "weights", [np.array([0.1, 0.2, 0.3, 0.4, 0.0], dtype=np.float32), np.array([0.5, 0.5000015, -5e-7, 0.0, 0.0])]
)
def test_weights_within_rounding_of_the_simplex_earn_nothing_on_what_they_exceed_it_by(weights: np.ndarray) -> None:
    exact = np.maximum(weights.astype(np.float64), 0.0)
    exact /= exact.sum()
    (given,) = backtest(random_market(), (3, 30), [Scripted(lambda view: weights)], FREE)
    (rounded,) = backtest(random_market(), (3, 30), [Scripted(lambda view: exact)], FREE)
    np.testing.assert_array_equal(given.weights, rounded.weights)
    np.testing.assert_array_equal(given.wealth, rounded.wealth)


def test_a_strategy_that_fails_is_named_with_its_date_and_cause() -> None:
    market = random_market()
    faulty = Scripted(lambda view: {}["missing"] if view.row == 9 else None, "faulty")
    with pytest.raises(ConfigError, match=rf"KeyError: 'missing' \(strategy faulty, {market.dates[9]}\)") as raised:
        backtest(market, (3, 60), [faulty], ExecutionConfig())
    assert isinstance(raised.value.__cause__, KeyError)


def test_repeated_names_are_refused() -> None:
    with pytest.raises(ConfigError, match="distinct names, got all cash, all cash"):
        backtest(random_market(), (3, 60), [AllCash(), AllCash()], ExecutionConfig())
    with pytest.raises(ConfigError, match=r"at least one, .* got none"):
        backtest(random_market(), (3, 60), [], ExecutionConfig())


def test_costs_and_windows_that_do_not_fit_the_market_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"cost_bps must be one number or 4 numbers, got 2"):
        backtest(random_market(), (3, 60), [AllCash()], ExecutionConfig(cost_bps=(1.0, 2.0)))
    with pytest.raises(ConfigError, match="window must lie between"):
        backtest(random_market(), (1, 60), [AllCash()], ExecutionConfig(execution_lag=1))


def test_an_impact_that_eats_all_wealth_is_refused() -> None:
    market = random_market()
    with pytest.raises(ConfigError, match=rf"impact must leave wealth positive.*strategy 1/N, {market.dates[2]}"):
        backtest(market, (3, 60), [AllCash(), EqualWeight()], ExecutionConfig(impact=100.0))


def _env(market: MarketData, window: tuple[int, int], settings: dict[str, Any]) -> PortfolioEnv:
    dates = (str(market.dates[window[0]]), str(market.dates[window[1] - 1]))
    return PortfolioEnv(market, dates, episode_days=None, random_start=False, **settings)


def _walk(env: PortfolioEnv, actions: list[Any]) -> dict[str, np.ndarray]:
    """Return the results of the environment over a whole window: observations before each action, the rest after it."""
    observation, _ = env.reset(seed=0)
    log: list[dict[str, Any]] = []
    for action in actions:
        before = observation
        observation, _, _, truncated, info = env.step(action)
        log.append(info | {"observation": before})
    assert truncated
    return {name: np.stack([step[name] for step in log]) for name in log[0]}


def _in_a_crowd(
    market: MarketData, window: tuple[int, int], strategy: Scripted, execution: ExecutionConfig
) -> BacktestResult:
    return backtest(market, window, [EqualWeight(), BuyAndHold(), strategy, AllCash()], execution)[2]
