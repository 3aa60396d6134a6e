"""The dueling noisy Q-network for discrete portfolio actions, with its target network."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from ray.rllib.core.columns import Columns
from ray.rllib.core.distribution.torch.torch_distribution import TorchCategorical
from ray.rllib.core.learner.utils import make_target_network
from ray.rllib.core.rl_module.apis import InferenceOnlyAPI, QNetAPI, TargetNetworkAPI
from ray.rllib.core.rl_module.torch import TorchRLModule
from torch import Tensor, nn
from torch.nn import functional

from rllib_portfolio.networks.noisy_linear import LayerNoise, NoisyLinear, draw_noise

QF_PREDS = "qf_preds"
QF_NEXT_PREDS = "qf_next_preds"
QF_TARGET_NEXT_PREDS = "qf_target_next_preds"

Noise = Sequence[LayerNoise]
"""One for each noisy layer, in the order of `DuelingQNetwork.streams`."""
QFunction = Callable[[Tensor], Tensor]
"""Observations [B, D] to action values [B, K]."""


class DuelingQNetwork(nn.Module):
    """Action values Q = V + A - mean A (Wang et al. 2016, arXiv 1511.06581, eq. 9).

    features: Linear(D -> h_1) -> ReLU -> LayerNorm; each stream: NoisyLinear(h_1 -> h_2) -> ReLU -> NoisyLinear(h_2 ->
    1 for the value, K for the advantage).

    Args:
        inputs: D.
        actions: K.
        hidden_sizes: (h_1, h_2).
        dueling: Two streams; otherwise Q is the advantage stream alone.
        sigma0: Initial noise of the streams, or None for plain linear layers.
    """

    def __init__(
        self, inputs: int, actions: int, hidden_sizes: Sequence[int], *, dueling: bool, sigma0: float | None
    ) -> None:
        super().__init__()
        width, stream_width = hidden_sizes
        self.features = nn.Sequential(nn.Linear(inputs, width), nn.ReLU(), nn.LayerNorm(width))
        self.advantage = _stream((width, stream_width, actions), sigma0)
        self.value = _stream((width, stream_width, 1), sigma0) if dueling else None

    @property
    def streams(self) -> list[nn.Module]:
        """The layers of the advantage stream, then those of the value stream."""
        return [*self.advantage, *(self.value if self.value is not None else ())]

    @property
    def is_noisy(self) -> bool:
        """Whether there is noise to draw."""
        return isinstance(self.advantage[0], NoisyLinear)

    def draw_noise(self, rows: int | None, generator: torch.Generator | None = None) -> Noise | None:
        """One draw for all rows (None), or one for each; None of a network without noise."""
        return _noise_of(self.streams, rows, generator) if self.is_noisy else None

    def forward(self, observations: Tensor, noise: Noise | None = None) -> Tensor:
        """Action values [B, K], with the mean weights or with noise of one draw for each row."""
        if noise is None:
            return self._values(observations, self.streams)
        return self._values(observations, _under(noise, self.streams))

    def perturbed(self, noise: Noise | None) -> QFunction:
        """The network under one draw for all rows; its weights are computed once, for any number of calls."""
        if noise is None:
            return self
        parameters = [layer.perturbed(draw) for layer, draw in zip(self.streams, noise, strict=True)]
        layers = [partial(functional.linear, weight=weight, bias=bias) for weight, bias in parameters]
        return lambda observations: self._values(observations, layers)

    def explore(self, observations: Tensor) -> Tensor:
        """What actions are worth beside each other under fresh noise for each row, [B, K]: enough to choose one."""
        layers: Sequence[QFunction] = list(self.advantage)
        if self.is_noisy:
            layers = _under(_noise_of(layers, len(observations)), layers)
        return _run(layers, self.features(observations))

    def _values(self, observations: Tensor, layers: Sequence[QFunction]) -> Tensor:
        """Action values [B, K] with `layers` in the places of the streams'."""
        features = self.features(observations)
        advantages = _run(layers[:2], features)
        if self.value is None:
            return advantages
        return advantages + (_run(layers[2:], features) - advantages.mean(-1, keepdim=True))


def _noise_of(layers: Sequence[NoisyLinear], rows: int | None, generator: torch.Generator | None = None) -> Noise:
    """One draw for all rows (None), or one for each."""
    sizes = [size for layer in layers for size in layer.noise_sizes]
    drawn = draw_noise(sizes, rows, generator, layers[0].weight_mean.device)
    return [LayerNoise(*pair) for pair in zip(drawn[::2], drawn[1::2], strict=True)]


def _under(noise: Noise, layers: Sequence[NoisyLinear]) -> list[QFunction]:
    return [partial(layer, noise=draw) for layer, draw in zip(layers, noise, strict=True)]


def _run(stream: Sequence[QFunction], features: Tensor) -> Tensor:
    hidden, output = stream
    return output(functional.relu(hidden(features), inplace=True))


def _stream(sizes: Sequence[int], sigma0: float | None) -> nn.ModuleList:
    if sigma0 is None:
        return nn.ModuleList(nn.Linear(inputs, outputs) for inputs, outputs in pairwise(sizes))
    return nn.ModuleList(NoisyLinear(inputs, outputs, sigma0) for inputs, outputs in pairwise(sizes))


class DuelingNoisyQ(TorchRLModule, InferenceOnlyAPI, TargetNetworkAPI, QNetAPI):
    """RLlib's Q-learning module over a `DuelingQNetwork` and its target.

    Exploration draws noise anew at every step and for every environment; a network without noise explores
    epsilon-greedily. Inference takes the mean weights, so that decisions are deterministic.

    `model_config`: hidden_sizes, dueling, noisy, sigma0, epsilon: (first, last, steps between them).
    """

    def setup(self) -> None:
        config = self.model_config
        self.action_dist_cls = TorchCategorical
        self.q_net = DuelingQNetwork(
            self.observation_space.shape[0],
            int(self.action_space.n),
            config["hidden_sizes"],
            dueling=config["dueling"],
            sigma0=config["sigma0"] if config["noisy"] else None,
        )

    def get_non_inference_attributes(self) -> list[str]:
        return ["target_q_net"]

    def make_target_networks(self) -> None:
        self.target_q_net = make_target_network(self.q_net)

    def get_target_network_pairs(self) -> list[tuple[nn.Module, nn.Module]]:
        return [(self.q_net, self.target_q_net)]

    def compute_q_values(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Action values of the mean weights, {"qf_preds": [B, K]}."""
        return {QF_PREDS: self.q_net(batch[Columns.OBS])}

    def forward_target(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Action values of the target network, under noise of its own."""
        return {QF_PREDS: self.target_q_net.perturbed(self.target_q_net.draw_noise(None))(batch[Columns.OBS])}

    def epsilon(self, timestep: int) -> float:
        """Probability of a random action after so many environment steps; 0 where noise explores."""
        if self.q_net.is_noisy:
            return 0.0
        first, last, steps = self.model_config["epsilon"]
        return first + (last - first) * min(1.0, timestep / steps)

    def _forward_inference(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Tensor]:
        return {Columns.ACTIONS: self.q_net(batch[Columns.OBS]).argmax(-1)}

    def _forward_exploration(self, batch: dict[str, Any], t: int = 0, **kwargs: Any) -> dict[str, Tensor]:
        observations = batch[Columns.OBS]
        rows = len(observations)
        advantages = self.q_net.explore(observations)
        greedy = advantages.argmax(-1)
        epsilon = self.epsilon(t)
        if epsilon == 0.0:
            return {Columns.ACTIONS: greedy}
        anything = torch.randint(advantages.shape[-1], (rows,), device=greedy.device)
        explores = torch.rand(rows, device=greedy.device) < epsilon
        return {Columns.ACTIONS: torch.where(explores, anything, greedy)}

    def _forward_train(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Tensor]:
        """What RLlib's DQN learner needs: both observations' values under one draw, the target's under another."""
        online = self.q_net.perturbed(self.q_net.draw_noise(None))
        with torch.no_grad():
            next_values = online(batch[Columns.NEXT_OBS])
            target_values = self.forward_target({Columns.OBS: batch[Columns.NEXT_OBS]})[QF_PREDS]
        return {
            QF_PREDS: online(batch[Columns.OBS]),
            QF_NEXT_PREDS: next_values,
            QF_TARGET_NEXT_PREDS: target_values,
        }


def averaged_weights(weights: Mapping[str, Any]) -> dict[str, Any]:
    """Return the weights of a `DuelingNoisyQ` whose Q-network has those of the target network, a running average."""
    target = "target_q_net."
    averages = {f"q_net.{name.removeprefix(target)}": w for name, w in weights.items() if name.startswith(target)}
    return {**weights, **averages}
