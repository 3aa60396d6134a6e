"""Advantages against a loop over single steps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rllib_portfolio.algorithms.learning.advantages import AdvantageScale, generalised_advantages

FRACTIONS = st.sampled_from([0.0, 0.3, 0.9, 0.99, 1.0])


def slow_advantages(
    rewards: Sequence[np.ndarray],
    values: Sequence[np.ndarray],
    last_values: Sequence[float],
    terminated: Sequence[bool],
    gamma: float,
    gae_lambda: float,
) -> list[float]:
    """A_t = sum over k of (gamma lambda)^k delta_{t+k}, term by term, chunk by chunk."""
    result = []
    for r, v, last, is_terminated in zip(rewards, values, last_values, terminated, strict=True):
        following = [*v[1:], 0.0 if is_terminated else last]
        deltas = [r[t] + gamma * following[t] - v[t] for t in range(len(r))]
        for t in range(len(r)):
            result.append(sum((gamma * gae_lambda) ** k * delta for k, delta in enumerate(deltas[t:])))
    return result


@given(
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=6),
    gamma=FRACTIONS,
    gae_lambda=FRACTIONS,
    seed=st.integers(0, 2**16),
)
def test_advantages_are_those_of_the_definition(lengths: list[int], gamma: float, gae_lambda: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rewards = [rng.normal(size=length) for length in lengths]
    values = [rng.normal(size=length) for length in lengths]
    last_values, terminated = rng.normal(size=len(lengths)), rng.random(len(lengths)) < 0.5
    fast = generalised_advantages(rewards, np.concatenate(values), last_values, terminated, gamma, gae_lambda)
    assert fast.dtype == np.float32
    slow = slow_advantages(rewards, values, last_values, terminated, gamma, gae_lambda)
    np.testing.assert_allclose(fast, slow, rtol=1e-5, atol=1e-5)


def test_two_steps_by_hand() -> None:
    # gamma 0.5, lambda 0.5. delta_1 = 2 + 0.5 x 8 - 4 = 2;  delta_0 = 1 + 0.5 x 4 - 2 = 1
    # A_1 = 2;  A_0 = 1 + 0.25 x 2 = 1.5
    rewards, values = [np.array([1.0, 2.0])], np.array([2.0, 4.0])
    advantages = generalised_advantages(rewards, values, np.array([8.0]), np.array([False]), 0.5, 0.5)
    assert advantages.tolist() == [1.5, 2.0]


def test_termination_is_not_truncation() -> None:
    # As above, terminated: delta_1 = 2 + 0 - 4 = -2; A_0 = 1 + 0.25 x -2 = 0.5. The wrong flag gives other numbers.
    rewards, values = [np.array([1.0, 2.0])], np.array([2.0, 4.0])
    advantages = generalised_advantages(rewards, values, np.array([8.0]), np.array([True]), 0.5, 0.5)
    assert advantages.tolist() == [0.5, -2.0]


def test_a_chunk_knows_nothing_of_its_neighbours() -> None:
    rng = np.random.default_rng(0)
    rewards, values = [rng.normal(size=n) for n in (3, 1, 5)], rng.normal(size=9)
    last_values, terminated = rng.normal(size=3), np.array([False, True, False])
    together = generalised_advantages(rewards, values, last_values, terminated, 0.9, 0.8)
    start = 0
    for index, chunk in enumerate(rewards):
        stop, one = start + len(chunk), slice(index, index + 1)
        alone = generalised_advantages([chunk], values[start:stop], last_values[one], terminated[one], 0.9, 0.8)
        np.testing.assert_array_equal(together[start:stop], alone)
        start = stop


def test_the_first_batch_has_unit_deviation() -> None:
    standardised = AdvantageScale().standardised(np.array([1.0, 2.0, 3.0, 6.0]))
    assert standardised.mean() == pytest.approx(0.0)
    assert standardised.std() == pytest.approx(1.0)


def taken_in(scale: AdvantageScale, advantages: np.ndarray) -> np.ndarray:
    standardised = scale.standardised(advantages)
    scale.advance()
    return standardised


def test_a_batch_with_a_rare_loss_counts_in_full() -> None:
    rng = np.random.default_rng(0)
    ordinary = [rng.standard_normal(100) for _ in range(200)]
    crashed = ordinary[0].copy()
    crashed[0] = -50.0
    scale = AdvantageScale()
    for batch in ordinary:
        taken_in(scale, batch)
    assert scale.standardised(crashed).min() == pytest.approx(-49.5, rel=0.02)
    assert AdvantageScale().standardised(crashed).min() == pytest.approx(-9.9, rel=0.02)  # by its own deviation


def test_the_gradient_is_not_biased_by_the_scale() -> None:
    # A step earns 0.1 for each unit of risk, or loses 9.9 with probability 0.01: risk is worth nothing. Divided by its
    # own deviation, a batch without a loss counts for more than one with it, and risk seems to pay.
    rng = np.random.default_rng(1)
    scale, running, own = AdvantageScale(), [], []
    for _ in range(4000):
        risk = rng.standard_normal(100)
        rewards = risk * np.where(rng.random(100) < 0.01, -9.9, 0.1)
        running.append((risk * taken_in(scale, rewards)).mean())
        own.append((risk * AdvantageScale().standardised(rewards)).mean())
    errors = [np.mean(values[100:]) / (np.std(values[100:]) / np.sqrt(len(values) - 100)) for values in (running, own)]
    assert abs(errors[0]) < 4.0
    assert errors[1] > 10.0


def test_an_update_that_is_left_out_leaves_the_scale_alone() -> None:
    scale = AdvantageScale()
    taken_in(scale, np.array([1.0, -1.0]))
    before = scale.get_state()
    scale.standardised(np.array([np.inf, 1.0]))
    assert scale.get_state() == before
    assert scale.standardised(np.array([3.0, -3.0])).tolist() == [3.0, -3.0]


def test_a_restored_scale_continues() -> None:
    rng = np.random.default_rng(0)
    batches = [rng.standard_normal(50) * (1 + index) for index in range(4)]
    whole, resumed = AdvantageScale(), AdvantageScale()
    for batch in batches[:3]:
        taken_in(whole, batch)
    resumed.set_state(whole.get_state())
    np.testing.assert_array_equal(taken_in(resumed, batches[3]), taken_in(whole, batches[3]))
    assert resumed.get_state() == whole.get_state()
