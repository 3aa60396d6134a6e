"""Tables of hours: around the clock on all days, and in the hours of an exchange on weekdays with half days."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from rllib_portfolio.audit.differences import differences, scrambled
from rllib_portfolio.cli import data as main
from rllib_portfolio.config import MarketConfig
from rllib_portfolio.env.portfolio_env import resolve_window
from rllib_portfolio.errors import ConfigError, DataError
from rllib_portfolio.market import Fold, MarketData, PriceTable, fold_config, load_market, prepare_market, read_table
from rllib_portfolio.market.frequency import frequency_of
from rllib_portfolio.market.loading import load_table
from rllib_portfolio.reporting.value_series import inputs_of_values
from rllib_portfolio.statistics.crises import crisis_table
from tests.market.tables import NONE, SHORT

CLOCK = pd.date_range("2021-12-30", periods=24 * 40, freq="h", name="date")


def exchange_hours(num_days: int = 120, per_day: int = 7, per_half_day: int = 4) -> pd.DatetimeIndex:
    """Half past nine and the hours after it on weekdays; each 20th day is a half day."""
    days = pd.bdate_range("2021-01-04", periods=num_days)
    counts = [per_half_day if number % 20 == 19 else per_day for number in range(num_days)]
    return pd.DatetimeIndex(
        [day + pd.Timedelta(hours=9.5 + hour) for day, count in zip(days, counts, strict=True) for hour in range(count)]
    ).rename("date")


def hourly(index: pd.DatetimeIndex = CLOCK, seed: int = 0) -> pd.DataFrame:
    moves = np.random.default_rng(seed).normal(0.0, 0.005, (len(index), 3))
    return pd.DataFrame(50.0 * np.exp(moves.cumsum(axis=0)), index, ["AAA", "BBB", "CCC"])


def read(path: Path, **settings: Any) -> PriceTable:
    return read_table(MarketConfig(data=str(path), **settings))


def minutes(index: pd.DatetimeIndex) -> list[np.datetime64]:
    return list(index.to_numpy().astype("datetime64[m]"))


# ---------------------------------------------------------------- reading


@pytest.mark.parametrize("index", [CLOCK, exchange_hours()])
@pytest.mark.parametrize("form", ["wide.csv", "long.csv", "wide.parquet", "wide.feather", "written.csv"])
def test_hours_are_read_from_every_kind_of_table(tmp_path: Path, index: pd.DatetimeIndex, form: str) -> None:
    frame, path, settings = hourly(index), tmp_path / form, {}
    if form == "long.csv":
        frame.reset_index().melt("date", var_name="ticker", value_name="close").to_csv(path, index=False)
    elif form == "written.csv":
        frame.set_axis(index.strftime("%d/%m/%Y %H:%M")).to_csv(path, index_label="date")
        settings = {"date_format": "%d/%m/%Y %H:%M"}
    elif form == "wide.feather":
        frame.reset_index().to_feather(path)
    else:
        frame.to_parquet(path) if form == "wide.parquet" else frame.to_csv(path)
    table = read(path, **settings)
    assert table.dates.dtype == "datetime64[m]"
    assert list(table.dates) == minutes(index)
    np.testing.assert_allclose(table.prices[["AAA", "BBB", "CCC"]], frame, rtol=1e-15)
    assert f"{len(index):,} rows from {table.dates[0]} to {table.dates[-1]}" in table.notes[0]
    assert "UTC" not in table.notes[0]


def test_a_day_with_one_stamp_stays_a_day(tmp_path: Path) -> None:
    frame = hourly(pd.bdate_range("2021-01-04", periods=40, name="date") + pd.Timedelta(hours=16))
    frame.to_csv(tmp_path / "p.csv")
    assert read(tmp_path / "p.csv").dates.dtype == "datetime64[D]"


@pytest.mark.parametrize("as_text", [True, False])
def test_stamps_with_a_time_zone_are_in_utc_so_that_no_hour_repeats(tmp_path: Path, as_text: bool) -> None:
    # clocks in Berlin are set back on 31 October 2021, when 02:00 comes twice
    index = pd.date_range("2021-10-20", periods=24 * 20, freq="h", tz="Europe/Berlin", name="date")
    assert index.tz_localize(None).has_duplicates
    frame, path = hourly(index), tmp_path / ("p.csv" if as_text else "p.parquet")
    frame.to_csv(path) if as_text else frame.to_parquet(path)
    table = read(path)
    assert list(table.dates) == minutes(index.tz_convert("UTC").tz_localize(None))
    assert "its times are in UTC" in table.notes[0]
    frame.tz_localize(None).to_csv(tmp_path / "naive.csv")
    with pytest.raises(DataError, match=r"dates must be unique, got 2021-10-31T02:00 after .* offsets from UTC"):
        load_table(MarketConfig(data=str(tmp_path / "naive.csv")))


def test_prices_and_index_in_two_zones_meet_in_utc(tmp_path: Path) -> None:
    frame = hourly(CLOCK.tz_localize("UTC"))
    frame[["AAA"]].tz_convert("Europe/Berlin").to_csv(tmp_path / "p.csv")
    frame[["BBB"]].tz_convert("America/New_York").to_csv(tmp_path / "i.csv")
    table = read(tmp_path / "p.csv", index_path=str(tmp_path / "i.csv"))
    np.testing.assert_allclose(table.index_values, frame["BBB"], rtol=1e-15)


# ---------------------------------------------------------------- rows per year


@pytest.mark.parametrize(
    ("index", "periods", "rhythm"),
    [
        (CLOCK, 8760, "one an hour, 24 a day, seven days a week"),
        (CLOCK[::4], 2190, "one every 4 hours, 6 a day, seven days a week"),
        (CLOCK[::12], 730, "one every 12 hours, 2 a day, seven days a week"),
        (CLOCK[: 24 * 8], 8760, "one an hour, 24 a day, seven days a week"),
        (exchange_hours(), 1764, "one an hour, 7 a day, five days a week"),
        (exchange_hours(600), 1764, "one an hour, 7 a day, five days a week"),
        (exchange_hours(30, 9, 5), 2268, "one an hour, 9 a day, five days a week"),
    ],
)
def test_rows_of_a_day_and_days_of_a_week_give_the_rows_of_a_year(
    index: pd.DatetimeIndex, periods: int, rhythm: str
) -> None:
    found = frequency_of(index.to_numpy().astype("datetime64[m]"))
    assert found is not None
    assert (found.periods, found.rhythm) == (periods, rhythm)
    assert abs(found.rows_a_year - periods) < 0.1 * periods


def test_the_market_of_currencies_opens_on_sunday_evening() -> None:
    index = pd.date_range("2021-01-03", periods=24 * 400, freq="h")
    hour_of_week = index.day_of_week * 24 + index.hour
    is_open = (hour_of_week < 4 * 24 + 22) | (hour_of_week >= 6 * 24 + 22)
    found = frequency_of(index[is_open].to_numpy().astype("datetime64[m]"))
    assert found is not None
    assert (found.periods, found.rhythm) == (6048, "one an hour, 24 a day, five days a week")
    assert found.rows_a_year == pytest.approx(120 * 365.25 / 7, rel=0.01)


def test_figures_are_scaled_and_told(tmp_path: Path) -> None:
    market = load_market({"data": hourly(), "features": SHORT, "cash_rate": 0.05})
    assert market.periods_per_year == 8760
    np.testing.assert_allclose((1.0 + market.cash_returns) ** 8760, 1.05)
    told = " ".join(market.notes)
    assert "8766 rows a year, one an hour, 24 a day, seven days a week: periods_per_year is 8760." in told
    assert "looks back 30 rows, 1 calendar days of this table. Where days are counted, they are rows." in told
    stated = {"data": hourly(exchange_hours()), "features": SHORT}
    assert load_market({**stated, "periods_per_year": 1820}).periods_per_year == 1820
    with pytest.raises(ConfigError, match=r"within 10 % of the table's rows a year, got 252, .* Set it to 1764"):
        load_market({**stated, "periods_per_year": 252})


def test_days_and_then_hours_are_two_rhythms(tmp_path: Path) -> None:
    index = exchange_hours(300)
    first_of_day = ~index.normalize().duplicated()
    mixed = index[first_of_day | (index >= index[0] + pd.Timedelta(days=100))]
    with pytest.raises(DataError, match=r"one rhythm, got 26\d rows a year .* from 2021-01-04T09:30 to "):
        load_market({"data": hourly(mixed), "features": SHORT})


def test_holes_are_counted_in_days(tmp_path: Path) -> None:
    is_there = (CLOCK < "2022-01-05") | (CLOCK >= "2022-01-20T05:00")
    with pytest.raises(DataError, match=r"hole of more than 14 .* 2022-01-20T05:00 after 2022-01-04T23:00"):
        load_market({"data": hourly(CLOCK[is_there & (CLOCK < "2022-01-22")]), "features": NONE})


# ---------------------------------------------------------------- windows


WINDOWS = {
    "train": ("2021-12-30", "2022-01-15"),
    "validation": ("2022-01-16", "2022-01-22"),
    "test": ("2022-01-23", "2022-01-31"),
}


def market(**settings: Any) -> MarketData:
    return load_market({"data": hourly(), "features": SHORT, **settings})


def test_a_window_includes_all_rows_of_its_last_day(tmp_path: Path) -> None:
    loaded = market(**WINDOWS)
    spans = {name: (str(loaded.dates[a]), str(loaded.dates[b - 1])) for name, (a, b) in loaded.windows.items()}
    assert spans["validation"] == ("2022-01-16T00:00", "2022-01-22T23:00")
    assert spans["test"] == ("2022-01-23T00:00", "2022-01-31T23:00")
    assert resolve_window(loaded, ("2022-01-23", "2022-01-31")) == loaded.windows["test"]
    start, stop = resolve_window(loaded, ("2022-01-23T05:00", "2022-01-23T07:00"))
    assert [str(date) for date in loaded.dates[start:stop]] == [f"2022-01-23T0{hour}:00" for hour in (5, 6, 7)]
    with pytest.raises(ConfigError, match=r"validation must start after the window before it .* after 2022-01-15"):
        market(**{**WINDOWS, "validation": ("2022-01-15T12:00", "2022-01-22")})


def test_a_moment_is_no_window_of_days() -> None:
    daily = hourly(pd.bdate_range("2020-01-01", periods=500))
    windows = {"train": ("2020-01-01", "2020-12-31"), "validation": ("2021-01-01", "2021-06-30T12:00")}
    with pytest.raises(ConfigError, match="validation must hold two days as YYYY-MM-DD"):
        load_market({"data": daily, "features": SHORT, **windows, "test": ("2021-07-01", "2021-12-31")})


def test_the_windows_of_a_fold_are_kept_to_the_row() -> None:
    whole, config = market(), MarketConfig(features=SHORT)
    fold = Fold((100, 305), (400, 507), (507, 613))
    days = fold_config(config, whole, fold)
    assert days.test == (str(whole.dates[507]), str(whole.dates[612]))
    written = MarketConfig.model_validate(days.model_dump(mode="json"))
    again = market(**{name: getattr(written, name) for name in Fold._fields})
    assert (again.windows["validation"], again.windows["test"]) == (fold.validation, fold.test)
    newer = load_market({"data": hourly()}, fitted=again.fitted)
    assert newer.windows["new"] == (613, len(CLOCK))


def test_a_prepared_market_keeps_its_hours_and_the_hash_counts_them(tmp_path: Path) -> None:
    loaded = market()
    loaded.save(tmp_path / "m.npz")
    again = load_market(str(tmp_path / "m.npz"))
    assert again.dates.dtype == "datetime64[m]"
    assert np.array_equal(again.dates, loaded.dates)
    later = hourly().set_axis(CLOCK + pd.Timedelta(hours=1))
    assert load_market({"data": later, "features": SHORT}).data_hash != loaded.data_hash == again.data_hash


@pytest.mark.parametrize("index", [CLOCK, exchange_hours()])
def test_rows_up_to_an_hour_ignore_later_prices(index: pd.DatetimeIndex) -> None:
    config = MarketConfig(data="frame", features=SHORT)
    table = read_table(config, hourly(index))
    whole = prepare_market(table, config)
    row = whole.windows["train"][1] + 5
    other = prepare_market(scrambled(table, row), config)
    assert [each.array for each in differences(whole, other, row)] == []
    assert {each.array for each in differences(whole, other, row + 1)} >= {"returns", "asset_features"}


# ---------------------------------------------------------------- lives


def test_a_member_is_one_on_all_rows_of_its_days_and_an_end_on_a_day_is_its_first_row(tmp_path: Path) -> None:
    frame = hourly()
    frame.loc["2022-01-20":, "BBB"] = np.nan
    frame.loc["2022-01-21T15:00":, "CCC"] = np.nan
    frame.to_csv(tmp_path / "p.csv")
    (tmp_path / "membership.csv").write_text(
        "asset,start,end\nAAA,2022-01-03,2022-01-05\nBBB,2022-01-01,\nCCC,2022-01-01,"
    )
    (tmp_path / "exits.csv").write_text("asset,date,return\nBBB,2022-01-20,-0.5\nCCC,2022-01-21T15:00,0")
    config = MarketConfig(data=str(tmp_path / "p.csv"), features=NONE)
    table = load_table(config)
    assert table.membership is not None
    inside = table.membership.index[table.membership["AAA"]]
    assert (str(inside[0]), str(inside[-1])) == ("2022-01-03 00:00:00", "2022-01-05 23:00:00")
    loaded = prepare_market(table, config)
    assert loaded.universe is not None
    ends = loaded.dates[loaded.universe.exit_rows[1:]]
    assert list(map(str, ends)) == ["2022-01-20T00:00", "2022-01-21T15:00"]
    (tmp_path / "exits.csv").write_text("asset,date,return\nBBB,2022-01-20,-0.5\nCCC,2022-01-21,0")
    with pytest.raises(DataError, match=r"end of CCC must be after its last price, got 2022-01-21 .* 2022-01-21T14:00"):
        load_table(config)


def test_prices_that_rest_for_a_weekend_are_no_padding_but_for_20_days_they_are() -> None:
    frame = hourly()
    frame.loc["2022-02-05":, "BBB"] = frame.loc["2022-02-05T00:00", "BBB"]
    load_market({"data": frame, "features": NONE})
    frame.loc["2022-01-10":, "BBB"] = frame.loc["2022-01-10T00:00", "BBB"]
    with pytest.raises(DataError, match=r"BBB must move up to the end .* rows .*from 2022-01-10\)"):
        load_market({"data": frame, "features": NONE})


def test_bad_cells_are_named_with_their_hour(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frame = hourly()
    frame.loc["2022-01-07T13:00", "BBB"] = -1.0
    frame.to_csv(tmp_path / "p.csv")
    assert main(["validate", str(tmp_path / "p.csv")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "2022-01-07T13:00" in line


# ---------------------------------------------------------------- reports


def test_a_crisis_includes_all_hours_of_its_last_day() -> None:
    dates = pd.date_range("2020-01-30", "2020-05-02", freq="h").to_numpy().astype("datetime64[m]")
    table = crisis_table(np.zeros((len(dates), 1)), dates, ["a"], periods_per_year=8760)
    assert table.loc[("COVID", "a"), "num_days"] == 24 * 90
    assert table.loc[("COVID", "a"), "note"] == ""


def test_value_series_of_hours_keep_their_times() -> None:
    values = hourly()["AAA"]
    told = inputs_of_values({"mine": values}, values.rename("same"))
    assert told.periods_per_year == 8760
    assert told.days == "the 959 rows from 2021-12-30T01:00 to 2022-02-07T23:00"
    zoned = values.tz_localize("UTC").tz_convert("Asia/Tokyo")
    assert np.array_equal(inputs_of_values({"mine": zoned}).dates, told.dates)
    with pytest.raises(DataError, match="one value a day or several, got several of mine and one of daily"):
        inputs_of_values({"mine": values, "daily": values.resample("D").last()})


def test_replaced_prices_of_a_table_keep_its_dates() -> None:
    table = read_table(MarketConfig(data="frame"), hourly())
    assert replace(table, prices=table.prices[["AAA"]]).dates.dtype == "datetime64[m]"
