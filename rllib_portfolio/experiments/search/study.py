"""The Optuna study of a search: the one record of what was tried, what it reached, and what is still to be done.

It is written before a trial starts and after every evaluation, so that a search whose driver was killed goes on from
it. Ray Tune's own snapshots are seconds old by then, and are not used.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import optuna
from optuna.storages import BaseStorage, RDBStorage
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError

from rllib_portfolio.errors import ConfigError, one_line
from rllib_portfolio.experiments.progress import RunOutcome

BEST = "validation_sharpe"
STEPS = "steps"
TRAINING_S = "training_s"
ERROR = "error"
"""User attributes of a trial: its best value so far, environment steps, seconds of training, why it failed."""
_STATUS = {TrialState.COMPLETE: "finished", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}
ENDED = tuple(_STATUS)


def study_path(output: Path, algo: str) -> Path:
    """The study's SQLite file, unless it is kept elsewhere."""
    return output / f"{algo}_study.db"


def study_url(output: Path, algo: str) -> str:
    """The URL of the study's SQLite file; a `?` in its path, for instance, is escaped."""
    return URL.create("sqlite", database=str(study_path(output, algo))).render_as_string()


def open_storage(url: str) -> BaseStorage:
    """Optuna's storage at a database URL.

    Raises:
        ConfigError: If the database cannot be opened. The password is not repeated.
    """
    try:
        return RDBStorage(url.replace("{", "{{").replace("}", "}}"))  # Optuna fills in templates
    except (SQLAlchemyError, ImportError, ValueError, RuntimeError) as error:
        reason = one_line(error).replace(url, without_password(url))
        raise ConfigError(
            f"--storage must be the URL of a database that can be opened, got {without_password(url)} ({reason}). "
            "Correct it, or install the database's driver."
        ) from None


def without_password(url: str) -> str:
    """A database URL that may be shown."""
    scheme, separator, rest = url.partition("://")
    credentials, at, place = rest.rpartition("@")
    if not at:
        return url
    return f"{scheme}{separator}{credentials.partition(':')[0]}:***@{place}"


def require_new_study(storage: BaseStorage, algo: str, url: str) -> None:
    """Raise if a database holds the study of another search: a new one would take its trials for its own.

    Raises:
        ConfigError: If so.
    """
    if algo in optuna.get_all_study_names(storage):
        raise ConfigError(
            f"--storage must hold no study named {algo} for a new search, got {without_password(url)}. Choose another "
            "database, or continue that search with --resume."
        )


def open_study(storage: BaseStorage, algo: str, sampler: optuna.samplers.BaseSampler | None = None) -> optuna.Study:
    """The study of an algorithm; made if it is not there."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(
        storage=storage, sampler=sampler, study_name=algo, direction="maximize", load_if_exists=True
    )


def trial_name(number: int) -> str:
    """`trial_0007`: the folder of a trial, and its name wherever it is shown."""
    return f"trial_{number:04d}"


def num_ended(study: optuna.Study) -> int:
    """Trials that need nothing more."""
    return len(study.get_trials(deepcopy=False, states=ENDED))


def ended_trials(trials: Iterable[FrozenTrial]) -> list[RunOutcome]:
    """Return what became of the trials that need nothing more."""
    return [
        RunOutcome(
            trial_name(trial.number),
            _STATUS[trial.state],
            int(trial.user_attrs.get(STEPS, 0)),
            float(trial.user_attrs.get(TRAINING_S, 0.0)),
            trial.value,
            trial.user_attrs.get(ERROR),
        )
        for trial in trials
        if trial.state in ENDED
    ]


def best_trials(study: optuna.Study, count: int) -> list[FrozenTrial]:
    """The trials that came to their end, best first, at most `count`."""
    finished = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return sorted(finished, key=lambda trial: (-(trial.value or 0.0), trial.number))[:count]
