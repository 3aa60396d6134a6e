"""A fragment of B environments in time-major arrays, and how it is cut into episodes."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.env.utils.infinite_lookback_buffer import InfiniteLookbackBuffer


class Fragment:
    """Rows of B environments; row r holds the transition from observation r to observation r + 1.

    A row in which an environment is only reset (`AutoresetMode.NEXT_STEP`) is no transition of that environment.

    Args:
        num_envs: B.
        rows: Rows to make room for; more are made when needed.
    """

    def __init__(self, num_envs: int, rows: int) -> None:
        self.num_envs = num_envs
        self.num_rows = 0
        self.num_transitions = 0
        self._capacity = rows + 4
        self._arrays: dict[str, NDArray[Any]] = {}
        self._output_names: list[str] = []

    @property
    def actions(self) -> NDArray[Any]:
        """[R, B, ...] as sampled."""
        return self._arrays["actions"][: self.num_rows]

    @property
    def outputs(self) -> dict[str, NDArray[Any]]:
        """The module's outputs, each [R, B, ...]."""
        return {name: self._arrays[name][: self.num_rows] for name in self._output_names}

    def append(
        self,
        observations: NDArray[Any],
        actions: NDArray[Any],
        rewards: NDArray[Any],
        terminated: NDArray[np.bool_],
        truncated: NDArray[np.bool_],
        outputs: Mapping[str, NDArray[Any]],
        is_transition: NDArray[np.bool_],
    ) -> None:
        """One vector step, all arguments with leading axis B."""
        values = {
            "observations": observations,
            "actions": actions,
            "rewards": rewards,
            "terminated": terminated,
            "truncated": truncated,
            "is_transition": is_transition,
            **outputs,
        }
        if not self._arrays:
            self._output_names = list(outputs)
            self._arrays = {
                name: np.empty((self._capacity + 1, *value.shape), value.dtype) for name, value in values.items()
            }
        elif self.num_rows == self._capacity:
            self._grow()
        for name, value in values.items():
            self._arrays[name][self.num_rows] = value
        self.num_rows += 1
        self.num_transitions += int(np.count_nonzero(is_transition))

    def finish(self, observations: NDArray[Any]) -> None:
        """Add the observations after the last step."""
        self._arrays["observations"][self.num_rows] = observations

    def env_major(self, name: str) -> NDArray[Any]:
        """[B, R, ...] contiguous, observations [B, R + 1, ...]: the one copy that episodes are views of."""
        rows = self.num_rows + (name == "observations")
        return np.ascontiguousarray(self._arrays[name][:rows].swapaxes(0, 1))

    def _grow(self) -> None:
        self._capacity *= 2
        for name, array in self._arrays.items():
            larger = np.empty((self._capacity + 1, *array.shape[1:]), array.dtype)
            larger[: self.num_rows] = array[: self.num_rows]
            self._arrays[name] = larger


def cut_episodes(
    fragment: Fragment,
    episode_ids: Sequence[str],
    episode_steps: NDArray[np.integer[Any]],
    spaces: tuple[Any, Any],
    extra: Mapping[str, NDArray[Any]],
    constants: Mapping[str, Any],
) -> tuple[list[tuple[int, SingleAgentEpisode]], list[str], NDArray[np.int64]]:
    """Cut a fragment at episode boundaries.

    Args:
        fragment: A finished fragment of R rows.
        episode_ids: Identifiers of the episodes under way when it began, B.
        episode_steps: Steps that these had made before, [B].
        spaces: Observation and action space of one environment.
        extra: More outputs, each [R, B, ...].
        constants: Outputs that are the same at every step.

    Returns:
        Pairs of environment and episode chunk, by environment, then time; identifiers and steps of the episodes under
        way at the end.
    """
    columns = {name: fragment.env_major(name) for name in ("observations", "actions", "rewards")}
    is_transition, terminated, truncated = (
        fragment.env_major(name) for name in ("is_transition", "terminated", "truncated")
    )
    outputs = {name: fragment.env_major(name) for name in fragment.outputs}
    outputs |= {name: np.ascontiguousarray(array.swapaxes(0, 1)) for name, array in extra.items()}
    ids, steps = list(episode_ids), episode_steps.copy()
    episodes = []
    for index in range(fragment.num_envs):
        for start, stop in _runs(is_transition[index]):
            last = stop - 1
            episode = _episode(
                {name: array[index, start : stop + (name == "observations")] for name, array in columns.items()},
                {name: array[index, start:stop] for name, array in outputs.items()}
                | {name: np.full(stop - start, value) for name, value in constants.items()},
                spaces,
                id_=ids[index],
                t_started=int(steps[index]),
                terminated=bool(terminated[index, last]),
                truncated=bool(truncated[index, last]),
            )
            episodes.append((index, episode))
            if episode.is_done:
                ids[index], steps[index] = uuid.uuid4().hex, 0
            else:
                steps[index] += stop - start
    return episodes, ids, steps


def _runs(is_transition: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Half-open ranges of consecutive transitions."""
    breaks = np.flatnonzero(~is_transition)
    edges = [-1, *breaks.tolist(), len(is_transition)]
    return [(left + 1, right) for left, right in pairwise(edges) if right > left + 1]


def _episode(
    columns: Mapping[str, NDArray[Any]], outputs: Mapping[str, NDArray[Any]], spaces: tuple[Any, Any], **kwargs: Any
) -> SingleAgentEpisode:
    """An episode whose buffers are the given arrays, uncopied."""
    return SingleAgentEpisode(
        observation_space=spaces[0],
        action_space=spaces[1],
        infos=InfiniteLookbackBuffer([{}] * len(columns["observations"])),
        extra_model_outputs={name: InfiniteLookbackBuffer(array) for name, array in outputs.items()},
        len_lookback_buffer=0,
        **{name: InfiniteLookbackBuffer(array) for name, array in columns.items()},
        **kwargs,
    )
