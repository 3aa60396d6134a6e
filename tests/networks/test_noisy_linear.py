"""The noisy layer against eqs. 9 to 11 of Fortunato et al. (2017)."""

from __future__ import annotations

import math

import pytest
import torch

from rllib_portfolio.networks.noisy_linear import LayerNoise, NoisyLinear, draw_noise

P, Q = 5, 3


@pytest.fixture
def layer() -> NoisyLinear:
    torch.manual_seed(0)
    layer = NoisyLinear(P, Q, sigma0=0.5)
    with torch.no_grad():  # deviations that differ
        layer.weight_deviation.uniform_(0.1, 1.0)
        layer.bias_deviation.uniform_(0.1, 1.0)
    return layer


def test_initial_means_and_deviations() -> None:
    layer = NoisyLinear(400, 50, sigma0=0.5)
    assert layer.weight_mean.abs().max() <= 1 / 20
    assert layer.weight_mean.std().item() == pytest.approx(1 / 20 / math.sqrt(3), rel=0.05)  # of a uniform distribution
    assert layer.bias_mean.abs().max() <= 1 / 20
    assert torch.equal(layer.weight_deviation, torch.full((50, 400), 0.5 / 20))
    assert torch.equal(layer.bias_deviation, torch.full((50,), 0.5 / 20))
    assert layer.noise_sizes == (400, 50)


def test_without_noise_it_is_linear_in_its_means(layer: NoisyLinear) -> None:
    x = torch.randn(4, P)
    assert torch.allclose(layer(x), x @ layer.weight_mean.T + layer.bias_mean)


def test_one_draw_for_all_rows_is_the_equation(layer: NoisyLinear) -> None:
    inputs, outputs = draw_noise([P, Q], rows=None)
    weight, bias = layer.perturbed(LayerNoise(inputs, outputs))
    for j in range(Q):
        assert bias[j].item() == pytest.approx(
            (layer.bias_mean[j] + layer.bias_deviation[j] * outputs[j]).item(), abs=1e-6
        )
        for i in range(P):
            expected = layer.weight_mean[j, i] + layer.weight_deviation[j, i] * inputs[i] * outputs[j]
            assert weight[j, i].item() == pytest.approx(expected.item(), rel=1e-5, abs=1e-6)


def test_a_draw_for_each_row_is_a_layer_for_each_row(layer: NoisyLinear) -> None:
    x = torch.randn(4, P)
    noise = LayerNoise(*draw_noise([P, Q], rows=4))
    together = layer(x, noise)
    for row in range(4):
        weight, bias = layer.perturbed(LayerNoise(noise.inputs[row], noise.outputs[row]))
        assert torch.allclose(together[row], weight @ x[row] + bias, atol=1e-6)


def test_mean_and_variance_of_the_output(layer: NoisyLinear) -> None:
    torch.manual_seed(1)
    x = torch.randn(1, P)
    rows = 200_000
    noise = LayerNoise(*draw_noise([P, Q], rows))
    output = layer(x.expand(rows, P), noise).detach()
    # E f = 0 and E f^2 = E|eps| = sqrt(2/pi) = m, so that with f_in and f_out independent
    # Var y_j = m^2 sum_i sigma_ji^2 x_i^2 + m sigma_bj^2; the two terms are uncorrelated since E f_in = 0.
    m = math.sqrt(2.0 / math.pi)
    variance = m**2 * (layer.weight_deviation**2 @ x[0] ** 2) + m * layer.bias_deviation**2
    assert torch.allclose(output.mean(0), layer(x)[0], atol=0.02)
    assert torch.allclose(output.var(0), variance, rtol=0.03)


def test_draws_are_f_of_a_normal_and_follow_their_generator() -> None:
    def drawn() -> torch.Tensor:
        generator = torch.Generator()
        generator.manual_seed(7)
        (noise,) = draw_noise([50_000], None, generator)
        return noise

    noise = drawn()
    assert torch.equal(noise, drawn())
    assert noise.mean().item() == pytest.approx(0.0, abs=0.02)
    assert (noise**2).mean().item() == pytest.approx(math.sqrt(2.0 / math.pi), rel=0.02)
    assert (noise**4).mean().item() == pytest.approx(1.0, rel=0.03)  # E eps^2
    normal = torch.randn(3, generator=torch.Generator().manual_seed(7))
    (three,) = draw_noise([3], None, torch.Generator().manual_seed(7))
    assert torch.allclose(three, normal.sign() * normal.abs().sqrt())


def test_gradient_reaches_means_and_deviations(layer: NoisyLinear) -> None:
    for forward in (
        lambda: layer(torch.ones(2, P), LayerNoise(*draw_noise([P, Q], 2))),
        lambda: (
            torch.ones(2, P) @ layer.perturbed(LayerNoise(*draw_noise([P, Q], None)))[0].T
            + layer.perturbed(LayerNoise(*draw_noise([P, Q], None)))[1]
        ),
    ):
        layer.zero_grad()
        forward().square().sum().backward()
        assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in layer.parameters())
