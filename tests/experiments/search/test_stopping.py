"""Who is stopped: decisions worked out by hand, in one session and over two."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from rllib_portfolio.experiments.search.optuna_search import NUMBER, OBJECTIVE, SPEC
from rllib_portfolio.experiments.search.settings import SearchSettings
from rllib_portfolio.experiments.search.stopping import MIN_OTHERS, StepHalving, StepMedianStopping, scheduler
from rllib_portfolio.experiments.search.study import STEPS

CONTINUE, STOP = TrialScheduler.CONTINUE, TrialScheduler.STOP
OTHERS = {
    0: {100: 9.0, 200: 1.0, 300: 2.0},
    1: {100: 0.0, 200: 2.0, 300: 3.0},
    2: {100: 0.0, 200: 0.0, 300: 1.0},
}
"""Values of three trials by steps. With a grace period of 200 steps their means over [200, 300] are 1.5, 2.5 and 0.5:
the median at 300 is 1.5. Over [200, 200] they are 1, 2 and 0: the median at 200 is 1."""


def new_trial(number: int) -> Trial:
    """A trial as Tune's controller would hand it over, without anything to run."""
    return Trial("trial", config={SPEC: {NUMBER: number}}, stub=True)


class Controller:
    """The part of Tune's controller that the median rule asks before it pauses a trial: others wait for its place."""

    def get_live_trials(self) -> list[Trial]:
        waiting = new_trial(99)
        assert waiting.status == Trial.PENDING
        return [waiting]


class Session:
    """A scheduler and the trials that it was told of."""

    def __init__(self, name: str = "median", history: Mapping[int, Mapping[int, float]] | None = None) -> None:
        self.rule = scheduler(
            SearchSettings(scheduler=name, max_steps=1_000, grace_steps=200 if name == "median" else 100), history or {}
        )
        assert self.rule.set_search_properties(OBJECTIVE, "max")
        self._trials: dict[int, Trial] = {}

    def tell(self, number: int, values: Mapping[int, float]) -> list[str]:
        """The decisions on a trial's reports, as many as it makes before it is stopped."""
        trial = self._trials.get(number)
        if trial is None:
            trial = self._trials[number] = new_trial(number)
            self.rule.on_trial_add(Controller(), trial)
        decisions = []
        for steps, value in values.items():
            result = {STEPS: steps, OBJECTIVE: value}
            decisions.append(self.rule.on_trial_result(Controller(), trial, result))
            if decisions[-1] == STOP:
                self.rule.on_trial_complete(Controller(), trial, result)
                break
        return decisions

    def retry(self, number: int) -> None:
        """Retry a failed trial as Tune does."""
        self.rule.on_trial_error(Controller(), self._trials[number])
        self.rule.on_trial_add(Controller(), self._trials[number])

    def complete(self, number: int, steps: int, value: float) -> None:
        """Complete a trial as Tune does: report its last result once more, and end it."""
        result = {STEPS: steps, OBJECTIVE: value}
        self.rule.on_trial_result(Controller(), self._trials[number], result)
        self.rule.on_trial_complete(Controller(), self._trials[number], result)


def with_others(count: int = 3) -> Session:
    session = Session()
    for number in range(count):
        assert STOP not in session.tell(number, OTHERS[number])
    return session


# ---------------------------------------------------------------- the median rule


@pytest.mark.parametrize(
    ("values", "decisions"),
    [
        # at 100: the grace period. At 200: best 1.4 against 1. At 300: best 1.4, its first, below 1.5
        ({100: 1.4, 200: 1.0, 300: 1.25}, [CONTINUE, CONTINUE, STOP]),
        # at 300: best 1.75, not its last, against 1.5
        ({100: -8.0, 200: 1.75, 300: -8.0}, [CONTINUE, CONTINUE, CONTINUE]),
        # the median itself is no reason to stop
        ({100: 0.0, 200: 1.0, 300: 1.5}, [CONTINUE, CONTINUE, CONTINUE]),
        # at 200: best 0.9 below 1
        ({100: -9.0, 200: 0.9}, [CONTINUE, STOP]),
        # at 250 all of them have come as far, and their means are over [200, 250]: as at 200
        ({250: 0.9}, [STOP]),
        ({250: 1.1}, [CONTINUE]),
        # at 199: within the grace period, in environment steps
        ({199: -9.0}, [CONTINUE]),
        # nobody has come to 301
        ({301: -9.0}, [CONTINUE]),
    ],
)
def test_a_trial_is_stopped_if_its_best_is_below_the_median_of_the_others_means(
    values: dict[int, float], decisions: list[str]
) -> None:
    assert with_others().tell(3, values) == decisions


def test_too_few_others_are_no_reason_to_stop_and_none_is_ever_paused() -> None:
    assert MIN_OTHERS == 3
    assert with_others(2).tell(3, {100: -9.0, 200: -9.0, 300: -9.0}) == [CONTINUE] * 3
    session = with_others(2)
    session.tell(2, {100: 0.0, 200: 0.0})  # the third has not come to 300
    assert session.tell(3, {300: -9.0}) == [CONTINUE]
    assert session.tell(4, {200: -9.0}) == [STOP]


def test_a_last_word_and_an_evaluation_that_comes_again_count_once() -> None:
    session = with_others()
    session.complete(0, 300, 2.0)  # were it to count again, the mean would be 5/3, which is the median, and above 1.6
    session.tell(1, {200: 2.0, 300: 3.0})
    assert session.tell(3, {300: 1.6}) == [CONTINUE]
    assert session.tell(4, {300: 1.4}) == [STOP]


def test_a_trial_that_was_stopped_still_counts_among_the_others() -> None:
    session = with_others()
    assert session.tell(3, {200: 0.9}) == [STOP]
    # at 200 the means are 1, 2, 0 and 0.9: the median is 0.95
    assert session.tell(4, {200: 0.96}) == [CONTINUE]
    # ... and 0.96: the median of 0, 0.9, 0.96, 1, 2 is 0.96
    assert session.tell(5, {200: 0.955}) == [STOP]


# ---------------------------------------------------------------- the median rule over two sessions


@pytest.mark.parametrize("last", [-9.0, 1.25, 1.49, 1.5, 1.51, 9.0])
def test_what_an_earlier_session_reported_leads_to_the_same_decision(last: float) -> None:
    reports = {100: 0.0, 200: 1.25, 300: last}
    uninterrupted = with_others().tell(3, reports)
    assert uninterrupted[-1] == (STOP if last < 1.5 else CONTINUE)
    assert Session(history=OTHERS).tell(3, reports) == uninterrupted
    own = {3: {100: 0.0, 200: 1.25}}
    assert Session(history=OTHERS | own).tell(3, {300: last}) == uninterrupted[2:]


def test_a_trial_that_goes_on_is_judged_by_its_own_past() -> None:
    history = OTHERS | {3: {100: 0.0, 200: 1.75}}
    assert Session(history=history).tell(3, {300: -9.0}) == [CONTINUE]  # its best is 1.75
    # for another it is one of four: at 300 only three of them have come as far, and the median is 1.5
    assert Session(history=history).tell(4, {300: -9.0}) == [STOP]


@pytest.mark.parametrize("name", ["median", "asha", "none"])
def test_a_trial_that_is_retried_in_a_later_session_keeps_its_past(name: str) -> None:
    session = Session(name, OTHERS | {3: {100: 0.0, 200: 9.0}})
    session.tell(3, {300: -9.0})
    session.retry(3)
    assert session.tell(3, {350: -9.0}) == [CONTINUE]


# ---------------------------------------------------------------- successive halving


FOUR = {number: {100: float(number + 1)} for number in range(4)}
"""1, 2, 3, 4 at the first rung; the rungs are at 100 and 400 steps, and 75 of 100 trials end at each.
The 75th percentile of these four is 3 + 0.25 (4 - 3) = 3.25."""


@pytest.mark.parametrize(
    ("values", "decisions"),
    [
        ({100: 3.2}, [STOP]),
        ({100: 3.25}, [CONTINUE]),
        ({50: -9.0, 120: 3.3, 200: -9.0, 399: -9.0}, [CONTINUE] * 4),  # judged at the first report past each rung
        ({100: 3.3, 400: -9.0}, [CONTINUE, CONTINUE]),  # nobody was at the second rung
    ],
)
def test_halving_stops_what_is_not_in_the_best_quarter_of_its_rung(
    values: dict[int, float], decisions: list[str]
) -> None:
    session = Session("asha")
    for number, reports in FOUR.items():
        assert session.tell(number, reports) == [CONTINUE]  # each is the best so far
    assert session.tell(4, values) == decisions
    assert Session("asha", FOUR).tell(4, values) == decisions


def test_a_trial_that_goes_on_has_passed_its_rungs() -> None:
    session = Session("asha", FOUR)
    assert session.tell(0, {200: -9.0}) == [CONTINUE]
    # had it been recorded once more, with -9, the 75th percentile of -9, 1, 2, 3, 4 would be 3
    assert session.tell(4, {100: 3.2}) == [STOP]


def test_nobody_is_stopped_without_a_scheduler() -> None:
    settings = SearchSettings(scheduler="none")
    assert type(scheduler(settings, OTHERS)) is FIFOScheduler
    kinds: dict[str, Any] = {"median": StepMedianStopping, "asha": StepHalving}
    for name, kind in kinds.items():
        assert type(scheduler(SearchSettings(scheduler=name), {})) is kind
