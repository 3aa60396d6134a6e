"""Noise over all layers at once against the network's own, layer by layer."""

from __future__ import annotations

import copy

import pytest
import torch

from rllib_portfolio.algorithms.flat_parameters import FlatParameters
from rllib_portfolio.algorithms.perturbed_network import PerturbedNetwork, by_role, lay_out
from rllib_portfolio.modules.dueling_noisy_q import DuelingQNetwork

D, K = 5, 4


def network(dueling: bool = True) -> DuelingQNetwork:
    torch.manual_seed(0)
    made = DuelingQNetwork(D, K, (16, 8), dueling=dueling, sigma0=0.5)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return made


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(1)


@pytest.mark.parametrize("dueling", [True, False])
def test_values_and_gradients_are_those_of_the_network_layer_by_layer(dueling: bool) -> None:
    plain, flattened = network(dueling), network(dueling)
    flat = FlatParameters(flattened, by_role)
    perturbed = PerturbedNetwork(flattened)
    noise, observations = generator(), torch.randn(6, D)
    perturbed.draw(noise)
    noise = generator()
    for _ in range(2):  # a second draw, and a gradient that starts from zero again
        flat.gradient.zero_()
        plain.zero_grad()
        perturbed.draw(noise_of_ours := copy_of(noise))
        values = perturbed(observations)
        expected = plain.perturbed(plain.draw_noise(None, noise))(observations)
        assert torch.equal(noise.get_state(), noise_of_ours.get_state())
        torch.testing.assert_close(values, expected)
        values[:, 1].square().sum().backward()
        perturbed.finish_gradient()
        expected[:, 1].square().sum().backward()
        for (name, ours), theirs in zip(flattened.named_parameters(), plain.parameters(), strict=True):
            torch.testing.assert_close(ours.grad, theirs.grad, msg=name)


def copy_of(noise: torch.Generator) -> torch.Generator:
    return torch.Generator().set_state(noise.get_state())


def test_a_draw_sees_the_parameters_of_now() -> None:
    made = network()
    flat = FlatParameters(made, by_role)
    perturbed = PerturbedNetwork(made)
    perturbed.draw(generator())
    before = perturbed(torch.ones(1, D)).detach()
    with torch.no_grad():
        flat.parameter.mul_(2.0)
    perturbed.draw(generator())
    expected = made.perturbed(made.draw_noise(None, generator()))(torch.ones(1, D))
    torch.testing.assert_close(perturbed(torch.ones(1, D)), expected)
    assert not torch.allclose(expected, before)


def test_a_target_is_laid_out_and_stays_so_when_it_is_loaded() -> None:
    source = network()
    target = copy.deepcopy(source).requires_grad_(False)
    values = {name: value.clone() for name, value in target.state_dict().items()}
    lay_out(target)
    assert all(torch.equal(value, values[name]) for name, value in target.state_dict().items())
    perturbed = PerturbedNetwork(target)
    with torch.no_grad():
        for parameter in source.parameters():
            parameter.add_(1.0)
    target.load_state_dict(source.state_dict())
    perturbed.draw(generator())
    expected = source.perturbed(source.draw_noise(None, generator()))(torch.ones(2, D))
    torch.testing.assert_close(perturbed(torch.ones(2, D)), expected.detach())
    perturbed.finish_gradient()  # nothing to finish


def test_advantages_rank_actions_as_values_do() -> None:
    made = network()
    FlatParameters(made, by_role)
    perturbed = PerturbedNetwork(made)
    perturbed.draw(generator())
    observations = torch.randn(50, D)
    assert torch.equal(perturbed.advantages(observations).argmax(-1), perturbed(observations).argmax(-1))


def test_parameters_that_are_not_side_by_side_are_refused() -> None:
    with pytest.raises(AssertionError):
        PerturbedNetwork(network())
