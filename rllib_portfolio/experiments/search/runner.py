"""A search as a Ray Tune experiment: trials side by side, in processes that are used again, until the study is full."""

from __future__ import annotations

import os
import pickle
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from optuna.storages import BaseStorage
from optuna.trial import TrialState
from ray import tune
from ray.tune import Callback, FailureConfig, PlacementGroupFactory, RunConfig, Stopper, TuneConfig
from ray.tune.experiment import Trial

from rllib_portfolio.algorithms.run_settings import process_bundles, require_room
from rllib_portfolio.errors import ClaimLostError, one_line
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


@dataclass(frozen=True, slots=True)
class Place:
    """Where trials run.

    Attributes:
        num_cpus: Of a trial's own process; fractions let trials share a core.
        num_gpus: Likewise.
        max_concurrent: Trials at a time; None leaves it to the cluster's resources.
        may_wait: Machines will come that Ray does not know of: a trial that none of those here holds is waited for.
    """

    num_cpus: float = 1.0
    num_gpus: float = 0.0
    max_concurrent: int | None = None
    may_wait: bool = False

    def bundles(self, task: TrialTask) -> PlacementGroupFactory:
        """What a trial asks of the cluster."""
        own, *others = process_bundles(task.base.resources, self.num_cpus)
        if self.num_gpus:
            own = {**own, "GPU": self.num_gpus}
        return PlacementGroupFactory([own, *others])


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
    )
    _fit(_trainable(task, market, place), how, {}, _run_config(task, watch, _Writer(searcher), reporter), place)


def run_specs(
    task: TrialTask,
    specs: Sequence[Mapping[str, Any]],
    market: MarketData,
    place: Place,
    watch: Watch,
    before: Sequence[TrialProgress] = (),
) -> SearchProgress:
    """Run given trials to their end, without a sampler or a pruner.

    Args:
        task: What they have in common.
        specs: What each of them is given; see `trial.run_trial`.
        market: Their market.
        place: Where they run.
        watch: What the caller sees.
        before: Trials that an earlier session finished; they are shown with these.

    Returns:
        The progress of all of them.
    """
    progress = SearchProgress.continued(before, len(before) + len(specs), task.settings.max_steps)
    reporter = _Reporter(progress, watch, lambda trial, reason: None)
    how = TuneConfig(metric=OBJECTIVE, mode="max")
    param_space = {SPEC: tune.grid_search(list(specs))}
    _fit(_trainable(task, market, place), how, param_space, _run_config(task, watch, reporter), place)
    return progress


def _fit(trainable: Any, how: TuneConfig, param_space: dict[str, Any], run: RunConfig, place: Place) -> None:
    how.reuse_actors = True  # a process that has imported torch and ray once is worth keeping
    how.max_concurrent_trials = place.max_concurrent
    how.trial_name_creator = how.trial_dirname_creator = _name
    os.environ |= _QUIET
    tune.Tuner(trainable, param_space=param_space, tune_config=how, run_config=run).fit()


def _trainable(task: TrialTask, market: MarketData, place: Place) -> Any:
    """What Tune runs: the market goes to the object store, once for all trials."""
    bundles = place.bundles(task)
    require_room(bundles.bundles, "a trial", may_wait=place.may_wait)
    return tune.with_resources(tune.with_parameters(run_trial, task=task, market=market), bundles)


def _run_config(task: TrialTask, watch: Watch, *callbacks: Callback) -> RunConfig:
    return RunConfig(
        name=TUNE_FOLDER,
        storage_path=split_place(task.folders.root)[0],
        stop=_StopOnRequest(watch.should_stop),
        failure_config=FailureConfig(max_failures=task.settings.max_failures),
        callbacks=[*callbacks, *watch.callbacks],
        verbose=0,
    )


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
