from __future__ import annotations

import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from rllib_portfolio.backtest.baselines import AllCash, merton_weights
from rllib_portfolio.backtest.engine import BacktestResult, Role, backtest
from rllib_portfolio.backtest.lineup import all_strategies, reference_strategies, walk_lineup
from rllib_portfolio.backtest.refitting import History, RefitSchedule, Refitted
from rllib_portfolio.config import ExecutionConfig
from rllib_portfolio.errors import ConfigError
from rllib_portfolio.market import MarketData
from tests.backtest.hand_made import by_row, market_of, random_market

NAMES = [
    "1/N",
    "1/N monthly",
    "buy-and-hold",
    "all cash",
    "60/40 with cash",
    "inverse volatility",
    "minimum variance",
    "maximum Sharpe",
    "mean-CVaR",
    "risk parity",
    "hierarchical risk parity",
    "momentum top-1",
    "Merton (risk aversion 1)",
]
SCHEDULE = RefitSchedule(refit_days=7, window_days=60, min_days=40)
WINDOW = (262, 300)
EXECUTION = ExecutionConfig()


@pytest.fixture(scope="module")
def market() -> MarketData:
    """Four assets that earn more than cash on average, so that a tangency portfolio exists."""
    market = random_market(days=300, seed=3)
    returns = market.returns + 0.003
    return replace(market, returns=returns)


@pytest.fixture(scope="module")
def results(market: MarketData) -> dict[str, BacktestResult]:
    walked = backtest(market, WINDOW, all_strategies(market, SCHEDULE), EXECUTION)
    return {result.name: result for result in walked}


@pytest.mark.parametrize(
    ("periods_per_year", "month", "year", "least"),
    [(252, 21, 252, 126), (365, 30, 365, 182), (52, 4, 52, 26), (12, 1, 12, 6), (1, 1, 2, 2)],
)
def test_months_and_years_are_those_of_the_market(
    market: MarketData, periods_per_year: int, month: int, year: int, least: int
) -> None:
    strategies = all_strategies(replace(market, periods_per_year=periods_per_year))
    refitted = {strategy.name: strategy for strategy in strategies if isinstance(strategy, Refitted)}
    assert refitted["1/N monthly"].schedule == RefitSchedule(month, 0, 0)
    assert refitted["60/40 with cash"].schedule == RefitSchedule(month, 0, 0)
    assert refitted["risk parity"].schedule == RefitSchedule(month, 3 * periods_per_year, least)
    momentum = refitted["momentum top-1"]
    assert momentum.schedule == RefitSchedule(month, year, year)
    # the first asset falls until a month before the end, then gains more than the second ever did
    returns = np.repeat([[-0.1, 0.01]], year, axis=0)
    returns[-month:, 0] = 100.0
    np.testing.assert_array_equal(momentum.rule(History(returns, np.zeros(year))), [0.0, 1.0, 0.0])


def test_a_line_up_has_fifteen_baselines_beside_the_policy(market: MarketData) -> None:
    policy = by_row({261: [0.5, 0.0, 0.0, 0.0, 0.5]}, name="agent")
    told: list[tuple[int, int]] = []
    lineup = walk_lineup(
        market,
        WINDOW,
        EXECUTION,
        [policy],
        all_strategies(market, SCHEDULE),
        progress=lambda done, total: told.append((done, total)),
    )
    assert [result.name for result in lineup.results] == ["agent", *NAMES, "index", "constant mix of agent"]
    roles = {result.name: result.role for result in lineup.results}
    assert {name: role for name, role in roles.items() if role is not Role.BASELINE} == {
        "agent": Role.SUBJECT,
        "1/N": Role.BENCHMARK,
        "buy-and-hold": Role.REFERENCE,
        "index": Role.INDEX,
        "constant mix of agent": Role.CONSTANT_MIX,
    }
    assert len(lineup.results) - 1 == 15
    assert lineup.failures.empty
    assert told[-1] == (38, 38)
    for result in lineup.results:
        np.testing.assert_array_equal(result.dates, market.dates[slice(*WINDOW)])


def test_without_an_index_and_a_policy_the_rest_is_left(market: MarketData) -> None:
    lineup = walk_lineup(replace(market, index_returns=None), WINDOW, EXECUTION, baselines=[AllCash()])
    assert [result.name for result in lineup.results] == ["all cash"]


def test_failed_fits_of_a_line_up_are_reported(market: MarketData) -> None:
    # 9 % a year in cash a day: nothing earned more
    rich = replace(market, cash_returns=np.full(300, 0.09))
    lineup = walk_lineup(rich, WINDOW, EXECUTION, baselines=all_strategies(rich, SCHEDULE))
    failures = lineup.failures
    assert set(failures["strategy"]) == {"maximum Sharpe", "mean-CVaR"}
    assert len(failures) == 2 * 6  # 38 days, a fit every 7
    assert list(failures["date"].unique()) == [np.datetime64(day, "s") for day in market.dates[261:299:7]]
    held = {result.name: result for result in lineup.results}
    row = held["maximum Sharpe (6 of 6 fits failed)"]
    np.testing.assert_array_equal(row.weights[0], held["1/N"].weights[0])
    assert np.flatnonzero(row.traded > 0.0).tolist() == [0]


def test_one_nth_monthly_trades_every_21_days(results: dict[str, BacktestResult]) -> None:
    monthly, sixty_forty = results["1/N monthly"], results["60/40 with cash"]
    assert list(np.flatnonzero(monthly.traded > 0.0)) == [0, 21]
    np.testing.assert_array_equal(monthly.weights[21], [0.25, 0.25, 0.25, 0.25, 0.0])
    assert list(np.flatnonzero(sixty_forty.traded > 0.0)) == [0, 21]
    assert sixty_forty.weights[0] == pytest.approx([0.15, 0.15, 0.15, 0.15, 0.4], abs=1e-15)


@pytest.mark.parametrize("name", NAMES[5:])
def test_what_is_fitted_is_fitted_as_the_schedule_says(results: dict[str, BacktestResult], name: str) -> None:
    trades = np.flatnonzero(results[name].traded > 0.0)
    assert trades[0] == 0
    assert set(trades) <= set(range(0, 38, 7))


def test_the_first_fit_is_that_of_the_days_known_then(market: MarketData, results: dict[str, BacktestResult]) -> None:
    # decision at row 261, lag 1: the last known row is 260, and 60 days start at row 201
    returns, cash = market.returns[201:261], market.cash_returns[201:261]
    expected = merton_weights(252 * (returns - cash[:, None]).mean(0), 252 * np.cov(returns, rowvar=False))
    np.testing.assert_array_equal(results["Merton (risk aversion 1)"].weights[0], expected)
    # eleven months lagged one: rows 9 to 239
    growth = np.prod(1.0 + market.returns[9:240], axis=0)
    assert results["momentum top-1"].weights[0].argmax() == growth.argmax()


@pytest.mark.parametrize("lag", [0, 1])
@pytest.mark.parametrize("last_known", [262, 283])
def test_no_weight_depends_on_a_later_price(market: MarketData, lag: int, last_known: int) -> None:
    scrambled = _scrambled_after(market, last_known)
    execution = ExecutionConfig(execution_lag=lag, impact=0.1)
    before, after = (
        backtest(each, WINDOW, all_strategies(each, SCHEDULE, num_winners=2), execution) for each in (market, scrambled)
    )
    known = last_known - WINDOW[0] + 1
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(old.wealth[: known + 1], new.wealth[: known + 1])
        np.testing.assert_array_equal(old.weights[: known + 1], new.weights[: known + 1])
        if old.name not in ("1/N", "all cash"):
            assert (old.weights[known + 1 :] != new.weights[known + 1 :]).any(), old.name


def test_strategies_of_one_list_do_not_influence_each_other(
    market: MarketData, results: dict[str, BacktestResult]
) -> None:
    for strategy in reversed(all_strategies(market, SCHEDULE)):
        (alone,) = backtest(market, WINDOW, [strategy], EXECUTION)
        np.testing.assert_array_equal(alone.weights, results[strategy.name].weights)


def test_all_pay_the_same_costs_and_keep_the_same_limits(market: MarketData) -> None:
    execution = ExecutionConfig(cost_bps=20.0, max_weight=0.4, min_cash=0.05)
    for result in backtest(market, WINDOW, all_strategies(market, SCHEDULE), execution):
        assert result.cost == pytest.approx(0.002 * result.traded, rel=1e-12, abs=1e-18)
        assert result.weights[:, :-1].max() <= 0.4 + 1e-12
        assert result.weights[:, -1].min() >= 0.05 - 1e-12


def test_the_agents_average_mix_holds_what_the_agent_held_on_average() -> None:
    # A, A, cash, B over four days: half A, a quarter each of B and cash
    market = market_of([[0.0, 0.0], [0.0, 0.0], [0.1, 0.0], [0.0, 0.1], [0.0, 0.0], [0.2, 0.0]])
    agent = by_row({1: [1, 0, 0], 2: [1, 0, 0], 3: [0, 0, 1], 4: [0, 1, 0]}, name="agent")
    execution = ExecutionConfig(cost_bps=0.0, execution_lag=0)
    lineup = walk_lineup(market, (2, 6), execution, [agent], [AllCash()])
    mix = lineup.results[-1]
    assert mix.name == "constant mix of agent"
    np.testing.assert_array_equal(mix.weights, [[0.5, 0.25, 0.25]] * 4)
    # the agent: 1.1, 1, 1, 1; the mix: 1.05, 1.025, 1, 1.1
    assert lineup.results[0].wealth[-1] == pytest.approx(1.1, rel=1e-12)
    assert mix.wealth[-1] == pytest.approx(1.05 * 1.025 * 1.1, rel=1e-12)


def test_each_risk_aversion_is_a_row_and_more_of_it_holds_more_cash(market: MarketData) -> None:
    strategies = all_strategies(market, SCHEDULE, risk_aversions=(1.0, 200.0, 1000.0))
    walked = backtest(market, WINDOW, strategies[-3:], EXECUTION)
    assert [result.name for result in walked] == [f"Merton (risk aversion {gamma})" for gamma in (1, 200, 1000)]
    cash = [result.weights[:, -1].mean() for result in walked]
    assert cash[0] == pytest.approx(0.0, abs=1e-9)
    assert 0.5 < cash[1] < cash[2]


def test_the_rows_of_a_runs_closing_table_are_those_of_the_back_test(market: MarketData) -> None:
    shown = reference_strategies(market)
    assert [strategy.name for strategy in shown] == ["1/N", "buy-and-hold", "all cash", "Merton (risk aversion 1)"]
    walked = backtest(market, WINDOW, shown, EXECUTION)
    lineup = {result.name: result for result in backtest(market, WINDOW, all_strategies(market), EXECUTION)}
    for result in walked:
        np.testing.assert_array_equal(result.weights, lineup[result.name].weights)
        np.testing.assert_array_equal(result.wealth, lineup[result.name].wealth)


@pytest.mark.parametrize(("assets", "expected"), [(1, 1), (4, 1), (7, 1), (8, 2)])
def test_momentum_holds_a_quarter_of_the_assets(assets: int, expected: int) -> None:
    names = [strategy.name for strategy in all_strategies(random_market(assets=assets))]
    assert f"momentum top-{expected}" in names


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_winners": 5}, r"num_winners must lie between 1 and the 4 assets, got 5 \(momentum\)"),
        ({"num_winners": 0}, r"num_winners must lie between 1 and the 4 assets, got 0"),
        ({"risk_aversions": (1.0, 0.0)}, r"risk_aversions must be above 0, got 0.0 \(Merton\)"),
        ({"schedule": RefitSchedule(min_days=1)}, r"min_days must be at least 2, got 1 \(refit schedule\)"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        all_strategies(random_market(), **settings)


def test_strategies_travel_to_other_processes(market: MarketData, results: dict[str, BacktestResult]) -> None:
    strategies = pickle.loads(pickle.dumps(all_strategies(market, SCHEDULE)))
    for result in backtest(market, WINDOW, strategies, EXECUTION):
        np.testing.assert_array_equal(result.weights, results[result.name].weights)


def _scrambled_after(market: MarketData, row: int) -> MarketData:
    """The same market up to the close of `row`; what cash earns on the next day is known by then."""
    rng = np.random.default_rng(99)
    returns, cash = market.returns.copy(), market.cash_returns.copy()
    volatility = market.volatility.copy()
    returns[row + 1 :] = rng.uniform(-0.2, 0.5, returns[row + 1 :].shape)
    volatility[row + 1 :] = rng.uniform(0.0, 0.1, volatility[row + 1 :].shape)
    cash[row + 2 :] = rng.uniform(0.0, 0.01, cash[row + 2 :].shape)
    return replace(market, returns=returns, cash_returns=cash, volatility=volatility)
