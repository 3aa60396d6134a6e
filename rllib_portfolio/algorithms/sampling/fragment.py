"""A fragment of B environments in time-major arrays, and its division into episodes."""

from __future__ import annotations

import copy
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.env.utils.infinite_lookback_buffer import InfiniteLookbackBuffer


class Transitions(NamedTuple):
    """The data of one vector step; all arrays have the leading axis B."""

    observations: NDArray[Any]
    """Observations before the step."""
    actions: NDArray[Any]
    """Actions as sampled, before clipping."""
    rewards: NDArray[Any]
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]


@dataclass
class Streams:
    """The state of B environments and their current episodes between two steps.

    Attributes:
        observations: Current observation of each environment, [B, ...].
        finished: Whether an environment's next step only resets it, [B].
        episode_ids: Identifiers of the current episodes, B.
        episode_steps: Number of steps of the current episodes when the fragment began, [B].
        infos: Infos of the current observations, B; empty dicts if no class reads infos.
        custom_data: Data that callbacks have stored with the current episodes, B.
    """

    observations: NDArray[Any]
    finished: NDArray[np.bool_] = field(init=False)
    episode_ids: list[str] = field(init=False)
    episode_steps: NDArray[np.int64] = field(init=False)
    infos: list[dict[str, Any]] = field(init=False)
    custom_data: list[dict[str, Any]] = field(init=False)

    def __post_init__(self) -> None:
        num_envs = len(self.observations)
        self.finished = np.zeros(num_envs, dtype=np.bool_)
        self.episode_ids = [uuid.uuid4().hex for _ in range(num_envs)]
        self.episode_steps = np.zeros(num_envs, dtype=np.int64)
        self.infos = [{} for _ in range(num_envs)]
        self.custom_data = [{} for _ in range(num_envs)]

    def get_state(self) -> dict[str, Any]:
        return {
            "observations": self.observations.copy(),
            "finished": self.finished.copy(),
            "episode_ids": list(self.episode_ids),
            "episode_steps": self.episode_steps.copy(),
            "infos": list(self.infos),
            "custom_data": copy.deepcopy(self.custom_data),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Streams:
        streams = cls(state["observations"].copy())
        streams.finished, streams.episode_steps = state["finished"].copy(), state["episode_steps"].copy()
        streams.episode_ids = list(state["episode_ids"])
        if "infos" in state:  # older checkpoints have neither infos nor custom data
            streams.infos, streams.custom_data = list(state["infos"]), copy.deepcopy(state["custom_data"])
        return streams


class Fragment:
    """R rows of vector steps; row r holds the transitions of B environments from observation r to observation r + 1.

    A row in which an environment is only reset (`AutoresetMode.NEXT_STEP`) is not a transition of that environment.

    Args:
        num_envs: B.
        rows: Number of rows to allocate; more are allocated when needed.
    """

    def __init__(self, num_envs: int, rows: int) -> None:
        self.num_envs = num_envs
        self.num_rows = 0
        self.num_transitions = 0
        self.infos: dict[tuple[int, int], dict[str, Any]] = {}
        """Infos by row and environment: those of all steps, or only of the last step of each finished episode."""
        self.times = [time.perf_counter()]
        """Clock time in seconds at the start and after each row."""
        self.inference_s = 0.0
        """Seconds spent in forward passes."""
        self._capacity = rows + 4
        self._arrays: dict[str, NDArray[Any]] = {}
        self._output_names: list[str] = []

    @property
    def actions(self) -> NDArray[Any]:
        """Actions as sampled, [R, B, ...]."""
        return self._arrays["actions"][: self.num_rows]

    @property
    def outputs(self) -> dict[str, NDArray[Any]]:
        """The module's outputs, each [R, B, ...]."""
        return {name: self._arrays[name][: self.num_rows] for name in self._output_names}

    def append(
        self, transitions: Transitions, outputs: Mapping[str, NDArray[Any]], is_transition: NDArray[np.bool_]
    ) -> None:
        """Append one vector step.

        Args:
            transitions: The data of the step.
            outputs: The module's outputs in this step, each [B, ...].
            is_transition: Whether the step was a transition of each environment, and not only a reset, [B].
        """
        values = {**transitions._asdict(), "is_transition": is_transition, **outputs}
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
        self.times.append(time.perf_counter())

    def keep_infos(self, is_kept: NDArray[np.bool_], infos: Sequence[dict[str, Any]]) -> None:
        """Keep the infos of the last step for some environments.

        Args:
            is_kept: Whether the infos of each environment are kept, [B].
            infos: Infos of the last step, B.
        """
        self.infos |= {(self.num_rows - 1, int(index)): infos[index] for index in np.flatnonzero(is_kept)}

    def chunk_infos(self, index: int, start: int, stop: int, before: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the infos of the stop - start + 1 observations of an episode chunk.

        If the fragment does not hold the infos of all steps, all infos but the last are empty.

        Args:
            index: Index of the environment.
            start: First row of the chunk.
            stop: Row after the last row of the chunk.
            before: Info of the environment's observation at the start of the fragment.
        """
        if len(self.infos) < self.num_rows * self.num_envs:
            return [{}] * (stop - start) + [self.infos.get((stop - 1, index), {})]
        first = self.infos[start - 1, index] if start else before
        return [first, *(self.infos[row, index] for row in range(start, stop))]

    def finish(self, observations: NDArray[Any]) -> None:
        """Add the observations after the last step, [B, ...]."""
        self._arrays["observations"][self.num_rows] = observations

    def env_major(self, name: str) -> NDArray[Any]:
        """Return a contiguous copy of one array, of which episodes become views.

        Its shape is [B, R, ...], and [B, R + 1, ...] for observations.
        """
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
    streams: Streams,
    spaces: tuple[Any, Any],
    extra: Mapping[str, NDArray[Any]],
    constants: Mapping[str, Any],
) -> list[tuple[int, SingleAgentEpisode]]:
    """Cut a fragment at episode boundaries, and update `streams` to the current episodes at the end of the fragment.

    Args:
        fragment: A finished fragment of R rows.
        streams: State of the environments, with the episodes that were current when the fragment began.
        spaces: Observation and action space of one environment.
        extra: Further outputs, each [R, B, ...].
        constants: Outputs that are the same at every step.

    Returns:
        Pairs of environment index and episode chunk, ordered by environment and then by time.
    """
    columns = {name: fragment.env_major(name) for name in (*Transitions._fields, "is_transition")}
    outputs = {name: fragment.env_major(name) for name in fragment.outputs}
    outputs |= {name: np.ascontiguousarray(array.swapaxes(0, 1)) for name, array in extra.items()}
    outputs |= {name: np.full(columns["is_transition"].shape, value) for name, value in constants.items()}
    episodes = []
    for index in range(fragment.num_envs):
        for start, stop in _runs(columns["is_transition"][index]):
            episode = _episode(
                {name: array[index, start : stop + (name == "observations")] for name, array in columns.items()},
                {name: array[index, start:stop] for name, array in outputs.items()},
                fragment.chunk_infos(index, start, stop, streams.infos[index]),
                spaces,
                id_=streams.episode_ids[index],
                t_started=int(streams.episode_steps[index]),
            )
            episode._start_time, episode._last_step_time = fragment.times[start], fragment.times[stop]
            episodes.append((index, episode))
            if episode.is_done:
                streams.episode_ids[index], streams.episode_steps[index] = uuid.uuid4().hex, 0
            else:
                streams.episode_steps[index] += stop - start
        streams.infos[index] = fragment.infos.get((fragment.num_rows - 1, index), {})
    return episodes


def _episode(
    columns: Mapping[str, NDArray[Any]],
    outputs: Mapping[str, NDArray[Any]],
    infos: list[dict[str, Any]],
    spaces: tuple[Any, Any],
    **kwargs: Any,
) -> SingleAgentEpisode:
    """Return an episode whose buffers are the given arrays, without a copy."""
    return SingleAgentEpisode(
        observation_space=spaces[0],
        action_space=spaces[1],
        observations=InfiniteLookbackBuffer(columns["observations"]),
        actions=InfiniteLookbackBuffer(columns["actions"]),
        rewards=InfiniteLookbackBuffer(columns["rewards"]),
        infos=InfiniteLookbackBuffer(infos),
        terminated=bool(columns["terminated"][-1]),
        truncated=bool(columns["truncated"][-1]),
        extra_model_outputs={name: InfiniteLookbackBuffer(array) for name, array in outputs.items()},
        len_lookback_buffer=0,
        **kwargs,
    )


def _runs(is_transition: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return the half-open ranges [start, stop) of consecutive transitions."""
    breaks = np.flatnonzero(~is_transition)
    edges = [-1, *breaks.tolist(), len(is_transition)]
    return [(left + 1, right) for left, right in pairwise(edges) if right > left + 1]
