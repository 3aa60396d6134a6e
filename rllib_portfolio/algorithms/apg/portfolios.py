"""The portfolios that the learner simulates itself: their states, and the draws of their days."""

from __future__ import annotations

from typing import Any

import numpy as np

from rllib_portfolio.algorithms.sampling.seeded_env_runner import stream_seed
from rllib_portfolio.env.simulation import Simulation
from rllib_portfolio.env.transition import State, with_rows

STARTS_STREAM = 2_000_000
"""Number of the random stream of the starts; env runners have lower numbers."""


class Portfolios:
    """S x B portfolios that walk the market from horizon to horizon; those of each seed have a random stream.

    A portfolio begins an episode in cash on a random day. Its first episode is shortened at random, so that the
    portfolios do not all begin anew at the same time.

    Args:
        simulation: The simulation, with random starts.
        seeds: S seeds.
        num_each: Number B of portfolios of each seed.
        num_decisions: Number of decisions within a horizon.
    """

    def __init__(self, simulation: Simulation, seeds: range, num_each: int, num_decisions: int) -> None:
        self._simulation, self._num_each = simulation, num_each
        self._rows = num_decisions * simulation.config.rebalance_days
        self._generators = [np.random.default_rng(stream_seed(seed, STARTS_STREAM)) for seed in seeds]
        state = simulation.fresh(self._per_portfolio())
        spare = np.maximum(state.end - state.row - self._rows, 0)
        shorter = [generator.integers(spare[0] + 1, size=num_each) for generator in self._generators]
        self.state: State = state._replace(end=state.end - np.concatenate(shorter))

    def restart(self) -> State:
        """Begin a new episode where too little is left of the last one for a horizon, and return the state."""
        is_short = self.state.end - self.state.row < np.minimum(self._rows, self._longest())
        if is_short.any():
            which = np.flatnonzero(is_short)
            generators = self._per_portfolio()
            fresh = self._simulation.fresh([generators[index] for index in which])
            self.state = with_rows(self.state, fresh, which)
        return self.state

    def get_state(self) -> dict[str, Any]:
        """Return everything that later horizons depend on, as picklable values."""
        return {
            "state": self.state._asdict(),
            "generators": [generator.bit_generator.state for generator in self._generators],
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Restore a state that `get_state` returned."""
        self.state = State(**state["state"])
        for generator, bits in zip(self._generators, state["generators"], strict=True):
            generator.bit_generator.state = bits

    def _per_portfolio(self) -> list[np.random.Generator]:
        return [generator for generator in self._generators for _ in range(self._num_each)]

    def _longest(self) -> int:
        """Return the number of rows of an episode."""
        days = self._simulation.last_row - self._simulation.first_decision
        return min(self._simulation.config.episode_days or days, days)
