"""membership.csv, exits.csv and assets.csv beside a table: what is read of them, and every row that is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rllib_portfolio.cli import data as main
from rllib_portfolio.errors import DataError
from rllib_portfolio.market import PriceTable, load_market
from rllib_portfolio.market.loading import load_table
from tests.market.tables import config, random_prices

EXITS = "asset,date,return,reason\nCCC,2011-07-18,-1,bankruptcy\n"
MEMBERSHIP = "asset,start,end\nAAA,2010-01-04,2010-12-31\nAAA,2011-06-01,\nBBB,2009-01-01,2012-12-31\nCCC,2010-01-01,\n"
ASSETS = "asset,group,cost_bps\nAAA,tech,5\nBBB,,25.5\nCCC,oil,\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the prices of AAA, BBB and CCC, which leaves in row 400."""
    prices = random_prices(600)
    prices.iloc[400:, 2] = np.nan
    prices.to_csv(tmp_path / "prices.csv")
    return tmp_path


def loaded(folder: Path, **values: object) -> PriceTable:
    return load_table(config(data=str(folder / "prices.csv"), **values))


def write(folder: Path, **files: str) -> None:
    for name, content in files.items():
        (folder / f"{name}.csv").write_text(content)


def test_the_files_beside_a_table_are_read_and_said(folder):
    write(folder, exits=EXITS, membership=MEMBERSHIP, assets=ASSETS)
    table = loaded(folder)
    assert table.exits == {"CCC": (pd.Timestamp("2011-07-18"), -1.0, "bankruptcy")}
    days = table.prices.index
    expected = np.asarray((days <= "2010-12-31") | (days >= "2011-06-01"))
    np.testing.assert_array_equal(table.membership["AAA"], expected)
    assert table.membership[["BBB", "CCC"]].all(axis=None)
    assert table.assets_info["group"].to_dict() == {"AAA": "tech", "BBB": "", "CCC": "oil"}
    assert table.notes[1:] == (
        "Read membership.csv: periods of membership 4, assets 3.",
        "Read exits.csv: exits 1 (1 bankruptcy).",
        "Read assets.csv: assets 3, groups 2, costs 2.",
    )
    market = load_market({"data": str(folder / "prices.csv"), "features": config().features.model_dump()})
    assert (market.universe.exit_rows[2], market.returns[400, 2]) == (400, -1.0)
    assert market.groups == ("tech", "", "oil")
    np.testing.assert_array_equal(market.cost_bps, [5.0, 25.5, np.nan])


def test_files_elsewhere_are_named_and_others_are_not_read(folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    write(folder, exits=EXITS.replace("-1", "0.5"))
    write(elsewhere, exits=EXITS, membership=MEMBERSHIP, assets=ASSETS)
    names = ("exits", "membership", "assets")
    table = loaded(folder, **{f"{name}_path": str(elsewhere / f"{name}.csv") for name in names})
    assert table.exits["CCC"].terminal_return == -1.0
    assert table.membership is not None
    assert table.assets_info is not None
    with pytest.raises(DataError, match=r"the file must be readable, got .*none.csv \(No such file"):
        loaded(folder, exits_path=str(folder / "none.csv"))


def test_a_table_named_as_a_file_beside_it_is_only_the_table(tmp_path):
    random_prices(600).to_csv(tmp_path / "assets.csv")
    assert load_table(config(data=str(tmp_path / "assets.csv"))).assets_info is None


def test_the_text_of_the_files_is_read_leniently(folder):
    write(
        folder,
        exits="\ufeffReason, Asset ,DATE,Return,last_price,note\r\n\r\nmerger, CCC ,2011-07-18, 0.25 ,7,x\r\n\r\n",
    )
    table = loaded(folder)
    assert table.exits["CCC"] == (pd.Timestamp("2011-07-18"), 0.25, "merger")
    assert table.notes[1:] == ("Read exits.csv: exits 1 (1 merger); left out: last_price, note.",)


def test_a_ticker_may_be_na(tmp_path):
    prices = random_prices(600).rename(columns={"CCC": "NA"})
    prices.iloc[400:, 2] = np.nan
    prices.to_csv(tmp_path / "prices.csv")
    write(tmp_path, exits="asset,date,return\nNA,,-0.5\n")
    assert loaded(tmp_path).exits == {"NA": (None, -0.5, "")}


def test_rows_of_assets_that_are_not_chosen_are_left_out(folder):
    write(folder, exits=EXITS, membership=MEMBERSHIP, assets=ASSETS)
    table = loaded(folder, assets=("BBB", "AAA"))
    assert not table.exits
    assert list(table.membership) == ["BBB", "AAA"]
    assert list(table.assets_info.index) == ["AAA", "BBB"]


def test_an_asset_without_a_period_of_membership_is_never_held(folder):
    write(folder, exits=EXITS, membership="asset,start,end\nAAA,2010-01-01,\nCCC,2010-01-01,2011-01-01\n")
    market = load_market({"data": str(folder / "prices.csv"), "features": config().features.model_dump()})
    assert not market.universe.member[:, 1].any()
    assert "Never held, because they have no period of membership: BBB." in market.notes


BAD = {
    "exits of an unknown asset": (
        "exits",
        EXITS + "DDD,2011-01-03,0,\n",
        r"must name assets of the table, got DDD .*3\)",
    ),
    "two exits": ("exits", EXITS + "CCC,2011-07-19,0,\n", r"an asset must leave once, got CCC twice .*line 3"),
    "below -1": ("exits", EXITS.replace("-1,", "-100,"), r"return must be at least -1.*got -100 .*line 2.*by 100"),
    "text as return": ("exits", EXITS.replace("-1,", "all,"), r"return must be a finite number, got 'all' .*line 2"),
    "infinite return": ("exits", EXITS.replace("-1,", "inf,"), r"return must be a finite number, got 'inf'"),
    "no return": (
        "exits",
        "asset,date\nCCC,2011-07-18\n",
        r"columns asset, date, return, reason, got no column return",
    ),
    "other dates": (
        "exits",
        EXITS.replace("2011-07-18", "18.07.2011"),
        r"date must be a day as YYYY-MM-DD, got '18.07",
    ),
    "long row": ("exits", EXITS.replace("bankruptcy", "bankruptcy,1,2"), r"must be a CSV table in UTF-8, got another"),
    "empty file": ("exits", "", r"must be a CSV table in UTF-8, got another content"),
    "column twice": ("exits", "asset,date,return,Return\n", r"got return twice"),
    "member of no table": ("membership", MEMBERSHIP + "DDD,2010-01-01,\n", r"membership must name assets .*got DDD"),
    "end before start": ("membership", MEMBERSHIP.replace("2012-12-31", "2008-12-31"), r"end must not be before start"),
    "no start": ("membership", MEMBERSHIP.replace("2009-01-01", ""), r"start must be a day as YYYY-MM-DD, got ''.*4\)"),
    "two rows of an asset": ("assets", ASSETS + "AAA,oil,1\n", r"an asset must have one row, got two of AAA .*line 5"),
    "negative cost": ("assets", ASSETS.replace(",5\n", ",-5\n"), r"cost_bps must be at least 0 and below 5000, got -5"),
    "text as cost": ("assets", ASSETS.replace(",5\n", ",low\n"), r"cost_bps must be a finite number, got 'low'"),
    "unknown group": ("assets", ASSETS + "DDD,oil,1\n", r"assets must name assets of the table, got DDD"),
    "other table": (
        "assets",
        "date,AAA\n2010-01-04,1\n",
        r"assets must be a table .*got no column asset .*rename the file",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_row_is_refused_with_its_file_and_line(folder, name, capsys):
    kind, content, message = BAD[name]
    write(folder, **{"exits": EXITS, kind: content})
    with pytest.raises(DataError, match=message) as error:
        loaded(folder)
    assert f"{kind}.csv" in str(error.value)
    assert main(["validate", str(folder / "prices.csv")]) == 2
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 1
    assert kind in told[0]


def test_validate_says_what_the_universe_is(folder, capsys):
    write(folder, exits=EXITS)
    short = ["--set", "market.features.momentum_days=[30]", "--set", "market.features.drawdown_days=30"]
    short += ["--set", "market.features.moving_average_days=[30]"]
    assert main(["validate", str(folder / "prices.csv"), *short]) == 0
    out = capsys.readouterr().out
    assert "Read exits.csv: exits 1 (1 bankruptcy)." in out
    assert "Universe: assets 3; late listings 0; exits 1 (1 bankruptcy), of which total losses 1; " in out
    assert main(["process", str(folder / "prices.csv"), *short, "--output", str(folder / "out.parquet")]) == 2
    assert "must have a price of each asset on each day to be processed" in capsys.readouterr().err
