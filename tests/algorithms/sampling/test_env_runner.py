"""The vectorised env runner yields what RLlib's own does, and keeps what hangs on it."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from ray.rllib.callbacks.callbacks import RLlibCallback
from ray.rllib.connectors.env_to_module import MeanStdFilter
from ray.rllib.core import COMPONENT_RL_MODULE, DEFAULT_MODULE_ID
from ray.rllib.core.columns import Columns
from ray.rllib.env.env_runner import NUM_ENV_STEP_FAILURES_LIFETIME
from ray.rllib.utils.metrics import ENV_RUNNER_RESULTS, WEIGHTS_SEQ_NO

from rllib_portfolio.algorithms.sampling.env_runner import STREAMS, VectorisedEnvRunner
from rllib_portfolio.algorithms.sampling.seeded_env_runner import ASSET_RETURNS, SeededEnvRunner
from rllib_portfolio.env import PortfolioVectorEnv
from rllib_portfolio.market import MarketData
from tests.algorithms.sampling.samples import (
    algorithm_config,
    build_runner,
    chunks_by_environment,
    flat,
    reduced_metrics,
    sent,
)

SHAPES = {
    "one environment": {"resources.num_envs_per_env_runner": 1, "environment.episode_days": 3},
    "episodes end in fragments": {"resources.num_envs_per_env_runner": 3, "environment.episode_days": 7},
    "episodes outlast fragments": {"resources.num_envs_per_env_runner": 5, "environment.episode_days": 30},
    "as many resets as steps": {"resources.num_envs_per_env_runner": 4, "environment.episode_days": 1},
    "decisions every third day": {"environment.episode_days": 8, "environment.rebalance_days": 3},
    "a reward with a memory": {"environment.reward": "differential_sharpe", "environment.execution_lag": 0},
    "many environments": {"resources.num_envs_per_env_runner": 7, "environment.episode_days": 5},
}
FRAGMENTS = 5
COLUMNS = ("observations", "actions", "rewards")


@pytest.fixture(scope="module")
def market_path(tiny_market: MarketData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("market") / "tiny.npz"
    tiny_market.save(path)
    return path


def sampled(runner: Any, num_fragments: int = FRAGMENTS, **kwargs: Any) -> list[list[Any]]:
    """Fragments that a runner samples from the same noise, whichever runner it is."""
    torch.manual_seed(7)
    return [runner.sample(**kwargs) for _ in range(num_fragments)]


def assert_same_fragments(ours: Any, our_fragments: list[Any], stock: Any, stock_fragments: list[Any]) -> None:
    for mine, theirs in zip(our_fragments, stock_fragments, strict=True):
        my_chunks, their_chunks = chunks_by_environment(ours, mine), chunks_by_environment(stock, theirs)
        assert list(my_chunks) == list(their_chunks)
        for index, chunks in my_chunks.items():
            for my_chunk, their_chunk in zip(chunks, their_chunks[index], strict=True):
                assert_same_chunk(my_chunk, their_chunk)


def assert_same_chunk(ours: Any, stock: Any) -> None:
    for name in ("t_started", "t", "is_terminated", "is_truncated", "is_done", "is_numpy"):
        assert getattr(ours, name) == getattr(stock, name), name
    for name in COLUMNS:
        assert_same_array(getattr(ours, f"get_{name}")(), getattr(stock, f"get_{name}")())
    for name in (Columns.ACTION_DIST_INPUTS, WEIGHTS_SEQ_NO):
        assert_same_array(ours.get_extra_model_outputs(name), stock.get_extra_model_outputs(name))
    # One sum over [R, B, A] and R sums over [B, A] may add in another order.
    ours_logp, stock_logp = (chunk.get_extra_model_outputs(Columns.ACTION_LOGP) for chunk in (ours, stock))
    assert ours_logp.dtype == stock_logp.dtype
    np.testing.assert_allclose(ours_logp, stock_logp, rtol=1e-6, atol=1e-6)
    infos = stock.get_infos()[1:]
    assert_same_array(ours.get_extra_model_outputs(ASSET_RETURNS), np.stack([info["asset_returns"] for info in infos]))
    assert_same_array(ours.get_extra_model_outputs(ASSET_RETURNS), stock.get_extra_model_outputs(ASSET_RETURNS))
    np.testing.assert_equal(ours.get_infos(), stock.get_infos())
    assert ours.custom_data == stock.custom_data
    ours.validate()


def assert_same_array(ours: np.ndarray, stock: np.ndarray) -> None:
    assert ours.dtype == stock.dtype
    np.testing.assert_array_equal(ours, stock)


@pytest.mark.parametrize("shape", SHAPES)
def test_fragments_hold_what_rllibs_runner_samples(market_path: Path, shape: str) -> None:
    config = algorithm_config(market_path, SHAPES[shape])
    stock = build_runner(SeededEnvRunner, config)
    stock_fragments = sampled(stock)
    ours = build_runner(VectorisedEnvRunner, config)
    our_fragments = sampled(ours)
    assert_same_fragments(ours, our_fragments, stock, stock_fragments)
    assert any(chunk.is_truncated for fragment in our_fragments for chunk in fragment)


@pytest.mark.parametrize("num_timesteps", [1, 2, 10, 31])
def test_fragments_may_have_any_size(market_path: Path, num_timesteps: int) -> None:
    config = algorithm_config(market_path)
    stock = build_runner(SeededEnvRunner, config)
    stock_fragments = sampled(stock, 7, num_timesteps=num_timesteps)
    ours = build_runner(VectorisedEnvRunner, config)
    our_fragments = sampled(ours, 7, num_timesteps=num_timesteps)
    assert_same_fragments(ours, our_fragments, stock, stock_fragments)


def test_out_of_range_actions_are_kept_and_clipped_for_the_environment_alone(market_path: Path) -> None:
    runner = build_runner(VectorisedEnvRunner, algorithm_config(market_path))
    (actions,) = (np.concatenate([chunk.get_actions() for chunk in fragment]) for fragment in sampled(runner, 1))
    assert (np.abs(actions) > 1.0).any()  # and the environment, which raises at such an action, did not


@pytest.mark.parametrize("shape", ["episodes end in fragments", "episodes outlast fragments"])
def test_episode_metrics_are_those_of_rllibs_runner(market_path: Path, shape: str) -> None:
    config = algorithm_config(market_path, SHAPES[shape])
    reports: list[list[dict[str, Any]]] = []
    for runner_class in (SeededEnvRunner, VectorisedEnvRunner):
        runner = build_runner(runner_class, config)
        torch.manual_seed(7)
        reports.append([])
        for _ in range(FRAGMENTS):
            runner.sample()
            reports[-1].append(reduced_metrics(runner))
    for stock, ours in zip(*reports, strict=True):
        # RLlib's connectors, which the fast path does not call, report their own times and lengths.
        assert {name for name in stock if "connector" not in name and "env_to_module" not in name} <= set(ours)
        compared = {name for name in ours if not _is_time(name)}
        assert {name: ours[name] for name in compared} == pytest.approx(
            {name: stock[name] for name in compared}, rel=1e-9, nan_ok=True
        )
    num_steps = FRAGMENTS * 11 * config.num_envs_per_env_runner
    assert sum(report["num_env_steps_sampled"] for report in reports[1]) == num_steps
    last = reports[1][-1]
    if shape == "episodes end in fragments":
        assert last["episode_len_mean"] == 7
        assert last["episode_duration_sec_mean"] > 0.0


def _is_time(name: str) -> bool:
    return any(part in name for part in ("timer", "sample", "_sec_", "time_between", "throughput")) and not any(
        part in name for part in ("num_env_steps", "num_agent_steps", "num_module_steps")
    )


@pytest.mark.parametrize(
    "shape", ["episodes end in fragments", "episodes outlast fragments", "as many resets as steps"]
)
def test_episode_callbacks_come_as_from_rllibs_runner(market_path: Path, shape: str) -> None:
    config = algorithm_config(market_path, SHAPES[shape])
    notes = []
    for runner_class in (SeededEnvRunner, VectorisedEnvRunner):
        runner = build_runner(runner_class, config)
        sampled(runner)
        notes.append(runner.notes)
    for index in range(config.num_envs_per_env_runner):
        stock, ours = ([note for note in of if note[1] == index] for of in notes)
        # RLlib announces an episode before its first step, the fast path with its first chunk.
        assert ours == stock[: len(ours)]
        assert [event for event, _, _ in stock[len(ours) :]] in ([], ["created"], ["created", "start"])


class CountSteps(RLlibCallback):
    steps = 0

    def on_episode_step(self, **kwargs: Any) -> None:
        type(self).steps += 1


def test_a_step_callback_is_called_at_each_step(market_path: Path) -> None:
    CountSteps.steps = 0
    runner = build_runner(VectorisedEnvRunner, algorithm_config(market_path).callbacks(CountSteps))
    assert sum(map(len, runner.sample())) == 33
    assert CountSteps.steps == 33


def test_a_running_observation_filter_filters(market_path: Path) -> None:
    config = algorithm_config(market_path, {"market.observation_filter": "running"})
    runner = build_runner(VectorisedEnvRunner, config)
    for _ in range(3):
        episodes = runner.sample()
    (running_filter,) = (piece for piece in runner._env_to_module.connectors if isinstance(piece, MeanStdFilter))
    (state,) = running_filter.get_state().values()
    assert state["running_stats"][0]["num_pushes"] >= 99  # the filter has seen each of the observations
    raw = build_runner(VectorisedEnvRunner, algorithm_config(market_path))
    largest = [
        np.abs(np.concatenate([chunk.get_observations() for chunk in of])).max() for of in (episodes, raw.sample())
    ]
    assert largest[0] < 20.0 < 1000.0 < largest[1]  # features are row numbers, up to 3 036


@pytest.mark.parametrize("setting", [{"explore": False}, {"random_actions": True}])
def test_other_ways_to_act_interrupt_the_fast_path_cleanly(market_path: Path, setting: dict[str, bool]) -> None:
    runner = build_runner(VectorisedEnvRunner, algorithm_config(market_path))
    for kwargs in ({}, setting, setting, {}, {}):
        episodes = runner.sample(num_timesteps=12, **kwargs)
        assert sum(map(len, episodes)) in (12, 13, 14)
        assert all(np.isfinite(episode.get_observations()).all() for episode in episodes)
        runner.get_metrics()


def test_whole_episodes_are_sampled_whole(market_path: Path) -> None:
    runner = build_runner(VectorisedEnvRunner, algorithm_config(market_path))
    runner.sample()
    episodes = runner.sample(num_episodes=4, explore=False)
    assert [len(episode) for episode in episodes] == [7] * 4
    assert all(episode.is_truncated for episode in episodes)
    runner.get_metrics()
    assert [episode.t_started for episode in runner.sample() if len(episode) == 7] == [0] * 3


def test_what_is_sent_is_the_episode_and_not_the_fragment_that_it_is_a_view_of(market_path: Path) -> None:
    runner = build_runner(VectorisedEnvRunner, algorithm_config(market_path))
    episode = runner.sample(num_timesteps=12_000)[0]
    columns = [getattr(episode, name) for name in COLUMNS] + list(episode.extra_model_outputs.values())
    assert len(episode) == 7
    assert len(pickle.dumps(episode)) < min(column.data.base.nbytes for column in columns) / 4
    np.testing.assert_array_equal(sent(episode).get_observations(), episode.get_observations())


def test_later_steps_leave_earlier_fragments_alone(market_path: Path) -> None:
    runner = build_runner(VectorisedEnvRunner, algorithm_config(market_path))
    episodes = runner.sample()
    kept = sent(episodes)
    runner.sample()
    for episode, copy in zip(episodes, kept, strict=True):
        np.testing.assert_array_equal(episode.get_observations(), copy.get_observations())
        np.testing.assert_array_equal(episode.get_rewards(), copy.get_rewards())


# ---------------------------------------------------------------- state


@pytest.mark.parametrize("shape", ["episodes end in fragments", "episodes outlast fragments"])
def test_a_restored_runner_continues_to_the_bit(market_path: Path, shape: str) -> None:
    config = algorithm_config(market_path, SHAPES[shape])
    first = build_runner(VectorisedEnvRunner, config)
    sampled(first, 2)
    reduced_metrics(first)
    state = sent(first.get_state())
    expected = [first.sample() for _ in range(FRAGMENTS)]
    second = build_runner(VectorisedEnvRunner, config.copy(copy_frozen=False).debugging(seed=99))
    second.set_state(state)
    for fragment in expected:
        for episode, other in zip(fragment, second.sample(), strict=True):
            for name in COLUMNS:
                assert_same_array(getattr(episode, f"get_{name}")(), getattr(other, f"get_{name}")())
            assert (episode.t_started, episode.is_done) == (other.t_started, other.is_done)
            np.testing.assert_equal(episode.get_infos(), other.get_infos())
            assert episode.custom_data == other.custom_data != {}
    ours, theirs = reduced_metrics(first), reduced_metrics(second)
    for name in ("episode_return_mean", "episode_return_min", "episode_len_mean"):
        assert theirs.get(name) == ours.get(name)


def test_a_state_is_not_changed_by_later_steps(market_path: Path) -> None:
    runner = build_runner(VectorisedEnvRunner, algorithm_config(market_path))
    runner.sample()
    streams = runner.get_state()[STREAMS]
    kept = sent(streams)
    runner.sample()
    np.testing.assert_equal(streams, kept)


def test_remote_and_evaluation_runners_keep_their_streams_to_themselves(market_path: Path) -> None:
    config = algorithm_config(market_path)
    trained = build_runner(VectorisedEnvRunner, config)
    trained.sample()
    state = trained.get_state()
    for other in (
        build_runner(VectorisedEnvRunner, config, worker_index=1),
        build_runner(VectorisedEnvRunner, _in_evaluation(config)),
    ):
        assert STREAMS not in other.get_state()
        other.set_state(state)  # RLlib gives the training runner's state to the evaluation runner
        assert other._streams is None


def _in_evaluation(config: Any) -> Any:
    evaluating = config.copy(copy_frozen=False)
    evaluating.in_evaluation = True
    return evaluating


# ---------------------------------------------------------------- failures


class FailsOnce(PortfolioVectorEnv):
    """Raises at the third step of the process."""

    steps = 0

    def step(self, actions: Any) -> Any:
        type(self).steps += 1
        if type(self).steps == 3:
            raise RuntimeError("the exchange is closed")
        return super().step(actions)


@pytest.fixture
def failing_environment() -> Iterator[str]:
    FailsOnce.steps = 0
    name = "tests/FailsOnce-v0"
    gym.register(name, entry_point=FailsOnce, vector_entry_point=FailsOnce)
    yield name
    del gym.registry[name]


def test_an_environment_that_fails_is_made_anew(
    market_path: Path, failing_environment: str, caplog: pytest.LogCaptureFixture
) -> None:
    config = algorithm_config(market_path)
    config.environment(failing_environment).fault_tolerance(restart_failed_sub_environments=True)
    runner = build_runner(VectorisedEnvRunner, config)
    with caplog.at_level(logging.ERROR):
        episodes = runner.sample()
    assert "the exchange is closed" in caplog.text
    assert sum(map(len, episodes)) == 33
    assert [len(episode) for episode in episodes if episode.is_done] == [7, 7, 7]
    assert reduced_metrics(runner)[NUM_ENV_STEP_FAILURES_LIFETIME] == 1
    assert sum(map(len, runner.sample())) == 33


# ---------------------------------------------------------------- in an algorithm


class CountBroadcasts(VectorisedEnvRunner):
    """Counts the weights that it is sent."""

    broadcasts = 0

    def set_state(self, state: dict[str, Any]) -> None:
        self.broadcasts += COMPONENT_RL_MODULE in state
        super().set_state(state)


def trained(algorithm: Any, iterations: int) -> list[dict[str, Any]]:
    return [flat(algorithm.train()) for _ in range(iterations)]


def everything(algorithm: Any) -> dict[str, Any]:
    """All that the next iteration depends on."""
    learner = algorithm.learner_group.get_state()["learner"]
    learner.pop("metrics_logger", None)
    runner = algorithm.env_runner.get_state()
    runner[STREAMS] = {name: value for name, value in runner[STREAMS].items() if "episode" not in name}  # random ids
    scale = algorithm.reward_scale.get_state()
    scale["open_sums"] = sorted(scale["open_sums"].values())
    return sent({"learner": learner, "runner": runner, "scale": scale})


@pytest.mark.parametrize("use_kl_loss", [False, True])
def test_a_resumed_run_is_the_one_that_never_stopped(
    ray_session: None, market_path: Path, tmp_path: Path, use_kl_loss: bool
) -> None:
    # Episodes of 30 days and fragments of 11 steps: one is under way in each environment when the run stops.
    settings = {"environment.episode_days": 30, "training.use_kl_loss": use_kl_loss, "training.kl_target": 1e-4}
    config = algorithm_config(market_path, settings)
    whole = config.build_algo()
    whole_results = trained(whole, 6)
    expected = everything(whole)
    whole.stop()
    first = config.copy(copy_frozen=False).build_algo()
    trained(first, 3)
    assert all(chunks for chunks in first.env_runner._ongoing_episodes_for_metrics.values())
    path = first.save_to_path(tmp_path / "checkpoint")
    first.stop()
    torch.manual_seed(12345)
    resumed = config.copy(copy_frozen=False).build_algo()
    resumed.restore_from_path(path)
    resumed_results = trained(resumed, 3)
    np.testing.assert_equal(everything(resumed), expected)
    resumed.stop()
    ended = 0
    for ours, theirs in zip(resumed_results, whole_results[3:], strict=True):
        for name in theirs:
            if "episode_return" in name or ("learners/default_policy" in name and "throughput" not in name):
                np.testing.assert_equal(ours[name], theirs[name], err_msg=name)
        ended += theirs["env_runners/num_episodes"]
    assert ended == 3


def test_evaluation_walks_whole_episodes_and_leaves_training_alone(ray_session: None, market_path: Path) -> None:
    config = algorithm_config(market_path).evaluation(
        evaluation_interval=3,  # which makes RLlib build a runner for evaluation alone
        evaluation_num_env_runners=0,
        evaluation_duration=4,
        evaluation_duration_unit="episodes",
        evaluation_config={"explore": False},
    )
    algorithm = config.build_algo()
    algorithm.train()
    runner, evaluating = algorithm.env_runner, algorithm.eval_env_runner
    assert evaluating is not runner
    streams = runner.get_state()[STREAMS]
    results = flat(algorithm.evaluate())
    np.testing.assert_equal(runner.get_state()[STREAMS], streams)
    assert results[f"{ENV_RUNNER_RESULTS}/num_episodes"] == 4
    assert results[f"{ENV_RUNNER_RESULTS}/episode_len_mean"] == 7
    assert np.isfinite(results[f"{ENV_RUNNER_RESULTS}/episode_return_mean"])
    algorithm.set_state(algorithm.get_state())  # RLlib gives the evaluation runner the training runner's state
    assert evaluating._streams is None
    np.testing.assert_equal(runner.get_state()[STREAMS], streams)
    assert np.isfinite(flat(algorithm.train())["learners/default_policy/total_loss"])
    algorithm.stop()


def test_remote_runners_send_their_own_paths_and_get_weights_once_an_update(
    ray_session: None, market_path: Path
) -> None:
    config = algorithm_config(market_path, {"resources.num_env_runners": 2})
    config.env_runners(env_runner_cls=CountBroadcasts)
    algorithm = config.build_algo()
    group = algorithm.env_runner_group

    def broadcasts() -> list[int]:
        return group.foreach_env_runner(lambda runner: runner.broadcasts, local_env_runner=False)

    before = broadcasts()
    results = trained(algorithm, 3)
    assert [after - earlier for earlier, after in zip(before, broadcasts(), strict=True)] == [3, 3]
    assert results[-1]["num_env_steps_sampled_lifetime"] == 3 * 2 * 33
    assert results[-1]["learners/default_policy/module_train_batch_size_mean"] == 66
    # One update behind: the weights of update n sample for update n + 1.
    assert results[-1]["learners/default_policy/diff_num_grad_updates_vs_sampler_policy"] == 1.0
    learned = algorithm.learner_group.get_weights()[DEFAULT_MODULE_ID]
    for held in group.foreach_env_runner(lambda runner: runner.module.get_state(), local_env_runner=False):
        for name, value in held.items():
            np.testing.assert_array_equal(value, learned[name])
    episodes = group.foreach_env_runner(lambda runner: runner.sample(), local_env_runner=False)
    first, second = (np.concatenate([chunk.get_observations() for chunk in of]) for of in episodes)
    assert len(first) > 33
    assert not np.array_equal(first[:33], second[:33])
    algorithm.stop()
