"""Paths of tables as they are recorded: whoever continues stands in another folder, or in another job."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rllib_portfolio.cli.console import JOB
from rllib_portfolio.cli.data_paths import with_lasting_paths
from rllib_portfolio.config import MarketConfig
from tests.tiny_runs import tiny_config


@pytest.fixture(autouse=True)
def working_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with tables, as the working directory; another table lies beside it."""
    folder = tmp_path / "work"
    (folder / "data").mkdir(parents=True)
    for name in ("work/data/prices.csv", "work/data/index.parquet", "work/sp500", "shared.csv"):
        (tmp_path / name).touch()
    monkeypatch.chdir(folder)
    monkeypatch.delenv(JOB, raising=False)
    return folder


def recorded(**market: Any) -> MarketConfig:
    """The market of a configuration as it is recorded."""
    return with_lasting_paths(tiny_config({f"market.{name}": value for name, value in market.items()})).market


def test_tables_are_recorded_as_every_folder_of_this_machine_knows_them(working_dir: Path) -> None:
    market = recorded(data="data/prices.csv", index_path="../work/data/index.parquet")
    assert market.data == str(working_dir / "data" / "prices.csv")
    assert market.index_path == str(working_dir / "data" / "index.parquet")
    assert recorded(data="data").data == str(working_dir / "data")  # a folder with one table per asset
    market = recorded(data={"source": "bootstrap", "table": "../shared.csv", "seed": 1})
    assert market.data == {"source": "bootstrap", "table": str(working_dir.parent / "shared.csv"), "seed": 1}


def test_a_link_is_recorded_by_its_own_name(working_dir: Path) -> None:
    (working_dir / "data" / "prices.csv").rename(working_dir / "data" / "prices.csv.20240101")
    (working_dir / "data" / "prices.csv").symlink_to("prices.csv.20240101")
    assert recorded(data="data/prices.csv").data == str(working_dir / "data" / "prices.csv")


@pytest.mark.parametrize("data", ["sp500", "data/none.csv", {"source": "kelly"}])
def test_what_is_no_table_stays_as_it_is(data: str | dict[str, Any]) -> None:
    market = recorded(data=data)
    assert (market.data, market.index_path) == (data, None)


def test_a_ray_job_names_what_travels_with_it_from_its_working_directory(
    working_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(JOB, "{}")
    market = recorded(data="data/prices.csv", index_path=str(working_dir / "data" / "index.parquet"))
    assert (market.data, market.index_path) == ("data/prices.csv", "data/index.parquet")
    assert recorded(data="../shared.csv").data == str(working_dir.parent / "shared.csv")
