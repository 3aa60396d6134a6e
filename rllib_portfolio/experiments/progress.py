"""Progress of many training runs: those of a walk-forward analysis, of a search, or of its retraining."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol

GOES_ON = "goes on from its last checkpoint after"


class Run(Protocol):
    """One of many training runs: a hashable value whose `str` is its name in messages."""

    @property
    def name(self) -> str:
        """Name of the run's folder in the storage of the runs."""
        ...

    def _asdict(self) -> dict[str, Any]: ...


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """The outcome of a training run.

    Attributes:
        run: The run; for a trial, its name.
        status: Runs that are `stopped` or `failed` continue when the analysis is resumed. Trials that the scheduler
            stopped are `pruned`.
        steps: Environment steps done; 0 if unknown.
        training_s: Seconds of sampling and learning without interruptions.
        validation_sharpe: Sharpe ratio of the policy that was best on validation; None before the first evaluation.
        error: The error of a failed run, as one line.
    """

    run: Any
    status: Literal["finished", "stopped", "failed", "pruned"]
    steps: int = 0
    training_s: float = 0.0
    validation_sharpe: float | None = None
    error: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the outcome as JSON values."""
        return {**self.run._asdict(), **{name: value for name, value in asdict(self).items() if name != "run"}}


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of many runs at one moment.

    Attributes:
        running: Maps each run that is training to its environment steps so far.
        sharpes: Maps each of them that was evaluated to its best validation Sharpe ratio so far.
        steps_made: Environment steps that this session made.
        totals: Maps every run to its planned environment steps.
        outcomes: Outcomes of the runs that have ended, in the order in which they ended.
        num_before: Number of outcomes from earlier sessions.
        retries: Failures after which a run was retried, each as one line.
    """

    running: Mapping[Any, int]
    sharpes: Mapping[Any, float]
    steps_made: int
    totals: Mapping[Any, int]
    outcomes: tuple[RunOutcome, ...]
    num_before: int = 0
    retries: tuple[str, ...] = ()

    @property
    def num_runs(self) -> int:
        """Number of all runs."""
        return len(self.totals)

    @property
    def total_steps(self) -> int:
        """Planned environment steps of all runs."""
        return sum(self.totals.values())

    @property
    def steps(self) -> int:
        """Environment steps done; a run that ended early counts with all of its planned steps."""
        ended = sum(self.totals.get(outcome.run, 0) for outcome in self.outcomes)
        return ended + sum(min(steps, self.totals.get(run, 0)) for run, steps in self.running.items())

    @property
    def best(self) -> RunOutcome | None:
        """The run with the highest Sharpe ratio among the `finished` ones, or, without any, among all that ended."""
        known = [outcome for outcome in self.outcomes if outcome.validation_sharpe is not None]
        finished = [outcome for outcome in known if outcome.status == "finished"]
        return max(finished or known, key=lambda outcome: outcome.validation_sharpe or 0.0, default=None)


@dataclass(frozen=True, slots=True)
class Watch:
    """Callbacks by which a caller watches and stops many runs.

    Attributes:
        on_progress: Called when something changed, and at least a few times a second.
        should_stop: Called as often. If it returns true, running runs stop, each with a checkpoint.
        callbacks: Further callbacks of Ray Tune.
    """

    on_progress: Callable[[Progress], None] = lambda progress: None
    should_stop: Callable[[], bool] = lambda: False
    callbacks: Sequence[Any] = ()


class Board:
    """Collects the progress of running runs and tells them to stop; it is an actor if the runs are Ray tasks."""

    def __init__(self) -> None:
        self._steps: dict[Any, int] = {}
        self._sharpes: dict[Any, float] = {}
        self._steps_made = 0
        self._is_stopping = False

    def report(self, run: Any, steps: int, sharpe: float = math.nan) -> bool:
        """Record the progress of a run, and return whether the run has to stop.

        Args:
            run: The run.
            steps: Its environment steps so far.
            sharpe: Its best validation Sharpe ratio so far; NaN before the first evaluation.
        """
        if not self._is_stopping or run in self._steps:
            self._steps_made += max(0, steps - self._steps.get(run, steps))
            self._steps[run] = steps
            if not math.isnan(sharpe):
                self._sharpes[run] = sharpe
        return self._is_stopping

    def resume(self, run: Any, steps: int) -> None:
        """Record that a run continues the work of an earlier session or process.

        Args:
            run: The run.
            steps: Environment steps of the checkpoint from which it continues.
        """
        self._steps[run] = steps

    def end(self, run: Any) -> None:
        """Remove a run that has ended."""
        self._steps.pop(run, None)
        self._sharpes.pop(run, None)

    def stop(self) -> None:
        """Tell every run to stop after its current iteration, and later runs not to begin."""
        self._is_stopping = True

    def read(self) -> tuple[dict[Any, int], dict[Any, float], int]:
        """Return the steps and Sharpe ratios of the running runs, and the steps that all runs made in this session."""
        return dict(self._steps), dict(self._sharpes), self._steps_made
