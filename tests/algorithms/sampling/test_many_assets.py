"""PPO over 3, 20, 100 and 500 assets: the step of the policy does not grow with them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.utils.metrics import NUM_ENV_STEPS_SAMPLED_LIFETIME

from rllib_portfolio.algorithms.learning.reward_scale import RunningRewardScale
from rllib_portfolio.algorithms.ppo import algorithm as ppo
from rllib_portfolio.algorithms.ppo.learner import FusedPPOLearner
from rllib_portfolio.algorithms.sampling.env_runner import VectorisedEnvRunner
from rllib_portfolio.config import PPORunConfig, ResourceConfig
from rllib_portfolio.market import MarketData, kelly_market
from rllib_portfolio.modules.architectures import ACTOR_CRITICS
from rllib_portfolio.modules.diagonal_gaussian import DiagonalGaussian
from rllib_portfolio.runs.folder import create_run_folder, open_run_folder
from rllib_portfolio.runs.health import Health
from rllib_portfolio.runs.tracking import learner_scalars
from tests.algorithms.sampling.samples import build_learner, build_runner, flat, weights

LARGEST_STEP = 1.0
"""Largest KL divergence, in nats, of an update with the default settings. The first updates are the largest."""
NUM_FEATURES = 12


def walks(template: MarketData, num_assets: int, days: int = 400) -> MarketData:
    """Independent random walks of 2 % a day, each with 12 features of standard size."""
    rng = np.random.default_rng(0)
    returns = 0.02 * rng.standard_normal((days, num_assets))
    returns[0] = 0.0
    return replace(
        template,
        dates=np.busday_offset("2001-01-01", np.arange(days), roll="forward"),
        assets=tuple(f"A{i}" for i in range(num_assets)),
        returns=returns,
        cash_returns=np.zeros(days),
        volatility=np.full((days, num_assets), 0.02),
        asset_features=rng.standard_normal((days, num_assets, NUM_FEATURES), dtype=np.float32),
        market_features=np.zeros((days, 0), dtype=np.float32),
        asset_feature_names=tuple(f"feature_{i}" for i in range(NUM_FEATURES)),
        market_feature_names=(),
        windows={"train": (5, days)},
        index_returns=None,
    )


def saved(market: MarketData, folder: Path) -> Path:
    path = folder / f"market_{market.num_assets}.npz"
    market.save(path)
    return path


class Updates:
    """Updates of a run's default settings but for `changes`, in this process."""

    def __init__(self, path: Path, changes: dict[str, dict[str, Any]]) -> None:
        torch.manual_seed(0)  # whatever ran before in this process
        self.config = ppo.algorithm_config(PPORunConfig(**changes), path)
        self.runner = build_runner(VectorisedEnvRunner, self.config)
        self.learner = build_learner(FusedPPOLearner, self.config, self.runner)
        self.scale, self.steps = RunningRewardScale(self.config.gamma), 0

    def next(self) -> dict[str, Any]:
        """One iteration; what the learner reports, and `moved`: the divergence over the whole batch afterwards."""
        state = self.learner.module[DEFAULT_MODULE_ID].state_dict()
        self.runner.module.load_state_dict({name: state[name] for name in self.runner.module.state_dict()})
        episodes = self.runner.sample()
        self.scale.update(episodes)
        episodes = self.scale.scaled(episodes)
        self.steps += sum(map(len, episodes))
        reported = flat(
            self.learner.update(
                episodes=episodes,
                timesteps={NUM_ENV_STEPS_SAMPLED_LIFETIME: self.steps},
                num_epochs=self.config.num_epochs,
                minibatch_size=self.config.minibatch_size,
                shuffle_batch_per_epoch=True,
            )
        )
        batch, _ = self.learner._batches.build(episodes)
        with torch.no_grad():
            now, _ = self.learner._evaluate(batch.observations)
            moved = DiagonalGaussian.from_logits(batch.distribution_inputs).kl(now).mean().item()
        values = {name.split("/")[-1]: value for name, value in reported.items() if name.startswith(DEFAULT_MODULE_ID)}
        numbers = {name: float(v.peek() if hasattr(v, "peek") else v) for name, v in values.items()}
        return numbers | {"moved": moved}


# ---------------------------------------------------------------- the step of the policy


@pytest.mark.slow
@pytest.mark.parametrize("network", [{"architecture": "flat"}, {"architecture": "per_asset", "hidden_sizes": (16,)}])
@pytest.mark.parametrize("num_assets", [3, 20, 100])
def test_an_update_moves_the_policy_by_no_more_for_many_assets(
    tiny_market: MarketData, tmp_path: Path, num_assets: int, network: dict[str, Any]
) -> None:
    updates = Updates(saved(walks(tiny_market, num_assets), tmp_path), {"network": network})
    for reported in (updates.next(), updates.next()):
        assert 0.0 < reported["moved"] < LARGEST_STEP
        assert 0.0 < reported["mean_kl_loss"] < LARGEST_STEP
        assert reported["num_updates_left_out"] == 0
        assert reported["num_gradient_steps"] == 16


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["flat", "auto"])
def test_updates_over_500_assets_are_finite_and_bounded(
    tiny_market: MarketData, tmp_path: Path, architecture: str
) -> None:
    changes = {
        "network": {"architecture": architecture},
        "training": {"rollout_steps": 16, "minibatch_size": 256},
        "resources": {"num_envs_per_env_runner": 32},
    }
    updates = Updates(saved(walks(tiny_market, 500, days=120), tmp_path), changes)
    before = weights(updates.learner)
    reported = updates.next()
    assert all(np.isfinite(value).all() for value in weights(updates.learner).values())
    assert any(np.abs(value - before[name]).max() > 0 for name, value in weights(updates.learner).items())
    assert np.isfinite(reported["gradients_default_optimizer_global_norm"])
    assert reported["num_updates_left_out"] == 0
    assert 0.0 < reported["moved"] < LARGEST_STEP


@pytest.mark.slow
def test_without_the_remedies_the_step_does_grow(tiny_market: MarketData, tmp_path: Path) -> None:
    path = saved(walks(tiny_market, 100), tmp_path)
    as_it_was = {"training": {"learning_rate": 1e-3 * 100 / 20, "max_kl": None}}
    now, before = (Updates(path, {**changes, "network": {"architecture": "flat"}}) for changes in ({}, as_it_was))
    assert before.next()["moved"] > 4.0 * now.next()["moved"]


@pytest.mark.slow
def test_an_update_ends_when_the_policy_has_moved_too_far(tiny_market: MarketData, tmp_path: Path) -> None:
    path = saved(walks(tiny_market, 3), tmp_path)
    free, bound = (Updates(path, {"training": {"max_kl": limit, "learning_rate": 5e-3}}) for limit in (None, 0.05))
    whole, ended = free.next(), bound.next()
    assert whole["num_gradient_steps"] == 16
    assert 1 <= ended["num_gradient_steps"] < 16
    assert ended["mean_kl_loss"] > 0.05  # of the minibatch that ended it
    assert ended["num_module_steps_trained"] == 512 * ended["num_gradient_steps"]
    assert whole["num_module_steps_trained"] == 4 * 2048


@pytest.mark.slow
@pytest.mark.parametrize("num_assets", [1, 3, 20])
def test_few_assets_learn_as_if_there_were_no_remedy(tiny_market: MarketData, tmp_path: Path, num_assets: int) -> None:
    path = saved(walks(tiny_market, num_assets), tmp_path)
    plain = Updates(path, {"training": {"max_kl": None}, "network": {"architecture": "flat"}})
    plain.config.training(lr=[[0, 1e-3], [500_000, 0.0]])  # the rate as it is stated
    default = Updates(path, {})
    assert default.config.lr == plain.config.lr
    for _ in range(2):
        for updates in (plain, default):
            torch.manual_seed(1)
            updates.next()
    for name, value in weights(default.learner).items():
        np.testing.assert_array_equal(value, weights(plain.learner)[name])


@pytest.mark.parametrize(
    ("architecture", "num_assets", "rate"), [("flat", 20, 1e-3), ("flat", 100, 2e-4), ("per_asset", 100, 1e-3)]
)
@pytest.mark.parametrize("falls", [True, False])
def test_the_learning_rate_of_a_flat_network_falls_with_the_assets(
    tiny_market: MarketData, tmp_path: Path, architecture: str, num_assets: int, rate: float, falls: bool
) -> None:
    training = {} if falls else {"learning_rate_end": None}
    config = PPORunConfig(network={"architecture": architecture}, training=training)
    told = ppo.algorithm_config(config, saved(walks(tiny_market, num_assets), tmp_path)).lr
    assert (told[0][1] if falls else told) == pytest.approx(rate, rel=1e-12)


# ---------------------------------------------------------------- the divergence


def test_the_divergence_is_the_expectation_of_the_log_ratio() -> None:
    generator = torch.Generator().manual_seed(0)
    loc, other_loc, log_std, other_log_std = (torch.randn(2, 5, generator=generator) * 0.3 for _ in range(4))
    ours, other = DiagonalGaussian(loc, log_std), DiagonalGaussian(other_loc, other_log_std)
    samples = loc + log_std.exp() * torch.randn(200_000, 2, 5, generator=generator)
    ratios = ours.logp(samples) - other.logp(samples)
    error = ratios.std(0) / 200_000**0.5
    assert ((ours.kl(other) - ratios.mean(0)).abs() < 4 * error).all()
    assert ours.kl(ours).abs().max() == 0.0
    # By hand: unit variances, means 3 apart: 9 / 2; then a deviation of e against 1: (e^2 - 1) / 2 - 1.
    one = DiagonalGaussian(torch.zeros(1, 1), torch.zeros(1))
    assert one.kl(DiagonalGaussian(torch.full((1, 1), 3.0), torch.zeros(1))).item() == pytest.approx(4.5)
    wide = DiagonalGaussian(torch.zeros(1, 1), torch.ones(1))
    assert wide.kl(one).item() == pytest.approx((np.e**2 - 1.0) / 2.0 - 1.0, rel=1e-6)


# ---------------------------------------------------------------- what the number of assets decides


@pytest.mark.parametrize(("num_assets", "expected"), [(1, "flat"), (20, "flat"), (49, "flat"), (50, "per_asset")])
def test_the_architecture_is_chosen_by_the_number_of_assets(
    tiny_market: MarketData, num_assets: int, expected: str
) -> None:
    config = PPORunConfig()
    assert config.network.architecture == "auto"
    market = walks(tiny_market, num_assets, days=60)
    chosen = config.for_assets(num_assets)
    assert chosen.network.architecture == expected
    assert chosen.network.hidden_sizes == ((256, 256) if expected == "flat" else (16,))
    assert chosen.for_assets(1) == chosen  # decided once
    assert ppo.module_spec(config, market).module_class is ACTOR_CRITICS[expected]
    (note,) = ppo.start_notes(config, market)
    assert f"The network is {expected} with hidden_sizes" in note
    assert str(num_assets) in note


def test_ppo_says_where_losses_are_too_rare_for_its_batches() -> None:
    market = kelly_market(up=0.0022963, down=0.5, probability=0.996, num_days=20_000, seed=0)
    network = {"architecture": "flat"}
    (note,) = ppo.start_notes(PPORunConfig(network=network), market)
    assert "have a kurtosis above 100" in note
    assert market.assets[0] in note
    assert "resources.num_envs_per_env_runner=256 " in note
    (note,) = ppo.start_notes(PPORunConfig(network=network, resources={"num_env_runners": 2}), market)
    assert "resources.num_envs_per_env_runner=128 " in note
    for num_envs, is_wide in ((255, False), (256, True)):
        wide = PPORunConfig(network=network, resources={"num_envs_per_env_runner": num_envs})
        assert (ppo.start_notes(wide, market) == ()) == is_wide
    ordinary = kelly_market(up=0.2, down=0.2, probability=0.58, num_days=20_000, seed=0)
    assert ppo.start_notes(PPORunConfig(network=network), ordinary) == ()
    standing = replace(ordinary, returns=np.full_like(ordinary.returns, 1e-4))
    assert ppo.start_notes(PPORunConfig(network=network), standing) == ()


def test_the_folder_of_a_run_holds_what_was_chosen(tiny_market: MarketData, tmp_path: Path) -> None:
    config = PPORunConfig()
    for num_assets, expected in ((3, "flat"), (50, "per_asset")):
        market = walks(tiny_market, num_assets, days=60)
        create_run_folder(tmp_path / expected, config, market)
        opened, _ = open_run_folder(tmp_path / expected, {})
        assert opened.network == config.for_assets(num_assets).network
        assert opened.network.architecture == expected  # type: ignore[union-attr]


def test_updates_that_are_left_out_are_told_at_the_first_and_at_each_doubling() -> None:
    health = Health(SimpleNamespace(silent_env_runners=()), ResourceConfig())
    counts = [0, 1, 1, 2, 3, 4, 7, 9]
    told = [health.notice(2048, learner_scalars({"num_updates_left_out": count})) for count in counts]
    assert [count for count, line in zip(counts, told, strict=True) if line] == [1, 2, 4, 9]
    assert "2,048 steps: so far 1 update was left out, because a gradient was not finite" in str(told[1])
