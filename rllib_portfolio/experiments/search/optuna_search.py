"""Ray Tune's Optuna search over a study that outlives it.

What Ray's own does differently: it files a trial that the scheduler stopped as complete, leaves one with an undefined
value running for ever, numbers evaluations instead of counting environment steps, and knows only trials that it began.
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
"""What a trial is given: its number in the study, the name of its folder, its settings."""
NUMBER, NAME, OVERRIDES = "number", "name", "overrides"
_BEGUN = (TrialState.RUNNING, *ENDED)
"""A trial that a person has put into the study to be tried waits, and is the next that `ask` gives."""


class StudySearch(OptunaSearch):
    """Proposes first the trials that an earlier session left unfinished, then new ones.

    Args:
        space: What to sample.
        settings: Sampler, seed, and how many trials there are to be in all.
        storage: Where the study is.
        study_name: Its name there.
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
        """The settings of the next trial; `FINISHED` when there are as many as there are to be."""
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
        """A trial of an earlier session; what it was not given before that was killed, it is given now."""
        trial = optuna.trial.Trial(
            self._ot_study, self._storage.get_trial_id_from_study_id_trial_number(self._ot_study._study_id, number)
        )
        for name, distribution in self._space.items():
            trial._suggest(name, distribution)
        return trial

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Note an evaluation at its environment steps, for `write` to file."""
        trial, steps = self._ot_trials[trial_id], int(result[STEPS])
        if steps in self._reported[trial_id]:  # it was retried from a checkpoint before this evaluation
            return
        self._reported[trial_id].add(steps)
        self._unwritten.append((trial, result))

    def write(self) -> None:
        """File what was noted.

        A trial waits until its report has been taken, and a database takes its time: write when it has gone on. A
        trial that is continued tells its last evaluation again, so that none is lost between the two.
        """
        while self._unwritten:
            trial, result = self._unwritten.pop(0)
            trial.report(result[OBJECTIVE], int(result[STEPS]))
            for name in (BEST, STEPS, TRAINING_S):
                trial.set_user_attr(name, result[name])

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """File a trial that came to its end, or that the scheduler stopped; a failure is for `fail`, with its reason.

        Tune does not pass the last result of a stopped trial to `on_trial_result`.
        """
        if error or trial_id in self._completed_trials or not result or OBJECTIVE not in result:
            return
        self.on_trial_result(trial_id, result)
        self.write()
        self._completed_trials.add(trial_id)
        trial = self._ot_trials[trial_id]
        if result[IS_FINISHED]:
            self._ot_study.tell(trial, result[BEST])
        else:  # `tell` would file its last value, and a policy is its best
            self._storage.set_trial_state_values(trial._trial_id, TrialState.PRUNED, [result[BEST]])

    def fail(self, trial_id: str, reason: str) -> None:
        """File a trial that failed more often than it may."""
        self.write()
        self._completed_trials.add(trial_id)
        self._ot_trials[trial_id].set_user_attr(ERROR, reason)
        self._ot_study.tell(self._ot_trials[trial_id], state=TrialState.FAIL)


def _sampler(settings: SearchSettings, num_before: int) -> optuna.samplers.BaseSampler:
    """A fresh search with the same seed draws the same; one that is continued must not draw its first trials again."""
    seed = (
        int(np.random.SeedSequence([settings.seed, num_before]).generate_state(1)[0]) if num_before else settings.seed
    )
    if settings.search == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    return optuna.samplers.TPESampler(seed=seed)
