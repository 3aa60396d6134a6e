"""What other actions would have earned: the outcomes of a stored day for all of them, and for portfolios not held.

Prices do not answer to a small portfolio. So a day that was walked tells the reward and the next observation of every
action, not only of the one taken: the inputs are exogenous (Sinclair et al. 2023, "Hindsight Learning for MDPs with
Exogenous Inputs", arXiv 2207.06272). The environment's own simulation, set to where it stood, computes them exactly.
Actions of one day share its returns, so that what is learned of their difference is free of what the market did to all
of them, and their values are one pass through the network.

Each day has all actions. Where they are too many it has the one taken, which keeps learning where the policy is; that
of holding, whose worth alone hangs on the weights that are held, so that a policy that mistakes it for its target is
stuck; and others at random.

What these would have led to is bootstrapped from, whether or not a policy ever goes there. So half of the days start
one step later, from what an action at random would have left: the values of portfolios that nobody holds any more, such
as the cash that every episode begins with, are learned, not extrapolated. A priority is that of a day, from wherever it
was learned last.
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
"""Where each environment stood before its step: extra outputs of an env runner, [B, ...] each."""


def state_columns(state: State) -> dict[str, NDArray[Any]]:
    """Return where portfolios stand as `COLUMNS`."""
    return {PREFIX + name: values for name, values in state._asdict().items()}


class Counterfactuals:
    """S days with A actions each, of transitions that were made one by one.

    Args:
        simulation: The market, window and settings that the transitions were made with; discrete actions.
        num_actions: A, or all of the table if there are fewer.
        other_portfolios: Each day starts a step later with probability 1/2, from what an action at random left.
        looks_ahead: Whether batches hold next observations, which a learner without a discount does not read.
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
        """Return those for transitions of environments of this configuration."""
        return cls(PortfolioVectorEnv(1, **env_config).simulation, num_actions, other_portfolios, looks_ahead)

    def batch(self, drawn: Mapping[str, NDArray[Any]], generator: np.random.Generator) -> dict[str, NDArray[Any]]:
        """S transitions with their `COLUMNS`, as S observations with A actions, rewards and next observations each."""
        batch = dict(drawn)
        state = State(*(batch.pop(name) for name in COLUMNS))
        taken = drawn[Columns.ACTIONS]
        if self._other_portfolios:
            state = self._elsewhere(state, generator)
            batch[Columns.OBS] = self._simulation.observe(state)
        actions = self._actions(taken, generator)
        everywhere = State(*(values.repeat(self._num_actions, 0) for values in state))
        after, rewards, _ = self._simulation.step(everywhere, actions.reshape(-1))
        batch[Columns.ACTIONS] = actions.astype(taken.dtype)
        batch[Columns.REWARDS] = rewards.astype(np.float32).reshape(actions.shape)
        if self._looks_ahead:
            batch[Columns.NEXT_OBS] = self._simulation.observe(after).reshape(*actions.shape, -1)
        return batch

    def _actions(self, taken: NDArray[Any], generator: np.random.Generator) -> NDArray[np.int64]:
        """For each day all actions; or the one taken, hold and others without replacement, [S, A]."""
        if self._num_actions == len(self._table):
            return np.tile(self._table, (len(taken), 1))
        keys = generator.random((len(taken), len(self._table)))
        keys[:, self._simulation.action_map.is_hold(self._table)] = -1.0
        keys[np.arange(len(taken)), taken] = -2.0
        return np.argsort(keys, axis=1)[:, : self._num_actions]

    def _elsewhere(self, state: State, generator: np.random.Generator) -> State:
        """Half of the days a step at random later, if their episodes go on after it."""
        after, *_ = self._simulation.step(state, generator.integers(len(self._table), size=len(state.row)))
        stays = after.is_over | (generator.random(len(state.row)) < 0.5)
        return with_rows(after, State(*(values[stays] for values in state)), stays)
