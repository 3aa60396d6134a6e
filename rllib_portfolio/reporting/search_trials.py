"""Record of a hyperparameter search for the report: the number of trials and their returns."""

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
"""Number of blocks of the cross-validation, as in Bailey, Borwein, Lopez de Prado and Zhu (2017)."""


@dataclass(frozen=True, slots=True, eq=False)
class TuningRecord:
    """Record of the hyperparameter search that a policy was selected from.

    Attributes:
        num_trials: Number of all trials, including pruned and failed ones.
        sharpe_variance: Variance of the trials' annualised Sharpe ratios on the selection days, i.e. the days that
            trials were selected on.
        periods_per_year: Days per year of the annualisation.
        trial_returns: Daily returns on the selection days, one column per finished trial, [T, N]; None if the search
            kept none.
    """

    num_trials: int
    sharpe_variance: float
    periods_per_year: float = metrics.PERIODS_PER_YEAR
    trial_returns: pd.DataFrame | None = None

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read summary.json and, if it exists, trial_returns.parquet from the output folder of a search.

        Raises:
            DataError: If summary.json is missing, invalid or changed, or trial_returns.parquet cannot be read.
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
        """Compute the deflated Sharpe ratio of the selected trial for this number of trials and this variance.

        Args:
            returns: Daily returns of the selected trial on the selection days, [T].
            cash_returns: Cash return per day on these days, a number or [T].
        """
        sample = SharpeSample.of(returns, cash_returns, self.periods_per_year)
        return deflated_sharpe_ratio(sample, self.num_trials, self.sharpe_variance)

    def selected_trial(self, cash_returns: FloatArray | float = 0.0) -> tuple[str, FloatArray] | None:
        """Return name and daily returns [T] of the trial without gaps that has the highest Sharpe ratio.

        Args:
            cash_returns: Cash return per day on the selection days, a number or [T].

        Returns:
            None if no trial has returns without gaps and a defined Sharpe ratio.
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
        """Compute the PBO by CSCV over the excess returns of the trials without gaps.

        Args:
            cash_returns: Cash return per day on the selection days, a number or [T].

        Returns:
            The PBO and a sentence on its trials and days; or None and a sentence on why there is no PBO.
        """
        if self.trial_returns is None:
            return None, f"The search kept no {TRIAL_RETURNS}, so the probability of backtest overfitting is left out."
        whole = self.trial_returns.dropna(axis="columns")
        left_out = self.trial_returns.shape[1] - whole.shape[1]
        gaps = (
            f" {left_out} {'trial with gaps is' if left_out == 1 else 'trials with gaps are'} left out."
            if left_out
            else ""
        )
        try:
            excess = whole.to_numpy(dtype=np.float64) - np.broadcast_to(cash_returns, len(whole))[:, None]
            found = backtest_overfitting(excess, NUM_BLOCKS)
        except ConfigError as error:
            return None, f"The probability of backtest overfitting is left out: {error}"
        return found, f"Based on {whole.shape[1]} trials with returns on {len(whole)} selection days.{gaps}"
