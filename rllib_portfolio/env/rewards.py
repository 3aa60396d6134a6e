"""Rewards of a step, which are all computed after transaction costs, from the wealth that the kernel returns.

A reward is a pure function of its state, [B, S], and of a `StepOutcome`; a reset initialises the state's rows again.
Rewards also take outcomes of torch tensors, through which gradients flow. A user's own function does so if it uses the
functions of `arrays.namespace(outcome.growth)` in place of numpy's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np

from rllib_portfolio.arrays import FloatArray, namespace
from rllib_portfolio.config import EnvironmentConfig
from rllib_portfolio.config.user_values import import_function
from rllib_portfolio.env.transition import StepOutcome
from rllib_portfolio.errors import ConfigError

PRIOR_DAILY_VOLATILITY = 0.01
"""Daily standard deviation that a new differential Sharpe ratio assumes (16 % a year), so that it starts finite."""
PRIOR_DAILY_ACTIVE_VOLATILITY = 0.002
"""Daily standard deviation of the active return that a new differential information ratio assumes (3 % a year)."""


class Reward(Protocol):
    """A reward with per-environment state."""

    @property
    def initial_state(self) -> FloatArray:
        """State at the start of an episode, [S]."""
        ...

    def __call__(self, state: FloatArray, outcome: StepOutcome) -> tuple[FloatArray, FloatArray]:
        """Return the next state, [B, S], and the reward, [B]."""
        ...


@dataclass(frozen=True, slots=True)
class Stateless:
    """A reward that is a function of the outcome alone, such as a user's own function."""

    function: Callable[[StepOutcome], FloatArray]
    initial_state: FloatArray

    def __call__(self, state: FloatArray, outcome: StepOutcome) -> tuple[FloatArray, FloatArray]:
        """Return the unchanged state and the function's value.

        Raises:
            ConfigError: If the function does not return one number for each environment.
        """
        reward: Any = self.function(outcome)
        if isinstance(outcome.wealth, np.ndarray):
            reward = np.asarray(reward, dtype=np.float64)
        if reward.shape != outcome.wealth.shape:
            raise ConfigError(
                f"reward must have shape {tuple(outcome.wealth.shape)}, one number for each environment, got "
                f"{tuple(reward.shape)} ({self.function!r}). Reduce over the last axis alone."
            )
        return state, reward


@dataclass(frozen=True, slots=True)
class DifferentialSharpe:
    """Differential Sharpe ratio, Moody and Saffell (2001), "Learning to trade via direct reinforcement", II.D.

    With A, B the decayed first and second moments of the step return R_t:
    D_t = (B dA - A dB / 2) / (B - A^2)^(3/2),  dA = R_t - A,  dB = R_t^2 - B;  A += eta dA,  B += eta dB.
    R_t is the return in excess of cash; with the raw return, a portfolio of cash alone would have the highest ratio.
    The differential information ratio uses the active return, in excess of 1/N, instead.

    A starts at 0, and B at the assumed variance of one step: B_0 = rebalance_days sigma^2, where sigma is the assumed
    daily standard deviation. eta (`decay`) is the weight of one step, whatever its number of days.
    """

    decay: float
    initial_state: FloatArray
    step_return: Callable[[StepOutcome], FloatArray]
    """The function that computes R_t, `return_over_cash` or `active_return`."""

    def __call__(self, state: FloatArray, outcome: StepOutcome) -> tuple[FloatArray, FloatArray]:
        """Return the next state (A, B) and the reward D_t."""
        step_return = self.step_return(outcome)
        first, second = state[:, 0], state[:, 1]
        first_change, second_change = step_return - first, step_return**2 - second
        variance = (second - first**2).clip(min=1e-12)
        reward = (second * first_change - 0.5 * first * second_change) / variance**1.5
        moments = [first + self.decay * first_change, second + self.decay * second_change]
        return namespace(reward).stack(moments, axis=-1), reward


@dataclass(frozen=True, slots=True)
class DrawdownPenalised:
    """Log return less `penalty` times the increase of the drawdown, 1 - wealth / its running peak, during the step."""

    penalty: float
    initial_state: FloatArray

    def __call__(self, state: FloatArray, outcome: StepOutcome) -> tuple[FloatArray, FloatArray]:
        """Return the next state (peak, drawdown) and the penalised log return."""
        xp = namespace(outcome.wealth)
        peak, drawdown = xp.maximum(state[:, 0], outcome.wealth), state[:, 1]
        new_drawdown = 1.0 - outcome.wealth / peak
        reward = outcome.log_return - self.penalty * (new_drawdown - drawdown).clip(min=0.0)
        return xp.stack([peak, new_drawdown], axis=-1), reward


def build_reward(config: EnvironmentConfig) -> Reward:
    """Return the reward that the configuration names.

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
    """Return the simple return V_end / V_start - 1."""
    return namespace(outcome.growth).expm1(outcome.log_return)  # type: ignore[no-any-return]


def return_over_cash(outcome: StepOutcome) -> FloatArray:
    """Return V_end / V_start less the growth factor of cash."""
    xp = namespace(outcome.growth)
    return xp.expm1(outcome.log_return) - xp.expm1(outcome.cash_log_return)  # type: ignore[no-any-return]


def active_return(outcome: StepOutcome) -> FloatArray:
    """Return V_end / V_start less the growth factor of 1/N over the risky assets."""
    xp = namespace(outcome.growth)
    return xp.expm1(outcome.log_return) - xp.expm1(outcome.equal_weight_log_return)  # type: ignore[no-any-return]


_STEP_RETURNS: dict[str, Callable[[StepOutcome], FloatArray]] = {
    "mean_variance": simple_return,
    "active_mean_variance": active_return,
}
"""The step return that each mean-variance utility uses."""

_RATIOS: dict[str, tuple[Callable[[StepOutcome], FloatArray], float]] = {
    "differential_sharpe": (return_over_cash, PRIOR_DAILY_VOLATILITY),
    "differential_information": (active_return, PRIOR_DAILY_ACTIVE_VOLATILITY),
}
"""The step return that each differential ratio uses, and the daily standard deviation that it assumes at first."""


def log_return(outcome: StepOutcome) -> FloatArray:
    """Return log(V_end / V_start)."""
    return outcome.log_return


def excess_log_return(outcome: StepOutcome) -> FloatArray:
    """Return log(V_end / V_start) less the log growth of the uniform portfolio."""
    return outcome.log_return - outcome.benchmark_log_return


def active_log_return(outcome: StepOutcome) -> FloatArray:
    """Return log(V_end / V_start) less the log growth of 1/N over the risky assets."""
    return outcome.log_return - outcome.equal_weight_log_return


def mean_variance(
    outcome: StepOutcome, risk_aversion: float, step_return: Callable[[StepOutcome], FloatArray] = simple_return
) -> FloatArray:
    """Return the mean-variance utility R - kappa / 2 R^2 of each step, [B].

    With the active return, this utility keeps a portfolio close to 1/N. If a tilt of size c has the mean active return
    c m and the active standard deviation c s, the optimal c is m / (kappa s^2), whatever the return of 1/N. The active
    standard deviation is then the information ratio divided by kappa.

    Args:
        outcome: Outcome of the step for B portfolios.
        risk_aversion: Risk aversion kappa, at least 0.
        step_return: Function that computes the return R of each portfolio, [B].
    """
    rated = step_return(outcome)
    return rated - 0.5 * risk_aversion * rated**2
