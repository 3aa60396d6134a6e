"""`python -m rllib_portfolio.market`, as a user runs it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from rllib_portfolio.cli import data as main
from rllib_portfolio.config import FeatureConfig, MarketConfig
from rllib_portfolio.errors import ConfigError
from rllib_portfolio.market import MarketData, load_market
from tests.full_disk import full_disk, read_only
from tests.market.tables import random_prices

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def prices(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("prices") / "prices.csv"
    table = random_prices(1200)
    table.assign(index=table.mean(axis=1), VIX=20.0).to_csv(path)
    return path


def test_process_writes_a_table_that_load_market_reads_back(tmp_path, prices):
    result = subprocess.run(
        [sys.executable, "-m", "rllib_portfolio.market", "process", str(prices)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
    written = tmp_path / "data/processed/dataset_with_regimes.parquet"
    assert f"written     {written.relative_to(tmp_path)}" in result.stdout
    assert "cannot be proven" in result.stdout

    frame = pd.read_parquet(written)
    regimes = [f"regime_gmm_{k}" for k in range(3)] + [f"regime_hmm_{k}" for k in range(2)]
    assert list(frame.columns) == ["price_AAA", "price_BBB", "price_CCC", "index", "VIX", *regimes]
    assert frame[regimes[:3]].iloc[21:].sum(axis=1).to_numpy() == pytest.approx(1.0)
    off = FeatureConfig(num_gmm_regimes=0, num_hmm_regimes=0)
    market = load_market(MarketConfig(data=str(written), features=off))
    assert market.assets == ("AAA", "BBB", "CCC")
    assert market.market_feature_names[-6:] == ("user_VIX", *(f"user_{name}" for name in regimes))
    assert market.index_returns is not None


def test_regimes_of_a_processed_table_are_no_features_of_days_that_they_were_fitted_on(
    tmp_path: Path, prices: Path
) -> None:
    def load(validation_start: int, **features: Any) -> MarketData:
        ends = (0, validation_start, 800, 1200)
        windows = {
            name: (str(days[start].date()), str(days[stop - 1].date()))
            for name, start, stop in zip(("train", "validation", "test"), ends[:-1], ends[1:], strict=True)
        }
        short = {"momentum_days": (), "drawdown_days": None, "moving_average_days": (), "index": False}
        chosen = FeatureConfig(num_gmm_regimes=0, num_hmm_regimes=0, **short, **features)
        return load_market(MarketConfig(data=str(written), features=chosen, **windows))

    written = tmp_path / "processed.parquet"
    assert main(["process", str(prices), "--output", str(written)]) == 0
    days = pd.read_parquet(written).index
    last = 720 - 253 - 1  # 60 % of 1200 days, less the purge
    message = (
        f"market.validation must begin after {days[last].date()}, until when the regimes of this table were fitted"
    )
    with pytest.raises(ConfigError, match=message):
        load(last)
    assert load(last, user_columns=False).windows["validation"][0] == last
    assert load(last + 1).windows["validation"][0] == last + 1


def test_bad_input_is_one_line_and_exit_code_two(tmp_path):
    (tmp_path / "prices.csv").write_text("date,AAA\n2020-01-02,1\n2020-01-03,0\n2020-01-06,1\n")
    result = subprocess.run(
        [sys.executable, "-m", "rllib_portfolio.market", "validate", "prices.csv"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2
    assert result.stdout.startswith("Read as a table with one price column per asset, in a CSV file; 3 days from")
    assert result.stdout.count("\n") == 1
    assert result.stderr == (
        "error: AAA must be a positive finite price, got 0 (prices.csv, 2020-01-03). Correct the cell.\n"
    )


def test_validate_says_what_it_found(prices, capsys):
    assert main(["validate", str(prices), "--cash-rate", "0.01"]) == 0
    printed = capsys.readouterr().out
    assert "days        1200, 2010-01-04 to 2014-08-08" in printed
    assert "assets      AAA, BBB, CCC" in printed
    assert printed.startswith("Read as a table with one price column per asset, in a CSV file; 1,200 days from")
    assert printed.count("Read as") == 1
    assert "train       2010-12-24 to 2011-10-18, 213 days" in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--fill-days", "99"], "fill_days: input should be less than or equal to 30, got 99 (command line)"),
        (["--cash-rate", "rate"], "cash_rate must be a number or a column of the table, got 'rate'"),
        (["--index-path", "i.csv"], "must exist, got i.csv"),
    ],
)
def test_bad_options_are_one_line_too(prices, capsys, arguments, message):
    assert main(["validate", str(prices), *arguments]) == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert printed.count("\n") == 1


def test_validate_takes_the_settings_of_training(prices, capsys, tmp_path):
    (tmp_path / "run.yaml").write_text("market:\n  cash_rate: 0.03\n  assets: [AAA, BBB]\nseed: 3\n")
    custom = "market.features.custom=[tests.market.custom_features:breadth]"
    words = ["validate", str(prices), "--config", str(tmp_path / "run.yaml"), "--set", "market.assets=[BBB, CCC]"]
    assert main([*words, "--set", "market.periods_per_year=260", "--set", custom]) == 0
    printed = capsys.readouterr().out
    assert "assets      BBB, CCC" in printed
    assert "rows/year   260; features look back 252 rows, 1.0 years" in printed
    assert "note        Cash earned 3.00 % a year." in printed
    # 12 of each asset; 4 of the index, 1 of the user's, VIX and 5 regimes
    assert "features    12 per asset, 11 of the market" in printed
    assert main([*words, "--cash-rate", "0.01"]) == 0
    assert "note        Cash earned 1.00 % a year." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("environment.cost_bps=3", "--set must name a setting of the market, got environment.cost_bps"),
        ("market.asets=[AAA]", "market.asets is not a known setting (command line)"),
        ("market.assets=[ZZZ]", "assets must be different columns of the table, got ZZZ"),
        ("market.periods_per_year=365", "Set it to 252, or to null"),
    ],
)
def test_settings_that_cannot_be_used_are_one_line(prices, capsys, setting, message):
    assert main(["validate", str(prices), "--set", setting]) == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert printed.count("\n") == 1


def test_validate_lists_every_move_that_training_would_refuse(tmp_path, capsys):
    table = random_prices(1200)
    for row in range(100, 1100, 50):
        table.iloc[row:, 1] *= 3.5 if row % 100 else 1 / 3.5
    path = tmp_path / "moves.csv"
    table.to_csv(path)
    assert main(["validate", str(path)]) == 2
    printed = capsys.readouterr()
    listed = " ".join(line for line in printed.out.splitlines() if line.startswith("note"))
    days = [str(table.index[row].date()) for row in range(100, 1100, 50)]
    assert [day for day in days if f"BBB {day}" not in listed] == []
    (line,) = printed.err.splitlines()
    assert "got 20 beyond" in line
    assert "set market.accept_moves to true" in line
    assert main(["validate", str(path), "--set", "market.accept_moves=true"]) == 0
    assert "from one row to the next were accepted (market.accept_moves): 20." in capsys.readouterr().out


def test_output_must_be_parquet(prices, capsys, tmp_path):
    assert main(["process", str(prices), "--output", str(tmp_path / "out.csv")]) == 2
    assert "output must end in .parquet" in capsys.readouterr().err


def test_output_must_not_be_an_input(prices, capsys, tmp_path, monkeypatch):
    table, index = tmp_path / "prices.parquet", tmp_path / "index.parquet"
    pd.read_csv(prices, index_col=0).drop(columns="index").to_parquet(table)
    pd.read_csv(prices, index_col=0)[["index"]].to_parquet(index)
    monkeypatch.chdir(tmp_path)
    for path in (table, index):
        before = path.read_bytes()
        assert main(["process", str(table), "--index-path", str(index), "--output", path.name]) == 2
        assert f"output must be another file than those it is made of, got {path.name}." in capsys.readouterr().err
        assert path.read_bytes() == before


def test_a_table_that_could_not_be_written_leaves_the_old_one(prices, capsys, tmp_path):
    output = tmp_path / "out.parquet"
    output.write_text("whole")
    with full_disk():
        assert main(["process", str(prices), "--output", str(output)]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    assert line.startswith(f"error: --output must be writable, got {output} (")
    assert line.endswith("File too large). Free space on that disk or repair it, then try again.")
    assert output.read_text() == "whole"


def test_a_file_or_folder_that_cannot_be_used_is_one_line_and_exit_code_two(
    prices: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with tempfile.TemporaryDirectory() as name:  # a folder that every user may enter, unlike tmp_path
        folder = Path(name)
        folder.chmod(0o755)
        table = Path(shutil.copy(prices, folder))
        table.chmod(0)
        under_file = table / "out.parquet"
        with read_only(folder):
            assert main(["validate", str(table)]) == 2
            told = capsys.readouterr()
        assert told.out == ""
        assert told.err == (
            f"error: the price file must be readable, got {table} (Permission denied). "
            "Check its path and permissions.\n"
        )
        assert main(["process", str(prices), "--output", str(under_file)]) == 2
        told = capsys.readouterr()
        assert told.err == f"error: --output must be writable, got {under_file} (File exists). Choose another.\n"


def test_ctrl_c_is_one_line_and_its_exit_code(
    prices: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("rllib_portfolio.cli.market.prepare_market", interrupted)
    assert main(["validate", str(prices)]) == 130
    told = capsys.readouterr()
    assert told.out.startswith("Read as ")
    assert (told.out.count("\n"), told.err) == (1, "\nStopped.\n")


def test_output_that_cannot_be_printed_is_one_line_too(prices: Path, tmp_path: Path) -> None:
    # as in `python -m rllib_portfolio.market validate FILE >/dev/full`
    with open("/dev/full", "w") as full:
        result = subprocess.run(
            [sys.executable, "-m", "rllib_portfolio.market", "validate", str(prices)],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: output must be writable, got ")


@pytest.mark.slow
def test_a_table_of_20_000_columns_is_checked_in_ten_seconds_of_computing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # 400 rows, of which the features leave enough for training; with work for each pair of columns it took minutes
    num_days, num_assets = 400, 20_000
    moves = np.random.default_rng(0).normal(0.0, 0.01, (num_days, num_assets))
    prices = pd.DataFrame(100.0 * np.exp(moves.cumsum(axis=0)), pd.bdate_range("2015-01-01", periods=num_days))
    prices.columns = pd.Index([f"Stock {number}" for number in range(num_assets)])
    path = tmp_path / "wide.parquet"
    prices.rename_axis("date").to_parquet(path)
    short = ("momentum_days=[]", "moving_average_days=[]", "drawdown_days=null", "volatility_days=[21]")
    settings = [text for setting in short for text in ("--set", f"market.features.{setting}")]
    started = time.process_time()  # a busy machine is no slower by it
    assert main(["validate", str(path), *settings]) == 0
    assert time.process_time() - started < 10.0
    assert "features    6 per asset" in capsys.readouterr().out
