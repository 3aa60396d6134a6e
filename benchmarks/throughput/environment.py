"""The environment without a policy: the transition kernel, and the whole vector environment around it."""
# ruff: noqa: D102 - the methods are documented by `contenders.Contender`

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.throughput.setting import Setting
from rllib_portfolio.env import PortfolioVectorEnv, kernel
from rllib_portfolio.market import MarketData


class Kernel:
    """`kernel.step` on B portfolios that trade to changing targets, at proportional costs."""

    def __init__(self, setting: Setting, market_path: Path) -> None:
        market = MarketData.load(market_path)
        self._num_envs, self._rows = setting.num_envs, setting.rollout_steps
        self._returns = np.column_stack([market.returns, market.cash_returns])
        self._volatility = market.volatility
        self._costs = kernel.CostModel.from_bps(10.0, setting.num_assets)
        self._state = kernel.initial_state(setting.num_envs, setting.num_assets)
        shape = (self._rows, setting.num_envs, setting.action_size)
        self._targets = np.random.default_rng(0).dirichlet(np.ones(setting.action_size), shape[:2])

    def sample(self) -> int:
        state = self._state
        for row in range(self._rows):
            state, _ = kernel.step(
                state, self._targets[row], self._returns[row + 1], self._volatility[row], self._costs
            )
        return self._rows * self._num_envs

    def train(self) -> int:
        raise NotImplementedError

    def close(self) -> None:
        pass


class VectorEnvironment(Kernel):
    """`PortfolioVectorEnv.step` with actions drawn beforehand: action map, kernel, reward, observation and info."""

    def __init__(self, setting: Setting, market_path: Path) -> None:
        self._rows = setting.rollout_steps
        self._env = PortfolioVectorEnv(setting.num_envs, data=str(market_path))
        self._env.reset(seed=setting.seed)
        shape = (self._rows, setting.num_envs, setting.action_size)
        self._actions = np.random.default_rng(0).uniform(-1.0, 1.0, shape).astype(np.float32)
        self._finished = np.zeros(setting.num_envs, dtype=np.bool_)

    def sample(self) -> int:
        num_steps = 0
        for actions in self._actions:
            num_steps += len(actions) - int(np.count_nonzero(self._finished))
            _, _, _, self._finished, _ = self._env.step(actions)
        return num_steps
