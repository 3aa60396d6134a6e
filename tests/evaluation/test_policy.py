from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest

from rllib_portfolio.config import ExecutionConfig
from rllib_portfolio.env.observation import ObservationLayout
from rllib_portfolio.errors import ConfigError
from rllib_portfolio.evaluation import MarketView, backtest, reference_strategies
from rllib_portfolio.evaluation.policy import MarketViewer
from rllib_portfolio.market import MarketData
from tests.evaluation.hand_made import Scripted, random_market

WINDOW_TRAIN, WINDOW_TEST = (2, 30), (30, 60)


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
    assert list(views[0].drifted_weights) == [0.0, 0.0, 0.0, 0.0, 1.0]


@pytest.mark.parametrize("name", ["past_returns", "past_cash_returns", "volatility", "drifted_weights"])
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
    before, after = (
        backtest(each, WINDOW_TEST, [*reference_strategies(each, WINDOW_TRAIN), _greedy()], execution)
        for each in (market, scrambled)
    )
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
