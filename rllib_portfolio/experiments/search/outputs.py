"""What a search leaves as tables and settings, for people and for the judge of its winner.

OUTPUT/<algo>_hyperparameter_results.csv   one row for each trial
OUTPUT/trial_returns.parquet               daily validation returns of the trials that came to their end
OUTPUT/summary.json                        how many trials, how much their Sharpe ratios differ, what it took
OUTPUT/best_config.yaml                    the configuration to train with: `train.py --config` takes it as it is

All of it is written whole or not at all, and anew whenever the study has grown.
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
"""What became of a trial, in the words of tables and plots."""


def searched_settings(trials: Sequence[FrozenTrial]) -> list[str]:
    """Dotted names of the settings that were searched, in the order of the search space."""
    return list(dict.fromkeys(name for trial in trials for name in trial.params))


# ---------------------------------------------------------------- the table


def results_table(study: optuna.Study) -> pd.DataFrame:
    """One row for each trial, by its number; a cell without a value is empty.

    `sharpe_ratio` is the trial's best on the validation window, after costs and annualised; `steps` are environment
    steps; `training_s` is training time in seconds, over all attempts.
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
    return pd.DataFrame(rows, columns=columns, dtype=object)  # whole numbers stay so beside empty cells


def write_results(study: optuna.Study, algo: str, output: Path) -> Path:
    """Write `<algo>_hyperparameter_results.csv`."""
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
    """Write `trial_returns.parquet`: validation days x trials that came to their end.

    Args:
        study: The study.
        returns_of: Trial number to its best policy's daily validation returns after costs, indexed by date, or None
            where they are not to be had.
        output: The folder.

    Returns:
        The path; None, and no file, where no trial has returns.
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
    """What `summary.json` holds.

    `num_trials` and `sharpe_variance` are what the deflated Sharpe ratio wants: every trial that ended counts, pruned
    and failed ones included; the variance (ddof 1, 0 of fewer than two) is over those with a Sharpe ratio.

    Args:
        study: The study.
        description: What the search was asked for, and what its Sharpe ratios are compared with, as JSON values.
        wall_s: How long it took, in seconds.
        winner: What re-training on fresh seeds came to, as JSON values; None where there was none.
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
    """Write `summary.json`, which `reporting.TuningRecord` reads; arguments as of `summarise`."""
    path = output / SUMMARY
    write_json(path, sealed(summarise(study, description, wall_s, winner)))
    return path


def _best(study: optuna.Study, trials: Sequence[FrozenTrial]) -> dict[str, Any] | None:
    if not any(trial.state == TrialState.COMPLETE for trial in trials):
        return None
    best = study.best_trial
    return {"trial": best.number, "sharpe_ratio": best.value, "settings": settings_of(best)}


def settings_of(trial: FrozenTrial) -> dict[str, Any]:
    """Dotted setting to value, with lists as lists again: the study holds them as JSON text."""
    return {name: _choice(value) for name, value in trial.params.items()}


def _choice(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) and value.startswith("[") else value


# ---------------------------------------------------------------- the configuration


def write_best_config(config: RunConfig, notes: Sequence[str], output: Path) -> Path:
    """Write `best_config.yaml`, complete.

    Args:
        config: The run configuration to train with.
        notes: Where it is from, a line of comment each.
        output: The folder.
    """
    path = output / BEST_CONFIG
    header = "".join(f"# {line}\n" for note in notes for line in note.splitlines())
    with whole_file(path) as file:
        file.write_text(header + yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False), encoding="utf-8")
    return path
