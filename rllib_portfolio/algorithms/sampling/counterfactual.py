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

from rllib_portfolio.arrays import FloatArray
from rllib_portfolio.env.action_map import ActionTable
from rllib_portfolio.env.portfolio_env import PortfolioVectorEnv
from rllib_portfolio.env.simulation import Simulation

PREFIX = "simulation/"
COLUMNS = tuple(PREFIX + name for name in Simulation.STATE)
"""Where each environment stood before its step: extra outputs of an env runner, [B, ...] each."""


def state_columns(simulation: Simulation) -> dict[str, NDArray[Any]]:
    """Where the portfolios of a simulation stand now, as `COLUMNS`."""
    return {PREFIX + name: values for name, values in simulation.get_state().items()}


def _table(simulation: Simulation) -> ActionTable:
    table = simulation.action_map
    assert isinstance(table, ActionTable)
    return table


class Counterfactuals:
    """S days with A actions each, of transitions that were made one by one.

    Args:
        here: S portfolios over the market, window and settings that the transitions were made with; discrete actions.
        all_actions: S A of the same.
        other_portfolios: Each day starts a step later with probability 1/2, from what an action at random left.
        looks_ahead: Whether batches hold next observations, which a learner without a discount does not read.
    """

    def __init__(
        self, here: Simulation, all_actions: Simulation, other_portfolios: bool, looks_ahead: bool = True
    ) -> None:
        table = _table(here)
        self._here, self._all, self._other_portfolios = here, all_actions, other_portfolios
        self._looks_ahead = looks_ahead
        self._num_table, self._hold = table.num_actions, table.hold
        self._num_actions = all_actions.num_portfolios // here.num_portfolios

    @classmethod
    def of(
        cls,
        env_config: Mapping[str, Any],
        num_days: int,
        num_actions: int,
        other_portfolios: bool,
        looks_ahead: bool = True,
    ) -> Counterfactuals:
        """For transitions of environments of this configuration; so many actions, or all if there are fewer."""
        here = PortfolioVectorEnv(num_days, **env_config).simulation
        each = min(num_actions, _table(here).num_actions)
        everything = PortfolioVectorEnv(num_days * each, **env_config).simulation
        return cls(here, everything, other_portfolios, looks_ahead)

    def batch(self, drawn: Mapping[str, NDArray[Any]], generator: np.random.Generator) -> dict[str, NDArray[Any]]:
        """S transitions with their `COLUMNS`, as S observations with A actions, rewards and next observations each."""
        batch = dict(drawn)
        self._here.set_state({name: batch.pop(PREFIX + name) for name in Simulation.STATE})
        taken = drawn[Columns.ACTIONS]
        if self._other_portfolios:
            batch[Columns.OBS] = self._go_elsewhere(generator)
        actions = self._actions(taken, generator)
        state = self._here.get_state()
        self._all.set_state({name: values.repeat(self._num_actions, 0) for name, values in state.items()})
        rewards, _ = self._all.step(actions.reshape(-1))
        batch[Columns.ACTIONS] = actions.astype(taken.dtype)
        batch[Columns.REWARDS] = rewards.astype(np.float32).reshape(actions.shape)
        if self._looks_ahead:
            batch[Columns.NEXT_OBS] = self._all.observe().reshape(*actions.shape, -1)
        return batch

    def _actions(self, taken: NDArray[Any], generator: np.random.Generator) -> NDArray[np.int64]:
        """For each day all actions; or the one taken, hold and others without replacement, [S, A]."""
        if self._num_actions == self._num_table:
            return np.tile(np.arange(self._num_table), (len(taken), 1))
        keys = generator.random((len(taken), self._num_table))
        keys[:, self._hold] = -1.0
        keys[np.arange(len(taken)), taken] = -2.0
        return np.argsort(keys, axis=1)[:, : self._num_actions]

    def _go_elsewhere(self, generator: np.random.Generator) -> FloatArray:
        """Half of the days take a step at random, if their episodes go on after it; observations [S, D] of all."""
        before = self._here.get_state()
        num_days = self._here.num_portfolios
        _, is_over = self._here.step(generator.integers(self._num_table, size=num_days))
        stays = is_over | (generator.random(num_days) < 0.5)
        state = self._here.get_state()
        for name, values in state.items():
            values[stays] = before[name][stays]
        self._here.set_state(state)
        return self._here.observe()
