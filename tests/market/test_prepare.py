from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from rllib_portfolio.config import FeatureConfig, MarketConfig
from rllib_portfolio.errors import ConfigError, DataError
from rllib_portfolio.market import MarketData, PriceTable, prepare_market
from rllib_portfolio.market.scaling import Scaler
from tests.market.tables import NONE, SHORT, config, random_table

CUSTOM = "tests.market.custom_features:"


@pytest.fixture(scope="module")
def table() -> PriceTable:
    table = random_table(700)
    extra = pd.DataFrame({"VIX": np.linspace(10, 30, 700), "rate": np.linspace(0.0, 0.05, 700)}, table.prices.index)
    return replace(table, extra=extra)


@pytest.fixture(scope="module")
def market(table) -> MarketData:
    return prepare_market(table, config())


def with_features(**values: object) -> MarketConfig:
    return config(features=SHORT.model_copy(update=values))


# ---------------------------------------------------------------- arrays


def test_returns_are_simple_and_belong_to_the_later_close(table, market):
    prices = table.prices
    assert market.returns[0].tolist() == [0, 0, 0]
    assert market.returns[5, 1] == prices["BBB"].iloc[5] / prices["BBB"].iloc[4] - 1
    assert market.index_returns[5] == pytest.approx(prices.mean(axis=1).iloc[5] / prices.mean(axis=1).iloc[4] - 1)


def test_arrays_have_the_promised_shapes_and_types(market):
    assert (market.num_days, market.num_assets) == (700, 3)
    assert market.asset_features.shape == (700, 3, len(market.asset_feature_names))
    assert market.market_features.shape == (700, len(market.market_feature_names))
    assert market.asset_features.dtype == market.market_features.dtype == np.float32
    assert market.returns.dtype == market.volatility.dtype == market.cash_returns.dtype == np.float64
    assert market.dates.dtype == "datetime64[D]"
    for array in (market.asset_features, market.market_features):
        assert not array[: market.first_row].any()
        assert np.isfinite(array).all()
        assert array[market.first_row].all()
        assert not array.flags.writeable


def test_the_first_row_is_the_longest_window():
    # momentum of 30 days needs 31 closes, rows 0 to 30; without features volatility still needs the returns of 1 to 21
    assert prepare_market(random_table(500), config()).first_row == 30
    bare = prepare_market(random_table(500), config(features=NONE))
    assert (bare.first_row, bare.fitted["purge_days"]) == (21, 22)
    assert bare.windows == {"train": (23, 278), "validation": (300, 400), "test": (400, 500), "all": (23, 500)}
    assert bare.asset_features.shape == (500, 3, 0)
    assert bare.market_features.shape == (500, 0)


def test_a_constant_annual_rate_becomes_a_daily_return(table):
    daily = prepare_market(table, config(cash_rate=0.05, periods_per_year=250)).cash_returns
    np.testing.assert_allclose((1 + daily[3]) ** 250, 1.05)
    assert (daily == daily[0]).all()


def test_a_rate_column_is_earned_on_the_day_after_it_is_known(table):
    market = prepare_market(table, config(cash_rate="rate"))
    np.testing.assert_allclose(
        (1 + market.cash_returns[1:]) ** 252 - 1, table.extra["rate"].to_numpy()[:-1], atol=1e-12
    )


def test_the_hash_knows_days_names_and_prices(table, market):
    assert market.data_hash == prepare_market(table, config(cash_rate=0.5)).data_hash
    other_price, other_name = table.prices.copy(), table.prices.rename(columns={"AAA": "ZZZ"})
    other_price.iloc[699, 2] *= 1 + 1e-15 * 4
    later = table.prices.set_axis(table.prices.index + pd.Timedelta(days=1), axis=0)
    for prices in (other_price, other_name, later):
        other = PriceTable(prices, None, pd.DataFrame(index=prices.index), "other")
        assert prepare_market(other, config()).data_hash != market.data_hash


# ---------------------------------------------------------------- standardisation


def test_features_are_standardised_by_the_training_window_alone(market):
    start, stop = market.windows["train"]
    rows = slice(start - 2, stop)  # the days that are observed before the first trade belong to it
    np.testing.assert_allclose(market.asset_features[rows].mean(axis=(0, 1)), 0.0, atol=1e-5)
    np.testing.assert_allclose(market.asset_features[rows].std(axis=(0, 1)), 1.0, atol=1e-5)
    np.testing.assert_allclose(market.market_features[rows].std(axis=0), 1.0, atol=1e-5)
    assert abs(market.asset_features.std(axis=(0, 1)) - 1.0).max() > 0.01


@pytest.mark.parametrize("observation_filter", ["running", "none"])
def test_other_filters_leave_features_raw(table, market, observation_filter):
    raw = prepare_market(table, config(observation_filter=observation_filter))
    assert raw.fitted["scaler"] is None
    scaler = Scaler(**market.fitted["scaler"]["asset"])
    np.testing.assert_allclose(
        scaler.apply(raw.asset_features[30:].astype(float)), market.asset_features[30:], rtol=1e-3, atol=1e-5
    )


def test_a_feature_that_does_not_vary_is_centred_and_not_divided():
    scaler = Scaler.fit(np.array([[0.1, 1.0], [0.1, 3.0], [0.1, 5.0]]))
    assert scaler.scale[0] == 1.0
    np.testing.assert_allclose(scaler.apply(np.array([[0.1, 3.0]])), [[0.0, 0.0]], atol=1e-15)


# ---------------------------------------------------------------- every setting matters

OTHER_FEATURES: dict[str, object] = {
    "log_return_days": (1,),
    "momentum_days": (25,),
    "volatility_days": (15,),
    "drawdown_days": 10,
    "rsi_days": None,
    "macd_days": (3, 7, 4),
    "moving_average_days": (5,),
    "long_momentum_days": (5, 20),
    "max_return_days": 5,
    "beta_days": 20,
    "residual_volatility_days": 20,
    "amihud_days": 5,
    "dollar_volume_days": 5,
    "cross_section": "ranks",
    "index": True,
    "num_gmm_regimes": 3,
    "num_hmm_regimes": 0,
    "user_columns": False,
    "available_lag": 1,
    "custom": (f"{CUSTOM}breadth",),
}


@pytest.mark.parametrize("name", FeatureConfig.model_fields)
def test_every_feature_setting_changes_the_observation(name):
    table = random_table(1200)
    extra = pd.DataFrame({"VIX": np.linspace(10, 30, 1200)}, table.prices.index)
    table = replace(table, extra=extra, asset_extra={"volume": table.prices * np.linspace(1, 2, 1200)[:, None]})
    before, after = (
        prepare_market(table, each.model_copy(update={"observation_filter": "none"}))
        for each in (config(), with_features(**{name: OTHER_FEATURES[name]}))
    )
    same_names = (before.asset_feature_names, before.market_feature_names) == (
        after.asset_feature_names,
        after.market_feature_names,
    )
    assert same_names == (name == "available_lag")
    assert after.fitted["features"] != before.fitted["features"]
    rows = slice(max(before.first_row, after.first_row), None)
    old, new = (
        dict(zip(each.asset_feature_names, np.moveaxis(each.asset_features[rows], -1, 0), strict=True))
        for each in (before, after)
    )
    if name == "available_lag":
        vix = before.market_feature_names.index("user_VIX")
        assert (before.market_features[rows, vix] != after.market_features[rows, vix]).all()
        assert (new.pop("user_volume") != old.pop("user_volume")).all()
    for kept in old.keys() & new.keys():
        np.testing.assert_array_equal(new[kept], old[kept], err_msg=kept)
    same_shape = zip(old, new, strict=True) if len(old) == len(new) else ()
    for was, now in same_shape:
        assert was == now or ((old[was] != new[now]).mean(axis=0) > 0.1).all(), now


# ---------------------------------------------------------------- user columns and custom features


def test_user_columns_are_features_and_are_reported(market):
    assert market.market_feature_names[:2] == ("user_VIX", "user_rate")
    assert any("VIX, rate" in note and "cannot be proven" in note for note in market.notes)


def test_a_user_column_that_starts_late_moves_the_first_row_but_not_the_purge(table):
    late = table.extra.assign(VIX=table.extra["VIX"].where(np.arange(700) >= 90))
    market = prepare_market(replace(table, extra=late), config())
    assert market.first_row == 90
    assert market.windows["train"][0] == 92
    assert market.fitted["purge_days"] == 31


def test_without_an_index_its_features_are_left_out_and_noted(table):
    market = prepare_market(replace(table, index=None), with_features(index=True))
    assert market.index_returns is None
    assert not any(name.startswith("index") for name in market.market_feature_names)
    assert any(note.startswith("There is no index") for note in market.notes)


def test_custom_features_per_asset_and_of_the_market_are_used(table):
    names = (f"{CUSTOM}ten_day_position", f"{CUSTOM}breadth")
    market = prepare_market(table, with_features(custom=names).model_copy(update={"observation_filter": "none"}))
    assert market.asset_feature_names[-1] == names[0]
    assert names[1] in market.market_feature_names
    window = table.prices["BBB"].to_numpy()[91:101]
    expected = (window[-1] - window.min()) / (window.max() - window.min())
    assert market.asset_features[100, 1, -1] == pytest.approx(expected)


def test_a_custom_feature_cannot_spoil_the_prices(table, market):
    spoiled = prepare_market(table, with_features(custom=(f"{CUSTOM}spoils_its_input",)))
    np.testing.assert_array_equal(spoiled.returns, market.returns)
    assert spoiled.data_hash == market.data_hash


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("late_nan", r"late_nan must be finite after its warm-up, got nan \(2010-03-01\).*after the first 0"),
        ("infinite", r"infinite must be finite after its warm-up, got inf \(2010-01-11\)"),
        ("always_nan", "always_nan must return values after its warm-up, got NaN on every day"),
        ("text", "text must return numbers, got text"),
        ("array", "array must return a DataFrame or a Series, got ndarray"),
        ("shorter", "shorter must return one row per day, got 699 rows for 700 days"),
        (
            "other_columns",
            r"other_columns must return one column per asset in their order, got \['CCC', 'BBB', 'AAA'\]",
        ),
    ],
)
def test_a_broken_custom_feature_is_refused(table, name, message):
    with pytest.raises(DataError, match=message):
        prepare_market(table, with_features(custom=(CUSTOM + name,)))


@pytest.mark.parametrize(
    "name", ["no_such_module:f", f"{CUSTOM}no_such_function", "nothing", f"{CUSTOM}NOT_A_FUNCTION"]
)
def test_a_custom_feature_that_is_no_function_is_refused(table, name):
    with pytest.raises(ConfigError, match=r"features.custom must be module:function"):
        prepare_market(table, with_features(custom=(name,)))


# ---------------------------------------------------------------- fitted numbers of another run


def test_fitted_numbers_are_plain_json_and_give_the_same_arrays_bit_for_bit(table, market):
    fitted = json.loads(json.dumps(market.fitted))
    assert fitted == market.fitted
    again = prepare_market(table, config(), fitted)
    np.testing.assert_array_equal(again.asset_features, market.asset_features)
    np.testing.assert_array_equal(again.market_features, market.market_features)
    assert again.windows == market.windows
    assert again.fitted == market.fitted


def test_newer_rows_keep_the_old_windows_and_get_one_of_their_own():
    table = random_table(800)
    old = replace(table, prices=table.prices[:700], index=table.index[:700], extra=table.extra[:700])
    fitted = prepare_market(old, config()).fitted
    newer = prepare_market(table, config(), fitted)
    assert newer.windows["test"] == (560, 700)
    assert newer.windows["new"] == (700, 800)
    assert newer.fitted == fitted


def test_rows_that_are_all_newer_have_no_training_window():
    table = random_table(900)
    fitted = prepare_market(
        replace(table, prices=table.prices[:700], index=None, extra=table.extra[:700]), config()
    ).fitted
    tail = replace(table, prices=table.prices[650:], index=None, extra=table.extra[650:])
    market = prepare_market(tail, config(), fitted)
    assert set(market.windows) == {"test", "all", "new"}
    short = replace(table, prices=table.prices[880:], index=None, extra=table.extra[880:])
    with pytest.raises(DataError, match=r"longer than the longest feature window, got 20 days \(random\)"):
        prepare_market(short, config(), fitted)


def test_fitted_features_come_with_the_fit_unless_the_configuration_contradicts(table, market):
    again = prepare_market(table, MarketConfig(data="random"), market.fitted)  # default features: taken from the fit
    assert again.asset_feature_names == market.asset_feature_names
    with pytest.raises(ConfigError, match="features must be those of the fitted run"):
        prepare_market(table, with_features(rsi_days=5), market.fitted)
    with pytest.raises(
        DataError, match="market features must be those of the fitted run, got a difference in user_VIX"
    ):
        prepare_market(replace(table, extra=table.extra[["rate"]]), config(), market.fitted)


# ---------------------------------------------------------------- files of prepared markets


def test_a_market_survives_saving_and_loading(tmp_path, market):
    market.save(tmp_path / "market.npz")
    loaded = MarketData.load(tmp_path / "market.npz")
    for name in MarketData.__slots__:
        before, after = getattr(market, name), getattr(loaded, name)
        if isinstance(before, np.ndarray):
            np.testing.assert_array_equal(after, before, err_msg=name)
            assert after.dtype == before.dtype
        else:
            assert after == before, name


@pytest.mark.parametrize("content", [b"", b"no market", b"PK\x03\x04 no zip"])
def test_a_file_that_is_no_market_is_refused(tmp_path, content):
    (tmp_path / "market.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"must be a prepared .npz file, got .*market.npz"):
        MarketData.load(tmp_path / "market.npz")
    np.save(tmp_path / "array.npy", np.zeros(3))
    with pytest.raises(DataError, match="must be a prepared"):
        MarketData.load((tmp_path / "array.npy").rename(tmp_path / "array.npz"))
