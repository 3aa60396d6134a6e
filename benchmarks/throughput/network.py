"""The actor-critic of `rllib_portfolio.modules.actor_critic` in plain torch, for the sides that do without RLlib.

`tests/test_benchmarks.py` gives both the same parameters and asks for the same outputs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from benchmarks.throughput.setting import INITIAL_LOG_STD, LOGIT_SCALE, Setting


class ActorCritic(nn.Module):
    """Shared trunk, two branches, every hidden layer Linear -> Tanh -> LayerNorm; one log deviation per action."""

    def __init__(self, setting: Setting) -> None:
        super().__init__()
        sizes = setting.hidden_sizes
        self.trunk = nn.Sequential(*_hidden_layer(setting.observation_size, sizes[0]))
        self.actor = _branch(sizes, setting.action_size, gain=0.01)
        self.log_std = nn.Parameter(torch.full((setting.action_size,), INITIAL_LOG_STD))
        self.critic = _branch(sizes, 1, gain=1.0)

    def embed(self, observations: Tensor) -> Tensor:
        """[B, D] -> [B, h_1]."""
        return self.trunk(observations)

    def mean(self, embeddings: Tensor) -> Tensor:
        """Mean of the actions, [B, h_1] -> [B, N + 1]."""
        return self.actor(embeddings) * (1.0 / LOGIT_SCALE)

    def action_log_std(self) -> Tensor:
        """Log standard deviation of the actions, [N + 1]."""
        return self.log_std - math.log(LOGIT_SCALE)

    def value(self, embeddings: Tensor) -> Tensor:
        """[B, h_1] -> [B]."""
        return self.critic(embeddings).squeeze(-1)


def _hidden_layer(inputs: int, outputs: int) -> list[nn.Module]:
    return [_linear(inputs, outputs, math.sqrt(2.0)), nn.Tanh(), nn.LayerNorm(outputs)]


def _branch(sizes: Sequence[int], outputs: int, gain: float) -> nn.Sequential:
    layers = [layer for i in range(1, len(sizes)) for layer in _hidden_layer(sizes[i - 1], sizes[i])]
    return nn.Sequential(*layers, _linear(sizes[-1], outputs, gain))


def _linear(inputs: int, outputs: int, gain: float) -> nn.Linear:
    layer = nn.Linear(inputs, outputs)
    nn.init.orthogonal_(layer.weight, gain)
    nn.init.zeros_(layer.bias)
    return layer
