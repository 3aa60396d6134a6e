from __future__ import annotations

import itertools
import math
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rllib_portfolio.config import FeatureConfig
from rllib_portfolio.market import features
from tests.market.tables import SHORT, days, random_prices


def column(*values: float) -> pd.DataFrame:
    return pd.DataFrame({"AAA": values}, index=days(len(values)), dtype=float)


def last(values: pd.DataFrame) -> float:
    return float(values.iloc[-1, 0])


# ---------------------------------------------------------------- worked by hand


def test_log_return_spans_its_horizon():
    # log(121 / 100) over two days
    assert last(features.log_return(column(100, 110, 121), 2)) == pytest.approx(math.log(1.21))


def test_momentum_leaves_out_the_last_21_days():
    # 30 closes 1 ... 30: p_{t-21} = 9, p_{t-25} = 5
    assert last(features.momentum(column(*range(1, 31)), 25)) == pytest.approx(math.log(9 / 5))


def test_volatility_is_the_sample_deviation_of_log_returns():
    # log returns 0.1, 0.3, -0.1: mean 0.1, squares 0, 0.04, 0.04, variance 0.08 / 2
    prices = column(*np.exp(np.cumsum([0.0, 0.1, 0.3, -0.1])))
    assert last(features.volatility(prices, 3)) == pytest.approx(0.2)


def test_drawdown_is_measured_from_the_highest_close_of_the_window():
    # window of three: max(120, 80, 90) = 120, 1 - 90 / 120; the 200 before it is forgotten
    assert last(features.drawdown(column(200, 120, 80, 90), 3)) == pytest.approx(0.25)
    assert last(features.drawdown(column(1, 2, 3), 3)) == 0.0


def test_rsi_follows_wilder():
    # changes +2, -1, +3, -2; two days: seed G = (2 + 0) / 2 = 1, L = (0 + 1) / 2 = 0.5
    # then G = 1 + (3 - 1) / 2 = 2, L = 0.25; then G = 1, L = 0.25 + (2 - 0.25) / 2 = 1.125
    values = features.rsi(column(10, 12, 11, 14, 12), 2)["AAA"].to_list()
    assert np.isnan(values[:2]).all()
    assert values[2:] == pytest.approx([0.5 / 1.5, 1.75 / 2.25, -0.125 / 2.125])


def test_rsi_is_bounded_and_zero_when_nothing_moves():
    assert last(features.rsi(column(1, 2, 3, 4), 2)) == 1.0
    assert last(features.rsi(column(4, 3, 2, 1), 2)) == -1.0
    assert last(features.rsi(column(5, 5, 5, 5), 2)) == 0.0


def test_macd_is_the_histogram_over_the_price():
    # spans 1, 3, 3: alpha 1, 1/2, 1/2. Fast = price; slow of 8, 12, 16: 8, 10, 13; line 0, 2, 3
    # signal 0, 1, 2; histogram 0, 1, 1; over 16
    values = features.macd(column(8, 12, 16, 16, 16), (1, 3, 3))["AAA"]
    # slow, line, signal go on: slow 14.5, 15.25; line 1.5, 0.75; signal 1.75, 1.25; histogram -0.25, -0.5
    assert np.isnan(values.iloc[:4]).all()  # 3 + 3 - 2 rows of warm-up
    assert values.iloc[4] == pytest.approx(-0.5 / 16)


def test_moving_average_distance_is_a_log_ratio():
    # mean of 2, 4, 6 is 4
    assert last(features.moving_average_distance(column(2, 4, 6), 3)) == pytest.approx(math.log(1.5))


def test_trailing_volatility_skips_the_row_without_a_return():
    returns = np.array([[0.0], [0.1], [0.3], [0.2]])
    # row 2: 0.1, 0.3 -> sqrt(0.02); row 3: 0.1, 0.3, 0.2 -> 0.1
    np.testing.assert_allclose(features.trailing_volatility(returns)[:, 0], [0, 0, math.sqrt(0.02), 0.1])


def test_ranks_run_from_minus_one_to_one_among_the_assets_of_a_row():
    # five assets: ranks 1 to 5 become -1, -0.5, 0, 0.5, 1; the tie shares ranks 2 and 3, 2.5 -> -0.25
    values = np.array([[3.0, -7.0, 100.0, 4.0, 0.0], [1.0, 1.0, 0.0, 5.0, 9.0], [1.0, np.nan, 0.0, 5.0, 9.0]])
    ranks = features.cross_sectional_ranks(values)
    np.testing.assert_allclose(ranks[:2], [[0.0, -1.0, 1.0, 0.5, -0.5], [-0.25, -0.25, -1.0, 0.5, 1.0]], atol=1e-15)
    assert np.isnan(ranks[2]).all()
    assert (features.cross_sectional_ranks(values[:1, :1]) == 0.0).all()


# ---------------------------------------------------------------- against slow loops


def loop_rsi(p: list[float], n: int) -> float:
    gains = [max(b - a, 0.0) for a, b in itertools.pairwise(p)]
    losses = [max(a - b, 0.0) for a, b in itertools.pairwise(p)]
    gain, loss = sum(gains[:n]) / n, sum(losses[:n]) / n
    for up, down in zip(gains[n:], losses[n:], strict=True):
        gain, loss = (gain * (n - 1) + up) / n, (loss * (n - 1) + down) / n
    return 2 * (100 - 100 / (1 + gain / loss)) / 100 - 1  # the textbook form, scaled


def loop_ema(values: list[float], span: int) -> list[float]:
    average = [values[0]]
    for value in values[1:]:
        average.append(average[-1] + 2 / (span + 1) * (value - average[-1]))
    return average


def loop_macd(p: list[float], fast: int, slow: int, signal: int) -> float:
    line = [a - b for a, b in zip(loop_ema(p, fast), loop_ema(p, slow), strict=True)]
    return (line[-1] - loop_ema(line, signal)[-1]) / p[-1]


def loop_volatility(p: list[float], n: int) -> float:
    returns = [math.log(p[i] / p[i - 1]) for i in range(len(p) - n, len(p))]
    mean = sum(returns) / n
    return math.sqrt(sum((r - mean) ** 2 for r in returns) / (n - 1))


LOOPS = {
    "log_return": lambda p, n: math.log(p[-1] / p[-1 - n]),
    "momentum": lambda p, n: math.log(p[-22] / p[-1 - n]),
    "volatility": loop_volatility,
    "drawdown": lambda p, n: 1 - p[-1] / max(p[-n:]),
    "rsi": loop_rsi,
    "macd": loop_macd,
    "moving_average": lambda p, n: math.log(p[-1] / (sum(p[-n:]) / n)),
}
OTHER = FeatureConfig(
    log_return_days=(2, 3),
    momentum_days=(25,),
    volatility_days=(15, 2),
    drawdown_days=8,
    rsi_days=11,
    macd_days=(4, 9, 6),
    moving_average_days=(5,),
)
WINDOWS = {
    "short": (
        SHORT,
        {"log_return_1", "log_return_5", "momentum_30", "volatility_10", "drawdown_20", "rsi_7", "macd_3_6_4"}
        | {"moving_average_10"},
    ),
    "other": (
        OTHER,
        {"log_return_2", "log_return_3", "momentum_25", "volatility_15", "volatility_2", "drawdown_8", "rsi_11"}
        | {"macd_4_9_6", "moving_average_5"},
    ),
}


@pytest.mark.parametrize("windows", WINDOWS)
def test_each_feature_agrees_with_a_loop(windows):
    prices, (config, names) = random_prices(80), WINDOWS[windows]
    found = features.asset_features(prices, config)
    assert set(found) == names
    assert {re.sub(r"[_\d]+$", "", name) for name in found} == set(LOOPS)
    for name, values in found.items():
        kind, numbers = re.fullmatch(r"([a-z_]+?)((?:_\d+)+)", name).groups()
        for row, asset in itertools.product((31, 50, 79), prices.columns):
            expected = LOOPS[kind](prices[asset].iloc[: row + 1].to_list(), *map(int, numbers[1:].split("_")))
            assert values[asset].iloc[row] == pytest.approx(expected, rel=1e-9, abs=1e-12), name


def test_index_features_are_volatility_and_trend():
    index = random_prices(300)["AAA"]
    values = features.index_features(index)
    p = index.to_list()
    assert values["index_volatility_21"].iloc[-1] == pytest.approx(loop_volatility(p, 21))
    assert values["index_volatility_63"].iloc[-1] == pytest.approx(loop_volatility(p, 63))
    assert values["index_trend_21"].iloc[-1] == pytest.approx(math.log(p[-1] / p[-22]))
    assert values["index_trend_252"].iloc[-1] == pytest.approx(math.log(p[-1] / p[-253]))


# ---------------------------------------------------------------- properties


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), scale=st.floats(1e-3, 1e3))
def test_features_do_not_depend_on_the_unit_of_prices(seed, scale):
    prices = random_prices(60, seed=seed)
    for name, values in features.asset_features(prices, SHORT).items():
        other = features.asset_features(prices * scale, SHORT)[name]
        np.testing.assert_allclose(other, values, rtol=1e-7, atol=1e-9, err_msg=name)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), order=st.permutations(["AAA", "BBB", "CCC"]))
def test_features_follow_a_permutation_of_the_assets(seed, order):
    prices = random_prices(60, seed=seed)
    permuted = features.asset_features(prices[order], SHORT)
    for name, values in features.asset_features(prices, SHORT).items():
        pd.testing.assert_frame_equal(permuted[name], values[order], check_exact=True)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), cut=st.integers(35, 59))
def test_features_of_a_prefix_are_a_prefix_of_the_features(seed, cut):
    prices = random_prices(60, seed=seed)
    for name, values in features.asset_features(prices, SHORT).items():
        prefix = features.asset_features(prices.iloc[:cut], SHORT)[name]
        pd.testing.assert_frame_equal(prefix, values.iloc[:cut], check_exact=True, check_freq=False)
