"""The actor-critic for continuous portfolio actions, and its flat architecture with LayerNorm."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.apis import InferenceOnlyAPI, ValueFunctionAPI
from ray.rllib.core.rl_module.torch import TorchRLModule
from torch import Tensor, nn

from rllib_portfolio.modules.diagonal_gaussian import DiagonalGaussian

HIDDEN_GAIN = math.sqrt(2.0)
ACTOR_GAIN = 0.01
CRITIC_GAIN = 1.0


class PortfolioActorCritic(TorchRLModule, ValueFunctionAPI, InferenceOnlyAPI):
    """A normal distribution over logits, and a value, of what an embedding makes of an observation.

    The log standard deviation is learned and depends on no observation. Actions are logits / logit_scale, which the
    environment's softmax undoes, so that a standard deviation of 1 means 1 in logits. A fresh policy starts at the
    uniform portfolio, unless `initial_cash_logit` is not 0. An architecture builds its layers in `setup`, after
    `_set_scale`, and gives `embed`, `logits`, `log_stds` and `values`; whatever is called `critic` is left out of
    inference.

    `model_config`: hidden_sizes, initial_log_std (in logits), logit_scale, initial_cash_logit (default 0).
    """

    @abstractmethod
    def embed(self, observations: Tensor) -> Tensor:
        """What actor and critic share, [B, ...], of observations [B, D]."""

    @abstractmethod
    def logits(self, embeddings: Tensor) -> Tensor:
        """Mean logits [B, N+1], cash last."""

    @abstractmethod
    def log_stds(self) -> Tensor:
        """Log standard deviations of the logits, [N+1]."""

    @abstractmethod
    def values(self, embeddings: Tensor) -> Tensor:
        """Values [B]."""

    def get_non_inference_attributes(self) -> list[str]:
        return ["critic"]

    def _set_scale(self) -> None:
        self._num_actions = self.action_space.shape[0]
        self._log_scale = math.log(self.model_config["logit_scale"])
        self._inverse_scale = 1.0 / self.model_config["logit_scale"]
        self.action_dist_cls = DiagonalGaussian

    def _forward(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        embeddings = self.embed(batch[Columns.OBS])
        return {Columns.ACTION_DIST_INPUTS: self.action_distribution_inputs(embeddings)}

    def _forward_train(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        embeddings = self.embed(batch[Columns.OBS])
        inputs = self.action_distribution_inputs(embeddings)
        return {Columns.ACTION_DIST_INPUTS: inputs, Columns.EMBEDDINGS: embeddings}

    def evaluate(self, observations: Tensor) -> tuple[DiagonalGaussian, Tensor]:
        """Distribution of actions and values [B] of observations [B, D]: what learning needs, in fewest kernels."""
        embeddings = self.embed(observations)
        mean = self.logits(embeddings) * self._inverse_scale
        return DiagonalGaussian(mean, self.log_stds() - self._log_scale), self.values(embeddings)

    def action_distribution_inputs(self, embeddings: Tensor) -> Tensor:
        """Mean and log standard deviation of the actions, [B, 2 (N+1)], from what `embed` gave."""
        mean = self.logits(embeddings) * self._inverse_scale
        log_std = (self.log_stds() - self._log_scale).expand_as(mean)
        return torch.cat([mean, log_std], dim=-1)

    def deterministic_weights(self, inputs: Tensor) -> Tensor:
        """Target weights [B, N+1] of the mean action, from `action_distribution_inputs`, as the environment maps it."""
        mean = inputs[:, : self._num_actions].clamp(-1.0, 1.0)
        return torch.softmax(mean / self._inverse_scale, dim=-1)

    def compute_values(self, batch: dict[str, Any], embeddings: Tensor | None = None) -> Tensor:
        return self.values(self.embed(batch[Columns.OBS]) if embeddings is None else embeddings)


class LayerNormActorCritic(PortfolioActorCritic):
    """Shared trunk, two branches; every hidden layer is Linear -> Tanh -> LayerNorm (Ba, Kiros, Hinton 2016).

    With hidden sizes (h_1, h_2, ... h_k) the trunk is D -> h_1, each branch h_1 -> h_2 ... -> h_k; the actor ends in
    N + 1 logits, the critic in one value. Each asset has a log standard deviation of its own.
    """

    def setup(self) -> None:
        self._set_scale()
        sizes: Sequence[int] = self.model_config["hidden_sizes"]
        inputs, actions = self.observation_space.shape[0], self._num_actions
        self.trunk = nn.Sequential(*_hidden_layer(inputs, sizes[0]))
        self.actor = _branch(sizes, actions, ACTOR_GAIN)
        with torch.no_grad():
            self.actor[-1].bias[-1] = self.model_config.get("initial_cash_logit", 0.0)
        self.log_std = nn.Parameter(torch.full((actions,), float(self.model_config["initial_log_std"])))
        if not self.inference_only:
            self.critic = _branch(sizes, 1, CRITIC_GAIN)

    def embed(self, observations: Tensor) -> Tensor:
        return run_layers(self.trunk, observations)

    def logits(self, embeddings: Tensor) -> Tensor:
        return run_layers(self.actor, embeddings)

    def log_stds(self) -> Tensor:
        return self.log_std

    def values(self, embeddings: Tensor) -> Tensor:
        return run_layers(self.critic, embeddings).squeeze(-1)


def run_layers(layers: nn.Sequential, inputs: Tensor) -> Tensor:
    """The layers one after the other, without the search for hooks that calling a module begins with."""
    for layer in layers:
        inputs = layer.forward(inputs)
    return inputs


def linear(inputs: int, outputs: int, gain: float) -> nn.Linear:
    """Orthogonal weights of the given gain and zero biases."""
    layer = nn.Linear(inputs, outputs)
    nn.init.orthogonal_(layer.weight, gain)
    nn.init.zeros_(layer.bias)
    return layer


def _hidden_layer(inputs: int, outputs: int) -> list[nn.Module]:
    return [linear(inputs, outputs, HIDDEN_GAIN), nn.Tanh(), nn.LayerNorm(outputs)]


def _branch(sizes: Sequence[int], outputs: int, gain: float) -> nn.Sequential:
    layers = [layer for i in range(1, len(sizes)) for layer in _hidden_layer(sizes[i - 1], sizes[i])]
    return nn.Sequential(*layers, linear(sizes[-1], outputs, gain))
