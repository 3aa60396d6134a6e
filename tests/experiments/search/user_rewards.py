"""A user's own rewards: one that takes its time, one that fails again and again, one that ends its process once."""

from __future__ import annotations

import os
import signal
import time

import ray

from rllib_portfolio.arrays import FloatArray
from rllib_portfolio.env.rewards import StepOutcome

LAST_CALL = 40
KILLED = {"name": "an env runner was killed", "namespace": "tests"}
"""The actor that says so."""
_calls = 0


def unhurried(outcome: StepOutcome) -> FloatArray:
    """16 of these are an iteration of a tiny run: a quarter of a second."""
    time.sleep(0.015)
    return outcome.log_return


def tired(outcome: StepOutcome) -> FloatArray:
    """Fails in the third iteration of a tiny run in a new process, after the first evaluation."""
    global _calls
    _calls += 1
    if _calls == LAST_CALL:
        raise ArithmeticError("this reward is tired")
    return outcome.log_return


def killed_once(outcome: StepOutcome) -> FloatArray:
    """Ends its process as `kill -9` does, in the third iteration of a tiny run; not so while the actor KILLED lives."""
    global _calls
    _calls += 1
    if _calls == LAST_CALL:
        try:
            place = {"num_cpus": 0, "scheduling_strategy": "DEFAULT"}  # not with the trial, which it is to outlive
            marker = ray.remote(_Marker).options(**KILLED, **place, lifetime="detached").remote()
        except ValueError:  # the name is taken
            return outcome.log_return
        ray.get(marker.__ray_ready__.remote())
        os.kill(os.getpid(), signal.SIGKILL)
    return outcome.log_return


class _Marker:
    """An actor that does nothing."""
