"""The actor-critic: its shape, where a fresh policy starts, and what it can reach."""

from __future__ import annotations

import math
from itertools import pairwise

import gymnasium as gym
import numpy as np
import pytest
import torch
from ray.rllib.core.columns import Columns
from torch import Tensor, nn

from rllib_portfolio.env.action_map import softmax_weights
from rllib_portfolio.modules.actor_critic import LayerNormActorCritic

NUM_OBSERVATIONS, NUM_ACTIONS, BATCH = 11, 4, 5


def build(
    hidden_sizes: tuple[int, ...] = (16, 8),
    *,
    initial_log_std: float = 0.0,
    logit_scale: float = 10.0,
    inference_only: bool = False,
    seed: int = 0,
) -> LayerNormActorCritic:
    torch.manual_seed(seed)
    return LayerNormActorCritic(
        observation_space=gym.spaces.Box(-np.inf, np.inf, (NUM_OBSERVATIONS,), np.float32),
        action_space=gym.spaces.Box(-1.0, 1.0, (NUM_ACTIONS,), np.float32),
        inference_only=inference_only,
        model_config={
            "hidden_sizes": hidden_sizes,
            "initial_log_std": initial_log_std,
            "logit_scale": logit_scale,
        },
    )


def observations(scale: float = 1.0) -> Tensor:
    return scale * torch.randn(BATCH, NUM_OBSERVATIONS, generator=torch.Generator().manual_seed(1))


def action_means(module: LayerNormActorCritic, batch: Tensor) -> np.ndarray:
    with torch.no_grad():
        inputs = module.forward_inference({Columns.OBS: batch})[Columns.ACTION_DIST_INPUTS]
    return inputs[:, :NUM_ACTIONS].numpy()


def deterministic_weights(module: LayerNormActorCritic, batch: Tensor, logit_scale: float = 10.0) -> np.ndarray:
    """Return the weights that follow from the means, clipped to the action space."""
    return softmax_weights(np.clip(action_means(module, batch), -1.0, 1.0), logit_scale)


def with_logits(module: LayerNormActorCritic, logits: list[float]) -> LayerNormActorCritic:
    """The module whose actor gives these logits whatever it sees."""
    with torch.no_grad():
        last = module.actor[-1]
        last.weight.zero_()
        last.bias.copy_(torch.tensor(logits))
    return module


# ---------------------------------------------------------------- shapes and layers


@pytest.mark.parametrize("hidden_sizes", [(128, 128), (256, 256), (512, 256), (256, 256, 128)])
def test_outputs_have_one_mean_and_one_log_deviation_per_asset_and_one_value(hidden_sizes: tuple[int, ...]) -> None:
    module = build(hidden_sizes)
    batch = {Columns.OBS: observations()}
    outputs = module.forward_train(batch)
    assert outputs[Columns.ACTION_DIST_INPUTS].shape == (BATCH, 2 * NUM_ACTIONS)
    for forward in (module.forward_inference, module.forward_exploration):
        torch.testing.assert_close(
            forward(batch)[Columns.ACTION_DIST_INPUTS], outputs[Columns.ACTION_DIST_INPUTS], rtol=0, atol=0
        )
    values = module.compute_values(batch)
    assert values.shape == (BATCH,)
    torch.testing.assert_close(module.compute_values(batch, outputs[Columns.EMBEDDINGS]), values, rtol=0, atol=0)


@pytest.mark.parametrize("hidden_sizes", [(128, 128), (256, 256), (512, 256), (256, 256, 128)])
def test_every_hidden_layer_is_linear_then_tanh_then_layer_norm(hidden_sizes: tuple[int, ...]) -> None:
    module = build(hidden_sizes)
    for branch, outputs in ((module.actor, NUM_ACTIONS), (module.critic, 1)):
        *hidden, last = [*module.trunk, *branch]
        widths = [NUM_OBSERVATIONS, *hidden_sizes]
        assert [type(layer) for layer in hidden] == [nn.Linear, nn.Tanh, nn.LayerNorm] * len(hidden_sizes)
        assert [(layer.in_features, layer.out_features) for layer in hidden[::3]] == list(pairwise(widths))
        assert [layer.normalized_shape for layer in hidden[2::3]] == [(width,) for width in hidden_sizes]
        assert (last.in_features, last.out_features) == (hidden_sizes[-1], outputs)


def test_actor_and_critic_share_the_trunk_and_nothing_else() -> None:
    module = build()
    trunk, actor, critic = (
        {id(parameter) for parameter in part.parameters()} for part in (module.trunk, module.actor, module.critic)
    )
    assert not actor & critic
    assert not trunk & (actor | critic)
    assert trunk | actor | critic | {id(module.log_std)} == {id(parameter) for parameter in module.parameters()}


# ---------------------------------------------------------------- where a policy starts, what it can reach


@pytest.mark.parametrize("scale", [0.0, 1.0, 100.0])
@pytest.mark.parametrize("hidden_sizes", [(128, 128), (256, 256), (512, 256), (256, 256, 128)])
def test_a_fresh_policy_holds_the_uniform_portfolio(hidden_sizes: tuple[int, ...], scale: float) -> None:
    for seed in range(3):
        weights = deterministic_weights(build(hidden_sizes, seed=seed), observations(scale))
        np.testing.assert_allclose(weights, 1.0 / NUM_ACTIONS, atol=1e-2)


@pytest.mark.parametrize("asset", range(NUM_ACTIONS))
def test_every_corner_of_the_simplex_can_be_learned(asset: int) -> None:
    logits = [-10.0] * NUM_ACTIONS
    logits[asset] = 10.0
    weights = deterministic_weights(with_logits(build(), logits), observations())
    assert (weights[:, asset] > 1 - 1e-3).all()


def test_the_actor_speaks_in_logits() -> None:
    # weights proportional to exp(logit), whatever the scale of the action space is: softmax is taken once
    logits = [math.log(4), math.log(3), math.log(2), math.log(1)]
    for logit_scale in (2.0, 10.0, 50.0):
        module = with_logits(build(logit_scale=logit_scale), logits)
        weights = deterministic_weights(module, observations(), logit_scale)
        np.testing.assert_allclose(weights, np.tile([0.4, 0.3, 0.2, 0.1], (BATCH, 1)), rtol=1e-5)


@pytest.mark.parametrize(("initial_log_std", "logit_scale"), [(0.0, 10.0), (-0.7, 10.0), (0.5, 2.0)])
def test_the_log_deviation_is_in_logits(initial_log_std: float, logit_scale: float) -> None:
    module = build(initial_log_std=initial_log_std, logit_scale=logit_scale)
    inputs = module.forward_train({Columns.OBS: torch.zeros(20_000, NUM_ACTIONS + 7)})[Columns.ACTION_DIST_INPUTS]
    torch.manual_seed(0)
    actions = module.get_exploration_action_dist_cls().from_logits(inputs).sample()
    assert actions.std().item() * logit_scale == pytest.approx(math.exp(initial_log_std), rel=0.02)


def test_the_log_deviation_does_not_depend_on_what_is_seen() -> None:
    inputs = build().forward_train({Columns.OBS: observations(10.0)})[Columns.ACTION_DIST_INPUTS]
    log_std = inputs[:, NUM_ACTIONS:]
    assert (log_std == log_std[0]).all()


# ---------------------------------------------------------------- copies


def test_an_inference_copy_acts_the_same_and_has_no_critic() -> None:
    module, copy = build(seed=0), build(seed=1, inference_only=True)
    assert not np.array_equal(action_means(copy, observations()), action_means(module, observations()))
    copy.set_state(module.get_state(inference_only=True))
    np.testing.assert_array_equal(action_means(copy, observations()), action_means(module, observations()))
    assert not any(name.startswith("critic") for name in copy.state_dict())
    assert not any(name.startswith("critic") for name in module.get_state(inference_only=True))
    assert any(name.startswith("critic") for name in module.state_dict())


# ---------------------------------------------------------------- the distribution


def test_the_distribution_is_the_textbook_normal() -> None:
    module = build(initial_log_std=0.3)
    inputs = module.forward_train({Columns.OBS: observations()})[Columns.ACTION_DIST_INPUTS].detach()
    distribution = module.get_train_action_dist_cls().from_logits(inputs)
    textbook = torch.distributions.Normal(inputs[:, :NUM_ACTIONS], inputs[:, NUM_ACTIONS:].exp())
    actions = textbook.sample()
    torch.testing.assert_close(distribution.logp(actions), textbook.log_prob(actions).sum(-1))
    torch.testing.assert_close(distribution.entropy(), textbook.entropy().sum(-1))
    other = module.get_train_action_dist_cls().from_logits(inputs + 0.1)
    textbook_other = torch.distributions.Normal(inputs[:, :NUM_ACTIONS] + 0.1, (inputs[:, NUM_ACTIONS:] + 0.1).exp())
    torch.testing.assert_close(
        distribution.kl(other), torch.distributions.kl_divergence(textbook, textbook_other).sum(-1)
    )
