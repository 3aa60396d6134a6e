"""The tables and settings that a search writes, for people and for the evaluation of its best settings.

OUTPUT/<algo>_hyperparameter_results.csv   one row for each trial
OUTPUT/trial_returns.parquet               daily validation returns of the finished trials
OUTPUT/summary.json                        number of trials, variance of their Sharpe ratios, steps and time
OUTPUT/best_config.yaml                    the best configuration, for `train.py --config`

Each file is written atomically, and again whenever the study has grown.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import yaml
from optuna.trial import FrozenTrial, TrialState

from rllib_portfolio.atomic import sealed, whole_file, write_json
from rllib_portfolio.config import RunConfig
from rllib_portfolio.experiments.search.study import ENDED, ERROR, STEPS, TRAINING_S, trial_name
from rllib_portfolio.reporting.search_trials import SUMMARY, TRIAL_RETURNS
from rllib_portfolio.reporting.serialisation import write_csv

BEST_CONFIG = "best_config.yaml"
STATES = {
    TrialState.COMPLETE: "finished",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "interrupted",
    TrialState.WAITING: "waiting",
}
"""The words for the states of a trial in tables and plots."""


def searched_settings(trials: Sequence[FrozenTrial]) -> list[str]:
    """Return the dotted names of the settings that were searched, in the order of the search space."""
    return list(dict.fromkeys(name for trial in trials for name in trial.params))


# ---------------------------------------------------------------- the table


def results_table(study: optuna.Study) -> pd.DataFrame:
    """Return a table with one row for each trial, by its number; a cell without a value is empty.

    `sharpe_ratio` is the trial's best one on the validation window, after costs and annualised; `steps` are environment
    steps; `training_s` is the training time in seconds, over all attempts.
    """
    trials = sorted(study.get_trials(deepcopy=False), key=lambda trial: trial.number)
    settings = searched_settings(trials)
    columns = ["trial", "state", "sharpe_ratio", "steps", "training_s", *settings, "error", "started", "ended"]
    rows = [
        {
            "trial": trial.number,
            "state": STATES[trial.state],
            "sharpe_ratio": trial.value,
            "steps": trial.user_attrs.get(STEPS),
            "training_s": trial.user_attrs.get(TRAINING_S),
            **trial.params,
            "error": trial.user_attrs.get(ERROR),
            "started": _second(trial.datetime_start),
            "ended": _second(trial.datetime_complete),
        }
        for trial in trials
    ]
    return pd.DataFrame(rows, columns=columns, dtype=object)  # keeps integers in columns with empty cells


def write_results(study: optuna.Study, algo: str, output: Path) -> Path:
    """Write `<algo>_hyperparameter_results.csv`, and return its path.

    Args:
        study: The study.
        algo: Name of the algorithm.
        output: The folder.
    """
    path = output / f"{algo}_hyperparameter_results.csv"
    with whole_file(path) as file:
        write_csv(results_table(study), file, index=False)
    return path


def _second(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat(sep=" ", timespec="seconds")


# ---------------------------------------------------------------- the daily returns


def write_trial_returns(
    study: optuna.Study, returns_of: Callable[[int], pd.Series | None], output: Path
) -> Path | None:
    """Write `trial_returns.parquet`, with a row for each validation day and a column for each finished trial.

    Args:
        study: The study.
        returns_of: Maps a trial's number to the daily validation returns of its best policy after costs, indexed by
            date, or to None if they are not available.
        output: The folder.

    Returns:
        The path, or None if no trial has returns and no file was written.
    """
    finished = [trial.number for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))]
    columns = {trial_name(number): returns_of(number) for number in sorted(finished)}
    columns = {name: returns for name, returns in columns.items() if returns is not None}
    if not columns:
        return None
    path = output / TRIAL_RETURNS
    with whole_file(path) as file:
        pd.concat(columns, axis="columns", sort=True).rename_axis(index="date").to_parquet(file)
    return path


# ---------------------------------------------------------------- the summary


def summarise(
    study: optuna.Study, description: Mapping[str, Any], wall_s: float, winner: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return the content of `summary.json`.

    `num_trials` and `sharpe_variance` are the inputs of the deflated Sharpe ratio. The number counts every trial that
    ended, including pruned and failed ones. The variance (ddof 1) is over those of them that have a Sharpe ratio; it is
    0 with fewer than two.

    Args:
        study: The study.
        description: Settings of the search, and the benchmark of its Sharpe ratios, as JSON values.
        wall_s: Duration of the search in seconds.
        winner: Result of retraining on fresh seeds, as JSON values; None without retraining.
    """
    trials = study.get_trials(deepcopy=False)
    sharpes = [trial.value for trial in trials if trial.state in ENDED and trial.value is not None]
    return {
        **description,
        "num_trials": sum(trial.state in ENDED for trial in trials),
        "trials": {word: sum(trial.state == state for trial in trials) for state, word in STATES.items()},
        "sharpe_variance": float(np.var(sharpes, ddof=1)) if len(sharpes) > 1 else 0.0,
        "best": _best(study, trials),
        "winner": None if winner is None else dict(winner),
        "steps": sum(trial.user_attrs.get(STEPS, 0) for trial in trials),
        "training_s": round(sum(trial.user_attrs.get(TRAINING_S, 0.0) for trial in trials), 3),
        "wall_s": round(wall_s, 3),
    }


def write_summary(
    study: optuna.Study,
    description: Mapping[str, Any],
    output: Path,
    wall_s: float,
    winner: Mapping[str, Any] | None = None,
) -> Path:
    """Write `summary.json`, which `reporting.TuningRecord` reads, and return its path.

    Args:
        study: The study.
        description: Settings of the search, and the benchmark of its Sharpe ratios, as JSON values.
        output: The folder.
        wall_s: Duration of the search in seconds.
        winner: Result of retraining on fresh seeds, as JSON values; None without retraining.
    """
    path = output / SUMMARY
    write_json(path, sealed(summarise(study, description, wall_s, winner)))
    return path


def _best(study: optuna.Study, trials: Sequence[FrozenTrial]) -> dict[str, Any] | None:
    if not any(trial.state == TrialState.COMPLETE for trial in trials):
        return None
    best = study.best_trial
    return {"trial": best.number, "sharpe_ratio": best.value, "settings": settings_of(best)}


def settings_of(trial: FrozenTrial) -> dict[str, Any]:
    """Return the values of a trial by dotted setting, with lists decoded from the JSON text in the study."""
    return {name: _choice(value) for name, value in trial.params.items()}


def _choice(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) and value.startswith("[") else value


# ---------------------------------------------------------------- the configuration


def write_best_config(config: RunConfig, notes: Sequence[str], output: Path) -> Path:
    """Write `best_config.yaml` with all settings.

    Args:
        config: The run configuration to train with.
        notes: Comments on its origin, which become lines at the top of the file.
        output: The folder.
    """
    path = output / BEST_CONFIG
    header = "".join(f"# {line}\n" for note in notes for line in note.splitlines())
    with whole_file(path) as file:
        file.write_text(header + yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False), encoding="utf-8")
    return path
