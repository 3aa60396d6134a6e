from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from rllib_portfolio.errors import DataError
from rllib_portfolio.reporting.search_trials import TuningRecord
from rllib_portfolio.statistics.overfitting import SharpeSample, backtest_overfitting, deflated_sharpe_ratio

SUMMARY = {"num_trials": 100, "sharpe_variance": 0.5, "periods_per_year": 250}


def write(folder: Path, summary: dict[str, Any], trials: pd.DataFrame | None = None) -> Path:
    (folder / "summary.json").write_text(json.dumps(summary))
    if trials is not None:
        trials.to_parquet(folder / "trial_returns.parquet")
    return folder


def noise(num_trials: int = 6, days: int = 64) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame(rng.normal(0.0, 0.01, (days, num_trials)), columns=[f"trial_{k}" for k in range(num_trials)])


def test_the_folder_of_a_search_is_read(tmp_path: Path) -> None:
    record = TuningRecord.read(write(tmp_path, SUMMARY, noise()))
    assert (record.num_trials, record.sharpe_variance, record.periods_per_year) == (100, 0.5, 250.0)
    assert record.trial_returns is not None
    pd.testing.assert_frame_equal(record.trial_returns, noise())


def test_the_deflated_sharpe_ratio_counts_all_trials(tmp_path: Path) -> None:
    record = TuningRecord.read(write(tmp_path, SUMMARY))
    returns = 0.001 + np.random.default_rng(3).normal(0.0, 0.01, 1250)
    expected = deflated_sharpe_ratio(SharpeSample.of(returns, 1e-4, 250), 100, 0.5)
    assert record.deflated_sharpe_ratio(returns, 1e-4) == expected
    fewer = TuningRecord(num_trials=5, sharpe_variance=0.5, periods_per_year=250)
    assert fewer.deflated_sharpe_ratio(returns, 1e-4) > expected


def test_overfitting_is_worked_out_over_whole_trials() -> None:
    trials = noise()
    trials.iloc[10:, 2] = np.nan  # pruned
    found, note = TuningRecord(6, 0.1, 252, trials).overfitting()
    assert found.probability == backtest_overfitting(trials.drop(columns="trial_2").to_numpy()).probability
    assert note == "Based on 5 trials with returns on 64 selection days. 1 trial with gaps is left out."


def test_overfitting_is_of_returns_in_excess_of_cash() -> None:
    cash = 1e-4 * np.arange(64)
    trials = noise()
    trials["cash"] = cash + np.random.default_rng(5).normal(0.0, 1e-6, 64)  # earns nothing over cash, and never a loss
    found, _ = TuningRecord(7, 0.1, 252, trials).overfitting(cash)
    assert found.probability == backtest_overfitting(trials.to_numpy() - cash[:, None]).probability
    assert found.probability != backtest_overfitting(trials.to_numpy()).probability


def test_what_keeps_overfitting_from_being_worked_out_is_said() -> None:
    assert TuningRecord(6, 0.1).overfitting() == (
        None,
        "The search kept no trial_returns.parquet, so the probability of backtest overfitting is left out.",
    )
    found, note = TuningRecord(6, 0.1, 252, noise(days=20)).overfitting()
    assert found is None
    assert "is left out: returns must be at least 32 days of at least 2 trials, got shape (20, 6)" in note


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "FileNotFoundError"),
        ("{", "JSONDecodeError"),
        ('{"num_trials": 3, "periods_per_year": 252}', "KeyError: 'sharpe_variance'"),
        ('{"num_trials": 3, "sharpe_variance": 0.1, "periods_per_year": 252, "sha256": "0"}', "its sha256 is of other"),
        ("[" * 100_000, "RecursionError"),
        ('{"num_trials": 0, "sharpe_variance": 0.1, "periods_per_year": 252}', "at least 1 trial"),
        (
            '{"num_trials": 3, "sharpe_variance": NaN, "periods_per_year": 252}',
            "a variance of at least 0, got 3 and nan",
        ),
    ],
)
def test_a_folder_without_a_summary_is_refused(tmp_path: Path, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / "summary.json").write_text(text)
    with pytest.raises(DataError, match=message):
        TuningRecord.read(tmp_path)
