"""Whatever the price of one asset does, every feature stays within the order of the others."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from rllib_portfolio.config import FeatureConfig, MarketConfig
from rllib_portfolio.market import MarketData, PriceTable, features, prepare_market, read_table
from rllib_portfolio.market.observed import LIMIT
from rllib_portfolio.market.panel import compute_panel
from rllib_portfolio.market.scaling import Scaler
from tests.market.tables import random_table

NUM_DAYS, NUM_ASSETS = 1600, 4
TRAINING = slice(252, 707)
"""Rows that the scaler is fitted on: 60 % of the days, without the warm-up and the purge of 253 days each."""

EVERY_FEATURE = FeatureConfig(
    log_return_days=(1, 5, 21, 252),
    volatility_days=(5, 21, 63, 252),
    moving_average_days=(10, 50, 200),
    long_momentum_days=(63, 252),
    max_return_days=21,
    beta_days=252,
    residual_volatility_days=21,
    custom=("tests.market.custom_features:month_ratio", "tests.market.custom_features:ten_day_position"),
    num_gmm_regimes=2,
)
"""All features of prices that can be configured, with more windows than the default has."""


def factors(event: str, day: int) -> np.ndarray:
    """Return the factor of the price on each day, [T]."""
    daily, level = np.ones(NUM_DAYS), np.ones(NUM_DAYS)
    if event == "collapse in five days":
        daily[day : day + 5] = 0.35, 0.06, 0.02, 0.01, 0.001
    elif event == "collapse in sixty days":
        daily[day : day + 60] = 1e-8 ** (1 / 60)
    elif event == "collapse in a day":
        level[day:] = 1e-9
    elif event == "spike of a day":
        level[day] = 1e3
    elif event == "spike for good":
        level[day:] = 1e3
    elif event == "bad tick":
        level[day] = 1e-6
    return np.cumprod(daily) * level


EVENTS = (
    "collapse in five days",
    "collapse in sixty days",
    "collapse in a day",
    "spike of a day",
    "spike for good",
    "bad tick",
)


def table_with(event: str | None = None, day: int = 0, column: str = "A") -> PriceTable:
    rng = np.random.default_rng(1)
    paths = 100 * np.cumprod(1 + rng.normal(5e-4, 0.03, (NUM_DAYS, NUM_ASSETS)), axis=0)
    dates = pd.date_range("2019-01-01", periods=NUM_DAYS, name="date")
    frame = pd.DataFrame(paths, dates, list("ABCD")).assign(index=paths.mean(axis=1))
    if event is not None:
        frame[column] *= factors(event, day)
    return PriceTable(frame[list("ABCD")], frame["index"], pd.DataFrame(index=dates), "paths")


def market_with(*event: Any, **settings: Any) -> MarketData:
    config = MarketConfig(data="paths", periods_per_year=365, features=EVERY_FEATURE, **settings)
    return prepare_market(table_with(*event), config)


@pytest.fixture(scope="module")
def undisturbed() -> MarketData:
    market = market_with()
    start, stop = market.windows["train"]
    assert slice(start - 2, stop) == TRAINING
    return market


def deviations(values: np.ndarray) -> np.ndarray:
    return np.asarray(values[TRAINING].std(axis=tuple(range(values.ndim - 1))))


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("day", [262, 704])
def test_one_asset_does_not_flatten_the_others_from_within_the_training_window(undisturbed, event, day):
    market = market_with(event, day, "D")
    assert max(np.abs(market.asset_features).max(), np.abs(market.market_features).max()) <= LIMIT
    others = [deviations(each.asset_features[:, :3]) for each in (market, undisturbed)]
    ratios = dict(zip(market.asset_feature_names, others[0] / others[1], strict=True))
    assert len(ratios) == 22
    assert ratios.pop("beta_252") > 1 / 4  # five days of a collapse move a beta by several units for a year
    assert min(ratios.values()) > 1 / 3, ratios
    assert max(ratios.values()) < 2.0, ratios


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("day", [720, 1450])
def test_one_asset_changes_nothing_of_the_others_from_outside_the_training_window(undisturbed, event, day):
    market = market_with(event, day, "D")
    assert market.fitted["scaler"] == undisturbed.fitted["scaler"]
    np.testing.assert_array_equal(market.asset_features[:, :3], undisturbed.asset_features[:, :3])
    assert np.abs(market.asset_features).max() <= LIMIT


def test_macd_stays_within_one_when_its_price_collapses():
    # spans 1, 3, 3 as in the test by hand, prices 1, then 1e-6 for good: the slow average halves each day, the fast one
    # is the price. Row 4: line -1/16, its average -(1/2 + 1/4 ... ) exceeds the price by far
    prices = pd.DataFrame({"A": [1.0, 1e-6, 1e-6, 1e-6, 1e-6], "B": [1.0, 1e6, 1e6, 1e6, 1.0]})
    values = features.macd(prices, (1, 3, 3)).iloc[4]
    assert values.tolist() == [1.0, -1.0]


# ---------------------------------------------------------------- what was right does not move


def test_the_moments_of_the_bundled_universe_are_those_of_all_its_values():
    config = MarketConfig()
    market, panel = prepare_market(read_table(config), config), compute_panel(read_table(config), config.features)
    start, stop = market.windows["train"]
    values = panel.arrays()[0][start - 2 : stop]
    assert market.fitted["scaler"]["asset"]["mean"] == values.mean(axis=(0, 1)).tolist()
    assert market.fitted["scaler"]["asset"]["scale"] == values.std(axis=(0, 1)).tolist()
    assert np.abs(market.asset_features).max() < LIMIT


def test_a_fit_from_before_the_limit_still_gives_its_own_observations():
    table = table_with("collapse in a day", 1450, "D")
    config = MarketConfig(data="paths", features=EVERY_FEATURE, periods_per_year=365)
    market = prepare_market(table, config)
    fitted = {name: value for name, value in market.fitted.items() if name != "feature_limit"}
    old, scaler = prepare_market(table, config, fitted), fitted["scaler"]["asset"]
    plain = old.asset_features[1450, 3, 0] * scaler["scale"][0] + scaler["mean"][0]
    assert plain == pytest.approx(np.log(table.prices["D"].iloc[1450] / table.prices["D"].iloc[1449]), rel=1e-6)
    assert abs(old.asset_features[1450, 3, 0]) > 500.0
    np.testing.assert_array_equal(np.clip(old.asset_features, -LIMIT, LIMIT), market.asset_features)


# ---------------------------------------------------------------- the scaler


def test_outliers_are_left_out_where_they_rule_the_deviation():
    # -1, 0, 1 and 0 a hundred times, and 1000 twice: the median is 0, the median distance from it 1
    values = np.array([-1.0, 0.0, 1.0, 0.0] * 100 + [1000.0, 1000.0])[:, None]
    robust = Scaler.fit(values, [7.5])
    assert (robust.mean[0], robust.scale[0]) == (0.0, pytest.approx(np.sqrt(0.5)))
    assert Scaler.fit(values).scale[0] == values.std()
    assert Scaler.fit(values, [None]).scale[0] == values.std()


def test_outliers_that_hardly_matter_count_like_any_value():
    values = np.array([-1.0, 0.0, 1.0, 0.0] * 100 + [10.0])[:, None]
    assert Scaler.fit(values, [7.5]).scale[0] == values.std()


def test_a_wild_asset_is_no_outlier():
    rng = np.random.default_rng(0)
    values = rng.standard_normal((500, 4, 1)) * np.array([0.01, 0.01, 0.01, 1.0])[:, None]
    measured = Scaler.fit(values, [7.5], np.array([0.01, 0.01, 0.01, 1.0]))
    assert measured == Scaler.fit(values)
    assert Scaler.fit(values, [7.5]).scale[0] < 0.1 * measured.scale[0]


def test_assets_that_stand_still_have_no_outliers():
    prices = table_with().prices * 0 + 5.0
    market = prepare_market(replace(table_with(), prices=prices), MarketConfig(data="paths", periods_per_year=365))
    assert not market.asset_features.any()
    one = replace(random_table(1100), prices=random_table(1100).prices.assign(BBB=5.0))
    assert np.isfinite(prepare_market(one, MarketConfig(data="random")).asset_features).all()
