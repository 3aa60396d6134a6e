"""Groups of parameters, each with an optimiser of its own, against torch's optimisers."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from ray.rllib.utils.metrics import NUM_ENV_STEPS_SAMPLED_LIFETIME
from torch import Tensor, nn

from rllib_portfolio.algorithms.learning.fused_learner import ParameterGroup
from rllib_portfolio.algorithms.ppo.learner import FusedPPOLearner
from rllib_portfolio.algorithms.sampling.env_runner import VectorisedEnvRunner
from rllib_portfolio.market import MarketData
from tests.algorithms.sampling.samples import algorithm_config, build_learner, build_runner

MAX_NORM = 0.5


class TwoOptimisers(FusedPPOLearner):
    """An actor whose rate falls, and a critic of another kind of optimiser."""

    def parameter_groups(self, config: Any) -> dict[str, ParameterGroup]:
        return {
            "critic": ParameterGroup(is_of_critic, 0.1, torch.optim.SGD),
            "actor": ParameterGroup(lambda name: not is_of_critic(name), [[0, 0.02], [100, 0.01]]),
        }


class Overlapping(TwoOptimisers):
    def parameter_groups(self, config: Any) -> dict[str, ParameterGroup]:
        return {**super().parameter_groups(config), "trunk": ParameterGroup(lambda name: "trunk" in name, 0.1)}


def is_of_critic(name: str) -> bool:
    return name.startswith("critic")


def critic_loss(module: Any, observations: Tensor) -> Tensor:
    return 100.0 * (module.values(module.embed(observations)) - 1.0).square().mean()


def actor_loss(module: Any, observations: Tensor) -> Tensor:
    """Has a gradient of the critic's parameters, too, as that of SAC has: only the actor may step."""
    embeddings = module.embed(observations)
    return (module.logits(embeddings) - module.values(embeddings).unsqueeze(-1)).square().mean() + module.log_std.sum()


def returned(loss: Callable[[Any, Tensor], Tensor], module: Any, observations: Tensor) -> tuple[Tensor, None]:
    """Return the total loss, in the form that a learner's loss has."""
    return loss(module, observations), None


@pytest.fixture
def build(tiny_market: MarketData, tmp_path: Path) -> Any:
    tiny_market.save(tmp_path / "market.npz")
    config = algorithm_config(tmp_path / "market.npz").training(grad_clip=MAX_NORM)
    return lambda learner_class: build_learner(learner_class, config, build_runner(VectorisedEnvRunner, config))


def test_two_groups_step_as_two_of_torchs_optimisers(build: Any) -> None:
    learner = build(TwoOptimisers)
    module = learner._trained_module
    plain = copy.deepcopy(module)
    named: dict[bool, list[nn.Parameter]] = {True: [], False: []}
    for name, parameter in plain.named_parameters():
        parameter.grad = None
        parameter.data = parameter.data.clone()  # no views of one buffer
        named[is_of_critic(name)].append(parameter)
    theirs = {"critic": torch.optim.SGD(named[True]), "actor": torch.optim.Adam(named[False])}
    losses = {"critic": critic_loss, "actor": actor_loss}
    for update in range(4):
        observations = torch.randn(
            8, module.observation_space.shape[0], generator=torch.Generator().manual_seed(update)
        )
        # 0.02 at step 0 and 0.01 at 100: 0.02 - 0.0001 per step
        rates = {"critic": 0.1, "actor": 0.02 - 0.0001 * 20 * update}
        for group, loss in losses.items():
            learner._backward(partial(returned, loss, module, observations), weight=1.0, group=group)
            norm = learner._apply_gradient(group)
            plain.zero_grad()
            loss(plain, observations).backward()
            theirs[group].param_groups[0]["lr"] = rates[group]
            expected = nn.utils.clip_grad_norm_(named[group == "critic"], MAX_NORM)
            theirs[group].step()
            torch.testing.assert_close(norm, expected)
        for (name, ours), value in zip(module.named_parameters(), plain.parameters(), strict=True):
            torch.testing.assert_close(ours.detach(), value.detach(), rtol=1e-4, atol=1e-6, msg=f"{update} {name}")
        learner.after_gradient_based_update(timesteps={NUM_ENV_STEPS_SAMPLED_LIFETIME: 20 * (update + 1)})


def test_a_learner_with_two_groups_goes_on_from_its_state(build: Any) -> None:
    learners = build(TwoOptimisers), build(TwoOptimisers)
    observations = torch.ones(4, learners[0]._trained_module.observation_space.shape[0])

    def step(learner: Any) -> None:
        for group, loss in (("critic", critic_loss), ("actor", actor_loss)):
            learner._backward(partial(returned, loss, learner._trained_module, observations), 1.0, group)
            learner._apply_gradient(group)

    step(learners[0])
    learners[1].set_state(learners[0].get_state())
    for learner in learners:
        step(learner)
    ours, theirs = (learner._trained_module.state_dict() for learner in learners)
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


def test_a_parameter_of_two_groups_is_refused(build: Any) -> None:
    with pytest.raises(
        ValueError, match=r"parameter trunk.0.weight must belong to one group, got \['actor', 'trunk'\]"
    ):
        build(Overlapping)
