from __future__ import annotations

import numpy as np
import pytest

from rllib_portfolio.backtest.baselines import AllCash, BuyAndHold
from rllib_portfolio.backtest.comparison import compare, verdict
from rllib_portfolio.backtest.engine import BacktestResult, backtest
from rllib_portfolio.config import ExecutionConfig
from rllib_portfolio.errors import ConfigError
from rllib_portfolio.statistics.bootstrap import BootstrapPlan
from rllib_portfolio.statistics.sharpe_tests import bootstrap_sharpe_test
from rllib_portfolio.statistics.significance import mean_active_return_test
from rllib_portfolio.statistics.verdicts import holm_rejections
from tests.backtest.hand_made import market_of, random_market

DAYS = 500


def _result(returns: np.ndarray, name: str = "policy") -> BacktestResult:
    """A result that earned `returns` without trading."""
    days = len(returns)
    zeros = np.zeros(days)
    wealth = np.concatenate([[1.0], np.cumprod(1.0 + returns)])
    dates = np.busday_offset("2016-01-04", np.arange(days)).astype("datetime64[D]")
    weights = np.tile([1.0, 0.0], (days, 1))
    return BacktestResult(name, ("A",), dates, returns, wealth, weights, zeros, zeros, zeros)


def _noise(scale: float, seed: int, days: int = DAYS) -> np.ndarray:
    return np.random.default_rng(seed).normal(0.0, scale, days)


MARKET = 0.0004 + _noise(0.01, seed=0)
CASH = np.full(DAYS, 1e-5)
BENCHMARK = _result(MARKET, "1/N")


def test_the_table_has_one_row_per_strategy_with_costs_and_turnover() -> None:
    # two days of 4 a year at 10 bp: buy-and-hold trades 1 once, so 4 / 2 = 2 a year; it pays 0.001 once, 0.002 a year
    market = market_of([[0.0, 0.0], [0.0, 0.0], [0.10, 0.0], [-0.5, 0.2]], cash_return=0.01)
    results = backtest(market, (2, 4), [BuyAndHold(), AllCash()], ExecutionConfig(cost_bps=10.0, execution_lag=0))
    table = compare(results, market.cash_returns[2:4], periods_per_year=4)
    assert list(table.index) == ["buy-and-hold", "all cash"]
    row = table.loc["buy-and-hold"]
    assert row.total_return == pytest.approx(0.999 * 0.875 - 1.0, rel=1e-12)
    assert row.annual_return == pytest.approx((0.999 * 0.875) ** 2 - 1.0, rel=1e-12)
    # drawdown from 0.999 * 1.05 to 0.999 * 0.875
    assert row.max_drawdown == pytest.approx(1.0 - 0.875 / 1.05, rel=1e-12)
    assert row.turnover_per_year == pytest.approx(2.0, rel=1e-12)
    assert row.cost_per_year == pytest.approx(0.002, rel=1e-12)
    assert np.isnan(table.loc["all cash"].sharpe_ratio)


def test_results_over_other_days_are_not_compared() -> None:
    market = random_market()
    (early,), (late,) = (backtest(market, window, [AllCash()], ExecutionConfig()) for window in ((3, 30), (4, 31)))
    with pytest.raises(ConfigError, match="results must be over the same days"):
        compare([early, late], market.cash_returns[3:30])
    with pytest.raises(ConfigError, match="cash_returns must have one number for each of 27 days"):
        compare([early], market.cash_returns)
    with pytest.raises(ConfigError, match="results must be at least one"):
        compare([], market.cash_returns)


def test_a_policy_equal_to_its_benchmark_makes_no_difference() -> None:
    judged = verdict(_result(MARKET), BENCHMARK, CASH)
    assert judged.outcome == "no significant difference"
    assert judged.mean_p_value == 1.0
    assert np.isnan(judged.information_ratio)
    assert judged.sharpe_difference == 0.0
    assert "did not beat 1/N" in judged.sentence
    assert "information ratio undefined (test of the mean active return: p = 1.00)" in judged.sentence
    assert "difference 0.00 (Ledoit-Wolf test: p = 1.00). Neither difference is significant" in judged.sentence


def test_a_policy_that_differs_by_rounding_makes_no_difference() -> None:
    judged = verdict(_result(MARKET + 1e-15), BENCHMARK, CASH)
    assert (judged.outcome, judged.mean_p_value) == ("no significant difference", 1.0)


@pytest.mark.parametrize(("daily", "outcome"), [(0.002, "beats"), (-0.002, "loses")])
def test_a_clear_difference_is_called_by_its_sign(daily: float, outcome: str) -> None:
    judged = verdict(_result(MARKET + daily + _noise(0.005, seed=1)), BENCHMARK, CASH)
    assert judged.outcome == outcome
    assert judged.mean_p_value < 0.001
    assert np.sign(judged.information_ratio) == np.sign(daily)


def test_a_constant_difference_is_certain() -> None:
    judged = verdict(_result(MARKET - 1e-5), BENCHMARK, CASH)
    assert judged.outcome == "loses"
    assert judged.mean_p_value == pytest.approx(1 / 2001)


def test_a_difference_within_noise_is_none() -> None:
    judged = verdict(_result(MARKET + _noise(0.005, seed=1)), BENCHMARK, CASH)
    assert judged.outcome == "no significant difference"
    assert judged.mean_p_value > 0.05


def test_the_sentence_says_when_what_and_how_sure() -> None:
    # one year of 2 periods: 1.1 * 1.0 - 1 = 10.0 % against 1.0 * 1.05 - 1 = 5.0 %. Excess over 0: means 0.05 and 0.025,
    # deviations 0.1 / sqrt 2 and 0.05 / sqrt 2, so both Sharpe ratios are sqrt 2 * 0.5 sqrt 2 = 1.00. Active returns
    # 0.1, -0.05: mean 0.025, deviation 0.15 / sqrt 2: sqrt 2 * 0.025 * sqrt 2 / 0.15 = 0.33
    policy, benchmark = _result(np.array([0.1, 0.0])), _result(np.array([0.0, 0.05]), "1/N")
    judged = verdict(policy, benchmark, np.zeros(2), periods_per_year=2, window_name="validation")
    # Two days are too few for the Sharpe test, and any resampled mean of them can be as far off: p is far above 5 %.
    assert judged.sentence.startswith(
        "On the validation window (2016-01-04 to 2016-01-05) policy did not beat 1/N: annual return 10.0 % against "
        "5.0 %, information ratio 0.33 (test of the mean active return: p = "
    )
    assert judged.sentence.endswith(
        "); Sharpe ratio 1.00 against 1.00, difference 0.00 (Ledoit-Wolf test: p undefined). Neither difference is "
        "significant at 5 % after Holm's correction for two tests."
    )
    assert not judged.leakage_suspected


def test_a_sharpe_ratio_too_good_to_be_true_is_called_suspicious() -> None:
    judged = verdict(_result(MARKET + 0.0005), BENCHMARK, CASH)
    assert judged.sharpe_difference > 0.3
    assert judged.leakage_suspected
    assert judged.sentence.endswith("check for leakage first.")


def test_the_verdict_is_the_same_for_the_same_seed() -> None:
    policy = _result(MARKET + _noise(0.005, seed=1))
    assert verdict(policy, BENCHMARK, CASH, seed=3) == verdict(policy, BENCHMARK, CASH, seed=3)
    assert (
        verdict(policy, BENCHMARK, CASH, seed=3).mean_p_value != verdict(policy, BENCHMARK, CASH, seed=4).mean_p_value
    )


def test_the_test_rejects_a_true_null_about_as_often_as_it_says() -> None:
    # 200 samples at the 5 % level: 10 expected, binomial deviation 3.1; at most 10 + 3 * 3.1 with autocorrelation 0.3,
    # which draws of single days would reject about twice as often.
    rejected = 0
    for seed in range(200):
        shocks = _noise(0.01, seed, 251)
        rejected += mean_active_return_test(shocks[1:] + 0.3 * shocks[:-1], num_resamples=200, seed=seed).p_value < 0.05
    assert 3 <= rejected <= 19


def test_holm_takes_the_smallest_p_value_first_and_stops_at_the_first_that_is_too_large() -> None:
    # two at 5 %: 2.5 % for the smaller, then 5 % for the larger
    assert holm_rejections([0.04, 0.024]) == (True, True)
    assert holm_rejections([0.04, 0.026]) == (False, False)
    assert holm_rejections([0.06, 0.01]) == (False, True)
    assert holm_rejections([0.01, np.nan]) == (True, False)
    # three: 5/3, 5/2 and 5 %
    assert holm_rejections([0.03, 0.016, 0.024]) == (True, True, True)
    assert holm_rejections([0.03, 0.016, 0.026]) == (False, True, False)


def test_both_p_values_are_those_of_the_two_tests() -> None:
    returns = MARKET + _noise(0.005, seed=1)
    judged = verdict(_result(returns), BENCHMARK, CASH)
    assert judged.mean_p_value == mean_active_return_test(returns - MARKET).p_value
    assert judged.sharpe_p_value == bootstrap_sharpe_test(returns, MARKET, CASH, plan=BootstrapPlan(1999)).p_value


def test_an_edge_that_one_test_alone_sees_counts() -> None:
    # the same mean, 5 basis points a day, at a fifth of the risk, and a hair more so that the active mean points up:
    # the Sharpe ratio is five times the benchmark's, while the mean active return is next to nothing
    rng = np.random.default_rng(3)
    noise = rng.normal(0.0, 0.01, 4000)
    noise -= noise.mean()
    benchmark, policy = 0.0005 + noise, 0.0005 + 1e-7 + 0.2 * noise
    judged = verdict(_result(policy), _result(benchmark, "1/N"), np.zeros(4000))
    assert judged.mean_p_value > 0.5
    assert judged.sharpe_p_value < 0.025
    assert judged.outcome == "beats"
    assert "The Sharpe difference is significant at 5 %" in judged.sentence


def test_more_return_for_less_sharpe_ratio_is_a_choice_of_risk() -> None:
    # the policy earns twice the mean for ten times the risk
    rng = np.random.default_rng(3)
    days = 4000
    benchmark = 0.002 + rng.normal(0.0, 0.002, days)
    policy = 0.004 + rng.normal(0.0, 0.02, days)
    judged = verdict(_result(policy), _result(benchmark, "1/N"), np.zeros(days))
    assert judged.mean_p_value < 0.001
    assert judged.sharpe_difference < -5.0
    assert judged.sharpe_p_value < 0.001
    assert judged.outcome == "no significant difference"
    assert judged.sentence.endswith(
        "Both differences are significant at 5 % after Holm's correction for two tests, but return and Sharpe ratio "
        "point in opposite directions, which indicates a different level of risk, not skill."
    )


def test_the_same_strategy_at_half_the_leverage_loses_by_its_return_alone() -> None:
    # its Sharpe ratio is the benchmark's, to rounding, so that it points nowhere
    rng = np.random.default_rng(4)
    benchmark = 0.002 + rng.normal(0.0, 0.01, 4000)
    judged = verdict(_result(0.5 * benchmark), _result(benchmark, "1/N"), np.zeros(4000))
    assert judged.sharpe_p_value == 1.0
    assert judged.outcome == "loses"
    assert "The mean active return is significant at 5 %" in judged.sentence


def test_cash_has_no_sharpe_ratio_and_is_judged_by_its_return() -> None:
    rng = np.random.default_rng(5)
    benchmark = _result(0.002 + rng.normal(0.0, 0.01, 4000), "1/N")
    judged = verdict(_result(np.full(4000, 1e-5)), benchmark, np.full(4000, 1e-5))
    assert np.isnan(judged.sharpe_p_value)
    assert judged.outcome == "loses"
    assert "Sharpe ratio undefined against" in judged.sentence
