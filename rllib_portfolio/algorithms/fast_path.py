"""When the vectorised env runner may do what RLlib's does: what a runner is made of must be RLlib's defaults."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
from ray.rllib.callbacks.callbacks import RLlibCallback
from ray.rllib.env.single_agent_env_runner import SingleAgentEnvRunner

_DEFAULT_ENV_TO_MODULE = {
    "AddObservationsFromEpisodesToBatch",
    "AddTimeDimToBatchAndZeroPad",
    "AddStatesFromEpisodesToBatch",
    "BatchIndividualItems",
    "NumpyToTensor",
}
_DEFAULT_MODULE_TO_ENV = {
    "GetActions",
    "TensorToNumpy",
    "UnBatchToIndividualItems",
    "RemoveSingleTsTimeRankFromBatch",
    "NormalizeAndClipActions",
    "ListifyDataForVectorEnv",
}


def is_vectorisable(runner: SingleAgentEnvRunner) -> bool:
    """Whether nothing stands between a stateless module and a vector environment but RLlib's default connectors."""
    module, env = runner.module, runner.env
    if module is None or env is None or module.is_stateful() or runner.config.normalize_actions:
        return False
    return (
        _is_array_environment(env)
        and {type(piece).__name__ for piece in runner._env_to_module.connectors} <= _DEFAULT_ENV_TO_MODULE
        and {type(piece).__name__ for piece in runner._module_to_env.connectors} <= _DEFAULT_MODULE_TO_ENV
        and not _watches_steps(runner)
    )


def _is_array_environment(env: gym.vector.VectorEnv) -> bool:
    space = env.single_observation_space
    resets_by_a_step = env.metadata.get("autoreset_mode") == gym.vector.AutoresetMode.NEXT_STEP
    return isinstance(space, gym.spaces.Box) and space.dtype == np.float32 and resets_by_a_step


def _watches_steps(runner: SingleAgentEnvRunner) -> bool:
    return runner.config.callbacks_on_episode_step is not None or any(
        type(callbacks).on_episode_step is not RLlibCallback.on_episode_step for callbacks in runner._callbacks
    )
