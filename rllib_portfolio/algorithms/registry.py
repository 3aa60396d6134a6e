"""The training code of each algorithm: one module for each name of `config.registry.RUN_CONFIGS`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from rllib_portfolio.algorithms.apg import algorithm as apg
from rllib_portfolio.algorithms.dqn import algorithm as dqn
from rllib_portfolio.algorithms.ppo import algorithm as ppo
from rllib_portfolio.market import MarketData


class AlgorithmModule(Protocol):
    """The functions that an algorithm's module must have. Each `config` is the algorithm's own run configuration."""

    def build(self, config: Any, market_path: Path) -> Any:
        """Return RLlib's algorithm for a prepared market.

        Args:
            config: The run's configuration.
            market_path: File of the prepared market, which every env runner must be able to read.

        Raises:
            ConfigError: If the algorithm does not support a setting of RLlib's configuration, or if the environment's
                settings name a function that is not trusted.
        """
        ...

    def algorithm_config(self, config: Any, market_path: Path) -> Any:
        """Return RLlib's configuration of the algorithm that `build` returns.

        Args:
            config: The run's configuration.
            market_path: File of the prepared market, which every env runner must be able to read.

        Raises:
            ConfigError: If the environment's settings name a function that is not trusted.
        """
        ...

    def deciding_weights(self, weights: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the weights that the policy decides with, given the weights of the learners' module."""
        ...

    def start_notes(self, config: Any, market: MarketData) -> tuple[str, ...]:
        """Return the notes to print at the start of a run.

        Args:
            config: The run's configuration.
            market: Its market.
        """
        ...

    def learning_numbers(
        self, config: Any, market: MarketData, step_numbers: int, num_observed: int, num_hidden: int
    ) -> dict[str, float]:
        """Return how many single-precision numbers learning stores, by the name of the setting that determines them.

        Args:
            config: The run's configuration.
            market: Its market.
            step_numbers: Numbers stored per sampled step.
            num_observed: Length of an observation.
            num_hidden: Outputs of all hidden layers of the network for one observation.
        """
        ...


ALGORITHMS: dict[str, AlgorithmModule] = {"ppo": ppo, "dqn": dqn, "apg": apg}
