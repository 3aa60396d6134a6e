"""A table of hours from training to the report and the audit, by the commands."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from rllib_portfolio import cli
from rllib_portfolio.market import MarketData
from tests.market.tables import SHORT
from tests.market.test_hours import hourly
from tests.tiny_runs import tiny_config


@pytest.mark.ray
@pytest.mark.timeout(300)
def test_hours_are_trained_judged_and_audited(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], pytestconfig: pytest.Config
) -> None:
    hourly().to_csv(tmp_path / "p.csv")
    config = tiny_config({"market.data": str(tmp_path / "p.csv"), "market.features": SHORT.model_dump(mode="json")})
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")))
    run_dir, report = tmp_path / "run", tmp_path / "report"
    command = [sys.executable, "train.py", "--config", tmp_path / "tiny.yaml", "--output-dir", run_dir, "--quiet"]
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    done = subprocess.run(
        command, cwd=pytestconfig.rootpath, env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    market = MarketData.load(run_dir / "market.npz")
    first, last = (str(market.dates[row]) for row in (market.windows["test"][0], market.windows["test"][1] - 1))
    assert last == "2022-02-07T23:00"
    assert cli.backtest([str(run_dir), "--output-dir", str(report), "--quiet"]) == 0
    assert f"rows from {first} to {last}" in capsys.readouterr().out
    results = json.loads((report / "results.json").read_text())
    assert (results["first_day"], results["last_day"], results["periods_per_year"]) == (first, last, 8760)
    returns = pd.read_parquet(report / "returns" / "1-n.parquet")
    assert returns.index[-1] == pd.Timestamp(last)
    assert cli.backtest(["audit", str(run_dir), "--quiet"]) == 0
