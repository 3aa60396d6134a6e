"""The RLModule of the dueling noisy Q-network and its target network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from ray.rllib.core.columns import Columns
from ray.rllib.core.distribution.torch.torch_distribution import TorchCategorical
from ray.rllib.core.learner.utils import make_target_network
from ray.rllib.core.rl_module.apis import InferenceOnlyAPI, QNetAPI, TargetNetworkAPI
from ray.rllib.core.rl_module.torch import TorchRLModule
from torch import Tensor, nn

from rllib_portfolio.config.networks import PER_ASSET
from rllib_portfolio.networks.asset_inputs import AssetLayout
from rllib_portfolio.networks.dueling_q import DuelingQNetwork
from rllib_portfolio.networks.per_asset_q import PerAssetQNetwork

QF_PREDS = "qf_preds"
QF_NEXT_PREDS = "qf_next_preds"
QF_TARGET_NEXT_PREDS = "qf_target_next_preds"


class DuelingNoisyQ(TorchRLModule, InferenceOnlyAPI, TargetNetworkAPI, QNetAPI):
    """The Q-learning RLModule of a `DuelingQNetwork` and its target network.

    Exploration draws new noise at every step for every environment; a network without noise explores
    epsilon-greedily. Inference uses the mean weights, so that decisions are deterministic.

    In a universe, no action is chosen that cannot be traded: its value counts as -inf.

    `model_config` holds hidden_sizes, dueling, noisy, sigma0 and epsilon, which is a tuple of the first value, the last
    value and the number of environment steps over which it falls from one to the other. With the architecture per_asset
    it also holds num_assets, num_asset_features, sees_tradable and first_tilt (see `PerAssetQNetwork`).
    """

    def setup(self) -> None:
        config = self.model_config
        self.action_dist_cls = TorchCategorical
        num_inputs, num_actions = self.observation_space.shape[0], int(self.action_space.n)
        streams = {"dueling": config["dueling"], "sigma0": config["sigma0"] if config["noisy"] else None}
        if config.get("architecture") == PER_ASSET:
            num_assets, num_features = config["num_assets"], config["num_asset_features"]
            num_market = num_inputs - num_assets * (num_features + 1) - 1
            layout = AssetLayout(num_assets, num_features, num_market, config["sees_tradable"])
            self.q_net = PerAssetQNetwork(
                layout, num_actions, config["hidden_sizes"], first_tilt=config["first_tilt"], **streams
            )
        else:
            self.q_net = DuelingQNetwork(num_inputs, num_actions, config["hidden_sizes"], **streams)

    def get_non_inference_attributes(self) -> list[str]:
        return ["target_q_net"]

    def make_target_networks(self) -> None:
        self.target_q_net = make_target_network(self.q_net)

    def get_target_network_pairs(self) -> list[tuple[nn.Module, nn.Module]]:
        return [(self.q_net, self.target_q_net)]

    def compute_q_values(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Return the action values under the mean weights, {"qf_preds": [B, K]}; -inf where not available."""
        observations = batch[Columns.OBS]
        return {QF_PREDS: masked(self.q_net(observations), self.q_net.available(observations))}

    def forward_target(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Return the action values of the target network under its own noise draw, as `compute_q_values` does."""
        observations, network = batch[Columns.OBS], self.target_q_net
        values = network.perturbed(network.draw_noise(None))(observations)
        return {QF_PREDS: masked(values, network.available(observations))}

    def epsilon(self, timestep: int) -> float:
        """Return the probability of a random action after `timestep` environment steps; 0 for a noisy network."""
        if self.q_net.is_noisy:
            return 0.0
        first, last, steps = self.model_config["epsilon"]
        return first + (last - first) * min(1.0, timestep / steps)

    def _forward_inference(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Tensor]:
        return {Columns.ACTIONS: self.compute_q_values(batch)[QF_PREDS].argmax(-1)}

    def _forward_exploration(self, batch: dict[str, Any], t: int = 0, **kwargs: Any) -> dict[str, Tensor]:
        observations = batch[Columns.OBS]
        rows = len(observations)
        available = self.q_net.available(observations)
        advantages = masked(self.q_net.explore(observations), available)
        greedy = advantages.argmax(-1)
        epsilon = self.epsilon(t)
        if epsilon == 0.0:
            return {Columns.ACTIONS: greedy}
        if available is None:
            anything = torch.randint(advantages.shape[-1], (rows,), device=greedy.device)
        else:
            anything = torch.multinomial(available.float(), 1).squeeze(-1)
        explores = torch.rand(rows, device=greedy.device) < epsilon
        return {Columns.ACTIONS: torch.where(explores, anything, greedy)}

    def _forward_train(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Tensor]:
        """Return the action values that RLlib's DQN learner needs.

        Both values of the online network share one noise draw; those of the target network have another one.
        """
        online = self.q_net.perturbed(self.q_net.draw_noise(None))
        with torch.no_grad():
            next_values = masked(online(batch[Columns.NEXT_OBS]), self.q_net.available(batch[Columns.NEXT_OBS]))
            target_values = self.forward_target({Columns.OBS: batch[Columns.NEXT_OBS]})[QF_PREDS]
        return {
            QF_PREDS: online(batch[Columns.OBS]),
            QF_NEXT_PREDS: next_values,
            QF_TARGET_NEXT_PREDS: target_values,
        }


def masked(values: Tensor, available: Tensor | None) -> Tensor:
    """Return action values [B, K] with -inf where an action is not available.

    Args:
        values: Action values, [B, K].
        available: Whether each action is available, bool [B, K]; None if all are.
    """
    return values if available is None else values.masked_fill(~available, -torch.inf)


def averaged_weights(weights: Mapping[str, Any]) -> dict[str, Any]:
    """Return the weights of a `DuelingNoisyQ` with those of the Q-network replaced by those of the target network.

    The target network is a running average of the Q-network.
    """
    target = "target_q_net."
    averages = {f"q_net.{name.removeprefix(target)}": w for name, w in weights.items() if name.startswith(target)}
    return {**weights, **averages}
