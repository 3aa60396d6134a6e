"""Validation curves before 2000 on the bundled stocks, by which tune_configs/ppo.yaml was chosen.

`python -m benchmarks.real_data defaults` trains each variant of the file on every fold and seed, without early
stopping, and keeps the Sharpe ratio over that of 1/N, and the information ratio, of each evaluation on the judged days.
The judged days are the validation window here, on which nothing is selected; what is asked is whether training beyond
an evaluation makes the policy better or worse on days that it has not seen.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.machine import ROOT
from benchmarks.real_data import study
from benchmarks.real_data.design import BETWEEN, EARLY, LATE, of_windows, run_config
from rllib_portfolio.atomic import write_json
from rllib_portfolio.config import RunConfig
from rllib_portfolio.market import MarketData, load_market
from rllib_portfolio.runs.resumable import train_in_folder
from rllib_portfolio.runs.validation import equal_weight_returns
from rllib_portfolio.statistics.metrics import sharpe_ratio

FILE = ROOT / "tune_configs" / "ppo.yaml"
FOLDER = "defaults"
NUM_SEEDS = 3
FRESH = "tune_configs/ppo.yaml, fresh seeds"
"""The chosen settings on seeds that nothing was chosen by."""
STEPS, INTERVAL = 61_440, 10_240
FOLDS = (
    (EARLY, LATE),
    (LATE, EARLY),
    (("1991-01-01", "1996-06-30"), ("1997-07-01", "1999-12-31")),
    (("1994-07-01", "1999-12-31"), ("1991-01-01", "1993-06-30")),
)
"""Training window and judged window, a year between them."""


def _rates(learning_rate: float, weight_decay: float) -> dict[str, Any]:
    return {"training.learning_rate": learning_rate, "training.weight_decay": weight_decay}


DAILY = {
    "environment.reward": "excess_log_return",
    "environment.rebalance_days": 1,
    "network.initial_cash_logit": 0.0,
    **_rates(1e-3, 0.0),
}
VARIANTS: dict[str, dict[str, Any]] = {
    "tune_configs/ppo.yaml": {},
    FRESH: {},
    "the models' defaults": DAILY,
    "no weight decay": _rates(1e-4, 0.0),
    "weight decay 100": _rates(1e-4, 100.0),
    "weight decay 1000": _rates(1e-4, 1000.0),
    "learning rate 0.00003": _rates(3e-5, 300.0),
    "learning rate 0.0003": _rates(3e-4, 300.0),
    "learning rate 0.001": _rates(1e-3, 300.0),
    "learning rate 0.001, weight decay 100": _rates(1e-3, 100.0),
    "learning rate 0.001, no weight decay": _rates(1e-3, 0.0),
    "a decision every day": {"environment.rebalance_days": 1},
    "a decision every 5 days": {"environment.rebalance_days": 5},
    "a decision every 63 days": {"environment.rebalance_days": 63},
    "over the uniform portfolio with cash": {
        "environment.reward": "excess_log_return",
        "network.initial_cash_logit": 0.0,
    },
}
"""Settings over the file."""


def run(folder: Path, *, quick: bool, only: Sequence[str] = ()) -> None:
    """Train every variant that has no result yet, and write one JSON file for each.

    Args:
        folder: For results.
        quick: One seed and few steps: the figures mean nothing.
        only: Names of variants; empty runs all of them.
    """
    names = [name for name in VARIANTS if (not only or name in only) and not _file(folder, name).is_file()]

    def make(name: str) -> dict[str, Any]:
        seeds = range(NUM_SEEDS, 2 * NUM_SEEDS) if name == FRESH else range(1 if quick else NUM_SEEDS)
        return curves(VARIANTS[name], seeds, INTERVAL if quick else STEPS)

    for name, record in study.made(names[:1] if quick else names, make):
        _file(folder, name).parent.mkdir(parents=True, exist_ok=True)
        write_json(_file(folder, name), record)
        print("Sharpe over 1/N", ", ".join(f"{value:+.3f}" for value in _mean(record, "sharpe_over_equal_weight")))


def curves(settings: Mapping[str, Any], seeds: Sequence[int], steps: int) -> dict[str, Any]:
    """Return the result of each evaluation of a variant on the judged days, as JSON values.

    Args:
        settings: Dotted settings over tune_configs/ppo.yaml.
        seeds: Seeds of the runs of each fold.
        steps: Environment steps of a run.

    Returns:
        `steps`, and for `sharpe_over_equal_weight` and `information_ratio` a list over folds and seeds of lists over
        the evaluations.
    """
    started = time.perf_counter()
    schedule = {
        "schedule.total_timesteps": steps,
        "schedule.evaluation_interval": steps // (STEPS // INTERVAL),
        "schedule.early_stopping_evaluations": None,
    }
    config = run_config(FILE, {**settings, **schedule})
    market = load_market(config.market)
    runs = [
        _evaluations(
            config.model_copy(update={"seed": seed}), of_windows(market, train=train, validation=judged, test=BETWEEN)
        )
        for train, judged in FOLDS
        for seed in seeds
    ]
    return {
        "settings": dict(settings),
        "seeds": list(seeds),
        "steps": runs[0].index.tolist(),
        **{name: [run[name].round(4).tolist() for run in runs] for name in runs[0].columns},
        "seconds": round(time.perf_counter() - started, 1),
    }


def _evaluations(config: RunConfig, market: MarketData) -> pd.DataFrame:
    """One run's figures on the judged days, a row for each evaluation, step 0 included."""
    start, stop = market.windows["validation"]
    bar = float(sharpe_ratio(equal_weight_returns(market, config), market.cash_returns[start:stop]))
    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder) / "run"
        train_in_folder(run_dir, config, market)
        rows = pd.read_csv(run_dir / "progress.csv", index_col="steps").dropna(subset=["validation/sharpe_ratio"])
    return pd.DataFrame(
        {
            "sharpe_over_equal_weight": rows["validation/sharpe_ratio"] - bar,
            "information_ratio": rows["validation/information_ratio"],
        }
    )


def _mean(record: Mapping[str, Any], figure: str) -> list[float]:
    """The mean over folds and seeds of each evaluation."""
    return [float(value) for value in np.mean(record[figure], axis=0)]


def _file(folder: Path, name: str) -> Path:
    return study.file_of(folder / FOLDER, name)
