"""Features of a changing universe: those of the quotes of each asset alone, compared among those that can be bought."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import rankdata

from rllib_portfolio.audit.differences import differences
from rllib_portfolio.errors import DataError
from rllib_portfolio.market import MarketData, PriceTable, prepare_market
from rllib_portfolio.market.features import asset_features
from rllib_portfolio.market.table import Exit
from rllib_portfolio.market.universe import TRADABLE
from tests.market.tables import SHORT, config, random_table

NUM_DAYS = 700
NAMES = ["AAA", "BBB", "CCC", "DDD", "EEE"]
RANKS = SHORT.model_copy(update={"cross_section": "ranks"})


def universe_table(seed: int = 0, *, with_index: bool = False) -> PriceTable:
    """Five assets: AAA is complete, BBB lists late, CCC leaves, DDD is halted three times, EEE loses membership.

    Each has a mood, which is missing on a third of the days.
    """
    table = random_table(NUM_DAYS, 5, seed, with_index)
    rng = np.random.default_rng(seed)
    mood = pd.DataFrame(rng.normal(size=table.prices.shape), table.prices.index, NAMES)
    prices = table.prices.copy()
    prices.iloc[:150, 1] = np.nan
    prices.iloc[500:, 2] = np.nan
    for start in (100, 300, 650):
        prices.iloc[start : start + 7, 3] = np.nan
    member = pd.DataFrame(True, prices.index, NAMES)
    member.iloc[250:350, 4] = False
    return replace(
        table,
        prices=prices,
        asset_extra={"mood": mood.where(rng.random(mood.shape) > 1 / 3)},
        membership=member,
        exits={"CCC": Exit(prices.index[500], -0.5, "merger")},
    )


def prepared(table: PriceTable, fitted: dict[str, object] | None = None, **values: object) -> MarketData:
    return prepare_market(table, config(**{"gaps": "halt", **values}), fitted)


@pytest.fixture(scope="module")
def table() -> PriceTable:
    return universe_table()


@pytest.fixture(scope="module")
def market(table) -> MarketData:
    return prepared(table)


def feature(market: MarketData, name: str) -> np.ndarray:
    return market.asset_features[..., market.asset_feature_names.index(name)]


# ---------------------------------------------------------------- values


def test_features_are_those_of_a_table_with_the_quotes_of_one_asset(table):
    raw = prepared(table, observation_filter="none")
    shown = raw.universe.tradable.copy()
    shown[: raw.first_row] = False
    for column, name in enumerate(NAMES):
        alone = asset_features(table.prices[[name]].dropna(), SHORT)
        for feature_name, values in alone.items():
            expected = values[name].reindex(table.prices.index).to_numpy()
            np.testing.assert_array_equal(
                feature(raw, feature_name)[:, column],
                np.where(shown[:, column], expected, 0.0).astype(np.float32),
                err_msg=f"{feature_name} of {name}",
            )
    assert raw.asset_feature_names == (*alone, "user_mood", "user_mood_known", TRADABLE)


def test_the_last_feature_is_tradable_and_all_are_0_without_it(market):
    assert market.asset_feature_names[-1] == TRADABLE
    expected = market.universe.tradable.copy()
    expected[: market.first_row] = False
    np.testing.assert_array_equal(feature(market, TRADABLE), expected)
    assert not market.asset_features[~expected].any()
    assert market.asset_features[expected].any(axis=0).all()
    assert np.isfinite(market.asset_features).all()


def test_an_asset_is_a_member_once_all_its_features_are_defined(market):
    member = market.universe.member
    assert member.argmax(axis=0).tolist() == [30, 180, 30, 30, 30]
    assert not member[250:350, 4].any()
    assert member[350:, 4].all()
    assert member[30:250, 4].all()
    assert not member[500:, 2].any()
    assert member[300:307, 3].all()  # a halt is no loss of membership


def test_with_a_shorter_history_what_is_missing_is_0_and_flagged(table):
    market = prepared(table, min_history_days=10, observation_filter="none")
    assert market.universe.member.argmax(axis=0).tolist() == [10, 160, 10, 10, 10]
    assert market.first_row == 21  # the regimes of the market need the returns of a month
    known = feature(market, "momentum_30_known")
    assert known[160:200, 1].tolist() == [0.0] * 20 + [1.0] * 20
    assert not feature(market, "momentum_30")[160:180, 1].any()
    assert feature(market, "momentum_30")[180:200, 1].all()
    assert "log_return_1_known" not in market.asset_feature_names
    assert market.fitted["min_history_days"] == 10


def test_a_missing_value_of_the_user_is_0_and_flagged(table, market):
    tradable = feature(market, TRADABLE) > 0.0
    known = tradable & table.asset_extra["mood"].notna().to_numpy()
    np.testing.assert_array_equal(feature(market, "user_mood_known"), known)
    assert not feature(market, "user_mood")[~known].any()
    assert market.fitted["flagged_features"] == ["user_mood"]


def test_a_column_of_the_user_without_gaps_has_no_flag(table):
    whole = {"mood": table.asset_extra["mood"].fillna(0.5)}
    assert "user_mood_known" not in prepared(replace(table, asset_extra=whole)).asset_feature_names


def test_columns_per_asset_of_a_complete_table_are_flagged_too():
    table = random_table(NUM_DAYS)
    mood = table.prices.pct_change().where(np.random.default_rng(0).random(table.prices.shape) > 0.3)
    market = prepare_market(replace(table, asset_extra={"mood": mood}), config())
    plain = prepare_market(table, config())
    assert market.universe is None
    assert market.asset_feature_names == (*plain.asset_feature_names, "user_mood", "user_mood_known")
    np.testing.assert_allclose(market.asset_features[..., :-2], plain.asset_features, atol=1e-6)
    assert market.first_row == plain.first_row
    off = config(features=SHORT.model_copy(update={"user_columns": False}))
    unused = prepare_market(replace(table, asset_extra={"mood": mood}), off)
    np.testing.assert_array_equal(unused.asset_features, plain.asset_features)


def test_features_are_standardised_over_what_can_be_bought_in_the_training_window(table, market):
    start, stop = market.windows["train"]
    rows = slice(start - 2, stop)
    active = market.universe.tradable[rows]
    for name in market.asset_feature_names[:-3]:
        values = feature(market, name)[rows][active]
        assert (values.mean(), values.std()) == pytest.approx((0.0, 1.0), abs=1e-5), name
    known = feature(market, "user_mood_known")[rows] > 0.0
    values = feature(market, "user_mood")[rows][known]
    assert (values.mean(), values.std()) == pytest.approx((0.0, 1.0), abs=1e-5)


def test_a_column_without_a_value_in_the_training_window_is_refused(table, market):
    late = table.asset_extra["mood"].copy()
    late.iloc[: market.windows["train"][1]] = np.nan
    with pytest.raises(DataError, match=r"user_mood must have a value of an asset that can be bought in the training"):
        prepared(replace(table, asset_extra={"mood": late}))


def test_ranks_are_among_the_assets_that_can_be_bought_and_have_a_value(table):
    raw, ranked = (prepared(table, features=each, observation_filter="none") for each in (SHORT, RANKS))
    assert ranked.asset_feature_names[0] == "log_return_1_rank"
    for name in ("momentum_30", "user_mood"):
        values, ranks = feature(raw, name), feature(ranked, f"{name}_rank")
        known = raw.universe.tradable.copy()
        if name == "user_mood":
            known &= table.asset_extra["mood"].notna().to_numpy()
        for row in range(raw.first_row, NUM_DAYS):
            expected = np.zeros(5)
            count = known[row].sum()
            if count > 1:
                expected[known[row]] = (2.0 * rankdata(values[row][known[row]]) - count - 1.0) / (count - 1.0)
            np.testing.assert_allclose(ranks[row], expected, atol=1e-6, err_msg=f"{name}, row {row}")


def test_without_an_index_the_market_is_the_mean_of_the_assets_with_a_return(table):
    bare = replace(table, asset_extra={}, membership=None)
    one, other = prepared(bare), prepared(replace(bare, index=_equal_weight_index(bare.prices)))
    np.testing.assert_allclose(one.market_features, other.market_features, atol=1e-4)
    assert one.market_features[one.first_row :].std(axis=0).min() > 0.1


def _equal_weight_index(prices: pd.DataFrame) -> pd.Series:
    quotes = [prices[name].dropna().pct_change() for name in prices]
    mean = pd.concat(quotes, axis=1).mean(axis=1).fillna(0.0)
    return (1.0 + mean).cumprod().rename("index")


def test_custom_features_see_the_last_price_in_a_halt(table):
    custom = SHORT.model_copy(update={"custom": ("tests.market.custom_features:ten_day_position",)})
    market = prepared(table, features=custom, observation_filter="none")
    values = feature(market, "tests.market.custom_features:ten_day_position")
    assert values[307:312, 3].all()
    assert (feature(market, TRADABLE) > 0.0).sum() > 2000


def test_dollar_volume_is_the_mean_over_the_last_quotes(table):
    shares = pd.DataFrame(100.0, table.prices.index, NAMES)
    market = prepared(replace(table, asset_extra={"volume": shares}))
    for column, name in enumerate(NAMES):
        quotes = 100.0 * table.prices[name].dropna()
        expected = quotes.rolling(21, min_periods=1).mean().reindex(table.prices.index).fillna(0.0)
        np.testing.assert_allclose(market.dollar_volume[:, column], expected)
    assert prepared(table).dollar_volume is None


# ---------------------------------------------------------------- nothing of a later row


def with_another_future(table: PriceTable, after: int, seed: int) -> PriceTable:
    """The table with other prices, listings, ends, halts, members and moods after a row."""
    rng = np.random.default_rng(seed)
    later = slice(after + 1, None)
    num_later = len(table.prices) - after - 1
    prices, member = table.prices.copy(), table.membership.copy()
    prices.iloc[later] = np.exp(rng.normal(3.0, 0.5, (num_later, 5)))
    prices.iloc[later] = prices.iloc[later].where(rng.random((num_later, 5)) > 0.1)
    member.iloc[later] = rng.random((num_later, 5)) > 0.3
    mood = table.asset_extra["mood"].copy()
    mood.iloc[later] = rng.normal(size=(num_later, 5))
    exits = {}
    for column, name in enumerate(NAMES):
        known = table.exits.get(name)
        if known is not None and known.date <= prices.index[after]:
            prices.iloc[later, column], exits[name] = np.nan, known
        elif rng.random() < 0.6:
            row = int(rng.integers(after + 1, len(prices)))
            prices.iloc[row:, column] = np.nan
            exits[name] = Exit(prices.index[row], float(rng.uniform(-1.0, 0.5)), "another future")
        else:
            prices.iloc[-1, column] = 1.0
    index = None if table.index is None else table.index.where(np.arange(len(prices)) <= after, 5.0)
    return replace(table, prices=prices, index=index, membership=member, asset_extra={"mood": mood}, exits=exits)


def assert_same_until(one: MarketData, other: MarketData, row: int) -> None:
    assert differences(one, other, row) == []
    for name in ("listed", "member", "quoted"):
        np.testing.assert_array_equal(getattr(one.universe, name)[: row + 1], getattr(other.universe, name)[: row + 1])


@pytest.mark.parametrize("features", [SHORT, RANKS], ids=["values", "ranks"])
@pytest.mark.parametrize("with_index", [False, True])
def test_rows_up_to_t_ignore_later_prices_lives_and_members(features, with_index):
    table = universe_table(with_index=with_index)
    market = prepared(table, features=features)
    for seed, row in enumerate((market.windows["train"][1], 499, 550, 653)):
        other = prepared(with_another_future(table, row, seed), features=features)
        assert other.fitted == market.fitted
        assert_same_until(market, other, row)
        assert {each.array for each in differences(market, other, row + 10)} >= {"returns", "asset_features"}
        assert (other.universe.listed[row + 1 :] != market.universe.listed[row + 1 :]).any()


@pytest.mark.parametrize("row", [103, 160, 303, 380])
def test_rows_in_training_ignore_later_lives_when_the_fit_is_frozen(table, market, row):
    assert market.windows["train"][0] <= row < market.windows["train"][1]
    assert_same_until(market, prepared(with_another_future(table, row, row), market.fitted), row)


def test_a_halt_looks_as_an_end_does(table):
    # Until it is known which of the two it is, no observation may tell.
    ended = replace(
        table,
        prices=table.prices.where(np.arange(NUM_DAYS)[:, None] < np.array([NUM_DAYS] * 3 + [650, NUM_DAYS])),
        exits={**table.exits, "DDD": Exit(table.prices.index[650], 0.0)},
    )
    one, other = prepared(table), prepared(ended)
    np.testing.assert_array_equal(one.asset_features[:657], other.asset_features[:657])
    assert one.universe.halted[650:657, 3].all()
    assert not other.universe.listed[650:, 3].any()


# ---------------------------------------------------------------- padding, order, other assets


@pytest.mark.parametrize("features", [SHORT, RANKS], ids=["values", "ranks"])
def test_assets_that_are_never_listed_change_nothing(table, features):
    names = ["XXX", "AAA", "BBB", "YYY", "CCC", "DDD", "EEE", *(f"Z{i}" for i in range(9))]
    mood = {"mood": table.asset_extra["mood"].reindex(columns=names)}
    member = table.membership.reindex(columns=names, fill_value=True)
    padded = replace(table, prices=table.prices.reindex(columns=names), membership=member, asset_extra=mood)
    one, other = prepared(table, features=features), prepared(padded, features=features)
    kept = [names.index(name) for name in NAMES]
    for name in ("returns", "volatility"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name)[:, kept])
    np.testing.assert_array_equal(one.asset_features, other.asset_features[:, kept])
    np.testing.assert_array_equal(one.market_features, other.market_features)
    assert (one.fitted, one.windows, one.first_row) == (other.fitted, other.windows, other.first_row)
    rest = [column for column in range(len(names)) if column not in kept]
    assert not other.asset_features[:, rest].any()
    assert not other.universe.listed[:, rest].any()


def test_the_order_of_the_assets_is_the_order_of_the_arrays(table, market):
    order = ["DDD", "AAA", "EEE", "CCC", "BBB"]
    mood = {"mood": table.asset_extra["mood"][order]}
    other = prepared(replace(table, prices=table.prices[order], membership=table.membership[order], asset_extra=mood))
    columns = [NAMES.index(name) for name in order]
    np.testing.assert_array_equal(other.returns, market.returns[:, columns])
    np.testing.assert_allclose(other.asset_features, market.asset_features[:, columns], atol=1e-5)
    np.testing.assert_allclose(other.market_features, market.market_features, atol=1e-3)
    for name in ("listed", "member", "quoted"):
        np.testing.assert_array_equal(getattr(other.universe, name), getattr(market.universe, name)[:, columns])


def test_a_complete_asset_has_the_features_of_a_complete_table(table):
    raw = prepared(table, observation_filter="none")
    alone = prepare_market(
        PriceTable(table.prices[["AAA"]], None, table.extra, "alone"), config(observation_filter="none")
    )
    np.testing.assert_array_equal(raw.asset_features[:, 0, :-3], alone.asset_features[:, 0])
    np.testing.assert_array_equal(raw.returns[:, 0], alone.returns[:, 0])
    np.testing.assert_array_equal(raw.volatility[:, 0], alone.volatility[:, 0])


# ---------------------------------------------------------------- a fit on other rows and assets


def cut(table: PriceTable, rows: slice, names: list[str]) -> PriceTable:
    return replace(
        table,
        prices=table.prices.iloc[rows][names],
        extra=table.extra.iloc[rows],
        membership=table.membership.iloc[rows][names],
        asset_extra={"mood": table.asset_extra["mood"].iloc[rows][names]},
        exits={name: end for name, end in table.exits.items() if name in names},
    )


def test_a_fit_is_applied_to_new_rows_and_new_assets(table):
    old = prepared(cut(table, slice(0, 600), ["AAA", "CCC", "DDD", "EEE"]), min_history_days=40)
    new = prepared(table, old.fitted)  # BBB is new
    assert new.windows["new"] == (600, NUM_DAYS)
    assert new.asset_feature_names == old.asset_feature_names
    assert new.universe.member[:, 1].argmax() == 190  # min_history_days is that of the fit
    columns = [0, 2, 3, 4]
    np.testing.assert_array_equal(new.asset_features[:600, columns], old.asset_features)


def test_a_fit_on_a_changing_universe_is_applied_to_a_complete_table(table):
    old = prepared(table)
    recent = cut(table, slice(400, NUM_DAYS), ["AAA", "BBB"])
    new = prepared(recent, old.fitted)
    assert new.universe.listed.all()
    assert new.asset_feature_names == old.asset_feature_names
    assert feature(new, TRADABLE)[new.first_row :].all()
    np.testing.assert_allclose(feature(new, "momentum_30")[30:], feature(old, "momentum_30")[430:, :2], atol=1e-5)


def test_a_fit_on_a_complete_table_is_not_applied_to_a_changing_universe(table):
    fitted = prepare_market(random_table(NUM_DAYS, 5, with_index=False), config()).fitted
    with pytest.raises(DataError, match=r"as that of the fitted run, got a universe that changes"):
        prepared(replace(table, asset_extra={}), fitted)


def test_a_market_with_a_universe_is_saved_and_loaded(table, tmp_path):
    info = pd.DataFrame({"group": ["tech", "oil"], "cost_bps": [5.0, np.nan]}, index=["AAA", "CCC"])
    shares = {"volume": table.prices * 0.0 + 7.0}
    market = prepared(replace(table, assets_info=info, asset_extra=shares))
    assert market.groups == ("tech", "", "oil", "", "")
    np.testing.assert_array_equal(market.cost_bps, [5.0] + [np.nan] * 4)
    market.save(tmp_path / "market.npz")
    loaded = MarketData.load(tmp_path / "market.npz")
    for entry in fields(MarketData):
        if entry.name != "universe":
            np.testing.assert_equal(getattr(loaded, entry.name), getattr(market, entry.name))
    for entry in fields(type(market.universe)):
        np.testing.assert_array_equal(getattr(loaded.universe, entry.name), getattr(market.universe, entry.name))
