"""The reward scale against a loop over single rewards, and what its users rely on."""

from __future__ import annotations

import itertools
import statistics

import numpy as np
import pytest
from ray.rllib.env.single_agent_episode import SingleAgentEpisode

from rllib_portfolio.algorithms.learning.reward_scale import RunningRewardScale

GAMMA = 0.9
RNG = np.random.default_rng(0)
REWARDS = [RNG.normal(0.01, 0.02, length) for length in (1, 7, 30, 12)]


def episode_of(rewards: np.ndarray, *, truncated: bool = False, terminated: bool = False) -> SingleAgentEpisode:
    """An episode as an env runner hands it over, observation t being (t, t)."""
    length = len(rewards)
    return SingleAgentEpisode(
        observations=[np.full(2, t, dtype=np.float32) for t in range(length + 1)],
        actions=[np.zeros(1, dtype=np.float32) for _ in range(length)],
        rewards=[float(reward) for reward in rewards],
        truncated=truncated,
        terminated=terminated,
        len_lookback_buffer=0,
    )


def in_chunks(rewards: np.ndarray, lengths: list[int]) -> list[SingleAgentEpisode]:
    """The chunks of one episode, as `cut` makes them at the end of a fragment; all but the last are unfinished."""
    first, *rest = np.split(rewards, np.cumsum(lengths)[:-1])
    chunks = [episode_of(first)]
    for piece in rest:
        following = chunks[-1].cut(len_lookback_buffer=2)
        for reward in piece:
            following.add_env_step(np.zeros(2, np.float32), np.zeros(1, np.float32), float(reward))
        chunks.append(following)
    chunks[-1].is_truncated = True
    return chunks


def discounted_sums(rewards: np.ndarray) -> list[float]:
    """R_t = gamma R_{t-1} + r_t, by hand."""
    sums, total = [], 0.0
    for reward in rewards:
        total = GAMMA * total + float(reward)
        sums.append(total)
    return sums


def scale_after(*batches: list[SingleAgentEpisode]) -> RunningRewardScale:
    scale = RunningRewardScale(GAMMA)
    for batch in batches:
        scale.update(batch)
    return scale


def test_a_hand_worked_example() -> None:
    # gamma 0.5, rewards 1, 2, -1: sums 1, 2.5, 0.25; mean 1.25; squares 0.0625, 1.5625, 1 -> variance 2.625 / 3
    scale = RunningRewardScale(0.5)
    scale.update([episode_of(np.array([1.0, 2.0, -1.0]), truncated=True)])
    assert scale.std == pytest.approx(np.sqrt(2.625 / 3))


def test_the_std_is_that_of_the_discounted_sums_of_all_episodes() -> None:
    sums = list(itertools.chain.from_iterable(discounted_sums(rewards) for rewards in REWARDS))
    scale = scale_after([episode_of(rewards, truncated=True) for rewards in REWARDS])
    assert scale.count == len(sums)
    assert scale.std == pytest.approx(statistics.pstdev(sums), rel=1e-12)


@pytest.mark.parametrize("lengths", [[30], [1, 29], [10, 10, 10], [5] * 6])
def test_an_episode_in_chunks_counts_as_one(lengths: list[int]) -> None:
    rewards = REWARDS[2]
    one_update_per_chunk = scale_after(*([chunk] for chunk in in_chunks(rewards, lengths)))
    one_update = scale_after(in_chunks(rewards, lengths))
    expected = statistics.pstdev(discounted_sums(rewards))
    assert one_update_per_chunk.std == pytest.approx(expected, rel=1e-12)
    assert one_update.std == pytest.approx(expected, rel=1e-12)


def test_chunks_of_several_runners_count_as_one_stream() -> None:
    first, second = in_chunks(REWARDS[2], [16, 14]), in_chunks(REWARDS[3], [4, 8])
    interleaved = scale_after([first[0], second[0]], [second[1], first[1]])
    expected = statistics.pstdev(discounted_sums(REWARDS[2]) + discounted_sums(REWARDS[3]))
    assert interleaved.std == pytest.approx(expected, rel=1e-12)


def test_the_std_is_one_before_there_is_anything_to_scale_by() -> None:
    assert RunningRewardScale(GAMMA).std == 1.0
    assert scale_after([episode_of(np.array([0.5]), truncated=True)]).std == 1.0
    assert scale_after([episode_of(np.zeros(10), truncated=True)]).std == 1.0


@pytest.mark.parametrize("reward", [np.inf, -np.inf, np.nan])
def test_a_reward_that_is_not_finite_is_left_out_and_named(reward: float, caplog: pytest.LogCaptureFixture) -> None:
    rewards = np.array([0.5, reward, -1.0, reward])
    scale = scale_after([episode_of(rewards)])
    assert scale.std == scale_after([episode_of(np.array([0.5, 0.0, -1.0, 0.0]))]).std
    assert caplog.messages == [
        f"Warning: a reward is {reward}. It is left out of the running scale of rewards; correct the reward function."
    ]


def test_scaling_divides_copies_and_leaves_the_episodes_alone() -> None:
    chunks = in_chunks(REWARDS[2], [16, 14])
    before = [np.asarray(chunk.get_rewards()).copy() for chunk in chunks]
    scale = scale_after(chunks)
    scaled = scale.scaled(chunks)
    for chunk, copy, rewards in zip(chunks, scaled, before, strict=True):
        np.testing.assert_array_equal(chunk.get_rewards(), rewards)
        np.testing.assert_allclose(copy.get_rewards(), rewards / scale.std, rtol=1e-6)
        np.testing.assert_array_equal(copy.get_observations(), chunk.get_observations())
        assert copy.id_ == chunk.id_
        assert (copy.t_started, copy.t, copy.is_truncated) == (chunk.t_started, chunk.t, chunk.is_truncated)


def test_a_rare_loss_is_not_clipped() -> None:
    rewards = np.zeros(10_000)
    rewards[5_000] = -1.0
    episode = episode_of(rewards, truncated=True)
    scale = scale_after([episode])
    (scaled,) = scale.scaled([episode])
    assert np.min(scaled.get_rewards()) == pytest.approx(-1.0 / scale.std)
    assert np.min(scaled.get_rewards()) < -10.0


def test_a_restored_scale_continues_as_if_nothing_had_happened() -> None:
    chunks = in_chunks(REWARDS[2], [10, 10, 10])
    uninterrupted = scale_after(*([chunk] for chunk in chunks))
    before, after = scale_after([chunks[0]], [chunks[1]]), RunningRewardScale(GAMMA)
    after.set_state(before.get_state())
    after.update([chunks[2]])
    assert after.get_state() == uninterrupted.get_state()
    assert after.std == uninterrupted.std


def test_a_state_does_not_change_with_the_scale_that_gave_it() -> None:
    chunks = in_chunks(REWARDS[2], [10, 20])
    scale = scale_after([chunks[0]])
    state = scale.get_state()
    remembered = {**state, "open_sums": dict(state["open_sums"])}
    scale.update([chunks[1]])
    assert state == remembered
