"""The Optuna study of a search: the only record of the trials, of their results, and of the work that is left.

It is written before a trial starts and after every evaluation, so that a search can continue after its driver was
killed. Ray Tune's own snapshots may be seconds older, and are not used.
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
"""User attributes of a trial: its best value so far, environment steps, seconds of training, and error if it failed."""
_STATUS = {TrialState.COMPLETE: "finished", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}
ENDED = tuple(_STATUS)


def study_path(output: Path, algo: str) -> Path:
    """Return the path of the study's SQLite file, which is used unless the study is kept elsewhere.

    Args:
        output: Folder of the search.
        algo: Name of the algorithm.
    """
    return output / f"{algo}_study.db"


def study_url(output: Path, algo: str) -> str:
    """Return the URL of the study's SQLite file, with characters such as `?` escaped.

    Args:
        output: Folder of the search.
        algo: Name of the algorithm.
    """
    return URL.create("sqlite", database=str(study_path(output, algo))).render_as_string()


def open_storage(url: str) -> BaseStorage:
    """Return Optuna's storage at a database URL.

    Raises:
        ConfigError: If the database cannot be opened. The message does not contain the password.
    """
    try:
        return RDBStorage(url.replace("{", "{{").replace("}", "}}"))  # Optuna expands templates in the URL
    except (SQLAlchemyError, ImportError, ValueError, RuntimeError) as error:
        reason = one_line(error).replace(url, without_password(url))
        raise ConfigError(
            f"--storage must be the URL of a database that can be opened, got {without_password(url)} ({reason}). "
            "Correct it, or install the database's driver."
        ) from None


def without_password(url: str) -> str:
    """Return a database URL with its password replaced by asterisks."""
    scheme, separator, rest = url.partition("://")
    credentials, at, place = rest.rpartition("@")
    if not at:
        return url
    return f"{scheme}{separator}{credentials.partition(':')[0]}:***@{place}"


def require_new_study(storage: BaseStorage, algo: str, url: str) -> None:
    """Check that a database holds no study of another search, whose trials a new search would take for its own.

    Args:
        storage: The database.
        algo: Name of the algorithm, which is also that of the study.
        url: URL of the database, for the error message.

    Raises:
        ConfigError: If it holds such a study.
    """
    if algo in optuna.get_all_study_names(storage):
        raise ConfigError(
            f"--storage must hold no study named {algo} for a new search, got {without_password(url)}. Choose another "
            "database, or continue that search with --resume."
        )


def open_study(storage: BaseStorage, algo: str, sampler: optuna.samplers.BaseSampler | None = None) -> optuna.Study:
    """Return the study of an algorithm; it is made if it does not exist.

    Args:
        storage: Database of the study.
        algo: Name of the algorithm, which is also that of the study.
        sampler: Sampler of new trials; None for Optuna's default.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(
        storage=storage, sampler=sampler, study_name=algo, direction="maximize", load_if_exists=True
    )


def trial_name(number: int) -> str:
    """Return the name of a trial and of its folder, such as `trial_0007`."""
    return f"trial_{number:04d}"


def num_ended(study: optuna.Study) -> int:
    """Return the number of trials that are finished, pruned or failed."""
    return len(study.get_trials(deepcopy=False, states=ENDED))


def ended_trials(trials: Iterable[FrozenTrial]) -> list[RunOutcome]:
    """Return the outcomes of the trials that are finished, pruned or failed."""
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
    """Return the finished trials with the highest validation Sharpe ratios, the best one first.

    Args:
        study: The study.
        count: Largest number of trials to return.
    """
    finished = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return sorted(finished, key=lambda trial: (-(trial.value or 0.0), trial.number))[:count]
