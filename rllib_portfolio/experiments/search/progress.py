"""How far a search is."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from optuna.trial import FrozenTrial, TrialState

from rllib_portfolio.experiments.search.optuna_search import IS_FINISHED
from rllib_portfolio.experiments.search.study import BEST, ERROR, STEPS, trial_name

TrialStatus = Literal["running", "finished", "pruned", "failed"]
_STATUS: dict[TrialState, TrialStatus] = {
    TrialState.COMPLETE: "finished",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
}


@dataclass(frozen=True, slots=True)
class TrialProgress:
    """A trial at one moment.

    Attributes:
        name: `trial_0007`.
        status: `pruned` by the scheduler; `failed` for good.
        steps: Environment steps at its last evaluation.
        best: Its best validation Sharpe ratio so far; NaN before the first evaluation.
        error: Why it failed.
    """

    name: str
    status: TrialStatus
    steps: int = 0
    best: float = math.nan
    error: str | None = None

    @classmethod
    def of_result(cls, name: str, result: Mapping[str, Any], status: TrialStatus | None = None) -> Self:
        """A trial after it reported `result`; without a status, as it ended."""
        ended: TrialStatus = "finished" if result[IS_FINISHED] else "pruned"
        return cls(name, status or ended, int(result[STEPS]), float(result[BEST]))


@dataclass(slots=True)
class SearchProgress:
    """A search at one moment.

    Attributes:
        num_trials: Trials in all.
        max_steps: Environment steps of a trial that is not stopped.
        trials: Those that have begun, in that order.
        retries: Failures that a trial went on after, each as one line.
        started: When this session began, on the monotonic clock.
    """

    num_trials: int
    max_steps: int
    trials: dict[str, TrialProgress] = field(default_factory=dict)
    retries: list[str] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)
    _num_before: int = 0

    @classmethod
    def of_study(cls, trials: Iterable[FrozenTrial], num_trials: int, max_steps: int) -> Self:
        """Where an earlier session left off."""
        ended = [
            TrialProgress(
                trial_name(trial.number),
                _STATUS[trial.state],
                int(trial.user_attrs.get(STEPS, 0)),
                math.nan if trial.value is None else trial.value,
                trial.user_attrs.get(ERROR),
            )
            for trial in trials
            if trial.state in _STATUS
        ]
        return cls(num_trials, max_steps, {trial.name: trial for trial in ended}, _num_before=len(ended))

    def note(self, trial: TrialProgress) -> None:
        """Take in what a trial did. One that is running again keeps what it had reached."""
        known = self.trials.get(trial.name)
        if known is not None and trial.status == "running" and trial.steps < known.steps:
            return
        self.trials[trial.name] = trial

    def note_retry(self, name: str, reason: str) -> None:
        """A trial goes on from its last checkpoint after a failure."""
        self.retries.append(f"{name}: goes on from its last checkpoint after {reason}")

    @property
    def is_continued(self) -> bool:
        """Whether trials ended before this session."""
        return self._num_before > 0

    def count(self, status: TrialStatus) -> int:
        """Trials of a status."""
        return sum(trial.status == status for trial in self.trials.values())

    @property
    def ended(self) -> tuple[TrialProgress, ...]:
        """Those that need nothing more."""
        return tuple(trial for trial in self.trials.values() if trial.status != "running")

    @property
    def best(self) -> TrialProgress | None:
        """The best that came to its end, or else the best so far."""
        known = [trial for trial in self.trials.values() if not math.isnan(trial.best)]
        finished = [trial for trial in known if trial.status == "finished"]
        return max(finished or known, key=lambda trial: trial.best, default=None)

    @property
    def seconds_left(self) -> float:
        """A guess from the mean time between two ends of this session; NaN before the first."""
        num_ended = len(self.ended) - self._num_before
        if num_ended <= 0:
            return math.nan
        return (time.monotonic() - self.started) / num_ended * (self.num_trials - len(self.ended))
