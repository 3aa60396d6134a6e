"""The per-asset actor-critic: what it sees of an asset, that their order means nothing, and where it starts."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import torch
from ray.rllib.core.columns import Columns
from torch import Tensor

from rllib_portfolio.env.action_map import softmax_weights
from rllib_portfolio.modules.per_asset_actor_critic import PerAssetActorCritic

NUM_ASSETS, NUM_FEATURES, NUM_MARKET, BATCH = 4, 3, 2, 6
NUM_ACTIONS = NUM_ASSETS + 1
NUM_OWN = NUM_ASSETS * NUM_FEATURES


def build(
    hidden_sizes: tuple[int, ...] = (16,), *, num_market: int = NUM_MARKET, num_features: int = NUM_FEATURES, **settings
) -> PerAssetActorCritic:
    torch.manual_seed(settings.pop("seed", 0))
    inputs = NUM_ASSETS * num_features + num_market + NUM_ACTIONS
    config = {"hidden_sizes": hidden_sizes, "initial_log_std": -1.0, "logit_scale": 10.0}
    return PerAssetActorCritic(
        observation_space=gym.spaces.Box(-np.inf, np.inf, (inputs,), np.float32),
        action_space=gym.spaces.Box(-1.0, 1.0, (NUM_ACTIONS,), np.float32),
        inference_only=settings.pop("inference_only", False),
        model_config={**config, "num_asset_features": num_features, **settings},
    )


def trained(module: PerAssetActorCritic) -> PerAssetActorCritic:
    """The module with weights far from where they start, so that everything it sees moves it."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3)))
    return module


def observations(num_market: int = NUM_MARKET, num_features: int = NUM_FEATURES) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(BATCH, NUM_ASSETS * num_features + num_market, generator=generator)
    return torch.cat([features, torch.rand(BATCH, NUM_ACTIONS, generator=generator).softmax(-1)], dim=-1)


def permuted(batch: Tensor, order: list[int]) -> Tensor:
    features = batch[:, :NUM_OWN].reshape(BATCH, NUM_ASSETS, NUM_FEATURES)[:, order].reshape(BATCH, NUM_OWN)
    market, weights, cash = batch[:, NUM_OWN : NUM_OWN + NUM_MARKET], batch[:, -NUM_ACTIONS:-1], batch[:, -1:]
    return torch.cat([features, market, weights[:, order], cash], dim=-1)


def target_weights(module: PerAssetActorCritic, batch: Tensor) -> np.ndarray:
    with torch.no_grad():
        inputs = module.forward_inference({Columns.OBS: batch})[Columns.ACTION_DIST_INPUTS]
    return softmax_weights(np.clip(inputs[:, :NUM_ACTIONS].numpy(), -1.0, 1.0), 10.0)


# ---------------------------------------------------------------- the order of assets


@pytest.mark.parametrize("hidden_sizes", [(16,), (8, 4)])
@pytest.mark.parametrize("order", [[1, 0, 2, 3], [3, 1, 0, 2], [1, 2, 3, 0]])
def test_permuting_the_assets_permutes_their_weights(hidden_sizes: tuple[int, ...], order: list[int]) -> None:
    module, batch = trained(build(hidden_sizes)), observations()
    weights, other = target_weights(module, batch), target_weights(module, permuted(batch, order))
    np.testing.assert_allclose(other[:, :-1], weights[:, :-1][:, order], rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(other[:, -1], weights[:, -1], rtol=1e-4, atol=1e-7)
    assert np.abs(weights[:, :-1] - weights[:, :-1][:, order]).max() > 0.1  # the order does matter to who gets what


def test_permuting_the_assets_leaves_the_value() -> None:
    module, batch = trained(build()), observations()
    values = module.compute_values({Columns.OBS: batch})
    other = module.compute_values({Columns.OBS: permuted(batch, [2, 0, 3, 1])})
    torch.testing.assert_close(other, values, rtol=1e-5, atol=1e-6)
    assert values.std() > 0.1


def test_an_asset_is_scored_by_what_is_its_own_and_the_markets() -> None:
    # Asset 1: features 3, 4, 5; weight at 14 + 1. Market: 12 and 13. When asset 1's inputs move, other scores stay.
    module, batch = trained(build()), observations()
    scores = module.logits(module.embed(batch))
    for index in (3, 4, 5, 15):
        moved = batch.clone()
        moved[:, index] += 0.5
        change = (module.logits(module.embed(moved)) - scores).abs().amax(0)
        assert change[1] > 1e-3
        assert change[[0, 2, 3]].max() == 0.0
        assert change[-1] > 1e-3  # cash is scored by the mean embedding
    for index in (12, 13):
        moved = batch.clone()
        moved[:, index] += 0.5
        assert ((module.logits(module.embed(moved)) - scores).abs().amax(0) > 1e-3).all()


# ---------------------------------------------------------------- size, start, deviation


def test_it_has_hundreds_of_parameters_whatever_the_number_of_assets() -> None:
    # encoder (4 + 1) * 16 + 16 = 96, three branches of 16 + 1, two deviations: 96 + 51 + 2.
    module = build((16,), num_market=0, num_features=4)
    assert sum(parameter.numel() for parameter in module.parameters()) == 149
    # (3 + 1 + 2) * 8 + 8 = 56, three branches 8 -> 4 -> 1 of 36 + 5, two deviations.
    assert sum(parameter.numel() for parameter in build((8, 4)).parameters()) == 56 + 3 * 41 + 2


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_fresh_policy_holds_the_uniform_portfolio(seed: int) -> None:
    weights = target_weights(build(seed=seed), observations())
    np.testing.assert_allclose(weights, 1.0 / NUM_ACTIONS, atol=1e-2)


def test_the_initial_logit_of_cash_starts_at_equal_weights_of_the_assets() -> None:
    # Cash is 1 / (1 + 4 e^5) = 0.168 %, up to the small random scores of a fresh policy.
    weights = target_weights(build(initial_cash_logit=-5.0), observations())
    np.testing.assert_allclose(weights[:, :-1], 0.25, atol=1e-2)
    np.testing.assert_allclose(weights[:, -1], 1.0 / (1.0 + 4.0 * np.exp(5.0)), rtol=0.1)


def test_assets_share_one_deviation_that_depends_on_no_observation() -> None:
    module = build()
    with torch.no_grad():
        module.log_std.copy_(torch.tensor([-0.5, 0.5]))
    inputs = module.forward_train({Columns.OBS: observations()})[Columns.ACTION_DIST_INPUTS]
    expected = np.array([-0.5] * NUM_ASSETS + [0.5]) - np.log(10.0)
    np.testing.assert_allclose(inputs[:, NUM_ACTIONS:].detach(), np.tile(expected, (BATCH, 1)), rtol=1e-6)


# ---------------------------------------------------------------- one network, whoever asks


@pytest.mark.parametrize(("num_market", "num_features"), [(2, 3), (0, 3), (2, 0)])
def test_all_passes_agree(num_market: int, num_features: int) -> None:
    module = trained(build((8, 4), num_market=num_market, num_features=num_features))
    batch = {Columns.OBS: observations(num_market, num_features)}
    outputs = module.forward_train(batch)
    for forward in (module.forward_inference, module.forward_exploration):
        torch.testing.assert_close(forward(batch)[Columns.ACTION_DIST_INPUTS], outputs[Columns.ACTION_DIST_INPUTS])
    distribution, values = module.evaluate(batch[Columns.OBS])
    mean, log_std = outputs[Columns.ACTION_DIST_INPUTS].chunk(2, dim=-1)
    torch.testing.assert_close(distribution.loc, mean)
    torch.testing.assert_close(distribution.log_std.expand_as(mean), log_std)
    torch.testing.assert_close(values, module.compute_values(batch))
    torch.testing.assert_close(values, module.compute_values(batch, outputs[Columns.EMBEDDINGS]))


def test_every_parameter_is_learned() -> None:
    module = trained(build((8, 4)))
    distribution, values = module.evaluate(observations())
    (distribution.logp(torch.zeros(BATCH, NUM_ACTIONS)).sum() + values.sum()).backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0.0, name


def test_an_inference_copy_acts_the_same_and_has_no_critic() -> None:
    module, copy = trained(build()), build(seed=1, inference_only=True)
    copy.set_state(module.get_state(inference_only=True))
    np.testing.assert_array_equal(target_weights(copy, observations()), target_weights(module, observations()))
    assert not any(name.startswith("critic") for name in copy.state_dict())
    assert any(name.startswith("critic") for name in module.state_dict())
