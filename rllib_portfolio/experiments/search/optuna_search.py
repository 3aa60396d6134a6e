"""Ray Tune's Optuna search over a study that persists between sessions.

Ray's own search differs in four ways: it records a trial that the scheduler stopped as complete, it leaves a trial with
an undefined value running for ever, it numbers evaluations instead of counting environment steps, and it knows only the
trials that it began itself.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import optuna
from optuna.storages import BaseStorage
from optuna.trial import TrialState
from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch

from rllib_portfolio.experiments.search.settings import SearchSettings
from rllib_portfolio.experiments.search.space import SearchSpace
from rllib_portfolio.experiments.search.study import BEST, ENDED, ERROR, STEPS, TRAINING_S, open_study, trial_name

OBJECTIVE = "objective"
"""Validation Sharpe ratio after costs at an evaluation; always finite."""
IS_FINISHED = "is_finished"
SPEC = "spec"
"""Key of a trial's specification: its number in the study, the name of its folder, and its settings."""
NUMBER, NAME, OVERRIDES = "number", "name", "overrides"
_BEGUN = (TrialState.RUNNING, *ENDED)
"""States of trials that count as begun. A trial that a user enqueued is in state WAITING, and `ask` returns it next."""


class StudySearch(OptunaSearch):
    """Proposes first the trials that an earlier session left unfinished, then new ones.

    Args:
        space: The search space.
        settings: Settings of the search, with sampler, seed and total number of trials.
        storage: Database of the study.
        study_name: Name of the study in the database.
    """

    def __init__(self, space: SearchSpace, settings: SearchSettings, storage: BaseStorage, study_name: str) -> None:
        study = open_study(storage, study_name)
        num_before = len(study.get_trials(deepcopy=False))
        super().__init__(
            space.distributions(),
            metric=OBJECTIVE,
            mode="max",
            sampler=_sampler(settings, num_before),
            study_name=study_name,
            storage=storage,
        )
        self._search_space = space
        self._num_samples = settings.num_samples
        self._interrupted = [trial.number for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))]
        self._reported: dict[str, set[int]] = {}
        self._unwritten: list[tuple[optuna.trial.Trial, dict[str, Any]]] = []

    def suggest(self, trial_id: str) -> dict[str, Any] | str:
        """Return the specification of the next trial, or `FINISHED` if the total number of trials is reached."""
        self.write()
        if self._interrupted:
            trial = self._continued(self._interrupted.pop(0))
        elif len(self._ot_study.get_trials(deepcopy=False, states=_BEGUN)) < self._num_samples:
            trial = self._ot_study.ask(fixed_distributions=self._space)
        else:
            return Searcher.FINISHED
        self._ot_trials[trial_id] = trial
        frozen = self._ot_study.get_trials(deepcopy=False)[trial.number]
        self._reported[trial_id] = set(frozen.intermediate_values)
        overrides = self._search_space.overrides(trial.params)
        return {SPEC: {NUMBER: trial.number, NAME: trial_name(trial.number), OVERRIDES: overrides}}

    def _continued(self, number: int) -> optuna.trial.Trial:
        """Return a trial of an earlier session. Settings that were not sampled before it was killed are sampled now."""
        trial = optuna.trial.Trial(
            self._ot_study, self._storage.get_trial_id_from_study_id_trial_number(self._ot_study._study_id, number)
        )
        for name, distribution in self._space.items():
            trial._suggest(name, distribution)
        return trial

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Queue an evaluation of a trial for `write`, unless its number of environment steps was reported before."""
        trial, steps = self._ot_trials[trial_id], int(result[STEPS])
        if steps in self._reported[trial_id]:  # the trial was retried from an earlier checkpoint
            return
        self._reported[trial_id].add(steps)
        self._unwritten.append((trial, result))

    def write(self) -> None:
        """Write the queued evaluations into the study.

        A trial waits until its report is accepted, and a database is slow, so that this is called after the trial has
        continued. No evaluation is lost in between, since a continued trial reports its last evaluation again.
        """
        while self._unwritten:
            trial, result = self._unwritten.pop(0)
            trial.report(result[OBJECTIVE], int(result[STEPS]))
            for name in (BEST, STEPS, TRAINING_S):
                trial.set_user_attr(name, result[name])

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Record a finished trial, or one that the scheduler stopped, in the study; `fail` records failed ones.

        Tune does not pass the last result of a stopped trial to `on_trial_result`, so that this method does.
        """
        if error or trial_id in self._completed_trials or not result or OBJECTIVE not in result:
            return
        self.on_trial_result(trial_id, result)
        self.write()
        self._completed_trials.add(trial_id)
        trial = self._ot_trials[trial_id]
        if result[IS_FINISHED]:
            self._ot_study.tell(trial, result[BEST])
        else:  # `tell` would record the last value of the trial instead of its best one
            self._storage.set_trial_state_values(trial._trial_id, TrialState.PRUNED, [result[BEST]])

    def fail(self, trial_id: str, reason: str) -> None:
        """Record in the study that a trial failed too often.

        Args:
            trial_id: The trial's identifier in Ray Tune.
            reason: The error, as one line.
        """
        self.write()
        self._completed_trials.add(trial_id)
        self._ot_trials[trial_id].set_user_attr(ERROR, reason)
        self._ot_study.tell(self._ot_trials[trial_id], state=TrialState.FAIL)


def _sampler(settings: SearchSettings, num_before: int) -> optuna.samplers.BaseSampler:
    """Return the sampler. New searches with the same seed sample the same trials; a continued one must not repeat them.

    Its seed therefore depends on the number of trials before.
    """
    seed = (
        int(np.random.SeedSequence([settings.seed, num_before]).generate_state(1)[0]) if num_before else settings.seed
    )
    if settings.search == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    return optuna.samplers.TPESampler(seed=seed)
