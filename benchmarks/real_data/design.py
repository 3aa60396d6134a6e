"""One variant on the design folds: trained and judged on days before the first out-of-sample day, and on no others.

The folds of the walk from 2000 on validate on days that are out of sample for the fold before. Settings that are chosen
on those would have seen the days that they are judged on, so that variants get folds of their own, which end in 1999.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rllib_portfolio.algorithms.policy import PortfolioPolicy, load_policy
from rllib_portfolio.config import RunConfig
from rllib_portfolio.config_file import load_run_config
from rllib_portfolio.evaluation.backtest import BacktestResult, backtest
from rllib_portfolio.evaluation.baselines import EqualWeight
from rllib_portfolio.evaluation.ensemble import Ensemble
from rllib_portfolio.evaluation.metrics import information_ratio, sharpe_ratio
from rllib_portfolio.market import MarketData, load_market
from rllib_portfolio.training.folder import train_in_folder

FloatArray = NDArray[np.floating[Any]]

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = {algo: ROOT / "tune_configs" / f"{algo}_real_data.yaml" for algo in ("ppo", "dqn")}
FOLDS = (
    (("1990-01-01", "1993-12-31"), ("1994-01-01", "1995-12-31")),
    (("1990-01-01", "1995-12-31"), ("1996-01-01", "1997-12-31")),
    (("1990-01-01", "1997-12-31"), ("1998-01-01", "1999-12-31")),
)
"""Training and validation; the end of training is purged by the longest feature window and the lag."""
NOT_READ = ("2000-01-03", "2000-01-04")
"""A test window that a configuration must have, and that nothing here walks."""
NUM_SEEDS = 2
RETURN_DIGITS = 8


def judge(algo: str, settings: Mapping[str, Any], *, quick: bool = False) -> dict[str, Any]:
    """What the ensemble of a variant earns on the validation windows of the design folds, as JSON values.

    Args:
        algo: `ppo` or `dqn`.
        settings: Dotted settings over those of tune_configs/<algo>_real_data.yaml.
        quick: One fold, one seed and few steps: says nothing but that all works.
    """
    started = time.perf_counter()
    folds, num_seeds = (FOLDS[-1:], 1) if quick else (FOLDS, NUM_SEEDS)
    if quick:
        settings = {**settings, "schedule.total_timesteps": 4096}
    walks = [_walk_fold(algo, settings, fold, num_seeds) for fold in folds]
    rows = [_figures(policy, bar, cash) for _, policy, bar, cash in walks]
    returns, bar = (np.concatenate([getattr(walk[k], "returns") for walk in walks]) for k in (1, 2))
    cash = np.concatenate([walk[3] for walk in walks])
    return {
        "algo": algo,
        "settings": dict(settings),
        "num_seeds": num_seeds,
        "folds": [{"validation": list(fold[1]), "train_ir": walk[0], **row} for fold, walk, row in zip(folds, walks, rows, strict=True)],
        "pooled": _pooled(returns, bar, cash),
        "seconds": round(time.perf_counter() - started, 1),
        "dates": [str(date) for walk in walks for date in walk[1].dates],
        "returns": np.round(returns, RETURN_DIGITS).tolist(),
    }
