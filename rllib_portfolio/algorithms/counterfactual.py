"""What other actions would have earned: the outcomes of a stored day for portfolios that were not held.

Prices do not answer to a small portfolio. So a day that was walked tells the reward and the next observation of every
action, not only of the one taken: the inputs are exogenous (Sinclair et al. 2023, "Hindsight Learning for MDPs with
Exogenous Inputs", arXiv 2207.06272). The environment's own simulation, set to where it stood, computes them exactly.
Actions of one day share its returns, so that what is learned of their difference is free of what the market did to all
of them.

Each day has the action taken, which keeps learning where the policy is; the one that holds, whose worth alone hangs on
the weights that are held, so that a policy that mistakes it for its target is stuck; and others at random.

What these would have led to is bootstrapped from, whether or not a policy ever goes there. So half of a day's actions
start one step later, from what an action at random would have left: the values of portfolios that nobody holds any
more, such as the cash that every episode begins with, are learned, not extrapolated.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from ray.rllib.core.columns import Columns

from rllib_portfolio.env.portfolio_env import PortfolioVectorEnv
from rllib_portfolio.env.simulation import Simulation

FloatArray = NDArray[np.floating[Any]]

PREFIX = "simulation/"
COLUMNS = tuple(PREFIX + name for name in Simulation.STATE)
"""Where each environment stood before its step: extra outputs of an env runner, [B, ...] each."""


def state_columns(simulation: Simulation) -> dict[str, NDArray[Any]]:
    """Where the portfolios of a simulation stand now, as `COLUMNS`."""
    return {PREFIX + name: values for name, values in simulation.get_state().items()}


class Counterfactuals:
    """Batches of B transitions over few days: each of them with several actions of its own.

    Args:
        simulation: B portfolios over the market, window and settings that the transitions were made with; discrete
            actions.
        num_actions: Of each day, at most all K.
        other_portfolios: Half of them from portfolios that were not held.
    """

    def __init__(self, simulation: Simulation, num_actions: int, other_portfolios: bool) -> None:
        table = simulation.table
        assert table is not None
        self._simulation, self._num_table, self._hold = simulation, table.num_actions, table.hold
        each = min(num_actions, self._num_table)
        self._num_elsewhere = each // 2 if other_portfolios else 0
        self._num_here = each - self._num_elsewhere
        self._days, place = np.divmod(np.arange(simulation.num_portfolios), each)
        """Of each row of a batch: which of the days drawn it is."""
        self._is_here = place < self._num_here
        """Of each row of a batch: whether it starts where the environment stood."""
        self._days_here = self._days[self._is_here]
        self._num_rows_here = np.bincount(self._days_here)
        self.num_days = int(self._days[-1]) + 1
        """Transitions to draw for a batch."""

    @classmethod
    def of(
        cls, env_config: Mapping[str, Any], batch_size: int, num_actions: int, other_portfolios: bool
    ) -> Counterfactuals:
        """For transitions of environments of this configuration."""
        return cls(PortfolioVectorEnv(batch_size, **env_config).simulation, num_actions, other_portfolios)

    def batch(self, drawn: Mapping[str, NDArray[Any]], generator: np.random.Generator) -> dict[str, NDArray[Any]]:
        """A batch of B rows from `num_days` transitions with their `COLUMNS`; importance weights are the days'."""
        repeated = {name: values[self._days] for name, values in drawn.items()}
        self._simulation.set_state({name: repeated.pop(PREFIX + name) for name in Simulation.STATE})
        actions = self._actions(drawn[Columns.ACTIONS], generator)
        if self._num_elsewhere:
            self._go_elsewhere(generator)
            repeated[Columns.OBS] = self._simulation.observe()
        rewards, _ = self._simulation.step(actions)
        return repeated | {
            Columns.ACTIONS: actions.astype(drawn[Columns.ACTIONS].dtype),
            Columns.REWARDS: rewards.astype(np.float32),
            Columns.NEXT_OBS: self._simulation.observe(),
        }

    def _actions(self, taken: NDArray[Any], generator: np.random.Generator) -> NDArray[np.int64]:
        """For each day the action taken, hold and others; then hold and others for elsewhere, [B]."""
        actions = self._hold_and_others(self._num_here, generator, taken)
        if self._num_elsewhere:
            actions = np.hstack([actions, self._hold_and_others(self._num_elsewhere, generator)])
        return actions.reshape(-1)[: len(self._days)]

    def _hold_and_others(
        self, number: int, generator: np.random.Generator, first: NDArray[Any] | None = None
    ) -> NDArray[np.int64]:
        """For each day so many actions without replacement, led by `first` and hold, [num_days, number]."""
        keys = generator.random((self.num_days, self._num_table))
        keys[:, self._hold] = -1.0
        if first is not None:
            keys[np.arange(self.num_days), first] = -2.0
        return np.argsort(keys, axis=1)[:, :number]

    def _go_elsewhere(self, generator: np.random.Generator) -> None:
        """The other rows take a step at random, where their episodes have another one after it."""
        before = self._simulation.get_state()
        _, is_over = self._simulation.step(generator.integers(self._num_table, size=len(self._days)))
        stays = self._is_here | is_over
        state = self._simulation.get_state()
        for name, values in state.items():
            values[stays] = before[name][stays]
        self._simulation.set_state(state)

    def by_day(self, td_errors: FloatArray) -> FloatArray:
        """Mean absolute TD error of each day's actions where it stood, [num_days], from those of a batch, [B]."""
        return np.bincount(self._days_here, weights=np.abs(td_errors)[self._is_here]) / self._num_rows_here
