"""RLlib's env runner with independent random streams."""

from __future__ import annotations

from typing import Any

import numpy as np
from ray.rllib.env.single_agent_env_runner import SingleAgentEnvRunner

from rllib_portfolio.algorithms.shared_market import take_market

_EVALUATION_STREAM = 1_000_000


class SeededEnvRunner(SingleAgentEnvRunner):
    """RLlib's single-agent runner whose environments never share a random path.

    RLlib seeds runner k with seed + k, and a vector environment gives environment i the seed of its runner + i: the
    environments of neighbouring runners would repeat each other. Here the seed of a runner is drawn from (seed, k).
    """

    def __init__(self, *, config: Any, **kwargs: Any) -> None:
        super().__init__(config=config, **kwargs)
        if self._seed is not None:
            stream = (self.worker_index or 0) + _EVALUATION_STREAM * bool(config.in_evaluation)
            self._seed = stream_seed(config.seed, stream)

    def make_env(self) -> None:
        if self.worker_index:
            take_market(self.config.env_config.get("data"))
        super().make_env()


def stream_seed(seed: int, stream: int) -> int:
    """A seed for stream number `stream` of `seed`, 32 bits, far from the seeds of other streams."""
    return int(np.random.SeedSequence([seed, stream]).generate_state(1)[0])
