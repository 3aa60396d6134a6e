"""RLlib: with this package's env runner and learner, and as it comes.

All sides build the same `PPOConfig` through `rllib_portfolio.algorithms.ppo.algorithm`. The stock sides then take
RLlib's own algorithm class, env runner, learner and callbacks; what is left of ours is the environment and the network.
"""
# ruff: noqa: D102 - the methods are documented by `contenders.Contender`

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import ray
import torch
from ray.rllib.algorithms.ppo import PPO
from ray.rllib.callbacks.callbacks import RLlibCallback
from ray.rllib.connectors.env_to_module import EnvToModulePipeline
from ray.rllib.connectors.learner import GeneralAdvantageEstimation, LearnerConnectorPipeline
from ray.rllib.connectors.module_to_env import ModuleToEnvPipeline
from ray.rllib.core.learner.learner import Learner
from ray.rllib.env.single_agent_env_runner import SingleAgentEnvRunner
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.execution.rollout_ops import synchronous_parallel_sample
from ray.rllib.utils.metrics import ENV_RUNNER_RESULTS

from benchmarks.throughput.setting import INITIAL_LOG_STD, LOGIT_SCALE, Setting
from benchmarks.throughput.stopwatch import Watched
from rllib_portfolio.algorithms.learning import train_batch
from rllib_portfolio.algorithms.learning.flat_parameters import FlatParameters
from rllib_portfolio.algorithms.ppo import algorithm as ppo
from rllib_portfolio.algorithms.ppo import learner as ppo_learner
from rllib_portfolio.algorithms.sampling import env_runner
from rllib_portfolio.config import (
    ContinuousEnvironmentConfig,
    MarketConfig,
    NetworkConfig,
    PPOConfig,
    PPORunConfig,
    ResourceConfig,
)
from rllib_portfolio.env import PortfolioEnv, PortfolioVectorEnv
from rllib_portfolio.modules.actor_critic import LayerNormActorCritic
from rllib_portfolio.modules.diagonal_gaussian import DiagonalGaussian


class Ours:
    """This package: `resources.env_runner: vectorised`, `resources.learner: fused`."""

    env_runner = "vectorised"
    learner = "fused"

    def __init__(self, setting: Setting, market_path: Path) -> None:
        ray.init(
            num_cpus=setting.num_env_runners + 1, include_dashboard=False, log_to_driver=False, logging_level="ERROR"
        )
        self._setting = setting
        self._num_steps = 0
        config = ppo.algorithm_config(run_config(setting, self.env_runner, self.learner), market_path)
        self._algorithm = self._adapted(config).build_algo()

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

    def watched(self) -> Sequence[Watched]:
        return [
            *_WATCHED,
            Watched("episodes", env_runner, "cut_episodes"),
            Watched("advantages", train_batch, "generalised_advantages"),
            Watched("batch", train_batch.BatchBuilder, "build"),
            Watched("batch", train_batch.Batch, "minibatches"),
            Watched("optimiser", FlatParameters, "clip_gradient"),
            Watched("other sampling", env_runner.VectorisedEnvRunner, "sample"),
            Watched("other update", ppo_learner.FusedPPOLearner, "update"),
        ]

    def close(self) -> None:
        self._algorithm.stop()
        ray.shutdown()

    def _adapted(self, config: ppo.PortfolioPPOConfig) -> ppo.PortfolioPPOConfig:
        return config


class Stock(Ours):
    """RLlib's own `PPO`, env runner, learner and callbacks, over our vector environment."""

    env_runner = "stock"
    learner = "stock"

    def watched(self) -> Sequence[Watched]:
        return [
            *_WATCHED,
            Watched("connectors", EnvToModulePipeline, "__call__"),
            Watched("connectors", ModuleToEnvPipeline, "__call__"),
            Watched("episodes", SingleAgentEpisode, "add_env_step"),
            Watched("episodes", SingleAgentEpisode, "to_numpy"),
            Watched("advantages", GeneralAdvantageEstimation, "__call__"),
            Watched("batch", LearnerConnectorPipeline, "__call__"),
            Watched("other sampling", SingleAgentEnvRunner, "sample"),
            Watched("other update", Learner, "update"),
        ]

    def _adapted(self, config: ppo.PortfolioPPOConfig) -> ppo.PortfolioPPOConfig:
        return as_it_comes(config)


class StockSync(Stock):
    """The same over scalar environments in Gymnasium's `SyncVectorEnv`, RLlib's default."""

    def _adapted(self, config: ppo.PortfolioPPOConfig) -> ppo.PortfolioPPOConfig:
        return super()._adapted(config).env_runners(gym_env_vectorize_mode="sync")


def as_it_comes(config: ppo.PortfolioPPOConfig) -> ppo.PortfolioPPOConfig:
    """A configuration with RLlib's own algorithm class, env runner and callbacks; its learner is a resource."""
    config.algo_class = PPO
    return config.env_runners(env_runner_cls=SingleAgentEnvRunner).callbacks(RLlibCallback)


_WATCHED = (
    Watched("environment", PortfolioVectorEnv, "step"),
    Watched("environment", PortfolioEnv, "step"),
    Watched("policy", LayerNormActorCritic, "_forward"),
    Watched("policy", DiagonalGaussian, "sample"),
    Watched("forward", LayerNormActorCritic, "evaluate"),
    Watched("forward", LayerNormActorCritic, "_forward_train"),
    Watched("forward", LayerNormActorCritic, "compute_values"),
    Watched("backward", torch.autograd, "backward"),
    Watched("optimiser", torch.optim.Adam, "step"),
)


def run_config(setting: Setting, env_runner_name: str, learner_name: str) -> PPORunConfig:
    """The run configuration of a setting."""
    return PPORunConfig(
        seed=setting.seed,
        market=MarketConfig(observation_filter="none"),
        environment=ContinuousEnvironmentConfig(logit_scale=LOGIT_SCALE),
        network=NetworkConfig(hidden_sizes=setting.hidden_sizes, initial_log_std=INITIAL_LOG_STD),
        training=PPOConfig(
            learning_rate=setting.learning_rate,
            learning_rate_end=None,
            gamma=setting.gamma,
            gae_lambda=setting.gae_lambda,
            clip=setting.clip,
            value_coefficient=setting.value_coefficient,
            entropy_coefficient=setting.entropy_coefficient,
            num_epochs=setting.num_epochs,
            minibatch_size=setting.minibatch_size,
            rollout_steps=setting.rollout_steps,
            max_gradient_norm=setting.max_gradient_norm,
            normalize_rewards=False,
            market_baseline=False,
        ),
        resources=ResourceConfig(
            num_env_runners=setting.num_env_runners,
            num_envs_per_env_runner=setting.num_envs,
            device="cpu",
            torch_threads=setting.num_threads,
            env_runner=env_runner_name,
            learner=learner_name,
        ),
    )
