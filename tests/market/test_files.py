"""Every way to spoil a price file, and the error that says so."""

from __future__ import annotations

import hashlib
from pathlib import Path

import gymnasium
import numpy as np
import pandas as pd
import pytest

from rllib_portfolio.cli.data_paths import lasting_path
from rllib_portfolio.config import MarketConfig
from rllib_portfolio.errors import ConfigError, DataError
from rllib_portfolio.market import PriceTable, load_market, read_table
from rllib_portfolio.market.files import read_frame, tabulated
from rllib_portfolio.market.table import data_hash
from rllib_portfolio.market.validation import validate_table
from tests.market.tables import random_prices

GOOD = """date,AAA,BBB
2020-01-02,10,20
2020-01-03,11,21
2020-01-06,12,22
2020-01-07,13,23
"""


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def checked(path: Path, **values: object) -> PriceTable:
    config = MarketConfig(data=str(path), **values)
    return validate_table(read_table(config), config)


# ---------------------------------------------------------------- what is refused

BROKEN = {
    "empty": ("", r"must hold dated prices, got an empty file \(.*prices.csv\)"),
    "header only": ("date,AAA\n", r"must hold dated prices, got 0 rows"),
    "one column": ("AAA\n1\n2\n", r"must have a date and at least one price column, got one column 'AAA'"),
    "no dates": ("AAA,BBB\n101.25,20\n102.5,21\n", r"AAA must hold days as YYYY-MM-DD, got .*101.25.*row 1"),
    "epoch seconds": (",AAA\n1577923200,1.5\n1578009600,1.6\n", r"date must hold days as YYYY-MM-DD"),
    "month names": (
        'Date,Close,Volume\n"Jan 2, 2020",$10.5,"1,000"\n"Jan 3, 2020",$11,"1,100"\n',
        r"Date must hold days as YYYY-MM-DD, got 'Jan 2, 2020' .*row 1",
    ),
    "missing date": (GOOD.replace("2020-01-03", ""), r"date must hold days .* row 2"),
    "unsorted": (GOOD + "2020-01-01,1,1\n", r"dates must increase, got 2020-01-01 after 2020-01-07 .*row 5.*Sort"),
    "repeated day": (GOOD + "2020-01-07,1,1\n", r"dates must be unique, got 2020-01-07 after 2020-01-07 .*row 5"),
    "twice a day": (GOOD + "2020-01-07 16:00,1,1\n", r"dates must be unique, got 2020-01-07"),
    "hole": (GOOD + "2020-01-22,1,1\n", r"no hole of more than 14 calendar days, got 2020-01-22 after 2020-01-07"),
    "gap": (GOOD.replace("11,21", "11,"), r"BBB must have a price on each day, got a gap .*2020-01-03.*fill_days"),
    "NaN": (GOOD.replace("11,21", "nan,21"), r"AAA must have a price on each day, got a gap .*2020-01-03"),
    "infinite": (GOOD.replace("11,21", "11,inf"), r"BBB must be a positive finite price, got inf .*2020-01-03"),
    "zero": (GOOD.replace("12,22", "0,22"), r"AAA must be a positive finite price, got 0 .*2020-01-06"),
    "negative": (GOOD.replace("12,22", "12,-2"), r"BBB must be a positive finite price, got -2 .*2020-01-06"),
    "text": (GOOD.replace("12,22", "12,n/t"), r"BBB must be a number, got 'n/t' .*2020-01-06.*Correct the cell"),
    "thousands": (GOOD.replace("12,22", '12,"1,022"'), r"BBB must be a number, got '1,022' .*2020-01-06"),
    "booleans": ("date,AAA\n2020-01-02,True\n2020-01-03,False\n", r"AAA must be a number, got 'True'.*2020-01-02"),
    "duplicate ticker": (GOOD.replace("BBB", "AAA"), r"column names must differ, got AAA twice"),
    "missing name": (GOOD.replace("BBB", ""), r"must have a name, got none for column 3"),
    "no name, no row numbers": (",date,AAA\n2,2020-01-02,1\n2,2020-01-03,1\n", r"must have a name, got 'Unnamed: 0'"),
    "CASH": (GOOD.replace("BBB", "CASH"), r"asset names must not be CASH, got 'CASH'.*set cash_rate"),
    "one row": ("date,AAA\n2020-01-02,1\n", r"at least two days, got 1"),
    "long rows": (GOOD + "2020-01-08,1,2,3\n", r"each row must have one cell per column"),
    "all rows long": ("date,AAA\n2020-01-02,1,2\n2020-01-03,1,2\n", r"each row must have one cell per column"),
    "short row": (GOOD + "2020-01-08,1\n", r"BBB must have a price on each day.*2020-01-08"),
    "open quotes": (',",AAA,BBB\n0,2020-01-02,1.5\n', r"each column must have a name, got 3 columns below 2 names"),
    "open quotes alone": ('"date,AAA,BBB\n', r"at least one price column|must hold dated prices"),
    "latin-1": ("date,Börse\n2020-01-02,1\n".encode("latin-1"), r"must be UTF-8 text"),
    "gap in index": (GOOD.replace("BBB", "index").replace("11,21", "11,"), r"index must have a price.*2020-01-03"),
    "gap in VIX": (GOOD.replace("BBB", "VIX").replace("11,21", "11,"), r"VIX must be a finite number.*2020-01-03"),
    "text regime": (GOOD.replace("BBB", "regime").replace("11,21", "11,bull"), r"regime must be a number, got 'bull'"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_table_is_refused_with_its_place(tmp_path, name):
    content, message = BROKEN[name]
    with pytest.raises(DataError, match=message) as error:
        checked(write(tmp_path / "prices.csv", content))
    assert "prices.csv" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_file_and_an_unknown_suffix_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"must exist, got .*none.csv"):
        checked(tmp_path / "none.csv")
    with pytest.raises(
        DataError, match=r"must end in \.csv, \.csv\.gz, \.parquet, \.feather or \.zip, got prices\.xlsx"
    ):
        checked(write(tmp_path / "prices.xlsx", GOOD))


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"must be readable, got .*a\.csv \(File name too long\)\. Check its path"):
        read_frame(tmp_path / f"{'a' * 300}.csv")


def test_a_file_that_is_not_what_its_suffix_says_is_refused(tmp_path):
    random_prices(10).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"must be text, got a Parquet file .*Rename it to .parquet"):
        checked((tmp_path / "a.parquet").rename(tmp_path / "a.csv"))
    with pytest.raises(DataError, match=r"must be Parquet, got other content"):
        checked(write(tmp_path / "b.parquet", GOOD))
    with pytest.raises(DataError, match=r"must be readable, got a damaged one"):
        checked(write(tmp_path / "c.parquet", b"PAR1 and nothing more"))


# ---------------------------------------------------------------- what is read


def test_csv_and_parquet_of_the_same_prices_read_the_same(tmp_path):
    prices = random_prices(30)
    prices.to_csv(tmp_path / "a.csv")
    prices.to_parquet(tmp_path / "a.parquet")
    prices.reset_index().to_parquet(tmp_path / "b.parquet")
    prices.set_axis(prices.index.date, axis=0).to_parquet(tmp_path / "c.parquet")
    prices.tz_localize("America/New_York").to_parquet(tmp_path / "d.parquet")
    for name in ("a.csv", "a.parquet", "b.parquet", "c.parquet", "d.parquet"):
        table = checked(tmp_path / name)
        np.testing.assert_array_equal(table.price_values, prices.to_numpy(), err_msg=name)  # floats survive exactly
        assert list(table.dates) == list(prices.index.to_numpy().astype("datetime64[D]"))


@pytest.mark.parametrize("header", ["Date", "timestamp", "DATETIME", ""])
def test_the_days_are_found_by_name_or_position(tmp_path, header):
    table = checked(write(tmp_path / "prices.csv", GOOD.replace("date", header)))
    assert str(table.dates[0]) == "2020-01-02"
    assert list(table.prices.columns) == ["AAA", "BBB"]


@pytest.mark.parametrize(
    "content", ["AAA,date\n1,2020-01-02\n2,2020-01-03\n", "\ufeffdate,AAA\n2020-01-02,1\n2020-01-03,2\n"]
)
def test_the_days_may_be_in_any_named_column_and_after_a_byte_order_mark(tmp_path, content):
    assert checked(write(tmp_path / "p.csv", content)).prices.shape == (2, 1)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_two_columns_of_days_are_refused(tmp_path, suffix):
    path = tmp_path / f"prices{suffix}"
    days = pd.date_range("2020-01-02", periods=3)
    frame = pd.DataFrame({"date": days, "AAA": [1.0, 2.0, 3.0], "Timestamp": days.astype("int64") // 10**9})
    frame.to_csv(path, index=False) if suffix == ".csv" else frame.assign(Timestamp=days).to_parquet(path)
    message = r"must have one column of days, got date, Timestamp .*prices.* Remove the"
    with pytest.raises(DataError, match=message):
        read_frame(path)
    if suffix == ".parquet":
        pd.read_parquet(path).set_index("date").to_parquet(path)
        with pytest.raises(DataError, match=message):
            read_frame(path)
        pd.read_parquet(path).set_index("Timestamp", drop=False).to_parquet(path)  # twice the same
        assert list(read_frame(path).columns) == ["AAA"]


@pytest.mark.parametrize("form", ["parquet", "frame"])
@pytest.mark.parametrize("index_name", [None, "opened", "time"])
def test_a_column_of_days_beside_an_index_of_days_must_hold_the_same(tmp_path, form, index_name):
    days = pd.DatetimeIndex(["2020-01-02", "2020-01-03", "2020-01-06"], name=index_name)

    def read(column, index=days):
        frame = pd.DataFrame({"time": column, "AAA": [1.5, 2.5, 3.5]}, index)
        if form == "frame":
            return tabulated(frame, "a DataFrame")
        frame.to_parquet(tmp_path / "p.parquet")
        return read_frame(tmp_path / "p.parquet")

    for same in (days, days + pd.Timedelta(hours=16), days.strftime("%Y-%m-%d")):
        table = read(same)
        assert list(table.columns) == ["AAA"]
        assert table.index.equals(days)
    zoned = read(days, days.tz_localize("America/New_York"))  # the index tells the clock, the column does not
    assert str(zoned.attrs["time_zone"]) == "America/New_York"
    for other in (days + pd.Timedelta(days=1), ["16:00", "16:00", "13:00"], [1577923200, 1578009600, 1578268800]):
        message = r"days must be in one place, got an index of days and a column time that .* Remove the column"
        with pytest.raises(DataError, match=message):
            read(other)


def test_a_subset_of_the_assets_keeps_its_order(tmp_path):
    path = write(tmp_path / "p.csv", GOOD)
    assert list(checked(path, assets=("BBB", "AAA")).prices.columns) == ["BBB", "AAA"]
    with pytest.raises(ConfigError, match=r"assets must be different columns of the table, got ZZZ .*AAA, BBB"):
        checked(path, assets=("ZZZ", "AAA"))
    with pytest.raises(ConfigError, match="assets must be different columns"):
        checked(path, assets=("AAA", "AAA"))


def test_a_cash_rate_in_percent_or_of_no_column_is_refused(tmp_path):
    path = write(tmp_path / "p.csv", GOOD)
    with pytest.raises(ConfigError, match=r"cash_rate must be a number or a column of the table, got 'rate'"):
        checked(path, cash_rate="rate")
    with pytest.raises(DataError, match=r"BBB must be an annual rate as a fraction .*got 20 .*2020-01-02.*by 100"):
        checked(path, cash_rate="BBB")


# ---------------------------------------------------------------- filling


def test_gaps_are_filled_as_far_as_allowed_and_reported(tmp_path):
    path = write(tmp_path / "p.csv", GOOD.replace("11,21", ",").replace("12,22", ",22"))
    table = checked(path, fill_days=2)
    assert table.prices["AAA"].to_list() == [10, 10, 10, 13]
    assert table.notes[1:] == ("3 missing cells were filled forward, at most 2 days in a row: AAA 2, BBB 1.",)
    with pytest.raises(DataError, match=r"AAA must have a price .*fill_days = 1 .*2020-01-06"):
        checked(path, fill_days=1)


def test_days_before_the_first_price_are_not_filled_because_the_asset_lists_late(tmp_path):
    table = checked(write(tmp_path / "p.csv", GOOD.replace("10,20", ",20")), fill_days=30)
    np.testing.assert_array_equal(table.prices["AAA"], [np.nan, 11, 12, 13])


# ---------------------------------------------------------------- the index from its own file


def test_the_index_is_read_from_its_own_file_by_day(tmp_path):
    path = write(tmp_path / "p.csv", GOOD)
    index = write(
        tmp_path / "i.csv", "date,level\n2020-01-02,1\n2020-01-03,2\n2020-01-05,9\n2020-01-06,3\n2020-01-07,4\n"
    )
    table = checked(path, index_path=str(index))
    assert table.index_values.tolist() == [1, 2, 3, 4]
    assert table.notes[1:] == ("The index has 1 days on which there are no prices; they were not used.",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("date,level\n2020-01-02,1\n2020-01-03,2\n2020-01-07,4\n", r"index must have a price .*2020-01-06"),
        ("date,level,other\n2020-01-02,1,1\n", r"a date and one column, got level, other .*i.csv"),
        ("date,level\n2020-01-02,1\n2020-01-02,1\n", r"index must have one level per day, got two .*2020-01-02"),
        ("date,level\n2020-01-02,x\n", r"level must be a number, got 'x' .*i.csv, 2020-01-02"),
    ],
)
def test_a_broken_index_file_is_refused(tmp_path, content, message):
    path, index = write(tmp_path / "p.csv", GOOD), write(tmp_path / "i.csv", content)
    with pytest.raises(DataError, match=message):
        checked(path, index_path=str(index))


def test_two_indices_are_refused(tmp_path):
    path = write(tmp_path / "p.csv", GOOD.replace("BBB", "index"))
    with pytest.raises(ConfigError, match="the index must come from one place"):
        checked(path, index_path=str(write(tmp_path / "i.csv", "date,level\n2020-01-02,1\n")))
    with pytest.raises(ConfigError, match="index_path must be null for sp500"):
        read_table(MarketConfig(index_path="i.csv"))


def test_monthly_prices_may_have_monthly_holes():
    prices = pd.DataFrame({"AAA": [1.0, 2.0, 3.0]}, index=pd.to_datetime(["2020-01-31", "2020-02-28", "2020-03-31"]))
    table = PriceTable(prices, None, pd.DataFrame(index=prices.index), "monthly")
    validate_table(table, MarketConfig(data="monthly", periods_per_year=12))
    with pytest.raises(DataError, match="no hole of more than 14 calendar days"):
        validate_table(table, MarketConfig(data="monthly"))


def without(days: pd.DatetimeIndex, *holes: tuple[str, str]) -> PriceTable:
    """A table of one asset without the days in the holes, both ends left out."""
    for first, last in holes:
        days = days[(days <= first) | (days >= last)]
    prices = pd.DataFrame({"AAA": np.linspace(10.0, 20.0, len(days))}, days)
    return PriceTable(prices, None, pd.DataFrame(index=days), "table")


def test_a_rare_closure_of_the_exchange_is_a_note():
    config = MarketConfig(data="table")
    weekdays = pd.bdate_range("2014-01-02", "2023-06-30")
    moscow = without(weekdays, ("2022-02-25", "2022-03-24"))
    (note,) = validate_table(moscow, config).notes
    assert note.endswith("closed: 2022-02-25 to 2022-03-24 (27 days).")
    both = without(weekdays, ("2015-06-26", "2015-08-03"), ("2022-02-25", "2022-03-24"))
    (note,) = validate_table(both, config).notes
    assert note.endswith("closed: 2015-06-26 to 2015-08-03 (38 days), 2022-02-25 to 2022-03-24 (27 days).")
    a_year_with_athens = without(pd.bdate_range("2015-01-02", "2015-12-31"), ("2015-06-26", "2015-08-03"))
    assert len(validate_table(a_year_with_athens, config).notes) == 1
    weekly = without(pd.date_range("2014-01-03", "2020-01-01", freq="W-FRI"), ("2015-06-26", "2015-08-07"))
    assert "(42 days)" in validate_table(weekly, config).notes[0]
    assert validate_table(without(weekdays), config).notes == ()


@pytest.mark.parametrize(
    ("holes", "message"),
    [
        ([("2015-01-02", "2015-09-01")], "no hole of more than 183 calendar days, got 2015-09-01 after 2015-01-02"),
        (
            [("2020-02-03", "2020-03-02"), ("2020-05-04", "2020-06-01"), ("2021-02-01", "2021-03-01")],
            r"more than 14 .* got 2020-03-02 after 2020-02-03 \(table, row \d+\), and 2 more\. Rows seem to be missing",
        ),
        (
            [("2020-02-03", "2020-03-02"), ("2020-05-04", "2020-06-01")],
            r"more than 14 .*, and 1 more\. Add the missing days, or cut the table",
        ),
    ],
)
def test_long_and_recurring_holes_are_refused(holes, message):
    table = without(pd.bdate_range("2015-01-02" if len(holes) < 2 else "2020-01-02", "2021-12-30"), *holes)
    with pytest.raises(DataError, match=message):
        validate_table(table, MarketConfig(data="table"))


def test_days_that_were_read_as_months_are_told():
    days = pd.bdate_range("2015-01-02", "2018-12-31")
    table = without(days[days.day <= 12])  # what is left where 13/02 is no date, and 02/03 is 3 February
    with pytest.raises(DataError, match=r"Days and months look exchanged .*: write the dates as YYYY-MM-DD"):
        validate_table(table, MarketConfig(data="table"))


def test_returns_instead_of_prices_are_told():
    returns = np.random.default_rng(0).normal(0.0, 1.0, (100, 2))
    frame = pd.DataFrame(returns, pd.bdate_range("2020-01-02", periods=100), ["AAA", "BBB"])
    table = PriceTable(frame, None, frame[[]], "made in Python")
    message = r"[AB]+ must be a column of prices, got \d\d % of its values at 0 or below .*Python.*looks like returns"
    with pytest.raises(DataError, match=message):
        validate_table(table, MarketConfig(data="table"))


def test_a_table_that_is_not_indexed_by_days_is_refused():
    prices = pd.DataFrame({"AAA": [1.0, 2.0]})
    table = PriceTable(prices, None, pd.DataFrame(index=prices.index), "rows")
    with pytest.raises(DataError, match="prices must be indexed by days, got RangeIndex"):
        validate_table(table, MarketConfig(data="rows"))


# ---------------------------------------------------------------- what is said of it


def test_the_hash_of_a_wide_table_is_what_it_was(tmp_path):
    path = write(tmp_path / "p.csv", GOOD.replace("12,22", "12,22.5"))
    table = read_table(MarketConfig(data=str(path)))
    digest = hashlib.sha256(np.array([18263, 18264, 18267, 18268], dtype="<i8").tobytes())
    digest.update(b"AAA\0BBB")
    digest.update(np.array([[10, 20], [11, 21], [12, 22.5], [13, 23]], dtype="<f8").tobytes())
    assert data_hash(table.dates, list(table.prices.columns), table.price_values) == digest.hexdigest()


def test_bars_are_named_after_the_file_or_the_chosen_part_of_its_name(tmp_path):
    text = "Date,Open,Close,Volume\n2020-01-02,10,11,1000\n2020-01-03,11,12,2000\n"
    path = write(tmp_path / "aapl_2024.csv", text)
    assert list(checked(path).prices.columns) == ["aapl_2024"]
    assert list(checked(path, assets=("AAPL",)).prices.columns) == ["AAPL"]  # as a policy of AAPL.csv knows it
    for other in ("MSFT", "A"):
        with pytest.raises(ConfigError, match=rf"assets must be .*, got {other} .*Choose from aapl_2024"):
            checked(path, assets=(other,))


# ---------------------------------------------------------------- where it is


def test_parts_of_names_that_are_words_of_bars_do_not_make_a_field(tmp_path):
    names = ["Small", "Small High", "Small Low", "High Yield", "Low Vol", "Open Text", "Close Brothers", "Oil Price"]
    path = tmp_path / "p.parquet"
    pd.DataFrame(10.5, pd.bdate_range("2020-01-02", periods=3), names).to_parquet(path)
    assert list(checked(path).prices.columns) == names


def test_a_tilde_is_the_home_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    prices = random_prices(1200)
    prices.to_csv(tmp_path / "p.csv")
    prices[["AAA"]].to_csv(tmp_path / "i.csv")
    assert checked("~/p.csv", index_path="~/i.csv").index is not None
    market = load_market("~/p.csv")
    market.save(tmp_path / "m.npz")
    assert load_market("~/m.npz").data_hash == market.data_hash
    assert lasting_path("~/p.csv") == str(tmp_path / "p.csv")
    bootstrap = {"source": "bootstrap", "table": "~/p.csv", "num_days": 1200}
    assert load_market(bootstrap).assets == ("AAA", "BBB", "CCC")


def test_a_folder_without_a_table_or_with_a_table_of_several_assets_is_refused(tmp_path):
    with pytest.raises(
        DataError, match=r"must hold one table per asset, got none that ends in \.csv, .* Name a file\."
    ):
        checked(tmp_path)
    write(tmp_path / "p.csv", GOOD)
    with pytest.raises(DataError, match=r"each file must hold one asset .* got AAA, BBB \(.*/p\.csv\)\. .* name this"):
        checked(tmp_path)


# ---------------------------------------------------------------- DataFrames


def test_a_frame_is_a_market_as_its_file_is(tmp_path):
    prices = random_prices(1200)
    prices.to_parquet(tmp_path / "p.parquet")
    from_file = load_market({"data": str(tmp_path / "p.parquet"), "cash_rate": 0.01})
    for frame in (prices, prices.reset_index()):
        market = load_market({"data": frame, "cash_rate": 0.01})
        assert market.data_hash == from_file.data_hash
        np.testing.assert_array_equal(market.asset_features, from_file.asset_features)
    env = gymnasium.make("rllib_portfolio/Portfolio-v0", data=prices, features={"num_hmm_regimes": 0})
    assert env.unwrapped.simulation.market.data_hash == from_file.data_hash
    assert "hmm" not in "".join(env.unwrapped.observation_names)
    assert gymnasium.make("rllib_portfolio/Portfolio-v0", data=tmp_path / "p.parquet").reset(seed=0)
    assert list(prices.columns) == ["AAA", "BBB", "CCC"]  # what was given is left as it was


@pytest.mark.parametrize("data", [np.ones(3), pd.Series([1.0, 2.0], name="AAA"), 3, None, ["p.csv"]])
def test_what_is_no_market_is_refused_in_one_line(data):
    for call in (load_market, lambda each: gymnasium.make("rllib_portfolio/Portfolio-v0", data=each)):
        with pytest.raises(ConfigError, match=r"market\.data must be .* got a value of type \w+\. ") as error:
            call(data)
        assert "\n" not in str(error.value)


def test_a_frame_without_days_is_refused():
    with pytest.raises(DataError, match=r"AAA must hold days as YYYY-MM-DD, got .*1\.5.*\(a DataFrame, row 1\)"):
        load_market(pd.DataFrame({"AAA": [1.5, 2.5], "BBB": [1.0, 2.0]}))


# ---------------------------------------------------------------- time zones


def test_days_are_those_of_the_clock_that_the_stamps_were_written_by(tmp_path):
    days = pd.bdate_range("2018-01-01", "2020-12-31", name="date")
    frame = pd.DataFrame({"AAA": np.arange(len(days)) / 8 + 10.5}, days.tz_localize("Europe/Berlin"))
    frame.to_csv(tmp_path / "p.csv")  # offsets +01:00 and +02:00
    read = read_frame(tmp_path / "p.csv")
    assert read.index.equals(days)
    assert str(read.attrs["time_zone"]) == "Europe/Berlin"
