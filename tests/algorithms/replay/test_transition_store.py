"""The ring of observations: what is in it, what leads where, and n-step sums."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.env.utils.infinite_lookback_buffer import InfiniteLookbackBuffer

from rllib_portfolio.algorithms.replay.transition_store import NO_ROW, TransitionStore
from rllib_portfolio.errors import ConfigError
from tests.algorithms.replay.transitions import chunk


def stored(store: TransitionStore) -> list[tuple[float, int, float, float, bool]]:
    """All transitions: first number of the observation, action, reward, that of the next observation, terminated."""
    rows = np.flatnonzero(store.next_rows != NO_ROW)
    one = store.n_step(rows, 1, 0.9)
    columns = (
        one.observations[:, 0], one.actions, one.rewards, one.next_observations[:, 0], one.terminated
    )  # fmt: skip
    return sorted(zip(*(column.tolist() for column in columns), strict=True))


def test_a_chunk_continues_the_one_before_and_shares_its_observation() -> None:
    store = TransitionStore(16)
    first = store.add([chunk("a", 0, [1.0, 2.0]), chunk("b", 0, [10.0], offset=100.0)])
    assert first.written.tolist() == [0, 1, 2, 3, 4]
    assert first.with_transition.tolist() == [0, 1, 3]
    second = store.add([chunk("a", 2, [3.0], truncated=True), chunk("b", 1, [20.0], offset=100.0, terminated=True)])
    # the observations at which "a" and "b" stood, rows 2 and 4, get their transitions; one new row each
    assert second.written.tolist() == [5, 6]
    assert second.with_transition.tolist() == [2, 4]
    assert stored(store) == [
        (0.0, 0, 1.0, 1.0, False),
        (1.0, 1, 2.0, 2.0, False),
        (2.0, 2, 3.0, 3.0, False),
        (100.0, 0, 10.0, 101.0, False),
        (101.0, 1, 20.0, 102.0, True),
    ]
    assert store.num_transitions == store.num_added == 5


@given(st.data())
def test_only_true_transitions_are_held_and_the_newest_of_them(data: st.DataObject) -> None:
    capacity = data.draw(st.integers(10, 30))
    store = TransitionStore(capacity)
    clocks = dict.fromkeys(range(3), 0)
    episodes = dict.fromkeys(range(3), 0)
    added = 0
    oracle: list[float | None] = []  # all rows in the order of writing: the reward of the transition that starts there
    open_at: dict[int, int] = {}
    for _ in range(data.draw(st.integers(1, 25))):
        stream = data.draw(st.integers(0, 2))
        length = data.draw(st.integers(1, 4))
        ends = data.draw(st.sampled_from(["", "", "terminated", "truncated"]))
        offset = 1000.0 * stream + 10_000.0 * episodes[stream]
        rewards = [offset + clocks[stream] + k for k in range(length)]
        flags = {ends: True} if ends else {}
        rows = store.add([chunk(f"{stream}/{episodes[stream]}", clocks[stream], rewards, offset=offset, **flags)])
        added += length
        # an open row is given up when the next length + 1 writes may reach it
        at = open_at.pop(stream, None)
        continues = at is not None and len(oracle) - at <= capacity - (length + 1)
        start = at if at is not None and continues else len(oracle)
        oracle += [None] * (length + (not continues))
        places = [start, *range(len(oracle) - length, len(oracle))]
        for place, reward in zip(places, rewards, strict=False):
            oracle[place] = reward
        if not ends:
            open_at[stream] = len(oracle) - 1
        clocks[stream] += length
        if ends:
            clocks[stream], episodes[stream] = 0, episodes[stream] + 1
        # the chunk that just came is there, whole
        kept = store.n_step(rows.with_transition, 1, 0.9)
        assert kept.rewards.tolist() == rewards
        assert kept.terminated.tolist() == [False] * (length - 1) + [ends == "terminated"]
    transitions = stored(store)
    assert [row[2] for row in transitions] == sorted(reward for reward in oracle[-capacity:] if reward is not None)
    assert len(transitions) == store.num_transitions
    assert store.num_added == added
    for observation, action, reward, next_observation, _ in transitions:
        assert reward == observation
        assert next_observation == observation + 1.0
        assert action == observation % 1000 % 5


def test_a_chunk_after_one_that_was_lost_starts_anew() -> None:
    store = TransitionStore(16)
    store.add([chunk("a", 0, [0.0, 1.0])])
    store.add([chunk("a", 4, [4.0])])  # steps 2 and 3 came from an env runner that answered too late
    store.add([chunk("a", 5, [5.0], truncated=True)])
    assert [(row[0], row[3]) for row in stored(store)] == [(0.0, 1.0), (1.0, 2.0), (4.0, 5.0), (5.0, 6.0)]


def test_an_addition_larger_than_the_store_is_refused() -> None:
    with pytest.raises(ValueError, match=r"capacity must hold a whole addition of 6 observations, got 5\."):
        TransitionStore(5).add([chunk("a", 0, [0.0] * 5)])


@pytest.mark.parametrize("end", ["truncated", "terminated", "open"])
def test_n_step_sums_stop_where_the_episode_does_and_bootstrap_there(end: str) -> None:
    store = TransitionStore(16)
    flags = {} if end == "open" else {end: True}
    rows = store.add([chunk("a", 0, [1.0, 2.0, 4.0], **flags), chunk("b", 0, [7.0], offset=50.0)]).with_transition
    three = store.n_step(rows, num_steps=3, gamma=0.5)
    # 1 + 2/2 + 4/4, 2 + 4/2, 4; "b" has one step
    assert three.rewards.tolist() == [3.0, 4.0, 4.0, 7.0]
    assert three.num_steps.tolist() == [3, 2, 1, 1]
    assert three.next_observations[:, 0].tolist() == [3.0, 3.0, 3.0, 51.0]
    assert three.terminated.tolist() == [end == "terminated"] * 3 + [False]
    two = store.n_step(rows, num_steps=2, gamma=0.5)
    assert two.rewards.tolist() == [2.0, 4.0, 4.0, 7.0]
    assert two.num_steps.tolist() == [2, 2, 1, 1]
    assert two.next_observations[:, 0].tolist() == [2.0, 3.0, 3.0, 51.0]
    assert two.terminated.tolist() == [False, *[end == "terminated"] * 2, False]


def test_a_restored_store_goes_on_as_the_one_that_was_saved() -> None:
    store = TransitionStore(8)
    store.add([chunk("a", 0, [0.0, 1.0, 2.0, 3.0])])
    store.add([chunk("b", 0, [9.0, 9.0], offset=9.0, truncated=True)])
    copy = TransitionStore(8)
    copy.set_state(store.get_state())
    for each in (store, copy):
        each.add([chunk("a", 4, [4.0, 5.0, 6.0])])
    assert stored(copy) == stored(store)
    assert copy.num_transitions == store.num_transitions
    with pytest.raises(ConfigError, match="capacity must be that of the checkpoint, 8, got 9"):
        TransitionStore(9).set_state(store.get_state())


def test_extra_columns_are_those_of_the_transition_and_are_restored() -> None:
    def told(start: int, rewards: list[float]) -> SingleAgentEpisode:
        episode = chunk("a", start, rewards)
        values = 10.0 * (start + np.arange(len(rewards)))
        episode.extra_model_outputs["wealth"] = InfiniteLookbackBuffer(np.stack([values, -values], axis=1))
        return episode

    store = TransitionStore(8, ["wealth"])
    store.add([told(0, [0.0, 1.0])])
    copy = TransitionStore(8, ["wealth"])
    copy.set_state(store.get_state())
    for each in (store, copy):
        rows = each.add([told(2, [2.0, 3.0])]).with_transition
        assert each.n_step(rows, 1, 1.0).extra["wealth"].tolist() == [[20.0, -20.0], [30.0, -30.0]]
        assert each.n_step(np.arange(2), 1, 1.0).extra["wealth"].tolist() == [[0.0, 0.0], [10.0, -10.0]]
    with pytest.raises(ConfigError, match=r"extra columns must be those of the checkpoint, \['wealth'\], got \[\]"):
        TransitionStore(8).set_state(store.get_state())
