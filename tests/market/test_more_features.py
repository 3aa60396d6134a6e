"""Features that are off by default: each against an independent computation, by hand, by a loop, or by statsmodels."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm

from rllib_portfolio.config import FeatureConfig, MarketConfig
from rllib_portfolio.errors import ConfigError, DataError
from rllib_portfolio.market import PriceTable, features, prepare_market
from rllib_portfolio.market.index_regression import beta, residual_volatility
from rllib_portfolio.market.liquidity import amihud_illiquidity, log_dollar_volume, volume_features
from rllib_portfolio.market.panel import compute_panel, nominal_window
from tests.market.tables import NONE, SHORT, config, days, random_table

MORE = NONE.model_copy(
    update={
        "long_momentum_days": (7, 19),
        "max_return_days": 5,
        "beta_days": 12,
        "residual_volatility_days": 9,
        "amihud_days": 6,
        "dollar_volume_days": 4,
    }
)


def table_with_volumes(num_days: int = 700, num_assets: int = 3, seed: int = 0) -> PriceTable:
    table = random_table(num_days, num_assets, seed)
    rng = np.random.default_rng(seed + 1)
    volumes = pd.DataFrame(rng.integers(0, 5, table.prices.shape) * 1000.0, table.prices.index, table.prices.columns)
    index = (table.index * np.exp(np.cumsum(rng.normal(0, 0.005, num_days)))).rename("index")
    return replace(table, index=index, asset_extra={"volume": volumes})


def computed(table: PriceTable, which: FeatureConfig = MORE) -> dict[str, pd.DataFrame]:
    of_volumes = volume_features(table.prices, table.asset_extra["volume"], which)
    return features.asset_features(table.prices, which, table.index) | of_volumes


def frame(*values: float) -> pd.DataFrame:
    return pd.DataFrame({"AAA": values}, index=days(len(values)), dtype=float)


def by_hand(table: PriceTable, asset: str, row: int) -> dict[str, float]:
    """The features of an asset at a row, by slow computations that share nothing with the package."""
    p = table.prices[asset].to_list()
    v = table.asset_extra["volume"][asset].to_list()
    index = table.index.to_list()

    def moves(levels: list[float], count: int) -> list[float]:
        return [math.log(levels[t] / levels[t - 1]) for t in range(row - count + 1, row + 1)]

    def market_model(count: int) -> sm.regression.linear_model.RegressionResults:
        return sm.OLS(moves(p, count), sm.add_constant(moves(index, count))).fit()

    traded = [t for t in range(row - 5, row + 1) if v[t] > 0]
    return {
        "long_momentum_7_19": math.log(p[row - 7]) - math.log(p[row - 19]),
        "max_return_5": max(moves(p, 5)),
        "beta_12": market_model(12).params[1],
        "residual_volatility_9": math.sqrt(market_model(9).mse_resid),
        "amihud_6": math.log(sum(abs(math.log(p[t] / p[t - 1])) / (p[t] * v[t]) for t in traded) / len(traded)),
        "dollar_volume_4": math.log(sum(p[t] * v[t] for t in range(row - 3, row + 1)) / 4),
    }


def test_each_feature_agrees_with_an_independent_computation():
    table = table_with_volumes(300)
    found = computed(table)
    for row in (19, 101, 299):
        for asset in table.prices.columns:
            expected = by_hand(table, asset, row)
            assert found.keys() == expected.keys()
            for name, value in expected.items():
                assert found[name][asset].iloc[row] == pytest.approx(value, rel=1e-9, abs=1e-13), name


def test_windows_of_a_year_agree_with_statsmodels_after_a_move_of_a_thousandfold():
    table = table_with_volumes(900)
    table.prices.iloc[400, 1] *= 1000.0
    returns, index = features.log_return(table.prices, 1), features.log_return(table.index, 1)
    slope, residual = beta(returns, index, 252), residual_volatility(returns, index, 252)
    for row in (300, 401, 651, 653, 899):  # row 653 is the first whose window is without the move
        rows = slice(row - 251, row + 1)
        fit = sm.OLS(returns["BBB"].iloc[rows].to_numpy(), sm.add_constant(index.iloc[rows].to_numpy())).fit()
        assert slope["BBB"].iloc[row] == pytest.approx(fit.params[1], rel=1e-9)
        assert residual["BBB"].iloc[row] == pytest.approx(math.sqrt(fit.mse_resid), rel=1e-9)


def test_the_names_of_the_literature_are_features_that_exist():
    # 1-month reversal is the return of 21 days, and nearness to the 52-week high is 1 less the drawdown
    prices = random_table(300).prices
    p = prices["AAA"].to_list()
    assert features.log_return(prices, 21)["AAA"].iloc[-1] == pytest.approx(math.log(p[-1] / p[-22]))
    assert 1 - features.drawdown(prices, 252)["AAA"].iloc[-1] == pytest.approx(p[-1] / max(p[-252:]))


# ---------------------------------------------------------------- worked by hand


def test_beta_and_residual_volatility_of_four_returns():
    # index -1, 0, 0, 1 and asset -1, 1, 1, 3 per cent: beta 2, alpha 1, residuals 0, 0, 0, 0; then the last is 7
    # mean 2, slope (1 * 7 + -1 * -1) / 2 = 4, residuals 1, -1, -1, 1, sqrt(4 / 2)
    index = frame(-0.01, 0.0, 0.0, 0.01)["AAA"]
    exact, noisy = frame(-0.01, 0.01, 0.01, 0.03), frame(-0.01, 0.01, 0.01, 0.07)
    assert beta(exact, index, 4)["AAA"].iloc[-1] == pytest.approx(2.0)
    assert residual_volatility(exact, index, 4)["AAA"].iloc[-1] == 0.0
    assert beta(noisy, index, 4)["AAA"].iloc[-1] == pytest.approx(4.0)
    assert residual_volatility(noisy, index, 4)["AAA"].iloc[-1] == pytest.approx(0.01 * math.sqrt(2.0))
    assert beta(noisy, index, 4)["AAA"].iloc[:3].isna().all()


def test_an_index_that_does_not_move_explains_nothing():
    returns, still = frame(0.01, -0.01, 0.02, 0.02), frame(0, 0, 0, 0)["AAA"]
    # mean 0.01, squares 0, 4, 1, 1 times 1e-4
    assert beta(returns, still, 4)["AAA"].to_list()[3] == 0.0
    assert residual_volatility(returns, still, 4)["AAA"].iloc[3] == pytest.approx(0.01 * math.sqrt(6 / 2))


def test_illiquidity_counts_rows_with_trades():
    prices = frame(*np.exp([0.0, 0.01, -0.01, 0.02, 0.02, 0.02]))  # log returns 0.01, -0.02, 0.03, 0, 0
    dollars = frame(7, 100, 200, 0, 50, 50)
    values = amihud_illiquidity(prices, dollars / prices, 3)["AAA"].to_list()
    # rows 1 to 3: (0.01 / 100 + 0.02 / 200) / 2; rows 2 to 4: (0.02 / 200 + 0 / 50) / 2; rows 3 to 5 did not move
    assert np.isnan(values[:3]).all()
    assert values[3:5] == pytest.approx([math.log(1e-4), math.log(0.5e-4)])
    assert np.isnan(values[5])


def test_dollar_volume_is_undefined_without_trades():
    values = log_dollar_volume(frame(1e6, 5, 4, 3, 2), frame(1e3, 0, 25, 0, 0), 2)["AAA"].to_list()
    assert values[1:4] == pytest.approx([math.log(0.5e9), math.log(50), math.log(50)])
    assert np.isnan([values[0], values[4]]).all()


# ---------------------------------------------------------------- missing values


def test_a_window_with_a_missing_value_is_missing_and_the_next_one_is_not():
    table = table_with_volumes(120)
    table.asset_extra["volume"][:] += 1.0
    whole, gap = computed(table), 60
    prices = table.prices.copy()
    prices.iloc[gap, 1] = np.nan
    windows = {"long_momentum_7_19": 1, "max_return_5": 6, "beta_12": 13, "residual_volatility_9": 10}
    windows |= {"amihud_6": 7, "dollar_volume_4": 4}  # one more row than returns
    for name, values in computed(replace(table, prices=prices)).items():
        first = gap + 7 if name.startswith("long_momentum") else gap
        missing = [first, gap + 19] if name.startswith("long_momentum") else range(gap, gap + windows[name])
        assert np.flatnonzero(values["BBB"].isna())[-len(missing) :].tolist() == list(missing), name
        known = values["BBB"].notna()
        np.testing.assert_allclose(values["BBB"][known], whole[name]["BBB"][known], rtol=1e-9, err_msg=name)
        pd.testing.assert_frame_equal(values[["AAA", "CCC"]], whole[name][["AAA", "CCC"]], check_exact=True)


def test_an_index_may_have_rows_of_its_own_for_each_asset():
    table = table_with_volumes(200)
    repeated = pd.DataFrame(dict.fromkeys(table.prices.columns, table.index))
    for name, values in features.asset_features(table.prices, MORE, repeated).items():
        pd.testing.assert_frame_equal(values, computed(table)[name], check_exact=True)


# ---------------------------------------------------------------- what they need


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"beta_days": 60}, r"features.beta_days must be null for a table without an index, got 60\. Name its file"),
        ({"beta_days": 60, "residual_volatility_days": 21}, "beta_days and residual_volatility_days .* got 60 and 21"),
        (
            {"amihud_days": 21},
            r"features.amihud_days must be null .* without volumes, got 21\. Give each asset a column volume",
        ),
        ({"dollar_volume_days": 21}, "features.dollar_volume_days must be null for a table without volumes, got 21"),
    ],
)
def test_a_feature_without_its_data_is_refused(values, message):
    own = config(features=SHORT.model_copy(update=values))
    with pytest.raises(ConfigError, match=message):
        prepare_market(random_table(700, with_index=False), own)


def test_a_negative_volume_is_refused():
    table = table_with_volumes()
    table.asset_extra["volume"].iloc[5, 1] = -3.0
    with pytest.raises(DataError, match=r"volume must be at least 0, got -3 \(random, BBB, 2010-01-11\)"):
        prepare_market(table, config(features=MORE))


@pytest.mark.parametrize(
    "bad",
    [
        {"long_momentum_days": (20, 20)},
        {"beta_days": 2},
        {"residual_volatility_days": 2},
        {"available_lag": -1},
        {"available_lag": {"sentiment": True}},
    ],
)
def test_windows_that_make_no_sense_are_refused(bad):
    with pytest.raises(ValueError, match="validation error"):
        FeatureConfig(**bad)


# ---------------------------------------------------------------- windows


@pytest.mark.parametrize(
    "values",
    [
        {"long_momentum_days": (10, 80)},
        {"max_return_days": 70},
        {"beta_days": 60},
        {"residual_volatility_days": 61},
        {"amihud_days": 40},
        {"dollar_volume_days": 44},
        {"amihud_days": 40, "available_lag": {"volume": 3}},
        {"dollar_volume_days": 44, "available_lag": 2},
        {"user_columns": True, "available_lag": 31},
    ],
)
def test_the_longest_window_is_known_without_prices(values):
    own = NONE.model_copy(update=values)
    table = table_with_volumes(400)
    table.asset_extra["volume"][:] += 1.0  # never 0, so that each window has a value
    panel = compute_panel(table, own)
    assert nominal_window(own, has_index=True) == panel.longest_window == panel.first_row


def test_the_default_features_are_those_of_before():
    names = features.asset_features(random_table(300).prices, MarketConfig().features)
    assert list(names) == [
        *("log_return_1", "log_return_5", "log_return_21", "momentum_126", "momentum_252", "volatility_21"),
        *("volatility_63", "drawdown_252", "rsi_14", "moving_average_50", "moving_average_200", "macd_12_26_9"),
    ]
