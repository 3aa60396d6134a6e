"""The numbers of the table, against a path worked by hand and against the functions that they come from."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from rllib_portfolio.backtest.baselines import AllCash, BuyAndHold, EqualWeight
from rllib_portfolio.backtest.engine import backtest
from rllib_portfolio.backtest.holdings import holdings
from rllib_portfolio.backtest.lineup import Lineup
from rllib_portfolio.config import ExecutionConfig
from rllib_portfolio.reporting.columns import text_of
from rllib_portfolio.reporting.inputs import ReportContext
from rllib_portfolio.reporting.performance_report import generate_performance_report
from rllib_portfolio.reporting.report import Report, report_of_walks
from rllib_portfolio.statistics import metrics
from rllib_portfolio.statistics.bootstrap import BootstrapPlan, bootstrap_intervals
from rllib_portfolio.statistics.multiple_comparison import model_confidence_set, superior_ability_test
from rllib_portfolio.statistics.significance import textbook_tests
from rllib_portfolio.statistics.verdicts import Pair, judge
from tests.backtest.hand_made import market_of

# 100, 110, 99, 108.9, ...: + 10 % and - 10 % in turn, twelve returns, twelve of them a year
SAW = 100.0 * np.cumprod([1.0, *[1.1, 0.9] * 6])


def row_of(values: np.ndarray, **settings: float) -> pd.Series:
    return generate_performance_report({"saw": values}, **settings).loc["saw"]  # type: ignore[arg-type]


def test_the_figures_of_a_saw_are_those_worked_by_hand() -> None:
    row = row_of(SAW, periods_per_year=12)
    assert row.total_return == pytest.approx(0.99**6 - 1.0, rel=1e-12)
    assert row.annual_return == pytest.approx(0.99**6 - 1.0, rel=1e-12)  # one year
    assert row.mean_daily_return == pytest.approx(0.0, abs=1e-12)
    # deviations are all 0.1: sum of squares 12 / 100, over 11, a year's worth 12
    assert row.annual_volatility == pytest.approx(math.sqrt(12 * 0.12 / 11), rel=1e-12)
    assert row.sharpe_ratio == pytest.approx(0.0, abs=1e-12)
    assert row.sortino_ratio == pytest.approx(0.0, abs=1e-12)
    # the peak is 110 after the first day, the end 100 * 0.99^6 eleven days later
    assert row.max_drawdown == pytest.approx(1.0 - 0.99**6 / 1.1, rel=1e-12)
    assert (row.drawdown_peak, row.drawdown_trough, row.drawdown_days) == ("day 1", "day 12", 11)
    assert row.drawdown_recovery is None
    assert row.calmar_ratio == pytest.approx((0.99**6 - 1.0) / (1.0 - 0.99**6 / 1.1), rel=1e-12)
    assert (row.win_rate, row.profit_factor, row.omega_ratio) == pytest.approx((0.5, 1.0, 1.0))
    assert (row.value_at_risk, row.conditional_value_at_risk, row.tail_ratio) == pytest.approx((0.1, 0.1, 1.0))
    assert (row["skewness"], row["kurtosis"]) == pytest.approx((0.0, 1.0), abs=1e-12)  # m4 / m2^2 of two equal steps
    # drawdowns: day 2k + 1: 1 - 0.99^k, day 2k + 2: 1 - 0.9 * 0.99^k
    under_water = [1.0 - 0.99**k * step for k in range(6) for step in (1.0, 0.9)]
    assert row.ulcer_index == pytest.approx(math.sqrt(sum(each**2 for each in under_water) / 12), rel=1e-12)


def test_dates_of_the_drawdown_are_days_of_the_calendar_where_there_are_any() -> None:
    days = pd.bdate_range("2020-01-01", periods=14)
    values = pd.Series([*SAW, 200.0], index=days)
    row = generate_performance_report({"saw": values}).loc["saw"]
    # the peak is the close of the second day; 200 on the last is back above it
    assert (row.drawdown_peak, row.drawdown_recovery) == (str(days[1].date()), str(days[-1].date()))
    assert row.drawdown_trough == str(days[-2].date())


def test_beta_alpha_and_active_figures_are_against_the_benchmark() -> None:
    # twice the benchmark's returns: beta 2, and no alpha
    rng = np.random.default_rng(0)
    returns = rng.normal(0.001, 0.01, 60)
    one, two = (np.cumprod([1.0, *(1.0 + k * returns)]) for k in (1.0, 2.0))
    row = generate_performance_report({"twice": two}, one).loc["twice"]
    assert row.beta == pytest.approx(2.0, rel=1e-9)
    assert row.alpha == pytest.approx(0.0, abs=1e-9)
    assert row.information_ratio == pytest.approx(metrics.sharpe_ratio(returns), rel=1e-9)  # active = the benchmark's
    assert row.sharpe_difference == pytest.approx(0.0, abs=1e-9)
    assert row.sharpe_p_value == pytest.approx(1.0)


def test_what_cannot_be_divided_by_is_said_for_every_cell() -> None:
    table = generate_performance_report(
        {"flat": np.ones(30), "up": 1.01 ** np.arange(30.0)}, np.cumprod(SAW[:13] / 100.0).repeat(3)[:30]
    )
    reasons = table["undefined"]
    assert "sharpe_ratio" in reasons["flat"]
    assert "its excess return is constant, or there are so few days that" in reasons["flat"]
    assert "calmar_ratio, drawdown_peak, drawdown_trough, drawdown_recovery, drawdown_days" not in reasons["benchmark"]
    assert "it has no drawdown" in reasons["up"]
    assert "profit_factor: no day has a loss" in reasons["up"]
    assert "sortino_ratio, omega_ratio: no day had a return below cash" in reasons["up"]
    assert "verdict: it is the benchmark" in reasons["benchmark"]
    for name, row in table.iterrows():
        missing = {column for column in table.columns[row.isna()]}
        listed = {each.strip() for part in reasons[name].split("; ") for each in part.split(": ")[0].split(",")}
        assert missing == (listed if reasons[name] else set())


def test_the_columns_are_those_of_the_functions_that_they_come_from(whole_report: Report) -> None:
    inputs, row = whole_report.inputs, whole_report.table.loc["PPO policy"]
    ours, bar, cash = inputs.of("PPO policy"), inputs.of("1/N"), inputs.cash_returns
    judged = judge(Pair("PPO policy", "1/N", "", ours, bar, cash))
    assert (row.mean_p_value, row.sharpe_p_value) == (judged.mean_p_value, judged.sharpe_p_value)
    assert row.verdict == judged.outcome == whole_report.verdicts["PPO policy"].outcome
    textbook = [test.p_value for test in textbook_tests(ours, bar)]
    assert [row.paired_t_p_value, row.wilcoxon_p_value, row.kolmogorov_smirnov_p_value] == textbook
    intervals = bootstrap_intervals(inputs.returns, bar, cash, plan=BootstrapPlan(num_draws=100))
    assert (row.sharpe_lower, row.sharpe_upper) == (intervals.sharpe_ratio.lower[0], intervals.sharpe_ratio.upper[0])
    assert row.difference_lower == intervals.sharpe_difference.lower[0]
    assert row.drawdown_upper == intervals.max_drawdown.upper[0]
    assert row.cvar_lower == intervals.conditional_value_at_risk.lower[0]
    policy, benchmark = inputs.walk_of("PPO policy"), inputs.walk_of("1/N")
    assert policy is not None
    assert benchmark is not None
    held = holdings(policy, benchmark)
    assert (row.turnover_per_year, row.cost_drag, row.active_share) == (
        held.turnover_per_year,
        held.cost_drag,
        held.active_share,
    )


def test_trading_figures_are_those_worked_by_hand() -> None:
    # 12 days of flat prices at 100 bp: buy-and-hold of two assets trades all once, and pays 1 %: 252 / 12 = 21 a year
    market = market_of(np.zeros((15, 2)), periods_per_year=252)
    window, execution = (3, 15), ExecutionConfig(cost_bps=100.0, execution_lag=0)
    walks = backtest(market, window, [BuyAndHold(), EqualWeight(), AllCash()], execution)
    context = ReportContext("flat", market, window, execution, ("buy-and-hold",))
    report = report_of_walks(Lineup(walks, pd.DataFrame()), context=context, plan=BootstrapPlan(num_draws=20))
    row = report.table.loc["buy-and-hold"]
    assert row.turnover_per_year == pytest.approx(21.0)
    assert row.cost_per_year == pytest.approx(0.21)
    assert row.cost_drag == pytest.approx(1.0 - 0.99**21, rel=1e-12)
    assert (row.effective_assets, row.herfindahl, row.active_share) == pytest.approx((2.0, 0.5, 0.0))
    # 1/N buys the same on the same day, and flat prices leave nothing to rebalance: equal wealth at any cost
    assert "break_even_cost_bps: it is the benchmark, or " in row["undefined"]
    assert "not ahead of the benchmark without costs" in row["undefined"]
    assert report.table.loc["all cash"].active_share == pytest.approx(1.0)


def test_a_strategy_that_hardly_trades_has_a_sharpe_ratio_and_no_interval() -> None:
    # two gains in 600 days: of 2000 draws some hold neither of them
    gains, rng = np.zeros(600), np.random.default_rng(0)
    gains[[100, 300]] = 0.02
    bar = np.cumprod(1.0 + rng.normal(0.0005, 0.01, 600))
    table = generate_performance_report({"rare": np.cumprod(1.0 + gains), "bar twin": bar}, bar)
    row = table.loc["rare"]
    assert row.sharpe_ratio > 0.0
    assert math.isnan(row.sharpe_lower)
    few = "or there are so few days that some resamples have zero volatility"
    assert f"sharpe_lower, sharpe_upper: its excess return is constant, {few}" in row["undefined"]
    assert "difference_lower, difference_upper: it is the benchmark, or its or the bench" in row["undefined"]
    assert "sharpe_ratio" not in row["undefined"]


def test_mixes_that_know_the_end_are_no_contenders(whole_report: Report) -> None:
    inputs = whole_report.inputs
    mixes = ["constant mix of PPO policy", "constant mix of DQN policy"]
    assert [name for name in inputs.names if name not in inputs.contenders] == mixes
    held = [name for name in inputs.contenders if name != "1/N"]
    returns = np.stack([inputs.of(name) for name in held], axis=1)
    assert whole_report.superior == superior_ability_test(returns, inputs.of("1/N"))
    excess = np.stack([inputs.of(name) for name in inputs.contenders], axis=1) - inputs.cash_returns[:, None]
    p_values = model_confidence_set(excess).p_values
    assert whole_report.table.loc[list(inputs.contenders), "confidence_set_p_value"].tolist() == p_values.tolist()
    for name in mixes:
        assert "confidence_set_p_value: it could not have been held" in whole_report.table.at[name, "undefined"]
    assert any("It could not have been held" in sentence for sentence in whole_report.statements)


def test_texts_of_figures_are_short_and_a_dash_where_there_is_none() -> None:
    assert text_of("annual_return", -0.1234) == "−12.3 %"
    assert text_of("sharpe_ratio", float("nan")) == "–"
    assert text_of("drawdown_peak", None) == "–"
    assert text_of("drawdown_peak", "2020-02-19") == "2020-02-19"
    assert text_of("mean_p_value", 0.0004) == "< 0.001"
    assert text_of("mean_p_value", 0.0123) == "0.012"
