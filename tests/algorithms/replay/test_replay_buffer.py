"""Prioritized replay: who is drawn, how it is weighted, and what a checkpoint keeps."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from ray.rllib.core.columns import Columns
from scipy.stats import chisquare

from rllib_portfolio.algorithms.learning.referenced_features import ReferencedFeatures
from rllib_portfolio.algorithms.replay.replay_buffer import N_STEP, WEIGHTS, ArrayEpisodeReplayBuffer
from rllib_portfolio.algorithms.sampling.counterfactual import COLUMNS, state_columns
from rllib_portfolio.env import PortfolioVectorEnv
from rllib_portfolio.env.observation import ObservationLayout
from tests.algorithms.replay.transitions import chunk, chunk_of
from tests.algorithms.sampling.samples import with_features
from tests.env.markets import market_of


def buffer_of(num_steps: int, **settings: object) -> ArrayEpisodeReplayBuffer:
    buffer = ArrayEpisodeReplayBuffer(capacity=1000, seed=0, **settings)
    buffer.add([chunk("a", 0, [float(t) for t in range(num_steps)], truncated=True)])
    return buffer


def set_priorities(buffer: ArrayEpisodeReplayBuffer, td_errors: np.ndarray) -> None:
    """Give transition t the TD error td_errors[t]."""
    batch = buffer.sample(len(td_errors))  # all priorities are equal: one draw from each
    order = batch[Columns.REWARDS].astype(int)
    assert sorted(order) == list(range(len(td_errors)))
    buffer.update_priorities(td_errors[order])


def test_segments_are_stratified() -> None:
    # With equal priorities, B draws from B segments take every one of B transitions once.
    buffer = buffer_of(50)
    for _ in range(3):
        assert sorted(buffer.sample(50)[Columns.REWARDS].tolist()) == list(range(50))


def test_draws_are_proportional_to_priority_and_weights_undo_it() -> None:
    buffer = buffer_of(4, alpha=0.5, epsilon=0.0)
    td_errors = np.array([1.0, 4.0, 16.0, 0.25])
    set_priorities(buffer, td_errors)
    # p^alpha = 1, 2, 4, 1/2 of 7.5 together
    probabilities = np.array([1.0, 2.0, 4.0, 0.5]) / 7.5
    batches = [buffer.sample(1, beta=0.4) for _ in range(20_000)]
    counts = np.bincount([int(batch[Columns.REWARDS][0]) for batch in batches], minlength=4)
    assert chisquare(counts, probabilities * len(batches)).pvalue > 0.001
    batch = buffer.sample(200, beta=0.4)
    drawn = batch[Columns.REWARDS].astype(int)
    assert set(drawn) == {0, 1, 2, 3}
    np.testing.assert_allclose(batch[WEIGHTS], (4 * probabilities[drawn]) ** -0.4, rtol=1e-6)


def test_weighted_batches_estimate_the_mean_of_the_buffer() -> None:
    # One transition in 250 is a loss of 217 and the others gain 1: the mean of a crash, in reward scales.
    rewards = np.ones(500)
    rewards[[100, 400]] = -217.0
    buffer = ArrayEpisodeReplayBuffer(capacity=1000, seed=0)
    buffer.add([chunk("a", 0, rewards.tolist(), truncated=True)])
    everything = buffer.sample(500)
    buffer.update_priorities(np.abs(everything[Columns.REWARDS]))
    batches = [buffer.sample(16, beta=1.0) for _ in range(4000)]
    means = np.array([np.mean(batch[WEIGHTS] * batch[Columns.REWARDS]) for batch in batches])
    error = means.std() / np.sqrt(len(means))
    assert means.mean() == pytest.approx(rewards.mean(), abs=4 * error)
    assert error < 0.02
    assert np.mean([batch[Columns.REWARDS] for batch in batches]) < rewards.mean() - 1.0  # without weights


def test_new_transitions_have_the_largest_priority_so_far() -> None:
    buffer = buffer_of(4, alpha=1.0, epsilon=0.0)
    set_priorities(buffer, np.array([0.1, 0.1, 9.8, 0.0]))
    buffer.add([chunk("b", 0, [100.0], truncated=True)])
    drawn = np.concatenate([buffer.sample(1)[Columns.REWARDS] for _ in range(4000)])
    # 9.8 of 0.1 + 0.1 + 9.8 + 0 + 9.8
    assert np.mean(drawn == 100.0) == pytest.approx(9.8 / 19.8, abs=0.03)
    assert not (drawn == 3.0).any()


@pytest.mark.parametrize("error", [np.inf, -np.inf, np.nan])
def test_an_error_that_is_not_finite_is_none(error: float) -> None:
    buffer = buffer_of(4, alpha=1.0, epsilon=0.0)
    set_priorities(buffer, np.array([1.0, error, 1.0, 1.0]))
    drawn = np.concatenate([buffer.sample(3)[Columns.REWARDS] for _ in range(100)])
    assert set(drawn.tolist()) == {0.0, 2.0, 3.0}
    assert np.isfinite(buffer.sample(4)[WEIGHTS]).all()


def test_alpha_zero_is_uniform_replay() -> None:
    buffer = buffer_of(4, alpha=0.0)
    set_priorities(buffer, np.array([1e3, 1e-3, 1.0, 0.0]))
    for _ in range(5):
        batch = buffer.sample(4, beta=0.4)
        assert sorted(batch[Columns.REWARDS].tolist()) == [0.0, 1.0, 2.0, 3.0]
        assert batch[WEIGHTS].tolist() == [1.0] * 4


def test_n_step_columns_reach_the_batch() -> None:
    batch = buffer_of(3).sample(3, n_step=2, gamma=0.5)
    order = np.argsort(batch[Columns.OBS][:, 0])
    assert batch[Columns.REWARDS][order].tolist() == [0.5, 2.0, 2.0]  # 0 + 1/2, 1 + 2/2, 2
    assert batch[N_STEP][order].tolist() == [2, 2, 1]
    assert batch[Columns.TERMINATEDS].tolist() == [False] * 3


def test_beta_rises_linearly_and_stays() -> None:
    buffer = ArrayEpisodeReplayBuffer(10, beta=(0.4, 1.0), beta_steps=1000)
    assert [buffer.beta(step) for step in (0, 500, 1000, 5000)] == pytest.approx([0.4, 0.7, 1.0, 1.0])


def test_a_restored_buffer_draws_what_the_saved_one_draws() -> None:
    buffer = buffer_of(30)
    set_priorities(buffer, np.linspace(0.0, 3.0, 30))
    copy = ArrayEpisodeReplayBuffer(capacity=1000, seed=99)
    copy.set_state(buffer.get_state())
    for step in range(3):
        ours, theirs = buffer.sample(16, beta=0.5), copy.sample(16, beta=0.5)
        for name, column in ours.items():
            np.testing.assert_array_equal(column, theirs[name], err_msg=name)
        for each in (buffer, copy):
            each.update_priorities(ours[Columns.REWARDS] * step)
            each.add([chunk("b", 3 * step, [5.0, 6.0, 7.0])])
    assert len(copy) == len(buffer) == 39


def test_a_checkpoint_of_observations_that_repeat_is_small() -> None:
    buffer = ArrayEpisodeReplayBuffer(capacity=4000)
    for walk in range(30):  # the same days again
        buffer.add([chunk(str(walk), 0, [0.0] * 100, truncated=True)])
    observations = buffer.get_state()["store"]["columns"]["observations"]
    assert observations["num_bytes"] == 30 * 101 * 2 * 4
    assert len(observations["data"]) < observations["num_bytes"] / 10


FULL, WIDTH = 20_000, 161  # observations of 20 assets with 7 features each, and 21 weights


def relative_size(buffer: ArrayEpisodeReplayBuffer, extra: Mapping[str, np.ndarray]) -> float:
    """The arrays of a buffer with room for all of its rows, as a multiple of the observations'."""
    store = buffer._store
    store._make_room(np.zeros(WIDTH, dtype=np.float32), np.int64(0), dict(extra))
    columns = [store.observations, store.actions, store.rewards, store.terminated, store.next_rows]
    num_bytes = sum(array.nbytes for array in (*columns, *store.extra.values(), *buffer._priorities._levels))
    return num_bytes / (FULL * WIDTH * 4)


def test_a_full_buffer_takes_little_more_than_its_observations() -> None:
    # action 4, reward 4, terminated 1, next row 4, priority 8 (and 1/63 of it for sums) of 644 bytes
    assert relative_size(ArrayEpisodeReplayBuffer(capacity=FULL), {}) <= 1.05


def test_where_environments_stood_takes_more_than_half_of_the_observations_again() -> None:
    # twice 21 weights 336, wealth 8, three counters 24: 368 of 644 bytes beside the 3 % of above
    market = market_of(np.zeros((10, 20)))
    state = state_columns(PortfolioVectorEnv(1, market, "all", action_mode="discrete", execution_lag=0).state)
    assert set(state) == set(COLUMNS)
    extra = {name: values[0] for name, values in state.items()}
    assert 1.55 <= relative_size(ArrayEpisodeReplayBuffer(capacity=FULL, extra_columns=COLUMNS), extra) <= 1.61


# ---------------------------------------------------------------- observations by reference


def test_what_is_stored_and_drawn_does_not_grow_with_the_features() -> None:
    sizes = {}
    for num_features in (1, 50):
        market = with_features(market_of(np.zeros((10, 3))), num_features)
        layout = ObservationLayout(market)
        buffer = ArrayEpisodeReplayBuffer(capacity=100, seed=0)
        rows, own = np.arange(9), np.full((9, market.num_assets + 1), 1.0 / (market.num_assets + 1))
        buffer.add([chunk_of(layout.refer(rows, own))])
        batch = buffer.sample(30)
        sizes[num_features] = (buffer._store.observations.nbytes, sum(column.nbytes for column in batch.values()))
        held = ReferencedFeatures(layout, "cpu").observations(torch.from_numpy(batch[Columns.OBS]))
        np.testing.assert_array_equal(held, layout.observe(batch[Columns.ACTIONS], own[batch[Columns.ACTIONS]]))
    assert sizes[1] == sizes[50]


def test_observations_of_another_form_empty_the_buffer(caplog: pytest.LogCaptureFixture) -> None:
    buffer = buffer_of(10)
    buffer.update_priorities(np.full(len(buffer.sample(5)[WEIGHTS]), 7.0))
    buffer.add([chunk_of(np.zeros((4, 5), dtype=np.float32))])
    assert "is emptied and refilled" in caplog.text
    assert buffer.counts()["num_env_steps_stored"] == buffer.get_added_timesteps() == 3
    assert sorted(buffer.sample(300)[Columns.ACTIONS].tolist()) == sorted([0, 1, 2] * 100)
    buffer.add([chunk_of(np.ones((4, 5), dtype=np.float32))])
    assert len(caplog.records) == 1
