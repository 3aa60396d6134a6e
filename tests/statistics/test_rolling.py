from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from rllib_portfolio.errors import ConfigError
from rllib_portfolio.statistics import metrics, rolling

RNG = np.random.default_rng(0)
RETURNS = RNG.normal(0.0005, 0.01, (60, 3))
BENCHMARK = RNG.normal(0.0005, 0.01, 60)
CASH = RNG.uniform(0.0, 0.0002, 60)

ROLLING: dict[str, tuple[Callable[..., Any], Callable[[np.ndarray, slice], Any]]] = {
    "sharpe_ratio": (
        lambda returns: rolling.rolling_sharpe_ratio(returns, CASH, 20),
        lambda returns, days: metrics.sharpe_ratio(returns[days], CASH[days]),
    ),
    "volatility": (
        lambda returns: rolling.rolling_volatility(returns, 20),
        lambda returns, days: metrics.annualised_volatility(returns[days]),
    ),
    "max_drawdown": (
        lambda returns: rolling.rolling_max_drawdown(returns, 20),
        lambda returns, days: metrics.max_drawdown(returns[days]),
    ),
    "beta": (
        lambda returns: rolling.rolling_beta(returns, BENCHMARK, CASH, 20),
        lambda returns, days: metrics.beta(returns[days], BENCHMARK[days], CASH[days]),
    ),
}


def test_a_rolling_sharpe_ratio_by_hand() -> None:
    # windows (0.01, 0.03), (0.03, 0.03), (0.03, -0.01): means 0.02, 0.03, 0.01, deviations 0.01 sqrt 2, 0, 0.02 sqrt 2;
    # sqrt(4) * 0.02 / (0.01 sqrt 2) = 2 sqrt 2, undefined, 2 * 0.01 / (0.02 sqrt 2) = 1 / sqrt 2
    rolled = rolling.rolling_sharpe_ratio(np.array([0.01, 0.03, 0.03, -0.01]), 0.0, 2, 4)
    assert rolled == pytest.approx([np.nan, 8**0.5, np.nan, 0.5**0.5], rel=1e-12, nan_ok=True)


def test_a_rolling_drawdown_starts_anew_in_each_window() -> None:
    # windows of 2 days: (0.1, -0.2) falls 0.2 from 1.1, (-0.2, 0.05) falls 0.2 from its start, (0.05, 0.05) not at all
    rolled = rolling.rolling_max_drawdown(np.array([0.10, -0.20, 0.05, 0.05]), 2)
    assert rolled == pytest.approx([np.nan, 0.2, 0.2, 0.0], rel=1e-12, nan_ok=True)


@pytest.mark.parametrize("name", ROLLING)
def test_each_row_is_the_measure_of_the_window_that_ends_there(name: str) -> None:
    rolled, measure = ROLLING[name]
    result = rolled(RETURNS)
    assert result.shape == RETURNS.shape
    assert np.isnan(result[:19]).all()
    for day in range(19, 60):
        for k in range(3):
            expected = measure(RETURNS[:, k], slice(day - 19, day + 1))
            assert result[day, k] == pytest.approx(expected, rel=1e-10)
    np.testing.assert_array_equal(rolled(RETURNS[:, 1]), result[:, 1])


@pytest.mark.parametrize("name", ROLLING)
def test_a_nan_spoils_the_windows_that_hold_it_and_no_other(name: str) -> None:
    rolled, _ = ROLLING[name]
    spoilt = RETURNS.copy()
    spoilt[30, 0] = np.nan
    result, clean = rolled(spoilt), rolled(RETURNS)
    assert np.isnan(result[30:50, 0]).all()
    np.testing.assert_array_equal(result[:30], clean[:30])
    np.testing.assert_array_equal(result[50:], clean[50:])
    np.testing.assert_array_equal(result[:, 1:], clean[:, 1:])


@pytest.mark.parametrize("name", ROLLING)
def test_fewer_days_than_a_window_give_nan(name: str) -> None:
    rolled = {
        "sharpe_ratio": lambda returns: rolling.rolling_sharpe_ratio(returns),
        "volatility": lambda returns: rolling.rolling_volatility(returns),
        "max_drawdown": lambda returns: rolling.rolling_max_drawdown(returns),
        "beta": lambda returns: rolling.rolling_beta(returns, BENCHMARK),
    }[name](RETURNS)
    assert rolled.shape == RETURNS.shape
    assert np.isnan(rolled).all()


def test_a_window_of_one_day_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"window_days must be at least 2, got 1 \(rolling measures\)"):
        rolling.rolling_volatility(RETURNS, 1)
