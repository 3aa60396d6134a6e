"""A search as a Ray Tune experiment, which runs trials in parallel in reused processes until the study is complete."""

from __future__ import annotations

import os
import pickle
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState
from ray import tune
from ray.tune import Callback, FailureConfig, PlacementGroupFactory, RunConfig, Stopper, TuneConfig
from ray.tune.experiment import Trial

from rllib_portfolio.algorithms.run_settings import require_room
from rllib_portfolio.errors import ClaimLostError, one_line
from rllib_portfolio.experiments.progress import GOES_ON, Board, Progress, RunOutcome, Watch
from rllib_portfolio.experiments.runner import Place
from rllib_portfolio.experiments.search.optuna_search import IS_FINISHED, NAME, OBJECTIVE, SPEC, StudySearch
from rllib_portfolio.experiments.search.settings import SearchSettings
from rllib_portfolio.experiments.search.space import SearchSpace
from rllib_portfolio.experiments.search.stopping import scheduler
from rllib_portfolio.experiments.search.study import (
    BEST,
    STEPS,
    TRAINING_S,
    ended_trials,
    num_ended,
    open_study,
    trial_name,
)
from rllib_portfolio.experiments.search.trial import TrialTask, run_trial
from rllib_portfolio.market import MarketData
from rllib_portfolio.runs.folder_lock import require_claims
from rllib_portfolio.runs.storage import split_place

TUNE_FOLDER = "ray_tune"
"""Name of the folder of Ray Tune's own files, beside the trials."""


def search(
    task: TrialTask, space: SearchSpace, market: MarketData, storage: BaseStorage, place: Place, watch: Watch
) -> None:
    """Run the missing trials of a study: first interrupted ones, from their last checkpoints, then new ones.

    It returns when the planned number of trials has ended, or when `watch` asks to stop; trials that are running then
    stay unfinished in the study.

    Args:
        task: Settings that all trials share.
        space: The search space.
        market: The market, the same for all trials.
        storage: Database of the study.
        place: Resources of each trial.
        watch: Receives the progress, and may stop the search.

    Raises:
        ConfigError: If the cluster has no room for a trial.
        ClaimLostError: If another process has taken over the storage of the trials.
    """
    algo = task.base.algo
    study = open_study(storage, algo)
    missing = task.settings.num_samples - num_ended(study)
    if missing <= 0:
        return
    trials = study.get_trials(deepcopy=False)
    history = {trial.number: trial.intermediate_values for trial in trials if trial.state != TrialState.FAIL}
    searcher = StudySearch(space, task.settings, storage, algo)
    how = TuneConfig(
        metric=OBJECTIVE,
        mode="max",
        search_alg=searcher,
        scheduler=scheduler(task.settings, history),
        num_samples=missing,
        max_concurrent_trials=place.max_concurrent,
        trial_name_creator=_name,
        trial_dirname_creator=_name,
        reuse_actors=True,  # saves the time to import torch and ray again
    )
    run_config = RunConfig(
        name=TUNE_FOLDER,
        storage_path=split_place(task.folders.root)[0],
        stop=_StopOnRequest(watch.should_stop),
        failure_config=FailureConfig(max_failures=task.settings.max_failures),
        callbacks=[_Reporter(trials, task.settings, watch, searcher), *watch.callbacks],
        verbose=0,
    )
    bundles = place.bundles(task.base.resources)
    require_room(bundles, "a trial", may_wait=place.may_wait)
    with_market = tune.with_parameters(run_trial, task=task, market=market)  # put into the object store once
    os.environ |= _QUIET
    trainable = tune.with_resources(with_market, PlacementGroupFactory(bundles))
    tune.Tuner(trainable, tune_config=how, run_config=run_config).fit()


_QUIET = {
    "RAY_AIR_NEW_OUTPUT": "0",  # with verbose=0 it prints nothing
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # a trial writes its own table and TensorBoard events
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # the caller has its own handler, also for SIGTERM
    "TUNE_RESULT_BUFFER_LENGTH": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}


def _name(trial: Trial) -> str:
    return str(trial.config[SPEC][NAME])


class _StopOnRequest(Stopper):
    """Ends the experiment when `should_stop` returns true."""

    def __init__(self, should_stop: Callable[[], bool]) -> None:
        self._should_stop = should_stop

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        require_claims()
        return self._should_stop()


class _Reporter(Callback):
    """Shows the progress of the trials, and lets the searcher write their reports after the trials have continued.

    Args:
        trials: Trials of the study before this session.
        settings: Settings of the search.
        watch: Receives the progress.
        searcher: Writes reports and failed trials into the study.
    """

    INTERVAL_S = 0.2

    def __init__(
        self, trials: Sequence[FrozenTrial], settings: SearchSettings, watch: Watch, searcher: StudySearch
    ) -> None:
        self._watch, self._searcher = watch, searcher
        self._totals = {trial_name(number): settings.max_steps for number in range(settings.num_samples)}
        self._outcomes = {outcome.run: outcome for outcome in ended_trials(trials)}
        self._num_before = len(self._outcomes)
        self._reached = {trial_name(trial.number): int(trial.user_attrs.get(STEPS, 0)) for trial in trials}
        self._retries: list[str] = []
        self._board = Board()
        self._shown = 0.0

    @property
    def progress(self) -> Progress:
        """The progress of the search."""
        ended = tuple(self._outcomes.values())
        return Progress(*self._board.read(), self._totals, ended, self._num_before, tuple(self._retries))

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        self._searcher.write()
        if time.monotonic() - self._shown > self.INTERVAL_S:
            self._show()

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._board.resume(_name(trial), self._reached.get(_name(trial), 0))

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        self._reached[_name(trial)] = result[STEPS]
        self._board.report(_name(trial), result[STEPS], result[BEST])

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        if OBJECTIVE in (last := trial.last_result):
            status = "finished" if last[IS_FINISHED] else "pruned"
            self._end(RunOutcome(_name(trial), status, last[STEPS], last[TRAINING_S], last[BEST]))

    def on_trial_recover(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._retries.append(f"{_name(trial)}: {GOES_ON} {_reason(trial)}")

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        reason = _reason(trial)
        self._searcher.fail(trial.trial_id, reason)
        self._end(RunOutcome(_name(trial), "failed", error=reason))

    def _end(self, outcome: RunOutcome) -> None:
        self._board.report(outcome.run, outcome.steps)  # Tune has not reported the last result of a stopped trial
        self._board.end(outcome.run)
        self._outcomes[outcome.run] = outcome
        self._show()

    def _show(self) -> None:
        self._shown = time.monotonic()
        self._watch.on_progress(self.progress)


def _reason(trial: Trial) -> str:
    """Return the last error of a trial as one line.

    It is read from the driver's own file, since the file that Ray's `get_error` reads is written later.

    Raises:
        ClaimLostError: If another process has taken over the storage of the trials, which is no failure of this trial.
    """
    path = trial.pickled_error_file
    if path is None or not Path(path).is_file():
        return "unknown"
    error = pickle.loads(Path(path).read_bytes())
    cause = getattr(error, "cause", None) or error
    if isinstance(cause, ClaimLostError):
        raise cause
    return one_line(cause)
