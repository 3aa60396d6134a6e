"""B portfolios walking one window of one market: what the scalar and the vector environment share.

A decision that is traded at the close of row t sees what was known at the close of row t - L (L the execution lag): the
features of that row, and the weights that were held after it (for L = 0 the drifted weights w'_t). It earns the returns
of row t + 1. A window is the half-open range of rows whose returns are earned.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces
from gymnasium.error import InvalidAction
from numpy.typing import NDArray

from rllib_portfolio.arrays import FloatArray
from rllib_portfolio.config import EnvironmentConfig
from rllib_portfolio.env import kernel
from rllib_portfolio.env.action_map import build_action_map
from rllib_portfolio.env.limits import bound_violation, constrained_weights
from rllib_portfolio.env.observation import ObservationLayout
from rllib_portfolio.env.rewards import StepOutcome, build_reward
from rllib_portfolio.errors import ConfigError
from rllib_portfolio.market import MarketData, Window


class _LastStep(NamedTuple):
    """What the last step of each portfolio did, for `info`; a fresh episode has traded and earned nothing."""

    weights: FloatArray
    turnover: FloatArray
    cost: FloatArray
    portfolio_return: FloatArray
    asset_returns: FloatArray


class _Days(NamedTuple):
    """Growth factors over the days of one step."""

    growth: FloatArray
    benchmark_growth: FloatArray
    asset_growth: FloatArray


class Simulation:
    """State of B portfolios, advanced by the kernel.

    Args:
        market: The market to walk.
        window: Half-open range of rows whose returns may be earned.
        config: Costs, limits, action map, reward and episode length.
        num_portfolios: B.
        random_start: Whether a reset draws a random day of the window.

    Raises:
        ConfigError: If the window is too short, or the costs do not match the assets.
    """

    STATE = ("wealth", "weights", "held", "reward_state", "row", "end", "steps")
    """What `get_state` tells."""

    def __init__(
        self, market: MarketData, window: Window, config: EnvironmentConfig, num_portfolios: int, random_start: bool
    ) -> None:
        self.market, self.config, self.num_portfolios, self.random_start = market, config, num_portfolios, random_start
        self.layout = ObservationLayout(market)
        self.first_decision, self.last_row = decision_rows(market, window, config.execution_lag)
        self.costs = kernel.CostModel.from_bps(config.cost_bps, market.num_assets, config.impact)
        self.action_map = build_action_map(config, market.assets)
        self._action_shape: tuple[int, ...] = self.action_map.space.shape or ()
        self._returns = np.column_stack([market.returns, market.cash_returns])
        self._reward = build_reward(config)
        self._state = kernel.initial_state(num_portfolios, market.num_assets)
        self._held = self._state.weights.copy()  # after the trade of the close before; read and kept with a lag alone
        self._reward_state = np.tile(self._reward.initial_state, (num_portfolios, 1))
        self._row = np.full(num_portfolios, self.first_decision)
        self._end = self._row + 1
        self._steps = np.zeros(num_portfolios, dtype=np.int64)
        zeros = np.zeros(num_portfolios)
        self._last = _LastStep(self._state.weights.copy(), zeros, zeros, zeros, np.zeros_like(self._state.weights))

    @property
    def action_space(self) -> spaces.Space[Any]:
        """Of one portfolio."""
        return self.action_map.space

    @property
    def observation_space(self) -> spaces.Box:
        """Of one portfolio."""
        return self.layout.space

    def reset(self, which: NDArray[np.intp], generators: Sequence[np.random.Generator]) -> None:
        """Start new episodes of the portfolios `which`, each at a day drawn from its own generator."""
        days = self.last_row - self.first_decision
        length = min(self.config.episode_days or days, days)
        for index in which:
            start = self.first_decision
            if self.random_start:
                start += int(generators[index].integers(days - length + 1))
            self._row[index], self._end[index], self._steps[index] = start, start + length, 0
        self._state.wealth[which] = 1.0
        for weights in (self._state.weights, self._held):
            weights[which] = 0.0
            weights[which, -1] = 1.0
        self._reward_state[which] = self._reward.initial_state
        self._last = _LastStep(*(array.copy() for array in self._last))
        for array in self._last:
            array[which] = 0.0
        self._last.weights[which, -1] = 1.0

    def observe(self) -> FloatArray:
        """What each policy sees now, float32 [B, D]."""
        execution_lag = self.config.execution_lag
        known = kernel.known_weights(self._state.weights, self._held, execution_lag)
        return self.layout.observe(self._row - execution_lag, known)

    def step(self, actions: NDArray[Any]) -> tuple[FloatArray, NDArray[np.bool_]]:
        """Map actions [B, N+1] or [B] to targets, trade, and earn the returns of the next `rebalance_days` days.

        Returns:
            Rewards, float64 [B], and whether each episode has come to its end, [B].

        Raises:
            InvalidAction: If an action is not in the action space; names the environment and the step.
        """
        weights = constrained_weights(self._target(actions), self._state.weights, self.config)
        outcome, days = self._trade_and_hold(weights)
        self._reward_state, reward = self._reward(
            self._reward_state,
            StepOutcome(
                log_return=np.log(days.growth),
                benchmark_log_return=np.log(days.benchmark_growth),
                turnover=outcome.turnover,
                cost=outcome.cost,
                wealth=self._state.wealth,
                weights=weights,
                equal_weight_log_return=np.log(days.asset_growth[:, :-1].mean(-1)),
                cash_log_return=np.log(days.asset_growth[:, -1]),
            ),
        )
        self._steps += 1
        self._last = _LastStep(weights, outcome.turnover, outcome.cost, days.growth - 1.0, days.asset_growth - 1.0)
        return reward, self._row >= self._end

    def info(self) -> dict[str, NDArray[Any]]:
        """What the last step did and where the portfolios stand, arrays with leading axis B."""
        return {
            "date": self.market.dates[self._row],
            "wealth": self._state.wealth.copy(),
            "drifted_weights": self._state.weights.copy(),
            **self._last._asdict(),
            "bound_violation": bound_violation(self._last.weights, self.config),
        }

    def get_state(self) -> dict[str, NDArray[Any]]:
        """Everything that a later step depends on, as copies."""
        return {
            "wealth": self._state.wealth.copy(),
            "weights": self._state.weights.copy(),
            "held": self._held.copy(),
            "reward_state": self._reward_state.copy(),
            "row": self._row.copy(),
            "end": self._end.copy(),
            "steps": self._steps.copy(),
        }

    def set_state(self, state: dict[str, NDArray[Any]]) -> None:
        """Continue from what `get_state` gave."""
        self._state = kernel.PortfolioState(state["wealth"].copy(), state["weights"].copy())
        self._held, self._reward_state = state["held"].copy(), state["reward_state"].copy()
        self._row, self._end, self._steps = (state[name].copy() for name in ("row", "end", "steps"))

    def _target(self, actions: NDArray[Any]) -> FloatArray:
        self._require_valid(actions)
        volatility = self.market.volatility[self._row - self.config.execution_lag]
        return self.action_map.target(actions, self._state.weights, volatility)

    def _require_valid(self, actions: NDArray[Any]) -> None:
        shape = (self.num_portfolios, *self._action_shape)
        if actions.shape != shape:
            raise InvalidAction(
                f"actions must have shape {shape}, got {actions.shape} (step {self._steps[0]}). Pass one row for each "
                "environment."
            )
        valid = self.action_map.contains(actions)
        if valid.all():
            return
        index = int(np.argmin(valid.reshape(self.num_portfolios, -1).all(-1)))
        raise InvalidAction(
            f"action must lie in {self.action_space}, got {actions[index]} (environment {index}, step "
            f"{self._steps[index]}). Clip it, or look for a NaN in the policy."
        )

    def _trade_and_hold(self, weights: FloatArray) -> tuple[kernel.Outcome, _Days]:
        """Trade once, then hold until the next decision; past its end a portfolio stands still."""
        outcome, days = self._one_day(weights)
        for _ in range(self.config.rebalance_days - 1):
            if (self._row >= self._end).all():
                break
            _, more = self._one_day(self._state.weights)
            days = _Days(*(total * factor for total, factor in zip(days, more, strict=True)))
        return outcome, days

    def _one_day(self, weights: FloatArray) -> tuple[kernel.Outcome, _Days]:
        walking = self._row < self._end
        if self.config.execution_lag:
            self._held = np.where(walking[:, None], weights, self._held)
        next_row = self._row + walking
        returns_t1 = self._returns[next_row] * walking[:, None]
        volatility_t = self.market.volatility[self._row]
        state, outcome = kernel.step(self._state, weights, returns_t1, volatility_t, self.costs)
        if not walking.all():  # a portfolio past its end stands still, to the bit
            state = kernel.PortfolioState(
                np.where(walking, state.wealth, self._state.wealth),
                np.where(walking[:, None], state.weights, self._state.weights),
            )
            outcome = outcome._replace(growth=np.where(walking, outcome.growth, 1.0))
        self._state = state
        if not (outcome.growth > 0.0).all():
            raise ConfigError(
                f"impact must leave wealth positive, got a trading cost of {outcome.cost.max():.3g} "
                f"({self.market.dates[self._row[np.argmax(outcome.cost)]]}). Lower impact or max_turnover."
            )
        self._row = next_row
        return outcome, _Days(outcome.growth, (1.0 + returns_t1).mean(-1), 1.0 + returns_t1)


def decision_rows(market: MarketData, window: Window, execution_lag: int) -> tuple[int, int]:
    """First decision row and last row of a window.

    Raises:
        ConfigError: If the window reaches outside the rows at which features exist, or holds no day.
    """
    start, stop = window
    first_possible = market.first_row + execution_lag
    if start - 1 < first_possible or stop > market.num_days or stop <= start:
        raise ConfigError(
            f"window must lie between {market.dates[min(first_possible + 1, market.num_days - 1)]} and "
            f"{market.dates[-1]}, got rows {start} to {stop} of {market.num_days}. Features need {first_possible + 1} "
            "days before the first return; move the window or shorten the feature windows."
        )
    return start - 1, stop - 1
