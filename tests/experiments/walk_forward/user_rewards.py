"""A user's own rewards: one that cannot cope with a crash, one that takes its time."""

from __future__ import annotations

import math
import time

from rllib_portfolio.arrays import FloatArray
from rllib_portfolio.env.rewards import StepOutcome

CRASH = 0.8


def no_crash(outcome: StepOutcome) -> FloatArray:
    if (outcome.benchmark_log_return < math.log(CRASH)).any():
        raise ArithmeticError("the market crashed")
    return outcome.log_return


def unhurried(outcome: StepOutcome) -> FloatArray:
    time.sleep(0.04)
    return outcome.log_return
