"""Parts by themselves: the transition kernel, the vector environment, and a replay buffer, where a step is a batch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.utils.replay_buffers import PrioritizedEpisodeReplayBuffer

from benchmarks.throughput.contenders import Contender
from benchmarks.throughput.setting import Setting
from rllib_portfolio.algorithms.replay.replay_buffer import ArrayEpisodeReplayBuffer
from rllib_portfolio.env import PortfolioVectorEnv, kernel
from rllib_portfolio.market import MarketData

CAPACITY, EPISODE_STEPS = 100_000, 250
BATCHES_PER_CALL = 50


class Kernel(Contender):
    """`kernel.step` on B portfolios that trade to changing targets, at proportional costs."""

    def __init__(self, setting: Setting, market_path: Path) -> None:
        market = MarketData.load(market_path)
        self._returns = np.column_stack([market.returns, market.cash_returns])
        self._volatility = market.volatility
        self._costs = kernel.CostModel.from_bps(10.0, setting.num_assets)
        self._state = kernel.initial_state(setting.num_envs, setting.num_assets)
        shape = (setting.rollout_steps, setting.num_envs)
        self._targets = np.random.default_rng(0).dirichlet(np.ones(setting.action_size), shape)

    def sample(self) -> int:
        state = self._state
        for row, targets in enumerate(self._targets):
            state, _ = kernel.step(state, targets, self._returns[row + 1], self._volatility[row], self._costs)
        return self._targets.shape[0] * self._targets.shape[1]


class VectorEnvironment(Contender):
    """`PortfolioVectorEnv.step` with actions drawn beforehand: action map, kernel, reward, observation and info."""

    def __init__(self, setting: Setting, market_path: Path) -> None:
        self._env = PortfolioVectorEnv(setting.num_envs, data=str(market_path))
        self._env.reset(seed=setting.seed)
        shape = (setting.rollout_steps, setting.num_envs, setting.action_size)
        self._actions = np.random.default_rng(0).uniform(-1.0, 1.0, shape).astype(np.float32)
        self._finished = np.zeros(setting.num_envs, dtype=np.bool_)

    def sample(self) -> int:
        num_steps = 0
        for actions in self._actions:
            num_steps += len(actions) - int(np.count_nonzero(self._finished))
            _, _, _, self._finished, _ = self._env.step(actions)
        return num_steps


class Replay(Contender):
    """`ArrayEpisodeReplayBuffer`: draw a batch from a full buffer, and give it new priorities."""

    def __init__(self, setting: Setting, market_path: Path) -> None:
        self._batch_size = setting.minibatch_size
        self._random = np.random.default_rng(0)
        before = _resident_memory_mb()
        self._buffer = self._make()
        for episode in self._episodes(setting.observation_size):
            self._buffer.add([episode])
        self.facts = {
            "buffer_mb": round(_resident_memory_mb() - before, 1),
            "observations_mb": round(CAPACITY * setting.observation_size * 4 / 2**20, 1),
        }

    def train(self) -> int:
        for _ in range(BATCHES_PER_CALL):
            self._buffer.sample(num_items=self._batch_size, n_step=1, gamma=0.99, beta=0.4)
            self._buffer.update_priorities(self._random.random(self._batch_size))
        return BATCHES_PER_CALL

    def _make(self) -> Any:
        return ArrayEpisodeReplayBuffer(CAPACITY, alpha=0.6, seed=0)

    def _episodes(self, observation_size: int) -> Iterator[SingleAgentEpisode]:
        for _ in range(CAPACITY // EPISODE_STEPS):
            size = (EPISODE_STEPS + 1, observation_size)
            yield SingleAgentEpisode(
                observations=list(self._random.standard_normal(size, dtype=np.float32)),
                actions=list(self._random.integers(27, size=EPISODE_STEPS)),
                rewards=list(self._random.standard_normal(EPISODE_STEPS)),
                infos=[{}] * (EPISODE_STEPS + 1),
                truncated=True,
                len_lookback_buffer=0,
            ).to_numpy()


class StockReplay(Replay):
    """RLlib's `PrioritizedEpisodeReplayBuffer`."""

    def _make(self) -> Any:
        return PrioritizedEpisodeReplayBuffer(CAPACITY, alpha=0.6)


def _resident_memory_mb() -> float:
    """Return the resident memory of this process now, MiB; it needs Linux."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS:"))
