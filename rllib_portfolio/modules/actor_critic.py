"""RLModules of the actor-critic networks for continuous portfolio actions."""

from __future__ import annotations

import math
from typing import Any

import torch
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.apis import InferenceOnlyAPI, ValueFunctionAPI
from ray.rllib.core.rl_module.torch import TorchRLModule
from torch import Tensor

from rllib_portfolio.env.action_map import partial_weights
from rllib_portfolio.modules.diagonal_gaussian import DiagonalGaussian, MaskedGaussian
from rllib_portfolio.networks.actor_critic import ActorCriticNetwork, ActorCriticShape, LayerNormNetwork


class PortfolioActorCritic(TorchRLModule, ValueFunctionAPI, InferenceOnlyAPI, ActorCriticNetwork):
    """The RLModule of an actor-critic network, whose policy is a normal distribution over logits.

    Each architecture derives from this class and from its network class, so that parameters have the same names with
    and without RLlib. Actions are logits / logit_scale. The environment's softmax multiplies them by logit_scale again,
    so that standard deviations are in units of logits. Inference-only modules have no `critic` layers.

    `model_config` holds hidden_sizes, initial_log_std (in logits), logit_scale and initial_cash_logit (default 0). The
    per-asset architecture also needs num_asset_features, and sees_tradable (default False): actions of assets that are
    not tradable are then the constant 0. With partial_trading (default False) the last action is the trading rate.
    There are A = N+1 actions, or N+2 with a trading rate.
    """

    def setup(self) -> None:
        config = self.model_config
        self._shape = network_shape(self)
        self._log_scale = math.log(config["logit_scale"])
        self._inverse_scale = 1.0 / config["logit_scale"]
        sees_tradable = config.get("sees_tradable", False)
        self.action_dist_cls = MaskedGaussian if sees_tradable else DiagonalGaussian
        self.add_layers(self._shape)

    def get_non_inference_attributes(self) -> list[str]:
        return ["critic"]

    def _forward(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        embeddings = self.embed(batch[Columns.OBS])
        return {Columns.ACTION_DIST_INPUTS: self.action_distribution_inputs(embeddings)}

    def _forward_train(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        embeddings = self.embed(batch[Columns.OBS])
        inputs = self.action_distribution_inputs(embeddings)
        return {Columns.ACTION_DIST_INPUTS: inputs, Columns.EMBEDDINGS: embeddings}

    def evaluate(self, observations: Tensor) -> tuple[DiagonalGaussian, Tensor]:
        """Return the action distribution and the values [B] for observations [B, D], computed with few kernels."""
        embeddings = self.embed(observations)
        mean = self.logits(embeddings) * self._inverse_scale
        log_std = self.log_stds(embeddings) - self._log_scale
        return self.action_dist_cls(mean, log_std), self.values(embeddings)

    def action_distribution_inputs(self, embeddings: Any) -> Tensor:
        """Return mean and log standard deviation of the actions, [B, 2 A], from the output of `embed`."""
        mean = self.logits(embeddings) * self._inverse_scale
        log_std = (self.log_stds(embeddings) - self._log_scale).expand_as(mean)
        return torch.cat([mean, log_std], dim=-1)

    def deterministic_weights(self, inputs: Tensor, known: Tensor | None = None) -> Tensor:
        """Return the target weights [B, N+1] to which the environment maps the mean action.

        They are 0 for assets that are not tradable, except for what partial trading leaves of them.

        Args:
            inputs: Result of `action_distribution_inputs`, [B, 2 A].
            known: Weights as known at the decision, [B, N+1], which partial trading needs.
        """
        num_actions, num_weights = self._shape.num_actions, self._shape.num_weights
        logits = inputs[:, :num_actions].clamp(-1.0, 1.0) / self._inverse_scale
        is_constant = inputs[:, num_actions : num_actions + num_weights] == -torch.inf
        target = torch.softmax(logits[:, :num_weights].masked_fill(is_constant, -torch.inf), dim=-1)
        if not self._shape.has_trading_rate:
            return target
        assert known is not None
        return partial_weights(target, known, logits[:, -1:])  # type: ignore[arg-type,return-value]

    def compute_values(self, batch: dict[str, Any], embeddings: Any = None) -> Tensor:
        return self.values(self.embed(batch[Columns.OBS]) if embeddings is None else embeddings)


def network_shape(module: TorchRLModule) -> ActorCriticShape:
    """Return the shape of the network that the spaces and the `model_config` of an RLModule describe."""
    config = module.model_config
    return ActorCriticShape(
        num_inputs=module.observation_space.shape[0],
        num_actions=module.action_space.shape[0],
        hidden_sizes=config["hidden_sizes"],
        initial_log_std=config["initial_log_std"],
        initial_cash_logit=config.get("initial_cash_logit", 0.0),
        num_asset_features=config.get("num_asset_features"),
        sees_tradable=config.get("sees_tradable", False),
        has_critic=not module.inference_only,
        has_trading_rate=config.get("partial_trading", False),
    )


class LayerNormActorCritic(PortfolioActorCritic, LayerNormNetwork):
    """The RLModule of the flat architecture with LayerNorm."""
