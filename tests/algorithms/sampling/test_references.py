"""Observations by reference: what is sampled, stored and learned is the same, and does not grow with the features."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.columns import Columns
from ray.rllib.utils.metrics import NUM_ENV_STEPS_SAMPLED_LIFETIME

from rllib_portfolio.algorithms.learning import train_batch
from rllib_portfolio.algorithms.learning.referenced_features import ReferencedFeatures
from rllib_portfolio.algorithms.ppo.learner import FusedPPOLearner
from rllib_portfolio.algorithms.sampling.callbacks import ReportFinishedEpisodes
from rllib_portfolio.algorithms.sampling.env_runner import VectorisedEnvRunner
from rllib_portfolio.env.observation import ObservationLayout
from rllib_portfolio.market import MarketData
from tests.algorithms.sampling.samples import (
    WhereFrom,
    algorithm_config,
    build_learner,
    build_runner,
    sent,
    weights,
    with_features,
)

PER_ASSET = {"network.architecture": "per_asset", "network.hidden_sizes": (8,)}


def saved(market: MarketData, folder: Path) -> Path:
    path = folder / f"market_{len(market.asset_feature_names)}_{len(market.market_feature_names)}.npz"
    market.save(path)
    return path


def runner_of(path: Path, settings: dict[str, Any] | None = None, *, whole: bool = False) -> Any:
    """A runner whose episodes hold whole observations, because a callback reads them, or references."""
    config = algorithm_config(path, settings).callbacks(WhereFrom if whole else ReportFinishedEpisodes)
    return build_runner(VectorisedEnvRunner, config)


def sampled(runner: Any, num_fragments: int = 3) -> list[Any]:
    torch.manual_seed(7)
    return [episode for _ in range(num_fragments) for episode in runner.sample()]


def updated(runner: Any, episodes: Sequence[Any]) -> Any:
    """A learner after an update on the episodes."""
    learner = build_learner(FusedPPOLearner, runner.config, runner)
    options = {"num_epochs": 3, "minibatch_size": 8, "shuffle_batch_per_epoch": True}
    learner.update(episodes=episodes, timesteps={NUM_ENV_STEPS_SAMPLED_LIFETIME: 99}, **options)
    return learner


@pytest.mark.parametrize("shape", [(4, 1), (4, 0), (0, 3), (1, 2)])
@pytest.mark.parametrize("lag", [0, 1])
def test_episodes_refer_to_the_observations_that_they_would_hold(
    tiny_market: MarketData, tmp_path: Path, shape: tuple[int, int], lag: int
) -> None:
    path = saved(with_features(tiny_market, *shape), tmp_path)
    settings = {"environment.execution_lag": lag}
    ours, wholes = sampled(runner_of(path, settings)), sampled(runner_of(path, settings, whole=True))
    features = ReferencedFeatures.of({"data": str(path)}, "cpu")
    assert len(ours) > 3
    for episode, whole in zip(ours, wholes, strict=True):
        references = episode.get_observations()
        assert references.shape == (len(episode) + 1, tiny_market.num_assets + 2)
        np.testing.assert_array_equal(features.observations(torch.from_numpy(references)), whole.get_observations())
        assert (episode.t_started, episode.is_done) == (whole.t_started, whole.is_done)
        np.testing.assert_array_equal(episode.get_actions(), whole.get_actions())
        np.testing.assert_array_equal(episode.get_rewards(), whole.get_rewards())
        assert list(episode.extra_model_outputs) == list(whole.extra_model_outputs)
        for name in episode.extra_model_outputs:
            mine, theirs = (chunk.get_extra_model_outputs(name) for chunk in (episode, whole))
            np.testing.assert_array_equal(mine, theirs, err_msg=name)
        episode.validate()


@pytest.mark.parametrize("network", [{}, PER_ASSET])
@pytest.mark.parametrize("baseline", [False, True])
def test_updates_end_in_the_same_bits(
    tiny_market: MarketData, tmp_path: Path, network: dict[str, Any], baseline: bool
) -> None:
    path = saved(with_features(tiny_market, 4), tmp_path)
    settings = {**network, "training.market_baseline": baseline}
    runners = [runner_of(path, settings, whole=whole) for whole in (False, True)]
    ours, theirs = (weights(updated(runner, sampled(runner))) for runner in runners)
    for name, value in ours.items():
        np.testing.assert_array_equal(value, theirs[name], err_msg=name)


def test_neither_episodes_nor_batches_grow_with_the_features(tiny_market: MarketData, tmp_path: Path) -> None:
    sizes = {}
    for num_features in (2, 200):
        runner = runner_of(saved(with_features(tiny_market, num_features), tmp_path))
        episodes = sampled(runner)
        batch, _ = build_learner(FusedPPOLearner, runner.config, runner)._batches.build(episodes)
        assert batch.observations.shape == (sum(map(len, episodes)), tiny_market.num_assets + 2)
        sizes[num_features] = (sum(column.nbytes for column in batch), len(pickle.dumps(episodes)))
    assert sizes[2][0] == sizes[200][0]
    assert sizes[2][1] == pytest.approx(sizes[200][1], abs=50)  # texts of the spaces and of clock times vary


def test_a_process_holds_the_features_once(tiny_market: MarketData) -> None:
    market = with_features(tiny_market, 4)
    features = ReferencedFeatures(ObservationLayout(market), "cpu")
    own = (market.asset_features, market.market_features)
    for part, array in zip(features._parts, own, strict=True):
        assert part.data_ptr() == array.ctypes.data


def test_features_are_gathered_for_any_leading_axes(tiny_market: MarketData) -> None:
    market = with_features(tiny_market, 4)
    layout = ObservationLayout(market)
    rows = np.random.default_rng(0).integers(market.num_days, size=6)
    own = np.random.default_rng(1).dirichlet(np.ones(market.num_assets + 1), size=6)
    references = torch.from_numpy(layout.refer(rows, own)).view(2, 3, -1)
    found = ReferencedFeatures(layout, "cpu").observations(references)
    np.testing.assert_array_equal(found.reshape(6, -1), layout.observe(rows, own))
    assert found.shape == (2, 3, len(layout.names))


@pytest.mark.parametrize("network", [{}, PER_ASSET])
def test_a_large_batch_passes_in_parts(
    tiny_market: MarketData, tmp_path: Path, network: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = runner_of(saved(with_features(tiny_market, 4), tmp_path), network)
    learner, episodes = build_learner(FusedPPOLearner, runner.config, runner), sampled(runner)
    batch, at_once = learner._batches.build(episodes)
    passes = []
    whole = learner._batches.whole
    object.__setattr__(learner._batches, "whole", lambda part: passes.append(len(part)) or whole(part))
    width = learner.module[DEFAULT_MODULE_ID].observation_space.shape[0]
    monkeypatch.setattr(train_batch, "LARGEST_PASS", 10 * width)
    in_parts = learner._batches._values(batch.observations)
    assert len(passes) > 5
    assert max(passes) <= 10
    assert sum(passes) == len(batch.observations)
    torch.testing.assert_close(in_parts, at_once)


@pytest.mark.parametrize(
    "settings",
    [{"resources.learner": "stock"}, {"market.observation_filter": "running"}, {"resources.env_runner": "stock"}],
)
def test_rllibs_own_parts_get_whole_observations(
    tiny_market: MarketData, tmp_path: Path, settings: dict[str, Any]
) -> None:
    path = saved(with_features(tiny_market, 4), tmp_path)
    config = algorithm_config(path, settings).callbacks(ReportFinishedEpisodes)
    runner = build_runner(config.env_runner_cls, config)
    width = runner.env.single_observation_space.shape[0]
    assert width == 3 * 4 + 1 + 4
    assert {episode.get_observations().shape[1] for episode in runner.sample()} == {width}


def test_a_callback_that_reads_observations_gets_whole_ones(tiny_market: MarketData, tmp_path: Path) -> None:
    path = saved(with_features(tiny_market, 4), tmp_path)
    whole, ours = (runner_of(path, whole=whole).sample()[0].get_observations(0) for whole in (True, False))
    assert (len(whole), len(ours)) == (3 * 4 + 1 + 4, 1 + 4)


def test_a_single_feature_is_held_itself(tiny_market: MarketData, tmp_path: Path) -> None:
    path = saved(with_features(tiny_market, 0, 1), tmp_path)
    (observation, *_) = runner_of(path).sample()[0].get_observations()
    assert len(observation) == 1 + 4
    assert observation[0] != int(observation[0])


def test_a_restored_runner_goes_on_by_reference(tiny_market: MarketData, tmp_path: Path) -> None:
    path = saved(with_features(tiny_market, 4), tmp_path)
    first, second = runner_of(path), runner_of(path)
    first.sample()
    state = sent(first.get_state())
    expected = first.sample()
    second.set_state(state)
    for episode, other in zip(expected, second.sample(), strict=True):
        np.testing.assert_array_equal(episode.get_observations(), other.get_observations())
        np.testing.assert_array_equal(
            episode.get_extra_model_outputs(Columns.ACTION_DIST_INPUTS),
            other.get_extra_model_outputs(Columns.ACTION_DIST_INPUTS),
        )
