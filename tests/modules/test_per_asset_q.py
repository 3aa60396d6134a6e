"""The per-asset Q-network: its values by hand, what is available, and that assets which never were change nothing."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from ray.rllib.core.columns import Columns

from rllib_portfolio.config import QNetworkConfig
from rllib_portfolio.env.action_map import ActionInputs
from rllib_portfolio.env.action_table import ActionTable, ladder_table, lattice_table
from rllib_portfolio.errors import ConfigError
from rllib_portfolio.modules.architectures import q_model_config
from rllib_portfolio.modules.dueling_noisy_q import QF_NEXT_PREDS, QF_PREDS, QF_TARGET_NEXT_PREDS, DuelingNoisyQ
from rllib_portfolio.networks.per_asset_q import PerAssetQNetwork
from tests.modules.universe_observations import Observed, observed

NUM_FEATURES, NUM_MARKET = 4, 2
KINDS = ["ladder", "quantiles"]


def table_of(kind: str, num_assets: int) -> ActionTable:
    columns = None if kind == "ladder" else {"momentum": 0, "volatility": 1}
    return ladder_table(tuple(f"A{i}" for i in range(num_assets)), 2, columns)


def build(kind: str, num_assets: int, *, sees_tradable: bool = True, **settings: Any) -> DuelingNoisyQ:
    """A module of which every parameter matters, with the same parameters for any number of assets."""
    table = table_of(kind, num_assets)
    network = QNetworkConfig(**{"architecture": "per_asset", "hidden_sizes": (8, 6), "sigma0": 0.5, **settings})
    module = DuelingNoisyQ(
        observation_space=gym.spaces.Box(
            -np.inf, np.inf, (num_assets * (NUM_FEATURES + 1) + NUM_MARKET + 1,), np.float32
        ),
        action_space=table.space,
        model_config=q_model_config(network, table, NUM_FEATURES, sees_tradable) | {"epsilon": (1.0, 0.5, 100)},
    )
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    module.make_target_networks()
    return module


def values_of(module: DuelingNoisyQ, seen: Observed) -> np.ndarray:
    with torch.no_grad():
        return module.q_net(seen.tensor()).numpy()


def available(kind: str, seen: Observed) -> np.ndarray:
    result = table_of(kind, seen.num_assets).available(ActionInputs(tradable=seen.tradable))
    assert result is not None
    return result


# ---------------------------------------------------------------- values


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dueling", [True, False])
def test_values_by_hand(kind: str, dueling: bool) -> None:
    seen, table = observed(), table_of(kind, 6)
    module = build(kind, 6, dueling=dueling, noisy=False)
    weights = {name: tensor.detach().double().numpy() for name, tensor in module.q_net.state_dict().items()}
    values = values_of(module, seen)

    def linear(name: str, inputs: np.ndarray) -> np.ndarray:
        return weights[f"{name}.weight"] @ inputs + weights[f"{name}.bias"]

    def stream(name: str, embedding: np.ndarray) -> np.ndarray:
        centred = (embedding - embedding.mean()) / np.sqrt(embedding.var() + 1e-5)
        normal = centred * weights["features.2.weight"] + weights["features.2.bias"]
        return linear(f"{name}.1", np.maximum(linear(f"{name}.0", normal), 0.0))

    for row in range(len(values)):
        count = seen.tradable[row].sum()
        embeddings = np.array([
            np.maximum(linear("features.0", np.concatenate([
                seen.features[row, i], [seen.weights[row, i] * (count + 1) - 1.0], seen.market[row]
            ])), 0.0)
            for i in range(6)
        ])  # fmt: skip
        counted = seen.tradable[row] | (seen.weights[row, :-1] > 0.0)
        mean = embeddings[counted].mean(0) if counted.any() else np.zeros(8)
        advantages = list(stream("advantage", mean))
        if kind == "ladder":
            advantages[-1:-1] = [stream("tilt", embedding).item() for embedding in embeddings]
        assert len(advantages) == table.num_actions
        expected = np.array(advantages)
        if dueling:
            expected += stream("value", mean) - expected[available(kind, seen)[row]].mean()
        np.testing.assert_allclose(values[row], expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_available_is_what_the_table_says(kind: str) -> None:
    seen = observed()
    module = build(kind, 6)
    found = module.q_net.available(seen.tensor())
    assert found is not None
    np.testing.assert_array_equal(found.numpy(), available(kind, seen))
    assert found[0].nonzero().ravel().tolist() == [0, table_of(kind, 6).hold]
    assert build(kind, 6, sees_tradable=False).q_net.available(seen.tensor()) is None


@pytest.mark.parametrize("kind", KINDS)
def test_assets_that_are_never_listed_change_no_value(kind: str) -> None:
    seen, padded = observed(), observed().padded(5)
    kept = [table_of(kind, 11).names.index(name) for name in table_of(kind, 6).names]
    one, two = build(kind, 6), build(kind, 11)
    mask = available(kind, seen)
    np.testing.assert_array_equal(available(kind, padded)[:, kept], mask)
    assert available(kind, padded).sum() == mask.sum()
    np.testing.assert_allclose(values_of(two, padded)[:, kept][mask], values_of(one, seen)[mask], rtol=1e-4, atol=1e-4)
    decisions = [module.forward_inference({Columns.OBS: each.tensor()})[Columns.ACTIONS].numpy()
                 for module, each in ((one, seen), (two, padded))]  # fmt: skip
    np.testing.assert_array_equal(np.array(kept)[decisions[0]], decisions[1])


def test_permuting_the_assets_permutes_the_values_of_their_tilts() -> None:
    seen, order = observed(), np.array([3, 0, 5, 1, 4, 2])
    module = build("ladder", 6)
    one, two = values_of(module, seen), values_of(module, seen.permuted(order))
    np.testing.assert_allclose(two[:, 4:10], one[:, 4:10][:, order], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(two[:, [0, 1, 2, 3, 10]], one[:, [0, 1, 2, 3, 10]], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_the_number_of_parameters_does_not_depend_on_the_number_of_assets(kind: str) -> None:
    sizes = [sum(p.numel() for p in build(kind, number).q_net.parameters()) for number in (2, 30)]
    assert sizes[0] == sizes[1]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("dueling", "noisy"), [(True, True), (False, True), (True, False)])
def test_gradient_reaches_every_parameter(kind: str, dueling: bool, noisy: bool) -> None:
    network = build(kind, 6, dueling=dueling, noisy=noisy).q_net
    values = network.perturbed(network.draw_noise(None))(observed().tensor())
    (values * torch.randn(values.shape)).sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("kind", KINDS)
def test_one_draw_for_all_rows_and_one_for_each_are_the_same_function(kind: str) -> None:
    network, seen = build(kind, 6).q_net, observed().tensor()
    shared = network.draw_noise(None, torch.Generator().manual_seed(1))
    repeated = [type(draw)(draw.inputs.expand(40, -1), draw.outputs.expand(40, -1)) for draw in shared]
    torch.testing.assert_close(network.perturbed(shared)(seen), network(seen, repeated), rtol=1e-3, atol=1e-3)
    own = network.draw_noise(40, torch.Generator().manual_seed(2))
    values = network(seen[:1].expand(40, -1), own)
    assert not torch.allclose(values[0], values[1])


# ---------------------------------------------------------------- decisions


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("noisy", [True, False])
def test_no_action_is_chosen_that_cannot_be_traded(kind: str, noisy: bool) -> None:
    seen = observed(batch=200)
    module, batch, mask = build(kind, 6, noisy=noisy), {Columns.OBS: seen.tensor()}, available(kind, seen)
    rows = np.arange(200)
    greedy = module.forward_inference(batch)[Columns.ACTIONS].numpy()
    assert mask[rows, greedy].all()
    np.testing.assert_array_equal(greedy, np.where(mask, values_of(module, seen), -np.inf).argmax(-1))
    chosen = []
    for _ in range(30):
        chosen.append(module.forward_exploration(batch, t=0)[Columns.ACTIONS].numpy())
        assert mask[rows, chosen[-1]].all()
    assert len(np.unique(chosen)) > 3


def test_random_actions_are_drawn_evenly_from_what_is_available() -> None:
    seen = observed(batch=2)
    row = Observed(*(np.repeat(part[:1], 20_000, 0) for part in seen))
    row.features[:, [1, 4], -1] = 1.0
    module, mask = build("ladder", 6, noisy=False), available("ladder", row)[0]
    actions = module.forward_exploration({Columns.OBS: row.tensor()}, t=0)[Columns.ACTIONS].numpy()  # epsilon is 1
    shares = np.bincount(actions, minlength=len(mask)) / len(actions)
    np.testing.assert_allclose(shares, mask / mask.sum(), atol=0.02)


@pytest.mark.parametrize("kind", KINDS)
def test_rllibs_learner_gets_values_in_which_nothing_else_can_be_best(kind: str) -> None:
    seen, later = observed(), observed(seed=1)
    module = build(kind, 6, noisy=False)
    with torch.no_grad():
        module.target_q_net.advantage[0].weight.mul_(2.0)
    outputs = module.forward_train({Columns.OBS: seen.tensor(), Columns.NEXT_OBS: later.tensor()})
    mask = torch.from_numpy(available(kind, later))
    assert torch.equal(outputs[QF_PREDS], module.q_net(seen.tensor()))
    for name, network in ((QF_NEXT_PREDS, module.q_net), (QF_TARGET_NEXT_PREDS, module.target_q_net)):
        expected = torch.where(mask, network(later.tensor()), torch.tensor(-torch.inf))
        assert torch.equal(outputs[name], expected)


def test_a_lattice_is_refused() -> None:
    network = QNetworkConfig(architecture="per_asset")
    with pytest.raises(
        ConfigError,
        match=r"^environment\.action_table must be ladder or quantiles with network\.architecture=per_asset",
    ):
        q_model_config(network, lattice_table(("A", "B"), 4), NUM_FEATURES)
    assert isinstance(build("ladder", 3).q_net, PerAssetQNetwork)
