"""What the scalar and the vector environment share: episodes of a market, as functions of the portfolios' state.

A decision that is traded at the close of row t sees what was known at the close of row t - L (L the execution lag): the
features of that row, and the weights that were held after it (for L = 0 the drifted weights w'_t). It earns the returns
of row t + 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.error import InvalidAction
from numpy.typing import NDArray

from rllib_portfolio.arrays import FloatArray
from rllib_portfolio.config import EnvironmentConfig
from rllib_portfolio.env import kernel, transition
from rllib_portfolio.env.action_map import ActionMap, build_action_map
from rllib_portfolio.env.limits import bound_violation
from rllib_portfolio.env.observation import ObservationLayout
from rllib_portfolio.env.rewards import Reward, StepOutcome, build_reward
from rllib_portfolio.env.transition import HoldingPeriod, State, Terms
from rllib_portfolio.errors import ConfigError
from rllib_portfolio.market import MarketData, Window


@dataclass(frozen=True, slots=True, eq=False)
class Simulation:
    """Episodes over one window of one market. It holds no state: each method takes that of any number of portfolios.

    Attributes:
        market: The market that is walked.
        config: Costs, limits, action map, reward and episode length.
        first_decision: Row of the window's first decision.
        last_row: Last row whose returns are earned.
        random_start: Whether an episode starts at a random day of the window.
        terms: What the transition needs to know.
        layout: Which number of an observation means what.
        action_map: From actions to target weights.
        action_space: Actions of one portfolio.
        reward: Of a step.
    """

    market: MarketData
    config: EnvironmentConfig
    first_decision: int
    last_row: int
    random_start: bool
    terms: Terms
    layout: ObservationLayout
    action_map: ActionMap
    action_space: spaces.Space[Any]
    reward: Reward

    @classmethod
    def of(cls, market: MarketData, window: Window, config: EnvironmentConfig, random_start: bool) -> Simulation:
        """Return the episodes over `window`, the half-open range of rows whose returns may be earned.

        Raises:
            ConfigError: If the window is too short, or the costs do not match the assets.
        """
        first_decision, last_row = transition.decision_rows(market, window, config.execution_lag)
        action_map = build_action_map(config, market.assets)
        return cls(
            market=market,
            config=config,
            first_decision=first_decision,
            last_row=last_row,
            random_start=random_start,
            terms=Terms.of(market, config),
            layout=ObservationLayout(market),
            action_map=action_map,
            action_space=action_map.space,
            reward=build_reward(config),
        )

    def fresh(self, generators: Sequence[np.random.Generator]) -> State:
        """Return portfolios at the start of their episodes, each at a day drawn from its own generator."""
        days = self.last_row - self.first_decision
        length = min(self.config.episode_days or days, days)
        row = np.full(len(generators), self.first_decision)
        if self.random_start:
            row += [int(generator.integers(days - length + 1)) for generator in generators]
        return transition.initial_state(row, row + length, self.market.num_assets, self.reward.initial_state)

    def observe(self, state: State) -> NDArray[np.float32]:
        """Return what each policy sees, float32 [B, D]."""
        lag = self.config.execution_lag
        return self.layout.observe(state.row - lag, kernel.known_weights(state.weights, state.held, lag))

    def step(self, state: State, actions: NDArray[Any]) -> tuple[State, FloatArray, HoldingPeriod]:
        """Map actions [B, ...] to target weights, trade, and hold until the next decision.

        Returns:
            The next state, the rewards, float64 [B], and what was held and earned.

        Raises:
            InvalidAction: If an action is not in the action space; names the environment and the step.
            ConfigError: If a trade costs all wealth.
        """
        self._require_valid(state, actions)
        volatility = self.market.volatility[state.row - self.config.execution_lag]
        target = self.action_map.target(actions, state.weights, volatility)
        following, period = transition.step(state, target, self.terms)
        if not (period.growth > 0.0).all():
            raise ConfigError(
                f"impact must leave wealth positive, got a trading cost of {period.cost.max():.3g} "
                f"({self.market.dates[state.row[np.argmax(period.cost)]]}). Lower impact or max_turnover."
            )
        reward_state, reward = self.reward(state.reward_state, _step_outcome(period, following.wealth))
        return following._replace(reward_state=reward_state), reward, period

    def info(self, state: State, period: HoldingPeriod) -> dict[str, NDArray[Any]]:
        """Return where the portfolios stand and what they did last, arrays of the caller's own with leading axis B."""
        return {
            "date": self.market.dates[state.row],
            "wealth": state.wealth.copy(),
            "drifted_weights": state.weights.copy(),
            "weights": period.weights.copy(),
            "turnover": period.turnover,
            "cost": period.cost,
            "portfolio_return": period.growth - 1.0,
            "asset_returns": period.asset_growth - 1.0,
            "bound_violation": bound_violation(period.weights, self.config),
        }

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


def _step_outcome(period: HoldingPeriod, wealth: FloatArray) -> StepOutcome:
    """Return what a reward is a function of; `wealth` is that at the end of the period."""
    return StepOutcome(
        log_return=np.log(period.growth),
        benchmark_log_return=np.log(period.benchmark_growth),
        turnover=period.turnover,
        cost=period.cost,
        wealth=wealth,
        weights=period.weights,
        equal_weight_log_return=np.log(period.asset_growth[:, :-1].mean(-1)),
        cash_log_return=np.log(period.asset_growth[:, -1]),
    )
