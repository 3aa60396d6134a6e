"""How much of a monthly walk is the luck of the day that it starts on: the same policies, begun up to 20 days later."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.real_data.walks import WALK
from rllib_portfolio.backtest.baselines import EqualWeight
from rllib_portfolio.backtest.engine import backtest
from rllib_portfolio.cli.console import quieten_libraries
from rllib_portfolio.experiments.walk_forward.plan import Run, WalkForwardPlan
from rllib_portfolio.experiments.walk_forward.pooling import FoldPolicy, PooledPolicy
from rllib_portfolio.experiments.walk_forward.record import read_record
from rllib_portfolio.policies.ensemble import Ensemble
from rllib_portfolio.runs.validation import best_policy
from rllib_portfolio.statistics.metrics import information_ratio, sharpe_ratio

FILE = "offsets.json"


def run(folder: Path, runs: Path) -> int:
    """Walk the ensembles of the bundled universe from every day of a month on, unless that was done; exit code 0.

    Args:
        folder: For results.
        runs: Where the walk-forward folder is.
    """
    path = folder / WALK / FILE
    if path.is_file():
        print(f"offsets: made before ({path})")
        return 0
    quieten_libraries()
    output = (runs / WALK).resolve()
    plan = WalkForwardPlan.from_json(read_record(output)["plan"])
    markets = {fold: plan.load_fold(fold) for fold in range(len(plan.folds))}
    strategies = [*(_ensemble(plan, algo, markets, output) for algo in plan.configs), EqualWeight()]
    market, (start, stop) = markets[0], (plan.folds[0].test[0], plan.folds[-1].test[1])
    rows = []
    for later in range(plan.execution.rebalance_days):
        window = (start + later, stop)
        *walked, bar = backtest(market, window, strategies, plan.execution)
        cash = market.cash_returns[slice(*window)]
        rows.append({"days_later": later, **{result.name: _figures(result, bar, cash) for result in walked}})
    path.write_text(json.dumps(rows, indent=1) + "\n")
    return 0


def summary(folder: Path) -> str:
    """Median and range of the information ratio and of the Sharpe difference, as lines of markdown; or nothing."""
    path = folder / WALK / FILE
    if not path.is_file():
        return ""
    rows = json.loads(path.read_text())
    lines = []
    for name in (key for key in rows[0] if key != "days_later"):
        ratios, gains = (np.array([row[name][figure] for row in rows]) for figure in ("ir", "sharpe_difference"))
        lines.append(
            f"- {name}, begun on each of {len(rows)} days in a row: information ratio {np.median(ratios):+.2f} in the "
            f"median, {ratios.min():+.2f} to {ratios.max():+.2f}; Sharpe ratio less that of 1/N "
            f"{np.median(gains):+.2f}, {gains.min():+.2f} to {gains.max():+.2f}."
        )
    return "\n".join(lines)


def _ensemble(plan: WalkForwardPlan, algo: str, markets: Any, output: Path) -> PooledPolicy:
    folds = []
    for fold, market in markets.items():
        members = tuple(best_policy(Run(algo, fold, seed).folder(output), market) for seed in plan.seeds)
        folds.append(FoldPolicy(market, plan.folds[fold].test, Ensemble(members, algo)))
    return PooledPolicy(f"{algo.upper()} ensemble", folds)


def _figures(result: Any, bar: Any, cash: Any) -> dict[str, float]:
    gain = sharpe_ratio(result.returns, cash) - sharpe_ratio(bar.returns, cash)
    return {
        "ir": round(float(information_ratio(result.returns, bar.returns)), 4),
        "sharpe_difference": round(float(gain), 4),
    }
