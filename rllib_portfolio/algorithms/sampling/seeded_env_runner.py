"""RLlib's env runner with independent random streams, and with the extra outputs that our algorithms learn from."""

from __future__ import annotations

from typing import Any

import numpy as np
from ray.rllib.env.env_runner import ENV_STEP_FAILURE
from ray.rllib.env.single_agent_env_runner import SingleAgentEnvRunner
from ray.rllib.env.utils.infinite_lookback_buffer import InfiniteLookbackBuffer

from rllib_portfolio.algorithms.sampling.counterfactual import state_columns
from rllib_portfolio.algorithms.sampling.shared_market import take_market

_EVALUATION_STREAM = 1_000_000
ASSET_RETURNS = "asset_returns"
"""Name of the extra output that holds the asset returns of the step, [B, N + 1], cash last."""


class SeededEnvRunner(SingleAgentEnvRunner):
    """RLlib's single-agent env runner whose environments have independent random paths.

    RLlib seeds env runner k with seed + k, and a vector environment seeds its environment i with the env runner's seed
    + i, so that environments of neighbouring env runners would repeat each other. Here (seed, k) is hashed to the seed
    of env runner k.

    Episodes have additional extra model outputs: `asset_returns`, if the environment's infos hold it, and the
    environment's state before each step, if the configuration says that a learner `needs_states`.
    """

    def __init__(self, *, config: Any, **kwargs: Any) -> None:
        super().__init__(config=config, **kwargs)
        if self._seed is not None:
            stream = (self.worker_index or 0) + _EVALUATION_STREAM * bool(config.in_evaluation)
            self._seed = stream_seed(config.seed, stream)
        self._tells_state = getattr(config, "needs_states", False) and not config.in_evaluation
        """Whether a learner needs the environments' state before each step."""

    def make_env(self) -> None:
        if self.worker_index:
            take_market(self.config.env_config.get("data"))
        super().make_env()

    def _try_env_step(self, actions: Any) -> Any:
        before = self._states()
        results = super()._try_env_step(actions)
        if results == ENV_STEP_FAILURE:
            return results
        *_, infos = results
        for index, (episode, info) in enumerate(zip(self._ongoing_episodes, infos, strict=True)):
            if not episode.is_reset:  # the environment is only reset in this step
                continue
            outputs = {name: values[index] for name, values in before.items()}
            if ASSET_RETURNS in info:
                outputs[ASSET_RETURNS] = info[ASSET_RETURNS]
            for name, value in outputs.items():
                if name in episode.extra_model_outputs:
                    episode.extra_model_outputs[name].append(value)
                else:
                    episode.extra_model_outputs[name] = InfiniteLookbackBuffer([value])
        return results

    def _states(self) -> dict[str, Any]:
        """Return the current state of the environments, or nothing if no learner needs it."""
        return state_columns(self.env.unwrapped.state) if self._tells_state else {}


def stream_seed(seed: int, stream: int) -> int:
    """Return a 32-bit seed for one of the random streams of `seed`, unrelated to the seeds of the other streams.

    Args:
        seed: Seed that the streams share, at least 0.
        stream: Number of the stream, at least 0.
    """
    return int(np.random.SeedSequence([seed, stream]).generate_state(1)[0])
