"""The closing table of a run, as it is printed."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from rllib_portfolio.runs.summary import Results
from rllib_portfolio.statistics.verdicts import Verdict

FIGURES = {
    "total_return": 8.4220,
    "annual_return": 0.3787,
    "annual_volatility": 0.5009,
    "sharpe_ratio": 0.8521,
    "max_drawdown": 0.5664,
    "turnover_per_year": 1.3629,
    "cost_per_year": 0.00258,
}


def test_no_figure_of_the_closing_table_is_cut_and_turnover_is_a_multiple(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = {name: FIGURES for name in ("PPO policy", "1/N", "Merton (risk aversion 1)")}
    rows["all cash"] = FIGURES | {"sharpe_ratio": float("nan"), "turnover_per_year": 0.0}
    table = pd.DataFrame.from_dict(rows, orient="index")
    judged = Verdict("no significant difference", 0.5, 0.5, 0.1, 0.0, False, "A sentence.")
    dates = {window: ("2016-01-04", "2022-12-28") for window in ("validation", "test")}
    Results(tmp_path, {"validation": table, "test": table}, dates, judged, 12_288, 43_008).print()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Selected on validation: the policy after 12,288 steps, of a run of 43,008 steps."
    assert max(len(line) for line in lines[:-2]) <= 100
    assert not any("…" in line for line in lines)
    merton = " ".join(next(line for line in lines if "Merton" in line).split())
    assert merton == "Merton (risk aversion 1) 0.85 842.2 % 37.9 % 50.1 % 56.6 % 1.36x 0.26 %"
    cash = " ".join(next(line for line in lines if "all cash" in line).split())
    assert cash == "all cash – 842.2 % 37.9 % 50.1 % 56.6 % 0.00x 0.26 %"
