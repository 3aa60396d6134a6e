"""The user's own columns, of the market and per asset: their names, their lags, and what reports say about them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from rllib_portfolio.audit.differences import differences, scrambled
from rllib_portfolio.config import MarketConfig
from rllib_portfolio.errors import ConfigError
from rllib_portfolio.market import MarketData, PriceTable, prepare_market
from tests.market.tables import NONE, SHORT, config, random_table
from tests.market.test_more_features import MORE


def user_table(num_days: int = 700) -> PriceTable:
    table = random_table(num_days)
    rng = np.random.default_rng(3)

    def frame(values: np.ndarray) -> pd.DataFrame:
        return pd.DataFrame(values, table.prices.index, table.prices.columns)

    shape = table.prices.shape
    extra = pd.DataFrame({"VIX": rng.uniform(10, 30, num_days)}, table.prices.index)
    asset_extra = {"sentiment": frame(rng.normal(size=shape)), "volume": frame(rng.uniform(1e3, 1e5, shape))}
    return replace(table, extra=extra, asset_extra=asset_extra)


def raw(table: PriceTable, **values: Any) -> MarketData:
    """The market with user columns and nothing else, not standardised."""
    features = NONE.model_copy(update={"user_columns": True, **values})
    return prepare_market(table, config(features=features, observation_filter="none"))


def asset_feature(market: MarketData, name: str) -> np.ndarray:
    return market.asset_features[..., market.asset_feature_names.index(name)]


def market_feature(market: MarketData, name: str) -> np.ndarray:
    return market.market_features[:, market.market_feature_names.index(name)]


def test_columns_per_asset_are_features_of_their_assets():
    table = user_table()
    market = raw(table)
    assert market.asset_feature_names == ("user_sentiment", "user_volume")
    assert market.market_feature_names == ("user_VIX",)
    for name in ("sentiment", "volume"):
        expected = table.asset_extra[name].to_numpy()[21:].astype(np.float32)
        np.testing.assert_array_equal(asset_feature(market, f"user_{name}")[21:], expected)


def test_columns_per_asset_are_standardised_by_the_training_window():
    market = prepare_market(user_table(), config())
    start, stop = market.windows["train"]
    values = asset_feature(market, "user_sentiment")[start - 2 : stop]
    assert values.mean() == pytest.approx(0.0, abs=1e-5)
    assert values.std() == pytest.approx(1.0, abs=1e-5)


def test_columns_per_asset_are_ranked_like_other_features():
    table = user_table()
    ranks = asset_feature(raw(table, cross_section="ranks"), "user_sentiment_rank")[21:]
    expected = table.asset_extra["sentiment"].rank(axis=1).to_numpy()[21:] - 2.0  # 1, 2, 3 become -1, 0, 1
    np.testing.assert_array_equal(ranks, expected)


def test_user_columns_can_be_switched_off():
    market = raw(user_table(), user_columns=False)
    assert market.asset_feature_names == market.market_feature_names == ()
    assert not any("User columns" in note for note in market.notes)


# ---------------------------------------------------------------- lags


@pytest.mark.parametrize(("lags", "expected"), [(4, (4, 4)), ({"sentiment": 2}, (2, 0)), ({"VIX": 3}, (0, 3))])
def test_a_value_is_used_when_it_is_available(lags, expected):
    table = user_table()
    market, (late, vix) = raw(table, available_lag=lags), expected
    sentiment = table.asset_extra["sentiment"].to_numpy(dtype=np.float32)
    np.testing.assert_array_equal(asset_feature(market, "user_sentiment")[100], sentiment[100 - late])
    np.testing.assert_array_equal(
        market_feature(market, "user_VIX")[100], np.float32(table.extra["VIX"].iloc[100 - vix])
    )


def test_a_lag_beyond_every_window_moves_the_first_row_and_widens_the_purge():
    market = raw(user_table(), available_lag={"sentiment": 30})
    assert market.first_row == 30
    assert market.fitted["purge_days"] == 31


def test_features_of_volumes_wait_for_the_volume():
    table = user_table()
    features = {"amihud_days": 5, "dollar_volume_days": 5, "user_columns": False}
    now, later = (raw(table, **features, available_lag=lag) for lag in (0, {"volume": 3}))
    assert now.asset_feature_names == ("amihud_5", "dollar_volume_5")
    np.testing.assert_array_equal(later.asset_features[30:], now.asset_features[27:-3])


@pytest.mark.parametrize("user_columns", [True, False])
def test_a_lag_of_an_unknown_column_is_refused(user_columns):
    message = r"available_lag must name columns .* got sentimnt \(random\)\. Its columns are: VIX, sentiment, volume\."
    with pytest.raises(ConfigError, match=message):
        raw(user_table(), available_lag={"sentimnt": 1}, user_columns=user_columns)


# ---------------------------------------------------------------- what reports say


def test_reports_name_the_columns_and_their_lags():
    notes = raw(user_table(), available_lag={"sentiment": 2}).notes
    columns = "VIX, sentiment per asset, 2 rows late, volume per asset"
    assert (
        f"User columns are read as features ({columns}); it cannot be proven that they were known on their dates."
        in notes
    )


# ---------------------------------------------------------------- causality


def with_everything(**values: Any) -> MarketConfig:
    switched_on = {name: value for name, value in MORE if value != getattr(NONE, name)}
    return config(features=SHORT.model_copy(update={**switched_on, "index": True, **values}))


@pytest.mark.parametrize("cross_section", ["values", "ranks"])
@pytest.mark.parametrize("lag", [0, 2])
def test_no_feature_sees_later_prices_volumes_or_user_columns(cross_section, lag):
    table, settings = user_table(1200), with_everything(cross_section=cross_section, available_lag=lag)
    market = prepare_market(table, settings)
    row = market.windows["train"][1] - 1
    other = prepare_market(scrambled(table, row), settings)
    assert differences(market, other, row) == []
    assert other.fitted == market.fitted
    assert {difference.array for difference in differences(market, other, row + 1)} >= {"returns", "asset_features"}


def test_the_scramble_reaches_columns_per_asset():
    table = user_table()
    other = scrambled(table, 500)
    for name, values in table.asset_extra.items():
        pd.testing.assert_frame_equal(other.asset_extra[name][:501], values[:501])
        assert (other.asset_extra[name][501:] != values[501:]).all(axis=None)
    leaked = replace(table, asset_extra={"sentiment": table.asset_extra["sentiment"].shift(-1).fillna(0.0)})
    after = replace(table, asset_extra={"sentiment": other.asset_extra["sentiment"].shift(-1).fillna(0.0)})
    assert differences(raw(leaked), raw(after), 500) != []
