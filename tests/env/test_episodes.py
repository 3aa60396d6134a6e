"""Tests of the start and the end of an episode, and of `info`."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from rllib_portfolio.env import PortfolioEnv, PortfolioVectorEnv, kernel
from rllib_portfolio.env.action_map import softmax_weights
from rllib_portfolio.market import MarketData
from tests import oracles
from tests.env.rollouts import episode, of_environment, sampled_actions, walk, walk_vector

INFO = {
    "date",
    "wealth",
    "weights",
    "drifted_weights",
    "turnover",
    "cost",
    "portfolio_return",
    "asset_returns",
    "bound_violation",
}
ALWAYS = [np.zeros(4)] * 200
"""The uniform portfolio, for as long as it takes."""


def rows(market: MarketData, dates: Any) -> list[int]:
    return np.searchsorted(market.dates, np.asarray(dates)).tolist()


def starts(market: MarketData, num_resets: int, **settings: Any) -> Counter[int]:
    """Count how often each row was the first decision."""
    env = PortfolioEnv(market, **settings)
    env.reset(seed=0)
    return Counter(rows(market, [env.reset()[1]["date"] for _ in range(num_resets)]))


# ---------------------------------------------------------------- ends


@pytest.mark.parametrize(("rebalance_days", "num_steps"), [(1, 10), (2, 5), (3, 4), (10, 1), (11, 1), (10**6, 1)])
def test_an_episode_is_truncated_after_its_days_and_never_terminated(
    tiny_market: MarketData, rebalance_days: int, num_steps: int
) -> None:
    env = PortfolioEnv(tiny_market, episode_days=10, rebalance_days=rebalance_days)
    first, *rest = episode(env, ALWAYS, seed=0)
    assert [step.truncated for step in rest] == [False] * (num_steps - 1) + [True]
    assert not any(step.terminated for step in rest)
    start, end = rows(tiny_market, [first.info["date"], rest[-1].info["date"]])
    assert end - start == 10


def test_an_episode_that_is_longer_than_its_window_is_truncated_at_the_windows_end(tiny_market: MarketData) -> None:
    for episode_days in (252, None, 14):
        steps = episode(PortfolioEnv(tiny_market, "test", episode_days=episode_days), ALWAYS)
        assert len(steps) == 1 + 14  # the window holds rows 50 to 63
        assert steps[-1].truncated
        assert steps[-1].info["date"] == tiny_market.dates[63]


def test_past_the_end_of_its_episode_a_portfolio_stands_still_to_the_bit(tiny_market: MarketData) -> None:
    # One day, held for thirty: 29 more days without a return would move the last bits of some portfolios.
    env = PortfolioEnv(tiny_market, "test", episode_days=1, rebalance_days=30)
    returns = np.append(tiny_market.returns[50], tiny_market.cash_returns[50])
    for action in sampled_actions(env.action_space, 20):
        _, last = episode(env, [action])
        state = kernel.initial_state(1, 3)
        state, _ = kernel.step(state, last.info["weights"][None], returns, np.zeros(3), env.simulation.terms.costs)
        assert last.info["date"] == tiny_market.dates[50]
        assert last.info["wealth"] == state.wealth[0]
        np.testing.assert_array_equal(last.info["drifted_weights"], state.weights[0])


# ---------------------------------------------------------------- starts


def test_random_starts_cover_the_window_evenly_and_leave_room_for_whole_episodes(tiny_market: MarketData) -> None:
    # Training rows 5 to 39 are earned. Episodes of 10 days can start with the decision at row 4, 5 ... 29: 26 starts,
    # about 100 times each in 2600 resets (the standard deviation is 10).
    counts = starts(tiny_market, 2600, window="train", episode_days=10)
    assert sorted(counts) == list(range(4, 30))
    assert min(counts.values()) > 60
    assert max(counts.values()) < 140


def test_an_episode_as_long_as_the_window_starts_at_its_first_day(tiny_market: MarketData) -> None:
    for episode_days in (35, 252, None):
        assert set(starts(tiny_market, 20, window="train", episode_days=episode_days)) == {4}
    assert set(starts(tiny_market, 200, window="train", episode_days=34)) == {4, 5}


def test_only_the_training_window_starts_at_random_unless_told_otherwise(tiny_market: MarketData) -> None:
    dates = tuple(str(day) for day in tiny_market.dates[[10, 39]])
    for window, first in (("validation", 39), ("test", 49), ("all", 4), (dates, 9)):
        assert set(starts(tiny_market, 20, window=window, episode_days=3)) == {first}
        assert len(starts(tiny_market, 50, window=window, episode_days=3, random_start=True)) > 5
    assert len(starts(tiny_market, 50, window="train", episode_days=3)) > 5
    assert set(starts(tiny_market, 20, window="train", episode_days=3, random_start=False)) == {4}


def test_environments_of_a_vector_environment_walk_different_paths(tiny_market: MarketData) -> None:
    env = PortfolioVectorEnv(8, tiny_market, episode_days=10)
    _, info = env.reset(seed=0)
    assert len(set(info["date"])) >= 5
    # And each of them another path in its next episode.
    steps = walk_vector(env, [np.zeros((8, 4))] * 40, seed=0)
    for index in range(8):
        first_days = [
            step.info["date"] for step in of_environment(steps, index) if step.info["wealth"] == 1.0 and not step.reward
        ]
        assert len(first_days) == 4  # a reset takes a step: 41 answers hold 10 + 1 of each episode
        assert len(set(first_days)) > 1


# ---------------------------------------------------------------- windows


def test_a_window_is_walked_from_its_first_day_to_its_last(tiny_market: MarketData) -> None:
    env = PortfolioEnv(tiny_market, "validation", episode_days=None)
    first, *rest = episode(env, ALWAYS)
    # The returns of rows 40 to 49 are earned: the first decision is at the close of row 39.
    assert rows(tiny_market, [step.info["date"] for step in (first, *rest)]) == list(range(39, 50))
    expected = np.column_stack([tiny_market.returns, tiny_market.cash_returns])[40:50]
    earned = np.array([step.info["asset_returns"] for step in rest])
    assert earned == pytest.approx(expected, abs=1e-15)


def test_dates_that_are_no_trading_days_stand_for_the_days_within(tiny_market: MarketData) -> None:
    # 2001-01-13 is a Saturday, 2001-01-21 a Sunday: Monday 15 to Friday 19, five days.
    env = PortfolioEnv(tiny_market, ["2001-01-13", "2001-01-21"])
    dates = [str(step.info["date"]) for step in episode(env, ALWAYS)]
    assert dates == ["2001-01-12", *(f"2001-01-{day}" for day in range(15, 20))]


# ---------------------------------------------------------------- info


@pytest.mark.parametrize("limits", [{}, {"min_cash": 0.5, "max_weight": 0.2}])
def test_info_of_a_fresh_episode_is_all_cash_and_nothing_done(
    tiny_market: MarketData, limits: dict[str, float]
) -> None:
    env = PortfolioEnv(tiny_market, "test", **limits)
    for _ in range(2):  # the second reset follows a walk
        _, info = env.reset()
        assert info.keys() == INFO
        assert info["date"] == tiny_market.dates[49]
        assert info["wealth"] == 1.0
        for name in ("weights", "drifted_weights"):
            np.testing.assert_array_equal(info[name], [0.0, 0.0, 0.0, 1.0])
        for name in ("turnover", "cost", "portfolio_return", "bound_violation"):
            assert info[name] == 0.0, name
        np.testing.assert_array_equal(info["asset_returns"], np.zeros(4))
        for action in ALWAYS[:3]:
            env.step(action)


def test_info_of_a_step_by_hand(tiny_market: MarketData) -> None:
    # The test window's first return is that of row 50: place 2 of A's cycle of 4 is +3 %, place 0 of B's +2 %, place 1
    # of C's +4 %; cash earns 1 + (50 mod 3) = 3 basis points. A quarter each, bought with 3/4 at 20 bp: cost 0.0015.
    # Growth 0.9985 (1 + (0.03 + 0.02 + 0.04 + 0.0003) / 4) = 0.9985 * 1.022575 = 1.0210411375.
    env = PortfolioEnv(tiny_market, "test", cost_bps=20.0)
    env.reset()
    *_, info = env.step(np.zeros(4))
    assert info.keys() == INFO
    assert info["date"] == tiny_market.dates[50]
    np.testing.assert_array_equal(info["weights"], [0.25] * 4)
    assert info["asset_returns"] == pytest.approx([0.03, 0.02, 0.04, 0.0003], abs=1e-15)
    assert info["turnover"] == 0.75
    assert info["cost"] == pytest.approx(0.0015, rel=1e-14)
    assert info["wealth"] == pytest.approx(1.0210411375, rel=1e-14)
    assert info["portfolio_return"] == pytest.approx(0.0210411375, rel=1e-12)
    assert info["drifted_weights"] == pytest.approx(np.array([1.03, 1.02, 1.04, 1.0003]) / 4.0903, rel=1e-14)
    assert info["bound_violation"] == 0.0


def test_vector_info_has_one_row_for_each_environment_and_says_that_all_are_there(tiny_market: MarketData) -> None:
    env = PortfolioVectorEnv(3, tiny_market)
    _, info = env.reset(seed=0)
    assert info.keys() == INFO | {f"_{name}" for name in INFO}
    for name in INFO:
        assert len(info[name]) == 3
        np.testing.assert_array_equal(info[f"_{name}"], [True] * 3)


def test_the_end_of_an_episode_is_told_with_its_last_day_and_the_next_step_resets(tiny_market: MarketData) -> None:
    env = PortfolioVectorEnv(1, tiny_market, "test", episode_days=2)
    steps = of_environment(walk_vector(env, [np.full((1, 4), 0.5)] * 4, seed=0), 0)
    assert [step.truncated for step in steps] == [False, False, True, False, False]
    assert rows(tiny_market, [step.info["date"] for step in steps]) == [49, 50, 51, 49, 50]
    assert steps[2].reward != 0.0  # of the last day
    assert steps[2].info["wealth"] != 1.0
    assert steps[3].reward == 0.0  # of the reset, whose action is ignored
    assert steps[3].info["wealth"] == 1.0
    assert steps[3].info["turnover"] == 0.0
    np.testing.assert_array_equal(steps[3].observation, steps[0].observation)
    np.testing.assert_array_equal(steps[4].observation, steps[1].observation)


# ---------------------------------------------------------------- the whole of it, against exact arithmetic


@pytest.mark.parametrize("rebalance_days", [1, 3])
def test_an_episode_equals_exact_arithmetic(tiny_market: MarketData, rebalance_days: int) -> None:
    costs, k = (5.0, 10.0, 80.0), 0.4
    env = PortfolioEnv(
        tiny_market,
        "train",
        cost_bps=costs,
        impact=k,
        rebalance_days=rebalance_days,
        reward="log_return",
        random_start=False,
        episode_days=None,
    )
    actions = sampled_actions(env.action_space, 35)
    _, *answers = episode(env, actions)
    targets: list[Any] = [None] * 35
    targets[::rebalance_days] = softmax_weights(np.array(actions[: len(answers)]), 10.0).tolist()
    returns = np.column_stack([tiny_market.returns, tiny_market.cash_returns])[5:40]
    exact = list(oracles.walk(targets, returns, np.array(costs) * 1e-4, tiny_market.volatility[4:39], k))
    for number, answer in enumerate(answers):
        first, last = number * rebalance_days, min((number + 1) * rebalance_days, 35) - 1
        start_wealth = exact[first - 1].wealth if first else 1
        growth = float(exact[last].wealth / start_wealth)
        assert answer.info["cost"] == pytest.approx(float(exact[first].cost), rel=1e-12)
        assert answer.info["turnover"] == pytest.approx(float(exact[first].turnover), rel=1e-12)
        assert answer.info["wealth"] == pytest.approx(float(exact[last].wealth), rel=1e-12)
        assert answer.info["portfolio_return"] == pytest.approx(growth - 1.0, abs=1e-13)
        assert answer.info["drifted_weights"] == pytest.approx([float(w) for w in exact[last].drifted], rel=1e-11)
        assert answer.reward == pytest.approx(np.log(growth), abs=1e-13)


def test_the_bundled_sample_is_walked_from_end_to_end() -> None:
    env = PortfolioEnv("sp500", "all", episode_days=None, action_mode="discrete", reward="log_return", cash_rate=0.1)
    answers = walk(env, [0] * (env.simulation.last_row - env.simulation.first_decision))  # all cash, throughout
    num_days = len(answers) - 1
    assert answers[-1].truncated
    assert answers[-1].info["wealth"] == pytest.approx(1.1 ** (num_days / 252), rel=1e-9)
    assert answers[-1].info["date"] == env.simulation.market.dates[-1]
