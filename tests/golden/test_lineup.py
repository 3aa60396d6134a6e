"""All baselines on the bundled data's test window, against committed figures.

A difference is a finding. Where a change is meant, `make test-all ARGS="tests/golden --update-golden"` rewrites the
file.
"""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from rllib_portfolio.backtest.comparison import compare
from rllib_portfolio.backtest.lineup import walk_lineup
from rllib_portfolio.config import ExecutionConfig
from rllib_portfolio.market import load_market

GOLDEN = Path(__file__).parent / "lineup.json"
SOLVER_ROWS = ("minimum variance", "maximum Sharpe", "mean-CVaR", "risk parity", "Merton (risk aversion 1)")


@pytest.mark.slow
def test_the_baselines_on_the_bundled_data_earn_what_they_did(update_golden: bool) -> None:
    market = load_market("sp500")
    window = market.windows["test"]
    lineup = walk_lineup(market, window, ExecutionConfig())
    table = compare(lineup.results, market.cash_returns[slice(*window)], market.periods_per_year)
    found = {str(name): row.dropna().to_dict() for name, row in table.iterrows()}
    if update_golden:
        GOLDEN.write_text(json.dumps(found, indent=1) + "\n")
    assert lineup.failures.empty
    golden = json.loads(GOLDEN.read_text())
    assert list(found) == list(golden)
    for strategy, expected in golden.items():
        tolerance = 1e-4 if strategy in SOLVER_ROWS else 1e-10
        assert found[strategy] == pytest.approx(expected, rel=tolerance, abs=1e-14), strategy


def test_the_bundled_data_is_what_the_figures_were_made_of(update_golden: bool) -> None:
    path, market = GOLDEN.with_name("sp500.json"), load_market("sp500")
    found = {
        "data_hash": market.data_hash,
        "assets": list(market.assets),
        "windows": {
            name: [str(pd.Timestamp(market.dates[start]).date()), str(pd.Timestamp(market.dates[stop - 1]).date())]
            for name, (start, stop) in market.windows.items()
        },
    }
    if update_golden:
        path.write_text(json.dumps(found, indent=1) + "\n")
    assert found == json.loads(path.read_text())
