from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from rllib_portfolio.backtest.baselines import AllCash, BuyAndHold, EqualWeight
from rllib_portfolio.backtest.comparison import compare
from rllib_portfolio.backtest.engine import backtest
from rllib_portfolio.backtest.sensitivity import (
    Restricted,
    cost_curve,
    cost_sensitivity,
    repriced,
    start_sensitivity,
    survivorship_sensitivity,
    universe_sensitivity,
)
from rllib_portfolio.config import ExecutionConfig
from rllib_portfolio.errors import ConfigError
from rllib_portfolio.policies.strategy import Strategy
from tests.backtest.hand_made import Scripted, by_row, market_of, random_market
from tests.universes import universe_market

MARKET, WINDOW = random_market(), (4, 60)
BUSY = np.random.default_rng(5).dirichlet(np.ones(5), 60)


def busy() -> Scripted:
    """Other weights every day."""
    return Scripted(lambda view: BUSY[view.row], name="busy")


def strategies() -> list[Strategy]:
    return [busy(), EqualWeight(), BuyAndHold(), AllCash()]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"execution_lag": 0, "rebalance_days": 5},
        {"max_weight": 0.35, "max_turnover": 0.2, "min_cash": 0.05},
    ],
)
@pytest.mark.parametrize(("cost_bps", "impact"), [(0.0, 0.0), (25.0, 0.0), (10.0, 0.3), ((5.0, 10.0, 20.0, 40.0), 0.1)])
def test_repricing_a_walk_is_walking_again_to_the_bit(settings: dict[str, Any], cost_bps: Any, impact: float) -> None:
    walked = backtest(MARKET, WINDOW, strategies(), ExecutionConfig(**settings))
    execution = ExecutionConfig(cost_bps=cost_bps, impact=impact, **settings)
    for first, again in zip(walked, backtest(MARKET, WINDOW, strategies(), execution), strict=True):
        found = repriced(first, MARKET, WINDOW, cost_bps, impact)
        for name in ("returns", "wealth", "weights", "turnover", "traded", "cost"):
            np.testing.assert_array_equal(getattr(found, name), getattr(again, name), err_msg=f"{first.name} {name}")


def test_a_cost_by_hand() -> None:
    # into A with 60 % of wealth: 50 bp of 0.6 is 0.003; A gains 10 %: 0.997 * (0.66 + 0.4)
    market = market_of([[0.0], [0.0], [0.1]])
    (walked,) = backtest(market, (2, 3), [by_row({1: [0.6, 0.4]})], ExecutionConfig(execution_lag=0))
    assert repriced(walked, market, (2, 3), 50.0).wealth[-1] == pytest.approx(0.997 * 1.06, rel=1e-12)


def test_what_is_earned_falls_in_cost_and_with_impact() -> None:
    table = cost_sensitivity(MARKET, WINDOW, strategies(), ExecutionConfig())
    assert table.index.names == ["strategy", "execution_lag", "cost_bps", "impact"]
    assert len(table) == 4 * 2 * 6
    for name in ("busy", "1/N", "buy-and-hold"):
        for lag in (0, 1):
            earned = table.loc[(name, lag)]["total_return"]
            ladder = [earned[cost, 0.0] for cost in (0.0, 5.0, 10.0, 25.0, 50.0)]
            assert (np.diff(ladder) < 0.0).all()
            assert earned[10.0, 0.1] < earned[10.0, 0.0]
    assert table.loc["all cash"]["total_return"].nunique() == 1


def test_each_lag_is_a_walk_of_its_own() -> None:
    newest = Scripted(lambda view: np.append(np.eye(4)[view.past_returns[-1].argmax()], 0.0), name="newest")
    table = cost_sensitivity(MARKET, WINDOW, [newest, EqualWeight()], ExecutionConfig(cost_bps=10.0))
    for lag in (0, 1):
        walked = backtest(MARKET, WINDOW, [newest, EqualWeight()], ExecutionConfig(execution_lag=lag))
        expected = compare(walked, MARKET.cash_returns[slice(*WINDOW)])
        for name in ("newest", "1/N"):
            pd.testing.assert_series_equal(
                table.loc[(name, lag, 10.0, 0.0)], expected.loc[name], check_names=False, check_exact=True
            )
    assert table.loc[("newest", 0, 10.0, 0.0), "total_return"] != table.loc[("newest", 1, 10.0, 0.0), "total_return"]


def test_a_part_of_the_universe_by_hand() -> None:
    # 20, 30, 30 % of A, B, C and 20 % cash, kept to A and C: 0.8 split 2 to 3, 32 and 48 %
    market = market_of([[0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.1, 0.5, -0.1]])
    kept = Restricted(by_row({1: [0.2, 0.3, 0.3, 0.2]}), np.array([True, False, True]))
    (walked,) = backtest(market, (2, 3), [kept], ExecutionConfig(execution_lag=0, cost_bps=0.0))
    assert walked.weights[0] == pytest.approx([0.32, 0.0, 0.48, 0.2], abs=1e-15)
    assert walked.name == "scripted"


def test_the_universe_is_restricted_for_all() -> None:
    table = universe_sensitivity(
        MARKET, WINDOW, strategies(), ExecutionConfig(), {"all": "ABCD", "A and B": ("A", "B"), "C": ["C"]}
    )
    assert list(table.loc[["1/N"]].index) == [("1/N", "all"), ("1/N", "A and B"), ("1/N", "C")]
    whole = compare(backtest(MARKET, WINDOW, strategies(), ExecutionConfig()), MARKET.cash_returns[slice(*WINDOW)])
    for name in whole.index:
        assert table.loc[(name, "all")].to_dict() == pytest.approx(whole.loc[name].to_dict(), rel=1e-9, nan_ok=True)
    pair = by_row({row: [0.5, 0.5, 0.0, 0.0, 0.0] for row in range(60)}, name="pair")
    alone = compare(backtest(MARKET, WINDOW, [pair], ExecutionConfig()), MARKET.cash_returns[slice(*WINDOW)])
    assert table.loc[("1/N", "A and B")].to_dict() == pytest.approx(alone.loc["pair"].to_dict(), rel=1e-12)


def test_later_starts_are_walks_of_their_own() -> None:
    told: list[tuple[int, int]] = []
    table = start_sensitivity(
        MARKET, WINDOW, strategies(), ExecutionConfig(), (0, 7), progress=lambda *of: told.append(of)
    )
    assert told == [(1, 2), (2, 2)]
    assert list(table.loc[["busy"]].index) == [("busy", pd.Timestamp(MARKET.dates[row])) for row in (4, 11)]
    later = compare(backtest(MARKET, (11, 60), strategies(), ExecutionConfig()), MARKET.cash_returns[11:60])
    row = table.loc[("busy", pd.Timestamp(MARKET.dates[11]))]
    pd.testing.assert_series_equal(row, later.loc["busy"], check_names=False, check_exact=True)


def test_the_walks_window_and_costs_that_fit_are_needed() -> None:
    (walked,) = backtest(MARKET, WINDOW, [EqualWeight()], ExecutionConfig())
    with pytest.raises(ConfigError, match=r"window must be the one of the back-test, got rows 5 to 60 beside"):
        repriced(walked, MARKET, (5, 60), 10.0)
    with pytest.raises(ConfigError, match="cost_bps must be one number or 4 numbers, got 2"):
        repriced(walked, MARKET, WINDOW, (1.0, 2.0))
    with pytest.raises(ConfigError, match=rf"impact must leave wealth positive.*strategy 1/N, {MARKET.dates[4]}"):
        repriced(walked, MARKET, WINDOW, 10.0, impact=100.0)
    with pytest.raises(ConfigError, match="conditions must be at least one, got none"):
        cost_curve([walked], MARKET, WINDOW, (), impact=None)


def test_subsets_and_shifts_that_do_not_fit_the_market_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"subsets must name assets of the market, got Z \(subset odd\)"):
        universe_sensitivity(MARKET, WINDOW, [AllCash()], ExecutionConfig(), {"odd": ["A", "Z"]})
    with pytest.raises(ConfigError, match=r"subsets must name assets of the market, got none \(subset empty\)"):
        universe_sensitivity(MARKET, WINDOW, [AllCash()], ExecutionConfig(), {"empty": []})
    for shift in (-1, 56):
        with pytest.raises(ConfigError, match=rf"shifts_days must lie between 0 and 55, got {shift} \(window of 56"):
            start_sensitivity(MARKET, WINDOW, [AllCash()], ExecutionConfig(), (shift,))


# ---------------------------------------------------------------- survivorship bias


def test_the_survivorship_row_is_the_difference_to_the_assets_that_survived() -> None:
    market = universe_market(150, 9, seed=2)
    window = market.windows["all"]
    strategies = [EqualWeight(), BuyAndHold()]
    table = survivorship_sensitivity(market, window, strategies, ExecutionConfig())
    assert table is not None
    assert market.universe is not None
    assert list(table.index) == [
        (name, part) for name in ("1/N", "buy-and-hold") for part in ("all assets", "survivors only", "difference")
    ]
    survivors = [market.assets[i] for i in np.flatnonzero(market.universe.listed[-1])]
    assert 0 < len(survivors) < 9
    expected = universe_sensitivity(market, window, strategies, ExecutionConfig(), {"kept": survivors})
    whole = compare(backtest(market, window, strategies, ExecutionConfig()), market.cash_returns[slice(*window)], 252)
    gap = expected.xs("kept", level="universe") - whole
    pd.testing.assert_frame_equal(table.xs("difference", level="universe"), gap, check_names=False)
    assert gap.loc["1/N", "annual_return"] > 0.0  # one of the dead lost everything


def test_a_market_without_deaths_has_no_survivorship_row() -> None:
    market = universe_market(80, 4, seed=0)
    assert market.universe is not None
    strategies, settings = [EqualWeight()], ExecutionConfig()
    assert survivorship_sensitivity(replace(market, universe=None), (6, 80), strategies, settings) is None
    last = int(market.universe.exit_rows.min())
    assert survivorship_sensitivity(market, (6, last), strategies, settings) is None
