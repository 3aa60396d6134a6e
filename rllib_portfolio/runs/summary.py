"""The closing comparison of a run: its best policy and the reference strategies, on validation and test."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from rich.table import Table

from rllib_portfolio.atomic import whole_file, write_json
from rllib_portfolio.backtest.comparison import compare, verdict
from rllib_portfolio.backtest.engine import BacktestResult
from rllib_portfolio.backtest.lineup import reference_strategies, walk_lineup
from rllib_portfolio.config import RunConfig
from rllib_portfolio.market import MarketData
from rllib_portfolio.policies.checkpoint import best_checkpoint, newest_checkpoint, read_progress
from rllib_portfolio.reporting.columns import text_of
from rllib_portfolio.reporting.console import empty_table, wide_console
from rllib_portfolio.reporting.equity_curve import equity_curve
from rllib_portfolio.reporting.serialisation import json_value, write_csv
from rllib_portfolio.runs.validation import best_policy
from rllib_portfolio.statistics.verdicts import Verdict

WINDOWS = ("validation", "test")
_SHOWN = {
    "sharpe_ratio": "Sharpe",
    "total_return": "return",
    "annual_return": "return p.a.",
    "annual_volatility": "volatility",
    "max_drawdown": "drawdown",
    "turnover_per_year": "turnover",
    "cost_per_year": "cost p.a.",
}
"""Maps each column to its heading in the printed table."""


@dataclass(frozen=True)
class Results:
    """Tables and verdict of a run, which were written into its folder."""

    run_dir: Path
    tables: dict[str, pd.DataFrame]
    """Maps each window to a table with one row per strategy, see `backtest.comparison.compare`."""
    dates: dict[str, tuple[str, str]]
    """Maps each window to its first and last day."""
    verdict: Verdict
    """Verdict on the policy against 1/N on the test window."""
    selected_steps: int
    """Environment steps after which the selected policy was saved; 0 for the untrained network."""
    steps: int
    """Environment steps of the whole run."""

    def print(self, place: str | None = None) -> None:
        """Print the tables and the verdict.

        Args:
            place: Path or URI where the run is stored, if that is not its folder.
        """
        console = wide_console()
        steps = self.selected_steps
        which = f"the policy after {steps:,} steps" if steps else "the untrained network"
        console.print(f"Selected on validation: {which}, of a run of {self.steps:,} steps.", highlight=False)
        for window, table in self.tables.items():
            first, last = self.dates[window]
            console.print(_shown(f"{window} window, {first} to {last}, after costs", table))
        console.print(self.verdict.sentence, soft_wrap=True, highlight=False)
        where = f"{self.run_dir}/" if place is None else f"{place}: "
        console.print(f"Written: {where}results.json, results.csv, equity_curve.png", highlight=False)


def compare_best_policy(run_dir: Path, config: RunConfig, market: MarketData) -> Results:
    """Back-test a run's best policy and the reference strategies on validation and test; write and return the results.

    Args:
        run_dir: Folder of the run, into which the results are written.
        config: The run's configuration, with costs and limits.
        market: The run's market.

    Raises:
        ConfigError: If the run has no policy, or the policy does not fit the market.
    """
    policy = best_policy(run_dir, market)
    policy.name = f"{config.algo.upper()} policy"
    walks, tables, periods = {}, {}, market.periods_per_year
    for window in WINDOWS:
        rows, lineup = (
            market.windows[window],
            [policy, *reference_strategies(market)],
        )  # no mix of average weights
        walks[window] = list(walk_lineup(market, rows, config.environment, baselines=lineup).results)
        tables[window] = compare(walks[window], market.cash_returns[slice(*rows)], periods)
    dates = {window: (str(results[0].dates[0]), str(results[0].dates[-1])) for window, results in walks.items()}
    policy_walk, equal_weight = walks["test"][:2]
    judged = verdict(policy_walk, equal_weight, market.cash_returns[slice(*market.windows["test"])], periods)
    best, newest = best_checkpoint(run_dir), newest_checkpoint(run_dir)
    assert best is not None  # since its policy was loaded
    assert newest is not None
    steps = read_progress(best)["steps"], read_progress(newest)["steps"]
    results = Results(run_dir, tables, dates, judged, *steps)
    _write(results, walks)
    return results


def _write(results: Results, walks: dict[str, list[BacktestResult]]) -> None:
    record = {
        "windows": {
            window: {"first": first, "last": last, "strategies": _strategies(results.tables[window])}
            for window, (first, last) in results.dates.items()
        },
        "verdict": json_value(asdict(results.verdict)),
        "selected_steps": results.selected_steps,
        "steps": results.steps,
    }
    write_json(results.run_dir / "results.json", record)
    with whole_file(results.run_dir / "results.csv") as file:
        write_csv(pd.concat(results.tables, names=["window", "strategy"]), file)
    with whole_file(results.run_dir / "equity_curve.png") as file:
        equity_curve(walks["test"], file)


def _strategies(table: pd.DataFrame) -> dict[str, dict[str, Any]]:
    return {str(name): json_value(row) for name, row in table.to_dict(orient="index").items()}


def _shown(title: str, table: pd.DataFrame) -> Table:
    shown = empty_table(title, list(_SHOWN.values()))
    for strategy, row in table.iterrows():
        shown.add_row(str(strategy), *(text_of(name, row[name]) for name in _SHOWN))
    return shown
