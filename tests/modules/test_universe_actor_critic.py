"""The per-asset actor-critic in a universe: what is not tradable takes no part in the policy and its updates."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from ray.rllib.core.columns import Columns
from torch import Tensor

from rllib_portfolio.env.action_map import softmax_weights
from rllib_portfolio.modules.diagonal_gaussian import DiagonalGaussian, MaskedGaussian
from rllib_portfolio.modules.per_asset_actor_critic import PerAssetActorCritic
from tests.modules.universe_observations import Observed, observed

NUM_FEATURES, NUM_MARKET = 4, 2


def build(num_assets: int, hidden_sizes: tuple[int, ...] = (8,), **settings: Any) -> PerAssetActorCritic:
    """A module of which every parameter matters, with the same parameters for any number of assets."""
    config = {"hidden_sizes": hidden_sizes, "initial_log_std": -0.5, "logit_scale": 10.0, "sees_tradable": True}
    inputs = num_assets * NUM_FEATURES + NUM_MARKET + num_assets + 1
    module = PerAssetActorCritic(
        observation_space=gym.spaces.Box(-np.inf, np.inf, (inputs,), np.float32),
        action_space=gym.spaces.Box(-1.0, 1.0, (num_assets + 1,), np.float32),
        model_config={**config, "num_asset_features": NUM_FEATURES, **settings},
    )
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * (0.3 if "log_std" in name else 1.0))
    return module


def inputs_of(module: PerAssetActorCritic, seen: Observed) -> Tensor:
    return module.forward_train({Columns.OBS: seen.tensor()})[Columns.ACTION_DIST_INPUTS]


def is_active(seen: Observed) -> np.ndarray:
    """Whether each action has a part in the policy, [B, N+1]: those of tradable assets, and cash."""
    return np.concatenate([seen.tradable, np.ones((len(seen.weights), 1), bool)], axis=1)


def by_hand(module: PerAssetActorCritic, seen: Observed, row: int) -> tuple[np.ndarray, float]:
    """Logits of the tradable assets and of cash, and the value of one observation, asset by asset."""
    weights = {name: tensor.detach().double().numpy() for name, tensor in module.state_dict().items()}
    count = int(seen.tradable[row].sum())

    def head(name: str, embedding: np.ndarray) -> float:
        return (weights[f"{name}.0.weight"] @ embedding + weights[f"{name}.0.bias"]).item()

    embeddings, scores = [], []
    for i in range(seen.num_assets):
        w = seen.weights[row, i]
        inputs = np.concatenate([seen.features[row, i], [w * (count + 1) - 1.0], seen.market[row]])
        embedding = np.tanh(weights["encoder.0.weight"] @ inputs + weights["encoder.0.bias"])
        if seen.tradable[row, i] or w > 0.0:
            embeddings.append(embedding)
        if seen.tradable[row, i]:
            scores.append(head("actor", embedding))
    mean = np.mean(embeddings, axis=0) if embeddings else np.zeros(8)
    return np.array([*scores, head("cash", mean)]), head("critic", mean)


# ---------------------------------------------------------------- the network


def test_scores_and_value_by_hand() -> None:
    seen = observed()
    module = build(seen.num_assets)
    inputs, values = inputs_of(module, seen).detach(), module.compute_values({Columns.OBS: seen.tensor()}).detach()
    assert not seen.tradable[0].any()
    for row in range(len(seen.weights)):
        logits, value = by_hand(module, seen, row)
        mean = inputs[row, : seen.num_assets + 1].numpy()
        np.testing.assert_allclose(10.0 * mean[is_active(seen)[row]], logits, rtol=1e-4, atol=1e-4)
        assert float(values[row]) == pytest.approx(value, rel=1e-4, abs=1e-4)
        assert (mean[~is_active(seen)[row]] == 0.0).all()


def test_where_all_is_tradable_it_is_the_network_of_a_complete_market() -> None:
    seen = observed()
    everything = Observed(seen.features.copy(), seen.market, seen.weights)
    everything.features[..., -1] = 1.0
    one, other = build(seen.num_assets), build(seen.num_assets, sees_tradable=False)
    torch.testing.assert_close(inputs_of(one, everything), inputs_of(other, everything), rtol=1e-5, atol=1e-5)
    batch = {Columns.OBS: everything.tensor()}
    torch.testing.assert_close(one.compute_values(batch), other.compute_values(batch), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("hidden_sizes", [(8,), (8, 4)])
def test_assets_that_are_never_listed_change_nothing(hidden_sizes: tuple[int, ...]) -> None:
    seen, padded = observed(), observed().padded(5)
    module, other = build(6, hidden_sizes), build(11, hidden_sizes)
    one, two = inputs_of(module, seen), inputs_of(other, padded)
    kept = [*range(6), 11]
    torch.testing.assert_close(two[:, kept], one[:, :7], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(two[:, [12 + i for i in kept]], one[:, 7:], rtol=1e-5, atol=1e-6)
    (loc, log_std) = two[:, 6:11], two[:, 12 + 6 : 12 + 11]
    assert (loc == 0.0).all()
    assert (log_std == -torch.inf).all()
    values = module.compute_values({Columns.OBS: seen.tensor()})
    torch.testing.assert_close(other.compute_values({Columns.OBS: padded.tensor()}), values, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(
        other.deterministic_weights(two)[:, kept], module.deterministic_weights(one), rtol=1e-5, atol=1e-6
    )


def test_permuting_the_assets_permutes_their_actions() -> None:
    seen, order = observed(), np.array([3, 0, 5, 1, 4, 2])
    module = build(6)
    one, two = inputs_of(module, seen)[:, :7], inputs_of(module, seen.permuted(order))[:, :7]
    torch.testing.assert_close(two[:, :-1], one[:, :-1][:, order], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(two[:, -1], one[:, -1], rtol=1e-5, atol=1e-5)


def test_the_weights_of_the_mean_action_are_those_of_the_environment() -> None:
    seen = observed()
    inputs = inputs_of(build(6), seen).detach()
    mean = np.clip(inputs[:, :7].numpy(), -1.0, 1.0)
    expected = softmax_weights(mean, 10.0, seen.tradable)
    weights = build(6).deterministic_weights(inputs).numpy()
    np.testing.assert_allclose(weights, expected, rtol=1e-5, atol=1e-7)
    assert (weights[~is_active(seen)] == 0.0).all()
    np.testing.assert_array_equal(weights[0], [0.0] * 6 + [1.0])


# ---------------------------------------------------------------- the distribution


def test_actions_of_what_is_not_tradable_are_zero_and_the_others_are_normal() -> None:
    seen = observed()
    inputs = inputs_of(build(6), seen).detach()
    distribution = build(6).get_exploration_action_dist_cls().from_logits(inputs)
    assert isinstance(distribution, MaskedGaussian)
    actions, active = distribution.sample(), torch.from_numpy(is_active(seen))
    assert (actions[~active] == 0.0).all()
    assert (actions[active] != distribution.loc[active]).all()
    # Over the active dimensions it is torch's normal distribution, row by row.
    other = inputs.clone()
    other[:, :7] += 0.1 * active
    other[:, 7:] += 0.2
    moved = MaskedGaussian.from_logits(other)
    for row in range(len(actions)):
        normal, then = (
            torch.distributions.Normal(each.loc[row][active[row]], each.log_std[row][active[row]].exp())
            for each in (distribution, moved)
        )
        torch.testing.assert_close(distribution.logp(actions)[row], normal.log_prob(actions[row][active[row]]).sum())
        torch.testing.assert_close(distribution.entropy()[row], normal.entropy().sum())
        kl = torch.distributions.kl_divergence(normal, then).sum()
        torch.testing.assert_close(distribution.kl(moved)[row], kl, rtol=1e-4, atol=1e-6)


def test_without_constants_it_is_the_ordinary_distribution_to_the_bit() -> None:
    generator = torch.Generator().manual_seed(0)
    loc, log_std, value = (torch.randn(9, 5, generator=generator) for _ in range(3))
    ordinary, masked = DiagonalGaussian(loc, log_std), MaskedGaussian(loc, log_std)
    others = [kind(loc + 0.1, log_std - 0.1) for kind in (DiagonalGaussian, MaskedGaussian)]
    assert torch.equal(masked.logp(value), ordinary.logp(value))
    assert torch.equal(masked.entropy(), ordinary.entropy())
    assert torch.equal(masked.kl(others[1]), ordinary.kl(others[0]))


def ppo_loss(module: PerAssetActorCritic, seen: Observed, before: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
    """PPO's clipped loss with entropy, KL and value terms, and the ratios."""
    sampled_by = MaskedGaussian.from_logits(before)
    distribution, values = module.evaluate(seen.tensor())
    ratio = torch.exp(distribution.logp(actions) - sampled_by.logp(actions))
    advantages = torch.linspace(-1.0, 1.0, len(ratio))
    surrogate = torch.min(advantages * ratio, advantages * ratio.clamp(0.8, 1.2)).mean()
    kl, entropy = sampled_by.kl(distribution).mean(), distribution.entropy().mean()
    return -surrogate + values.square().mean() + 0.2 * kl - 0.1 * entropy, ratio


def gradients(module: PerAssetActorCritic, loss: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(loss, list(module.parameters())))


def test_neither_loss_nor_gradient_depends_on_actions_of_what_is_not_tradable() -> None:
    seen, module = observed(), build(6)
    before = inputs_of(build(6), seen).detach() + 0.05 * torch.from_numpy(is_active(seen)).repeat(1, 2)
    actions = MaskedGaussian.from_logits(before).sample()
    loss, ratio = ppo_loss(module, seen, before, actions)
    grads = gradients(module, loss)
    assert all(grad.isfinite().all() and grad.abs().max() > 0.0 for grad in grads)
    noise = torch.where(torch.from_numpy(is_active(seen)), actions, 100.0 * torch.randn_like(actions))
    assert (noise != actions).any()
    other_loss, other_ratio = ppo_loss(module, seen, before, noise)
    assert torch.equal(other_loss, loss)
    assert torch.equal(other_ratio, ratio)
    for grad, other in zip(grads, gradients(module, other_loss), strict=True):
        assert torch.equal(grad, other)


def test_the_ratio_of_the_policy_that_sampled_is_one_whatever_the_noise() -> None:
    seen, module = observed(), build(6)
    before = inputs_of(module, seen).detach()
    for _ in range(3):
        _, ratio = ppo_loss(module, seen, before, MaskedGaussian.from_logits(before).sample() + 0.0)
        torch.testing.assert_close(ratio, torch.ones_like(ratio), rtol=0, atol=1e-5)
        _, ratio = ppo_loss(module, seen, before, torch.randn(40, 7))
        torch.testing.assert_close(ratio, torch.ones_like(ratio), rtol=0, atol=1e-4)


def test_loss_entropy_kl_and_gradients_are_unchanged_by_assets_that_are_never_listed() -> None:
    seen, padded = observed(), observed().padded(40)
    module, other = build(6), build(46)
    kept = torch.tensor([*range(6), 46])
    before = inputs_of(module, seen).detach() + 0.05
    more = inputs_of(other, padded).detach() + 0.05
    actions = MaskedGaussian.from_logits(before).sample()
    padded_actions = torch.randn(40, 47)
    padded_actions[:, kept] = actions
    for name in ("entropy", "kl"):
        one, two = (MaskedGaussian.from_logits(each) for each in (before, more))
        values = (one.entropy(), two.entropy()) if name == "entropy" else (
            one.kl(MaskedGaussian.from_logits(before - 0.1)), two.kl(MaskedGaussian.from_logits(more - 0.1))
        )  # fmt: skip
        torch.testing.assert_close(*values, rtol=1e-5, atol=1e-5)
    (loss, ratio), (other_loss, other_ratio) = (
        ppo_loss(module, seen, before, actions),
        ppo_loss(other, padded, more, padded_actions),
    )
    torch.testing.assert_close(other_ratio, ratio, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(other_loss, loss, rtol=1e-4, atol=1e-5)
    for grad, padded_grad in zip(gradients(module, loss), gradients(other, other_loss), strict=True):
        torch.testing.assert_close(padded_grad, grad, rtol=1e-3, atol=1e-4)


def test_nothing_of_the_policy_learns_where_nothing_is_tradable() -> None:
    # Only cash has an action then, and it is all that is held: neither the scores nor their deviation have a gradient.
    seen, module = observed(), build(6)
    only = Observed(seen.features[:1], seen.market[:1], seen.weights[:1])
    distribution, _ = module.evaluate(only.tensor())
    (distribution.logp(torch.randn(1, 7)) + distribution.entropy()).sum().backward()
    assert all((p.grad is None or (p.grad == 0.0).all()) for name, p in module.named_parameters() if "actor" in name)
    assert module.log_std.grad[0] == 0.0
    assert module.log_std.grad[1] != 0.0
