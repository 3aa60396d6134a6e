"""The RLModule of several actor-critic networks of one shape that are trained as one program."""

from __future__ import annotations

from typing import Any

import torch
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.apis import InferenceOnlyAPI
from ray.rllib.core.rl_module.torch import TorchRLModule
from torch import Tensor, nn

from rllib_portfolio.env.action_map import partial_weights
from rllib_portfolio.modules.actor_critic import network_shape
from rllib_portfolio.modules.architectures import NETWORKS
from rllib_portfolio.modules.diagonal_gaussian import MaskedGaussian

LEAST_WEIGHT = 1e-30


class StackedActorCritic(TorchRLModule, InferenceOnlyAPI):
    """S actor-critic networks, the `members`, whose policy is the mean of their target weights.

    `model_config` is that of `PortfolioActorCritic`, with `architecture` and `num_members`. Actions are those that the
    environment maps to the mean of the members' target weights, as far as its bounds allow. With partial trading the
    mean is over the weights to which each member trades at its own rate, and the action's rate is the largest.
    """

    def setup(self) -> None:
        config = self.model_config
        network = NETWORKS[config["architecture"]]
        self._shape = network_shape(self)
        self.members = nn.ModuleList(network(self._shape) for _ in range(config["num_members"]))
        self._scale = config["logit_scale"]
        self.action_dist_cls = MaskedGaussian

    def get_non_inference_attributes(self) -> list[str]:
        return []

    def _forward(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        observations, num_weights = batch[Columns.OBS], self._shape.num_weights
        embeddings = [member.embed(observations) for member in self.members]
        logits = torch.stack([member.logits(each) for member, each in zip(self.members, embeddings, strict=True)])
        log_std = self.members[0].log_stds(embeddings[0]).expand_as(logits[0])
        is_constant = log_std[..., :num_weights] == -torch.inf
        weights: Any = torch.softmax(logits[..., :num_weights].masked_fill(is_constant, -torch.inf), dim=-1)
        if self._shape.has_trading_rate:
            known: Any = observations[..., -num_weights:]
            weights = partial_weights(weights, known, logits[..., -1:])  # type: ignore[arg-type]
        mean = self._actions(weights.mean(0)).masked_fill(is_constant, 0.0)
        rate = torch.ones_like(log_std[..., num_weights:])
        return {Columns.ACTION_DIST_INPUTS: torch.cat([mean, rate, log_std], dim=-1)}

    def _actions(self, weights: Tensor) -> Tensor:
        """Return actions that the environment maps to the weights [B, N+1]; that of the largest weight is 1.

        Bounds therefore cut off small weights alone, which they raise to e^(-2 logit_scale) of the largest one.
        """
        logits = weights.clamp(min=LEAST_WEIGHT).log()
        return 1.0 + (logits - logits.amax(-1, keepdim=True)) / self._scale
