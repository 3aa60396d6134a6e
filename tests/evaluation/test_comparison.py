from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rllib_portfolio.config import ExecutionConfig
from rllib_portfolio.errors import ConfigError
from rllib_portfolio.evaluation import BacktestResult, backtest
from rllib_portfolio.evaluation.baselines import AllCash, BuyAndHold, EqualWeight
from rllib_portfolio.evaluation.comparison import compare, format_comparison, verdict
from rllib_portfolio.evaluation.significance import mean_active_return_test
from tests.evaluation.hand_made import market_of, random_market

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


def test_the_printed_table_shows_per_cents_and_a_dash_for_undefined() -> None:
    market = random_market()
    results = backtest(market, (3, 60), [EqualWeight(), AllCash()], ExecutionConfig())
    text = format_comparison(compare(results, market.cash_returns[3:60]))
    header, equal, cash = text.splitlines()
    assert "sharpe ratio" in header
    assert equal.startswith("1/N")
    assert "%" in equal
    assert "-" in cash.removeprefix("all cash").split()


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
    assert judged.outcome == "no difference"
    assert judged.p_value == 1.0
    assert np.isnan(judged.information_ratio)
    assert judged.sharpe_difference == 0.0
    assert "did not beat 1/N" in judged.sentence
    assert "information ratio undefined (p = 1.00)" in judged.sentence


def test_a_policy_that_differs_by_rounding_makes_no_difference() -> None:
    judged = verdict(_result(MARKET + 1e-15), BENCHMARK, CASH)
    assert (judged.outcome, judged.p_value) == ("no difference", 1.0)


@pytest.mark.parametrize(("daily", "outcome"), [(0.002, "beats"), (-0.002, "loses")])
def test_a_clear_difference_is_called_by_its_sign(daily: float, outcome: str) -> None:
    judged = verdict(_result(MARKET + daily + _noise(0.005, seed=1)), BENCHMARK, CASH)
    assert judged.outcome == outcome
    assert judged.p_value < 0.001
    assert np.sign(judged.information_ratio) == np.sign(daily)


def test_a_constant_difference_is_certain() -> None:
    judged = verdict(_result(MARKET - 1e-5), BENCHMARK, CASH)
    assert judged.outcome == "loses"
    assert judged.p_value == pytest.approx(1 / 2001)


def test_a_difference_within_noise_is_none() -> None:
    judged = verdict(_result(MARKET + _noise(0.005, seed=1)), BENCHMARK, CASH)
    assert judged.outcome == "no difference"
    assert judged.p_value > 0.05


def test_the_sentence_says_when_what_and_how_sure() -> None:
    # one year of 2 periods: 1.1 * 1.0 - 1 = 10.0 % against 1.0 * 1.05 - 1 = 5.0 %. Excess over 0: means 0.05 and 0.025,
    # deviations 0.1 / sqrt 2 and 0.05 / sqrt 2, so both Sharpe ratios are sqrt 2 * 0.5 sqrt 2 = 1.00. Active returns
    # 0.1, -0.05: mean 0.025, deviation 0.15 / sqrt 2: sqrt 2 * 0.025 * sqrt 2 / 0.15 = 0.33
    policy, benchmark = _result(np.array([0.1, 0.0])), _result(np.array([0.0, 0.05]), "1/N")
    judged = verdict(policy, benchmark, np.zeros(2), periods_per_year=2, window_name="validation")
    assert judged.sentence.startswith(
        "On the validation window (2016-01-04 to 2016-01-05) the policy did not beat 1/N: annual return 10.0 % against "
        "5.0 %, Sharpe 1.00 against 1.00, information ratio 0.33 (p = "
    )
    assert not judged.leakage_suspected


def test_a_sharpe_ratio_too_good_to_be_true_is_called_suspicious() -> None:
    judged = verdict(_result(MARKET + 0.0005), BENCHMARK, CASH)
    assert judged.sharpe_difference > 0.3
    assert judged.leakage_suspected
    assert judged.sentence.endswith("hunt for leakage first.")


def test_the_verdict_is_the_same_for_the_same_seed() -> None:
    policy = _result(MARKET + _noise(0.005, seed=1))
    assert verdict(policy, BENCHMARK, CASH, seed=3) == verdict(policy, BENCHMARK, CASH, seed=3)
    assert verdict(policy, BENCHMARK, CASH, seed=3).p_value != verdict(policy, BENCHMARK, CASH, seed=4).p_value


def test_the_test_rejects_a_true_null_about_as_often_as_it_says() -> None:
    # 200 samples at the 5 % level: 10 expected, binomial deviation 3.1; at most 10 + 3 * 3.1 with autocorrelation 0.3,
    # which draws of single days would reject about twice as often.
    rejected = 0
    for seed in range(200):
        shocks = _noise(0.01, seed, 251)
        rejected += mean_active_return_test(shocks[1:] + 0.3 * shocks[:-1], num_resamples=200, seed=seed).p_value < 0.05
    assert 3 <= rejected <= 19


def test_dependent_days_are_drawn_in_blocks() -> None:
    shocks = _noise(0.01, seed=5, days=1000)
    persistent = np.convolve(shocks, np.ones(20), "valid")
    assert mean_active_return_test(persistent).block_days > 10
    assert mean_active_return_test(shocks).block_days < 10
    assert mean_active_return_test(shocks[:5]).block_days == 1


def test_alternate_names_of_the_policy_stay_out_of_the_sentence() -> None:
    assert "the policy " in verdict(replace(_result(MARKET), name="ppo"), BENCHMARK, CASH).sentence
