"""One variant on the design folds: trained and judged on days before the first out-of-sample day, and on no others.

The folds of the walk from 2000 on validate on days that are out of sample for the fold before. Settings chosen on those
days would have seen what they are judged on, so that variants get folds of their own. The years before 2000 are few:
each half is judged by what was trained on the other half, and the year between the two is the validation window, on
which checkpoints are selected where a variant does that.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.machine import ROOT
from rllib_portfolio.arrays import FloatArray
from rllib_portfolio.backtest.baselines import EqualWeight
from rllib_portfolio.backtest.engine import BacktestResult, backtest
from rllib_portfolio.config import RunConfig
from rllib_portfolio.config.files import load_run_config
from rllib_portfolio.market import MarketData, load_market
from rllib_portfolio.policies.ensemble import Ensemble
from rllib_portfolio.policies.saved_policy import load_policy
from rllib_portfolio.runs.resumable import train_in_folder
from rllib_portfolio.statistics.metrics import information_ratio, sharpe_ratio

CONFIGS = {"ppo": ROOT / "tune_configs" / "ppo_per_asset.yaml", "dqn": ROOT / "tune_configs" / "dqn_monthly.yaml"}
EARLY, BETWEEN, LATE = ("1991-01-01", "1994-12-31"), ("1995-01-01", "1995-12-31"), ("1996-01-01", "1999-12-31")
FOLDS = {"late half": (EARLY, LATE), "early half": (LATE, EARLY)}
"""Judged window to training window and itself."""
NOT_READ = ("2000-01-03", "2000-01-04")
"""A test window that a configuration must have, and that nothing here walks."""
NUM_SEEDS = 2
QUICK_STEPS = 4096
RETURN_DIGITS = 8


class Walks(NamedTuple):
    """An ensemble and 1/N on one window."""

    policy: BacktestResult
    equal_weight: BacktestResult
    cash_returns: FloatArray

    def figures(self) -> dict[str, float]:
        """Return the figures for the tables."""
        days = len(self.policy.returns)
        return {
            **_ratios(self.policy.returns, self.equal_weight.returns, self.cash_returns),
            "turnover": round(float(self.policy.turnover.sum()) / days * 252, 4),
        }


def judge(algo: str, settings: Mapping[str, Any], *, quick: bool = False) -> dict[str, Any]:
    """Return the results of the ensemble of a variant on the judged windows, as JSON values.

    Args:
        algo: `ppo` or `dqn`.
        settings: Dotted settings over those of the algorithm's file.
        quick: One seed and few steps: says nothing but that all works.
    """
    started = time.perf_counter()
    settings = {**settings, "schedule.total_timesteps": QUICK_STEPS} if quick else dict(settings)
    num_seeds = 1 if quick else NUM_SEEDS
    config = run_config(CONFIGS[algo], settings)
    market = load_market(config.market)
    folds, judged = [], []
    for name, (train, test) in FOLDS.items():
        fold = of_windows(market, train=train, validation=BETWEEN, test=test)
        learned, walked = _train_and_walk(config, fold, num_seeds)
        folds.append({"judged": name, **walked.figures(), "train_ir": learned.figures()["ir"]})
        judged.append(walked)
    returns, bar, cash = (
        np.concatenate(columns)
        for columns in zip(*((w.policy.returns, w.equal_weight.returns, w.cash_returns) for w in judged), strict=True)
    )
    return {
        "algo": algo,
        "settings": settings,
        "num_seeds": num_seeds,
        "folds": folds,
        "pooled": {**_ratios(returns, bar, cash), "turnover": round(np.mean([fold["turnover"] for fold in folds]), 4)},
        "seconds": round(time.perf_counter() - started, 1),
        "dates": [str(date) for walked in judged for date in walked.policy.dates],
        "returns": np.round(returns, RETURN_DIGITS).tolist(),
    }


def run_config(file: Path, settings: Mapping[str, Any]) -> RunConfig:
    """The run of a file; scalers and regimes, where it has any, are fitted on the early half."""
    windows = {"market.train": EARLY, "market.validation": LATE, "market.test": NOT_READ}
    return load_run_config(file, {**settings, **windows, "resources.device": "cpu"})


def of_windows(market: MarketData, **windows: tuple[str, str]) -> MarketData:
    """The market with windows given by their first and last dates, without the rows of the warm-up."""
    earliest, stop = market.windows["all"]
    rows = {"all": (earliest, stop)}
    for name, (first, last) in windows.items():
        start = int(np.searchsorted(market.dates, np.datetime64(first, "D")))
        rows[name] = max(start, earliest), int(np.searchsorted(market.dates, np.datetime64(last, "D"), side="right"))
    return replace(market, windows=rows)


def _train_and_walk(config: RunConfig, market: MarketData, num_seeds: int) -> tuple[Walks, Walks]:
    """The ensemble's walks over the training and the judged window."""
    policies = []
    for seed in range(num_seeds):
        with tempfile.TemporaryDirectory() as folder:
            run_dir = Path(folder) / "run"
            train_in_folder(run_dir, config.model_copy(update={"seed": seed}), market)
            policies.append(load_policy(run_dir))
    strategies = [Ensemble(tuple(policies), "ensemble"), EqualWeight()]
    train, judged = (
        Walks(
            *backtest(market, market.windows[window], strategies, config.environment),
            market.cash_returns[slice(*market.windows[window])],
        )
        for window in ("train", "test")
    )
    return train, judged


def _ratios(returns: FloatArray, bar: FloatArray, cash: FloatArray) -> dict[str, float]:
    figures = {
        "ir": information_ratio(returns, bar),
        "tracking_error": (returns - bar).std(ddof=1) * np.sqrt(252.0),
        "sharpe": sharpe_ratio(returns, cash),
        "equal_weight_sharpe": sharpe_ratio(bar, cash),
    }
    return {name: round(float(value), 4) for name, value in figures.items()}
