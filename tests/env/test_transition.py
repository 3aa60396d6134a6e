"""The pure step: the same state gives the same next one, whatever was stepped before and however many walk with it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rllib_portfolio.config import ExecutionConfig
from rllib_portfolio.env.transition import State, StepOutcome, Terms, initial_state, one_day, step, with_rows
from rllib_portfolio.market import MarketData

SETTINGS = {"cost_bps": (5.0, 10.0, 80.0), "impact": 0.5, "max_weight": 0.6, "max_turnover": 0.5, "rebalance_days": 3}
NUM_PORTFOLIOS = 6


def walk_of(market: MarketData, **settings: Any) -> tuple[State, np.ndarray, Terms]:
    """Portfolios that have taken one step, target weights of the next, and the terms; the last one ends in a day."""
    terms = Terms.of(market, ExecutionConfig(**{**SETTINGS, **settings}))
    rows = np.arange(10, 10 + NUM_PORTFOLIOS)
    generator = np.random.default_rng(0)
    targets = generator.dirichlet(np.ones(market.num_assets + 1), size=(2, NUM_PORTFOLIOS))
    end = rows + 20
    end[-1] = rows[-1] + 4
    return step(initial_state(rows, end, market.num_assets), targets[0], terms)[0], targets[1], terms


def assert_same(one: tuple[State, StepOutcome], other: tuple[State, StepOutcome]) -> None:
    for values, others in zip(one, other, strict=True):
        for name, value, another in zip(values._fields, values, others, strict=True):
            np.testing.assert_array_equal(value, another, name)


def test_a_step_leaves_its_state_alone_and_can_be_taken_again(tiny_market: MarketData) -> None:
    state, target, terms = walk_of(tiny_market)
    for array in (*state, target):
        array.setflags(write=False)
    assert_same(step(state, target, terms), step(state, target, terms))
    assert (step(state, target, terms)[0].row > state.row).all()


@pytest.mark.parametrize("rebalance_days", [1, 3])
def test_each_portfolio_steps_as_if_it_were_alone(tiny_market: MarketData, rebalance_days: int) -> None:
    state, target, terms = walk_of(tiny_market, rebalance_days=rebalance_days)
    following, outcome = step(state, target, terms)
    for k in range(NUM_PORTFOLIOS):
        alone = step(State(*(array[k : k + 1] for array in state)), target[k : k + 1], terms)
        ours = (State(*(a[k : k + 1] for a in following)), StepOutcome(*(a[k : k + 1] for a in outcome)))
        assert_same(ours, alone)


def test_a_step_of_several_days_trades_on_the_first_and_holds_on_the_others(tiny_market: MarketData) -> None:
    state, target, terms = walk_of(tiny_market, max_weight=1.0, max_turnover=1.0)
    following, outcome = step(state, target, terms)
    day, first = one_day(state, target, terms)
    growth = first.growth
    for _ in range(2):
        day, held = one_day(day, day.weights, terms)
        np.testing.assert_array_equal(held.cost, 0.0)
        growth = growth * held.growth
    np.testing.assert_array_equal(following.weights, day.weights)
    np.testing.assert_array_equal(outcome.growth, growth)
    np.testing.assert_array_equal(outcome.cost, first.cost)
    np.testing.assert_array_equal(following.steps, state.steps + 1)
    assert following.is_over.tolist() == [False] * (NUM_PORTFOLIOS - 1) + [True]


@pytest.mark.parametrize("which", [np.array([1, 4]), np.isin(np.arange(NUM_PORTFOLIOS), [1, 4])])
def test_rows_are_replaced_in_a_copy(tiny_market: MarketData, which: np.ndarray) -> None:
    state, _, _ = walk_of(tiny_market)
    fresh = initial_state(np.array([3, 5]), 9, tiny_market.num_assets)
    mixed = with_rows(state, fresh, which)
    assert mixed.row[[1, 4]].tolist() == [3, 5]
    assert mixed.wealth[[1, 4]].tolist() == [1.0, 1.0]
    np.testing.assert_array_equal(mixed.weights[[0, 2, 3, 5]], state.weights[[0, 2, 3, 5]])
    assert state.row[1] != 3
