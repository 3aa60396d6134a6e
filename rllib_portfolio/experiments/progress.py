"""How far many training runs are: the folds of an analysis, the trials of a search, its winners on fresh seeds."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol

GOES_ON = "goes on from its last checkpoint after"


class Run(Protocol):
    """One of many training runs: a hashable value, whose text names it to people."""

    @property
    def name(self) -> str:
        """Name of its folder where the runs are kept."""
        ...

    def _asdict(self) -> dict[str, Any]: ...


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """How a training run ended.

    Attributes:
        run: The run; of a trial its name.
        status: `stopped` runs continue when the analysis is resumed; `failed` ones do, too, once the cause is mended.
            `pruned` are trials that the scheduler stopped.
        steps: Environment steps done; 0 if unknown.
        training_s: Seconds of sampling and learning, interruptions left out.
        validation_sharpe: Of the policy that was best on validation; None before the first evaluation.
        error: Of a failed run, one line.
    """

    run: Any
    status: Literal["finished", "stopped", "failed", "pruned"]
    steps: int = 0
    training_s: float = 0.0
    validation_sharpe: float | None = None
    error: str | None = None

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {**self.run._asdict(), **{name: value for name, value in asdict(self).items() if name != "run"}}


@dataclass(frozen=True, slots=True)
class Progress:
    """Many runs at one moment.

    Attributes:
        running: Runs that train at the moment, with their steps so far.
        sharpes: Best validation Sharpe ratio so far of those that have one.
        steps_made: Environment steps that this session made.
        totals: All runs, with the environment steps of each.
        outcomes: Runs that have ended, in that order.
        num_before: How many of these ended in an earlier session.
        retries: Failures that a run went on after, each as one line.
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
        """Runs in all."""
        return len(self.totals)

    @property
    def total_steps(self) -> int:
        """Environment steps of all runs."""
        return sum(self.totals.values())

    @property
    def steps(self) -> int:
        """Environment steps done; a run that ended early counts as if it had made all of its steps."""
        ended = sum(self.totals.get(outcome.run, 0) for outcome in self.outcomes)
        return ended + sum(min(steps, self.totals.get(run, 0)) for run, steps in self.running.items())

    @property
    def best(self) -> RunOutcome | None:
        """The run with the highest Sharpe ratio among those that came to their end, or else among all that ended."""
        known = [outcome for outcome in self.outcomes if outcome.validation_sharpe is not None]
        finished = [outcome for outcome in known if outcome.status == "finished"]
        return max(finished or known, key=lambda outcome: outcome.validation_sharpe or 0.0, default=None)


@dataclass(frozen=True, slots=True)
class Watch:
    """What a caller sees of many runs, and how it ends them.

    Attributes:
        on_progress: Called when something changed, and at least a few times a second.
        should_stop: Asked as often. Runs that train then stop, each with a checkpoint.
        callbacks: Further callbacks of Ray Tune.
    """

    on_progress: Callable[[Progress], None] = lambda progress: None
    should_stop: Callable[[], bool] = lambda: False
    callbacks: Sequence[Any] = ()


class Board:
    """What runs that train tell of themselves, and whether they are to stop: an actor where they are Ray tasks."""

    def __init__(self) -> None:
        self._steps: dict[Any, int] = {}
        self._sharpes: dict[Any, float] = {}
        self._steps_made = 0
        self._is_stopping = False

    def report(self, run: Any, steps: int, sharpe: float = math.nan) -> bool:
        """Note a run's steps and its best Sharpe ratio so far; returns whether it is to stop."""
        if not self._is_stopping or run in self._steps:
            self._steps_made += max(0, steps - self._steps.get(run, steps))
            self._steps[run] = steps
            if not math.isnan(sharpe):
                self._sharpes[run] = sharpe
        return self._is_stopping

    def resume(self, run: Any, steps: int) -> None:
        """Record that a run continues from `steps`, which an earlier session or process has made."""
        self._steps[run] = steps

    def end(self, run: Any) -> None:
        """Forget a run that is over."""
        self._steps.pop(run, None)
        self._sharpes.pop(run, None)

    def stop(self) -> None:
        """Tell every run to stop after its iteration, and those that start from now on not to begin."""
        self._is_stopping = True

    def read(self) -> tuple[dict[Any, int], dict[Any, float], int]:
        """Return the steps and Sharpe ratios of the runs under way, and the steps that all have made on this board."""
        return dict(self._steps), dict(self._sharpes), self._steps_made
