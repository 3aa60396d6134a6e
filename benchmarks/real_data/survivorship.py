"""What survivorship adds to 1/N, on any table with lives: `python -m benchmarks.real_data.survivorship prices.csv`.

Daily 1/N over the members is also computed from the prices and exits with pandas alone, and compared. The result for
342 US stocks of 2000 to 2018 is committed; the prices are not.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.machine import RESULTS, description
from benchmarks.tables import Table, markdown
from rllib_portfolio.atomic import write_json
from rllib_portfolio.backtest.baselines import BuyAndHold, EqualWeight
from rllib_portfolio.backtest.engine import backtest
from rllib_portfolio.backtest.sensitivity import survivorship_sensitivity
from rllib_portfolio.config import ExecutionConfig
from rllib_portfolio.market import MarketData, load_market

FILE = "survivorship.json"
FREE = ExecutionConfig(cost_bps=0.0, execution_lag=0)
TOLERANCE = 1e-10
FIGURES = ("annual_return", "annual_volatility", "sharpe_ratio", "max_drawdown")


def main() -> None:
    """Measure, compare with pandas, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("prices", type=Path, help="table of prices, with exits.csv beside it")
    prices = parser.parse_args().prices
    market = load_market({"data": str(prices), "accept_moves": True, "min_history_days": 0})
    largest = _difference_to_pandas(market, prices)
    if not largest <= TOLERANCE:
        raise SystemExit(f"1/N differs from the independent computation by {largest:g} a day.")
    window = market.windows["all"]
    table = survivorship_sensitivity(market, window, [EqualWeight(), BuyAndHold()], ExecutionConfig())
    if table is None or market.universe is None:
        raise SystemExit("No asset of the table leaves it.")
    days = [str(market.dates[row]) for row in (window[0], window[1] - 1)]
    rows = [{"strategy": name, "universe": part, **figures} for (name, part), figures in _figures(table).items()]
    survivors = int(market.universe.listed[window[1] - 1].sum())
    counts = {"assets": market.num_assets, "survivors": survivors, "days": days}
    result = {"machine": description(), **counts, "difference_to_pandas": largest, "rows": rows}
    write_json(RESULTS / FILE, result)
    print(json.dumps(result["rows"], indent=1))


def _difference_to_pandas(market: MarketData, path: Path) -> float:
    """Return the largest absolute difference of a daily return of 1/N, without costs, from a computation in pandas."""
    window = market.windows["all"]
    (ours,) = backtest(market, window, [EqualWeight()], FREE)
    prices = pd.read_csv(path, index_col=0, parse_dates=True)
    returns = prices.pct_change(fill_method=None)
    exits = pd.read_csv(path.with_name("exits.csv"), parse_dates=["date"])
    for asset, date, terminal in zip(exits["asset"], exits["date"], exits["return"], strict=True):
        returns.loc[returns.index[returns.index.searchsorted(date)], asset] = terminal
    held = prices.notna().shift(1, fill_value=False)
    theirs = returns.where(held).mean(axis=1)[slice(*window)]
    return float(np.abs(ours.returns - theirs.to_numpy()).max())


def _figures(table: pd.DataFrame) -> dict[tuple[str, str], dict[str, float]]:
    return {key: {name: float(row[name]) for name in FIGURES} for key, row in zip(table.index, table.iloc, strict=True)}


def content(results: Mapping[str, Any]) -> str:
    """Return the table as markdown for docs/results.md."""
    rows = [
        [row["strategy"], row["universe"].replace("difference", "survivors minus all")]
        + [f"{row[name]:.2f}" if name == "sharpe_ratio" else f"{row[name]:.1%}" for name in FIGURES]
        for row in results["rows"]
    ]
    first, last = results["days"]
    title = (
        f"{results['assets']} US stocks chosen before {first[:4]}, of which {results['survivors']} are left on {last}"
    )
    note = (
        f"Days {first} to {last}, price returns without dividends, 10 basis points, execution lag 1. Daily 1/N without "
        f"costs agrees with a separate computation in pandas to {results['difference_to_pandas']:.0e}."
    )
    header = ["strategy", "assets", "annual return", "annual volatility", "Sharpe ratio", "maximum drawdown"]
    return markdown([Table(title, header, rows, note)])


if __name__ == "__main__":
    main()
