"""The algorithms as the code that trains them: a module for each name of `config.registry.RUN_CONFIGS`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from rllib_portfolio.algorithms.dqn import algorithm as dqn
from rllib_portfolio.algorithms.ppo import algorithm as ppo
from rllib_portfolio.market import MarketData


class AlgorithmModule(Protocol):
    """What a run asks of an algorithm. Each function takes the algorithm's own run configuration."""

    def build(self, config: Any, market_path: Path) -> Any:
        """Return RLlib's algorithm over the prepared market at `market_path`."""
        ...

    def algorithm_config(self, config: Any, market_path: Path) -> Any:
        """Return RLlib's configuration of the same."""
        ...

    def deciding_weights(self, weights: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the weights that the policy decides with, of those of the learners' module."""
        ...

    def start_notes(self, config: Any, market: MarketData) -> tuple[str, ...]:
        """Return sentences for the start of a run."""
        ...

    def learning_numbers(
        self, config: Any, market: MarketData, step_numbers: int, num_observed: int, num_hidden: int
    ) -> dict[str, float]:
        """Return about how many numbers in single precision learning keeps, by the settings that they follow from.

        Args:
            config: The run's configuration.
            market: Its market.
            step_numbers: Numbers that a sampled step holds.
            num_observed: Numbers of an observation.
            num_hidden: Outputs of the network's hidden layers, for one observation.
        """
        ...


ALGORITHMS: dict[str, AlgorithmModule] = {"ppo": ppo, "dqn": dqn}
