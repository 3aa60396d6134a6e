"""Parameters that are views of one buffer: clipping, names, and going back."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from rllib_portfolio.algorithms.learning.flat_parameters import FlatParameters, Snapshot


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.LayerNorm(4), nn.Linear(4, 2))


def backward(module: nn.Module) -> None:
    module(torch.arange(6.0).view(2, 3)).square().sum().backward()


def assert_views(flat: FlatParameters, module: nn.Module) -> None:
    assert torch.equal(flat.parameter, torch.cat([p.detach().flatten() for p in module.parameters()]))
    start, end = flat.parameter.data_ptr(), flat.parameter.data_ptr() + 4 * flat.parameter.numel()
    assert all(start <= p.data_ptr() < end for p in module.parameters())


def test_values_and_names_stay() -> None:
    plain, module = network(), network()
    flat = FlatParameters(module)
    assert_views(flat, module)
    assert {name: tuple(p.shape) for name, p in module.named_parameters()} == {
        name: tuple(p.shape) for name, p in plain.named_parameters()
    }
    for name, value in plain.state_dict().items():
        assert torch.equal(module.state_dict()[name], value)


def test_gradients_land_in_the_buffer() -> None:
    plain, module = network(), network()
    flat = FlatParameters(module)
    backward(plain)
    for _ in range(2):  # into the same buffer each time
        flat.gradient.zero_()
        backward(module)
    assert torch.equal(flat.gradient, torch.cat([p.grad.flatten() for p in plain.parameters()]))


def test_parameters_can_be_laid_out_in_another_order() -> None:
    module = network()
    flat = FlatParameters(module, order=lambda name: name.endswith("bias"))  # weights, then biases
    parameters = dict(module.named_parameters())
    names = ["0.weight", "2.weight", "3.weight", "0.bias", "2.bias", "3.bias"]
    assert torch.equal(flat.parameter, torch.cat([parameters[name].detach().flatten() for name in names]))
    backward(module)
    assert torch.equal(flat.gradient, torch.cat([parameters[name].grad.flatten() for name in names]))
    parameters["2.bias"].grad[0] = torch.nan
    assert flat.non_finite_gradients() == ["2.bias"]


def test_an_optimiser_step_on_the_buffer_is_one_on_the_parameters() -> None:
    plain, module = network(), network()
    flat = FlatParameters(module)
    ours, theirs = torch.optim.Adam([flat.parameter], lr=0.1, fused=True), torch.optim.Adam(plain.parameters(), lr=0.1)
    for _ in range(3):
        flat.gradient.zero_()
        theirs.zero_grad()
        backward(module)
        backward(plain)
        ours.step()
        theirs.step()
    for mine, other in zip(module.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine, other)


@pytest.mark.parametrize(("max_norm", "expected"), [(None, [3.0, 4.0]), (10.0, [3.0, 4.0]), (1.0, [0.6, 0.8])])
def test_gradients_are_clipped_by_their_norm(max_norm: float | None, expected: list[float]) -> None:
    module = nn.Linear(2, 1, bias=False)
    flat = FlatParameters(module)
    flat.gradient.copy_(torch.tensor([3.0, 4.0]))  # norm 5
    assert float(flat.clip_gradient(max_norm)) == 5.0
    assert module.weight.grad.flatten().tolist() == pytest.approx(expected, abs=1e-6)


def test_parameters_without_a_gradient_are_left_alone() -> None:
    module = network()
    module[0].requires_grad_(False)
    frozen = module[0].weight.clone()
    flat = FlatParameters(module)
    assert flat.parameter.numel() == sum(p.numel() for p in module.parameters() if p.requires_grad)
    with torch.no_grad():
        flat.parameter.zero_()
    assert torch.equal(module[0].weight, frozen)


def test_the_parameter_of_a_bad_gradient_is_named() -> None:
    module = network()
    flat = FlatParameters(module)
    assert flat.non_finite_gradients() == []
    module[2].bias.grad[1] = torch.nan
    module[3].weight.grad[0, 0] = torch.inf
    assert flat.non_finite_gradients() == ["2.bias", "3.weight"]


@pytest.mark.parametrize("steps_before", [0, 2])
def test_a_snapshot_goes_back(steps_before: int) -> None:
    module = network()
    flat = FlatParameters(module)
    optimizer = torch.optim.Adam([flat.parameter], lr=0.1, fused=True)

    def steps(count: int) -> None:
        for _ in range(count):
            flat.gradient.zero_()
            backward(module)
            optimizer.step()

    steps(steps_before)
    snapshot = Snapshot(flat, optimizer)
    steps(1)
    expected = flat.parameter.detach().clone()
    snapshot.restore()
    steps(1)
    assert torch.equal(flat.parameter, expected)
    assert_views(flat, module)
