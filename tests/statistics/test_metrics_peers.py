"""The metrics beside empyrical-reloaded and quantstats, and where these mean something else by a name.

empyrical-reloaded, in the extra `test`, is asked on random series of several kinds. quantstats needs a dozen packages
and is not installed here: its figures were printed by its own code (at fbd10da) for the series below, which are
formulas, so that anyone can print them again.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import empyrical
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from rllib_portfolio.statistics import metrics, rolling

DAY = np.arange(1, 301)
RETURNS = 0.0005 + 0.01 * np.sin(1.7 * DAY**2)
BENCHMARK = 0.5 * RETURNS + 0.006 * np.cos(0.9 * DAY**2)
CASH = 1e-4
T = len(RETURNS)

OURS = {
    "total_return": metrics.total_return(RETURNS),
    "annualised_return": metrics.annualised_return(RETURNS),
    "annualised_volatility": metrics.annualised_volatility(RETURNS),
    "sharpe_ratio": metrics.sharpe_ratio(RETURNS, CASH),
    "sortino_ratio": metrics.sortino_ratio(RETURNS, CASH),
    "max_drawdown": metrics.max_drawdown(RETURNS),
    "calmar_ratio": metrics.calmar_ratio(RETURNS),
    "value_at_risk": metrics.value_at_risk(RETURNS),
    "conditional_value_at_risk": metrics.conditional_value_at_risk(RETURNS),
    "tail_ratio": metrics.tail_ratio(RETURNS),
    "omega_ratio": metrics.omega_ratio(RETURNS, CASH),
    "profit_factor": metrics.profit_factor(RETURNS),
    "win_rate": metrics.win_rate(RETURNS),
    "beta": metrics.beta(RETURNS, BENCHMARK, CASH),
    "rolling_sharpe_ratio": rolling.rolling_sharpe_ratio(RETURNS, CASH)[-1],
    "rolling_volatility": rolling.rolling_volatility(RETURNS)[-1],
    "rolling_max_drawdown": rolling.rolling_max_drawdown(RETURNS)[-1],
    "rolling_beta": rolling.rolling_beta(RETURNS, BENCHMARK, CASH)[-1],
}

QUANTSTATS = {
    "total_return": 0.1336947967776,
    "annualised_return": 0.1111604343273,
    "annualised_volatility": 0.113502435591,
    "sharpe_ratio": 0.7633641496265,  # of the returns less cash: its own rf is an annual rate
    "sortino_ratio": 1.134271132846,
    "max_drawdown": 0.1016974078649,
    "calmar_ratio": 1.093050812809,
    "tail_ratio": 1.108039540178,
    "profit_factor": 1.146373930575,
    "win_rate": 0.51,
    "beta": 0.8106061823778,
    "rolling_sharpe_ratio": 0.8185184366069,
    "rolling_volatility": 0.112381380974,
}


@pytest.mark.parametrize("name", QUANTSTATS)
def test_quantstats_agrees(name: str) -> None:
    assert OURS[name] == pytest.approx(QUANTSTATS[name], rel=1e-11)


def test_quantstats_information_ratio_is_per_day() -> None:
    ours = metrics.information_ratio(RETURNS, BENCHMARK)
    assert ours / math.sqrt(252) == pytest.approx(0.05749052695953, rel=1e-11)


def test_quantstats_takes_alpha_without_cash() -> None:
    assert metrics.alpha(RETURNS, BENCHMARK) == pytest.approx(0.08847381600443, rel=1e-11)


def test_quantstats_corrects_skew_and_excess_kurtosis_for_bias() -> None:
    skew = metrics.skewness(RETURNS) * math.sqrt(T * (T - 1)) / (T - 2)
    excess = metrics.kurtosis(RETURNS) - 3.0
    assert skew == pytest.approx(0.01657804477064, rel=1e-10)
    corrected = (T - 1) / ((T - 2) * (T - 3)) * ((T + 1) * excess + 6.0)
    assert corrected == pytest.approx(-1.53189102686, rel=1e-10)


def test_quantstats_divides_the_ulcer_index_by_one_day_less() -> None:
    assert metrics.ulcer_index(RETURNS) * math.sqrt(T / (T - 1)) == pytest.approx(0.03747063910722, rel=1e-11)


def test_quantstats_takes_the_value_at_risk_of_a_normal_distribution() -> None:
    normal = -stats.norm(RETURNS.mean(), RETURNS.std(ddof=1)).ppf(0.05)
    assert normal == pytest.approx(0.01131684863068, rel=1e-11)
    assert OURS["value_at_risk"] < normal


class Days(NamedTuple):
    """Strategy, benchmark and cash on the same days, [T] each."""

    returns: np.ndarray
    benchmark: np.ndarray
    cash: np.ndarray

    @property
    def series(self) -> tuple[pd.Series, pd.Series, pd.Series]:
        index = pd.bdate_range("2015-01-01", periods=len(self.returns))
        returns, benchmark, cash = (pd.Series(each, index) for each in self)
        return returns, benchmark, cash


@st.composite
def days(draw: st.DrawFn) -> Days:
    """Years of days with thin or heavy tails, gains or losses, calm or wild, some of them without any change."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    num_days = draw(st.integers(60, 700))
    volatility = draw(st.sampled_from([0.002, 0.01, 0.03]))
    noise = rng.standard_t(draw(st.sampled_from([3, 5, 100])), (num_days, 2))
    returns = np.maximum(draw(st.sampled_from([-1e-3, 0.0, 1e-3])) + volatility * noise, -0.9)
    returns[:, 0] += draw(st.sampled_from([-0.5, 0.0, 0.8])) * (returns[:, 1])
    returns[rng.random(num_days) < draw(st.sampled_from([0.0, 0.2])), 0] = 0.0
    return Days(np.maximum(returns[:, 0], -0.9), returns[:, 1], rng.uniform(0.0, 2e-4, num_days))


Answer = Callable[[Days], Any]
BOTH: dict[str, tuple[Answer, Answer]] = {
    "total return": (
        lambda d: metrics.total_return(d.returns),
        lambda d: empyrical.cum_returns_final(d.series[0]),
    ),
    "annualised return": (
        lambda d: metrics.annualised_return(d.returns),
        lambda d: empyrical.annual_return(d.series[0]),
    ),
    "volatility": (
        lambda d: metrics.annualised_volatility(d.returns),
        lambda d: empyrical.annual_volatility(d.series[0]),
    ),
    "Sharpe": (
        lambda d: metrics.sharpe_ratio(d.returns, d.cash),
        lambda d: empyrical.sharpe_ratio(d.series[0], d.series[2]),
    ),
    "Sortino": (
        lambda d: metrics.sortino_ratio(d.returns, d.cash),
        lambda d: empyrical.sortino_ratio(d.series[0], d.series[2]),
    ),
    "information ratio, theirs per day": (
        lambda d: metrics.information_ratio(d.returns, d.benchmark),
        lambda d: math.sqrt(252) * empyrical.excess_sharpe(*d.series[:2]),
    ),
    "maximum drawdown, theirs negative": (
        lambda d: metrics.max_drawdown(d.returns),
        lambda d: -empyrical.max_drawdown(d.series[0]),
    ),
    "Calmar": (
        lambda d: metrics.calmar_ratio(d.returns),
        lambda d: empyrical.calmar_ratio(d.series[0]),
    ),
    "VaR, theirs negative": (
        lambda d: metrics.value_at_risk(d.returns),
        lambda d: -empyrical.value_at_risk(d.series[0]),
    ),
    "CVaR, theirs negative": (
        lambda d: metrics.conditional_value_at_risk(d.returns),
        lambda d: -empyrical.conditional_value_at_risk(d.series[0]),
    ),
    "tail ratio": (
        lambda d: metrics.tail_ratio(d.returns),
        lambda d: empyrical.tail_ratio(d.series[0]),
    ),
    "Omega": (
        lambda d: metrics.omega_ratio(d.returns, d.cash),
        lambda d: empyrical.omega_ratio(d.series[0], d.series[2]),
    ),
    "profit factor, their Omega at 0": (
        lambda d: metrics.profit_factor(d.returns),
        lambda d: empyrical.omega_ratio(d.series[0]),
    ),
    "win rate, their batting average against cash": (
        lambda d: metrics.win_rate(d.returns - d.cash),
        lambda d: empyrical.batting_average(d.series[0], d.series[2])["batting average"],
    ),
    "beta, theirs of what is in excess of cash already": (
        lambda d: metrics.beta(d.returns, d.benchmark, d.cash),
        lambda d: empyrical.beta(d.series[0] - d.series[2], d.series[1] - d.series[2]),
    ),
    "alpha, theirs compounded over the year": (
        lambda d: (1.0 + metrics.alpha(d.returns, d.benchmark, d.cash) / 252) ** 252 - 1.0,
        lambda d: empyrical.alpha(d.series[0] - d.series[2], d.series[1] - d.series[2]),
    ),
    "skewness, theirs scipy's": (
        lambda d: metrics.skewness(d.returns),
        lambda d: empyrical.stats.stats.skew(d.returns),
    ),
    "kurtosis, theirs scipy's in excess of 3": (
        lambda d: metrics.kurtosis(d.returns) - 3.0,
        lambda d: empyrical.stats.stats.kurtosis(d.returns),
    ),
    "rolling Sharpe": (
        lambda d: rolling.rolling_sharpe_ratio(d.returns, 1e-4, 50)[49:],
        lambda d: empyrical.roll_sharpe_ratio(d.returns, 50, risk_free=1e-4),
    ),
    "rolling volatility": (
        lambda d: rolling.rolling_volatility(d.returns, 50)[49:],
        lambda d: empyrical.roll_annual_volatility(d.returns, 50),
    ),
    "rolling drawdown, theirs negative": (
        lambda d: rolling.rolling_max_drawdown(d.returns, 50)[49:],
        lambda d: -empyrical.roll_max_drawdown(d.returns, 50),
    ),
    "rolling beta": (
        lambda d: rolling.rolling_beta(d.returns, d.benchmark, 0.0, 50)[49:],
        lambda d: empyrical.roll_beta(d.returns, d.benchmark, 50),
    ),
}


@pytest.mark.parametrize("name", BOTH)
@given(case=days())
def test_empyrical_agrees(name: str, case: Days) -> None:
    ours, theirs = BOTH[name]
    np.testing.assert_allclose(ours(case), np.asarray(theirs(case), dtype=float), rtol=1e-8, atol=1e-10)


def test_empyrical_s_beta_does_not_take_cash_off() -> None:
    cash = np.where(DAY % 2, 0.0, 5e-3)  # large enough to be seen
    with_cash = empyrical.beta(*(pd.Series(each) for each in (RETURNS, BENCHMARK)), risk_free=pd.Series(cash))
    assert with_cash == pytest.approx(metrics.beta(RETURNS, BENCHMARK), rel=1e-9)
    assert with_cash != pytest.approx(metrics.beta(RETURNS, BENCHMARK, cash), rel=1e-3)


def test_empyrical_calls_infinite_what_is_undefined_here() -> None:
    steady, rising = pd.Series(np.full(20, 0.01)), pd.Series(np.linspace(0.01, 0.02, 20))
    assert empyrical.sharpe_ratio(steady) == math.inf
    assert empyrical.sortino_ratio(rising) == math.inf
    assert math.isnan(metrics.sharpe_ratio(steady.to_numpy()))
    assert math.isnan(metrics.sortino_ratio(rising.to_numpy()))


def test_empyrical_leaves_out_days_that_are_missing() -> None:
    spoilt = RETURNS.copy()
    spoilt[100] = np.nan
    rest = np.delete(RETURNS, 100)
    assert empyrical.annual_volatility(pd.Series(spoilt)) == pytest.approx(metrics.annualised_volatility(rest))
    assert math.isnan(metrics.annualised_volatility(spoilt))
