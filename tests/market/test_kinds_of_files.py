"""Each kind of file, and what is read of it or why it is refused, as listed in docs/reference/files.md."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rllib_portfolio.config import MarketConfig
from rllib_portfolio.errors import ConfigError, DataError
from rllib_portfolio.market import PriceTable, read_table

ROOT = Path(__file__).parents[2]
DAYS = pd.DatetimeIndex(["2020-01-02", "2020-01-03", "2020-07-06"], name="Date")
AAPL, MSFT, LEVEL = [72.5, 73.25, 74.5], [153.5, 151.25, 154.0], [3257.0, 3234.0, 3246.5]
WIDE = "date,AAPL,MSFT\n2020-01-02,72.5,153.5\n2020-01-03,73.25,151.25\n2020-07-06,74.5,154\n"


def bars(close: list[float]) -> pd.DataFrame:
    """Bars of one stock as Yahoo has them; `close` is the adjusted one."""
    adjusted = np.array(close)
    columns = {"Open": 1.01, "High": 1.02, "Low": 0.98, "Close": 1.5, "Adj Close": 1.0, "Volume": 1e6}
    return pd.DataFrame({name: adjusted * factor for name, factor in columns.items()}, DAYS)


def download(tickers: dict[str, list[float]] | None = None, by: str = "field") -> pd.DataFrame:
    """Bars of several stocks with two levels of columns, as yfinance downloads them."""
    tickers = tickers or {"AAPL": AAPL, "MSFT": MSFT}
    frame = pd.concat({ticker: bars(close) for ticker, close in tickers.items()}, axis=1, names=["Ticker", "Price"])
    return frame if by == "ticker" else frame.swaplevel(axis=1).sort_index(axis=1)


def joined(pattern: str) -> pd.DataFrame:
    """The same with one level: field and ticker in one name."""
    frame = download()
    return frame.set_axis([pattern.format(field=field, ticker=ticker) for field, ticker in frame.columns], axis=1)


def stamped(zone: str, level: bool = False) -> pd.DataFrame:
    """Prices or the index at midnight of a zone."""
    columns = {"Level": LEVEL} if level else {"AAPL": AAPL, "MSFT": MSFT}
    return pd.DataFrame(columns, DAYS).tz_localize(zone)


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Attributes:
        content: Text of a CSV file, or a table that `suffix` says how to write, or no file at all.
        index: The index in a file of its own.
        name: Of the file.
        assets: Name of each asset to its prices; None where the file is refused.
        level: Of the index, or None.
        extra: Names of the extra columns.
        told: What the first note says, or the refusal.
        per_asset: Names of the features of the assets to the assets that have a value.
    """

    content: str | pd.DataFrame
    told: tuple[str, ...]
    assets: dict[str, list[float]] | None = field(default_factory=lambda: {"AAPL": AAPL, "MSFT": MSFT})
    level: list[float] | None = None
    extra: tuple[str, ...] = ()
    index: str | pd.DataFrame | None = None
    name: str = "prices.csv"
    per_asset: dict[str, list[str]] = field(default_factory=dict)

    def read(self, folder: Path) -> PriceTable:
        if self.name == "DataFrame":
            return read_table(MarketConfig(data="a DataFrame"), self.content)
        paths = {"data": folder / self.name, "index_path": folder / ("spx" + Path(self.name).suffix)}
        for path, content in zip(paths.values(), (self.content, self.index), strict=True):
            if isinstance(content, str):
                path.write_text(content)
            elif content is not None:
                content.to_parquet(path) if path.suffix == ".parquet" else content.to_csv(path)
        if self.index is None:
            del paths["index_path"]
        return read_table(MarketConfig(**{name: str(path) for name, path in paths.items()}))


def wide(**columns: list[float] | list[str]) -> pd.DataFrame:
    return pd.DataFrame({"AAPL": AAPL, "MSFT": MSFT, **columns}, DAYS)


def refused(content: str | pd.DataFrame, *told: str, **values: object) -> Kind:
    return Kind(content, told, None, **values)


def numbered(frame: pd.DataFrame, start: int = 0) -> pd.DataFrame:
    return frame.reset_index().set_axis(range(start, start + len(frame)), axis=0)


def text(frame: pd.DataFrame, **options: object) -> str:
    return frame.to_csv(**options)


ONE = {"AAPL": AAPL}
VOLUMES = {"volume": ["AAPL", "MSFT"]}
LONG = pd.concat({"AAPL": bars(AAPL), "MSFT": bars(MSFT)}, names=["tic"]).reset_index().sort_values(["Date", "tic"])
HOUR = "2020-01-02 00:00:00+01:00,72.5\n2020-01-03 00:00:00+01:00,73.25\n2020-07-06 00:00:00+02:00,74.5\n"

KINDS = {
    # ---------------------------------------------------------------- one price column per asset
    "wide CSV": Kind(WIDE, ("CSV file", "3 days from 2020-01-02 to 2020-07-06", "2 assets (AAPL, MSFT)", "no index")),
    "wide CSV, blank lines first": Kind("\n\n" + WIDE, ("2 assets (AAPL, MSFT)",)),
    "wide Parquet, days in the index": Kind(wide(), ("Parquet file", "2 assets (AAPL, MSFT)"), name="p.parquet"),
    "wide Parquet, days in a column": Kind(wide().reset_index(), ("2 assets",), name="p.parquet"),
    "Parquet after reset_index(), days in `index`": Kind(
        wide().rename_axis(None).reset_index(), ("2 assets (AAPL, MSFT); no index",), name="p.parquet"
    ),
    "wide DataFrame": Kind(wide(), ("in a DataFrame", "2 assets (AAPL, MSFT)"), name="DataFrame"),
    "one column of closes": Kind(text(wide()[["AAPL"]].set_axis(["Close"], axis=1)), ("(Close)",), {"Close": AAPL}),
    "FRED series": Kind(
        "observation_date,SP500\n2020-01-02,3257\n2020-01-03,3234\n2020-01-06,3246.5\n",
        ("1 asset (SP500)", "SP500 is read as an asset; name the column index to use it as the index"),
        {"SP500": LEVEL},
    ),
    "`Index` or `benchmark` column": Kind(wide(Benchmark=LEVEL), ("the index is the column Benchmark",), level=LEVEL),
    "`sp500` column": Kind(
        wide(sp500=LEVEL), ("3 assets", "sp500 is read as an asset"), {"AAPL": AAPL, "MSFT": MSFT, "sp500": LEVEL}
    ),
    "`vix`, regime and sentiment columns": Kind(
        wide(**{" vix": [12.5, 14.0, 13.5], "Regime_calm": [0.5, 0.6, 0.7], "fear_greed": [40.0, 50.0, 60.0]}),
        ("extra columns VIX (vix), Regime_calm, fear_greed",),
        extra=("VIX", "Regime_calm", "fear_greed"),
    ),
    "`VIX_Close` beside prices": Kind(
        wide(VIX_Close=[12.5, 14.0, 13.5], VIX_High=[13.0, 15.0, 14.0]),
        ("extra columns VIX (VIX_Close)", "left out: VIX_High (a field of VIX)"),
        extra=("VIX",),
    ),
    "rate column that `cash_rate` does not name": Kind(wide(risk_free=[0.02] * 3), ("risk_free (a rate, which",)),
    "volumes beside prices": Kind(
        wide(Volume=[1e6] * 3, AAPL_Volume=[1e6, 2e6, 3e6]),
        ("1 feature per asset (volume)", "left out: Volume (no price)"),
        per_asset={"volume": ["AAPL"]},
    ),
    "row numbers in `index`": Kind(
        text(numbered(wide(), 1), index_label="index"), ("no index; left out: index (row numbers)",)
    ),
    "row numbers without a name": Kind(text(numbered(wide())), ("left out: Unnamed: 0 (row numbers)",)),
    "row numbers in `Unnamed: 0`": Kind(
        text(numbered(wide()), index_label="Unnamed: 0"), ("left out: Unnamed: 0 (row numbers)",)
    ),
    "calendar columns (Year, Month, Weekday)": Kind(
        wide(
            Year=[2020] * 3, month=[1, 1, 7], DAY=[2, 3, 6], Day_of_Week=[3, 4, 0], Quarter=[1, 1, 3], hour=[16, 16, 13]
        ),
        ("2 assets (AAPL, MSFT)", "left out: Year, month, DAY, Day_of_Week, Quarter, hour (calendar)"),
    ),
    "bars beside calendar columns": Kind(
        bars(AAPL).assign(Week=[1, 1, 28], Year=2020), ("the bars of one stock", "Week, Year (calendar)"), ONE,
        name="AAPL.csv", per_asset={"volume": ["AAPL"]},
    ),
    "tickers that are also names of calendar columns (DAY)": Kind(
        text(wide().set_axis(["DAY", "MSFT"], axis=1)), ("2 assets (DAY, MSFT)",), {"DAY": AAPL, "MSFT": MSFT}
    ),
    "tickers that are also names of price fields (LOW, OPEN)": Kind(
        text(wide().set_axis(["LOW", "MSFT"], axis=1)),
        ("2 assets (LOW, MSFT)", "LOW is read as the name of an asset"),
        {"LOW": AAPL, "MSFT": MSFT},
    ),
    "`price_*` columns (`market process`)": Kind(
        wide(price_AAPL=AAPL, price_MSFT=MSFT, index=LEVEL, regime_calm=[0.5] * 3)[
            ["price_AAPL", "price_MSFT", "index", "regime_calm", "AAPL"]
        ],
        ("2 assets (AAPL, MSFT)", "left out: AAPL (no role)"),
        level=LEVEL,
        extra=("regime_calm",),
        name="p.parquet",
    ),
    # ---------------------------------------------------------------- bars
    "bars of one stock (Yahoo's CSV)": Kind(
        bars(AAPL),
        ("the bars of one stock", "1 asset (AAPL)", "the price is Adj Close", "Open, High, Low, Close (other"),
        ONE,
        per_asset={"volume": ["AAPL"]},
        name="AAPL.csv",
    ),
    "bars of one stock, ticker in a column": Kind(
        bars(AAPL).assign(Symbol="AAPL"), ("1 asset (AAPL)", "a row per day and Symbol"), ONE, name="daily.csv",
        per_asset={"volume": ["AAPL"]},
    ),
    "bars with Alpha Vantage's column names": Kind(
        text(
            bars(AAPL).set_axis(
                ["1. open", "2. high", "3. low", "4. close", "5. adjusted close", "6. volume"], axis=1
            ),
            index_label="timestamp",
        ),
        ("the price is 5. adjusted close",),
        ONE,
        per_asset={"volume": ["AAPL"]},
        name="AAPL.csv",
    ),
    "history of one stock, with a time zone and summer time": Kind(
        bars(AAPL).drop(columns="Adj Close").assign(Close=AAPL, Dividends=0.0, **{"Stock Splits": 0.0})
        .tz_localize("America/New_York"),
        ("the price is Close", "Open, High, Low, Dividends, Stock Splits (other fields)"),
        ONE,
        per_asset={"volume": ["AAPL"]},
        name="AAPL.csv",
    ),
    "download in CSV, first header row: fields": Kind(
        download(), ("2 assets (AAPL, MSFT)", "the price is Adj Close", "Close, High, Low, Open (other fields)"),
        per_asset=VOLUMES,
    ),
    "download in CSV, first header row: tickers": Kind(
        download(by="ticker"), ("the price is Adj Close",), per_asset=VOLUMES
    ),
    "download in CSV, header rows without names": Kind(
        text(download().rename_axis(columns=[None, None], index=None)), ("the price is Adj Close",), per_asset=VOLUMES
    ),
    "download in CSV after reset_index()": Kind(
        text(numbered(download())), ("the price is Adj Close", "Unnamed: 0 (row numbers)"), per_asset=VOLUMES
    ),
    "download in Parquet, first column level: fields": Kind(
        download(), ("the price is Adj Close",), name="p.parquet", per_asset=VOLUMES
    ),
    "download in Parquet, first column level: tickers": Kind(
        download(by="ticker"), ("the price is Adj Close",), name="p.parquet", per_asset=VOLUMES
    ),
    "download in Parquet after reset_index()": Kind(
        download().reset_index(), ("the price is Adj Close",), name="p.parquet", per_asset=VOLUMES
    ),
    "column names as text, `('Volume', 'XOM')`": Kind(
        joined("('{field}', '{ticker}')"), ("the price is Adj Close",), per_asset=VOLUMES
    ),
    "download that includes ^VIX": Kind(
        download({"AAPL": AAPL, "MSFT": MSFT, "^VIX": [12.5, 14.0, 13.5]}),
        ("2 assets (AAPL, MSFT)", "extra columns VIX"),
        extra=("VIX",),
        per_asset=VOLUMES,
    ),
    "`AAPL_Close`, `AAPL_Volume`": Kind(
        joined("{ticker}_{field}"), ("ticker and field in each name", "2 assets"), per_asset=VOLUMES
    ),
    "`Close_AAPL`, `Volume_AAPL`": Kind(
        joined("{field}_{ticker}"), ("ticker and field in each name", "2 assets"), per_asset=VOLUMES
    ),
    "`AAPL Adj Close`, `AAPL Close`": Kind(
        joined("{ticker} {field}"), ("the price is Adj Close",), per_asset=VOLUMES
    ),
    "`AAPL.Adjusted`, `AAPL.Volume` (quantmod)": Kind(
        bars(AAPL).set_axis([f"AAPL.{name.replace('Adj Close', 'Adjusted')}" for name in bars(AAPL)], axis=1),
        ("1 asset (AAPL)", "the price is Adjusted"),
        ONE,
        per_asset={"volume": ["AAPL"]},
    ),
    "closes only, named `AAPL_Close`": Kind(
        text(wide().add_suffix("_Close")), ("2 assets (AAPL_Close,",), {"AAPL_Close": AAPL, "MSFT_Close": MSFT}
    ),
    # ---------------------------------------------------------------- a row per day and asset
    "long table": Kind(
        text(LONG, index=False), ("a row per day and tic", "3 days", "2 assets (AAPL, MSFT)", "the price is Adj Close",
        "1 feature per asset (volume)", "left out: Open, High, Low, Close (other fields)"), per_asset=VOLUMES,
    ),
    "long table with row numbers": Kind(
        text(LONG.reset_index(drop=True)), ("2 assets", "Unnamed: 0 (row numbers)"), per_asset=VOLUMES
    ),
    "long Parquet, days and tickers in the index": Kind(
        LONG.set_index(["Date", "tic"]), ("a row per day and tic", "2 assets"), name="p.parquet", per_asset=VOLUMES
    ),
    # ---------------------------------------------------------------- written numbers and days
    "semicolons and decimal commas": Kind(
        text(wide(), sep=";", decimal=","), ("in a CSV file", "2 assets (AAPL, MSFT)")
    ),
    "days as 31/12/2020, where a day is after the 12th": Kind(
        text(wide().rename(index={DAYS[2]: pd.Timestamp("2020-07-16")}), date_format="%d/%m/%Y"),
        ("days written as %d/%m/%Y", "to 2020-07-16"),
    ),
    # ---------------------------------------------------------------- time zones and a file of the index
    "time stamps with the offsets +01:00 and +02:00 of one zone": Kind("date,AAPL\n" + HOUR, ("to 2020-07-06",), ONE),
    "index in a file of its own": Kind(
        WIDE, ("the index is Level of spx.csv",), level=LEVEL, index=wide(Level=LEVEL)[["Level"]]
    ),
    "index as bars": Kind(WIDE, ("the index is Adj Close of spx.csv",), level=LEVEL, index=bars(LEVEL)),
    "prices and index in one time zone": Kind(
        stamped("America/New_York"), ("the index is Level",), level=LEVEL, index=stamped("America/New_York", True)
    ),
    "index in another time zone": refused(
        stamped("America/New_York"),
        "must be in one time zone, got America/New_York (", "and UTC (",
        index=stamped("America/New_York", True).tz_convert("UTC"),
        name="p.parquet",
    ),
    "plain days, index with a time zone": refused(
        wide(),
        "got no time zone (", "and America/New_York (",
        index=stamped("America/New_York", True),
        name="p.parquet",
    ),
    "time stamps of several time zones": refused(
        "date,AAPL\n2020-01-02 00:00-05:00,1\n2020-01-03 00:00+01:00,2\n", "no zone has on these days: +01:00, -05:00"
    ),
    # ---------------------------------------------------------------- what is refused
    "no header": refused("2020-01-02,10.5,20\n2020-01-03,11,21\n", "must have a header", "date,ASSET_1,ASSET_2"),
    "title line before the header": refused("made on 2020-01-09\n" + WIDE, "must be the header, got 'made on"),
    "several cells before the header": refused(
        "Report,2020-01-09\n" + WIDE, "must be the header, got 'Report,2020-01-09'"
    ),
    "comment line before the header": refused("# source: us, them\n" + WIDE, "must be the header, got '# source"),
    "returns": refused(
        text(wide().pct_change().fillna(0.0) - 1e-3), "got what looks like returns", "Set market.kind to returns"
    ),
    "days as columns": refused(text(wide().T, index_label="asset"), "got days as names of columns", "frame.T"),
    "open, high and low without a close": refused(bars(AAPL)[["Open", "High", "Low"]], "got High, Low, Open beside no"),
    "bars of one stock beside other assets": refused(
        bars(AAPL).assign(MSFT=MSFT), "must be told apart", "beside MSFT", "price_<asset>"
    ),
    "bars of several stocks beside other assets": refused(
        joined("{ticker}_{field}").assign(GOOG=AAPL), "must be told apart", "got GOOG beside"
    ),
    "a stock without a close": refused(
        joined("{ticker}_{field}").drop(columns=["MSFT_Close", "MSFT_Adj Close"]), "must have a close", "of MSFT"
    ),
    "two column levels, sectors and tickers": refused(
        wide().set_axis(pd.MultiIndex.from_tuples([("IT", "AAPL"), ("IT", "MSFT")]), axis=1),
        "must be fields (Close, Volume) by ticker",
        name="p.parquet",
    ),
    "no price at all": refused(
        wide(vix=LEVEL, Volume=LEVEL)[["vix", "Volume"]], "at least one asset, got none", "Volume (no price)"
    ),
    "two index columns": refused(wide(Index=LEVEL, benchmark=LEVEL), "must be one column, got Index, benchmark"),
    "days as 01/02/2020, where no day is after the 12th": refused(
        text(wide(), date_format="%m/%d/%Y"), "got no number above 12 from '01/02/2020'", "Set market.date_format to"
    ),
    "days as 31/12/2020": refused(WIDE.replace("2020-01-02", "31/12/2020"), "days as YYYY-MM-DD, got '31/12/2020'"),
    "Excel file": refused("PK", ".feather or .zip, got prices.xlsx", name="prices.xlsx"),
}  # fmt: skip


@pytest.mark.parametrize("kind", [kind for kind, case in KINDS.items() if case.assets is not None])
def test_what_is_read_is_the_close_of_each_asset_and_the_first_note_says_so(tmp_path: Path, kind: str) -> None:
    case = KINDS[kind]
    table = case.read(tmp_path)
    assert {name: list(table.prices[name]) for name in table.prices} == case.assets
    assert (None if table.index is None else list(table.index)) == case.level
    assert tuple(table.extra.columns) == case.extra
    assert {name: list(values.dropna(axis=1)) for name, values in table.asset_extra.items()} == case.per_asset
    assert all(list(values) == list(table.prices) for values in table.asset_extra.values())
    assert [str(day) for day in table.dates[:2]] == ["2020-01-02", "2020-01-03"]
    note = table.notes[0]
    assert note.startswith("Read as ")
    assert "\n" not in note
    for told in case.told:
        assert told in note


@pytest.mark.parametrize("kind", [kind for kind, case in KINDS.items() if case.assets is None])
def test_what_cannot_be_told_is_refused_in_one_line(tmp_path: Path, kind: str) -> None:
    with pytest.raises((DataError, ConfigError)) as error:
        KINDS[kind].read(tmp_path)
    assert "\n" not in str(error.value)
    for told in KINDS[kind].told:
        assert told in str(error.value)


def test_the_document_lists_each_kind_and_quotes_its_refusal(tmp_path: Path) -> None:
    lines = (ROOT / "docs" / "reference" / "files.md").read_text(encoding="utf-8").splitlines()
    start = next(row for row, line in enumerate(lines) if line.startswith("| file | what is read"))
    rows = [line.strip("| ").split(" | ") for line in takewhile(str.strip, lines[start + 2 :])]
    listed = {kind: outcome for kind, outcome in rows}
    assert list(listed) == list(KINDS)
    for kind, outcome in listed.items():
        assert outcome.startswith("Refused") == (KINDS[kind].assets is None), kind
        if outcome.startswith("Refused"):
            with pytest.raises((DataError, ConfigError)) as error:
                KINDS[kind].read(tmp_path)
            quoted = outcome.removeprefix("Refused: ").replace("`", "").split(" ... ")
            assert all(part in str(error.value) for part in quoted), kind
