"""The Q-network: wiring, noise, RLlib's interfaces."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from ray.rllib.core.columns import Columns

from rllib_portfolio.modules.dueling_noisy_q import (
    QF_NEXT_PREDS,
    QF_PREDS,
    QF_TARGET_NEXT_PREDS,
    DuelingNoisyQ,
    DuelingQNetwork,
)

D, K = 7, 4
ABLATIONS = [(dueling, noisy) for dueling in (True, False) for noisy in (True, False)]


def build_module(
    *, inference_only: bool = False, hidden_sizes: tuple[int, int] = (16, 8), **config: Any
) -> DuelingNoisyQ:
    torch.manual_seed(0)
    settings = {"dueling": True, "noisy": True, "sigma0": 0.5, "epsilon": (1.0, 0.05, 100), **config}
    return DuelingNoisyQ(
        observation_space=gym.spaces.Box(-1.0, 1.0, (D,), np.float32),
        action_space=gym.spaces.Discrete(K),
        inference_only=inference_only,
        model_config={"hidden_sizes": hidden_sizes, **settings},
    )


@pytest.fixture
def observations() -> torch.Tensor:
    return torch.randn(5, D, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("sizes", [(128, 64), (256, 128), (256, 256), (512, 256)])
def test_layers_are_those_of_the_papers(sizes: tuple[int, int]) -> None:
    network = DuelingQNetwork(D, K, sizes, dueling=True, sigma0=0.5)
    assert [type(layer).__name__ for layer in network.features] == ["Linear", "ReLU", "LayerNorm"]
    shapes = {name: tuple(parameter.shape) for name, parameter in network.named_parameters()}
    assert shapes["features.0.weight"] == (sizes[0], D)
    assert shapes["features.2.weight"] == (sizes[0],)
    for stream, outputs in (("advantage", K), ("value", 1)):
        assert shapes[f"{stream}.0.weight_mean"] == shapes[f"{stream}.0.weight_deviation"] == (sizes[1], sizes[0])
        assert shapes[f"{stream}.1.weight_mean"] == (outputs, sizes[1])


def test_q_is_value_plus_centred_advantage(observations: torch.Tensor) -> None:
    network = build_module().q_net
    features = network.features(observations)
    advantage = network.advantage[1](torch.relu(network.advantage[0](features)))
    value = network.value[1](torch.relu(network.value[0](features)))
    expected = value + advantage - advantage.mean(-1, keepdim=True)
    assert torch.allclose(network(observations), expected, atol=1e-6)
    assert torch.allclose(network(observations).mean(-1, keepdim=True), value, atol=1e-6)


def test_without_dueling_q_is_the_one_stream(observations: torch.Tensor) -> None:
    network = build_module(dueling=False).q_net
    features = network.features(observations)
    assert torch.equal(network(observations), network.advantage[1](torch.relu(network.advantage[0](features))))


@pytest.mark.parametrize(("dueling", "noisy"), ABLATIONS)
def test_gradient_reaches_every_parameter(dueling: bool, noisy: bool, observations: torch.Tensor) -> None:
    network = build_module(dueling=dueling, noisy=noisy).q_net
    values = network.perturbed(network.draw_noise(None))(observations)
    (values * torch.randn(5, K)).sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_one_draw_for_all_rows_and_one_for_each_are_the_same_function(observations: torch.Tensor) -> None:
    network = build_module().q_net
    shared = network.draw_noise(None, torch.Generator().manual_seed(1))
    repeated = [type(draw)(draw.inputs.expand(5, -1), draw.outputs.expand(5, -1)) for draw in shared]
    assert torch.allclose(network.perturbed(shared)(observations), network(observations, repeated), atol=1e-5)
    own = network.draw_noise(5, torch.Generator().manual_seed(2))
    values = network(observations[:1].expand(5, D), own)
    assert not torch.allclose(values[0], values[1])


def test_exploration_is_noisy_and_inference_is_not(observations: torch.Tensor) -> None:
    module = build_module(sigma0=3.0)
    batch = {Columns.OBS: observations}
    greedy = module.forward_inference(batch)[Columns.ACTIONS]
    assert torch.equal(greedy, module.compute_q_values(batch)[QF_PREDS].argmax(-1))
    for _ in range(5):
        assert torch.equal(module.forward_inference(batch)[Columns.ACTIONS], greedy)
    explored = torch.stack([module.forward_exploration(batch, t=0)[Columns.ACTIONS] for _ in range(50)])
    assert (explored != greedy).any()
    # the same observation in each row: environments explore on their own
    alike = {Columns.OBS: observations[:1].expand(64, D)}
    assert len(module.forward_exploration(alike, t=0)[Columns.ACTIONS].unique()) > 1


def test_a_plain_network_explores_epsilon_greedily(observations: torch.Tensor) -> None:
    module = build_module(noisy=False, epsilon=(1.0, 0.1, 100))
    assert [module.epsilon(t) for t in (0, 50, 100, 1000)] == pytest.approx([1.0, 0.55, 0.1, 0.1])
    alike = {Columns.OBS: observations[:1].expand(20_000, D)}
    greedy = module.forward_inference(alike)[Columns.ACTIONS][0]
    others = (module.forward_exploration(alike, t=100)[Columns.ACTIONS] != greedy).float().mean().item()
    assert others == pytest.approx(0.1 * (K - 1) / K, abs=0.01)
    assert build_module().epsilon(0) == 0.0


def test_the_target_is_a_copy_that_does_not_learn_and_is_not_sent() -> None:
    module = build_module()
    module.make_target_networks()
    ((main, target),) = module.get_target_network_pairs()
    for (name, ours), theirs in zip(main.named_parameters(), target.parameters(), strict=True):
        assert torch.equal(ours, theirs), name
        assert ours is not theirs
        assert not theirs.requires_grad
    state = module.get_state(inference_only=True)
    assert state
    assert not any(name.startswith("target") for name in state)
    sampler = build_module(inference_only=True)
    sampler.set_state(state)
    assert torch.equal(sampler.q_net.value[0].weight_mean, module.q_net.value[0].weight_mean)


def test_training_outputs_are_those_of_rllibs_learner(observations: torch.Tensor) -> None:
    module = build_module(noisy=False)
    module.make_target_networks()
    with torch.no_grad():
        module.target_q_net.advantage[0].weight.mul_(2.0)
    later = observations + 1.0
    outputs = module.forward_train({Columns.OBS: observations, Columns.NEXT_OBS: later})
    assert torch.equal(outputs[QF_PREDS], module.q_net(observations))
    assert torch.equal(outputs[QF_NEXT_PREDS], module.q_net(later))
    assert torch.equal(outputs[QF_TARGET_NEXT_PREDS], module.target_q_net(later))
    assert torch.equal(module.forward_target({Columns.OBS: later})[QF_PREDS], module.target_q_net(later))


def test_online_and_target_network_are_under_different_noise(observations: torch.Tensor) -> None:
    module = build_module()
    module.make_target_networks()
    outputs = module.forward_train({Columns.OBS: observations, Columns.NEXT_OBS: observations})
    assert torch.allclose(outputs[QF_PREDS], outputs[QF_NEXT_PREDS])  # one draw for the batch
    assert not torch.allclose(outputs[QF_PREDS], outputs[QF_TARGET_NEXT_PREDS])
