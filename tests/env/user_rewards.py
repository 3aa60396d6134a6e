"""A user's own rewards, as a configuration names them."""

from __future__ import annotations

import numpy as np

from rllib_portfolio.arrays import FloatArray
from rllib_portfolio.env.rewards import StepOutcome

NOT_A_FUNCTION = 3


def everything(outcome: StepOutcome) -> FloatArray:
    """Each part of the outcome in decimal places of its own."""
    return outcome.cost + 10.0 * outcome.turnover + 100.0 * outcome.wealth + 1000.0 * outcome.weights[:, 0]


def in_numpy(outcome: StepOutcome) -> FloatArray:
    return np.log(outcome.growth)


def sign(outcome: StepOutcome) -> FloatArray:
    """Differentiable nowhere that matters: its gradient is cut off."""
    return (outcome.growth > 1.0) * 1.0


def over_cash(outcome: StepOutcome) -> FloatArray:
    return outcome.log_return - outcome.cash_log_return
