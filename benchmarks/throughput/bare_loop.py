"""PPO as a bare torch loop over the vector environment: the limit of what eager torch and this environment allow.

Nothing is logged and everything known to be fast is used: preallocated arrays, the actor alone while sampling,
log-probabilities and values in one pass over the rollout, one gather of the batch per epoch, closed forms of the
Gaussian, parameters and gradients in one flat buffer, fused Adam.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.throughput.contenders import Contender
from benchmarks.throughput.setting import LOGIT_SCALE, Setting, actor_critic
from rllib_portfolio.algorithms.learning.flat_parameters import FlatParameters
from rllib_portfolio.env import PortfolioVectorEnv

_LOG_SQRT_2_PI = 0.5 * math.log(2.0 * math.pi)


class Batch(NamedTuple):
    """S steps."""

    observations: Tensor
    actions: Tensor
    log_probabilities: Tensor
    advantages: Tensor
    value_targets: Tensor


class BareLoop(Contender):
    """Sample T x B steps, then K epochs of minibatches."""

    def __init__(self, setting: Setting, market_path: Path) -> None:
        torch.manual_seed(setting.seed)
        self.setting = setting
        self.env = self._environment(market_path)
        self.network = self._network()
        self.flat = FlatParameters(self.network)
        self.optimizer = torch.optim.Adam([self.flat.parameter], lr=setting.learning_rate, fused=True)
        rows, envs = setting.rollout_steps, setting.num_envs
        self._observations = np.empty((rows + 1, *self.env.observation_space.shape), dtype=np.float32)
        self._actions = np.empty((rows, *self.env.action_space.shape), dtype=np.float32)
        self._rewards = np.empty((rows, envs), dtype=np.float32)
        self._finished = np.zeros((rows + 1, envs), dtype=np.bool_)
        """Row t: whether the episode had ended when observation t was seen, so that step t only resets."""
        self._observations[-1], _ = self.env.reset(seed=setting.seed)

    def sample(self) -> int:
        self._observations[0], self._finished[0] = self._observations[-1], self._finished[-1]
        for row in range(self.setting.rollout_steps):
            actions = self._actions[row] = self._act(torch.from_numpy(self._observations[row]))
            observations, rewards, _, truncated, _ = self.env.step(np.clip(actions, -1.0, 1.0))
            self._observations[row + 1], self._rewards[row] = observations, rewards
            self._finished[row + 1] = truncated
        return self._finished[:-1].size - int(np.count_nonzero(self._finished[:-1]))

    def train(self) -> int:
        num_steps = self.sample()
        self._update(self._batch())
        return num_steps

    def close(self) -> None:
        self.env.close()

    def _environment(self, market_path: Path) -> PortfolioVectorEnv:
        return PortfolioVectorEnv(self.setting.num_envs, data=str(market_path))

    def _network(self) -> Any:
        return actor_critic(self.setting)

    @torch.inference_mode()
    def _act(self, observations: Tensor) -> NDArray[Any]:
        embeddings = self.network.embed(observations)
        mean = self._mean(embeddings)
        return torch.addcmul(mean, torch.randn_like(mean), self._log_std(embeddings).exp()).numpy()

    @torch.no_grad()
    def _batch(self) -> Batch:
        observations, actions = torch.from_numpy(self._observations), torch.from_numpy(self._actions)
        embeddings = self.network.embed(observations)
        values = self.network.values(embeddings)
        mean, log_std = self._mean(embeddings)[:-1], self._log_std(embeddings)
        advantages = torch.from_numpy(self._advantages(values.numpy()))
        rows = torch.from_numpy(np.flatnonzero(~self._finished[:-1]))
        columns = (observations[:-1], actions, log_probability(actions, mean, log_std), advantages)
        *picked, raw = (column.flatten(0, 1)[rows] for column in columns)
        standardised = (raw - raw.mean()) / (raw.std(correction=0) + 1e-8)
        return Batch(*picked, standardised, raw + values[:-1].flatten()[rows])

    def _advantages(self, values: NDArray[Any]) -> NDArray[Any]:
        """A_t = delta_t + gamma lambda A_{t+1}; an episode that ends is truncated, so that its last value counts."""
        gamma, lambda_ = self.setting.gamma, self.setting.gae_lambda
        deltas = self._rewards + gamma * values[1:] - values[:-1]
        decay = np.where(self._finished[1:], 0.0, gamma * lambda_).astype(np.float32)
        following = np.zeros_like(deltas[0])
        for row in range(len(deltas) - 1, -1, -1):
            following = deltas[row] = deltas[row] + decay[row] * following
        return deltas

    def _update(self, batch: Batch) -> None:
        for _ in range(self.setting.num_epochs):
            for minibatch in self._shuffled(batch):
                self.flat.gradient.zero_()
                self._loss(minibatch).backward()
                self.flat.clip_gradient(self.setting.max_gradient_norm)
                self.optimizer.step()

    def _shuffled(self, batch: Batch) -> Iterator[Batch]:
        num_steps = len(batch.advantages)
        order = torch.randperm(num_steps)
        columns = (column[order].tensor_split(round(num_steps / self.setting.minibatch_size)) for column in batch)
        return map(Batch._make, zip(*columns, strict=True))

    def _evaluate(self, observations: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        embeddings = self.network.embed(observations)
        return self._mean(embeddings), self._log_std(embeddings), self.network.values(embeddings)

    def _mean(self, embeddings: Tensor) -> Tensor:
        return self.network.logits(embeddings) * (1.0 / LOGIT_SCALE)

    def _log_std(self, embeddings: Any) -> Tensor:
        return self.network.log_stds(embeddings) - math.log(LOGIT_SCALE)

    def _loss(self, batch: Batch) -> Tensor:
        mean, log_std, values = self._evaluate(batch.observations)
        ratio = torch.exp(log_probability(batch.actions, mean, log_std) - batch.log_probabilities)
        clipped = ratio.clamp(1.0 - self.setting.clip, 1.0 + self.setting.clip)
        policy_loss = -torch.min(batch.advantages * ratio, batch.advantages * clipped).mean()
        value_loss = (values - batch.value_targets).square().mean()
        entropy = (log_std + (0.5 + _LOG_SQRT_2_PI)).sum()
        return policy_loss + self.setting.value_coefficient * value_loss - self.setting.entropy_coefficient * entropy


def log_probability(actions: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """Return the log probability of actions [..., A] under a Gaussian with mean [..., A] and log deviation [A]."""
    standardised = (actions - mean) * torch.exp(-log_std)
    return -0.5 * standardised.square().sum(-1) - (log_std + _LOG_SQRT_2_PI).sum()
