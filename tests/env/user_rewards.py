"""A user's own rewards, as a configuration names them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rllib_portfolio.env.rewards import StepOutcome

NOT_A_FUNCTION = 3


def wealth_less_turnover(outcome: StepOutcome) -> NDArray[np.floating[Any]]:
    return outcome.wealth - 0.5 * outcome.turnover


def everything(outcome: StepOutcome) -> NDArray[np.floating[Any]]:
    """Each part of the outcome in decimal places of its own."""
    return outcome.cost + 10.0 * outcome.turnover + 100.0 * outcome.wealth + 1000.0 * outcome.weights[:, 0]


def over_cash(outcome: StepOutcome) -> NDArray[np.floating[Any]]:
    return outcome.log_return - outcome.cash_log_return
