from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rllib_portfolio.arrays import FloatArray
from rllib_portfolio.config import EnvironmentConfig, ExecutionConfig
from rllib_portfolio.env import PortfolioEnv
from rllib_portfolio.env.action_map import ActionInputs, SoftmaxMap, inverse_volatility_weights, softmax_weights
from rllib_portfolio.env.action_table import (
    ActionTable,
    action_map_of,
    build_action_map,
    build_action_table,
    ladder_table,
    lattice_table,
)
from rllib_portfolio.env.limits import bound_violation, constrained_weights
from rllib_portfolio.errors import ConfigError
from rllib_portfolio.market import MarketData
from tests.env.markets import market_of

ABCD = ("A", "B", "C", "D")


def table_of(assets: tuple[str, ...], **config: Any) -> ActionTable:
    return build_action_table(EnvironmentConfig(action_mode="discrete", **config), assets)


# ---------------------------------------------------------------- continuous


@pytest.mark.parametrize("num_assets", [1, 3, 20, 500])
def test_the_zero_action_is_the_uniform_portfolio(num_assets: int) -> None:
    weights = softmax_weights(np.zeros((2, num_assets + 1)), 10.0)
    np.testing.assert_array_equal(weights, np.full((2, num_assets + 1), 1.0 / (num_assets + 1)))


@pytest.mark.parametrize("num_assets", [1, 3, 20, 500])
def test_every_corner_of_the_simplex_is_reached_within_a_thousandth(num_assets: int) -> None:
    # One action at +1, the others at -1: 1 / (1 + N e^-20), which is 1 - 1e-6 for 500 assets. A second softmax on top
    # would leave e / (e + N), 12 % for 20 assets.
    corners = softmax_weights(2.0 * np.eye(num_assets + 1) - 1.0, 10.0)
    assert np.diag(corners) == pytest.approx(1.0, abs=1e-3)


def test_softmax_by_hand() -> None:
    # Scale 2 on (0.5, 0, -0.5): e, 1, 1/e over e + 1 + 1/e = 4.086161.
    weights = softmax_weights(np.array([[0.5, 0.0, -0.5]]), 2.0)
    assert weights == pytest.approx(np.array([[0.665241, 0.244728, 0.090031]]), abs=1e-6)


# ---------------------------------------------------------------- maps


@pytest.mark.parametrize("settings", [{}, {"action_mode": "discrete"}, {"action_mode": "discrete", "action_levels": 9}])
def test_an_action_map_comes_back_from_json(settings: dict[str, Any]) -> None:
    config = EnvironmentConfig(logit_scale=3.0, **settings)
    built = build_action_map(config, ABCD)
    again = action_map_of(json.loads(json.dumps(built.to_json())), config, ABCD)
    assert type(again) is type(built)
    assert (again.names, again.space) == (built.names, built.space)
    built.space.seed(0)
    actions = np.array([built.space.sample() for _ in range(50)])
    held, inputs = np.full((50, 5), 0.2), ActionInputs(np.full((50, 4), 0.01))
    assert built.contains(actions).all()
    np.testing.assert_array_equal(again.target(actions, held, inputs), built.target(actions, held, inputs))
    np.testing.assert_array_equal(again.is_hold(actions), built.is_hold(actions))


def test_what_lies_in_an_action_map() -> None:
    continuous, table = SoftmaxMap(("A",), 10.0), lattice_table(("A",), levels=1)  # cash, A, hold
    assert continuous.contains(np.array([[1.0, -1.0], [1.1, np.nan]])).tolist() == [[True, True], [False, False]]
    assert table.contains(np.array([0, 2, 3, -1, 0.5, np.nan])).tolist() == [True, True, False, False, False, False]
    assert not continuous.is_hold(np.zeros((3, 2))).any()
    assert table.is_hold(np.array([0, 1, 2])).tolist() == [False, False, True]


# ---------------------------------------------------------------- tables


def test_the_lattice_holds_every_portfolio_of_the_grid_and_hold() -> None:
    table = lattice_table(("A", "B"), levels=2)
    by_name = dict(zip(table.names[:-1], table.weights[:-1].tolist(), strict=True))
    assert by_name == {
        "100% cash": [0.0, 0.0, 1.0],
        "50% B + 50% cash": [0.0, 0.5, 0.5],
        "100% B": [0.0, 1.0, 0.0],
        "50% A + 50% cash": [0.5, 0.0, 0.5],
        "50% A + 50% B": [0.5, 0.5, 0.0],
        "100% A": [1.0, 0.0, 0.0],
    }
    assert table.names[-1] == "hold"
    assert table.inverse_volatility is None


@pytest.mark.parametrize(("num_assets", "levels", "size"), [(1, 4, 5), (2, 10, 66), (3, 4, 35), (4, 4, 70)])
def test_the_lattice_has_as_many_portfolios_as_there_are_compositions(num_assets: int, levels: int, size: int) -> None:
    # `levels` units spread over N + 1 columns: (levels + N) choose N.
    table = lattice_table(ABCD[:num_assets], levels)
    assert table.num_actions == size + 1  # and hold
    assert len(np.unique(table.weights[:-1], axis=0)) == size


def test_a_lattice_that_is_too_big_is_refused() -> None:
    # 4 levels, 20 assets: 24 choose 20 = 10626.
    expected = (
        r"^action_table lattice must have at most 10000 actions, got 10626 \(20 assets, action_levels 4\)\. "
        r"Lower action_levels or use action_table=ladder\.$"
    )
    with pytest.raises(ConfigError, match=expected):
        table_of(tuple(f"S{i}" for i in range(20)), action_table="lattice")
    assert table_of(tuple(f"S{i}" for i in range(20)), action_table="lattice", action_levels=3).num_actions == 1772


def test_the_ladder_by_hand() -> None:
    # N = 4: equal weight is 1/4 each; a tilt is half of that, 1/8 each, and 1/2 more of one asset.
    table = ladder_table(ABCD, levels=4)
    assert table.names == (
        "cash",
        "25% equal weight",
        "50% equal weight",
        "75% equal weight",
        "100% equal weight",
        "inverse volatility",
        "tilt A",
        "tilt B",
        "tilt C",
        "tilt D",
        "hold",
    )
    assert table.inverse_volatility == 5
    assert table.hold == 10
    targets = table.target(np.arange(10), np.zeros((10, 5)), ActionInputs(np.ones((10, 4))))
    expected = [[step / 16.0] * 4 + [1.0 - step / 4.0] for step in range(5)]
    expected += [[0.25] * 4 + [0.0]]  # inverse volatility of four equally volatile assets
    expected += [[0.625 if i == asset else 0.125 for i in range(4)] + [0.0] for asset in range(4)]
    np.testing.assert_array_equal(targets, expected)
    assert ladder_table(("A",), levels=2).names == ("cash", "50% equal weight", "100% equal weight", "hold")


def test_an_asset_whose_price_stands_still_does_not_take_all() -> None:
    # sigma counts as a tenth of the median 0.02, 0.002: 500 : 50 : 25
    weights = inverse_volatility_weights(np.array([0.0, 0.02, 0.04]))
    assert weights == pytest.approx(np.array([500.0, 50.0, 25.0, 0.0]) / 575.0)


def test_inverse_volatility_by_hand() -> None:
    # 1 / 0.01 : 1 / 0.02 : 1 / 0.04 = 4 : 2 : 1.
    weights = inverse_volatility_weights(np.array([[0.01, 0.02, 0.04], [0.03, 0.03, 0.03]]))
    assert weights == pytest.approx(np.array([[4 / 7, 2 / 7, 1 / 7, 0.0], [1 / 3, 1 / 3, 1 / 3, 0.0]]), rel=1e-15)
    np.testing.assert_array_equal(inverse_volatility_weights(np.zeros((1, 2))), [[0.5, 0.5, 0.0]])  # nothing moved


@pytest.mark.parametrize("lag", [0, 1])
def test_inverse_volatility_is_that_of_the_row_which_the_policy_sees(tiny_market: MarketData, lag: int) -> None:
    settings = {"action_mode": "discrete", "action_table": "ladder", "random_start": False, "execution_lag": lag}
    market = market_of(tiny_market.returns, volatility=np.linspace(0.01, 0.05, 64 * 3).reshape(64, 3) ** 2)
    env = PortfolioEnv(market, (str(market.dates[10]), str(market.dates[20])), **settings)
    env.reset(seed=0)
    *_, info = env.step(env.action_names.index("inverse volatility"))
    # The first return earned is that of row 10: the decision is at row 9.
    np.testing.assert_array_equal(info["weights"], inverse_volatility_weights(market.volatility[9 - lag]))


@pytest.mark.parametrize("table", [lattice_table(("A", "B", "C"), 4), ladder_table(ABCD, 4)])
def test_every_action_of_a_table_is_on_the_simplex_and_hold_is_the_drifted_portfolio(table: ActionTable) -> None:
    rng = np.random.default_rng(0)
    num_assets = table.weights.shape[1] - 1
    drifted = rng.dirichlet(np.ones(num_assets + 1), table.num_actions)
    volatility = rng.uniform(0.01, 0.05, (table.num_actions, num_assets))
    targets = table.target(np.arange(table.num_actions), drifted, ActionInputs(volatility))
    assert (targets >= 0.0).all()
    assert targets.sum(-1) == pytest.approx(1.0, abs=1e-15)
    np.testing.assert_array_equal(targets[-1], drifted[-1])
    assert len(np.unique(targets, axis=0)) == table.num_actions


@pytest.mark.parametrize(("num_assets", "first", "size"), [(3, "100% cash", 36), (4, "cash", 11)])
def test_auto_takes_the_lattice_up_to_three_assets_and_the_ladder_above(num_assets: int, first: str, size: int) -> None:
    table = table_of(ABCD[:num_assets])
    assert table.names[0] == first
    assert table.num_actions == size


def test_hold_trades_nothing_after_the_market_has_moved(tiny_market: MarketData) -> None:
    env = PortfolioEnv(tiny_market, action_mode="discrete", cost_bps=100.0)
    env.reset(seed=0)
    *_, bought = env.step(env.action_names.index("50% A + 50% B"))
    *_, held = env.step(env.action_names.index("hold"))
    assert bought["cost"] == pytest.approx(0.01, rel=1e-15)
    assert not np.array_equal(bought["drifted_weights"], bought["weights"])
    np.testing.assert_array_equal(held["weights"], bought["drifted_weights"])
    assert held["cost"] == held["turnover"] == 0.0


# ---------------------------------------------------------------- limits


def limited(target: list[float], drifted: list[float], **limits: float) -> FloatArray:
    return constrained_weights(np.array([target]), np.array([drifted]), ExecutionConfig(**limits))[0]


def test_minimum_cash_shrinks_the_risky_weights_together() -> None:
    # 0.9 of risk into 0.6: times 2/3.
    assert limited([0.6, 0.3, 0.1], [0.0, 0.0, 1.0], min_cash=0.4) == pytest.approx([0.4, 0.2, 0.4], abs=1e-15)
    assert limited([0.3, 0.2, 0.5], [0.0, 0.0, 1.0], min_cash=0.4) == pytest.approx([0.3, 0.2, 0.5], abs=1e-15)


def test_what_is_above_the_maximum_weight_goes_to_cash() -> None:
    assert limited([0.7, 0.2, 0.1], [0.0, 0.0, 1.0], max_weight=0.5) == pytest.approx([0.5, 0.2, 0.3], abs=1e-15)
    assert limited([0.0, 0.0, 1.0], [0.0, 0.0, 1.0], max_weight=0.5) == pytest.approx([0.0, 0.0, 1.0], abs=1e-15)


def test_a_move_that_is_too_large_is_shortened_and_keeps_its_direction() -> None:
    # From (0.2, 0.6, 0.2) to (0.8, 0, 0.2): turnover 0.6; a third of it is 0.2.
    assert limited([0.8, 0.0, 0.2], [0.2, 0.6, 0.2], max_turnover=0.2) == pytest.approx([0.4, 0.4, 0.2], abs=1e-15)
    assert limited([0.3, 0.5, 0.2], [0.2, 0.6, 0.2], max_turnover=0.2) == pytest.approx([0.3, 0.5, 0.2], abs=1e-15)


def test_limits_apply_in_their_order_cash_then_weight_then_turnover() -> None:
    # Cash first: (0.9, 0.1) * 0.6 = (0.54, 0.06), then the cap: (0.5, 0.06, 0.44). The cap first would have left
    # (0.5, 0.1, 0.4). The move from all cash is 0.56; at most 0.28, half of it: (0.25, 0.03, 0.72).
    cash = [0.0, 0.0, 1.0]
    limits = {"min_cash": 0.4, "max_weight": 0.5}
    assert limited([0.9, 0.1, 0.0], cash, **limits) == pytest.approx([0.5, 0.06, 0.44], abs=1e-15)
    assert limited([0.9, 0.1, 0.0], cash, **limits, max_turnover=0.28) == pytest.approx([0.25, 0.03, 0.72], abs=1e-15)


def test_without_limits_the_target_is_passed_on_untouched() -> None:
    target = softmax_weights(np.random.default_rng(0).uniform(-1, 1, (4, 6)), 10.0)
    np.testing.assert_array_equal(constrained_weights(target, target[::-1], ExecutionConfig()), target)


def test_violation_is_the_worst_excess_over_a_limit() -> None:
    limits = ExecutionConfig(max_weight=0.5, min_cash=0.2)
    weights = np.array([[0.7, 0.1, 0.2], [0.5, 0.4, 0.1], [0.6, 0.4, 0.0], [0.5, 0.3, 0.2]])
    # Row 0: 0.7 - 0.5. Row 1: 0.2 - 0.1. Row 2: 0.1 above, 0.2 short of cash. Row 3: within both.
    assert bound_violation(weights, limits) == pytest.approx([0.2, 0.1, 0.2, 0.0], abs=1e-15)


def test_hold_obeys_the_limits_and_reports_what_drift_has_left_violated() -> None:
    # At most half in A and a quarter of turnover. A fresh portfolio gets to 1/4 on a flat day, to 1/2 on the next, then
    # A quadruples: it drifts to 2 / 2.5 = 0.8. Hold is cut to 0.5, but the move of 0.3 is shortened to 0.25: 0.55 is
    # left, 0.05 above the limit. The next hold needs no more than 0.05.
    market = market_of([[0.0], [0.0], [3.0], [0.0], [0.0]])
    limits = {"max_weight": 0.5, "max_turnover": 0.25, "execution_lag": 0, "cost_bps": 0.0}
    env = PortfolioEnv(market, "all", action_mode="discrete", **limits)
    env.reset()
    buy, hold = env.action_names.index("100% A"), env.action_names.index("hold")
    infos = [env.step(action)[-1] for action in (buy, buy, hold, hold)]
    assert [info["weights"][0] for info in infos] == pytest.approx([0.25, 0.5, 0.55, 0.5], abs=1e-15)
    assert infos[1]["drifted_weights"][0] == pytest.approx(0.8, abs=1e-15)
    assert [info["turnover"] for info in infos] == pytest.approx([0.25, 0.25, 0.25, 0.05], abs=1e-15)
    assert [info["bound_violation"] for info in infos] == pytest.approx([0.0, 0.0, 0.05, 0.0], abs=1e-15)


@st.composite
def portfolios(draw: st.DrawFn, num_columns: int = 4) -> FloatArray:
    parts = draw(st.lists(st.integers(0, 100), min_size=num_columns, max_size=num_columns).filter(any))
    return np.array(parts) / sum(parts)


@given(
    portfolios(),
    portfolios(),
    st.floats(0.05, 1.0),
    st.floats(0.01, 1.0),
    st.floats(0.0, 1.0),
)
@settings(max_examples=100)
def test_limited_weights_are_a_portfolio_within_the_limits(
    target: FloatArray, drifted: FloatArray, max_weight: float, max_turnover: float, min_cash: float
) -> None:
    limits = ExecutionConfig(max_weight=max_weight, max_turnover=max_turnover, min_cash=min_cash)
    weights = constrained_weights(target, drifted, limits)
    assert (weights >= 0.0).all()
    assert weights.sum() == pytest.approx(1.0, abs=1e-14)
    turnover = 0.5 * np.abs(weights - drifted).sum()
    assert turnover <= max_turnover + 1e-14
    # A violated bound is one that the drift had violated, and that the whole turnover was spent on.
    violation = bound_violation(weights, limits)
    if violation > 1e-12:
        assert violation < bound_violation(drifted, limits)
        assert turnover == pytest.approx(max_turnover, rel=1e-9)
