"""Audit a reward and a feature of your own for look-ahead bias, and train with them.

    python examples/own_reward_and_feature.py

The functions are defined in this file and are named as `own_reward_and_feature:NAME`.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from rllib_portfolio.env.rewards import StepOutcome


def distance_from_median(prices: pd.DataFrame) -> pd.DataFrame:
    """Return how far each price lies from its median of the last 60 days; it depends on the past only."""
    return prices / prices.rolling(60).median() - 1.0


def less_turnover(outcome: StepOutcome) -> np.ndarray:
    """Return the log return of each environment less a penalty on its turnover, [B]."""
    return outcome.log_return - 0.001 * outcome.turnover


if __name__ == "__main__":
    settings = (
        "market.features.custom=[own_reward_and_feature:distance_from_median]",
        "environment.reward=own_reward_and_feature:less_turnover",
        "market.data={source: gbm, num_days: 1200}",
    )
    given = [part for setting in settings for part in ("--set", setting)]
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path}
    folder = sys.argv[1] if len(sys.argv) > 1 else "runs/own-reward"
    audit = ["backtest.py", "audit", "--algo", "ppo", *given, "--output", f"{folder}.json"]
    train = ["train.py", "--algo", "ppo", *given, "--total-timesteps", "4096", "--output-dir", folder, "--quiet"]
    for command in (audit, train):
        subprocess.run([sys.executable, *command], env=environment, check=True)
