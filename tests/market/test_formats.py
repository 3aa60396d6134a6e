"""Tables as people have them: long tables, folders, archives, returns, written numbers and days."""

from __future__ import annotations

import gzip
import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from rllib_portfolio.cli import data as main
from rllib_portfolio.config import MarketConfig
from rllib_portfolio.errors import ConfigError, DataError
from rllib_portfolio.market import PriceTable, read_table

DAYS = pd.DatetimeIndex(["2020-01-02", "2020-01-03", "2020-01-16"], name="date")
PRICES = pd.DataFrame({"AAPL": [72.5, 73.25, 1074.5], "MSFT": [153.5, 151.25, 1154.0]}, DAYS)
VOLUMES = pd.DataFrame({"AAPL": [1000.0, 2000.0, 3000.0], "MSFT": [4000.0, 5000.0, 6000.0]}, DAYS)


def read(path: Path, **values: Any) -> PriceTable:
    return read_table(MarketConfig(data=str(path), **values))


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def assert_is_the_table(table: PriceTable, volumes: bool = True) -> None:
    pd.testing.assert_frame_equal(table.prices, PRICES, check_names=False, check_freq=False, check_index_type=False)
    if volumes:
        pd.testing.assert_frame_equal(table.asset_extra["volume"], VOLUMES, check_names=False, check_freq=False)


def long(**columns: Any) -> pd.DataFrame:
    """The prices and volumes with a row per day and ticker, and other columns by row."""
    stacked = {"close": PRICES.stack(), "volume": VOLUMES.stack()}
    return pd.DataFrame(stacked).rename_axis(["date", "tic"]).reset_index().assign(**columns)


# ---------------------------------------------------------------- kinds of files


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".parquet", ".feather", ".CSV"])
@pytest.mark.parametrize("shape", ["wide", "long", "two levels"])
def test_each_kind_of_file_holds_each_shape_of_table(tmp_path: Path, suffix: str, shape: str) -> None:
    levels = pd.concat({"Close": PRICES, "Volume": VOLUMES}, axis=1, names=["Price", "Ticker"])
    frame = {"wide": PRICES, "long": long(), "two levels": levels}[shape]
    path = tmp_path / f"prices{suffix}"
    if suffix == ".feather":
        flat = frame.set_axis(map(str, frame.columns), axis=1)
        flat.reset_index(drop=shape == "long").to_feather(path)
    elif suffix == ".parquet":
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=shape != "long")
    assert_is_the_table(read(path), volumes=shape != "wide")


def test_a_zip_file_with_one_table_is_that_table(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "prices.zip", "w") as archive:
        archive.writestr("__MACOSX/._prices.csv", "junk")
        archive.writestr("inner/prices.csv", long().to_csv(index=False))
    table = read(tmp_path / "prices.zip")
    assert_is_the_table(table)
    assert "in a CSV file in a zip file; 3 days" in table.notes[0]


# ---------------------------------------------------------------- long tables


@pytest.mark.parametrize("stock", ["asset", "tic", "Ticker", "SYMBOL", "permno", "code"])
@pytest.mark.parametrize("price", ["adj_close", "Adjusted", "close", "Price"])
def test_a_long_table_is_known_by_the_names_of_its_columns(tmp_path: Path, stock: str, price: str) -> None:
    frame = long().rename(columns={"tic": stock, "close": price}).sample(frac=1.0, random_state=0)
    frame.to_csv(tmp_path / "p.csv", index=False)
    table = read(tmp_path / "p.csv")
    assert_is_the_table(table)
    assert f"a row per day and {stock}, in a CSV file; 3 days" in table.notes[0]
    assert f"the price is {price}" in table.notes[0]


def test_numeric_columns_belong_to_the_assets_unless_a_day_has_one_value(tmp_path: Path) -> None:
    frame = long(
        sentiment=[0.5, -0.5, np.nan, 0.25, 0.1, 0.2],  # missing once
        sparse=[1.0, np.nan, np.nan, np.nan, np.nan, 2.0],  # never two on a day: belongs to assets
        vix=[12.5, 12.5, 13.0, 13.0, 14.0, 14.0],
        benchmark=[3257.0, 3257.0, 3234.0, 3234.0, 3246.5, 3246.5],
        bills=[0.01, 0.01, 0.02, 0.02, np.nan, np.nan],
        sector=["IT", "IT", "IT", "IT", "IT", "IT"],
        day=[3, 3, 4, 4, 3, 3],
        open=1.0,
        empty=np.nan,
    )
    frame.to_csv(tmp_path / "p.csv")
    table = read(tmp_path / "p.csv")
    assert_is_the_table(table)
    assert list(table.asset_extra) == ["volume", "sentiment", "sparse"]
    expected = frame.pivot(index="date", columns="tic", values="sentiment")
    np.testing.assert_array_equal(table.asset_extra["sentiment"], expected)
    assert list(table.extra.columns) == ["VIX", "bills"]
    np.testing.assert_array_equal(table.extra["VIX"], [12.5, 13.0, 14.0])
    np.testing.assert_array_equal(table.extra["bills"], [0.01, 0.02, np.nan])
    assert table.index_values.tolist() == [3257.0, 3234.0, 3246.5]
    note = table.notes[0]
    assert "3 features per asset (volume, sentiment, sparse); extra columns VIX (vix), bills" in note
    for told in (
        "Unnamed: 0 (row numbers)",
        "sector (text)",
        "open (other fields)",
        "empty (no value)",
        "day (calendar)",
    ):
        assert told in note


def test_lives_of_a_long_table_stay_empty_outside_their_rows(tmp_path: Path) -> None:
    frame = long().drop(index=[0, 5])  # AAPL lists on the second day, MSFT leaves before the third
    frame.to_csv(tmp_path / "p.csv", index=False)
    expected = PRICES.copy()
    expected.iloc[0, 0] = expected.iloc[2, 1] = np.nan
    np.testing.assert_array_equal(read(tmp_path / "p.csv").prices, expected)


def test_names_of_assets_keep_leading_zeros_and_numbers_are_sorted_as_such(tmp_path: Path) -> None:
    for suffix in ("csv", "parquet"):
        frame = long().assign(tic=["000020", "600000"] * 3).rename(columns={"tic": "code"})
        path = tmp_path / f"p.{suffix}"
        frame.to_csv(path, index=False) if suffix == "csv" else frame.to_parquet(path)
        assert list(read(path).prices) == ["000020", "600000"]
    long().assign(tic=[10107.0, 926.0] * 3).rename(columns={"tic": "permno"}).to_parquet(tmp_path / "n.parquet")
    assert list(read(tmp_path / "n.parquet").prices) == ["926", "10107"]


def test_stable_identifiers_are_preferred_to_tickers_which_may_be_used_again(tmp_path: Path) -> None:
    frame = long().assign(permno=[1, 2] * 3, tic=["A", "B", "A", "B", "B", "A"]).rename(columns={"tic": "ticker"})
    frame.to_csv(tmp_path / "p.csv", index=False)
    table = read(tmp_path / "p.csv")
    assert list(table.prices) == ["1", "2"]
    assert "left out: ticker (names)" in table.notes[0]


def test_a_melted_table_and_stocks_that_are_an_index_are_read(tmp_path: Path) -> None:
    with_index = PRICES.assign(**{"^VIX": [12.5, 13.0, 14.0], "benchmark": [3257.0, 3234.0, 3246.5]})
    with_index.reset_index().melt("date").to_csv(tmp_path / "p.csv", index=False)
    table = read(tmp_path / "p.csv")
    assert_is_the_table(table, volumes=False)
    assert list(table.extra.columns) == ["VIX"]
    assert table.index_values.tolist() == [3257.0, 3234.0, 3246.5]


def test_a_subset_and_the_cash_rate_of_a_long_table(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    long(bills=[0.01, 0.01, 0.02, 0.02, 0.03, 0.03], own=range(6)).to_csv(path, index=False)
    table = read(path, assets=("MSFT",), cash_rate="bills")
    assert list(table.prices) == list(table.asset_extra["own"]) == ["MSFT"]
    assert table.extra["bills"].tolist() == [0.01, 0.02, 0.03]
    with pytest.raises(ConfigError, match=r"cash_rate must name a column that is the same for all assets .* got own"):
        read(path, cash_rate="own")


def test_a_frame_with_days_and_assets_in_the_index_is_a_long_table() -> None:
    for names in (["date", "tic"], [None, None]):
        frame = long().set_index(["date", "tic"]).rename_axis(names)
        assert_is_the_table(read_table(MarketConfig(data="a DataFrame"), frame))
    assert_is_the_table(read_table(MarketConfig(data="a DataFrame"), long().set_index(["tic", "date"])))


BROKEN_LONG = {
    "two rows": (lambda frame: pd.concat([frame, frame.tail(1)]), r"one row per tic, got two of MSFT .*2020-01-16"),
    "no name": (
        lambda frame: frame.assign(tic=["AAPL", None] * 3),
        r"tic must name the asset of each row, got an empty",
    ),
    "no price": (lambda frame: frame.rename(columns={"close": "open"}), r"a column of prices .* got open, volume"),
    "returns": (lambda frame: frame.rename(columns={"close": "ret"}), r"Set market\.kind to returns"),
    "text": (
        lambda frame: frame.assign(close=["x", *"12345"]),
        r"close must be a number, got 'x' of AAPL .*2020-01-02",
    ),
    "some text": (lambda frame: frame.assign(score=["x", *"12345"]), r"score must be a number, got 'x' of AAPL"),
    "one name": (lambda frame: frame.assign(AAPL=[1, 1, 2, 2, 3, 3]), r"must differ, got AAPL for both"),
}


@pytest.mark.parametrize("name", BROKEN_LONG)
def test_a_broken_long_table_is_one_line_and_exit_code_two(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil, message = BROKEN_LONG[name]
    spoil(long()).to_csv(tmp_path / "p.csv", index=False)
    assert_refused(tmp_path / "p.csv", message, capsys)


def assert_refused(path: Path, message: str, capsys: pytest.CaptureFixture[str], *settings: str) -> None:
    """Check that both the reader and the command say what is wrong, in one line."""
    words = [word for setting in settings for word in ("--set", f"market.{setting}")]
    assert main(["validate", str(path), *words]) == 2
    told = capsys.readouterr()
    (line,) = told.err.splitlines()
    assert "Traceback" not in told.out
    with pytest.raises(DataError, match=message):
        raise DataError(line.removeprefix("error: "))


# ---------------------------------------------------------------- a file per asset


def bars(asset: str) -> pd.DataFrame:
    fields = {"Open": 1.0, "High": 2.0, "Low": 0.5, "Close": PRICES[asset] * 2, "Adj Close": PRICES[asset]}
    return pd.DataFrame({**fields, "Volume": VOLUMES[asset]}, DAYS)


def yahoo(asset: str) -> pd.DataFrame:
    frame = bars(asset)
    return frame.set_axis(pd.MultiIndex.from_product([frame.columns, [asset]], names=["Price", "Ticker"]), axis=1)


WRITERS: dict[str, Callable[[Path], None]] = {
    "CSV": lambda folder: [bars(name).to_csv(folder / f"{name}.csv") for name in PRICES],
    "newest first": lambda folder: [bars(name)[::-1].to_csv(folder / f"{name}.csv.gz") for name in PRICES],
    "two header rows": lambda folder: [yahoo(name).to_csv(folder / f"{name}.csv") for name in PRICES],
    "mixed": lambda folder: [
        bars("AAPL").to_parquet(folder / "AAPL.parquet"), bars("MSFT").reset_index().to_feather(folder / "MSFT.feather")
    ],
}  # fmt: skip


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("packed", [False, True])
def test_a_folder_or_zip_file_of_one_table_per_asset(tmp_path: Path, writer: str, packed: bool) -> None:
    folder = tmp_path / "stocks"
    folder.mkdir()
    WRITERS[writer](folder)
    for name in ("exits.csv", "membership.csv", "assets.csv", ".hidden.csv", "README.txt"):
        (folder / name).write_text("nothing of the prices")
    if packed:
        with zipfile.ZipFile(tmp_path / "stocks.zip", "w") as archive:
            for file in folder.iterdir():
                archive.write(file, f"stocks/{file.name}")
    table = read(tmp_path / ("stocks.zip" if packed else "stocks"))
    assert_is_the_table(table)
    assert f"one table per asset, in a {'zip file' if packed else 'folder'} of 2 files; 3 days" in table.notes[0]
    assert "2 assets (AAPL, MSFT); the price is Adj Close; no index; 1 feature per asset (volume)" in table.notes[0]


def test_files_of_a_folder_may_have_other_days_fields_and_an_index(tmp_path: Path) -> None:
    bars("AAPL").assign(sentiment=[0.5, 0.25, 0.75]).iloc[1:].to_csv(tmp_path / "AAPL.csv")
    bars("MSFT").assign(sentiment=[0.1, 0.2, 0.3]).drop(columns="Volume").iloc[:2].to_csv(tmp_path / "MSFT.csv")
    pd.DataFrame({"SP500": [3257.0, 3234.0, 3246.5]}, DAYS).to_csv(tmp_path / "index.csv")
    table = read(tmp_path)
    expected = PRICES.copy()
    expected.iloc[0, 0] = expected.iloc[2, 1] = np.nan
    np.testing.assert_array_equal(table.prices, expected)
    np.testing.assert_array_equal(table.asset_extra["sentiment"], [[np.nan, 0.1], [0.25, 0.2], [0.75, np.nan]])
    assert table.asset_extra["volume"]["MSFT"].isna().all()
    assert table.index_values.tolist() == [3257.0, 3234.0, 3246.5]


def test_broken_folders_and_zip_files_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def folder(name: str, **files: str) -> Path:
        (tmp_path / name).mkdir()
        for stem, content in files.items():
            (tmp_path / name / f"{stem}.csv").write_text(content)
        return tmp_path / name

    good = bars("AAPL").to_csv()
    assert_refused(folder("none"), r"a folder of prices must hold one table per asset, got none", capsys)
    assert_refused(folder("wide", A=good, B=PRICES.to_csv()), r"one asset .* got AAPL, MSFT \(.*B\.csv\)", capsys)
    assert_refused(folder("long", A=long().to_csv(index=False)), r"one asset with one row per day, got two", capsys)
    assert_refused(
        folder("text", A=good, B="Date,Close\n2020-01-02,x\n"), r"close must be a number, got 'x' of B", capsys
    )
    zone = bars("MSFT").tz_localize("Asia/Tokyo").to_csv()
    assert_refused(folder("zones", A=good, B=zone), r"one time zone, got no time zone in A\.csv and UTC\+09:00", capsys)
    assert_refused(written(tmp_path / "a.zip", "no zip"), r"must be readable, got .*a\.zip .*not a zip file", capsys)
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        archive.writestr("x/A.csv", good)
        archive.writestr("y/A.csv", good)
    assert_refused(tmp_path / "b.zip", r"each asset must have one file, got A twice", capsys)
    cut = gzip.compress(good.encode())[:-12]
    assert_refused(written(tmp_path / "c.csv.gz", cut), r"must be readable, got .*c\.csv\.gz", capsys)
    assert_refused(written(tmp_path / "d.csv", cut), r"a \.csv file must be text, got a compressed CSV file", capsys)
    assert_refused(
        written(tmp_path / "e.feather", "text"), r"a \.feather file must be Feather, got other content", capsys
    )
    assert_refused(written(tmp_path / "f.feather", b"ARROW1 cut"), r"must be readable, got a damaged one", capsys)


# ---------------------------------------------------------------- written numbers


NUMBERS = {
    "semicolons and decimal commas": "date;AAPL;MSFT\n2020-01-02;72,5;153,5\n2020-01-03;73,25;151,25\n"
    "2020-01-16;1074,5;1154\n",
    "thousands with points": "date;AAPL;MSFT\n2020-01-02;72,5;153,5\n2020-01-03;73,25;151,25\n"
    "2020-01-16;1.074,5;1.154\n",
    "thousands with spaces": "date;AAPL;MSFT\n2020-01-02;72,5;153,5\n2020-01-03;73,25;151,25\n"
    "2020-01-16;1 074,5;1\u00a0154\n",
    "thousands with commas": 'date,AAPL,MSFT\n2020-01-02,72.5,153.5\n2020-01-03,73.25,151.25\n'
    '2020-01-16,"1,074.5","1,154"\n',
    "quoted decimal commas": 'date,AAPL,MSFT\n2020-01-02,"72,5","153,5"\n2020-01-03,"73,25","151,25"\n'
    '2020-01-16,"1.074,5",1154\n',
    "dollars": "date,AAPL,MSFT\n2020-01-02,$72.5,$153.5\n2020-01-03,$73.25,$151.25\n2020-01-16,$1074.5,$1154\n",
    "tabs": "date\tAAPL\tMSFT\n2020-01-02\t72.5\t153.5\n2020-01-03\t73.25\t151.25\n2020-01-16\t1074.5\t1154\n",
    "byte-order mark and CRLF": "\ufeffdate;AAPL;MSFT\r\n2020-01-02;72,5;153,5\r\n2020-01-03;73,25;151,25\r\n"
    "2020-01-16;1074,5;1154\r\n",
    "newest first": "date,AAPL,MSFT\n2020-01-16,1074.5,1154\n2020-01-03,73.25,151.25\n2020-01-02,72.5,153.5\n",
}  # fmt: skip


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_are_read_as_they_are_written(tmp_path: Path, name: str) -> None:
    assert_is_the_table(read(written(tmp_path / "p.csv", NUMBERS[name])), volumes=False)


def test_bars_as_a_web_site_writes_them(tmp_path: Path) -> None:
    content = '"Date","Price","Open","Vol.","Change %"\n"01/16/2020","1,074.50","1.0","1.5M","0.1%"\n'
    content += '"01/03/2020","73.25","1.0","2.25K","0.1%"\n"01/02/2020","72.50","1.0","3B","-0.97%"\n'
    table = read(written(tmp_path / "AAPL.csv", content))
    assert table.prices["AAPL"].tolist() == PRICES["AAPL"].tolist()
    assert table.asset_extra["volume"]["AAPL"].tolist() == [3e9, 2250.0, 1.5e6]
    assert "days written as %m/%d/%Y" in table.notes[0]


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (("20", '"1,022"'), r"BBB must be a number, got '1,022' .*2020-01-03.* without a thousands separator"),
        (('"7,5"', "8.5"), r"BBB must be a number, got '7,5'"),
        (("20.5", '"1,02,2"'), r"BBB must be a number, got '1,02,2'"),
        (("20.5", "1.022.5"), r"BBB must be a number, got '1\.022\.5'"),
    ],
)
def test_numbers_that_are_not_clear_are_refused(
    tmp_path: Path, cells: tuple[str, str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    content = "date,BBB\n2020-01-02,{}\n2020-01-03,{}\n".format(*cells)
    assert_refused(written(tmp_path / "p.csv", content), message, capsys)


# ---------------------------------------------------------------- written days


@pytest.mark.parametrize(
    ("form", "told"),
    [
        ("%Y%m%d", None),
        ("%Y/%m/%d", None),
        ("%Y.%m.%d", None),
        ("%d/%m/%Y", "%d/%m/%Y"),
        ("%d.%m.%Y", "%d.%m.%Y"),
        ("%d-%m-%Y", "%d-%m-%Y"),
        ("%m/%d/%Y", "%m/%d/%Y"),
        ("%m/%d/%Y 16:00", "%m/%d/%Y"),
        ("%Y-%m-%dT16:00:00-05:00", None),
    ],
)
@pytest.mark.parametrize("shape", ["wide", "long"])
def test_days_are_recognised_as_they_are_written(tmp_path: Path, form: str, told: str | None, shape: str) -> None:
    frame = long() if shape == "long" else PRICES.reset_index()
    frame["date"] = frame["date"].dt.strftime(form)
    frame.to_csv(tmp_path / "p.csv", index=False)
    table = read(tmp_path / "p.csv")
    assert_is_the_table(table, volumes=shape == "long")
    assert ("days written as" in table.notes[0]) == (told is not None)
    assert told is None or f"days written as {told}; 3 days" in table.notes[0]


def test_the_order_of_day_and_month_may_be_stated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = "date,AAPL\n01/02/2020,1.5\n02/02/2020,2.5\n03/02/2020,3.5\n"
    path = written(tmp_path / "p.csv", content)
    message = r"date must show which number is the month, got no number above 12 from '01/02/2020' to '03/02/2020' .*"
    assert_refused(path, message + r"Set market\.date_format to \"%d/%m/%Y\" or \"%m/%d/%Y\"\.", capsys)
    assert str(read(path, date_format="%d/%m/%Y").dates[1]) == "2020-02-02"
    assert str(read(path, date_format="%m/%d/%Y").dates[2]) == "2020-03-02"
    index = written(tmp_path / "i.csv", content.replace("AAPL", "level"))
    assert read(path, date_format="%d/%m/%Y", index_path=str(index)).index_values.tolist() == [1.5, 2.5, 3.5]
    named = written(tmp_path / "n.csv", 'date,AAPL\n"Jan 2, 2020",1\n"Feb 3, 2020",2\n')
    assert str(read(named, date_format="%b %d, %Y").dates[1]) == "2020-02-03"
    months = written(tmp_path / "m.csv", "month,AAPL\n2020-01,1\n2020-02,2\n")
    assert str(read(months, date_format="%Y-%m").dates[1]) == "2020-02-01"
    assert_refused(
        named, r"date must hold days as %d/%m/%Y .* got 'Jan 2, 2020' .*row 1", capsys, "date_format=%d/%m/%Y"
    )


@pytest.mark.parametrize("form", ["%Y", "%d/%m", "day/month", "%Q", ""])
def test_a_format_without_year_and_month_is_refused(form: str) -> None:
    with pytest.raises(ValueError, match="a format must have year and month"):
        MarketConfig(date_format=form)


@pytest.mark.parametrize(
    ("days", "message"),
    [
        (("13/01/2020", "01/14/2020"), r"day and month in one order, got '13/01/2020' and '01/14/2020'"),
        (("30/01/2020", "31/02/2020"), r"date must hold days as YYYY-MM-DD, got '31/02/2020' .*row 2"),
        (("13/01/2020", "2020-01-14"), r"date must hold days as YYYY-MM-DD, got '13/01/2020' .*market\.date_format"),
        (("13/01/20", "14/01/20"), r"date must hold days as YYYY-MM-DD, got '13/01/20' .*market\.date_format"),
    ],
)
def test_days_that_are_not_clear_are_refused(
    tmp_path: Path, days: tuple[str, str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert_refused(written(tmp_path / "p.csv", "date,AAA\n{},1\n{},2\n".format(*days)), message, capsys)


@pytest.mark.parametrize("shape", ["wide", "long"])
@pytest.mark.parametrize("step", [15, 59])
def test_minutes_are_recognised_and_refused(
    tmp_path: Path, shape: str, step: int, capsys: pytest.CaptureFixture[str]
) -> None:
    stamps = pd.date_range("2020-01-02", periods=200, freq=f"{step}min", name="date")
    frame = pd.DataFrame({"AAA": 1.5, "BBB": 2.5}, stamps)
    frame = frame.reset_index().melt("date", var_name="tic", value_name="close") if shape == "long" else frame
    frame.to_csv(tmp_path / "p.csv", index=shape == "wide")
    assert_refused(
        tmp_path / "p.csv", rf"rows must be hours, .* stamps a day, usually one every {step} minutes .*last\(\)", capsys
    )


# ---------------------------------------------------------------- returns


def test_returns_become_prices_that_start_at_one(tmp_path: Path) -> None:
    returns = pd.DataFrame(
        {"AAA": [0.5, -0.5, 0.25, 0.0], "LATE": [np.nan, np.nan, 0.5, -0.5], "GAP": [0.1, 0.5, np.nan, 1.0],
         "DEAD": [0.1, -0.5, -1.0, np.nan], "index": [0.5, 0.25, 0.0, -0.2]},
        pd.date_range("2020-01-01", periods=4, name="date"),
    )  # fmt: skip
    returns.to_csv(tmp_path / "p.csv")
    table = read(tmp_path / "p.csv", kind="returns")
    expected = {
        "AAA": [1.0, 0.5, 0.625, 0.625],  # the return of the first row has no row before it
        "LATE": [np.nan, 1.0, 1.5, 0.75],
        "GAP": [1.0, 1.5, np.nan, 3.0],
        "DEAD": [1.0, 0.5, 0.0, np.nan],
    }
    pd.testing.assert_frame_equal(
        table.prices, pd.DataFrame(expected, returns.index), check_names=False, check_freq=False, rtol=1e-15
    )
    np.testing.assert_allclose(table.index_values, [1.0, 1.25, 1.25, 1.0])
    assert "its returns were turned into prices that start at 1" in table.notes[0]


def test_returns_of_a_long_table_and_of_an_index_file(tmp_path: Path) -> None:
    long().assign(close=[0.5, 0.1, -0.5, 0.2, 0.25, 0.3]).rename(columns={"close": "RET"}).to_csv(tmp_path / "p.csv")
    index = written(tmp_path / "i.csv", "date,level\n2020-01-02,0.5\n2020-01-03,-0.25\n2020-01-16,1\n")
    table = read(tmp_path / "p.csv", kind="returns", index_path=str(index))
    np.testing.assert_allclose(table.prices, [[1.0, 1.0], [0.5, 1.2], [0.625, 1.56]])
    np.testing.assert_allclose(table.index_values, [1.0, 0.75, 1.5])
    assert list(table.asset_extra) == ["volume"]


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ((1.5, -2.0, 0.5), r"AAA must hold returns of -1 or more, got -2 .*2020-01-03.* in per cent by 100"),
        ((72.5, 73.25, 74.5), r"AAA must hold returns .* got numbers from 72\.5 to 74\.5 .*Set market\.kind to prices"),
        ((0.5, np.inf, 0.5), r"AAA must hold returns of -1 or more, got inf"),
    ],
)
def test_what_is_no_return_is_refused(
    tmp_path: Path, cells: tuple[float, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pd.DataFrame({"AAA": cells}, DAYS).to_csv(tmp_path / "p.csv")
    assert_refused(tmp_path / "p.csv", message, capsys, "kind=returns")


LIBRARY = """This file was created by using the 202012 CRSP database.
It contains value- and equal-weighted returns for 3 portfolios; the rest is prose, with commas.

Missing data are indicated by -99.99 or -999.


  Average Value Weighted Returns -- {rhythm}
,Agric,Food ,Lo 30
{rows}

  Average Equal Weighted Returns -- {rhythm}
,Agric,Food ,Lo 30
{rows}

  Average Value Weighted Returns -- Annual
,Agric,Food ,Lo 30
1926,   99.0,   99.0,   99.0

Copyright 2020 Kenneth R. French
"""
MONTHS = "192607,   2.00,  -99.99,   1.00\n192608,   5.00,   -999,   -50.00\n192609,  -10.00,   2.00,  100.00"


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
@pytest.mark.parametrize("packed", [False, True])
def test_a_monthly_file_of_the_french_library_as_it_is_downloaded(tmp_path: Path, ends: str, packed: bool) -> None:
    content = LIBRARY.format(rhythm="Monthly", rows=MONTHS).replace("\n", ends)
    path = tmp_path / ("3_Portfolios_CSV.zip" if packed else "3_Portfolios.CSV")
    if packed:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("3_Portfolios.CSV", content)
    else:
        written(path, content)
    table = read(path, kind="returns")
    assert list(table.prices.columns) == ["Agric", "Food", "Lo 30"]
    assert [str(day) for day in table.dates] == ["1926-07-31", "1926-08-31", "1926-09-30"]
    np.testing.assert_allclose(table.prices["Agric"], [1.0, 1.05, 0.945])
    np.testing.assert_allclose(table.prices["Food"], [np.nan, 1.0, 1.02])
    np.testing.assert_allclose(table.prices["Lo 30"], [1.0, 0.5, 1.0])
    assert "Kenneth French's data library" in table.notes[0]
    assert "its first section, Average Value Weighted Returns -- Monthly" in table.notes[0]


def test_a_daily_file_of_factors_has_an_annual_rate_of_cash(tmp_path: Path) -> None:
    content = "This file was created using the 202406 CRSP database.\n\n,Mkt-RF,SMB,RF\n"
    content += "20200102,    0.86,   -0.97,   0.006\n20200103,   -0.67,    0.30,   0.006\n\nCopyright 2024\n"
    path = written(tmp_path / "factors_daily.csv", content)
    table = read(path, kind="returns", cash_rate="RF")
    assert list(table.prices.columns) == ["Mkt-RF", "SMB"]
    np.testing.assert_allclose(table.prices["SMB"], [1.0, 1.003])
    np.testing.assert_allclose(table.extra["RF"], 1.00006**252 - 1.0)
    assert "left out: RF (a rate, which market.cash_rate may name)" in read(path, kind="returns").notes[0]


@pytest.mark.parametrize(
    ("old", "new", "settings", "message"),
    [
        ("", "", (), r"must be returns for a file of Kenneth French's .* Set market\.kind to returns"),
        ("   5.00,", "   x,", ("kind=returns",), r"Agric must be a return in per cent, got 'x' .*line 10"),
        ("   5.00,", "", ("kind=returns",), r"each row must have one cell per column, got '192608.*line 10"),
        ("192608", "192613", ("kind=returns",), r"date must hold days"),
    ],
)
def test_a_file_of_the_french_library_that_cannot_be_read_is_refused(
    tmp_path: Path, old: str, new: str, settings: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    content = LIBRARY.format(rhythm="Monthly", rows=MONTHS.replace(old, new) if old else MONTHS)
    assert_refused(written(tmp_path / "p.csv", content), message, capsys, *settings)


# ---------------------------------------------------------------- what is said first, and frequencies


def test_validate_says_what_it_read_even_if_a_check_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    long(sentiment=range(6)).iloc[:2].to_csv(tmp_path / "p.csv", index=False)
    assert main(["validate", str(tmp_path / "p.csv")]) == 2
    told = capsys.readouterr()
    assert told.out.startswith("Read as a long table with a row per day and tic, in a CSV file; 1 day from 2020-01-02")
    assert "2 assets (AAPL, MSFT)" in told.out
    assert "2 features per asset (volume, sentiment)" in told.out
    assert told.err.startswith("error: the table must hold at least two days, got 1")


def test_auto_infers_the_rows_per_year() -> None:
    assert MarketConfig(periods_per_year="auto").periods_per_year is None
    with pytest.raises(ValueError, match="periods_per_year"):
        MarketConfig(periods_per_year="daily")


@pytest.mark.parametrize(
    ("rhythm", "remedies"),
    [
        ("ME", "momentum_days to [], volatility_days to [2, 3], drawdown_days to 12, moving_average_days to [2, 10]"),
        ("W-FRI", "momentum_days to [], drawdown_days to 52, moving_average_days to [10, 41], index to false"),
    ],
)
def test_default_windows_of_daily_rows_are_refused_for_longer_periods(
    tmp_path: Path, rhythm: str, remedies: str, capsys: pytest.CaptureFixture[str]
) -> None:
    days = pd.date_range("1960-01-01", periods=1500 if rhythm == "W-FRI" else 700, freq=rhythm, name="date")
    walk = 100.0 * np.exp(np.random.default_rng(0).normal(0.002, 0.02, (len(days), 3)).cumsum(axis=0))
    names = ["AAA", "BBB", "index" if "index" in remedies else "CCC"]
    pd.DataFrame(walk, days, names).to_csv(tmp_path / "p.csv")
    assert main(["validate", str(tmp_path / "p.csv")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"Under market.features set {remedies}." in line
    values = dict(part.split(" to ") for part in remedies.replace("], ", "]; ").replace("2, d", "2; d")
                  .replace("52, m", "52; m").replace("12, m", "12; m").split("; "))  # fmt: skip
    words = [word for name, rows in values.items() for word in ("--set", f"market.features.{name}={rows}")]
    assert main(["validate", str(tmp_path / "p.csv"), *words]) == 0
    assert f"periods_per_year is {12 if rhythm == 'ME' else 52}" in capsys.readouterr().out


def test_processed_tables_keep_the_columns_of_the_assets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    days = pd.bdate_range("2010-01-04", periods=1200, name="date")
    rng = np.random.default_rng(0)
    walk = pd.DataFrame(50.0 * np.exp(rng.normal(0.0, 0.01, (1200, 2)).cumsum(axis=0)), days, ["A", "B_A"])
    scores = pd.DataFrame(rng.normal(0.0, 1.0, (1200, 2)), days, ["A", "B_A"])
    stacked = {"close": walk.stack(), "my_score": scores.stack()}
    pd.DataFrame(stacked).rename_axis(["date", "tic"]).reset_index().to_parquet(tmp_path / "long.parquet")
    output = tmp_path / "out.parquet"
    assert main(["process", str(tmp_path / "long.parquet"), "--output", str(output)]) == 0
    capsys.readouterr()
    table = read(output)
    np.testing.assert_array_equal(table.prices, walk)
    np.testing.assert_array_equal(table.asset_extra["my_score"], scores)


def test_a_csv_of_windows_line_ends_and_text_of_python_are_the_same(tmp_path: Path) -> None:
    buffer = io.StringIO()
    PRICES.to_csv(buffer)
    one = read(written(tmp_path / "a.csv", buffer.getvalue()))
    other = read(written(tmp_path / "b.csv", b"\xef\xbb\xbf" + buffer.getvalue().replace("\n", "\r\n").encode()))
    pd.testing.assert_frame_equal(one.prices, other.prices)
