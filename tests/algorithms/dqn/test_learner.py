"""The fused DQN learner against RLlib's, and against targets worked by hand."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from ray.rllib.algorithms.dqn.torch.dqn_torch_learner import DQNTorchLearner
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.columns import Columns
from ray.rllib.utils.metrics import NUM_ENV_STEPS_SAMPLED_LIFETIME, TD_ERROR_KEY

from rllib_portfolio.algorithms.dqn.learner import _LOSSES, LEARNING_STATE
from rllib_portfolio.algorithms.replay.replay_buffer import N_STEP, WEIGHTS, ArrayEpisodeReplayBuffer
from rllib_portfolio.config import DQNConfig
from tests.algorithms.dqn.dqn_runs import D, build_learner, module_of, multi_agent, random_columns, weights
from tests.algorithms.replay.transitions import chunk

pytestmark = pytest.mark.usefixtures("ray_session")

PLAIN = {"network.noisy": False}  # RLlib's learner cannot draw the same noise


def learn(learner: Any, columns: dict[str, Any], timestep: int = 0) -> Any:
    """One update through RLlib's own interface; its metrics."""
    return learner.update(batch=multi_agent(columns), timesteps={NUM_ENV_STEPS_SAMPLED_LIFETIME: timestep})


def metric(results: Any, name: str) -> Any:
    return np.ravel(np.asarray(results[DEFAULT_MODULE_ID][name].peek()))


@pytest.mark.parametrize("double_q", [True, False])
@pytest.mark.parametrize("loss", ["huber", "mse"])
@pytest.mark.parametrize("dueling", [True, False])
def test_updates_are_those_of_rllibs_learner(double_q: bool, loss: str, dueling: bool) -> None:
    settings = {
        **PLAIN,
        "network.dueling": dueling,
        "training.double_q": double_q,
        "training.loss": loss,
        "training.learning_rate": 1e-2,
        "training.max_gradient_norm": 0.05,
    }
    ours, theirs = build_learner(settings), build_learner(settings, DQNTorchLearner)
    for update in range(4):
        columns = random_columns(seed=update)
        # the third one is past the target update interval of 40
        our_results, their_results = (learn(learner, columns, timestep=25 * update) for learner in (ours, theirs))
        for name in ("qf_loss", "qf_mean", "qf_max", "qf_min", "td_error_mean", TD_ERROR_KEY):
            np.testing.assert_allclose(
                metric(our_results, name), metric(their_results, name), rtol=2e-5, atol=1e-6, err_msg=name
            )
        our_weights, their_weights = weights(ours), weights(theirs)
        assert our_weights.keys() == their_weights.keys()
        for name, value in our_weights.items():
            np.testing.assert_allclose(value, their_weights[name], rtol=1e-4, atol=1e-5, err_msg=f"{update} {name}")
    assert any(name.startswith("target_q_net") for name in our_weights)


def test_the_default_loss_estimates_the_mean() -> None:
    # All in an asset that gains 0.23 % on 249 days of 250 and halves on one: the mean is below zero, the usual day's
    # reward is above it, and the loss is some 80 times as large as the rewards' deviation elsewhere.
    rewards = torch.tensor([0.5, -80.0], dtype=torch.float64)
    probabilities = torch.tensor([0.996, 0.004], dtype=torch.float64)

    def expected_slope(loss: str, value: float) -> float:
        return float((probabilities * _LOSSES[loss](value - rewards)[1]).sum())

    mean = float((probabilities * rewards).sum())
    assert expected_slope(DQNConfig().loss, mean) == pytest.approx(0.0, abs=1e-12)
    assert expected_slope("huber", mean) < -0.1  # and so it settles at 0.496, far above the mean of 0.178
    assert expected_slope("huber", 0.496) == pytest.approx(0.0, abs=1e-4)


def test_without_a_discount_no_next_state_is_read() -> None:
    learner = build_learner({**PLAIN, "training.gamma": 0.0})
    columns = random_columns()
    columns[Columns.NEXT_OBS] = np.full_like(columns[Columns.NEXT_OBS], np.nan)
    with torch.no_grad():
        values = learner._online.values(torch.from_numpy(columns[Columns.OBS])).numpy()
    expected = np.abs(values[np.arange(8), columns[Columns.ACTIONS]] - columns[Columns.REWARDS])
    td_errors, step = learner.gradient_step(columns, weight=1.0)
    np.testing.assert_allclose(td_errors, expected, rtol=1e-5)
    assert step is not None


def test_several_actions_of_a_state_are_worth_as_many_transitions() -> None:
    settings = {**PLAIN, "training.learning_rate": 1e-2}
    ours, theirs = build_learner(settings), build_learner(settings, DQNTorchLearner)
    size, each = 6, 3
    for update in range(4):
        single = random_columns(size * each, seed=update)
        of_states = {name: single[name][::each] for name in (Columns.OBS, Columns.TERMINATEDS, N_STEP, WEIGHTS)}
        single |= {name: values.repeat(each, 0) for name, values in of_states.items()}
        of_actions = (Columns.ACTIONS, Columns.REWARDS, Columns.NEXT_OBS)
        several = of_states | {name: single[name].reshape(size, each, *single[name].shape[1:]) for name in of_actions}
        our_results, their_results = learn(ours, several), learn(theirs, single)
        for name in ("qf_loss", "qf_mean", "qf_max", "qf_min", "td_error_mean"):
            ours_now, theirs_now = metric(our_results, name), metric(their_results, name)
            np.testing.assert_allclose(ours_now, theirs_now, rtol=2e-5, atol=1e-6, err_msg=name)
        by_state = np.abs(metric(their_results, TD_ERROR_KEY)).reshape(size, each).mean(1)
        np.testing.assert_allclose(metric(our_results, TD_ERROR_KEY), by_state, rtol=2e-5)
        their_weights = weights(theirs)
        for name, value in weights(ours).items():
            np.testing.assert_allclose(value, their_weights[name], rtol=1e-4, atol=1e-5, err_msg=f"{update} {name}")


@pytest.mark.parametrize("double_q", [True, False])
def test_targets_by_hand(double_q: bool) -> None:
    learner = build_learner({**PLAIN, "training.double_q": double_q, "training.gamma": 0.5})
    online_values = {0.0: [1.0, 2.0, 0.0, 0.0], 1.0: [0.0, 5.0, 3.0, 0.0]}
    target_values = {1.0: [9.0, 4.0, 0.0, 7.0]}
    _let_it_say(learner._online, online_values)
    _let_it_say(learner._target, target_values)
    columns = {
        Columns.OBS: np.zeros((2, D), np.float32),
        Columns.ACTIONS: np.array([1, 0]),
        Columns.REWARDS: np.array([1.0, 1.0], np.float32),
        Columns.NEXT_OBS: np.ones((2, D), np.float32),
        Columns.TERMINATEDS: np.array([False, True]),
        N_STEP: np.array([2, 2]),
        WEIGHTS: np.ones(2, np.float32),
    }
    td_errors, _ = learner.gradient_step(columns, weight=1.0)
    # In the next state the online network prefers action 1, which the target values at 4; the target prefers 0, at 9.
    bootstrap = 4.0 if double_q else 9.0
    # |Q(0, 1) - (1 + 0.5^2 bootstrap)|, and |Q(0, 0) - 1| where the episode terminated
    np.testing.assert_allclose(td_errors, [abs(2.0 - (1.0 + 0.25 * bootstrap)), abs(1.0 - 1.0)], atol=1e-6)


def _let_it_say(network: Any, values: dict[float, list[float]]) -> None:
    """Values by the first number of the observation."""

    def say(observations: torch.Tensor) -> torch.Tensor:
        return torch.tensor([values[float(first)] for first in observations[:, 0]])

    activations = network.forward(torch.zeros(2, D))[1]
    network.forward = lambda observations: (say(observations), activations)
    network.values = network.advantages = say


def test_one_update_moves_every_online_parameter_and_no_target() -> None:
    learner = build_learner({"training.learning_rate": 1e-2})
    before = weights(learner)
    learn(learner, random_columns(size=32))
    for name, value in weights(learner).items():
        moved = not np.array_equal(value, before[name])
        assert moved == (not name.startswith("target_q_net")), name


def test_noise_is_fresh_in_every_update_and_follows_the_seed() -> None:
    def td_errors(seed_offset: int = 0) -> list[np.ndarray]:
        learner = build_learner({"training.learning_rate": 1e-12})
        learner._noise.manual_seed(3 + seed_offset)
        return [metric(learn(learner, random_columns()), TD_ERROR_KEY) for _ in range(2)]

    first, second = td_errors()
    assert not np.allclose(first, second)
    assert np.array_equal(td_errors()[1], second)
    assert not np.allclose(td_errors(seed_offset=1)[0], first)


@pytest.mark.parametrize("loss", ["huber", "mse"])
@pytest.mark.parametrize("reward", [np.nan, -np.inf])
def test_a_gradient_that_is_not_finite_is_left_out_and_named(
    loss: str, reward: float, caplog: pytest.LogCaptureFixture
) -> None:
    learner = build_learner({**PLAIN, "training.loss": loss})
    columns = random_columns()
    columns[Columns.REWARDS][3] = reward
    before = weights(learner)
    with caplog.at_level(logging.ERROR):
        results = learn(learner, columns)
    assert "The gradient of q_net.features.0.weight" in caplog.text
    assert metric(results, "num_updates_left_out") == 1
    assert all(np.array_equal(value, before[name]) for name, value in weights(learner).items())
    assert (~np.isfinite(metric(results, TD_ERROR_KEY))).tolist() == [row == 3 for row in range(8)]
    learn(learner, random_columns())
    assert all(np.isfinite(value).all() for value in weights(learner).values())


def test_a_restored_learner_goes_on_as_the_one_that_was_saved() -> None:
    learner, copy = build_learner(), build_learner()
    for update in range(3):
        learn(learner, random_columns(seed=update), timestep=50 * update)
    copy.set_state(learner.get_state())
    for update in range(3, 6):
        for each in (learner, copy):
            learn(each, random_columns(seed=update), timestep=100 + 10 * update)
    ours, theirs = weights(learner), weights(copy)
    assert all(np.array_equal(value, theirs[name]) for name, value in ours.items())


def test_a_learner_from_another_kind_of_device_begins_its_noise_anew(caplog: pytest.LogCaptureFixture) -> None:
    learner = build_learner()
    state = learner.get_state()
    state[LEARNING_STATE]["noise_generator"] = np.zeros(16, dtype=np.uint8)  # that of CUDA: seed and offset
    before = learner._noise.get_state()
    with caplog.at_level(logging.WARNING):
        learner.set_state(state)
    assert "another kind of device: the noise on the weights is drawn again" in caplog.text
    assert torch.equal(learner._noise.get_state(), before)


@pytest.mark.parametrize("flag", ["truncated", "terminated"])
def test_constant_rewards_are_worth_their_perpetuity_only_where_truncation_bootstraps(flag: str) -> None:
    gamma, reward = 0.8, 0.1
    learner = build_learner(
        {
            **PLAIN,
            "training.gamma": gamma,
            "training.learning_rate": 3e-3,
            "training.learning_rate_end": None,
            "training.batch_size": 32,
            "training.target_update_interval": 8,
        }
    )
    buffer = ArrayEpisodeReplayBuffer(capacity=1000, alpha=0.0, seed=0)
    for episode in range(20):  # five steps each: a fifth of all transitions is a last one
        buffer.add([_constant_chunk(episode, reward, flag)])
    for update in range(60):
        timesteps = {NUM_ENV_STEPS_SAMPLED_LIFETIME: 40 * update}
        learner.update_from_buffer(partial(buffer.sample, 32, gamma=gamma), buffer.update_priorities, 20, timesteps)
    values = module_of(learner).q_net(torch.zeros(1, D)).detach().numpy()
    if flag == "truncated":
        # r / (1 - gamma) = 0.5, whatever the action
        np.testing.assert_allclose(values, reward / (1.0 - gamma), rtol=0.05)
    else:
        # The observation does not tell when the episode ends: v = r + gamma (4/5) v = 0.1 / 0.36 = 0.278
        np.testing.assert_allclose(values, reward / (1.0 - 0.8 * gamma), rtol=0.15)


@pytest.mark.parametrize("prioritized", [True, False])
def test_a_rare_large_loss_is_worth_its_share_of_the_mean(prioritized: bool) -> None:
    # One state: 0.5 a day, and -80 on four days of 1000. The mean is 0.178; the median, and about what Huber's loss or
    # clipped gradients lead to, is 0.5.
    learner = build_learner(
        {
            **PLAIN,
            "training.gamma": 0.0,
            "training.learning_rate": 1e-3,
            "training.learning_rate_end": None,
            "training.target_update_interval": 4000,
        }
    )
    rewards = np.full(1000, 0.5)
    rewards[[100, 351, 600, 851]] = -80.0
    buffer = ArrayEpisodeReplayBuffer(capacity=1100, alpha=0.6 if prioritized else 0.0, seed=0)
    episode = chunk("a", 0, rewards.tolist(), truncated=True)
    episode.observations.data = np.zeros((1001, D), dtype=np.float32)
    episode.actions.data = np.arange(1000) % 2
    buffer.add([episode])
    draw = partial(buffer.sample, 64, gamma=0.0, beta=1.0)
    for visit in range(1500):
        learner.update_from_buffer(draw, buffer.update_priorities, 2, {NUM_ENV_STEPS_SAMPLED_LIFETIME: 8 * visit})
    values = module_of(learner).target_q_net(torch.zeros(1, D)).detach().numpy()[0, :2]
    assert np.abs(values - rewards.mean()).max() < 0.1


def _constant_chunk(number: int, reward: float, flag: str) -> Any:
    """Observations that tell nothing; each action is the last one in every fourth episode."""
    episode = chunk(str(number), 0, [reward] * 5, **{flag: True})
    episode.observations.data = np.zeros((6, D), dtype=np.float32)
    episode.actions.data = (np.arange(5) + number) % 4
    return episode
