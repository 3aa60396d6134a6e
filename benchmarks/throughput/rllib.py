"""PPO and DQN in RLlib: with this package's env runner, learner and replay buffer, and as RLlib comes.

All sides of an algorithm build the same configuration. Stock PPO takes RLlib's own algorithm class, env runner, learner
and callbacks; the environment and the network remain ours. DQN makes one gradient step on 64 transitions for every 4
environment steps over 8 environments; ours alone has noisy streams, about twice the arithmetic of the others' plain
layers.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import ray
from ray.rllib.execution.rollout_ops import synchronous_parallel_sample
from ray.rllib.utils.metrics import ENV_RUNNER_RESULTS

from benchmarks.peers import stock_dqn_config, stock_ppo_config
from benchmarks.throughput.contenders import Contender
from benchmarks.throughput.setting import Setting, dqn_config, ppo_config
from rllib_portfolio.algorithms.dqn import algorithm as dqn
from rllib_portfolio.algorithms.ppo import algorithm as ppo


class Ours(Contender):
    """PPO of this package: `resources.env_runner: vectorised`, `resources.learner: fused`."""

    run_config: ClassVar[Callable[[Setting], Any]] = ppo_config
    algorithm_config: ClassVar[Callable[[Any, Path], Any]] = ppo.algorithm_config

    def __init__(self, setting: Setting, market_path: Path) -> None:
        ray.init(
            num_cpus=setting.num_env_runners + 1,
            num_gpus=int(setting.device != "cpu"),
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
        )
        self._batch_size, self._num_steps = setting.batch_size, 0
        kind = type(self)
        self._algorithm = self._changed(kind.algorithm_config(kind.run_config(setting), market_path)).build_algo()

    def sample(self) -> int:
        episodes, _ = synchronous_parallel_sample(
            worker_set=self._algorithm.env_runner_group,
            max_env_steps=self._batch_size,
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

    def _changed(self, config: Any) -> Any:
        return config


class Stock(Ours):
    """RLlib's own `PPO`, env runner, learner and callbacks, over our vector environment."""

    algorithm_config = stock_ppo_config


class StockSync(Stock):
    """The same over scalar environments in Gymnasium's `SyncVectorEnv`, RLlib's default."""

    def _changed(self, config: Any) -> Any:
        return config.env_runners(gym_env_vectorize_mode="sync")


class OursDQN(Ours):
    """DQN of this package, with its buffer, learner and env runner."""

    run_config = dqn_config
    algorithm_config = dqn.algorithm_config


class StockDQN(OursDQN):
    """RLlib's own DQN, `PrioritizedEpisodeReplayBuffer` and env runner, over our vector environment."""

    algorithm_config = stock_dqn_config
