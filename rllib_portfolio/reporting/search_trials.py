"""What a search leaves behind for the judge: how many trials there were, and what each of them earned."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd

from rllib_portfolio.arrays import FloatArray
from rllib_portfolio.atomic import unsealed
from rllib_portfolio.errors import ConfigError, DataError, file_error
from rllib_portfolio.statistics import metrics
from rllib_portfolio.statistics.overfitting import (
    BacktestOverfitting,
    SharpeSample,
    backtest_overfitting,
    deflated_sharpe_ratio,
)

SUMMARY = "summary.json"
TRIAL_RETURNS = "trial_returns.parquet"
NUM_BLOCKS = 16
"""Of the cross-validation, as in Bailey, Borwein, Lopez de Prado and Zhu (2017)."""


@dataclass(frozen=True, slots=True, eq=False)
class TuningRecord:
    """The search behind a policy.

    Attributes:
        num_trials: All trials, pruned and failed ones included.
        sharpe_variance: Of the trials' annualised Sharpe ratios on the days that were selected on.
        periods_per_year: Days per year that they were annualised with.
        trial_returns: Daily returns on these days, one column per trial that came to its end, [T, N]; None where the
            search kept none.
    """

    num_trials: int
    sharpe_variance: float
    periods_per_year: float = metrics.PERIODS_PER_YEAR
    trial_returns: pd.DataFrame | None = None

    @classmethod
    def read(cls, folder: Path) -> Self:
        """From the output folder of a search: summary.json, and trial_returns.parquet where there is one.

        Raises:
            DataError: If summary.json is missing, is no JSON, was changed or lacks one of its numbers, or
                trial_returns.parquet cannot be read.
        """
        path = Path(folder) / SUMMARY
        try:
            summary = unsealed(json.loads(path.read_text()))
            num_trials, variance = int(summary["num_trials"]), float(summary["sharpe_variance"])
            periods_per_year = float(summary["periods_per_year"])
            kept = Path(folder) / TRIAL_RETURNS
            returns = pd.read_parquet(kept) if kept.exists() else None
        except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            text = (
                f"{SUMMARY} must hold num_trials, sharpe_variance and periods_per_year, got {type(error).__name__}: "
                f"{error} ({path})"
            )
            raise file_error(error, text, "Name the output folder of a finished search.", DataError) from None
        if num_trials < 1 or not variance >= 0.0:
            raise DataError(
                f"{SUMMARY} must count at least 1 trial and a variance of at least 0, got {num_trials} and {variance} "
                f"({path}). Name the output folder of a finished search."
            )
        return cls(num_trials, variance, periods_per_year, returns)

    def deflated_sharpe_ratio(self, returns: FloatArray, cash_returns: FloatArray | float = 0.0) -> float:
        """One less the p-value of a Sharpe ratio that is at most what the best of so many worthless trials shows.

        Args:
            returns: Its daily returns on the days that it was selected on, [T].
            cash_returns: What cash earned on them.
        """
        sample = SharpeSample.of(returns, cash_returns, self.periods_per_year)
        return deflated_sharpe_ratio(sample, self.num_trials, self.sharpe_variance)

    def selected_trial(self, cash_returns: FloatArray | float = 0.0) -> tuple[str, FloatArray] | None:
        """Name and daily returns [T] of the trial with the highest Sharpe ratio; None where no whole one has any.

        Args:
            cash_returns: What cash earned on the days that were selected on.
        """
        if self.trial_returns is None:
            return None
        whole = self.trial_returns.dropna(axis="columns")
        returns = whole.to_numpy(dtype=np.float64)
        sharpes = np.atleast_1d(metrics.sharpe_ratio(returns, cash_returns, self.periods_per_year))
        if not np.isfinite(sharpes).any():
            return None
        best = int(np.nanargmax(sharpes))
        return str(whole.columns[best]), returns[:, best]

    def overfitting(self, cash_returns: FloatArray | float = 0.0) -> tuple[BacktestOverfitting | None, str]:
        """PBO by CSCV over the trials' excess returns, and a sentence on what it is of, or why there is none.

        Args:
            cash_returns: What cash earned on the days that were selected on, [T] or one rate for all.
        """
        if self.trial_returns is None:
            return None, f"The search kept no {TRIAL_RETURNS}: the probability of backtest overfitting is left out."
        whole = self.trial_returns.dropna(axis="columns")
        left_out = self.trial_returns.shape[1] - whole.shape[1]
        gaps = f" {left_out} with gaps left out." if left_out else ""
        try:
            excess = whole.to_numpy(dtype=np.float64) - np.broadcast_to(cash_returns, len(whole))[:, None]
            found = backtest_overfitting(excess, NUM_BLOCKS)
        except ConfigError as error:
            return None, f"The probability of backtest overfitting is left out: {error}"
        return found, f"Over {whole.shape[1]} trials with returns on {len(whole)} selection days.{gaps}"
