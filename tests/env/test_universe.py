"""The rules of a day in a universe: exits, lost membership, halts, lag, 1/N, groups and volumes."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from rllib_portfolio.audit.differences import with_another_future
from rllib_portfolio.backtest.baselines import AllCash, BuyAndHold, ConstantMix, EqualWeight
from rllib_portfolio.backtest.engine import BacktestResult, backtest
from rllib_portfolio.backtest.lineup import all_strategies
from rllib_portfolio.backtest.refitting import RefitSchedule
from rllib_portfolio.backtest.sensitivity import repriced
from rllib_portfolio.config import ExecutionConfig
from rllib_portfolio.env import kernel
from rllib_portfolio.env.checker import check_env
from rllib_portfolio.env.limits import TradingDay, bound_violation, constrained_weights
from rllib_portfolio.env.portfolio_env import PortfolioEnv, PortfolioVectorEnv
from rllib_portfolio.errors import ConfigError
from rllib_portfolio.market import MarketData
from rllib_portfolio.market.universe import Universe
from tests import oracles
from tests.env.markets import market_of
from tests.universes import universe_market, universe_returns

FREE = ExecutionConfig(cost_bps=0.0, execution_lag=0)
MIX = ConstantMix(np.array([0.5, 0.3, 0.2]))


def market_with(daily: Any, **masks: Any) -> MarketData:
    """A market of hand-made daily returns [T, N] in which each asset is listed, a member and quoted but for `masks`."""
    daily = np.array(daily, dtype=np.float64)
    always = np.ones(daily.shape, dtype=bool)
    listed = np.array(masks.get("listed", always), dtype=bool)
    given_masks = {"member": listed, "quoted": listed, **{name: np.array(mask) for name, mask in masks.items()}}
    given_masks["listed"] = listed
    given_masks.setdefault("exit_return", np.full(daily.shape[1], np.nan))
    given_masks.setdefault("is_sold", np.zeros(daily.shape[1], dtype=bool))
    universe = Universe(**given_masks)
    return replace(market_of(universe_returns(daily, universe)), universe=universe)


def walk(market: MarketData, *strategies: Any, **settings: Any) -> list[BacktestResult]:
    execution = ExecutionConfig(**{"cost_bps": 0.0, "execution_lag": 0, **settings})
    return list(backtest(market, market.windows["all"], strategies, execution))


# ---------------------------------------------------------------- exits


def test_a_bankruptcy_costs_exactly_its_weight() -> None:
    listed = [[True, True], [True, True], [False, True], [False, True]]
    market = market_with(np.zeros((4, 2)), listed=listed, exit_return=[-1.0, np.nan])
    (mix,) = walk(market, ConstantMix(np.array([0.5, 0.25, 0.25])))
    assert mix.wealth.tolist() == [1.0, 1.0, 0.5, 0.5]
    assert mix.weights[2].tolist() == [0.0, 0.25, 0.75]  # what is wanted of an asset that is gone stays in cash


def test_an_exit_pays_its_return_and_becomes_cash_without_a_trade() -> None:
    listed = [[True], [True], [False], [False]]
    market = market_with([[0.0], [0.1], [9.0], [9.0]], listed=listed, exit_return=[0.2])
    (held,) = walk(market, BuyAndHold(), cost_bps=100.0)
    bought = Fraction(99, 100)  # 1 % of the first trade
    expected = [Fraction(1), bought * Fraction(11, 10), bought * Fraction(11, 10) * Fraction(12, 10)]
    assert held.wealth[:3] == pytest.approx([float(value) for value in expected], rel=1e-15)
    assert held.cost.tolist() == [0.01, 0.0, 0.0]
    assert held.weights.tolist() == [[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]
    assert held.wealth[3] == held.wealth[2]


@pytest.mark.parametrize(("exit_cost_bps", "rate"), [(None, Fraction(1, 100)), (500.0, Fraction(5, 100))])
def test_a_sale_at_the_end_of_a_life_pays_the_exit_cost(exit_cost_bps: float | None, rate: Fraction) -> None:
    listed = [[True, True], [True, True], [False, True]]
    market = market_with(
        [[0.0, 0.0], [0.0, 0.0], [0.0, 0.5]], listed=listed, exit_return=[-0.5, np.nan], is_sold=np.array([True, False])
    )
    (held,) = walk(market, MIX, cost_bps=100.0, exit_cost_bps=exit_cost_bps)
    gross = Fraction(1, 2) * Fraction(1, 2) + Fraction(3, 10) * Fraction(3, 2) + Fraction(2, 10)
    sold = Fraction(1, 4) / gross
    assert held.cost[1] == pytest.approx(float(rate * sold), rel=1e-14)
    assert held.returns[1] == pytest.approx(float(gross * (1 - rate * sold) - 1), rel=1e-14)


def test_the_loss_of_everything_leaves_a_finite_logarithm_and_cash() -> None:
    market = market_with(np.zeros((4, 1)), listed=[[True], [True], [False], [False]], exit_return=[-1.0])
    (held,) = walk(market, BuyAndHold())
    assert held.wealth.tolist() == [1.0, 1.0, kernel.RUIN, kernel.RUIN]
    assert held.weights[-1].tolist() == [0.0, 1.0]


def test_what_has_left_earns_what_cash_earns_in_the_bar_of_a_long_step() -> None:
    listed = np.array([[True, True], [True, True], [False, True], [False, True], [False, True]])
    daily = [[0.0, 0.0], [0.0, 0.0], [0.0, 0.1], [0.0, 0.0], [0.0, 0.0]]
    market = replace(market_with(daily, listed=listed, exit_return=[-0.5, np.nan]), cash_returns=np.full(5, 0.01))
    env = PortfolioVectorEnv(
        1, market, "all", cost_bps=0.0, execution_lag=0, rebalance_days=4, reward="active_log_return"
    )
    env.reset(seed=0)
    _, rewards, *_ = env.step(np.array([[-1.0, -1.0, 1.0]], dtype=np.float32))
    bar = (0.5 * 1.01**2 + 1.1) / 2.0
    assert rewards[0] == pytest.approx(4.0 * np.log(1.01) - np.log(bar), abs=1e-8)


# ---------------------------------------------------------------- halts


@pytest.mark.parametrize("days", [1, 2, 5])
def test_a_halt_equals_one_compounded_return(days: int) -> None:
    rng = np.random.default_rng(days)
    daily = np.zeros((days + 4, 2))
    daily[1:] = rng.normal(0.0, 0.1, (days + 3, 2))
    quoted = np.ones(daily.shape, dtype=bool)
    quoted[2 : 2 + days, 0] = False
    halted = market_with(daily, quoted=quoted)
    compounded = np.prod(1.0 + daily[2 : 3 + days, 0])
    assert halted.returns[2 : 3 + days, 0] == pytest.approx([0.0] * days + [compounded - 1.0], rel=1e-12)
    held, traded = walk(halted, BuyAndHold(), ConstantMix(np.array([0.5, 0.5, 0.0])))
    open_all, _ = walk(market_with(daily), BuyAndHold(), AllCash())
    assert held.wealth[-1] == pytest.approx(open_all.wealth[-1], rel=1e-12)
    value = traded.wealth[:-1] * traded.weights[:, 0]
    assert value[1 : 1 + days] == pytest.approx(value[1] * np.ones(days), rel=1e-12)  # nothing of it can be traded


def test_halted_weights_stay_and_the_others_share_what_is_left() -> None:
    drifted, target = np.array([[0.4, 0.4, 0.2]]), np.array([[0.0, 0.5, 0.5]])
    day = TradingDay(np.array([[False, True]]), np.array([[True, False]]))
    assert constrained_weights(target, drifted, FREE, day)[0] == pytest.approx([0.4, 0.3, 0.3], abs=1e-15)
    assert constrained_weights(drifted, drifted, FREE, day)[0] == pytest.approx(drifted[0], abs=1e-15)  # holding
    wanted = np.array([[0.7, 0.3, 0.0]])  # more of the halted asset than is there: the rest goes to cash
    assert constrained_weights(wanted, drifted, FREE, day)[0] == pytest.approx([0.4, 0.3, 0.3], abs=1e-15)


# ---------------------------------------------------------------- membership and lag


def test_lost_membership_is_sold_at_the_next_decision_at_ordinary_cost() -> None:
    member = np.array([[True, True]] * 3 + [[False, True]] * 4)
    market = market_with(np.zeros((7, 2)), member=member)
    (held,) = walk(market, BuyAndHold(), cost_bps=100.0, rebalance_days=2)
    assert held.weights[:, 0].tolist() == [0.5, 0.5, 0.5, 0.5, 0.0, 0.0]  # lost at row 3, decisions at rows 0, 2, 4
    assert held.cost[4] == pytest.approx(0.005, rel=1e-12)


def test_with_a_lag_what_cannot_be_bought_any_more_goes_to_cash() -> None:
    member = np.array([[True, True, True]] * 3 + [[False, True, True]])
    market = replace(market_with(np.zeros((4, 3)), member=member), windows={"all": (2, 4)})
    lagged, same_day = (walk(market, EqualWeight(), execution_lag=lag)[0] for lag in (1, 0))
    third = pytest.approx([0.0, 1 / 3, 1 / 3, 1 / 3], abs=1e-15)
    assert lagged.weights[0].tolist() == same_day.weights[0].tolist() == [1 / 3, 1 / 3, 1 / 3, 0.0]
    late = replace(market, universe=replace(market.universe, member=np.roll(member, -1, 0)))  # lost at row 2
    assert walk(late, EqualWeight(), execution_lag=1)[0].weights[1] == third
    assert walk(late, EqualWeight(), execution_lag=0)[0].weights[1].tolist() == [0.0, 0.5, 0.5, 0.0]


def test_equal_weight_equals_an_independent_computation_in_pandas() -> None:
    market = universe_market(200, 12, seed=3)
    universe = market.universe
    assert universe is not None
    (result,) = walk(replace(market, universe=replace(universe, quoted=universe.listed)), EqualWeight())
    returns = pd.DataFrame(market.returns)
    members = pd.DataFrame(universe.member).shift(1, fill_value=False)
    start, stop = market.windows["all"]
    expected = returns.where(members).mean(axis=1).fillna(pd.Series(market.cash_returns)).iloc[start:stop]
    np.testing.assert_allclose(result.returns, expected, atol=1e-12)


# ---------------------------------------------------------------- the whole, against slow loops and under changes


def by_hand(market: MarketData, weights: NDArray[np.float64], rate: float) -> list[Fraction]:
    """Wealth after each day of traded `weights`, [T, N+1], by exact loops over days and assets."""
    universe, start = market.universe, market.windows["all"][0]
    assert universe is not None
    wealth, path = Fraction(1), []
    drifted: list[Fraction] = [Fraction(0)] * market.num_assets + [Fraction(1)]
    for day, traded in enumerate(weights):
        row = start + day
        returns = [*market.returns[row], market.cash_returns[row]]
        after = oracles.one_day(wealth, drifted, list(traded), returns, [rate] * market.num_assets)
        wealth, drifted = after.wealth, after.drifted
        sold = Fraction(0)
        for i in range(market.num_assets):
            if not universe.listed[row, i]:
                sold += drifted[i] * Fraction(rate) if universe.is_sold[i] else 0
                drifted[-1] += drifted[i]
                drifted[i] = Fraction(0)
        wealth *= 1 - sold
        path.append(wealth)
    return path


@pytest.mark.parametrize("seed", range(4))
def test_a_random_walk_equals_exact_loops(seed: int) -> None:
    market, rng = universe_market(60, 6, seed), np.random.default_rng(seed)

    class Random:
        name = "random"

        def decide(self, view: Any) -> NDArray[np.float64]:
            return rng.dirichlet(np.ones(7))

    (result,) = walk(market, Random(), cost_bps=25.0)
    expected = by_hand(market, result.weights, 25e-4)
    assert result.wealth[1:] == pytest.approx([float(value) for value in expected], rel=1e-11)
    universe, rows = market.universe, slice(market.windows["all"][0] - 1, market.windows["all"][1] - 1)
    assert universe is not None
    risky = result.weights[:, :-1]
    assert (risky[~universe.listed[rows]] == 0.0).all()
    assert (risky[universe.listed[rows] & universe.quoted[rows] & ~universe.member[rows]] == 0.0).all()
    assert result.weights.sum(-1) == pytest.approx(np.ones(len(risky)), abs=1e-12)


def padded(market: MarketData, count: int) -> MarketData:
    """The market with `count` assets more that are never listed."""
    universe = market.universe
    assert universe is not None

    def more(array: NDArray[Any], fill: Any) -> NDArray[Any]:
        shape = list(array.shape)
        axis = 0 if array.ndim == 1 else 1
        shape[axis] = count
        return np.concatenate([array, np.full(shape, fill, dtype=array.dtype)], axis=axis)

    never = Universe(
        more(universe.listed, False),
        more(universe.member, False),
        more(universe.quoted, False),
        more(universe.exit_return, np.nan),
        more(universe.is_sold, False),
    )
    return replace(
        market,
        assets=(*market.assets, *(f"never{i}" for i in range(count))),
        returns=more(market.returns, 0.0),
        volatility=more(market.volatility, 0.0),
        asset_features=more(market.asset_features, 0.0),
        universe=never,
    )


SCHEDULE = RefitSchedule(5, 20, 10)


@pytest.mark.parametrize("lag", [0, 1])
def test_assets_that_are_never_listed_change_nothing(lag: int) -> None:
    market = universe_market(90, 6, seed=1)
    wider = padded(market, 4)
    lineup = [each for each in all_strategies(market, SCHEDULE, num_winners=2) if "CVaR" not in each.name]
    settings = {"execution_lag": lag, "cost_bps": 20.0, "max_weight": 0.4, "max_turnover": 0.3, "min_cash": 0.05}
    ours, theirs = walk(market, *lineup, **settings), walk(wider, *lineup, **settings)
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(other.wealth, one.wealth, rtol=1e-12)
        np.testing.assert_allclose(np.delete(other.weights, range(6, 10), axis=1), one.weights, atol=1e-12)


def test_a_permutation_of_the_assets_permutes_the_weights() -> None:
    market, order = universe_market(90, 6, seed=1), np.array([3, 1, 5, 0, 2, 4])
    universe = market.universe
    assert universe is not None
    permuted = replace(
        market,
        assets=tuple(market.assets[i] for i in order),
        returns=market.returns[:, order],
        volatility=market.volatility[:, order],
        asset_features=market.asset_features[:, order],
        universe=Universe(
            universe.listed[:, order],
            universe.member[:, order],
            universe.quoted[:, order],
            universe.exit_return[order],
            universe.is_sold[order],
        ),
    )
    lineup = [EqualWeight(), BuyAndHold()]
    for one, other in zip(walk(market, *lineup), walk(permuted, *lineup), strict=True):
        np.testing.assert_allclose(other.weights[:, :-1], one.weights[:, :-1][:, order], atol=1e-14)
        np.testing.assert_allclose(other.wealth, one.wealth, rtol=1e-13)


@pytest.mark.parametrize("lag", [0, 1])
def test_nothing_of_a_later_row_moves_an_earlier_decision(lag: int) -> None:
    market = universe_market(90, 6, seed=2)
    row = 60
    other = with_another_future(market, row)
    assert other.universe is not None
    assert market.universe is not None
    assert (other.universe.listed != market.universe.listed)[row + 1 :].any()
    lineup = [EqualWeight(), BuyAndHold(), *all_strategies(market, SCHEDULE, num_winners=2)[5:7]]
    window = (market.windows["all"][0], row + 1 + lag)
    execution = ExecutionConfig(execution_lag=lag, max_turnover=0.5)
    walks = [backtest(each, window, lineup, execution) for each in (market, other)]
    for one, another in zip(*walks, strict=True):
        known = len(one.dates) - lag
        np.testing.assert_array_equal(another.weights[:known], one.weights[:known])


def test_a_result_at_other_costs_is_that_of_a_new_walk() -> None:
    market = universe_market(90, 6, seed=5)
    dear, cheap = (walk(market, EqualWeight(), BuyAndHold(), cost_bps=cost) for cost in (30.0, 5.0))
    for one, other in zip(dear, cheap, strict=True):
        again = repriced(one, market, market.windows["all"], 5.0)
        np.testing.assert_array_equal(again.wealth, other.wealth)


def test_environment_and_back_test_agree_to_the_last_bit() -> None:
    market = universe_market(90, 5, seed=4)
    env = PortfolioVectorEnv(1, market, "all", episode_days=None, random_start=False, cost_bps=15.0, execution_lag=1)
    env.reset(seed=0)
    wealth = []
    for _ in range(len(market.dates) - market.windows["all"][0]):
        _, _, _, _, info = env.step(np.zeros((1, 6), dtype=np.float32))
        wealth.append(info["wealth"][0])

    class Uniform:
        name = "uniform"

        def decide(self, view: Any) -> NDArray[np.float64]:
            held = np.append(view.tradable, True)
            return held / held.sum()

    (result,) = walk(market, Uniform(), cost_bps=15.0, execution_lag=1)
    np.testing.assert_allclose(wealth, result.wealth[1:], rtol=1e-14)


@pytest.mark.parametrize("settings", [{}, {"action_mode": "discrete"}, {"execution_lag": 0, "rebalance_days": 5}])
def test_the_checks_of_an_environment_hold_in_a_universe(settings: dict[str, Any]) -> None:
    env = PortfolioEnv(universe_market(150, 6, seed=6), "all", **{"episode_days": 40, **settings})
    assert len(check_env(env)) == 3


def test_the_uniform_bar_is_over_the_members_and_cash() -> None:
    member = np.array([[True, True], [True, False], [True, True]])
    market = market_with([[0.0, 0.0], [0.1, 0.2], [0.1, 0.2]], member=member)
    env = PortfolioVectorEnv(1, market, "all", cost_bps=0.0, execution_lag=0, reward="excess_log_return")
    env.reset(seed=0)
    rewards = [env.step(np.array([[-1.0, -1.0, 1.0]], dtype=np.float32))[1][0] for _ in range(2)]
    assert rewards == pytest.approx([-np.log(1.1), -np.log(1.05)], abs=1e-7)


# ---------------------------------------------------------------- groups and volumes


def test_a_group_is_cut_to_its_limit_and_the_excess_is_cash() -> None:
    market = replace(market_of(np.zeros((3, 4))), groups=("tech", "tech", "", "energy"))
    mix = ConstantMix(np.array([0.4, 0.2, 0.3, 0.1, 0.0]))
    (result,) = walk(market, mix, max_group_weight=0.3)
    assert result.weights[0] == pytest.approx([0.2, 0.1, 0.3, 0.1, 0.3], abs=1e-15)


def test_the_limit_of_a_group_without_groups_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"max_group_weight must be 1 without groups.*assets\.csv"):
        walk(market_of(np.zeros((3, 2))), MIX, max_group_weight=0.3)


@given(st.integers(0, 2**31), st.floats(0.05, 1.0), st.floats(0.05, 1.0), st.floats(0.0, 0.5))
def test_limits_hold_for_what_can_be_traded(seed: int, largest: float, group: float, min_cash: float) -> None:
    rng = np.random.default_rng(seed)
    target, drifted = rng.dirichlet(np.ones(7), size=(2, 1))
    halted = rng.random((1, 6)) < 0.3
    tradable = ~halted & (rng.random((1, 6)) < 0.7)
    groups = np.eye(3)[rng.integers(0, 3, 6)]
    limits = ExecutionConfig(max_weight=largest, max_group_weight=group, min_cash=min_cash)
    weights = constrained_weights(target, drifted, limits, TradingDay(tradable, halted, groups))
    assert weights.sum() == pytest.approx(1.0, abs=1e-12)
    assert (weights >= 0.0).all()
    np.testing.assert_array_equal(weights[:, :-1][halted], drifted[:, :-1][halted])
    assert (weights[:, :-1][~halted & ~tradable] == 0.0).all()
    assert (weights[:, :-1][tradable] <= largest + 1e-12).all()
    frozen = np.where(halted, drifted[:, :-1], 0.0)
    assert (weights[:, :-1] @ groups <= np.maximum(group, frozen @ groups) + 1e-12).all()
    assert weights[0, -1] >= min(min_cash, 1.0 - frozen.sum()) - 1e-12
    excess = max(frozen.max() - largest, (frozen @ groups).max() - group, min_cash - (1.0 - frozen.sum()), 0.0)
    assert bound_violation(weights, limits, groups)[0] == pytest.approx(excess, abs=1e-12)


def test_a_volume_gives_the_coefficient_of_the_square_root_law() -> None:
    volumes = np.broadcast_to([1e6, 4e6], (3, 2)).copy()
    market = replace(market_of(np.zeros((3, 2)), volatility=0.02), dollar_volume=volumes)
    (result,) = walk(market, MIX, impact=0.5, fund_size=1e6)
    expected = 0.5 * 0.02 * (1.0 * 0.5**1.5 + 0.5 * 0.3**1.5)
    assert result.cost[0] == pytest.approx(expected, rel=1e-12)
    assert result.cost[1] == 0.0


def test_participation_caps_what_one_decision_trades() -> None:
    volumes = np.broadcast_to([1e6, 4e6, 0.0], (4, 3)).copy()
    market = replace(market_of(np.zeros((4, 3))), dollar_volume=volumes)
    mix = ConstantMix(np.array([0.5, 0.3, 0.2, 0.0]))
    (result,) = walk(market, mix, fund_size=1e6, max_participation=0.2)
    assert result.weights[:, :-1].tolist() == pytest.approx(
        np.array([[0.2, 0.3, 0.0], [0.4, 0.3, 0.0], [0.5, 0.3, 0.0]]), abs=1e-12
    )


def test_purchases_wait_for_sales_that_volumes_cut_short() -> None:
    day = TradingDay(largest_trade=np.array([[0.1, 1.0]]))
    weights = constrained_weights(np.array([[0.0, 1.0, 0.0]]), np.array([[0.8, 0.1, 0.1]]), FREE, day)
    assert weights[0] == pytest.approx([0.7, 0.3, 0.0], abs=1e-15)


def test_a_fund_size_without_volumes_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"fund_size must be null without volumes.*volume column"):
        walk(market_of(np.zeros((3, 2))), MIX, fund_size=1e6)


def test_costs_of_single_assets_come_before_those_of_the_settings() -> None:
    market = replace(market_of(np.zeros((3, 2))), cost_bps=np.array([50.0, np.nan]))
    (result,) = walk(market, MIX, cost_bps=10.0)
    assert result.cost[0] == pytest.approx(50e-4 * 0.5 + 10e-4 * 0.3, rel=1e-12)


def test_a_market_with_a_universe_comes_back_from_its_file(tmp_path: Any) -> None:
    market = replace(
        universe_market(), groups=("a", "b", "", "a", "b"), cost_bps=np.array([1.0, 2.0, 3.0, 4.0, np.nan])
    )
    market.save(tmp_path / "market.npz")
    again = MarketData.load(tmp_path / "market.npz")
    assert market.universe is not None
    assert again.universe is not None
    for name in ("listed", "member", "quoted", "exit_return", "is_sold"):
        np.testing.assert_array_equal(getattr(again.universe, name), getattr(market.universe, name))
        assert not getattr(again.universe, name).flags.writeable
    assert again.groups == market.groups
    np.testing.assert_array_equal(again.cost_bps, market.cost_bps)  # type: ignore[arg-type]


def test_a_complete_universe_changes_no_bit() -> None:
    market = universe_market(90, 4, seed=0)
    whole = np.ones(market.returns.shape, dtype=bool)
    universe = Universe(whole, whole, whole, np.full(4, np.nan), np.zeros(4, dtype=bool))
    complete = replace(market, universe=None)
    settings = {"cost_bps": 12.0, "impact": 0.1, "max_weight": 0.4, "min_cash": 0.1, "max_turnover": 0.2}
    lineup = [EqualWeight(), BuyAndHold(), ConstantMix(np.array([0.4, 0.3, 0.2, 0.1, 0.0]))]
    for one, other in zip(
        walk(complete, *lineup, **settings), walk(replace(market, universe=universe), *lineup, **settings), strict=True
    ):
        np.testing.assert_allclose(other.wealth, one.wealth, rtol=1e-15)
