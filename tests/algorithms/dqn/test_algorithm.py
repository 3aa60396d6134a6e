"""DQN as an algorithm: what an iteration does, what a checkpoint holds, and what can be switched."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.columns import Columns
from ray.rllib.utils.from_config import from_config
from ray.rllib.utils.metrics import LEARNER_RESULTS, REPLAY_BUFFER_RESULTS
from ray.rllib.utils.replay_buffers import ReplayBuffer

from rllib_portfolio.algorithms.dqn import algorithm as dqn
from rllib_portfolio.algorithms.policy_export import current_policy
from rllib_portfolio.algorithms.replay.replay_buffer import N_STEP, WEIGHTS, ArrayEpisodeReplayBuffer
from rllib_portfolio.algorithms.sampling.counterfactual import COLUMNS, Counterfactuals
from rllib_portfolio.backtest.engine import backtest
from rllib_portfolio.env import PortfolioVectorEnv
from rllib_portfolio.env.action_map import NO_INPUTS, ActionInputs
from rllib_portfolio.env.action_table import ActionTable
from rllib_portfolio.market import MarketData
from rllib_portfolio.policies.saved_policy import load_policy
from tests.algorithms.dqn.dqn_runs import MARKET_PATH, run_config

pytestmark = pytest.mark.usefixtures("ray_session")


@pytest.fixture
def market_path(tiny_market: MarketData, tmp_path: Path) -> Path:
    tiny_market.save(tmp_path / "market.npz")
    return tmp_path / "market.npz"


@contextmanager
def algorithm(
    market_path: Path, settings: Mapping[str, Any] | None = None, iteration_steps: int = 40
) -> Iterator[dqn.PortfolioDQN]:
    """An algorithm whose iterations are five fragments of 8 steps, or as many as are given."""
    config = dqn.algorithm_config(run_config(settings), market_path)
    built = config.training(steps_per_iteration=iteration_steps).build_algo()
    try:
        yield built
    finally:
        built.stop()


def weights(built: dqn.PortfolioDQN) -> dict[str, np.ndarray]:
    return {name: np.array(w) for name, w in built.learner_group.get_weights()[DEFAULT_MODULE_ID].items()}


def assert_same(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> None:
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        np.testing.assert_array_equal(value, theirs[name], err_msg=name)


def test_an_iteration_samples_stores_learns_and_sends_weights(market_path: Path) -> None:
    with algorithm(market_path) as built:
        results = [built.train() for _ in range(3)]
        steps = [result["num_env_steps_sampled_lifetime"] for result in results]
        assert steps == [40, 80, 120]
        # one gradient step of 8 transitions for every 4 environment steps from the 24th on: (40 - 16) / 4, 10, 10
        trained = [result[LEARNER_RESULTS][DEFAULT_MODULE_ID]["num_module_steps_trained"] for result in results]
        assert trained == [48, 80, 80]
        assert results[-1][REPLAY_BUFFER_RESULTS]["num_env_steps_stored"] == 120
        assert results[-1][REPLAY_BUFFER_RESULTS]["beta"] == 1.0
        sampler = built.env_runner.module.get_state()
        for name, value in weights(built).items():
            if not name.startswith("target"):
                np.testing.assert_array_equal(sampler[name], value, err_msg=name)


def test_the_target_network_averages_the_weights_after_every_round_of_updates(market_path: Path) -> None:
    # Visits of 8 steps and two gradient steps, and an average over 40 steps.
    with algorithm(market_path, iteration_steps=8) as built:
        for _ in range(6):
            built.train()
        before = weights(built)
        result = built.train()[LEARNER_RESULTS][DEFAULT_MODULE_ID]
        after = weights(built)
    assert result["num_target_updates"] == 5  # learning starts at the third round
    share = 1.0 - math.exp(-8 / 40)
    for name, average in after.items():
        if name.startswith("target_"):
            expected = (1.0 - share) * before[name] + share * after[name.removeprefix("target_")]
            np.testing.assert_allclose(average, expected, rtol=1e-5, atol=1e-7, err_msg=name)


def test_fragments_without_a_gradient_step_do_not_make_the_average_longer(market_path: Path) -> None:
    # A gradient step every 20 steps: after the fragments that end at 24, 40, 64, 80, 104 and 120 steps.
    with algorithm(market_path, {"training.steps_per_update": 20}, iteration_steps=120) as built:
        result = built.train()[LEARNER_RESULTS][DEFAULT_MODULE_ID]
        assert built.config.tau == pytest.approx(1.0 - math.exp(-20 / 40))
    assert result["num_target_updates"] == 6


def test_the_policy_decides_with_the_average(market_path: Path, tiny_market: MarketData) -> None:
    with algorithm(market_path) as built:
        built.train()
        values = weights(built)
        policy = current_policy(built, run_config(), tiny_market)
    for name, value in policy.weights.items():
        np.testing.assert_array_equal(value, values[f"target_{name}"], err_msg=name)
    assert any(not np.array_equal(values[f"target_{name}"], values[name]) for name in policy.weights)


def test_a_resumed_run_is_one_that_never_stopped(market_path: Path, tmp_path: Path) -> None:
    with algorithm(market_path) as built:
        for _ in range(2):
            built.train()
        built.save_to_path(str(tmp_path / "checkpoint"))
        expected = [built.train()["env_runners"].get("episode_return_mean") for _ in range(2)]
        expected_weights, expected_buffer = weights(built), built.local_replay_buffer.get_state()
    with algorithm(market_path) as resumed:
        resumed.restore_from_path(str(tmp_path / "checkpoint"))
        assert resumed._num_steps_sampled() == 80
        got = [resumed.train()["env_runners"].get("episode_return_mean") for _ in range(2)]
        assert got == expected
        assert_same(weights(resumed), expected_weights)
        buffer = resumed.local_replay_buffer.get_state()
        np.testing.assert_array_equal(buffer["priorities"], expected_buffer["priorities"])
        assert buffer["store"]["columns"] == expected_buffer["store"]["columns"]
        assert buffer["generator"] == expected_buffer["generator"]


def test_a_buffer_that_never_holds_the_first_transitions_at_once_learns_all_the_same(market_path: Path) -> None:
    # of 21 observations the last one of every episode starts no transition: fewer than 20 are held at any time
    with algorithm(market_path, {"training.buffer_capacity": 21, "environment.episode_days": 3}) as built:
        before = weights(built)
        built.train()
        assert len(built.local_replay_buffer) < 20
        assert any(not np.array_equal(value, before[name]) for name, value in weights(built).items())


@pytest.mark.parametrize(
    ("setting", "value", "field", "expected"),
    [
        ("training.gamma", 0.8, "gamma", 0.8),
        ("training.n_step", 3, "n_step", 3),
        ("training.loss", "huber", "td_error_loss_fn", "huber"),
        ("training.loss", "mse", "td_error_loss_fn", "mse"),
        ("training.double_q", True, "double_q", True),
        ("training.double_q", False, "double_q", False),
        ("training.max_gradient_norm", 2.5, "grad_clip", 2.5),
        ("training.max_gradient_norm", None, "grad_clip", None),
        ("training.batch_size", 24, "train_batch_size_per_learner", 24),
        ("training.target_update_interval", 80, "tau", pytest.approx(1.0 - math.exp(-0.1))),  # 8 steps for each round
        ("training.target_update_interval", 80, "target_network_update_freq", 8),
        ("training.steps_per_update", 20, "tau", pytest.approx(1.0 - math.exp(-20 / 40))),
        ("training.learning_starts", 33, "learning_starts", 33),
        ("training.steps_per_update", 7, "steps_per_update", 7),
        ("training.normalize_rewards", False, "normalize_rewards", False),
        ("training.learning_rate_end", None, "lr", 3e-4),
        ("training.learning_rate_end", 1e-5, "lr", [[0, 3e-4], [400, 1e-5]]),
    ],
)
def test_a_setting_reaches_rllib(setting: str, value: Any, field: str, expected: Any) -> None:
    assert getattr(dqn.algorithm_config(run_config({setting: value}), MARKET_PATH), field) == expected


@pytest.mark.parametrize(
    ("setting", "value", "field", "expected"),
    [
        ("training.prioritized", True, "alpha", 0.6),
        ("training.prioritized", False, "alpha", 0.0),
        ("training.per_alpha", 0.3, "alpha", 0.3),
        ("training.per_epsilon", 1e-3, "epsilon", 1e-3),
        ("training.per_beta_start", 0.2, "beta_start", 0.2),
        ("training.per_beta_end", 0.8, "beta_end", 0.8),
        ("schedule.total_timesteps", 800, "beta_steps", 800),
        ("training.buffer_capacity", 300, "capacity", 300),
    ],
)
def test_a_setting_reaches_the_replay_buffer(setting: str, value: Any, field: str, expected: Any) -> None:
    config = dqn.algorithm_config(run_config({setting: value}), MARKET_PATH)
    buffer = from_config(ReplayBuffer, config.replay_buffer_config)  # as RLlib's algorithm makes it
    assert isinstance(buffer, ArrayEpisodeReplayBuffer)
    assert getattr(buffer, field) == expected


@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize("settings", [{"training.n_step": 3, "training.gamma": 0.5}, {}], ids=["n-step", "all actions"])
def test_a_batch_is_what_the_buffer_draws_with_its_rewards_scaled(
    settings: dict[str, Any], normalise: bool, market_path: Path
) -> None:
    with algorithm(market_path, {**settings, "training.normalize_rewards": normalise}) as built:
        built.train()
        assert built.reward_scale.count == 40 * normalise
        built.reward_scale.set_state({"count": 4, "mean": 0.0, "sum_of_squares": 0.25, "open_sums": {}})  # std 1/4
        twin = ArrayEpisodeReplayBuffer(capacity=200, extra_columns=() if settings else COLUMNS)
        twin.set_state(built.local_replay_buffer.get_state())
        if settings:
            expected = twin.sample(8, n_step=3, gamma=0.5, beta=0.7)
            assert expected[N_STEP].max() == 3
        else:
            expected = Counterfactuals.of(built.config.env_config, 64, True).batch(twin.sample(8, beta=0.7), twin.rng)
        batch = built._draw(0.7)
    assert len(set(batch[WEIGHTS])) > 1
    assert batch.keys() == expected.keys()
    expected[Columns.REWARDS] *= 4.0 if normalise else 1.0
    for name, column in expected.items():
        np.testing.assert_allclose(batch[name], column, rtol=1e-6, err_msg=name)
    assert batch[Columns.REWARDS].dtype == np.float32


@pytest.mark.parametrize("learner", ["fused", "stock"])
def test_a_batch_is_drawn_with_the_beta_of_its_step_and_gets_its_priorities_at_once(
    learner: str, market_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"training.per_beta_start": 0.2, "training.per_beta_end": 0.8, "resources.learner": learner}
    with algorithm(market_path, settings) as built:
        betas, calls = [], []
        buffer = built.local_replay_buffer
        sample, update_priorities = buffer.sample, buffer.update_priorities

        def noted_sample(num_items: int, *, beta: float, **kwargs: Any) -> dict[str, np.ndarray]:
            betas.append(beta)
            calls.append("draw")
            return sample(num_items, beta=beta, **kwargs)

        def noted_update(td_errors: np.ndarray) -> None:
            assert td_errors.shape == (8,)
            calls.append("put back")
            update_priorities(td_errors)

        monkeypatch.setattr(buffer, "sample", noted_sample)
        monkeypatch.setattr(buffer, "update_priorities", noted_update)
        for _ in range(2):
            built.train()
    # two gradient steps after each eight environment steps, from the 24th to the 80th of 400
    steps = np.repeat(np.arange(24, 81, 8), 2)
    assert betas == pytest.approx((0.2 + 0.6 * steps / 400).tolist())
    assert calls == ["draw", "put back"] * len(steps)


def test_without_a_stored_buffer_it_says_what_it_refills(
    market_path: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = {"training.store_buffer_in_checkpoints": False}
    with algorithm(market_path, settings) as built:
        built.train()
        built.save_to_path(str(tmp_path / "checkpoint"))
    with algorithm(market_path, settings, iteration_steps=8) as resumed, caplog.at_level(logging.WARNING):
        resumed.restore_from_path(str(tmp_path / "checkpoint"))
        assert "it is refilled, and learning goes on when 20 new transitions are in it" in caplog.text
        assert len(resumed.local_replay_buffer) == 0
        before = weights(resumed)
        resumed.training_step()  # 8 of 20
        assert_same(weights(resumed), before)
        for _ in range(2):  # 24 of 20
            resumed.train()
        assert len(resumed.local_replay_buffer) == 24
        assert any(not np.array_equal(value, before[name]) for name, value in weights(resumed).items())


@pytest.mark.parametrize(
    "settings",
    [
        {"network.noisy": False, "training.prioritized": False, "training.loss": "mse"},
        {"network.dueling": False, "training.double_q": False, "training.normalize_rewards": False},
        {"training.n_step": 3, "market.observation_filter": "running"},
        {"resources.env_runner": "stock", "resources.learner": "stock"},
        {"resources.num_env_runners": 2, "resources.num_envs_per_env_runner": 1},
        {"environment.action_table": "lattice", "environment.action_levels": 2},
    ],
    ids=lambda settings: " ".join(settings),
)
def test_every_switch_trains_and_decides(settings: dict[str, Any], market_path: Path, tiny_market: MarketData) -> None:
    with algorithm(market_path, settings) as built:
        before = weights(built)
        for _ in range(2):
            result = built.train()
        assert result["num_env_steps_sampled_lifetime"] == 80
        after = weights(built)
        assert any(not np.array_equal(value, before[name]) for name, value in after.items())
        policy = current_policy(built, run_config(settings), tiny_market)
        (walk,) = backtest(tiny_market, tiny_market.windows["test"], [policy], run_config(settings).environment)
        assert np.isfinite(walk.returns).all()


@pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.data.context")  # of its own options
def test_two_learners_do_what_one_does(market_path: Path) -> None:
    settings = {"network.noisy": False, "training.epsilon_end": 1.0}  # all actions random: both see the same data
    results = []
    for num_learners in (0, 2):
        with algorithm(market_path, {**settings, "resources.num_learners": num_learners}) as built:
            built.train()
            results.append(weights(built))
    one, two = results
    for name, value in one.items():
        # Adam moves a weight whose gradient is nothing but rounding by up to the learning rate, 1e-4, at each update.
        difference = np.abs(two[name] - value)
        assert np.mean(difference > 1e-6) < 0.1, name
        assert difference.max() < 2e-4, name


def test_the_exported_policy_decides_as_the_environment_maps_actions(
    market_path: Path, tiny_market: MarketData, tmp_path: Path
) -> None:
    config = run_config({"environment.cost_bps": 25.0, "environment.max_turnover": 0.4})
    with algorithm(market_path, {"environment.cost_bps": 25.0, "environment.max_turnover": 0.4}) as built:
        built.train()
        module = built.env_runner.module
        current_policy(built, config, tiny_market).save(tmp_path / "policy")
        policy = load_policy(tmp_path / "policy")
        whole_window = config.environment.model_dump() | {"episode_days": None}
        env = PortfolioVectorEnv(1, tiny_market, "test", **whole_window)
        assert policy.action_map.names == env.action_names
        (walk,) = backtest(tiny_market, tiny_market.windows["test"], [policy], config.environment)
        observation, _ = env.reset(seed=0)
        returns = []
        for _ in range(len(walk.returns)):
            action = module.forward_inference({"obs": torch.from_numpy(observation)})["actions"].numpy()
            observation, _, _, _, info = env.step(action)
            returns.append(info["portfolio_return"][0])
    np.testing.assert_allclose(walk.returns, returns, rtol=1e-9)


def test_the_inverse_volatility_action_needs_a_volatility(market_path: Path, tiny_market: MarketData) -> None:
    ladder = {"environment.action_table": "ladder"}
    with algorithm(market_path, ladder) as built:
        policy = current_policy(built, run_config(ladder), tiny_market)
    table = policy.action_map
    assert isinstance(table, ActionTable)
    drifted = np.array([[0.25, 0.25, 0.25, 0.25]])
    with pytest.raises(ValueError, match="volatility must be given for the inverse-volatility action"):
        table.target(np.array([table.inverse_volatility]), drifted, NO_INPUTS)
    # 1 / (1, 2, 4) of their sum 1.75
    chosen = table.target(np.array([table.inverse_volatility]), drifted, ActionInputs(np.array([[0.01, 0.02, 0.04]])))
    np.testing.assert_allclose(chosen, [[4 / 7, 2 / 7, 1 / 7, 0.0]])
    assert table.target(np.array([table.hold]), drifted, NO_INPUTS).tolist() == drifted.tolist()
