"""A user's own rewards: one that takes its time, one that cannot cope with some trials."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rllib_portfolio.env.rewards import StepOutcome


def unhurried(outcome: StepOutcome) -> NDArray[np.floating[Any]]:
    """16 of these are an iteration of a tiny run: about a quarter of a second."""
    time.sleep(0.015)
    return outcome.log_return
