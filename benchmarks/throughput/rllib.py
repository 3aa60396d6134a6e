"""PPO in RLlib: with this package's env runner and learner, and as RLlib comes.

All sides build the same configuration. The stock sides take RLlib's own algorithm class, env runner, learner and
callbacks; the environment and the network remain ours.
"""
# ruff: noqa: D102 - the methods are documented by `contenders.Contender`

from __future__ import annotations

from pathlib import Path
from typing import Any

import ray
from ray.rllib.execution.rollout_ops import synchronous_parallel_sample
from ray.rllib.utils.metrics import ENV_RUNNER_RESULTS

from benchmarks.peers import stock_ppo_config
from benchmarks.throughput.setting import Setting, run_config
from rllib_portfolio.algorithms.ppo import algorithm as ppo


class Ours:
    """This package: `resources.env_runner: vectorised`, `resources.learner: fused`."""

    def __init__(self, setting: Setting, market_path: Path) -> None:
        ray.init(
            num_cpus=setting.num_env_runners + 1,
            num_gpus=int(setting.device != "cpu"),
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
        )
        self._setting = setting
        self._num_steps = 0
        self._algorithm = self._config(setting, market_path).build_algo()

    def sample(self) -> int:
        episodes, _ = synchronous_parallel_sample(
            worker_set=self._algorithm.env_runner_group,
            max_env_steps=self._setting.batch_size,
            _uses_new_env_runners=True,
            _return_metrics=True,
        )
        return sum(map(len, episodes))

    def train(self) -> int:
        before = self._num_steps
        result = self._algorithm.train()
        self._num_steps = int(result[ENV_RUNNER_RESULTS]["num_env_steps_sampled_lifetime"])
        return self._num_steps - before

    def close(self) -> None:
        self._algorithm.stop()
        ray.shutdown()

    def _config(self, setting: Setting, market_path: Path) -> Any:
        return ppo.algorithm_config(run_config(setting), market_path)


class Stock(Ours):
    """RLlib's own `PPO`, env runner, learner and callbacks, over our vector environment."""

    def _config(self, setting: Setting, market_path: Path) -> Any:
        return stock_ppo_config(run_config(setting), market_path)


class StockSync(Stock):
    """The same over scalar environments in Gymnasium's `SyncVectorEnv`, RLlib's default."""

    def _config(self, setting: Setting, market_path: Path) -> Any:
        return super()._config(setting, market_path).env_runners(gym_env_vectorize_mode="sync")
