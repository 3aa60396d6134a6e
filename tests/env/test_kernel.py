from __future__ import annotations

from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rllib_portfolio.arrays import FloatArray
from rllib_portfolio.env.kernel import CostModel, Outcome, PortfolioState, initial_state, step
from tests import oracles

UNUSED = np.array([[np.nan]])
"""A volatility that would spoil every number, were it read."""


class Case(NamedTuple):
    """One day of B portfolios."""

    state: PortfolioState
    target: FloatArray
    returns: FloatArray
    volatility: FloatArray
    costs: CostModel

    def run(self) -> tuple[PortfolioState, Outcome]:
        return step(*self)


def random_case(num_portfolios: int, num_assets: int, seed: int = 0, impact: float = 0.5) -> Case:
    rng = np.random.default_rng(seed)
    wealth = rng.uniform(0.1, 10.0, num_portfolios)
    drifted, target = rng.dirichlet(np.ones(num_assets + 1), (2, num_portfolios))
    returns = rng.uniform(-0.2, 0.2, (num_portfolios, num_assets + 1))
    volatility = rng.uniform(0.001, 0.1, (num_portfolios, num_assets))
    costs = CostModel(rng.uniform(0.0, 0.01, num_assets), impact)
    return Case(PortfolioState(wealth, drifted), target, returns, volatility, costs)


def free(num_assets: int) -> CostModel:
    return CostModel.from_bps(0.0, num_assets)


# ---------------------------------------------------------------- by hand


def test_a_day_by_hand() -> None:
    # Moves: A 0.3, B 0.2, C 0, cash 0.1. Traded 0.3 + 0.2 = 0.5; turnover (0.3 + 0.2 + 0.1) / 2 = 0.3.
    # Cost at 10, 20, 40 bp: 0.3 * 0.001 + 0.2 * 0.002 = 0.0007.
    # Gross growth: 0.5 * 1.1 + 0.1 * 0.8 + 0.1 * 1.05 + 0.3 * 1.001 = 0.55 + 0.08 + 0.105 + 0.3003 = 1.0353.
    # Growth 0.9993 * 1.0353 = 1.03457529; wealth 2 * 1.03457529; drift: each term of the growth over 1.0353.
    state = PortfolioState(np.array([2.0]), np.array([[0.2, 0.3, 0.1, 0.4]]))
    target, returns = np.array([[0.5, 0.1, 0.1, 0.3]]), np.array([[0.1, -0.2, 0.05, 0.001]])
    after, outcome = step(state, target, returns, UNUSED, CostModel.from_bps((10.0, 20.0, 40.0), 3))
    assert outcome.traded == pytest.approx([0.5], rel=1e-15)
    assert outcome.turnover == pytest.approx([0.3], rel=1e-15)
    assert outcome.cost == pytest.approx([0.0007], rel=1e-14)
    assert outcome.growth == pytest.approx([1.03457529], rel=1e-15)
    assert after.wealth == pytest.approx([2.06915058], rel=1e-15)
    assert after.weights == pytest.approx(np.array([[0.55, 0.08, 0.105, 0.3003]]) / 1.0353, rel=1e-15)


def test_impact_by_hand() -> None:
    # k = 0.5. A moves by 0.25 at sigma 2 %: 0.5 * 0.02 * 0.25^1.5 = 0.5 * 0.02 * 0.125 = 0.00125.
    # B moves by 0.16 at sigma 5 %: 0.5 * 0.05 * 0.16^1.5 = 0.5 * 0.05 * 0.064 = 0.0016. C does not move.
    # 10 bp of the traded 0.41 come on top: 0.00041. Together 0.00326.
    state = PortfolioState(np.array([1.0]), np.array([[0.0, 0.46, 0.04, 0.5]]))
    target = np.array([[0.25, 0.30, 0.04, 0.41]])
    volatility = np.array([[0.02, 0.05, 0.9]])
    after, outcome = step(state, target, np.zeros(4), volatility, CostModel.from_bps(10.0, 3, impact=0.5))
    assert outcome.cost == pytest.approx([0.00326], rel=1e-13)
    assert after.wealth == pytest.approx([1.0 - 0.00326], rel=1e-15)


@pytest.mark.parametrize(
    ("drifted", "target", "traded", "turnover"),
    [
        ([0.0, 0.0, 1.0], [1.0, 0.0, 0.0], 1.0, 1.0),  # cash into a stock: one trade
        ([1.0, 0.0, 0.0], [0.0, 1.0, 0.0], 2.0, 1.0),  # a stock into another: two trades, the same turnover
        ([1.0, 0.0, 0.0], [0.0, 0.0, 1.0], 1.0, 1.0),  # a stock into cash
        ([0.5, 0.3, 0.2], [0.5, 0.3, 0.2], 0.0, 0.0),  # nothing
        ([0.5, 0.5, 0.0], [0.25, 0.25, 0.5], 0.5, 0.5),  # a quarter of each sold
    ],
)
def test_traded_counts_the_risky_assets_and_turnover_half_of_everything(
    drifted: list[float], target: list[float], traded: float, turnover: float
) -> None:
    # At 100 bp on a flat day, wealth falls by 1 % of what is traded, not of the turnover.
    state = PortfolioState(np.array([1.0]), np.array([drifted]))
    after, outcome = step(state, np.array([target]), np.zeros(3), UNUSED, CostModel.from_bps(100.0, 2))
    assert outcome.traded[0] == traded
    assert outcome.turnover[0] == turnover
    assert after.wealth[0] == pytest.approx(1.0 - 0.01 * traded, rel=1e-15)


@pytest.mark.parametrize("cost_bps", [0.0, 1.0, 10.0, 250.0])
def test_round_trips_cost_the_closed_form_amount(cost_bps: float) -> None:
    # On flat days every move between cash and a stock trades 1, so wealth after 2n moves is (1 - c)^(2n).
    state, costs = initial_state(1, 2), CostModel.from_bps(cost_bps, 2)
    stock, cash = np.array([[0.0, 1.0, 0.0]]), np.array([[0.0, 0.0, 1.0]])
    for _ in range(5):
        for target in (stock, cash):
            state, _ = step(state, target, np.zeros(3), UNUSED, costs)
    assert state.wealth[0] == pytest.approx((1.0 - cost_bps * 1e-4) ** 10, rel=1e-14)


@pytest.mark.parametrize(("cost_bps", "more_bp"), [(10.0, 0.02), (50.0, 0.50)])
def test_the_cost_of_a_full_swap_leaves_out_a_second_order_term_of_this_size(cost_bps: float, more_bp: float) -> None:
    # All of A is sold for 1 - k, which buys x of B with x (1 + k) = 1 - k.
    state, rate = PortfolioState(np.ones(1), np.array([[1.0, 0.0, 0.0]])), 1e-4 * cost_bps
    _, outcome = step(state, np.array([[0.0, 1.0, 0.0]]), np.zeros(3), UNUSED, CostModel.from_bps(cost_bps, 2))
    exact = 1.0 - (1.0 - rate) / (1.0 + rate)
    assert 1e4 * (outcome.cost[0] - exact) == pytest.approx(more_bp, abs=0.005)


def test_holding_the_drifted_weights_is_buy_and_hold_and_pays_nothing() -> None:
    # Weights 0.5, 0.3, 0.2 over two days: A 1.1 * 0.9 = 0.99, B 0.8 * 1.5 = 1.2, cash 1.01 * 1.01 = 1.0201.
    # Wealth 0.5 * 0.99 + 0.3 * 1.2 + 0.2 * 1.0201 = 0.495 + 0.36 + 0.20402 = 1.05902.
    state = PortfolioState(np.array([1.0]), np.array([[0.5, 0.3, 0.2]]))
    for returns in ([0.1, -0.2, 0.01], [-0.1, 0.5, 0.01]):
        state, outcome = step(state, state.weights, np.array(returns), UNUSED, CostModel.from_bps(4999.0, 2))
        assert outcome.cost[0] == outcome.turnover[0] == outcome.traded[0] == 0.0
    assert state.wealth == pytest.approx([1.05902], rel=1e-15)
    assert state.weights == pytest.approx(np.array([[0.495, 0.36, 0.20402]]) / 1.05902, rel=1e-14)


def test_basis_points_are_ten_thousandths_for_all_assets_or_for_each() -> None:
    assert CostModel.from_bps(25.0, 3).rates == pytest.approx([0.0025, 0.0025, 0.0025], rel=1e-15)
    assert CostModel.from_bps((1.0, 100.0), 2).rates == pytest.approx([0.0001, 0.01], rel=1e-15)


# ---------------------------------------------------------------- against exact arithmetic


@pytest.mark.parametrize("impact", [0.0, 0.7])
@pytest.mark.parametrize("num_assets", [1, 3, 8])
def test_one_day_equals_exact_arithmetic(num_assets: int, impact: float) -> None:
    case = random_case(16, num_assets, seed=num_assets, impact=impact)
    after, outcome = case.run()
    for b in range(16):
        day = oracles.one_day(
            case.state.wealth[b],
            case.state.weights[b],
            case.target[b],
            case.returns[b],
            case.costs.rates,
            (impact, case.volatility[b]),
        )
        for name in ("traded", "turnover", "cost", "growth"):
            assert getattr(outcome, name)[b] == pytest.approx(float(getattr(day, name)), rel=2e-14), name
        assert after.wealth[b] == pytest.approx(float(day.wealth), rel=2e-14)
        assert after.weights[b] == pytest.approx([float(weight) for weight in day.drifted], rel=2e-14)


def test_sixty_days_with_a_cost_for_each_asset_equal_exact_arithmetic() -> None:
    rng = np.random.default_rng(5)
    rates, days = np.array([0.0, 0.001, 0.02]), 60
    returns = rng.uniform(-0.1, 0.11, (days, 4))
    volatility = rng.uniform(0.005, 0.05, (days, 3))
    targets = [None if day % 4 == 3 else rng.dirichlet(np.ones(4)) for day in range(days)]  # every fourth day holds
    state, costs = initial_state(1, 3), CostModel(rates, impact=0.3)
    exact = oracles.walk(targets, returns, rates, volatility, k=0.3)
    for target, r_t1, sigma, day in zip(targets, returns, volatility, exact, strict=True):
        weights = state.weights if target is None else target[None]
        state, outcome = step(state, weights, r_t1, sigma, costs)
        assert outcome.cost[0] == pytest.approx(float(day.cost), rel=1e-12, abs=1e-18)
        assert state.wealth[0] == pytest.approx(float(day.wealth), rel=1e-12)
        assert state.weights[0] == pytest.approx([float(weight) for weight in day.drifted], rel=1e-12)


def test_the_oracle_is_exact_where_the_kernel_rounds() -> None:
    # A third of each in A, B and cash; A gains a half, B loses a half: growth (3/2 + 1/2 + 1) / 3 = 1 exactly.
    # All of it bought from cash at 1/100: cost 2/3 * 1/100 = 1/150, growth 149/150; A drifts to (1/3 * 3/2) / 1 = 1/2.
    third = Fraction(1, 3)
    day = oracles.one_day(1, [0, 0, 1], [third] * 3, [0.5, -0.5, 0.0], [Fraction(1, 100)] * 2)
    assert (day.traded, day.turnover, day.cost) == (Fraction(2, 3), Fraction(2, 3), Fraction(1, 150))
    assert (day.growth, day.drifted) == (Fraction(149, 150), [Fraction(1, 2), Fraction(1, 6), third])


# ---------------------------------------------------------------- batches


@pytest.mark.parametrize("num_assets", [1, 3, 20, 500])
def test_one_portfolio_alone_and_among_64_agree_to_the_bit(num_assets: int) -> None:
    case = random_case(64, num_assets)
    together = case.run()
    for b in range(64):
        alone = step(
            PortfolioState(case.state.wealth[[b]], case.state.weights[[b]]),
            case.target[[b]],
            case.returns[[b]],
            case.volatility[[b]],
            case.costs,
        )
        for one, other in zip(together, alone, strict=True):
            for name in one._fields:
                np.testing.assert_array_equal(getattr(one, name)[[b]], getattr(other, name), name, strict=True)
        for name in ("traded", "turnover"):
            np.testing.assert_array_equal(getattr(together[1], name)[[b]], getattr(alone[1], name), name, strict=True)


def test_returns_and_volatility_of_one_day_serve_all_portfolios_to_the_bit() -> None:
    case = random_case(8, 20)
    r_t1, sigma = case.returns[0], case.volatility[0]
    shared = case._replace(returns=r_t1, volatility=sigma).run()
    repeated = case._replace(returns=np.tile(r_t1, (8, 1)), volatility=np.tile(sigma, (8, 1))).run()
    np.testing.assert_array_equal(shared[0].wealth, repeated[0].wealth)
    np.testing.assert_array_equal(shared[0].weights, repeated[0].weights)


def test_a_step_leaves_its_arguments_alone() -> None:
    case, same = random_case(4, 3), random_case(4, 3)
    case.run()
    np.testing.assert_array_equal(case.state.wealth, same.state.wealth)
    np.testing.assert_array_equal(case.state.weights, same.state.weights)
    np.testing.assert_array_equal(case.target, same.target)


# ---------------------------------------------------------------- properties


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """One portfolio on any day: empty positions, crashes to -99 %, costs up to 20 %, or none."""
    num_assets = draw(st.integers(1, 6))

    def numbers(low: float, high: float, size: int) -> FloatArray:
        return np.array([draw(st.lists(st.floats(low, high), min_size=size, max_size=size))])

    def simplex() -> FloatArray:
        parts = draw(st.lists(st.integers(0, 1000), min_size=num_assets + 1, max_size=num_assets + 1).filter(any))
        return np.array([parts]) / sum(parts)

    state = PortfolioState(numbers(1e-3, 1e3, 1)[0], simplex())
    returns, volatility = numbers(-0.99, 3.0, num_assets + 1), numbers(0.0, 0.1, num_assets)
    costs = CostModel(numbers(0.0, 0.2, num_assets)[0], draw(st.sampled_from([0.0, 0.1, 1.0])))
    return Case(state, simplex(), returns, volatility, costs)


@given(cases())
@settings(max_examples=60)
def test_weights_stay_on_the_simplex(case: Case) -> None:
    after, _ = case.run()
    assert (after.weights >= 0.0).all()
    assert after.weights.sum() == pytest.approx(1.0, abs=1e-14)


@given(cases())
@settings(max_examples=60)
def test_wealth_is_conserved_without_costs_and_returns(case: Case) -> None:
    flat = case._replace(returns=np.zeros_like(case.returns), costs=free(case.volatility.shape[1]))
    after, _ = flat.run()
    assert after.wealth == pytest.approx(case.state.wealth, rel=1e-14)
    assert after.weights == pytest.approx(case.target, abs=1e-15)


@given(cases())
@settings(max_examples=60)
def test_the_second_order_term_of_a_cost_is_at_most_the_cost_times_the_largest_rate(case: Case) -> None:
    costs = CostModel(case.costs.rates)
    cost = case._replace(costs=costs).run()[1].cost
    left, risky, drifted = np.ones(len(cost)), case.target[:, :-1], case.state.weights[:, :-1]
    for _ in range(50):  # a contraction by the largest rate
        left = 1.0 - (costs.rates * np.abs(left[:, None] * risky - drifted)).sum(-1)
    assert (np.abs(cost - (1.0 - left)) <= (1.0 - left) * costs.rates.max() + 1e-12).all()


@given(cases(), st.integers(0, 5), st.floats(1e-6, 0.1))
@settings(max_examples=60)
def test_wealth_falls_by_the_traded_weight_when_an_asset_costs_more(case: Case, asset: int, more: float) -> None:
    # dV' / d cost_i = -V g |dw_i|: nothing for an asset that is not traded, and never a gain.
    asset %= len(case.costs.rates)
    rates = case.costs.rates.copy()
    rates[asset] += more
    cheap, cheap_outcome = case.run()
    dear, dear_outcome = case._replace(costs=CostModel(rates, case.costs.impact)).run()
    move = abs(case.target - case.state.weights)[0, asset]
    gross = (case.target * (1.0 + case.returns)).sum()
    assert dear_outcome.cost - cheap_outcome.cost == pytest.approx(more * move, abs=1e-15)
    assert cheap.wealth - dear.wealth == pytest.approx(
        case.state.wealth * gross * more * move, abs=1e-13 * cheap.wealth[0] + 1e-15
    )
    assert (dear.wealth <= cheap.wealth).all()
    np.testing.assert_array_equal(dear.weights, cheap.weights)


@given(cases(), st.randoms(use_true_random=False))
@settings(max_examples=60)
def test_the_order_of_the_assets_does_not_matter(case: Case, random: Any) -> None:
    order = list(range(case.volatility.shape[1]))
    random.shuffle(order)
    columns = [*order, len(order)]  # cash stays last
    shuffled = Case(
        PortfolioState(case.state.wealth, case.state.weights[:, columns]),
        case.target[:, columns],
        case.returns[:, columns],
        case.volatility[:, order],
        CostModel(case.costs.rates[order], case.costs.impact),
    )
    after, outcome = case.run()
    shuffled_after, shuffled_outcome = shuffled.run()
    assert shuffled_after.wealth == pytest.approx(after.wealth, rel=1e-13)
    assert shuffled_after.weights == pytest.approx(after.weights[:, columns], rel=1e-13)
    np.testing.assert_array_equal(shuffled_outcome.move, outcome.move[:, columns])
    for name in ("traded", "turnover", "cost", "growth"):
        assert getattr(shuffled_outcome, name) == pytest.approx(getattr(outcome, name), rel=1e-13, abs=1e-16), name


@given(cases(), st.integers(-20, 20))
@settings(max_examples=40)
def test_the_size_of_the_fund_changes_nothing_but_its_wealth(case: Case, power: int) -> None:
    # Powers of two multiply without rounding, so the outcome is equal to the bit.
    scaled = case._replace(state=PortfolioState(case.state.wealth * 2.0**power, case.state.weights))
    after, outcome = case.run()
    scaled_after, scaled_outcome = scaled.run()
    np.testing.assert_array_equal(scaled_after.wealth, after.wealth * 2.0**power)
    np.testing.assert_array_equal(scaled_after.weights, after.weights)
    for name in (*outcome._fields, "traded", "turnover"):
        np.testing.assert_array_equal(getattr(scaled_outcome, name), getattr(outcome, name), name)


@given(cases(), st.floats(0.1, 10.0))
@settings(max_examples=40)
def test_growth_common_to_all_assets_multiplies_wealth_and_moves_no_weight(case: Case, factor: float) -> None:
    # Inflation: (1 + r) f for every asset and cash gives g f, and the f cancels in the drift.
    inflated = case._replace(returns=(1.0 + case.returns) * factor - 1.0)
    after, outcome = case.run()
    inflated_after, inflated_outcome = inflated.run()
    assert inflated_outcome.growth == pytest.approx(outcome.growth * factor, rel=1e-12)
    assert inflated_after.weights == pytest.approx(after.weights, rel=1e-12, abs=1e-15)
    np.testing.assert_array_equal(inflated_outcome.cost, outcome.cost)
