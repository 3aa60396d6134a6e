from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from rllib_portfolio.backtest.engine import BacktestResult
from rllib_portfolio.market import MarketData
from rllib_portfolio.reporting.inputs import ReportContext
from rllib_portfolio.reporting.search_trials import TuningRecord
from rllib_portfolio.reporting.selection import find_selection
from rllib_portfolio.statistics.overfitting import backtest_overfitting
from tests.backtest.hand_made import market_of

CASH = 0.001


@pytest.fixture(scope="module")
def by_hand() -> MarketData:
    """Cash earns 0.1 % a day."""
    return market_of(np.full((20, 2), 0.01), cash_return=CASH)


@pytest.fixture
def searched(context: ReportContext, by_hand: MarketData) -> ReportContext:
    """Three trials on four days; nothing but the search is of them, and no walk of the days was given.

    In excess of cash, per cent: A 1, -1, 1, 3; B 2, 1, 2, 1; C was pruned.
    """
    trials = pd.DataFrame(
        {"A": [0.011, -0.009, 0.011, 0.031], "B": [0.021, 0.011, 0.021, 0.011], "C": [0.5, 0.6, np.nan, np.nan]},
        index=pd.DatetimeIndex(by_hand.dates[4:8]),
    )
    record = TuningRecord(num_trials=3, sharpe_variance=4.0, periods_per_year=252, trial_returns=trials)
    return replace(context, market=by_hand, tuning=record, validation=None)


def test_without_a_walk_the_series_is_that_of_the_best_trial(searched: ReportContext) -> None:
    selection = find_selection(searched)
    # B in excess of cash: mean 1.5, deviations 0.5, -0.5, 0.5, -0.5, std sqrt(4 x 0.25 / 3) = 0.5774: 2.5981 a day
    # A: mean 1, deviations 0, -2, 0, 2, std sqrt(8 / 3) = 1.6330: 0.6124 a day. C has gaps.
    assert selection.validation_sharpe == pytest.approx(1.5 / math.sqrt(1.0 / 3.0) * math.sqrt(252.0), rel=1e-9)
    # bar of 3 trials of variance 4: 2 (0.42278 Phi^-1(2/3) + 0.57722 Phi^-1(1 - 1/(3e)))
    #   = 2 (0.42278 x 0.43073 + 0.57722 x 1.16196) = 1.70561 a year, 0.10744 a day
    assert selection.hurdle == pytest.approx(1.70561, abs=2e-5)
    # skewness 0, kurtosis of two equal halves 1: the variance term is 1 - 0 + (1 - 1) / 4 SR^2 = 1
    # z = (2.59808 - 0.10744) sqrt(3) = 4.31391, Phi = 0.999992
    assert selection.deflated == pytest.approx(0.999992, abs=5e-7)
    assert selection.series == (
        "Based on the returns of B from 2020-01-07 to 2020-01-10, in excess of cash (rate of this report's market "
        "data). B is the trial with the highest Sharpe ratio, which is assumed to be the selected one."
    )


def test_more_trials_deflate_more(searched: ReportContext) -> None:
    assert searched.tuning is not None
    # of 1000 trials of variance 100: 10 (0.42278 x 3.09023 + 0.57722 x 3.375) = 32.55 a year, 2.0502 a day
    selection = find_selection(replace(searched, tuning=replace(searched.tuning, num_trials=1000, sharpe_variance=100)))
    assert selection.hurdle == pytest.approx(32.55, abs=0.01)
    assert selection.deflated == pytest.approx(0.8287, abs=5e-4)  # (2.59808 - 2.0502) sqrt(3) = 0.9489


def test_a_walk_that_was_given_goes_before_the_trials(searched: ReportContext, context: ReportContext) -> None:
    assert context.validation is not None
    walk = replace(context.validation, name="PPO", dates=searched.market.dates[4:8], returns=np.array([2.1, 1.1] * 2))
    selection = find_selection(replace(searched, validation=walk))
    assert selection.series.startswith("Based on the returns of PPO from 2020-01-07 to 2020-01-10, in excess of cash")
    # in excess of cash 2.099, 1.099: mean 1.599, std sqrt(4 x 0.25 / 3)
    assert selection.validation_sharpe == pytest.approx(1.599 / math.sqrt(1.0 / 3.0) * math.sqrt(252.0))


def test_overfitting_is_over_cash_and_left_out_where_cash_is_not_known(context: ReportContext) -> None:
    market = market_of(np.full((70, 2), 0.01), cash_return=CASH)
    rng = np.random.default_rng(0)
    returns = rng.normal(0.0, np.geomspace(1e-4, 1e-2, 6), (64, 6))  # subtracting 1e-3 changes who is best
    trials = pd.DataFrame(returns, pd.DatetimeIndex(market.dates[4:68]), columns=list("ABCDEF"))
    record = TuningRecord(num_trials=6, sharpe_variance=4.0, periods_per_year=252, trial_returns=trials)
    selection = find_selection(replace(context, market=market, tuning=record, validation=None))
    assert selection.overfitting.probability == backtest_overfitting(returns - CASH).probability
    assert selection.overfitting.probability != backtest_overfitting(returns).probability
    elsewhere = trials.set_axis(trials.index + pd.Timedelta(days=3650), axis="index")
    record = replace(record, trial_returns=elsewhere)
    selection = find_selection(replace(context, market=market, tuning=record, validation=None))
    assert selection.overfitting is None
    assert selection.note.startswith(
        "The probability of backtest overfitting is left out: trial_returns.parquet has no"
    )


def left_out(context: ReportContext) -> str:
    selection = find_selection(context)
    assert math.isnan(selection.deflated)
    assert selection.series.startswith("The deflated Sharpe ratio is left out: ")
    return selection.series.removeprefix("The deflated Sharpe ratio is left out: ")


def test_a_walk_on_days_that_the_market_has_not_is_left_out(searched: ReportContext, context: ReportContext) -> None:
    late = searched.market.dates[4:8] + np.timedelta64(7300, "D")
    assert context.validation is not None
    walk: BacktestResult = replace(context.validation, dates=late, returns=np.array([0.02, 0.01] * 2))
    text = left_out(replace(searched, validation=walk))
    assert text == "this report's market data lacks some of the selection days, so the cash return is not known."


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("no returns", "neither a back-test on the selection days nor trial_returns.parquet was given."),
        ("no dates", "trial_returns.parquet has no dates, or has days that are missing in this report's market data,"),
        (
            "other days",
            "trial_returns.parquet has no dates, or has days that are missing in this report's market data,",
        ),
        ("gaps", "no trial in trial_returns.parquet has all days and a defined Sharpe ratio."),
        ("all in cash", "no trial in trial_returns.parquet has all days and a defined Sharpe ratio."),
    ],
)
def test_trials_that_tell_too_little_are_left_out(searched: ReportContext, what: str, reason: str) -> None:
    trials = searched.tuning.trial_returns
    changed = {
        "no returns": None,
        "no dates": trials.reset_index(drop=True),
        "other days": trials.set_axis(trials.index - pd.Timedelta(days=3650), axis="index"),
        "gaps": trials[["C"]],
        "all in cash": pd.DataFrame({"A": CASH}, index=trials.index),
    }[what]
    assert left_out(replace(searched, tuning=replace(searched.tuning, trial_returns=changed))).startswith(reason)


def test_a_walk_without_a_sharpe_ratio_is_left_out(searched: ReportContext, context: ReportContext) -> None:
    assert context.validation is not None
    walk = replace(context.validation, name="PPO", dates=searched.market.dates[4:8], returns=np.full(4, CASH))
    assert left_out(replace(searched, validation=walk)).startswith("it is undefined. Based on the returns of PPO ")
