"""Tests that no feature sees the future: if every price after t is replaced, all values up to t are bit-identical."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rllib_portfolio.audit.differences import differences, scrambled
from rllib_portfolio.config import MarketConfig
from rllib_portfolio.errors import DataError
from rllib_portfolio.market import MarketData, leaked, prepare_market, read_table
from tests.market.tables import SHORT, config, random_table

CUSTOM = ("tests.market.custom_features:ten_day_position", "tests.market.custom_features:breadth")


def changed(one: MarketData, other: MarketData, row: int) -> set[str]:
    """Names of the arrays that differ up to `row`; cash returns are known one day ahead."""
    return {difference.array for difference in differences(one, other, row)}


@pytest.fixture(scope="module")
def table():
    table = random_table(1200)
    rate = table.prices[["AAA"]].rename(columns={"AAA": "rate"}) * 0 + 0.02
    return replace(table, extra=rate.assign(VIX=np.linspace(10, 30, len(rate))))


@pytest.fixture(scope="module")
def settings_with_everything():
    return config(features=SHORT.model_copy(update={"index": True, "custom": CUSTOM}))


@pytest.fixture(scope="module")
def market(table, settings_with_everything):
    return prepare_market(table, settings_with_everything)


@pytest.mark.parametrize("rows_after_training", [-1, 0, 40, 300])
@pytest.mark.parametrize("with_index", [True, False])
def test_rows_up_to_t_ignore_later_prices_when_all_is_fitted_anew(
    table, market, settings_with_everything, rows_after_training, with_index
):
    if not with_index:
        table = replace(table, index=None)
        market = prepare_market(table, settings_with_everything)
    row = market.windows["train"][1] + rows_after_training
    other = prepare_market(scrambled(table, row), settings_with_everything)
    assert changed(market, other, row) == set()
    assert other.fitted == market.fitted
    assert changed(market, other, row + 1) >= {"returns", "asset_features", "market_features"}


@pytest.mark.parametrize("row", [260, 350, 466])  # training spans rows 254 to 466
def test_rows_inside_training_ignore_later_prices_when_the_fit_is_frozen(table, market, settings_with_everything, row):
    assert market.windows["train"][0] <= row < market.windows["train"][1]
    other = prepare_market(scrambled(table, row), settings_with_everything, market.fitted)
    assert changed(market, other, row) == set()


def test_ranks_ignore_later_prices(table, settings_with_everything):
    ranked = settings_with_everything.features.model_copy(update={"cross_section": "ranks"})
    settings = settings_with_everything.model_copy(update={"features": ranked})
    market = prepare_market(table, settings)
    row = market.windows["train"][1] - 1
    other = prepare_market(scrambled(table, row), settings)
    assert changed(market, other, row) == set()
    assert changed(market, other, row + 1) >= {"asset_features"}


def test_the_bundled_universe_with_default_features_is_causal():
    table, default = read_table(MarketConfig()), MarketConfig()
    market = prepare_market(table, default)
    row = market.windows["train"][1] - 1
    assert changed(market, prepare_market(scrambled(table, row), default), row) == set()
    row = 2000
    assert changed(market, prepare_market(scrambled(table, row), default, market.fitted), row) == set()


def test_appended_rows_change_nothing_before_them(table, market, settings_with_everything):
    cut = replace(table, prices=table.prices[:1000], index=table.index[:1000], extra=table.extra[:1000])
    assert changed(prepare_market(cut, settings_with_everything, market.fitted), market, 998) == set()


# ---------------------------------------------------------------- the test can fail


def test_a_leak_is_caught(table, market, settings_with_everything):
    row = market.windows["validation"][0]
    other = prepare_market(scrambled(table, row), settings_with_everything)
    assert changed(leaked(market), leaked(other), row) == {"asset_features"}


def test_a_fit_on_later_rows_is_caught(table, market, settings_with_everything):
    row = market.windows["train"][1] - 20
    other = prepare_market(scrambled(table, row), settings_with_everything)
    assert {"asset_features", "market_features"} <= changed(market, other, row)


@pytest.mark.parametrize("name", ["tomorrow", "demeaned"])
def test_a_custom_feature_that_reads_the_future_is_refused(table, name):
    features = SHORT.model_copy(update={"custom": (f"tests.market.custom_features:{name}",)})
    with pytest.raises(DataError, match=f"{name} must depend on prices up to its own day only.*20..-..-.."):
        prepare_market(table, config(features=features))
