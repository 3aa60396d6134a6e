"""APG as an RLlib algorithm: what a run learns from, what its checkpoint keeps, what it refuses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.utils.metrics import ENV_RUNNER_RESULTS, NUM_ENV_STEPS_SAMPLED_LIFETIME

from rllib_portfolio.algorithms.apg import algorithm as apg
from rllib_portfolio.algorithms.policy_export import current_policy, torch_module
from rllib_portfolio.config import APGRunConfig
from rllib_portfolio.config.files import load_run_config
from rllib_portfolio.errors import ConfigError
from rllib_portfolio.market import MarketData
from rllib_portfolio.policies.saved_policy import PortfolioPolicy, load_policy
from tests.tiny_runs import TINY_APG
from tests.universes import universe_market

Build = Callable[..., apg.PortfolioAPG]
HORIZON, NUM_PORTFOLIOS = 8, 4


def apg_config(*settings: dict[str, Any]) -> APGRunConfig:
    merged = dict(TINY_APG)
    for more in settings:
        merged |= more
    config = load_run_config(None, merged)
    assert isinstance(config, APGRunConfig)
    return config


@pytest.fixture(scope="module")
def market_path(tiny_market: MarketData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("market") / "market.npz"
    tiny_market.save(path)
    return path


@pytest.fixture
def build(ray_session: None, market_path: Path) -> Iterator[Build]:
    """Builds algorithms, on the tiny market unless told otherwise, and stops them."""
    built = []

    def build(*settings: dict[str, Any], path: Path = market_path) -> apg.PortfolioAPG:
        built.append(apg.build(apg_config(*settings), path))
        return built[-1]

    yield build
    for algorithm in built:
        algorithm.stop()


def weights(algorithm: apg.PortfolioAPG) -> dict[str, np.ndarray]:
    state = algorithm.learner_group.get_weights([DEFAULT_MODULE_ID])[DEFAULT_MODULE_ID]
    return {name: np.asarray(value) for name, value in state.items()}


def steps(result: dict[str, Any]) -> int:
    return int(result[ENV_RUNNER_RESULTS][NUM_ENV_STEPS_SAMPLED_LIFETIME])


@pytest.mark.parametrize("starts", ["learner", "env_runners"])
@pytest.mark.parametrize("bootstrap", [False, True])
def test_every_decision_of_a_seed_is_a_step_and_the_env_runner_gets_the_new_weights(
    build: Build, starts: str, bootstrap: bool
) -> None:
    algorithm = build({"training.starts": starts, "training.bootstrap": bootstrap})
    before = weights(algorithm)
    result = algorithm.train()
    assert steps(result) >= NUM_PORTFOLIOS * HORIZON
    after = weights(algorithm)
    assert any((after[name] != before[name]).any() for name in after if name.startswith("actor"))
    # log_std takes no part; the critic learns only if there is one.
    learned = {name.split(".")[0] for name in after if (after[name] != before[name]).any()}
    assert learned == {"trunk", "actor"} | ({"critic"} if bootstrap else set())
    in_runner = algorithm.env_runner.module.state_dict()
    for name, value in in_runner.items():
        np.testing.assert_array_equal(value.numpy(), after[name])


def test_the_walks_of_env_runners_and_those_of_the_learner_have_the_same_rewards(build: Build) -> None:
    """The learner repeats what the env runner did, from the first state of each chunk to its last step."""
    algorithm = build({"training.starts": "env_runners", "environment.episode_days": 5})
    episodes = algorithm.env_runner.sample(num_timesteps=3 * HORIZON * NUM_PORTFOLIOS)
    sums = sorted(float(np.sum(episode.get_rewards())) for episode in episodes)
    assert len({len(episode) for episode in episodes}) > 1
    found: list[torch.Tensor] = []
    learner = algorithm.learner_group._learner
    losses = learner._losses

    def watch(rollout: Any) -> Any:
        found.append(rollout.rewards.detach().sum((0, 1)))
        return losses(rollout)

    learner._losses = watch
    algorithm.learner_group.update(episodes=episodes, timesteps={NUM_ENV_STEPS_SAMPLED_LIFETIME: 0})
    np.testing.assert_allclose(sorted(found[0].tolist()), sums, atol=2e-6)


@pytest.mark.parametrize(
    ("stacked", "extra"), [(1, {}), (3, {"training.bootstrap": True, "training.feature_dropout": 0.3})]
)
def test_a_restored_run_continues_to_the_bit(build: Build, tmp_path: Path, stacked: int, extra: dict[str, Any]) -> None:
    settings = {"resources.num_stacked_seeds": stacked, **extra}
    whole, first = build(settings), build(settings)
    for _ in range(2):
        whole.train()
        first.train()
    first.save_to_path(str(tmp_path / "checkpoint"))
    second = build(settings)
    second.restore_from_path(str(tmp_path / "checkpoint"))
    results = [algorithm.train() for algorithm in (whole, second)]
    assert steps(results[0]) == steps(results[1])
    expected, found = weights(whole), weights(second)
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name], name)


@pytest.mark.parametrize(("architecture", "bootstrap"), [("flat", True), ("per_asset", False)])
def test_stacked_seeds_are_the_runs_of_these_seeds(
    build: Build, market_path: Path, architecture: str, bootstrap: bool
) -> None:
    """Batched and single products round differently, by some 1e-6 of a weight after three updates."""
    settings = {
        "network.architecture": architecture,
        "training.bootstrap": bootstrap,
        "training.max_gradient_norm": 0.02,
        "training.feature_dropout": 0.2,
        "environment.cost_bps": 30.0,
    }
    together = build(settings, {"seed": 5, "resources.num_stacked_seeds": 3})
    alone = [build(settings, {"seed": seed}) for seed in (5, 6, 7)]
    for algorithm in (together, *alone):
        algorithm.train()
    stacked = weights(together)
    for index, algorithm in enumerate(alone):
        for name, value in weights(algorithm).items():
            np.testing.assert_allclose(stacked[f"members.{index}.{name}"], value, atol=5e-5, err_msg=name)


@pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.data.context")  # of its own options
def test_two_learners_make_the_updates_of_one(build: Build) -> None:
    """Sums over two halves round differently."""
    settings = {"training.bootstrap": True, "training.value_lambda": 0.5, "resources.num_stacked_seeds": 2}
    one, two = build(settings), build(settings, {"resources.num_learners": 2})
    for _ in range(2):
        one.train()
        two.train()
    expected, found = weights(one), weights(two)
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], atol=5e-5, err_msg=name)


def test_env_runners_in_processes_of_their_own_walk_for_the_learner(build: Build) -> None:
    algorithm = build({"training.starts": "env_runners", "resources.num_env_runners": 2})
    result = algorithm.train()
    assert steps(result) >= 2 * NUM_PORTFOLIOS * HORIZON


def test_a_stacked_policy_is_the_mean_of_its_members(build: Build, tiny_market: MarketData, tmp_path: Path) -> None:
    config = apg_config({"resources.num_stacked_seeds": 3})
    algorithm = build({"resources.num_stacked_seeds": 3})
    algorithm.train()
    policy = current_policy(algorithm, config, tiny_market)
    policy.save(tmp_path / "policy")
    loaded = load_policy(tmp_path / "policy")
    observations = np.random.default_rng(0).normal(size=(7, len(policy.spec.observation_names))).astype(np.float32)
    observations[:, -tiny_market.num_assets - 1 :] = 1.0 / (tiny_market.num_assets + 1)
    members = loaded.members
    assert len(members) == 3
    targets = np.array([member(observations) for member in members])
    assert targets.std(0).max() > 1e-6
    np.testing.assert_allclose(loaded(observations), targets.mean(0), atol=1e-15)
    module = torch_module(loaded)
    with torch.no_grad():
        inputs = module.forward_inference({"obs": torch.from_numpy(observations)})["action_dist_inputs"]
    logits = config.environment.logit_scale * inputs[:, : tiny_market.num_assets + 1]
    np.testing.assert_allclose(torch.softmax(logits, -1).numpy(), targets.mean(0), atol=1e-6)


def test_a_universe_is_learned_with_the_per_asset_network(build: Build, tmp_path: Path) -> None:
    market = universe_market(num_days=200)
    market.save(tmp_path / "market.npz")
    settings = {"network.architecture": "per_asset", "network.hidden_sizes": [4], "resources.num_stacked_seeds": 2}
    algorithm = build(settings, path=tmp_path / "market.npz")
    algorithm.train()
    policy = current_policy(algorithm, apg_config(settings), market)
    assert isinstance(policy, PortfolioPolicy)
    assert policy.spec.takes_any_assets


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"resources.num_env_runners": 1}, "resources.num_env_runners must be 0 with training.starts=learner"),
        (
            {"training.starts": "env_runners", "resources.num_stacked_seeds": 2},
            "resources.num_stacked_seeds must be 1 with training.starts=env_runners",
        ),
        ({"resources.num_learners": 3}, "must be a multiple of resources.num_learners"),
        ({"resources.env_runner": "stock"}, "resources.env_runner"),
        ({"resources.learner": "stock"}, "resources.learner"),
        ({"resources.mixed_precision": "bf16"}, "resources.mixed_precision"),
        ({"market.observation_filter": "running"}, "market.observation_filter must be train_window or none"),
        ({"training.learning_rate": 0.1, "training.weight_decay": 10.0}, "weight_decay must be below 1"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        apg_config(settings)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"explore": True}, "explore must be False"),
        ({"grad_clip": 1.0}, "grad_clip must be None"),
    ],
)
def test_rllib_settings_without_meaning_are_refused(market_path: Path, change: dict[str, Any], words: str) -> None:
    config = apg.algorithm_config(apg_config(), market_path)
    for name, value in change.items():
        setattr(config, name, value)
    with pytest.raises(ConfigError, match=words):
        config.validate()


def test_a_gradient_that_is_not_finite_leaves_its_network_alone(build: Build) -> None:
    algorithm = build({"resources.num_stacked_seeds": 2})
    algorithm.train()
    learner = algorithm.learner_group._learner
    bound = learner._bound_gradients
    half = learner._flat.gradient.numel() // 2

    def spoilt() -> bool:
        learner._flat.gradient[half + 3] = torch.nan
        return bool(bound())

    learner._bound_gradients = spoilt
    before = weights(algorithm)
    algorithm.train()
    after = weights(algorithm)
    assert all(np.isfinite(value).all() for value in after.values())
    assert any((after[name] != before[name]).any() for name in after if name.startswith("members.0.actor"))
