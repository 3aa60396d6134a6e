"""The network and its gradient written out, against the network's own and autograd."""

from __future__ import annotations

import copy

import pytest
import torch

from rllib_portfolio.algorithms.dqn.fused_q_network import FusedQNetwork, by_role, lay_out
from rllib_portfolio.algorithms.learning.flat_parameters import FlatParameters
from rllib_portfolio.networks.dueling_q import DuelingQNetwork

D, K = 5, 4


def network(dueling: bool = True, noisy: bool = True) -> DuelingQNetwork:
    torch.manual_seed(0)
    made = DuelingQNetwork(D, K, (16, 8), dueling=dueling, sigma0=0.5 if noisy else None)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return made


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(1)


@pytest.mark.parametrize("noisy", [True, False])
@pytest.mark.parametrize("dueling", [True, False])
def test_values_and_gradients_are_those_of_autograd_layer_by_layer(dueling: bool, noisy: bool) -> None:
    plain, flattened = network(dueling, noisy), network(dueling, noisy)
    flat = FlatParameters(flattened, by_role)
    fused = FusedQNetwork(flattened)
    noise, observations = generator(), torch.randn(6, D)
    flat.gradient.fill_(torch.nan)  # every gradient is written, none added to what was there
    for _ in range(2):
        plain.zero_grad()
        fused.draw(noise_of_ours := torch.Generator().set_state(noise.get_state()))
        expected = plain.perturbed(plain.draw_noise(None, noise))(observations)
        assert torch.equal(noise.get_state(), noise_of_ours.get_state())
        values, activations = fused.forward(observations)
        torch.testing.assert_close(values, expected)
        expected[:, 1].square().sum().backward()
        # d/dQ of sum Q[:, 1]^2 is 2 Q in column 1 and zero elsewhere
        slopes = torch.zeros(6, K)
        slopes[:, 1] = 2.0 * expected.detach()[:, 1]
        fused.backward(activations, slopes)
        for (name, ours), theirs in zip(flattened.named_parameters(), plain.parameters(), strict=True):
            torch.testing.assert_close(ours.grad, theirs.grad, msg=name)


def test_a_draw_sees_the_parameters_of_now() -> None:
    made = network()
    flat = FlatParameters(made, by_role)
    fused = FusedQNetwork(made)
    fused.draw(generator())
    before = fused.values(torch.ones(1, D))
    with torch.no_grad():
        flat.parameter.mul_(2.0)
    fused.draw(generator())
    expected = made.perturbed(made.draw_noise(None, generator()))(torch.ones(1, D))
    torch.testing.assert_close(fused.values(torch.ones(1, D)), expected.detach())
    assert not torch.allclose(expected, before)


@pytest.mark.parametrize("noisy", [True, False])
def test_a_target_is_laid_out_and_stays_so_when_it_is_loaded(noisy: bool) -> None:
    source = network(noisy=noisy)
    target = copy.deepcopy(source).requires_grad_(False)
    values = {name: value.clone() for name, value in target.state_dict().items()}
    lay_out(target)
    assert all(torch.equal(value, values[name]) for name, value in target.state_dict().items())
    fused = FusedQNetwork(target)
    with torch.no_grad():
        for parameter in source.parameters():
            parameter.add_(1.0)
    target.load_state_dict(source.state_dict())
    fused.draw(generator())
    expected = source.perturbed(source.draw_noise(None, generator()))(torch.ones(2, D))
    torch.testing.assert_close(fused.values(torch.ones(2, D)), expected.detach())


def test_advantages_rank_actions_as_values_do() -> None:
    made = network()
    FlatParameters(made, by_role)
    fused = FusedQNetwork(made)
    fused.draw(generator())
    observations = torch.randn(50, D)
    assert torch.equal(fused.advantages(observations).argmax(-1), fused.values(observations).argmax(-1))


def test_parameters_that_are_not_side_by_side_are_refused() -> None:
    with pytest.raises(AssertionError):
        FusedQNetwork(network())
