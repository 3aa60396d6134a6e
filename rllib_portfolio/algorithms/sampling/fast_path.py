"""Checks of whether the vectorised env runner may replace RLlib's sampling loop.

It may if the module is stateless, the connectors are RLlib's defaults, and all classes that read episodes are known to
work with fragments. Otherwise RLlib's own loop samples, so that callbacks, connectors and learners get complete data.

Episodes then hold observations by reference (see `ObservationLayout.refer`) if no such class reads whole ones.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import gymnasium as gym
import numpy as np
from ray.rllib.callbacks.callbacks import RLlibCallback
from ray.rllib.connectors.env_to_module import (
    AddObservationsFromEpisodesToBatch,
    AddStatesFromEpisodesToBatch,
    AddTimeDimToBatchAndZeroPad,
    BatchIndividualItems,
    NumpyToTensor,
)
from ray.rllib.connectors.module_to_env import (
    GetActions,
    ListifyDataForVectorEnv,
    NormalizeAndClipActions,
    RemoveSingleTsTimeRankFromBatch,
    TensorToNumpy,
    UnBatchToIndividualItems,
)
from ray.rllib.core.rl_module.torch import TorchRLModule
from ray.rllib.env.single_agent_env_runner import SingleAgentEnvRunner

from rllib_portfolio.env.portfolio_env import PortfolioVectorEnv

logger = logging.getLogger(__name__)

Class = TypeVar("Class", bound=type)

_DEFAULT_ENV_TO_MODULE: list[type] = [
    AddObservationsFromEpisodesToBatch,
    AddTimeDimToBatchAndZeroPad,
    AddStatesFromEpisodesToBatch,
    BatchIndividualItems,
    NumpyToTensor,
]
_DEFAULT_MODULE_TO_ENV: list[type] = [
    GetActions,
    TensorToNumpy,
    UnBatchToIndividualItems,
    RemoveSingleTsTimeRankFromBatch,
    NormalizeAndClipActions,
    ListifyDataForVectorEnv,
]
_EPISODE_EVENTS = ("on_episode_created", "on_episode_start", "on_episode_step", "on_episode_end", "on_sample_end")
_MARK = "_reads_fragments"


class _Reads(NamedTuple):
    """What a class reads of fragments."""

    infos: bool = True
    observations: bool = True


def reads_fragments(*, infos: bool = True, observations: bool = True) -> Callable[[Class], Class]:
    """Return a decorator that marks a class of callbacks, learners or algorithms as working with fragments.

    With a class that has no mark, every step is sampled through RLlib's own loop, which is slower. Subclasses do not
    inherit the mark. The episodes of the vectorised env runner differ from those of RLlib's loop: callbacks are called
    when a fragment is cut, with the whole chunk of the episode and after later steps of the environments, and never at
    a single step; and chunks have no lookback.

    Args:
        infos: Whether the class reads the infos of every step. If no class does, only the last info of an episode is
            kept.
        observations: Whether the class reads whole observations. If no class does, episodes of our own environment hold
            them by reference, so that they do not grow with the number of features.
    """

    def mark(cls: Class) -> Class:
        setattr(cls, _MARK, _Reads(infos, observations))
        return cls

    return mark


def is_vectorisable(runner: SingleAgentEnvRunner) -> bool:
    """Return whether fragments can be sampled without RLlib's loop; log a warning if unmarked classes prevent it."""
    if runner.module is None or not _has_default_parts(runner):
        return False
    readers = _unknown_readers(runner)
    if readers and not runner.worker_index and not runner.config.in_evaluation:
        logger.warning(
            "Warning: %s may read what the vectorised env runner leaves out of episodes, so it samples through RLlib's "
            "slower loop. A class for which whole fragments suffice can say so with @reads_fragments() of %s.",
            ", ".join(readers),
            __name__,
        )
    return runner.env is not None and _is_array_environment(runner.env) and not readers


def keeps_infos(runner: SingleAgentEnvRunner) -> bool:
    """Return whether a class of the env runner's configuration reads the infos of all steps."""
    readers = (*map(type, runner._callbacks), runner.config.learner_class, runner.config.algo_class)
    return any(_reads(reader).infos for reader in readers if _is_marked(reader))


def holds_references(runner: SingleAgentEnvRunner) -> bool:
    """Return whether a vectorisable env runner can hold observations by reference: no class reads whole ones."""
    env = runner.env.env
    if not isinstance(env, PortfolioVectorEnv) or not env.simulation.layout.has_references:
        return False
    watchers = [callbacks for callbacks in map(type, runner._callbacks) if _own_events(callbacks)]
    readers = (*watchers, runner.config.learner_class, runner.config.algo_class)
    return not any(_reads(reader).observations for reader in readers)


def _has_default_parts(runner: SingleAgentEnvRunner) -> bool:
    """Return whether the module is stateless and only RLlib's default connectors link it to the environment."""
    config, module = runner.config, runner.module
    return (
        not module.is_stateful()
        and type(module).forward_exploration is TorchRLModule.forward_exploration
        and config._env_to_module_connector is None
        and config._module_to_env_connector is None
        and [type(piece) for piece in runner._env_to_module.connectors] == _DEFAULT_ENV_TO_MODULE
        and [type(piece) for piece in runner._module_to_env.connectors] == _DEFAULT_MODULE_TO_ENV
        and not config.normalize_actions
        and config.episodes_to_numpy
        and config.episode_lookback_horizon == 1
        and config.custom_evaluation_function is None
    )


def _is_array_environment(env: gym.vector.VectorEnv) -> bool:
    space = env.single_observation_space
    resets_by_a_step = env.metadata.get("autoreset_mode") == gym.vector.AutoresetMode.NEXT_STEP
    return isinstance(space, gym.spaces.Box) and space.dtype == np.float32 and resets_by_a_step


def _unknown_readers(runner: SingleAgentEnvRunner) -> list[str]:
    """Return the names of callbacks, connectors and classes that may read episodes and may not work with fragments."""
    config = runner.config
    names = [event for event in _EPISODE_EVENTS if getattr(config, f"callbacks_{event}") is not None]
    names += [type(callbacks).__name__ for callbacks in runner._callbacks if _watches_episodes(type(callbacks))]
    if config._learner_connector is not None:
        names.append("learner_connector")
    readers = (config.learner_class, config.algo_class)
    return names + [reader.__name__ for reader in readers if not _is_rllibs(reader) and not _is_marked(reader)]


def _watches_episodes(callbacks: type) -> bool:
    own = _own_events(callbacks)
    return bool(own) and not (_is_marked(callbacks) and "on_episode_step" not in own)


def _own_events(callbacks: type) -> set[str]:
    return {event for event in _EPISODE_EVENTS if getattr(callbacks, event) is not getattr(RLlibCallback, event)}


def _is_marked(cls: Any) -> bool:
    return isinstance(cls, type) and _MARK in vars(cls)


def _reads(cls: Any) -> _Reads:
    """Return what a class reads; everything if it has no mark."""
    return vars(cls)[_MARK] if _is_marked(cls) else _Reads()


def _is_rllibs(cls: Any) -> bool:
    return cls is None or isinstance(cls, str) or cls.__module__.startswith("ray.rllib.algorithms.")
