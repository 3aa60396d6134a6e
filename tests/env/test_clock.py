"""Tests of the information that a decision has, and of the day whose return it earns."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from rllib_portfolio.audit.differences import with_another_future
from rllib_portfolio.env import PortfolioEnv
from rllib_portfolio.market import MarketData, gbm_market, leaked
from tests.env.markets import market_of
from tests.env.rollouts import Step, assert_same_walk, episode, sampled_actions

LAGS = (0, 1)
CONTINUOUS = {"action_mode": "continuous", "impact": 0.5}
DISCRETE = {"action_mode": "discrete", "action_table": "ladder", "impact": 0.5}  # with inverse volatility


def whole_window(market: MarketData, **settings: Any) -> list[Step]:
    env = PortfolioEnv(market, "all", episode_days=None, **settings)
    return episode(env, sampled_actions(env.action_space, 64))


@pytest.mark.parametrize("lag", LAGS)
@pytest.mark.parametrize("rebalance_days", [1, 3])
def test_an_observation_is_of_the_close_that_lies_the_lag_before_the_decision(
    tiny_market: MarketData, lag: int, rebalance_days: int
) -> None:
    for step in whole_window(tiny_market, execution_lag=lag, rebalance_days=rebalance_days):
        row = int(np.searchsorted(tiny_market.dates, step.info["date"]))
        assert step.observation[0] == row - lag
        assert step.observation[6] == lag - row
        np.testing.assert_array_equal(
            step.observation[[1, 3, 5]], [1000 + row - lag, 2000 + row - lag, 3000 + row - lag]
        )


def test_without_a_lag_the_observed_weights_are_the_drifted_ones(tiny_market: MarketData) -> None:
    for step in whole_window(tiny_market, execution_lag=0, rebalance_days=3):
        np.testing.assert_array_equal(step.observation[7:], step.info["drifted_weights"].astype(np.float32))


def test_with_a_lag_the_observed_weights_are_those_after_the_trade_of_the_close_before(tiny_market: MarketData) -> None:
    first, *later = whole_window(tiny_market, execution_lag=1)
    assert first.observation[7:].tolist() == [0.0, 0.0, 0.0, 1.0]
    for step in later:  # the last trade was that of the close before
        np.testing.assert_array_equal(step.observation[7:], step.info["weights"].astype(np.float32))
        assert not np.array_equal(step.observation[7:], step.info["drifted_weights"].astype(np.float32))


def test_with_a_lag_and_days_without_trade_the_observed_weights_have_drifted_up_to_the_close_before() -> None:
    # Half in the one asset at the close of row 1, held for three days of +100 %, 0 % and +200 %: 0.5 / 0.5 becomes
    # 2/3, 2/3, then 6/7 at the close of row 4, where the next decision is traded. Known a day before: 2/3.
    market = market_of(np.array([[0.0], [0.0], [1.0], [0.0], [2.0], [0.0]]))
    settings = {"action_mode": "discrete", "rebalance_days": 3, "cost_bps": 0.0, "episode_days": None}
    env = PortfolioEnv(market, (str(market.dates[2]), str(market.dates[5])), **settings)
    env.reset()
    observation, *_, info = env.step(env.action_names.index("50% A + 50% cash"))
    assert info["drifted_weights"] == pytest.approx([6 / 7, 1 / 7], rel=1e-15)
    assert observation[-2:] == pytest.approx([2 / 3, 1 / 3], rel=1e-7)


@pytest.mark.parametrize("limits", [{}, {"max_turnover": 0.3, "max_weight": 0.4}], ids=["free", "limited"])
@pytest.mark.parametrize("settings", [CONTINUOUS, DISCRETE], ids=["continuous", "discrete"])
@pytest.mark.parametrize("rebalance_days", [1, 3])
def test_no_number_of_an_observation_depends_on_a_price_within_the_lag(
    tiny_market: MarketData, settings: dict[str, Any], limits: dict[str, Any], rebalance_days: int
) -> None:
    # Decisions are traded at rows 4, 5, ... or 4, 7, ...; the eleventh at row 14 or 34. At a lag of 1 it sees row 13 or
    # 33: all after that is replaced, the day of the trade included.
    last = 4 + 10 * rebalance_days
    settings = {**settings, **limits, "impact": 0.0, "rebalance_days": rebalance_days}
    for lag, is_same in ((1, True), (0, False)):
        walked, another = (
            whole_window(market, execution_lag=lag, **settings)[10].observation[7:]
            for market in (tiny_market, with_another_future(tiny_market, last - 1))
        )
        assert np.array_equal(walked, another) == is_same


@pytest.mark.parametrize("lag", LAGS)
def test_a_decision_earns_the_returns_of_the_next_day_and_of_no_other(tiny_market: MarketData, lag: int) -> None:
    # The test window: decision at row 49, earning row 50.
    def first_step(row: int, shock: float) -> Step:
        returns = tiny_market.returns.copy()
        returns[row] += shock
        env = PortfolioEnv(replace(tiny_market, returns=returns), "test", execution_lag=lag, cost_bps=0.0)
        env.reset()
        return Step(*env.step(np.zeros(4)))

    calm = first_step(50, 0.0)
    for row in (48, 49, 51, 52):
        assert_same_walk([first_step(row, 0.05)], [calm])
    # 5 % on each of three of the four quarters.
    assert first_step(50, 0.05).info["wealth"] - calm.info["wealth"] == pytest.approx(0.0375, rel=1e-12)


def test_impact_is_paid_at_the_volatility_of_the_close_that_is_traded(tiny_market: MarketData) -> None:
    def cost_with_doubled_volatility(row: int) -> float:
        volatility = tiny_market.volatility.copy()
        volatility[row] *= 2.0
        env = PortfolioEnv(replace(tiny_market, volatility=volatility), "test", cost_bps=0.0, impact=0.5)
        env.reset()
        return env.step(np.zeros(4))[-1]["cost"]

    # 0.5 * 0.01 * (1 + 2 + 4) * (1 + 49 %) * 0.25^1.5 = 0.5 * 0.07 * 1.49 * 0.125
    base = cost_with_doubled_volatility(60)
    assert base == pytest.approx(0.00651875, rel=1e-12)
    assert cost_with_doubled_volatility(49) == pytest.approx(2.0 * base, rel=1e-12)
    assert cost_with_doubled_volatility(48) == cost_with_doubled_volatility(50) == base


@pytest.mark.parametrize("row", [4, 5, 17, 62])
@pytest.mark.parametrize("settings", [CONTINUOUS, DISCRETE], ids=["continuous", "discrete"])
@pytest.mark.parametrize("lag", LAGS)
def test_another_future_changes_nothing_up_to_today(
    tiny_market: MarketData, lag: int, settings: dict[str, Any], row: int
) -> None:
    settings = {**settings, "execution_lag": lag}
    walked, another = (
        whole_window(market, **settings) for market in (tiny_market, with_another_future(tiny_market, row))
    )
    num_known = row - 4 + 1  # the first answer is of row 4
    assert walked[num_known - 1].info["date"] == tiny_market.dates[row]
    assert_same_walk(walked[:num_known], another[:num_known])
    assert walked[num_known].reward != another[num_known].reward  # the future is indeed another one


def test_with_a_lag_tomorrows_decision_still_sees_todays_features(tiny_market: MarketData) -> None:
    # At the close of row 18 a lag of 1 shows row 17; without it, row 18, which is another one.
    for lag, is_same in ((1, True), (0, False)):
        walked, another = (
            whole_window(market, execution_lag=lag)[14].observation[:7]
            for market in (tiny_market, with_another_future(tiny_market, 17))
        )
        assert np.array_equal(walked, another) == is_same


def test_the_comparison_of_futures_finds_a_leak(tiny_market: MarketData) -> None:
    # The feature `next_return` of row 45 is the return of row 46. Row 45 lies after the window that scales the feature.
    walked, another = (
        whole_window(leaked(market), execution_lag=0) for market in (tiny_market, with_another_future(tiny_market, 45))
    )
    assert_same_walk(walked[:41], another[:41])
    with pytest.raises(AssertionError, match="observation at answer 41"):
        assert_same_walk(walked[:42], another[:42])


def test_a_leak_makes_rich_at_the_same_close_and_not_a_day_later() -> None:
    # All in when tomorrow's return is above its mean, else all cash. At 2 % of daily volatility half of the 500 days
    # earn 0.8 * 2 % on average: e^(250 * 0.016) = 50. With a lag of 1 the leak tells of the day that has just passed.
    market = leaked(gbm_market(mean=(0.0,), volatility=(0.3175,), num_days=501))
    wealth = []
    for lag in LAGS:
        env = PortfolioEnv(market, "all", execution_lag=lag, episode_days=None, cost_bps=0.0)
        observation, info = env.reset()
        truncated = False
        while not truncated:
            action = np.array([1.0, -1.0]) if observation[0] > 0.0 else np.array([-1.0, 1.0])
            observation, _, _, truncated, info = env.step(action)
        wealth.append(info["wealth"])
    assert wealth[0] > 25.0
    assert wealth[1] < 2.0
