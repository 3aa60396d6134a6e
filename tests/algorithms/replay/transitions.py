"""Episode chunks whose observations tell where they are from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from ray.rllib.env.single_agent_episode import SingleAgentEpisode


def chunk(
    id_: str,
    start: int,
    rewards: Sequence[float],
    *,
    offset: float = 0.0,
    terminated: bool = False,
    truncated: bool = False,
) -> SingleAgentEpisode:
    """Steps `start`, `start` + 1, ... of an episode: observation (offset + t, -t), action t mod 5."""
    times = start + np.arange(len(rewards) + 1)
    episode: Any = SingleAgentEpisode(
        id_=id_,
        observations=[np.array([offset + t, -t], dtype=np.float32) for t in times],
        actions=[np.int64(t % 5) for t in times[:-1]],
        rewards=[float(reward) for reward in rewards],
        infos=[{}] * len(times),
        terminated=terminated,
        truncated=truncated,
        len_lookback_buffer=0,
        t_started=start,
    )
    return episode.to_numpy()


def chunk_of(observations: NDArray[np.float32]) -> SingleAgentEpisode:
    """A whole episode with the given observations, [T + 1, ...]: action t at step t, rewards of 0."""
    num_steps = len(observations) - 1
    episode: Any = SingleAgentEpisode(
        observations=list(observations),
        actions=[np.int64(t) for t in range(num_steps)],
        rewards=[0.0] * num_steps,
        infos=[{}] * len(observations),
        truncated=True,
        len_lookback_buffer=0,
    )
    return episode.to_numpy()
