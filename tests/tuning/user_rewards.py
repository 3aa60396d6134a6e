"""A user's own rewards: one that takes its time, one that fails again and again."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rllib_portfolio.env.rewards import StepOutcome

LAST_CALL = 40
_calls = 0


def unhurried(outcome: StepOutcome) -> NDArray[np.floating[Any]]:
    """16 of these are an iteration of a tiny run: a quarter of a second."""
    time.sleep(0.015)
    return outcome.log_return


def tired(outcome: StepOutcome) -> NDArray[np.floating[Any]]:
    """Fails in the third iteration of a tiny run in a new process, after the first evaluation."""
    global _calls
    _calls += 1
    if _calls == LAST_CALL:
        raise ArithmeticError("this reward is tired")
    return outcome.log_return
