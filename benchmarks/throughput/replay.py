"""Replay alone: draw a batch of 64 from a full buffer of 100000 transitions and give it new priorities.

A "step" here is one batch.
"""
# ruff: noqa: D102 - the methods are documented by `contenders.Contender`

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.utils.replay_buffers import PrioritizedEpisodeReplayBuffer

from benchmarks.throughput.setting import Setting
from rllib_portfolio.algorithms.replay.replay_buffer import ArrayEpisodeReplayBuffer

CAPACITY = 100_000
EPISODE_STEPS = 250
BATCHES_PER_CALL = 50


class Ours:
    """`ArrayEpisodeReplayBuffer`."""

    def __init__(self, setting: Setting, market_path: Path) -> None:
        self._setting = setting
        self._random = np.random.default_rng(0)
        before = _resident_memory_mb()
        self._buffer = self._make()
        for episode in self._episodes():
            self._buffer.add([episode])
        self.facts = {
            "buffer_mb": round(_resident_memory_mb() - before, 1),
            "observations_mb": round(CAPACITY * setting.observation_size * 4 / 2**20, 1),
        }

    def sample(self) -> int:
        raise NotImplementedError

    def train(self) -> int:
        size = self._setting.minibatch_size
        for _ in range(BATCHES_PER_CALL):
            self._buffer.sample(num_items=size, n_step=1, gamma=0.99, beta=0.4)
            self._buffer.update_priorities(self._random.random(size))
        return BATCHES_PER_CALL

    def close(self) -> None:
        pass

    def _make(self) -> Any:
        return ArrayEpisodeReplayBuffer(CAPACITY, alpha=0.6, seed=0)

    def _episodes(self) -> Iterator[SingleAgentEpisode]:
        for _ in range(CAPACITY // EPISODE_STEPS):
            size = (EPISODE_STEPS + 1, self._setting.observation_size)
            episode = SingleAgentEpisode(
                observations=list(self._random.standard_normal(size, dtype=np.float32)),
                actions=list(self._random.integers(27, size=EPISODE_STEPS)),
                rewards=list(self._random.standard_normal(EPISODE_STEPS)),
                infos=[{}] * (EPISODE_STEPS + 1),
                truncated=True,
                len_lookback_buffer=0,
            )
            yield episode.to_numpy()


class Stock(Ours):
    """RLlib's `PrioritizedEpisodeReplayBuffer`."""

    def _make(self) -> Any:
        return PrioritizedEpisodeReplayBuffer(CAPACITY, alpha=0.6)


def _resident_memory_mb() -> float:
    """Return the resident memory of this process now, MiB; it needs Linux."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS:"))
