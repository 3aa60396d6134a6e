"""Tests of the assumptions of the benchmarks: one network for all, and no choice on out-of-sample days."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import gymnasium as gym
import numpy as np
import torch

from benchmarks.real_data import defaults, design
from benchmarks.throughput.setting import LOGIT_SCALE, Setting, market_file

FIRST_TEST_DAY = "2000-01-01"


def test_stable_baselines_trains_the_same_network() -> None:
    from benchmarks.throughput.sb3 import SharedTrunkPolicy

    setting = Setting(num_assets=3, hidden_sizes=(16, 8))
    spaces = (gym.spaces.Box(-1.0, 1.0, (size,)) for size in (setting.observation_size, setting.action_size))
    policy = SharedTrunkPolicy(*spaces, lr_schedule=lambda _: 3e-4, setting=setting)
    plain = policy._layers[0]
    trained = {id(parameter) for group in policy.optimizer.param_groups for parameter in group["params"]}
    in_networks = {id(parameter) for name, parameter in plain.named_parameters() if name != "log_std"}
    assert trained == in_networks | {id(policy.log_std)}
    observations = torch.from_numpy(np.random.default_rng(0).standard_normal((5, setting.observation_size))).float()
    distribution, embeddings = policy.get_distribution(observations).distribution, plain.embed(observations)
    torch.testing.assert_close(distribution.mean, plain.logits(embeddings) / LOGIT_SCALE)
    deviations = plain.log_stds(embeddings).exp() / LOGIT_SCALE
    torch.testing.assert_close(distribution.stddev, deviations.expand_as(distribution.mean))
    torch.testing.assert_close(policy.predict_values(observations).squeeze(-1), plain.values(embeddings))


def test_the_bare_loop_bootstraps_at_truncation_and_starts_anew_after_the_step_that_only_resets(tmp_path: Path) -> None:
    from benchmarks.throughput.bare_loop import BareLoop

    setting = Setting(num_assets=2, num_envs=1, rollout_steps=4, hidden_sizes=(8, 8), gamma=0.5, gae_lambda=0.5)
    rewards, values, finished = [1.0, 2.0, 0.0, 3.0], [10.0, 20.0, 40.0, 60.0, 80.0], [False, False, True, False, False]
    # delta_t = r_t + 0.5 V_{t+1} - V_t; the episode ends with step 1, step 2 only resets.
    # A_3 = 3 + 40 - 60 = -17
    # A_1 = 2 + 20 - 20 = 2, A_0 = 1 + 10 - 10 + 0.25 x 2 = 1.5
    bare = BareLoop(setting, market_file(2, tmp_path))
    bare._rewards[:, 0], bare._finished[:, 0] = rewards, finished
    advantages = bare._advantages(np.array(values, dtype=np.float32)[:, None])
    np.testing.assert_allclose(advantages[[0, 1, 3], 0], [1.5, 2.0, -17.0])


def test_the_bare_loop_of_policy_gradients_has_the_rewards_and_the_gradient_of_the_learner(tmp_path: Path) -> None:
    from benchmarks.throughput.apg_jobs import BareLoop, run_config
    from rllib_portfolio.algorithms.apg.simulation import DifferentiableSimulation
    from rllib_portfolio.env.transition import initial_state

    path, config = market_file(2, tmp_path), run_config(2, tmp_path)
    bare = BareLoop(config, path)
    bare.restart()
    simulation = DifferentiableSimulation.of(
        {"data": str(path), "random_start": True, **config.environment.model_dump()}, "cpu"
    )
    state = simulation.tensors(initial_state(bare.row.numpy(), bare.end.numpy(), 2))
    parameters = [each for name, each in bare.network.named_parameters() if name.startswith(("trunk", "actor"))]
    expected = bare.loss()

    def mean_actions(observations: torch.Tensor) -> torch.Tensor:
        return bare.network.logits(bare.network.embed(observations)) / config.environment.logit_scale

    rollout = simulation.rollout(mean_actions, state, config.rollout_steps)
    torch.testing.assert_close(-rollout.rewards.mean(), expected)
    gradients = (torch.autograd.grad(loss, parameters) for loss in (-rollout.rewards.mean(), expected))
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-8)
    torch.testing.assert_close(rollout.final.weights, bare.weights)


def test_the_settings_of_the_flat_network_were_chosen_on_days_before_2000_that_were_not_trained_on() -> None:
    for train, judged in defaults.FOLDS:
        first, second = sorted([train, judged])
        assert first[1] < second[0]
        assert second[1] < FIRST_TEST_DAY


def test_no_variant_is_judged_by_a_day_that_is_out_of_sample_or_that_it_was_trained_on() -> None:
    for train, judged in design.FOLDS.values():
        windows = sorted([train, design.BETWEEN, judged])
        assert windows[1] == design.BETWEEN
        assert all(before[1] < after[0] for before, after in pairwise(windows))
        assert windows[-1][1] < FIRST_TEST_DAY
