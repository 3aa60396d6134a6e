"""Rewards of a step. Costs are always inside: every reward is a function of what the kernel did to wealth.

A reward is a pure function of its state, [B, S], and of a `StepOutcome`; the state's rows are set anew at a reset.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np

from rllib_portfolio.arrays import FloatArray
from rllib_portfolio.config import EnvironmentConfig
from rllib_portfolio.config.user_values import import_function
from rllib_portfolio.env.transition import StepOutcome
from rllib_portfolio.errors import ConfigError

PRIOR_DAILY_VOLATILITY = 0.01
"""Deviation a day that a fresh differential Sharpe ratio assumes (16 % a year), so that its first steps are finite."""
PRIOR_DAILY_ACTIVE_VOLATILITY = 0.002
"""Deviation a day of the active return that a fresh differential information ratio assumes: 3 % a year."""


class Reward(Protocol):
    """A reward with per-environment state."""

    @property
    def initial_state(self) -> FloatArray:
        """State of a fresh episode, [S]."""
        ...

    def __call__(self, state: FloatArray, outcome: StepOutcome) -> tuple[FloatArray, FloatArray]:
        """State [B, S] and outcome to next state [B, S] and reward [B]."""
        ...


@dataclass(frozen=True, slots=True)
class Stateless:
    """A reward that is a function of the outcome alone, the user's own included."""

    function: Callable[[StepOutcome], FloatArray]
    initial_state: FloatArray

    def __call__(self, state: FloatArray, outcome: StepOutcome) -> tuple[FloatArray, FloatArray]:
        """State as it was, and the function's value."""
        reward = np.asarray(self.function(outcome), dtype=np.float64)
        if reward.shape != outcome.wealth.shape:
            raise ConfigError(
                f"reward must have shape {outcome.wealth.shape}, one number for each environment, got {reward.shape} "
                f"({self.function!r}). Reduce over the last axis alone."
            )
        return state, reward


@dataclass(frozen=True, slots=True)
class DifferentialSharpe:
    """Differential Sharpe ratio, Moody and Saffell (2001), "Learning to trade via direct reinforcement", II.D.

    With A, B the decayed first and second moments of the step return R_t:
    D_t = (B dA - A dB / 2) / (B - A^2)^(3/2),  dA = R_t - A,  dB = R_t^2 - B;  A += eta dA,  B += eta dB.
    R_t is the return in excess of cash, as in a Sharpe ratio: of the raw return, all cash would have the highest ratio.
    The differential information ratio takes the active return over 1/N instead.

    A starts at 0 and B at the variance that a fresh state assumes for the days of one step: B_0 = rebalance_days
    sigma^2, sigma the deviation a day. eta is the weight of one step, however many days it has.
    """

    decay: float
    initial_state: FloatArray
    step_return: Callable[[StepOutcome], FloatArray]
    """R_t: `return_over_cash` or `active_return`."""

    def __call__(self, state: FloatArray, outcome: StepOutcome) -> tuple[FloatArray, FloatArray]:
        """State (A, B) and D_t."""
        step_return = self.step_return(outcome)
        first, second = state[:, 0], state[:, 1]
        first_change, second_change = step_return - first, step_return**2 - second
        variance = np.maximum(second - first**2, 1e-12)
        reward = (second * first_change - 0.5 * first * second_change) / variance**1.5
        return np.stack([first + self.decay * first_change, second + self.decay * second_change], axis=-1), reward


@dataclass(frozen=True, slots=True)
class DrawdownPenalised:
    """Log return less `penalty` times the increase of the drawdown (1 - wealth / its running peak) in the step."""

    penalty: float
    initial_state: FloatArray

    def __call__(self, state: FloatArray, outcome: StepOutcome) -> tuple[FloatArray, FloatArray]:
        """State (peak, drawdown) and the penalised log return."""
        peak, drawdown = np.maximum(state[:, 0], outcome.wealth), state[:, 1]
        new_drawdown = 1.0 - outcome.wealth / peak
        reward = outcome.log_return - self.penalty * np.maximum(new_drawdown - drawdown, 0.0)
        return np.stack([peak, new_drawdown], axis=-1), reward


def build_reward(config: EnvironmentConfig) -> Reward:
    """The reward that the configuration names.

    Raises:
        ConfigError: If `config.reward` is neither a known name nor an importable `module:function`.
    """
    none = np.zeros(0)
    if config.reward == "log_return":
        return Stateless(log_return, none)
    if config.reward == "excess_log_return":
        return Stateless(excess_log_return, none)
    if config.reward == "active_log_return":
        return Stateless(active_log_return, none)
    if config.reward in _STEP_RETURNS:
        step_return = _STEP_RETURNS[config.reward]
        return Stateless(partial(mean_variance, risk_aversion=config.risk_aversion, step_return=step_return), none)
    if config.reward in _RATIOS:
        step_return, daily_deviation = _RATIOS[config.reward]
        prior = np.array([0.0, config.rebalance_days * daily_deviation**2])
        return DifferentialSharpe(config.sharpe_decay, prior, step_return)
    if config.reward == "drawdown_penalised":
        return DrawdownPenalised(config.drawdown_penalty, np.array([1.0, 0.0]))
    return Stateless(import_function(config.reward, "reward", BUILT_IN), none)


BUILT_IN = (
    "log_return",
    "excess_log_return",
    "active_log_return",
    "differential_sharpe",
    "differential_information",
    "drawdown_penalised",
    "mean_variance",
    "active_mean_variance",
)


def simple_return(outcome: StepOutcome) -> FloatArray:
    """V_end / V_start - 1."""
    return np.asarray(np.expm1(outcome.log_return))


def return_over_cash(outcome: StepOutcome) -> FloatArray:
    """V_end / V_start less the growth of cash."""
    return np.asarray(np.expm1(outcome.log_return) - np.expm1(outcome.cash_log_return))


def active_return(outcome: StepOutcome) -> FloatArray:
    """V_end / V_start less the growth of 1/N of the risky assets."""
    return np.asarray(np.expm1(outcome.log_return) - np.expm1(outcome.equal_weight_log_return))


_STEP_RETURNS: dict[str, Callable[[StepOutcome], FloatArray]] = {
    "mean_variance": simple_return,
    "active_mean_variance": active_return,
}
"""The step return that a mean-variance utility rates."""

_RATIOS: dict[str, tuple[Callable[[StepOutcome], FloatArray], float]] = {
    "differential_sharpe": (return_over_cash, PRIOR_DAILY_VOLATILITY),
    "differential_information": (active_return, PRIOR_DAILY_ACTIVE_VOLATILITY),
}
"""The step return that a differential ratio rates, and the deviation a day that a fresh state assumes for it."""


def log_return(outcome: StepOutcome) -> FloatArray:
    """log(V_end / V_start)."""
    return outcome.log_return


def excess_log_return(outcome: StepOutcome) -> FloatArray:
    """log(V_end / V_start) less the log growth of the uniform portfolio."""
    return outcome.log_return - outcome.benchmark_log_return


def active_log_return(outcome: StepOutcome) -> FloatArray:
    """log(V_end / V_start) less the log growth of 1/N of the risky assets."""
    return outcome.log_return - outcome.equal_weight_log_return


def mean_variance(
    outcome: StepOutcome, risk_aversion: float, step_return: Callable[[StepOutcome], FloatArray] = simple_return
) -> FloatArray:
    """R - kappa / 2 R^2 of the step return R, simple or active: a mean-variance utility, one step at a time.

    Of the active return it holds a portfolio near 1/N: where a tilt of size c earns c m with deviation c s, the best c
    is m / (kappa s^2), whatever 1/N itself does, and then the active deviation is the information ratio over kappa.
    """
    rated = step_return(outcome)
    return np.asarray(rated - 0.5 * risk_aversion * rated**2)
