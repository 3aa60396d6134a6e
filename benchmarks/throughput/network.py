"""The package's actor-critic network for the sides that do without RLlib: it gives actions, as the RLModule does."""

from __future__ import annotations

import math

from torch import Tensor

from benchmarks.throughput.setting import INITIAL_LOG_STD, LOGIT_SCALE, Setting
from rllib_portfolio.networks.actor_critic import ActorCriticShape, LayerNormNetwork


class ActorCritic(LayerNormNetwork):
    """Shared trunk, two branches, every hidden layer Linear -> Tanh -> LayerNorm; one log deviation per action."""

    def __init__(self, setting: Setting) -> None:
        super().__init__(
            ActorCriticShape(
                num_inputs=setting.observation_size,
                num_actions=setting.action_size,
                hidden_sizes=setting.hidden_sizes,
                initial_log_std=INITIAL_LOG_STD,
            )
        )

    def mean(self, embeddings: Tensor) -> Tensor:
        """Mean of the actions, [B, h_1] -> [B, N + 1]."""
        return self.logits(embeddings) * (1.0 / LOGIT_SCALE)

    def action_log_std(self) -> Tensor:
        """Log standard deviation of the actions, [N + 1]."""
        return self.log_stds() - math.log(LOGIT_SCALE)
