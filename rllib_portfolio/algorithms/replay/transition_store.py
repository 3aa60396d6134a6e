"""A ring buffer of transitions in arrays, which stores each observation once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from ray.rllib.env.single_agent_episode import SingleAgentEpisode

from rllib_portfolio.errors import ConfigError

IntArray = NDArray[np.integer[Any]]
NO_ROW = -1
_CODEC = "zstd"
_COLUMNS = ("observations", "actions", "rewards", "terminated", "next_rows")


class Rows(NamedTuple):
    """The rows that an addition changed."""

    written: IntArray
    """Rows that were written or overwritten."""
    with_transition: IntArray
    """Rows at which a transition starts because of the addition."""


class Transitions(NamedTuple):
    """B transitions over up to n steps."""

    observations: NDArray[Any]
    actions: NDArray[Any]
    rewards: NDArray[np.float32]
    """sum_{k < m} gamma^k r_{t+k}, where m <= n is the number of steps that the episode has from t on."""
    terminated: NDArray[np.bool_]
    num_steps: IntArray
    """The number of steps m."""
    next_observations: NDArray[Any]
    """o_{t+m}."""
    extra: dict[str, NDArray[Any]]
    """Values of each extra column at o_t."""


class TransitionStore:
    """The last `capacity` observations of any number of episodes, and the transitions between them.

    Row i holds an observation, the action taken there, its reward, and the row of the next observation. An episode's
    last observation has a row but no transition. Episodes may come in chunks: a chunk continues at the last row of the
    chunk before it, unless a chunk between them was lost. Rows are overwritten in the order in which they were written,
    so that a transition disappears before the observation that it leads to.

    Args:
        capacity: Number of rows.
        extra_columns: Names of the episodes' extra model outputs to store.
    """

    def __init__(self, capacity: int, extra_columns: Sequence[str] = ()) -> None:
        self.capacity = capacity
        self.extra = {name: np.empty(0) for name in extra_columns}
        self.num_transitions = 0
        self.num_added = 0
        self.observations = self.actions = np.empty(0)
        self.rewards = np.zeros(capacity, dtype=np.float32)
        self.terminated = np.zeros(capacity, dtype=np.bool_)
        self.next_rows = np.full(capacity, NO_ROW, dtype=np.int32)
        self._head = 0
        self._num_rows = 0
        self._open_rows: dict[str, tuple[int, int]] = {}
        """Last row of each unfinished episode, and the time step of the observation in that row."""

    def add(self, episodes: Sequence[SingleAgentEpisode]) -> Rows:
        """Append episode chunks.

        Raises:
            ValueError: If the chunks together have more observations than `capacity`.
        """
        episodes = [episode for episode in episodes if len(episode)]
        most_rows = sum(len(episode) + 1 for episode in episodes)
        if most_rows > self.capacity:
            raise ValueError(
                f"capacity must hold a whole addition of {most_rows} observations, got {self.capacity}. Raise "
                "the capacity, or sample smaller fragments."
            )
        self._forget_open_rows(most_rows)
        chains = [self._write(episode) for episode in episodes]
        if not chains:
            nothing = np.empty(0, dtype=np.int64)
            return Rows(nothing, nothing)
        return Rows(
            written=np.concatenate([rows for rows, _ in chains]),
            with_transition=np.concatenate([chain[:-1] for _, chain in chains]),
        )

    def fits(self, episode: SingleAgentEpisode) -> bool:
        """Return whether the observations of an episode chunk have the shape of those in the store."""
        return not self._num_rows or self.observations.shape[1:] == np.shape(episode.get_observations(0))

    def n_step(self, rows: IntArray, num_steps: int, gamma: float) -> Transitions:
        """Return the transitions that start at some rows, each over up to `num_steps` steps.

        A transition has fewer steps if its episode ends earlier, or if the later steps of an unfinished episode are not
        stored yet. In all cases, its next observation is the one after its last step.

        Args:
            rows: Rows at which transitions start, [B].
            num_steps: Largest number of steps n, at least 1.
            gamma: Discount per step, in [0, 1].
        """
        rewards = np.zeros(len(rows))
        steps = np.zeros(len(rows), dtype=np.int64)
        terminated = np.zeros(len(rows), dtype=np.bool_)
        row = rows
        goes_on = np.ones(len(rows), dtype=np.bool_)
        for k in range(num_steps):
            rewards += np.where(goes_on, gamma**k * self.rewards[row], 0.0)
            steps += goes_on
            terminated |= goes_on & self.terminated[row]
            row = np.where(goes_on, self.next_rows[row], row)
            goes_on &= self.next_rows[row] != NO_ROW
        return Transitions(
            observations=self.observations[rows],
            actions=self.actions[rows],
            rewards=rewards.astype(np.float32),
            terminated=terminated,
            num_steps=steps,
            next_observations=self.observations[row],
            extra={name: column[rows] for name, column in self.extra.items()},
        )

    def get_state(self) -> dict[str, Any]:
        """Return the contents of the store, compressed."""
        return {
            "columns": {name: _compressed(getattr(self, name)[: self._num_rows]) for name in _COLUMNS},
            "extra": {name: _compressed(column[: self._num_rows]) for name, column in self.extra.items()},
            "capacity": self.capacity,
            "num_transitions": self.num_transitions,
            "num_added": self.num_added,
            "head": self._head,
            "num_rows": self._num_rows,
            "open_rows": dict(self._open_rows),
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Restore the contents that `get_state` returned.

        Raises:
            ConfigError: If the contents are of a store with another capacity or other extra columns.
        """
        if state["capacity"] != self.capacity:
            raise ConfigError(
                f"capacity must be that of the checkpoint, {state['capacity']}, got {self.capacity}. Leave it as it is."
            )
        extra = state.get("extra", {})
        if extra.keys() != self.extra.keys():
            raise ConfigError(
                f"extra columns must be those of the checkpoint, {sorted(extra)}, got {sorted(self.extra)}. Leave "
                "counterfactual_actions as it was, 0 if it was not there."
            )
        self._num_rows, self._head = state["num_rows"], state["head"]
        self.num_transitions, self.num_added = state["num_transitions"], state["num_added"]
        # older checkpoints have the row only: a later chunk of such an episode is stored as a new episode
        self._open_rows = {id_: place for id_, place in state["open_rows"].items() if isinstance(place, tuple)}
        for name in _COLUMNS:
            setattr(self, name, self._column(state["columns"][name], NO_ROW if name == "next_rows" else 0))
        self.extra = {name: self._column(values) for name, values in extra.items()}

    def _write(self, episode: SingleAgentEpisode) -> tuple[IntArray, IntArray]:
        """Store a chunk of T steps; return its new rows, and all of its T + 1 rows in order of time."""
        observations = np.asarray(episode.get_observations())
        actions = np.asarray(episode.get_actions())
        extra = {name: np.asarray(episode.get_extra_model_outputs(name)) for name in self.extra}
        if not self._num_rows:
            self._make_room(observations[0], actions[0], {name: values[0] for name, values in extra.items()})
        open_row, open_step = self._open_rows.pop(episode.id_, (NO_ROW, NO_ROW))
        is_continued = open_step == episode.t_started  # False if a chunk was lost in between
        rows = (self._head + np.arange(len(observations) - is_continued)) % self.capacity
        chain = np.concatenate([[open_row], rows]) if is_continued else rows
        self.num_transitions += len(episode) - int(np.count_nonzero(self.next_rows[rows] != NO_ROW))
        self.num_added += len(episode)
        self._head = int(rows[-1] + 1) % self.capacity
        self._num_rows = min(self.capacity, self._num_rows + len(rows))
        self.observations[rows] = observations[is_continued:]
        before, last = chain[:-1], chain[-1]
        self.actions[before] = actions
        for name, values in extra.items():
            self.extra[name][before] = values
        self.rewards[before] = np.asarray(episode.get_rewards())
        self.terminated[before] = False
        self.terminated[before[-1]] = episode.is_terminated
        self.next_rows[before] = chain[1:]
        self.next_rows[last] = NO_ROW
        if not episode.is_done:
            self._open_rows[episode.id_] = (int(last), episode.t)
        return rows, chain

    def _column(self, state: dict[str, Any], empty: int = 0) -> NDArray[Any]:
        values = _decompressed(state)
        column = np.full((self.capacity, *values.shape[1:]), empty, values.dtype)
        column[: self._num_rows] = values
        return column

    def _make_room(self, observation: NDArray[Any], action: NDArray[Any], extra: dict[str, NDArray[Any]]) -> None:
        self.observations = np.zeros((self.capacity, *observation.shape), observation.dtype)
        narrow = np.int32 if np.issubdtype(action.dtype, np.integer) else action.dtype
        self.actions = np.zeros((self.capacity, *action.shape), narrow)
        self.extra = {name: np.zeros((self.capacity, *value.shape), value.dtype) for name, value in extra.items()}

    def _forget_open_rows(self, num_rows: int) -> None:
        """Forget unfinished episodes whose last row is among the next `num_rows` to be overwritten.

        A later chunk of such an episode is stored as a new episode.
        """
        for id_, (row, _) in list(self._open_rows.items()):
            if (row - self._head) % self.capacity < num_rows:
                del self._open_rows[id_]


def _compressed(array: NDArray[Any]) -> dict[str, Any]:
    data = pa.compress(np.ascontiguousarray(array).view(np.uint8).reshape(-1), codec=_CODEC, asbytes=True)
    return {"data": data, "dtype": array.dtype.str, "shape": array.shape, "num_bytes": array.nbytes}


def _decompressed(state: dict[str, Any]) -> NDArray[Any]:
    if not state["num_bytes"]:
        return np.empty(state["shape"], state["dtype"])
    data = pa.decompress(state["data"], decompressed_size=state["num_bytes"], codec=_CODEC)
    return np.frombuffer(data, dtype=state["dtype"]).reshape(state["shape"])
