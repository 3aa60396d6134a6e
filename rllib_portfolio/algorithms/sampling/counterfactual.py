"""Outcomes of stored days for actions that were not taken, and for portfolios that were not held.

A small portfolio does not influence prices. A stored day therefore determines the reward and the next observation of
every action, not only of the action that was taken: the inputs are exogenous (Sinclair et al. 2023, "Hindsight Learning
for MDPs with Exogenous Inputs", arXiv 2207.06272). The environment's own simulation, set to the state before the step,
computes them exactly. All actions of a day share its returns, so that market noise does not affect the learned
differences between actions. One forward pass gives the values of all actions.

Each day is evaluated for all actions, or for a subset if there are too many. The subset holds the action that was
taken, so that learning covers the states and actions of the policy; the action of holding the current weights; and
random other actions. Holding is always included because, apart from costs, only its outcome depends on the held
weights: a policy that mistakes it for rebalancing to its target would never rebalance.

Targets bootstrap from the next portfolios of all these actions, including those that the policy never holds. Therefore
half of the days start one step later, from the portfolio after a random action. The values of rarely held portfolios,
such as the cash at the start of every episode, are thus learned instead of extrapolated. Each stored day has one
priority, which comes from the state in which it was last learned.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from ray.rllib.core.columns import Columns

from rllib_portfolio.env.portfolio_env import PortfolioVectorEnv
from rllib_portfolio.env.simulation import Simulation
from rllib_portfolio.env.transition import State, with_rows

PREFIX = "simulation/"
COLUMNS = tuple(PREFIX + name for name in State._fields)
"""Names of the extra outputs of an env runner that hold each environment's state before its step, [B, ...] each."""


def state_columns(state: State) -> dict[str, NDArray[Any]]:
    """Return the arrays of an environment state under the names of `COLUMNS`."""
    return {PREFIX + name: values for name, values in state._asdict().items()}


class Counterfactuals:
    """Converts batches of S transitions to batches of S days with A actions each.

    Args:
        simulation: The simulation in which the transitions were made, with discrete actions.
        num_actions: Largest A; A is smaller if the action table has fewer actions. Actions that cannot be traded are
            drawn only if there are no others; the learner leaves them out.
        other_portfolios: Whether half of the days, at random, start one step later from the portfolio after a random
            action.
        looks_ahead: Whether batches hold next observations. A learner with gamma 0 does not need them.
    """

    def __init__(
        self, simulation: Simulation, num_actions: int, other_portfolios: bool, looks_ahead: bool = True
    ) -> None:
        self._simulation, self._other_portfolios, self._looks_ahead = simulation, other_portfolios, looks_ahead
        self._table = np.arange(len(simulation.action_map.names))
        self._num_actions = min(num_actions, len(self._table))

    @classmethod
    def of(
        cls, env_config: Mapping[str, Any], num_actions: int, other_portfolios: bool, looks_ahead: bool = True
    ) -> Counterfactuals:
        """Return an instance for transitions of environments with the configuration `env_config`.

        Args:
            env_config: Arguments of `PortfolioVectorEnv`, with discrete actions.
            num_actions: Largest number of actions per day, A.
            other_portfolios: Whether half of the days start one step later, from the portfolio after a random action.
            looks_ahead: Whether batches hold next observations.
        """
        return cls(PortfolioVectorEnv(1, **env_config).simulation, num_actions, other_portfolios, looks_ahead)

    def batch(self, drawn: Mapping[str, NDArray[Any]], generator: np.random.Generator) -> dict[str, NDArray[Any]]:
        """Return a batch of S observations with A actions, rewards and next observations each.

        Observations are by reference if those of `drawn` are.

        Args:
            drawn: S transitions, with `COLUMNS`.
            generator: Draws the actions and the days that start one step later.
        """
        batch = dict(drawn)
        by_reference = drawn[Columns.OBS].shape[1:] != (len(self._simulation.layout.names),)
        observe = self._simulation.refer if by_reference else self._simulation.observe
        state = State(*(batch.pop(name) for name in COLUMNS))
        taken = drawn[Columns.ACTIONS]
        if self._other_portfolios:
            state = self._elsewhere(state, generator)
            batch[Columns.OBS] = observe(state)
        actions = self._actions(taken, self._available(state), generator)
        everywhere = State(*(values.repeat(self._num_actions, 0) for values in state))
        after, rewards, _ = self._simulation.step(everywhere, actions.reshape(-1))
        batch[Columns.ACTIONS] = actions.astype(taken.dtype)
        batch[Columns.REWARDS] = rewards.astype(np.float32).reshape(actions.shape)
        if self._looks_ahead:
            batch[Columns.NEXT_OBS] = observe(after).reshape(*actions.shape, -1)
        return batch

    def _available(self, state: State) -> NDArray[np.bool_] | None:
        """Return whether each action can be traded in each state, [S, K]; None if all can."""
        return self._simulation.action_map.available(self._simulation.action_inputs(state))

    def _actions(
        self, taken: NDArray[Any], available: NDArray[np.bool_] | None, generator: np.random.Generator
    ) -> NDArray[np.int64]:
        """Return the actions [S, A]: all of them, or those taken, hold, and others drawn without replacement."""
        if self._num_actions == len(self._table):
            return np.tile(self._table, (len(taken), 1))
        keys = generator.random((len(taken), len(self._table)))
        if available is not None:
            keys += ~available
        keys[:, self._simulation.action_map.is_hold(self._table)] = -1.0
        keys[np.arange(len(taken)), taken] = -2.0
        return np.argsort(keys, axis=1)[:, : self._num_actions]

    def _elsewhere(self, state: State, generator: np.random.Generator) -> State:
        """Return `state` with each day advanced by a random available action with probability 1/2, unless it ends."""
        available = self._available(state)
        if available is None:
            actions = generator.integers(len(self._table), size=len(state.row))
        else:
            actions = np.where(available, generator.random(available.shape), -1.0).argmax(-1)
        after, *_ = self._simulation.step(state, actions)
        stays = after.is_over | (generator.random(len(state.row)) < 0.5)
        return with_rows(after, State(*(values[stays] for values in state)), stays)
