"""The LayerNorm actor-critic for continuous portfolio actions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.apis import InferenceOnlyAPI, ValueFunctionAPI
from ray.rllib.core.rl_module.torch import TorchRLModule
from torch import Tensor, nn

from rllib_portfolio.modules.array_forward import ArrayForward
from rllib_portfolio.modules.diagonal_gaussian import DiagonalGaussian

HIDDEN_GAIN = math.sqrt(2.0)
ACTOR_GAIN = 0.01
CRITIC_GAIN = 1.0


class LayerNormActorCritic(TorchRLModule, ValueFunctionAPI, InferenceOnlyAPI):
    """Shared trunk, two branches; every hidden layer is Linear -> Tanh -> LayerNorm (Ba, Kiros, Hinton 2016).

    With hidden sizes (h_1, h_2, ... h_k) the trunk is D -> h_1, each branch h_1 -> h_2 ... -> h_k; the actor ends in
    N + 1 logits, the critic in one value. The policy is a normal distribution over logits with one learned log standard
    deviation for each asset. Actions are logits / logit_scale, which the environment's softmax undoes, so that a
    standard deviation of 1 means 1 in logits. A fresh policy starts at the uniform portfolio.

    `model_config`: hidden_sizes, initial_log_std (in logits), logit_scale.
    """

    def setup(self) -> None:
        sizes: Sequence[int] = self.model_config["hidden_sizes"]
        inputs, actions = self.observation_space.shape[0], self.action_space.shape[0]
        self._log_scale = math.log(self.model_config["logit_scale"])
        self._inverse_scale = 1.0 / self.model_config["logit_scale"]
        self.action_dist_cls = DiagonalGaussian
        self.trunk = nn.Sequential(*_hidden_layer(inputs, sizes[0]))
        self.actor = _branch(sizes, actions, ACTOR_GAIN)
        self.log_std = nn.Parameter(torch.full((actions,), float(self.model_config["initial_log_std"])))
        if not self.inference_only:
            self.critic = _branch(sizes, 1, CRITIC_GAIN)

    def get_non_inference_attributes(self) -> list[str]:
        return ["critic"]

    def _forward(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        embeddings = _run(self.trunk, batch[Columns.OBS])
        return {Columns.ACTION_DIST_INPUTS: self.action_distribution_inputs(embeddings)}

    def _forward_train(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        embeddings = _run(self.trunk, batch[Columns.OBS])
        inputs = self.action_distribution_inputs(embeddings)
        return {Columns.ACTION_DIST_INPUTS: inputs, Columns.EMBEDDINGS: embeddings}

    def evaluate(self, observations: Tensor) -> tuple[DiagonalGaussian, Tensor]:
        """Distribution of actions and values [B] of observations [B, D]: what learning needs, in fewest kernels."""
        embeddings = _run(self.trunk, observations)
        mean = _run(self.actor, embeddings) * self._inverse_scale
        return DiagonalGaussian(mean, self.log_std - self._log_scale), _run(self.critic, embeddings).squeeze(-1)

    def action_distribution_inputs(self, embeddings: Tensor) -> Tensor:
        """Mean and log standard deviation of the actions, [B, 2 (N+1)], from the trunk's output [B, h_1]."""
        mean = _run(self.actor, embeddings) * self._inverse_scale
        log_std = (self.log_std - self._log_scale).expand_as(mean)
        return torch.cat([mean, log_std], dim=-1)

    def array_forward(self) -> ArrayForward:
        """Mean actions [B, N+1] of observations [B, D] in numpy, with the weights of now."""
        return ArrayForward.of(*self.trunk, *self.actor, partial(np.multiply, np.float32(self._inverse_scale)))

    def deterministic_weights(self, inputs: Tensor) -> Tensor:
        """Target weights [B, N+1] of the mean action, from `action_distribution_inputs`, as the environment maps it."""
        mean = inputs[:, : self.log_std.shape[0]].clamp(-1.0, 1.0)
        return torch.softmax(mean / self._inverse_scale, dim=-1)

    def compute_values(self, batch: dict[str, Any], embeddings: Tensor | None = None) -> Tensor:
        if embeddings is None:
            embeddings = _run(self.trunk, batch[Columns.OBS])
        return _run(self.critic, embeddings).squeeze(-1)


def _run(layers: nn.Sequential, inputs: Tensor) -> Tensor:
    """The layers one after the other, without the search for hooks that calling a module begins with."""
    for layer in layers:
        inputs = layer.forward(inputs)
    return inputs


def _hidden_layer(inputs: int, outputs: int) -> list[nn.Module]:
    return [_linear(inputs, outputs, HIDDEN_GAIN), nn.Tanh(), nn.LayerNorm(outputs)]


def _branch(sizes: Sequence[int], outputs: int, gain: float) -> nn.Sequential:
    layers = [layer for i in range(1, len(sizes)) for layer in _hidden_layer(sizes[i - 1], sizes[i])]
    return nn.Sequential(*layers, _linear(sizes[-1], outputs, gain))


def _linear(inputs: int, outputs: int, gain: float) -> nn.Linear:
    """Orthogonal weights of the given gain and zero biases."""
    layer = nn.Linear(inputs, outputs)
    nn.init.orthogonal_(layer.weight, gain)
    nn.init.zeros_(layer.bias)
    return layer
