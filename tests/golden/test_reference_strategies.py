"""The reference strategies on the bundled data, against committed figures.

A difference is a finding. Where a change is meant, `make test ARGS="tests/golden --update-golden"` rewrites the file.
"""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from rllib_portfolio.backtest.baselines import index_result
from rllib_portfolio.backtest.comparison import compare
from rllib_portfolio.backtest.engine import backtest
from rllib_portfolio.backtest.lineup import reference_strategies
from rllib_portfolio.config import ExecutionConfig
from rllib_portfolio.market import MarketData, load_market

GOLDEN = Path(__file__).parent / "reference_strategies.json"
SOLVER_ROWS = ("Merton (risk aversion 1)",)


@pytest.fixture(scope="module")
def market() -> MarketData:
    return load_market("sp500")


def figures(market: MarketData, window: str) -> dict[str, dict[str, float]]:
    rows, execution = market.windows[window], ExecutionConfig()
    results = list(backtest(market, rows, reference_strategies(market), execution))
    index = index_result(market, rows, execution)
    assert index is not None
    table = compare([*results, index], market.cash_returns[slice(*rows)], market.periods_per_year)
    return {name: row.dropna().to_dict() for name, row in table.iterrows()}


def test_reference_strategies_on_the_bundled_data_earn_what_they_did(market: MarketData, update_golden: bool) -> None:
    found = {window: figures(market, window) for window in ("validation", "test")}
    if update_golden:
        GOLDEN.write_text(json.dumps(found, indent=1) + "\n")
    golden = json.loads(GOLDEN.read_text())
    for window, rows in golden.items():
        assert list(found[window]) == list(rows)
        for strategy, expected in rows.items():
            tolerance = 1e-5 if strategy in SOLVER_ROWS else 1e-10
            assert found[window][strategy] == pytest.approx(expected, rel=tolerance, abs=1e-14), (window, strategy)


def test_the_bundled_data_is_what_the_figures_were_made_of(market: MarketData, update_golden: bool) -> None:
    path = GOLDEN.with_name("sp500.json")
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
