"""Stable-Baselines3 over our scalar environment: PPO with the same network and hyperparameters, and DQN.

SB3 clips actions to [-1, 1] before they reach the environment, keeps the log-probability of the unclipped ones,
normalises advantages within each minibatch and bootstraps at truncations, all by itself.
"""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv
from torch import Tensor, nn

from benchmarks.peers import env_arguments, sb3_dqn, sb3_ppo
from benchmarks.throughput.contenders import Contender
from benchmarks.throughput.setting import INITIAL_LOG_STD, LOGIT_SCALE, Setting, actor_critic, dqn_config, ppo_config
from rllib_portfolio.env import PortfolioEnv

DQN_STEPS_PER_CALL = 1024


class Dummy(Contender):
    """PPO, all environments in this process, one after the other."""

    vec_env: type[VecEnv] = DummyVecEnv

    def __init__(self, setting: Setting, market_path: Path) -> None:
        self._batch_size = setting.batch_size
        envs = self.vec_env([partial(PortfolioEnv, data=str(market_path))] * setting.num_envs)
        self._model: Any = sb3_ppo(ppo_config(setting), envs, SharedTrunkPolicy, setting=setting)

    def train(self) -> int:
        before = self._model.num_timesteps
        self._model.learn(self._batch_size, log_interval=None, reset_num_timesteps=False)
        return int(self._model.num_timesteps - before)

    def close(self) -> None:
        self._model.env.close()


class Subproc(Dummy):
    """PPO, each environment in a process of its own."""

    vec_env = SubprocVecEnv


class DQN(Dummy):
    """DQN with all environments in this process; its replay is uniform."""

    def __init__(self, setting: Setting, market_path: Path) -> None:
        self._batch_size = DQN_STEPS_PER_CALL
        config = dqn_config(setting)
        envs = DummyVecEnv([partial(PortfolioEnv, **env_arguments(config, market_path))] * setting.num_envs)
        self._model = sb3_dqn(config, envs)


class SharedTrunkPolicy(ActorCriticPolicy):
    """SB3's actor-critic policy with the layers of the package's network in the places that SB3 has for them."""

    def __init__(self, *args: Any, setting: Setting, **kwargs: Any) -> None:
        self._setting = setting
        log_std = INITIAL_LOG_STD - math.log(LOGIT_SCALE)
        super().__init__(*args, log_std_init=log_std, ortho_init=False, **kwargs)

    def _build(self, lr_schedule: Any) -> None:
        network = actor_critic(self._setting)
        self._layers = [network]  # in a list, so that its parameters count once
        super()._build(lr_schedule)
        self.action_net = nn.Sequential(network.actor[-1], _Scale(1.0 / LOGIT_SCALE))
        self.value_net = network.critic[-1]
        self.optimizer = self.optimizer_class(self.parameters(), lr=lr_schedule(1), **self.optimizer_kwargs)

    def _build_mlp_extractor(self) -> None:
        (network,) = self._layers
        self.mlp_extractor = _Branches(network, self._setting.hidden_sizes[-1])


class _Branches(nn.Module):
    """The layers below the two output layers, from the features to those of the actor and of the critic."""

    def __init__(self, network: nn.Module, latent_size: int) -> None:
        super().__init__()
        self.latent_dim_pi = self.latent_dim_vf = latent_size
        self._trunk, self._actor, self._critic = network.trunk, network.actor[:-1], network.critic[:-1]

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        embeddings = self._trunk(features)
        return self._actor(embeddings), self._critic(embeddings)

    def forward_actor(self, features: Tensor) -> Tensor:
        return self._actor(self._trunk(features))

    def forward_critic(self, features: Tensor) -> Tensor:
        return self._critic(self._trunk(features))


class _Scale(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self._factor = factor

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs * self._factor
