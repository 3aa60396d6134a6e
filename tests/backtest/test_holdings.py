from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rllib_portfolio.backtest.baselines import BuyAndHold, ConstantMix, EqualWeight
from rllib_portfolio.backtest.engine import BacktestResult, backtest
from rllib_portfolio.backtest.holdings import (
    active_share,
    break_even_cost_bps,
    cost_drag,
    effective_assets,
    gross_returns,
    group_weights,
    herfindahl_index,
    holdings,
)
from rllib_portfolio.config import ExecutionConfig
from rllib_portfolio.errors import ConfigError
from rllib_portfolio.statistics import metrics
from tests.backtest.hand_made import by_row, random_market

WEIGHTS = np.array([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])


def _result(gross: list[float], traded: list[float], cost_bps: float = 0.0, name: str = "policy") -> BacktestResult:
    """A result that grew by `gross` before it paid for `traded`."""
    days = len(gross)
    cost = 1e-4 * cost_bps * np.array(traded)
    growth = (1.0 - cost) * (1.0 + np.array(gross))
    dates = np.arange(days).astype("datetime64[D]")
    weights = np.tile([1.0, 0.0], (days, 1))
    wealth = np.concatenate([[1.0], growth.cumprod()])
    return BacktestResult(
        name, ("A",), dates, growth - 1.0, wealth, weights, 0.5 * np.array(traded), np.array(traded), cost
    )


def test_concentration_by_hand() -> None:
    # 0.25 + 0.25; one asset; cash is one asset. Distances to (1/2, 1/2, 0): 0, 0.5 + 0.5, 0.5 + 0.5 + 1, each halved
    assert herfindahl_index(WEIGHTS) == pytest.approx([0.5, 1.0, 1.0])
    assert effective_assets(WEIGHTS) == pytest.approx([2.0, 1.0, 1.0])
    assert active_share(WEIGHTS) == pytest.approx([0.0, 0.5, 1.0])


def test_cost_drag_is_the_annual_return_that_costs_took() -> None:
    # 100 bp on 1: 0.99 * 1.1 - 1 = 0.089 on the first of two days of a year, nothing on the second; 0.100 - 0.089
    result = _result([0.10, 0.0], [1.0, 0.0], cost_bps=100.0)
    assert gross_returns(result) == pytest.approx([0.10, 0.0], abs=1e-15)
    assert cost_drag(result, 2) == pytest.approx(0.011, rel=1e-12)


def test_break_even_cost_by_hand() -> None:
    # (1 - k) 1.1 = 1 at k = 1/11; against a benchmark that trades 0.5: 1.1 - 1.1 k = 1 - 0.5 k at k = 1/6
    policy = _result([0.10], [1.0])
    assert break_even_cost_bps(policy, _result([0.0], [0.0])) == pytest.approx(1e4 / 11, rel=1e-9)
    assert break_even_cost_bps(policy, _result([0.0], [0.5])) == pytest.approx(1e4 / 6, rel=1e-9)


def test_what_was_paid_does_not_change_the_break_even_cost() -> None:
    free, charged = (_result([0.10, 0.02], [1.0, 0.3], cost_bps) for cost_bps in (0.0, 50.0))
    benchmark = _result([0.0, 0.0], [0.5, 0.0], cost_bps=50.0)
    assert break_even_cost_bps(charged, benchmark) == pytest.approx(break_even_cost_bps(free, benchmark), rel=1e-9)


def test_no_break_even_cost_is_nan() -> None:
    ahead, behind = _result([0.10], [0.2]), _result([0.0], [1.0])
    assert np.isnan(break_even_cost_bps(behind, ahead))  # behind at no cost
    assert np.isnan(break_even_cost_bps(ahead, behind))  # ahead at any
    assert np.isnan(break_even_cost_bps(_result([0.1], [0.0]), _result([0.0], [0.0])))  # none of them trades
    assert np.isnan(break_even_cost_bps(ahead, ahead))


def test_a_back_test_at_the_break_even_cost_ends_with_equal_wealth() -> None:
    market = random_market()
    best_next = market.returns[1:].argmax(axis=1)
    clairvoyant = by_row({row: np.eye(5)[best_next[row]] for row in range(2, 59)}, "clairvoyant")
    free, charged = (
        backtest(market, (3, 60), [clairvoyant, EqualWeight()], ExecutionConfig(cost_bps=cost_bps))
        for cost_bps in (0.0, 10.0)
    )
    cost_bps = break_even_cost_bps(*charged)
    assert cost_bps == pytest.approx(break_even_cost_bps(*free), rel=1e-9)
    assert 10.0 < cost_bps < 1000.0
    ours, theirs = backtest(market, (3, 60), [clairvoyant, EqualWeight()], ExecutionConfig(cost_bps=cost_bps))
    assert ours.wealth[-1] == pytest.approx(theirs.wealth[-1], rel=1e-9)


def test_the_summary_holds_the_daily_means() -> None:
    market = random_market()
    equal, held = backtest(market, (3, 60), [EqualWeight(), BuyAndHold()], ExecutionConfig(cost_bps=10.0))
    summary = holdings(held, equal)
    assert summary.turnover_per_year == pytest.approx(252 * held.turnover.mean(), rel=1e-12)
    assert summary.cost_per_year == pytest.approx(252 * held.cost.mean(), rel=1e-12)
    assert summary.cost_drag > 0.0
    assert 1.0 < summary.effective_assets < 4.0
    assert summary.herfindahl == pytest.approx(np.mean([sum(w * w for w in row) for row in held.weights]), rel=1e-12)
    assert 0.0 < summary.active_share < 1.0
    assert holdings(equal, held).effective_assets == pytest.approx(4.0, rel=1e-12)
    assert holdings(equal, held).active_share == pytest.approx(0.0, abs=1e-12)


def test_gross_returns_are_those_of_the_free_back_test() -> None:
    market = random_market()
    (charged,) = backtest(market, (3, 60), [EqualWeight()], ExecutionConfig(cost_bps=30.0))
    (free,) = backtest(market, (3, 60), [EqualWeight()], ExecutionConfig(cost_bps=0.0))
    assert gross_returns(charged) == pytest.approx(free.returns, rel=1e-9)
    expected = metrics.annualised_return(free.returns) - metrics.annualised_return(charged.returns)
    assert cost_drag(charged) == pytest.approx(expected, rel=1e-9)


def test_other_days_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"benchmark must be over the days of the strategy, got 1 days beside 2"):
        break_even_cost_bps(_result([0.1, 0.1], [1.0, 0.0]), _result([0.1], [1.0], name="1/N"))


def test_mean_weights_by_group_add_up_and_leave_other_universes_out() -> None:
    market = replace(random_market(30, 3), groups=("tech", "", "tech"))
    window = (2, 30)
    mix = ConstantMix(np.array([0.1, 0.2, 0.3, 0.4]))
    (held,) = backtest(market, window, [mix], ExecutionConfig(cost_bps=0.0))
    table = group_weights([held, replace(held, name="index", assets=("index",))], market)
    assert table is not None
    assert table.loc["constant mix"].to_dict() == pytest.approx({"tech": 0.4, "no group": 0.2, "CASH": 0.4}, abs=1e-4)
    assert list(table.index) == ["constant mix"]
    assert group_weights([held], replace(market, groups=None)) is None
