"""Features that are off by default in a changing universe: those of the quotes of each asset alone, and causal."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from rllib_portfolio.audit.differences import differences
from rllib_portfolio.config import FeatureConfig
from rllib_portfolio.market import PriceTable
from rllib_portfolio.market.features import asset_features
from rllib_portfolio.market.liquidity import volume_features
from tests.market.tables import NONE, SHORT
from tests.market.test_more_features import MORE
from tests.market.test_universe_features import NAMES, feature, prepared, universe_table, with_another_future

ALL = SHORT.model_copy(update={name: value for name, value in MORE if value != getattr(NONE, name)})
LATE = ALL.model_copy(update={"available_lag": {"volume": 2, "mood": 1}})


def table_with_volumes() -> PriceTable:
    """The universe of five assets, with an index, moods, and volumes of which some are 0 and some are missing."""
    table, rng = universe_table(with_index=True), np.random.default_rng(7)
    volumes = pd.DataFrame(rng.integers(0, 6, table.prices.shape) * 100.0, table.prices.index, NAMES)
    volumes = volumes.where(rng.random(volumes.shape) > 0.02)
    index = table.prices["AAA"].rename("index") ** 0.5
    return replace(table, index=index, asset_extra={**table.asset_extra, "volume": volumes})


@pytest.fixture(scope="module")
def table() -> PriceTable:
    return table_with_volumes()


@pytest.mark.parametrize("features", [ALL, LATE], ids=["known at the close", "known later"])
def test_features_are_those_of_a_table_with_the_quotes_of_one_asset(table: PriceTable, features: FeatureConfig) -> None:
    raw = prepared(table, features=features, observation_filter="none")
    shown = raw.universe.tradable.copy()
    shown[: raw.first_row] = False
    for column, name in enumerate(NAMES):
        prices = table.prices[[name]].dropna()
        volumes = table.asset_extra["volume"].loc[prices.index, [name]]
        alone = asset_features(prices, features, table.index[prices.index])
        for feature_name, values in (alone | volume_features(prices, volumes, features)).items():
            expected = values[name].reindex(table.prices.index).to_numpy()
            is_known = shown[:, column] & ~np.isnan(expected)
            np.testing.assert_allclose(
                feature(raw, feature_name)[:, column],
                np.where(is_known, expected, 0.0),
                rtol=1e-5,
                atol=1e-9,
                err_msg=f"{feature_name} of {name}",
            )
            if feature_name in raw.fitted["flagged_features"]:
                np.testing.assert_array_equal(feature(raw, f"{feature_name}_known")[:, column], is_known)
    assert raw.fitted["flagged_features"] == ["amihud_6", "dollar_volume_4", "user_mood", "user_volume"]


def test_features_of_volume_do_not_decide_who_is_a_member(table: PriceTable) -> None:
    never = table.asset_extra["volume"].assign(BBB=np.nan)
    market = prepared(replace(table, asset_extra={"volume": never}), features=ALL)
    assert market.universe.member[:, 1].argmax() == 180  # 30 rows after its first price, as without volumes
    assert not feature(market, "amihud_6")[:, 1].any()


@pytest.mark.parametrize("cross_section", ["values", "ranks"])
@pytest.mark.parametrize("features", [ALL, LATE], ids=["known at the close", "known later"])
def test_rows_up_to_t_ignore_later_prices_volumes_and_lives(
    table: PriceTable, features: FeatureConfig, cross_section: str
) -> None:
    features = features.model_copy(update={"cross_section": cross_section})
    market, rng = prepared(table, features=features), np.random.default_rng(5)
    for seed, row in enumerate((market.windows["train"][1], 550)):
        other = with_another_future(table, row, seed)
        volumes = table.asset_extra["volume"].copy()
        volumes.iloc[row + 1 :] = rng.integers(0, 3, volumes.iloc[row + 1 :].shape) * 7.0
        other = replace(other, asset_extra={**other.asset_extra, "volume": volumes})
        scrambled = prepared(other, features=features)
        assert scrambled.fitted == market.fitted
        assert differences(market, scrambled, row) == []
        assert {each.array for each in differences(market, scrambled, row + 5)} >= {"returns", "asset_features"}


def test_rows_in_training_ignore_what_comes_later_when_the_fit_is_frozen(table: PriceTable) -> None:
    market = prepared(table, features=ALL)
    row = 303
    assert market.windows["train"][0] <= row < market.windows["train"][1]
    other = with_another_future(table, row, 3)
    volumes = table.asset_extra["volume"].copy()
    volumes.iloc[row + 1 :] = 1e9
    other = replace(other, asset_extra={**other.asset_extra, "volume": volumes})
    assert differences(market, prepared(other, market.fitted, features=ALL), row) == []


def test_assets_that_are_never_listed_change_nothing(table: PriceTable) -> None:
    padded = {name: frame.assign(FFF=np.nan) for name, frame in table.asset_extra.items()}
    other = replace(
        table,
        prices=table.prices.assign(FFF=np.nan),
        membership=table.membership.assign(FFF=True),
        asset_extra=padded,
    )
    market, with_padding = (prepared(each, features=ALL) for each in (table, other))
    np.testing.assert_array_equal(with_padding.asset_features[:, :5], market.asset_features)
    assert not with_padding.asset_features[:, 5].any()
