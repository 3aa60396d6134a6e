"""Decisions in numpy: those of the torch modules, row by row, from a copy of their weights."""

from __future__ import annotations

import pickle
from collections.abc import Callable

import gymnasium as gym
import numpy as np
import pytest
import torch
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.torch import TorchRLModule

from rllib_portfolio.modules.actor_critic import LayerNormActorCritic
from rllib_portfolio.modules.dueling_noisy_q import DuelingNoisyQ
from rllib_portfolio.modules.per_asset_actor_critic import PerAssetActorCritic
from rllib_portfolio.policies.numpy_networks import (
    ArrayFunction,
    LayerNorm,
    Linear,
    NamedWeights,
    flat_actor,
    greedy,
    greedy_actions,
)
from rllib_portfolio.policies.numpy_per_asset import AssetReader, per_asset_actor

D, NUM_ACTIONS, BATCH = 23, 5, 64
BOX = gym.spaces.Box(-np.inf, np.inf, (D,), np.float32)


def actor_critic(hidden_sizes: tuple[int, ...], has_rate: bool = False) -> LayerNormActorCritic:
    return LayerNormActorCritic(
        observation_space=BOX,
        action_space=gym.spaces.Box(-1.0, 1.0, (NUM_ACTIONS + has_rate,), np.float32),
        inference_only=True,
        model_config={
            "hidden_sizes": hidden_sizes,
            "initial_log_std": -0.7,
            "logit_scale": 10.0,
            "partial_trading": has_rate,
        },
    )


def per_asset(hidden_sizes: tuple[int, ...], num_asset_features: int, has_rate: bool = False) -> PerAssetActorCritic:
    """Four assets; what they leave of D = 23 numbers, less five weights, are the market's features."""
    return PerAssetActorCritic(
        observation_space=BOX,
        action_space=gym.spaces.Box(-1.0, 1.0, (NUM_ACTIONS + has_rate,), np.float32),
        inference_only=True,
        model_config={
            "hidden_sizes": hidden_sizes,
            "num_asset_features": num_asset_features,
            "partial_trading": has_rate,
            "initial_log_std": -0.7,
            "logit_scale": 10.0,
        },
    )


def q_network(*, dueling: bool, noisy: bool) -> DuelingNoisyQ:
    return DuelingNoisyQ(
        observation_space=BOX,
        action_space=gym.spaces.Discrete(NUM_ACTIONS),
        inference_only=True,
        model_config={
            "hidden_sizes": (32, 24),
            "dueling": dueling,
            "noisy": noisy,
            "sigma0": 0.5,
            "epsilon": (1.0, 0.05, 100),
        },
    )


MODULES: dict[str, Callable[[], TorchRLModule]] = {
    "one hidden layer": lambda: actor_critic((16,)),
    "two hidden layers": lambda: actor_critic((32, 24)),
    "three hidden layers": lambda: actor_critic((32, 24, 8)),
    "per asset": lambda: per_asset((16,), 4),
    "per asset, two layers": lambda: per_asset((16, 8), 3),
    "a trading rate": lambda: actor_critic((32, 24), has_rate=True),
    "per asset, a trading rate": lambda: per_asset((16, 8), 3, has_rate=True),
    "Q": lambda: q_network(dueling=True, noisy=True),
    "Q without noise": lambda: q_network(dueling=True, noisy=False),
    "Q in one stream": lambda: q_network(dueling=False, noisy=True),
}
CONTINUOUS = [name for name in MODULES if not name.startswith("Q")]
DISCRETE = [name for name in MODULES if name.startswith("Q")]


def randomised(name: str, seed: int = 0) -> TorchRLModule:
    """A module of which every parameter matters: those that start at zero or one are drawn, too."""
    torch.manual_seed(seed)
    module = MODULES[name]()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return module.eval()


def in_numpy(module: TorchRLModule) -> ArrayFunction:
    """The network of a module in numpy, from its weights and its settings."""
    weights, settings = NamedWeights(module.state_dict()), module.model_config
    sizes, has_rate = settings["hidden_sizes"], settings.get("partial_trading", False)
    match module:
        case LayerNormActorCritic():
            decide: ArrayFunction = flat_actor(weights, D, NUM_ACTIONS + has_rate, sizes, settings["logit_scale"])
        case PerAssetActorCritic():
            num_features = settings["num_asset_features"]
            num_market = D - (NUM_ACTIONS - 1) * num_features - NUM_ACTIONS
            reader = AssetReader(num_features, num_market)
            decide = per_asset_actor(weights, reader, sizes, settings["logit_scale"], has_rate)
        case DuelingNoisyQ():
            switches = {name: settings[name] for name in ("dueling", "noisy")}
            decide = greedy_actions(weights, D, NUM_ACTIONS, sizes, **switches)
    assert weights.taken.keys() == module.state_dict().keys()
    return decide


def observations(seed: int = 0, batch: int = BATCH) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(batch, D)).astype(np.float32)


# ---------------------------------------------------------------- the same as torch


@pytest.mark.parametrize("name", CONTINUOUS)
def test_mean_actions_are_those_of_torch(name: str) -> None:
    for seed in range(5):
        module, batch = randomised(name, seed), observations(seed)
        with torch.no_grad():
            outputs = module.forward_inference({Columns.OBS: torch.from_numpy(batch)})[Columns.ACTION_DIST_INPUTS]
        decided = in_numpy(module)(batch)
        assert decided.dtype == np.float32
        assert decided.std() > 0.03  # of actions that reach 1: a millionth of them is rounding
        np.testing.assert_allclose(decided, outputs.chunk(2, dim=1)[0].numpy(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", DISCRETE)
def test_greedy_actions_are_those_of_torch_except_at_ties(name: str) -> None:
    chosen = set()
    for seed in range(5):
        module, batch = randomised(name, seed), observations(seed, 500)
        with torch.no_grad():
            values = module.compute_q_values({Columns.OBS: torch.from_numpy(batch)})["qf_preds"].numpy()
        best, second = np.sort(values, axis=-1)[:, :-3:-1].T
        is_clear = best - second > 1e-4
        assert is_clear.mean() > 0.99
        decided = in_numpy(module)(batch)
        np.testing.assert_array_equal(decided[is_clear], values.argmax(-1)[is_clear])
        np.testing.assert_allclose(values[np.arange(500), decided], best, rtol=0, atol=1e-4)
        chosen |= set(decided.tolist())
    assert chosen == set(range(NUM_ACTIONS))


def test_the_first_of_equal_actions_is_taken() -> None:
    np.testing.assert_array_equal(greedy(np.array([[[1.0, 3.0, 3.0]], [[2.0, 2.0, 1.0]]])), [[1], [0]])


@pytest.mark.parametrize("name", MODULES)
def test_a_decision_is_the_same_to_the_bit_whatever_it_is_decided_with(name: str) -> None:
    decide, batch = in_numpy(randomised(name)), observations()
    together = decide(batch)
    assert len(together) == BATCH
    for index in range(BATCH):
        np.testing.assert_array_equal(decide(batch[index : index + 1])[0], together[index])
    np.testing.assert_array_equal(decide(batch[::-3]), together[::-3])
    np.testing.assert_array_equal(decide(np.asfortranarray(batch)), together)


def test_layers_by_hand() -> None:
    # x W + b = [1*1 + 2*3 + 10, 1*2 + 2*4 + 20] = [17, 30]
    linear = Linear(np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([10.0, 20.0]))
    np.testing.assert_array_equal(linear(np.array([[[1.0, 2.0]]])), [[[17.0, 30.0]]])
    # mean 3, variance ((-2)^2 + 2^2) / 2 = 4, with epsilon 5 a deviation of sqrt(9) = 3:
    # [-2/3, 2/3] * [3, 6] + [1, 1] = [-1, 5]
    norm = LayerNorm(np.array([3.0, 6.0]), np.array([1.0, 1.0]), 5.0, np.full((2, 1), 0.5))
    np.testing.assert_allclose(norm(np.array([[[1.0, 5.0]]])), [[[-1.0, 5.0]]], rtol=1e-12)


# ---------------------------------------------------------------- a copy of the weights


@pytest.mark.parametrize("name", MODULES)
def test_decisions_stay_when_the_module_goes_on_learning(name: str) -> None:
    module, batch = randomised(name), observations()
    decide = in_numpy(module)
    before = decide(batch).copy()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_()
    np.testing.assert_array_equal(decide(batch), before)
    assert not np.array_equal(in_numpy(module)(batch), before)


@pytest.mark.parametrize("name", ["two hidden layers", "Q"])
def test_what_decides_can_be_sent_to_another_process(name: str) -> None:
    decide = in_numpy(randomised(name))
    copy = pickle.loads(pickle.dumps(decide))
    np.testing.assert_array_equal(copy(observations()), decide(observations()))


def test_weights_that_are_not_those_of_the_settings_are_refused() -> None:
    weights = {"a.weight": np.zeros((2, 3)), "a.bias": np.zeros(3)}
    with pytest.raises(
        ValueError, match=r"a\.weight must have the shape \(3, 2\) of the network's settings, got \(2, 3\)"
    ):
        NamedWeights(weights).linear("a", 2, 3)
    with pytest.raises(KeyError, match=r"a\.bias"):
        NamedWeights({"a.weight": np.zeros((3, 2))}).linear("a", 2, 3)
