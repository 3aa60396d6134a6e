"""A search as a Ray Tune experiment: trials side by side, in processes that are used again, until the study is full."""

from __future__ import annotations

import os
import pickle
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from optuna.storages import BaseStorage
from optuna.trial import TrialState
from ray import tune
from ray.tune import Callback, FailureConfig, PlacementGroupFactory, RunConfig, Stopper, TuneConfig
from ray.tune.experiment import Trial

from rllib_portfolio.algorithms.run_settings import require_room
from rllib_portfolio.errors import ClaimLostError, one_line
from rllib_portfolio.experiments.runner import Place
from rllib_portfolio.experiments.search.optuna_search import NAME, OBJECTIVE, SPEC, StudySearch
from rllib_portfolio.experiments.search.progress import SearchProgress, TrialProgress
from rllib_portfolio.experiments.search.space import SearchSpace
from rllib_portfolio.experiments.search.stopping import scheduler
from rllib_portfolio.experiments.search.study import num_ended, open_study
from rllib_portfolio.experiments.search.trial import TrialTask, run_trial
from rllib_portfolio.market import MarketData
from rllib_portfolio.runs.folder_lock import require_claims
from rllib_portfolio.runs.storage import split_place

TUNE_FOLDER = "ray_tune"
"""Beside the trials: what Ray Tune keeps for itself."""


@dataclass(slots=True)
class Watch:
    """What a caller sees of a search, and how it ends one.

    Attributes:
        on_progress: Called when something changed, and at least a few times a second.
        should_stop: Asked as often.
        callbacks: Further callbacks of Ray Tune.
    """

    on_progress: Callable[[SearchProgress], None] = lambda progress: None
    should_stop: Callable[[], bool] = lambda: False
    callbacks: Sequence[Callback] = field(default_factory=tuple)


def search(
    task: TrialTask, space: SearchSpace, market: MarketData, storage: BaseStorage, place: Place, watch: Watch
) -> None:
    """Run the trials that the study lacks: those that were interrupted from their last checkpoints, then new ones.

    Returns when the study holds as many trials as the search is to have, or when `watch` says so; trials that run then
    stay unfinished in the study.
    """
    algo = task.base.algo
    study = open_study(storage, algo)
    missing = task.settings.num_samples - num_ended(study)
    if missing <= 0:
        return
    trials = study.get_trials(deepcopy=False)
    history = {trial.number: trial.intermediate_values for trial in trials if trial.state != TrialState.FAIL}
    searcher = StudySearch(space, task.settings, storage, algo)
    progress = SearchProgress.of_study(trials, task.settings.num_samples, task.settings.max_steps)
    reporter = _Reporter(progress, watch, lambda trial, reason: searcher.fail(trial.trial_id, reason))
    how = TuneConfig(
        metric=OBJECTIVE,
        mode="max",
        search_alg=searcher,
        scheduler=scheduler(task.settings, history),
        num_samples=missing,
        max_concurrent_trials=place.max_concurrent,
        trial_name_creator=_name,
        trial_dirname_creator=_name,
        reuse_actors=True,  # a process that has imported torch and ray once is worth keeping
    )
    run_config = RunConfig(
        name=TUNE_FOLDER,
        storage_path=split_place(task.folders.root)[0],
        stop=_StopOnRequest(watch.should_stop),
        failure_config=FailureConfig(max_failures=task.settings.max_failures),
        callbacks=[_Writer(searcher), reporter, *watch.callbacks],
        verbose=0,
    )
    bundles = place.bundles(task.base.resources)
    require_room(bundles, "a trial", may_wait=place.may_wait)
    with_market = tune.with_parameters(run_trial, task=task, market=market)  # in the object store, once for all trials
    os.environ |= _QUIET
    trainable = tune.with_resources(with_market, PlacementGroupFactory(bundles))
    tune.Tuner(trainable, tune_config=how, run_config=run_config).fit()


_QUIET = {
    "RAY_AIR_NEW_OUTPUT": "0",  # with verbose=0 it prints nothing
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # a trial writes its own table and TensorBoard events
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # the caller has its own, for SIGTERM as well
    "TUNE_RESULT_BUFFER_LENGTH": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}


def _name(trial: Trial) -> str:
    return str(trial.config[SPEC][NAME])


class _StopOnRequest(Stopper):
    """Ends the experiment when its owner wants to."""

    def __init__(self, should_stop: Callable[[], bool]) -> None:
        self._should_stop = should_stop

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        require_claims()
        return self._should_stop()


class _Writer(Callback):
    """Has reports filed when the trials that made them have gone on."""

    def __init__(self, searcher: StudySearch) -> None:
        self._searcher = searcher

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        self._searcher.write()


class _Reporter(Callback):
    """Keeps a `SearchProgress` up to date and shows it."""

    INTERVAL_S = 0.2

    def __init__(self, progress: SearchProgress, watch: Watch, on_failure: Callable[[Trial, str], None]) -> None:
        self._progress, self._watch, self._on_failure = progress, watch, on_failure
        self._shown = 0.0

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        if time.monotonic() - self._shown > self.INTERVAL_S:
            self._show()

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._progress.note(TrialProgress(_name(trial), "running"))

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        self._progress.note(TrialProgress.of_result(_name(trial), result, "running"))

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        if OBJECTIVE in trial.last_result:
            self._progress.note(TrialProgress.of_result(_name(trial), trial.last_result))
            self._show()

    def on_trial_recover(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._progress.note_retry(_name(trial), _reason(trial))

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        reason = _reason(trial)
        self._on_failure(trial, reason)
        self._progress.note(TrialProgress(_name(trial), "failed", error=reason))
        self._show()

    def _show(self) -> None:
        self._shown = time.monotonic()
        self._watch.on_progress(self._progress)


def _reason(trial: Trial) -> str:
    """Why a trial failed last, as one line: from the driver's own file, as what Ray's `get_error` reads comes later.

    Raises:
        ClaimLostError: If another process has taken over where trials are kept: that is no failure of the trial.
    """
    path = trial.pickled_error_file
    if path is None or not Path(path).is_file():
        return "unknown"
    error = pickle.loads(Path(path).read_bytes())
    cause = getattr(error, "cause", None) or error
    if isinstance(cause, ClaimLostError):
        raise cause
    return one_line(cause)
