"""Advantages against a loop over single steps, and a baseline that takes the market's part out of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rllib_portfolio.algorithms.advantages import generalised_advantages, without_market_noise

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


def market(num_steps: int = 500) -> tuple[np.ndarray, np.ndarray]:
    """Log growth of two portfolios, and advantages that 0.7 and -0.2 of them explain, but for a small rest."""
    rng = np.random.default_rng(0)
    growth = rng.normal(0.001, 0.02, (num_steps, 2))
    rest = rng.normal(0.0, 0.001, num_steps)
    return growth, growth @ np.array([0.7, -0.2]) + rest


def test_what_the_market_explains_is_taken_out() -> None:
    growth, advantages = market()
    left = without_market_noise(advantages, growth)
    assert left.std() == pytest.approx(0.001, rel=0.1)
    assert np.corrcoef(np.column_stack([growth, left]).T)[2, :2] == pytest.approx([0.0, 0.0], abs=1e-4)
    assert left.mean() == pytest.approx(advantages.mean(), abs=1e-6)


@pytest.mark.parametrize("factor", [0.0, 1.0, 1.0 + 1e-9])
def test_portfolios_that_move_together_are_one(factor: float) -> None:
    growth, advantages = market()
    one = without_market_noise(advantages, growth[:, :1])
    two = without_market_noise(advantages, np.stack([growth[:, 0], factor * growth[:, 0]], axis=1))
    np.testing.assert_allclose(two, one, atol=1e-6)


def test_a_fit_that_would_take_all_along_is_not_subtracted() -> None:
    growth, advantages = market(num_steps=7)
    np.testing.assert_array_equal(without_market_noise(advantages, growth), advantages.astype(np.float32))
    whole = without_market_noise(advantages, growth, lambda array: 2 * array)  # as many steps with another learner
    assert whole.std() < 0.1 * advantages.std()


def test_learners_subtract_one_fit() -> None:
    growth, advantages = market()
    whole = without_market_noise(advantages, growth)
    parts = [slice(0, 100), slice(100, 500)]
    sums: list[list[np.ndarray]] = []

    def shared(part: slice, others: list[list[np.ndarray]]) -> np.ndarray:
        """The residuals of one part, every sum taken with the other part's, in the order of the calls."""
        mine: list[np.ndarray] = []

        def total(array: np.ndarray) -> np.ndarray:
            mine.append(np.array(array))
            return array + others[0][len(mine) - 1] if others else array

        residuals = without_market_noise(advantages[part], growth[part], total)
        sums.append(mine)
        return residuals

    # Sums depend on the mean, which is a sum itself: each round gets one more of them right.
    for _ in range(4):
        rounds = sums[-2:]
        sums = []
        residuals = [shared(part, rounds[1 - i : 2 - i]) for i, part in enumerate(parts)]
    np.testing.assert_allclose(np.concatenate(residuals), whole, atol=1e-7)
