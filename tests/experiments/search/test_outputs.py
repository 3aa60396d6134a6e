"""The tables and settings that a search leaves, worked out by hand and read back by those who use them."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import optuna
import pandas as pd
import pytest
from optuna.trial import TrialState

from rllib_portfolio.atomic import whole_file
from rllib_portfolio.config import RUN_CONFIGS
from rllib_portfolio.config.files import load_run_config
from rllib_portfolio.errors import DataError
from rllib_portfolio.experiments.search.outputs import (
    summarise,
    write_best_config,
    write_results,
    write_summary,
    write_trial_returns,
)
from rllib_portfolio.reporting.search_trials import TuningRecord
from tests.experiments.search.studies import study_of, trial_of

DESCRIPTION = {
    "algo": "ppo",
    "seed": 3,
    "max_steps": 50_000,
    "search": "optuna",
    "scheduler": "median",
    "periods_per_year": 252.0,
    "equal_weight_sharpe": 0.625,
}
PARAMS = {"training.learning_rate": 3e-4, "network.hidden_sizes": "[256, 256]"}
TRIALS = (
    trial_of(PARAMS, 0.5, steps=50_000, training_s=20.0),
    trial_of(PARAMS, -0.25, TrialState.PRUNED, steps=15_000, training_s=6.5),
    trial_of(PARAMS, None, TrialState.FAIL, steps=5000, training_s=2.0, error="ValueError: a loss, not\nfinite"),
    trial_of(PARAMS | {"training.learning_rate": 1e-4}, 0.75, steps=50_000, training_s=21.0),
    trial_of(PARAMS, None, TrialState.RUNNING, steps=10_000, training_s=4.0),
    trial_of({}, None, TrialState.WAITING),
)


@pytest.fixture
def study() -> optuna.Study:
    return study_of(TRIALS)


def returns_of(number: int) -> pd.Series | None:
    days = pd.bdate_range("2012-01-02", periods=4)
    return None if number == 0 else pd.Series([0.01, -0.02, 0.0, 0.03], index=days) * number


# ---------------------------------------------------------------- the table


def test_the_table_has_a_row_for_each_trial_and_a_column_for_each_setting(study: optuna.Study, tmp_path: Path) -> None:
    path = write_results(study, "ppo", tmp_path)
    assert path == tmp_path / "ppo_hyperparameter_results.csv"
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    settings = ["training.learning_rate", "network.hidden_sizes"]
    assert list(rows[0]) == [
        *("trial", "state", "sharpe_ratio", "steps", "training_s"),
        *settings,
        *("error", "started", "ended"),
    ]
    assert [[row[name] for name in ("trial", "state", "sharpe_ratio", "steps", "training_s")] for row in rows] == [
        ["0", "finished", "0.5", "50000", "20.0"],
        ["1", "pruned", "-0.25", "15000", "6.5"],
        ["2", "failed", "", "5000", "2.0"],
        ["3", "finished", "0.75", "50000", "21.0"],
        ["4", "interrupted", "", "10000", "4.0"],
        ["5", "waiting", "", "", ""],
    ]
    assert [rows[3][name] for name in settings] == ["0.0001", "[256, 256]"]
    assert rows[2]["error"] == "ValueError: a loss, not\nfinite"
    assert pd.Timestamp(rows[0]["started"]) <= pd.Timestamp(rows[0]["ended"])
    assert rows[4]["ended"] == ""


def test_a_file_that_was_not_finished_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    path.write_text("whole")

    def stop_halfway() -> None:
        with whole_file(path) as file:
            file.write_text("ha")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop_halfway()
    assert path.read_text() == "whole"
    with whole_file(path) as file:
        file.write_text("new")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


# ---------------------------------------------------------------- what the judge reads


def test_the_summary_counts_pruned_and_failed_trials_but_not_those_that_go_on(study: optuna.Study) -> None:
    summary = summarise(study, DESCRIPTION, wall_s=61.0)
    assert summary == {
        "algo": "ppo",
        "seed": 3,
        "max_steps": 50_000,
        "search": "optuna",
        "scheduler": "median",
        "periods_per_year": 252.0,
        "equal_weight_sharpe": 0.625,
        "num_trials": 4,
        "trials": {"finished": 2, "pruned": 1, "failed": 1, "interrupted": 1, "waiting": 1},
        # 0.5, -0.25, 0.75: mean 1/3; deviations 1/6, -7/12, 5/12; (4 + 49 + 25) / 144 / 2 = 13/48
        "sharpe_variance": pytest.approx(13 / 48),
        "best": {
            "trial": 3,
            "sharpe_ratio": 0.75,
            "settings": {"training.learning_rate": 1e-4, "network.hidden_sizes": [256, 256]},
        },
        "winner": None,
        "steps": 130_000,  # 50 + 15 + 5 + 50 + 10 thousand
        "training_s": 53.5,  # 20 + 6.5 + 2 + 21 + 4
        "wall_s": 61.0,
    }


def test_the_judge_reads_the_folder_of_a_search(study: optuna.Study, tmp_path: Path) -> None:
    write_summary(study, DESCRIPTION, tmp_path, 61.0, winner={"trial": 3, "median": 0.6})
    assert write_trial_returns(study, returns_of, tmp_path) == tmp_path / "trial_returns.parquet"
    record = TuningRecord.read(tmp_path)
    assert (record.num_trials, record.sharpe_variance) == (4, pytest.approx(13 / 48))
    assert record.periods_per_year == 252.0
    assert list(record.trial_returns) == ["trial_0003"]  # 0 has no returns; 1, 2 and 4 did not come to their end
    assert record.trial_returns.index.equals(pd.bdate_range("2012-01-02", periods=4))
    assert record.trial_returns["trial_0003"].tolist() == pytest.approx([0.03, -0.06, 0.0, 0.09])
    assert record.selected_trial() is not None
    assert json.loads((tmp_path / "summary.json").read_text())["winner"] == {"trial": 3, "median": 0.6}


def test_one_sharpe_ratio_varies_by_nothing(tmp_path: Path) -> None:
    write_summary(study_of(TRIALS[1:3]), DESCRIPTION, tmp_path, 1.0)
    record = TuningRecord.read(tmp_path)
    assert (record.num_trials, record.sharpe_variance) == (2, 0.0)
    assert summarise(study_of(TRIALS[1:3]), DESCRIPTION, 1.0)["best"] is None


def test_a_search_without_a_trial_is_no_record(tmp_path: Path) -> None:
    write_summary(study_of(TRIALS[4:]), DESCRIPTION, tmp_path, 1.0)
    with pytest.raises(DataError, match="at least 1 trial"):
        TuningRecord.read(tmp_path)


# ---------------------------------------------------------------- the configuration


@pytest.mark.parametrize("algo", sorted(RUN_CONFIGS))
def test_the_best_configuration_is_read_back_as_it_was(algo: str, tmp_path: Path) -> None:
    settings = {"training.learning_rate": 1.2345678901234567e-05, "network.hidden_sizes": [512, 256], "seed": 7}
    config = load_run_config(None, {"algo": algo, **settings})
    path = write_best_config(config, ["Trial 3: 0.75\nof 40", "median 0.6"], tmp_path)
    assert path.name == "best_config.yaml"
    assert load_run_config(path, {}) == config
    assert path.read_text().startswith("# Trial 3: 0.75\n# of 40\n# median 0.6\nalgo: ")
