from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import pytest

from rllib_portfolio.backtest.baselines import BuyAndHold, EqualWeight
from rllib_portfolio.backtest.classical import merton
from rllib_portfolio.backtest.engine import backtest
from rllib_portfolio.backtest.refitting import RefitSchedule, Refitted
from rllib_portfolio.config import ExecutionConfig
from rllib_portfolio.env.observation import ObservationLayout
from rllib_portfolio.errors import ConfigError
from rllib_portfolio.market import MarketData
from rllib_portfolio.policies.strategy import MarketView, MarketViewer
from tests.backtest.hand_made import Scripted, market_of, random_market

WINDOW_TEST = (30, 60)
EVERY_DAY = RefitSchedule(refit_days=1, window_days=28, min_days=20)


def _view(market: MarketData, row: int, lag: int) -> MarketView:
    return MarketViewer(market, lag).views(row, False, np.full((1, 5), 0.2))[0]


@pytest.mark.parametrize("lag", [0, 1])
def test_a_view_ends_at_the_observed_close(lag: int) -> None:
    market = random_market()
    view = _view(market, 20, lag)
    np.testing.assert_array_equal(view.past_returns, market.returns[1 : 21 - lag])
    np.testing.assert_array_equal(view.past_cash_returns, market.cash_returns[1 : 21 - lag])
    np.testing.assert_array_equal(view.volatility, market.volatility[20 - lag])
    expected = ObservationLayout(market).observe(np.array([20 - lag]), np.full((1, 5), 0.2))[0]
    np.testing.assert_array_equal(view.observation, expected)
    assert view.row == 20


def test_the_first_decision_is_marked_and_starts_in_cash() -> None:
    views: list[MarketView] = []
    backtest(random_market(), (30, 33), [Scripted(views.append)], ExecutionConfig())
    assert [view.is_first for view in views] == [True, False, False]
    assert list(views[0].weights) == [0.0, 0.0, 0.0, 0.0, 1.0]


@pytest.mark.parametrize(("lag", "known"), [(0, [6 / 7, 1 / 7]), (1, [2 / 3, 1 / 3])])
def test_a_view_shows_the_weights_as_they_were_known_before_the_lag(lag: int, known: list[float]) -> None:
    # Half in A at the close of row 1, then held over +100 % and +200 %: 0.5 / 0.5 becomes 2/3 at the close of row 2 and
    # 6/7 at that of row 3, the third decision.
    views: dict[int, MarketView] = {}

    def rule(view: MarketView) -> np.ndarray | None:
        views[view.row] = view
        return np.array([0.5, 0.5]) if view.is_first else None

    market = market_of([[0.0], [0.0], [1.0], [2.0], [0.0]])
    backtest(market, (2, 5), [Scripted(rule)], ExecutionConfig(execution_lag=lag, cost_bps=0.0))
    assert views[3].weights == pytest.approx(known, rel=1e-15)
    assert views[3].observation[-2:] == pytest.approx(known, rel=1e-7)
    if lag:
        assert views[2].weights.tolist() == [0.5, 0.5]  # after the trade of row 1, before its day


@pytest.mark.parametrize("rebalance_days", [1, 3])
def test_with_a_lag_no_decision_depends_on_the_day_that_it_is_traded_at(rebalance_days: int) -> None:
    # The decision that is traded at row 44 sees row 43; 44 - 29 is a multiple of 1 and of 3.
    market = random_market()
    for lag, is_same in ((1, True), (0, False)):
        decided: list[list[np.ndarray]] = []
        execution = ExecutionConfig(execution_lag=lag, rebalance_days=rebalance_days, max_turnover=0.5)
        for each in (market, _scrambled_after(market, 43)):
            decided.append(targets := [])
            greedy = _greedy()
            noted = Scripted(lambda view, rule=greedy.rule, to=targets: to.append(rule(view)) or to[-1])
            backtest(each, (30, 46), [noted], execution)
        num_decisions = 15 // rebalance_days + 1
        np.testing.assert_array_equal(decided[0][: num_decisions - 1], decided[1][: num_decisions - 1])
        assert np.array_equal(decided[0][num_decisions - 1], decided[1][num_decisions - 1]) == is_same


@dataclass
class _DriftReader:
    """Reads the latest return from what its weights have drifted to, and buys what fell most."""

    name: str = "drift reader"
    last: np.ndarray | None = None

    def decide(self, view: MarketView) -> np.ndarray:
        target = np.full(5, 0.2)
        if not view.is_first and self.last is not None:
            growth = view.weights / self.last
            target = np.full(5, 0.1)
            target[int(growth[:4].argmin())] = 0.6
        self.last = target
        return target


@pytest.mark.parametrize(("lag", "is_rich"), [(0, True), (1, False)])
def test_the_weights_that_a_strategy_is_shown_tell_it_nothing_of_the_day_that_it_is_traded_at(
    lag: int, is_rich: bool
) -> None:
    # One-day reversal: e_t - 0.5 e_{t-1}. Who knows e_t buys the lowest of four, 1.03 deviations of 1 % low on average,
    # and gains 0.5 (0.6 - 0.1) 1.03 % = 0.26 % a day. Who does not gains nothing: the mean of 3000 days is uncertain
    # by 1 % 0.6 / sqrt(3000) = 0.012 %.
    rng = np.random.default_rng(0)
    shocks = rng.normal(0.0, 0.01, (3000, 4))
    returns = shocks.copy()
    returns[1:] -= 0.5 * shocks[:-1]
    (walk,) = backtest(
        market_of(returns), (5, 3000), [_DriftReader()], ExecutionConfig(cost_bps=0.0, execution_lag=lag)
    )
    mean = walk.returns.mean()
    assert mean == pytest.approx(0.0026, abs=5e-4) if is_rich else abs(mean) < 4e-4


@pytest.mark.parametrize("name", ["past_returns", "past_cash_returns", "volatility", "weights"])
def test_what_a_view_shows_cannot_be_changed(name: str) -> None:
    shown = getattr(_view(random_market(), 20, 1), name)
    with pytest.raises(ValueError, match="read-only"):
        shown[...] = 0.0
    with pytest.raises(ValueError, match="WRITEABLE"):
        shown.setflags(write=True)
    with pytest.raises(AttributeError, match="cannot assign"):
        setattr(_view(random_market(), 20, 1), name, shown)


def test_a_strategy_that_looks_ahead_finds_nothing_there() -> None:
    market = random_market()
    leaky = Scripted(lambda view: np.append(np.eye(4)[view.past_returns[view.row].argmax()], 0.0), "leaky")
    with pytest.raises(ConfigError, match=rf"IndexError: .* \(strategy leaky, {market.dates[29]}\)"):
        backtest(market, WINDOW_TEST, [leaky], ExecutionConfig(execution_lag=0))


@pytest.mark.parametrize("lag", [0, 1])
@pytest.mark.parametrize("last_known", [30, 41, 58])
def test_nothing_up_to_a_close_depends_on_what_comes_after_it(lag: int, last_known: int) -> None:
    market = random_market()
    scrambled = _scrambled_after(market, last_known)
    execution = ExecutionConfig(execution_lag=lag, impact=0.1)
    strategies = [EqualWeight(), BuyAndHold(), Refitted("Merton", merton, EVERY_DAY), _greedy()]
    before, after = (backtest(each, WINDOW_TEST, strategies, execution) for each in (market, scrambled))
    known = last_known - WINDOW_TEST[0] + 1  # days whose returns are earned by the close of `last_known`
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(old.wealth[: known + 1], new.wealth[: known + 1])
        for name in ("weights", "turnover", "traded", "cost"):  # of the decision at that close too
            np.testing.assert_array_equal(getattr(old, name)[: known + 1], getattr(new, name)[: known + 1])
        if known < len(old.returns) and old.name != "all cash":
            assert old.returns[known] != new.returns[known]


def _greedy() -> Scripted:
    """Weights that depend on every number of the view."""

    def rule(view: MarketView) -> np.ndarray:
        numbers = [np.ravel(getattr(view, field.name)) for field in fields(view) if not field.name.startswith("_")]
        mix = np.concatenate([*numbers, view.observation]).astype(np.float64)
        weights = np.array([np.abs(np.sin(1e3 * mix + phase)).sum() for phase in range(5)])
        return weights / weights.sum()

    return Scripted(rule, "greedy")


def _scrambled_after(market: MarketData, row: int) -> MarketData:
    """The same market up to the close of `row`; what cash earns on the next day is known by then."""
    rng, changed = np.random.default_rng(99), {}
    for name in ("returns", "volatility", "asset_features", "market_features", "cash_returns"):
        array: Any = getattr(market, name).copy()
        start = row + 2 if name == "cash_returns" else row + 1
        array[start:] = rng.uniform(0.0, 0.5, array[start:].shape)
        changed[name] = array
    return replace(market, **changed)
