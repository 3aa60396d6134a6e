"""The metrics beside empyrical-reloaded and quantstats, and where these mean something else by a name.

The figures were printed by their own code (empyrical-reloaded at efe6066, quantstats at fbd10da) for the series below,
which are formulas, so that anyone can print them again. Neither package is needed here; where empyrical is installed,
it is asked once more.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from rllib_portfolio.evaluation import metrics, rolling

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

EMPYRICAL = {
    "total_return": 0.1336947967776,
    "annualised_return": 0.1111604343273,
    "annualised_volatility": 0.113502435591,
    "sharpe_ratio": 0.7633641496265,
    "sortino_ratio": 1.134271132846,
    "max_drawdown": 0.1016974078649,
    "calmar_ratio": 1.093050812809,
    "value_at_risk": 0.009387753112803,
    "conditional_value_at_risk": 0.009463153455454,
    "tail_ratio": 1.108039540178,
    "omega_ratio": 1.111585168555,
    "profit_factor": 1.146373930575,  # its omega_ratio at 0
    "beta": 0.8106061823778,
    "rolling_sharpe_ratio": 0.8185184366069,
    "rolling_volatility": 0.112381380974,
    "rolling_max_drawdown": 0.07875857494285,
    "rolling_beta": 0.7851561977741,
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


@pytest.mark.parametrize("name", EMPYRICAL)
def test_empyrical_agrees(name: str) -> None:
    assert OURS[name] == pytest.approx(EMPYRICAL[name], rel=1e-11)


@pytest.mark.parametrize("name", QUANTSTATS)
def test_quantstats_agrees(name: str) -> None:
    assert OURS[name] == pytest.approx(QUANTSTATS[name], rel=1e-11)


def test_their_information_ratio_is_per_day() -> None:
    ours = metrics.information_ratio(RETURNS, BENCHMARK)
    assert ours / math.sqrt(252) == pytest.approx(0.05749052695953, rel=1e-11)  # both


def test_empyrical_compounds_alpha_over_the_year() -> None:
    daily = metrics.alpha(RETURNS, BENCHMARK, CASH) / 252
    assert (1.0 + daily) ** 252 - 1.0 == pytest.approx(0.08728873053623, rel=1e-11)


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


def test_quantstats_takes_omega_at_zero_whatever_cash_earns() -> None:
    assert OURS["profit_factor"] == pytest.approx(1.146373930575, rel=1e-11)
    assert OURS["omega_ratio"] < OURS["profit_factor"]


def test_empyrical_where_it_is_installed_still_says_so() -> None:
    empyrical = pytest.importorskip(
        "empyrical", reason="empyrical-reloaded is not installed: its figures above are used"
    )
    days = pd.bdate_range("2015-01-01", periods=T)
    returns, benchmark = pd.Series(RETURNS, days), pd.Series(BENCHMARK, days)
    asked = {
        "total_return": empyrical.cum_returns_final(returns),
        "annualised_return": empyrical.annual_return(returns),
        "annualised_volatility": empyrical.annual_volatility(returns),
        "sharpe_ratio": empyrical.sharpe_ratio(returns, CASH),
        "sortino_ratio": empyrical.sortino_ratio(returns, CASH),
        "max_drawdown": -empyrical.max_drawdown(returns),
        "calmar_ratio": empyrical.calmar_ratio(returns),
        "value_at_risk": -empyrical.value_at_risk(returns, 0.05),
        "conditional_value_at_risk": -empyrical.conditional_value_at_risk(returns, 0.05),
        "tail_ratio": empyrical.tail_ratio(returns),
        "omega_ratio": empyrical.omega_ratio(returns, risk_free=CASH),
        "beta": empyrical.beta(returns, benchmark, CASH),
    }
    for name, theirs in asked.items():
        assert OURS[name] == pytest.approx(float(theirs), rel=1e-10)
