"""Prices that move wildly, and results that are too good, as the commands that train and judge meet them."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from rllib_portfolio import cli
from rllib_portfolio.config.files import load_run_config
from rllib_portfolio.errors import DataError
from rllib_portfolio.experiments.walk_forward.folds import FoldLengths
from rllib_portfolio.experiments.walk_forward.plan import plan_walk_forward
from tests.cli.test_tune import write_search
from tests.market.tables import SHORT, random_prices
from tests.tiny_runs import TinyRun

COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "train": cli.train,
    "tune": cli.tune,
    "walk-forward": lambda words: cli.backtest(["walk-forward", *words]),
}


def write_run(tmp_path: Path, prices: pd.DataFrame, **market: object) -> Path:
    """A configuration with a search space, for a table of these prices."""
    prices.to_csv(tmp_path / "prices.csv")
    settings = {"market.data": str(tmp_path / "prices.csv"), "market.features": SHORT.model_dump()}
    return write_search(tmp_path / "tiny.yaml", settings | {f"market.{name}": value for name, value in market.items()})


def with_split() -> pd.DataFrame:
    """Three assets, the first of which has ten shares for each one from row 300 on."""
    prices = random_prices(600)
    prices.iloc[300:, 0] /= 10.0
    return prices


def grown(rate: float) -> pd.DataFrame:
    """Prices that rise by so much a day besides."""
    prices = random_prices(600)
    return prices.mul((1.0 + rate) ** np.arange(600), axis=0)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_fresh_run_does_not_begin_on_moves_that_are_not_accepted(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str
) -> None:
    config, output = write_run(tmp_path, with_split()), tmp_path / "out"
    assert COMMANDS[name](["--quiet", "--config", str(config), "--output-dir", str(output)]) == 2
    printed = capsys.readouterr()
    (line,) = printed.err.splitlines()
    day = with_split().index[300].date()
    move = 100.0 * (with_split()["AAA"].pct_change().iloc[300])
    assert f"got 1 beyond: AAA {day} {move:+.3g} % (looks like an unadjusted 10-for-1 split)" in line
    assert line.endswith("If the moves are real, set market.accept_moves to true.")
    assert not output.exists()


def test_accepted_moves_and_those_of_simulated_markets_are_planned_with(tmp_path: Path) -> None:
    lengths = FoldLengths(num_folds=2)
    config = load_run_config(write_run(tmp_path, with_split()), {})
    with pytest.raises(DataError, match="got 1 beyond"):
        plan_walk_forward([config], 1, lengths)
    accepted = load_run_config(write_run(tmp_path, with_split(), accept_moves=True), {})
    assert len(plan_walk_forward([accepted], 1, lengths).folds) == 2
    coin = {"market.data": {"source": "kelly", "up": 4.0, "down": 0.8, "num_days": 300}}
    assert len(plan_walk_forward([load_run_config(tmp_path / "tiny.yaml", coin)], 1, lengths).folds) == 2


@pytest.mark.slow
def test_an_audit_warns_of_results_that_are_too_good_and_passes(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    prices = grown(0.0)
    prices["BBB"] *= 1.01 ** np.arange(600)  # 1,129 % a year
    config = write_run(tmp_path, prices)
    assert cli.backtest(["audit", "--quiet", "--config", str(config)]) == 0
    lines = capsys.readouterr().out.splitlines()
    (warning,) = (line for line in lines if line.startswith("Warning: "))
    assert "above the plausible limits of 200 % a year and a Sharpe ratio of 4" in warning
    assert "PASS: no look-ahead bias was found in what is listed above." in lines


@pytest.mark.ray
def test_train_warns_of_results_that_are_too_good(
    ray_session: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys.modules["rllib_portfolio.cli.train"], "ray_session", lambda config, address: nullcontext())
    config = write_run(tmp_path, grown(0.02))
    values = yaml.safe_load(config.read_text())
    values["schedule"]["total_timesteps"] = 64
    config.write_text(yaml.safe_dump(values))
    assert cli.train(["--quiet", "--config", str(config), "--output-dir", str(tmp_path / "run")]) == 0
    (warning,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("Warning: "))
    assert " a year at a Sharpe ratio of " in warning


@pytest.mark.ray
def test_a_back_test_warns_of_results_that_are_too_good(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, finished_run: TinyRun
) -> None:
    shutil.copytree(finished_run.run_dir, tmp_path / "run")
    known = pd.read_csv(finished_run.config.market.data, index_col=0, parse_dates=True)
    days = pd.bdate_range(known.index[-1], periods=71)[1:]
    newer = pd.DataFrame(known.iloc[-70:].to_numpy()[::-1], index=days, columns=known.columns)
    newer["CCC"] *= known["CCC"].iloc[-1] / newer["CCC"].iloc[0] * 1.05 ** np.arange(1, 71)
    pd.concat([known, newer]).to_csv(tmp_path / "newer.csv", index_label="date")
    flags = ["--data-path", str(tmp_path / "newer.csv"), "--no-costs-table", "--quiet"]
    assert cli.backtest([str(tmp_path / "run"), *flags, "--output-dir", str(tmp_path / "new")]) == 0
    (warning,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("Warning: "))
    assert "Check CCC first, whose prices are the least plausible" in warning
