from __future__ import annotations

import statistics

import numpy as np
import pytest
from scipy import stats

from rllib_portfolio.statistics import metrics
from rllib_portfolio.statistics.bootstrap import BootstrapPlan, bootstrap_intervals
from rllib_portfolio.statistics.rolling import rolling_sharpe_ratio
from tests.statistics import oracles

RETURNS = np.array([0.10, -0.20, 0.05, 0.05])
CASH = np.array([0.0, 0.0, 0.01, 0.01])


def test_total_return_compounds() -> None:
    # 1.1 * 0.8 * 1.05 * 1.05 = 0.88 * 1.1025 = 0.9702
    assert metrics.total_return(RETURNS) == pytest.approx(-0.0298, rel=1e-12)


def test_annualised_return_is_geometric_over_the_number_of_returns() -> None:
    # 2 returns, 4 periods a year: half a year; (1.1 * 1.1)^(4 / 2) - 1 = 1.21^2 - 1 = 0.4641
    assert metrics.annualised_return(np.array([0.1, 0.1]), 4) == pytest.approx(0.4641, rel=1e-12)


def test_annualised_volatility_divides_by_t_minus_one() -> None:
    # mean 0.02, squared deviations 0.0001 + 0.0001, / (2 - 1) = 0.0002; sqrt(4 * 0.0002) = sqrt(0.0008)
    assert metrics.annualised_volatility(np.array([0.01, 0.03]), 4) == pytest.approx(0.0008**0.5, rel=1e-12)


def test_sharpe_ratio_is_of_the_return_in_excess_of_cash() -> None:
    # excess 0.00, 0.02: mean 0.01, std sqrt(0.0002) = 0.01 sqrt 2; sqrt(4) * 0.01 / (0.01 sqrt 2) = sqrt 2
    returns = np.array([0.01, 0.03])
    assert metrics.sharpe_ratio(returns, 0.01, 4) == pytest.approx(2**0.5, rel=1e-12)
    assert metrics.sharpe_ratio(returns, np.array([0.01, 0.01]), 4) == pytest.approx(2**0.5, rel=1e-12)


def test_sortino_ratio_takes_the_downside_over_all_days() -> None:
    # excess 0.10, -0.20, 0.04, 0.04: mean -0.005; downside sqrt(0.04 / 4) = 0.1 (not 0.2, over the one losing day)
    # sqrt(4) * -0.005 / 0.1 = -0.1
    assert metrics.sortino_ratio(RETURNS, CASH, 4) == pytest.approx(-0.1, rel=1e-12)


def test_max_drawdown_includes_the_starting_value() -> None:
    # wealth 1, 0.9, 0.99: the peak is the start
    assert metrics.max_drawdown(np.array([-0.1, 0.1])) == pytest.approx(0.1, rel=1e-12)
    # wealth 1, 1.1, 0.88, 0.924, 0.9702: 1 - 0.88 / 1.1 = 0.2
    assert metrics.max_drawdown(RETURNS) == pytest.approx(0.2, rel=1e-12)
    assert metrics.drawdown(RETURNS) == pytest.approx([0.0, 0.0, 0.2, 0.16, 0.118])  # 1 - 0.924/1.1, 1 - 0.9702/1.1


def test_calmar_ratio_divides_annual_return_by_max_drawdown() -> None:
    # one year of 4 periods: -0.0298 / 0.2
    assert metrics.calmar_ratio(RETURNS, 4) == pytest.approx(-0.149, rel=1e-12)


def test_value_at_risk_interpolates_and_is_a_positive_loss() -> None:
    # ordered -0.20 0.05 0.05 0.10; the 25 % quantile is at position 0.75: -0.20 + 0.75 * 0.25 = -0.0125
    assert metrics.value_at_risk(RETURNS, 0.25) == pytest.approx(0.0125, rel=1e-12)
    # returns at or below -0.0125: -0.20 alone
    assert metrics.conditional_value_at_risk(RETURNS, 0.25) == pytest.approx(0.2, rel=1e-12)
    # 21 returns -0.10 -0.09 ... 0.10: the 5 % quantile is at position 1, -0.09; the mean of -0.10 and -0.09 is -0.095
    ladder = np.arange(-10, 11) / 100
    assert metrics.value_at_risk(ladder) == pytest.approx(0.09, rel=1e-12)
    assert metrics.conditional_value_at_risk(ladder) == pytest.approx(0.095, rel=1e-12)


def test_information_ratio_is_annualised() -> None:
    # active 0.00, 0.02: as in the Sharpe ratio, sqrt 2
    assert metrics.information_ratio(np.array([0.02, 0.01]), np.array([0.02, -0.01]), 4) == pytest.approx(2**0.5)


def test_beta_and_alpha_use_one_ddof_and_daily_units() -> None:
    # benchmark 0.01, 0.03 and cash 0.01: excess 0.00, 0.02; returns are 2 * excess + 0.005 + cash
    benchmark, cash = np.array([0.01, 0.03]), 0.01
    returns = 2.0 * (benchmark - cash) + 0.005 + cash
    assert metrics.beta(returns, benchmark, cash) == pytest.approx(2.0, rel=1e-12)
    assert metrics.alpha(returns, benchmark, cash, 4) == pytest.approx(4 * 0.005, rel=1e-12)


def test_omega_ratio_at_zero_is_the_profit_factor_and_elsewhere_is_not() -> None:
    # at 0: (0.10 + 0.05 + 0.05) / 0.20 = 1; at 0.05: 0.05 / 0.25 = 0.2
    assert metrics.omega_ratio(RETURNS, threshold=0.0) == pytest.approx(1.0, rel=1e-12)
    assert metrics.omega_ratio(RETURNS, threshold=0.05) == pytest.approx(0.2, rel=1e-12)
    # by default at what cash earned: (0.10 + 0.04 + 0.04) / 0.20 = 0.9
    assert metrics.omega_ratio(RETURNS, CASH) == pytest.approx(0.9, rel=1e-12)


def test_mean_win_rate_and_profit_factor() -> None:
    # 0.10 - 0.20 + 0.05 + 0.05 = 0; 3 of 4 days gain; 0.20 / 0.20
    assert metrics.mean_daily_return(RETURNS) == pytest.approx(0.0, abs=1e-16)
    assert metrics.win_rate(RETURNS) == 0.75
    assert metrics.profit_factor(RETURNS) == pytest.approx(1.0, rel=1e-12)
    assert metrics.profit_factor(RETURNS) == metrics.omega_ratio(RETURNS, threshold=0.0)


def test_skewness_and_raw_kurtosis_are_of_moments_over_t() -> None:
    # mean 0; squares 0.01 + 0.04 + 2 * 0.0025 = 0.055, m2 = 0.01375; cubes 0.001 - 0.008 + 2 * 0.000125 = -0.00675,
    # m3 = -0.0016875; fourth powers 0.0001 + 0.0016 + 2 * 0.00000625 = 0.0017125, m4 = 0.000428125
    assert metrics.skewness(RETURNS) == pytest.approx(-0.0016875 / 0.01375**1.5, rel=1e-12)
    assert metrics.kurtosis(RETURNS) == pytest.approx(0.000428125 / 0.01375**2, rel=1e-12)
    # a coin: 1 and -1 have m2 = m4 = 1, the least kurtosis there is
    assert metrics.kurtosis(np.array([0.01, -0.01])) == pytest.approx(1.0, rel=1e-12)
    assert metrics.kurtosis(np.random.default_rng(0).normal(size=200_000)) == pytest.approx(3.0, abs=0.05)


def test_tail_ratio_compares_the_ends() -> None:
    # ordered -0.20 0.05 0.05 0.10: at 25 % -0.0125 (above); at 75 % position 2.25: 0.05 + 0.25 * 0.05 = 0.0625
    assert metrics.tail_ratio(RETURNS, 0.25) == pytest.approx(5.0, rel=1e-12)


def test_ulcer_index_is_the_root_mean_square_drawdown_of_the_closes() -> None:
    # drawdowns 0, 0.2, 0.16, 0.118: (0.04 + 0.0256 + 0.013924) / 4 = 0.019881 = 0.141^2
    assert metrics.ulcer_index(RETURNS) == pytest.approx(0.141, rel=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_metrics_agree_with_slow_oracles(seed: int) -> None:
    rng = np.random.default_rng(seed)
    returns, benchmark = rng.normal(0.0005, 0.015, (2, 97))
    cash = rng.uniform(0.0, 0.0002, 97)
    lists = [list(map(float, values)) for values in (returns, benchmark, cash)]
    for ours, theirs in [
        (metrics.annualised_return(returns), oracles.annualised_return(lists[0], 252)),
        (metrics.sharpe_ratio(returns, cash), oracles.sharpe_ratio(lists[0], lists[2], 252)),
        (metrics.sortino_ratio(returns, cash), oracles.sortino_ratio(lists[0], lists[2], 252)),
        (metrics.max_drawdown(returns), oracles.max_drawdown(lists[0])),
        (metrics.value_at_risk(returns), oracles.value_at_risk(lists[0], 0.05)),
        (metrics.conditional_value_at_risk(returns), oracles.conditional_value_at_risk(lists[0], 0.05)),
        (metrics.information_ratio(returns, benchmark), oracles.sharpe_ratio(lists[0], lists[1], 252)),
        (metrics.beta(returns, benchmark, cash), oracles.beta(*lists)),
        (metrics.alpha(returns, benchmark, cash), oracles.alpha(*lists, 252)),
        (metrics.omega_ratio(returns, cash), oracles.omega_ratio(lists[0], lists[2])),
        (metrics.mean_daily_return(returns), statistics.fmean(lists[0])),
        (metrics.win_rate(returns), oracles.win_rate(lists[0])),
        (metrics.profit_factor(returns), oracles.profit_factor(lists[0])),
        (metrics.skewness(returns), oracles.standardised_moment(lists[0], 3)),
        (metrics.kurtosis(returns), oracles.standardised_moment(lists[0], 4)),
        (metrics.skewness(returns), stats.skew(returns)),
        (metrics.kurtosis(returns), stats.kurtosis(returns, fisher=False)),
        (metrics.tail_ratio(returns), oracles.tail_ratio(lists[0], 0.05)),
        (metrics.ulcer_index(returns), oracles.ulcer_index(lists[0])),
    ]:
        assert ours == pytest.approx(theirs, rel=1e-9)


MEASURES = {
    "total_return": metrics.total_return,
    "annualised_return": metrics.annualised_return,
    "annualised_volatility": metrics.annualised_volatility,
    "sharpe_ratio": lambda returns: metrics.sharpe_ratio(returns, 1e-4),
    "sortino_ratio": lambda returns: metrics.sortino_ratio(returns, 1e-4),
    "max_drawdown": metrics.max_drawdown,
    "calmar_ratio": metrics.calmar_ratio,
    "value_at_risk": metrics.value_at_risk,
    "conditional_value_at_risk": metrics.conditional_value_at_risk,
    "information_ratio": lambda returns: metrics.information_ratio(returns, _benchmark(returns)),
    "beta": lambda returns: metrics.beta(returns, _benchmark(returns), 1e-4),
    "alpha": lambda returns: metrics.alpha(returns, _benchmark(returns), 1e-4),
    "omega_ratio": lambda returns: metrics.omega_ratio(returns, 1e-4),
    "mean_daily_return": metrics.mean_daily_return,
    "win_rate": metrics.win_rate,
    "profit_factor": metrics.profit_factor,
    "skewness": metrics.skewness,
    "kurtosis": metrics.kurtosis,
    "tail_ratio": metrics.tail_ratio,
    "ulcer_index": metrics.ulcer_index,
}


def _benchmark(returns: np.ndarray) -> np.ndarray:
    return 0.01 * np.sin(np.arange(len(returns)))


@pytest.mark.parametrize("name", MEASURES)
def test_columns_are_measured_one_by_one(name: str) -> None:
    returns = np.random.default_rng(0).normal(0.0, 0.01, (50, 3))
    together = MEASURES[name](returns)
    assert together.shape == (3,)
    for k in range(3):
        alone = MEASURES[name](returns[:, k])
        assert np.shape(alone) == ()
        assert together[k] == pytest.approx(alone, rel=1e-12)


@pytest.mark.parametrize("name", MEASURES)
def test_a_nan_spoils_its_own_column_only(name: str) -> None:
    returns = np.random.default_rng(0).normal(0.0, 0.01, (50, 2))
    clean = MEASURES[name](returns)
    returns[7, 0] = np.nan
    spoilt = MEASURES[name](returns)
    assert np.isnan(spoilt[0])
    assert spoilt[1] == clean[1]


@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize("shape", [(0,), (0, 2)])
def test_no_days_give_nan(name: str, shape: tuple[int, ...]) -> None:
    measure = MEASURES[name](np.empty(shape))
    assert np.shape(measure) == shape[1:]
    assert np.isnan(measure).all()


def test_ratios_without_a_denominator_are_nan_and_not_infinite() -> None:
    cash = np.full(10, 1e-4)
    rising = np.full(10, 1e-3)
    for undefined in [
        metrics.sharpe_ratio(cash, cash),
        metrics.sharpe_ratio(rising, cash),
        metrics.sortino_ratio(rising, cash),
        metrics.calmar_ratio(rising),
        metrics.omega_ratio(rising, cash),
        metrics.information_ratio(rising, rising),
        metrics.beta(RETURNS, np.full(4, 0.01)),
        metrics.alpha(RETURNS, np.full(4, 0.01)),
        metrics.annualised_volatility(np.array([0.01])),
        metrics.profit_factor(rising),
        metrics.skewness(rising),
        metrics.kurtosis(rising),
        metrics.tail_ratio(np.zeros(10)),
    ]:
        assert np.isnan(undefined)


def test_a_standard_deviation_below_that_of_rounding_counts_as_zero() -> None:
    assert np.isnan(metrics.sharpe_ratio(1e-3 + 1e-7 * np.array([1.0, -1.0, 1.0, -1.0])))
    assert np.isfinite(metrics.sharpe_ratio(1e-3 + 1e-6 * np.array([1.0, -1.0, 1.0, -1.0])))


def single_precision(returns: np.ndarray) -> np.ndarray:
    """Returns of values that were kept in single precision."""
    values = np.cumprod(1.0 + returns, dtype=np.float32).astype(np.float64)
    return values[1:] / values[:-1] - 1.0


@pytest.mark.parametrize("rate", [0.02, 0.0001, -0.005])
def test_what_has_no_risk_has_none_in_single_precision(rate: float) -> None:
    daily = rate / 252
    deposit = single_precision(np.full(600, daily))
    assert 0.0 < deposit.std() < 1e-7
    assert np.isnan(metrics.sharpe_ratio(deposit))
    assert np.isnan(metrics.sharpe_ratio(deposit, daily))
    assert np.isnan(metrics.sortino_ratio(deposit, daily))
    assert np.isnan(metrics.omega_ratio(deposit, daily))
    assert np.isnan(metrics.skewness(deposit))
    assert np.isnan(metrics.kurtosis(deposit))
    market = np.random.default_rng(0).normal(5e-4, 0.01, 599)
    assert np.isnan(metrics.beta(market, deposit, 0.0))
    assert np.isnan(rolling_sharpe_ratio(deposit, window_days=100)).all()
    intervals = bootstrap_intervals(deposit, market, plan=BootstrapPlan(num_draws=20))
    assert np.isnan([*intervals.sharpe_ratio, *intervals.sharpe_difference]).all()


def test_a_constant_fee_is_no_active_risk_in_single_precision() -> None:
    market = np.random.default_rng(0).normal(5e-4, 0.01, 600)
    fund, index = single_precision(market - 1e-4), single_precision(market)
    assert np.isnan(metrics.information_ratio(fund, index))
    assert metrics.sharpe_ratio(fund) == pytest.approx(metrics.sharpe_ratio(market[1:] - 1e-4), rel=1e-4)
