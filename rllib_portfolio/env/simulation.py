"""The simulation behind the scalar and the vector environment: episodes as functions of the portfolios' state.

A decision that is traded at the close of row t uses the features of row t - L, where L is the execution lag, and the
weights that were held after the close of that row (for L = 0 the drifted weights w'_t). It earns the returns of row
t + 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.error import InvalidAction
from numpy.typing import NDArray

from rllib_portfolio.arrays import FloatArray
from rllib_portfolio.config import EnvironmentConfig
from rllib_portfolio.env import kernel, transition
from rllib_portfolio.env.action_map import ActionInputs
from rllib_portfolio.env.action_table import build_action_map
from rllib_portfolio.env.limits import bound_violation
from rllib_portfolio.env.observation import ObservationLayout
from rllib_portfolio.env.rewards import build_reward
from rllib_portfolio.env.transition import State, StepOutcome, Terms
from rllib_portfolio.errors import ConfigError
from rllib_portfolio.market import MarketData, Window


class Simulation:
    """Episodes over one window of one market; the methods take the state of any number of portfolios as an argument.

    Args:
        market: The market to simulate.
        window: Half-open range of rows whose returns may be earned.
        config: Costs, limits, action map, reward and episode length.
        random_start: Whether an episode starts at a random day of the window.

    Raises:
        ConfigError: If the window is too short, or the costs, the action table or the reward cannot be used.
    """

    def __init__(self, market: MarketData, window: Window, config: EnvironmentConfig, random_start: bool) -> None:
        self.market, self.window, self.config, self.random_start = market, window, config, random_start
        self.first_decision, self.last_row = transition.decision_rows(market, window, config.execution_lag)
        self.terms = Terms.of(market, config)
        self.layout = ObservationLayout(market)
        self.action_map = build_action_map(config, market.assets, market.asset_feature_names)
        self.action_space = self.action_map.space
        self.reward = build_reward(config)
        self._groups = None if self.terms.day is None else self.terms.day.groups
        self._tradable = None if market.universe is None else market.universe.tradable
        self._features = market.asset_features if self.action_map.needs_features else None

    def fresh(self, generators: Sequence[np.random.Generator]) -> State:
        """Return the state of new portfolios, one for each generator, which draws the first day if it is random."""
        days = self.last_row - self.first_decision
        length = min(self.config.episode_days or days, days)
        row = np.full(len(generators), self.first_decision)
        if self.random_start:
            row += [int(generator.integers(days - length + 1)) for generator in generators]
        return transition.initial_state(row, row + length, self.market.num_assets, self.reward.initial_state)

    def observe(self, state: State) -> NDArray[np.float32]:
        """Return the observation of each portfolio, float32 [B, D]."""
        return self.layout.observe(state.row - self.config.execution_lag, self._known(state))

    def refer(self, state: State) -> NDArray[np.float32]:
        """Return the observation of each portfolio by reference, float32 [B, N+2], see `ObservationLayout.refer`."""
        return self.layout.refer(state.row - self.config.execution_lag, self._known(state))

    def action_inputs(self, state: State) -> ActionInputs:
        """Return what the action map may use for the next decision of each portfolio."""
        rows = state.row - self.config.execution_lag
        tradable = None if self._tradable is None else self._tradable[rows]
        features = None if self._features is None else self._features[rows]
        return ActionInputs(self.terms.volatility.take(rows, axis=0), tradable, features, self._known(state))

    def step(self, state: State, actions: NDArray[Any]) -> tuple[State, FloatArray, StepOutcome]:
        """Map actions to target weights, trade, and hold until the next decision.

        Args:
            state: State of B portfolios.
            actions: Actions in the action space, with a leading axis B.

        Returns:
            The next state, the rewards, float64 [B], and the outcome of the step.

        Raises:
            InvalidAction: If an action is not in the action space; names the environment and the step.
            ConfigError: If a trade costs all wealth.
        """
        self._require_valid(state, actions)
        target = self.action_map.target(actions, state.weights, self.action_inputs(state))
        following, outcome = transition.step(state, target, self.terms)
        if not (outcome.growth > 0.0).all():
            raise ConfigError(
                f"impact must leave wealth positive, got a trading cost of {outcome.cost.max():.3g} "
                f"({self.market.dates[state.row[np.argmax(outcome.cost)]]}). Lower impact or max_turnover."
            )
        reward_state, reward = self.reward(state.reward_state, outcome)
        return following._replace(reward_state=reward_state), reward, outcome

    def info(self, state: State, outcome: StepOutcome) -> dict[str, NDArray[Any]]:
        """Return the `info` after a step or a reset: arrays with a leading axis B, which the caller may modify.

        Args:
            state: State of B portfolios after the step or the reset.
            outcome: Outcome of the step; `transition.nothing_done` after a reset.
        """
        return {
            "date": self.market.dates[state.row],
            "wealth": state.wealth.copy(),
            "drifted_weights": state.weights.copy(),
            "weights": outcome.weights.copy(),
            "turnover": outcome.turnover,
            "cost": outcome.cost,
            "portfolio_return": outcome.growth - 1.0,
            "asset_returns": outcome.asset_growth - 1.0,
            "bound_violation": bound_violation(outcome.weights, self.config, self._groups),
        }

    def _known(self, state: State) -> FloatArray:
        """Return the weights of each portfolio as known at the next decision, [B, N+1]."""
        return kernel.known_weights(state.weights, state.held, self.config.execution_lag)

    def _require_valid(self, state: State, actions: NDArray[Any]) -> None:
        shape = (len(state.row), *(self.action_space.shape or ()))
        if actions.shape != shape:
            raise InvalidAction(
                f"actions must have shape {shape}, got {actions.shape} (step {state.steps[0]}). Pass one row for each "
                "environment."
            )
        valid = self.action_map.contains(actions)
        if valid.all():
            return
        index = int(np.argmin(valid.reshape(len(valid), -1).all(-1)))
        raise InvalidAction(
            f"action must lie in {self.action_space}, got {actions[index]} (environment {index}, step "
            f"{state.steps[index]}). Clip it, or look for a NaN in the policy."
        )
