"""The sum tree against a linear scan."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import chisquare

from rllib_portfolio.algorithms.replay.sum_tree import FAN_OUT, SumTree

# One level, exactly one block, one more than that, three levels.
CAPACITIES = (1, 5, FAN_OUT, FAN_OUT + 1, FAN_OUT**2 + 7)


def scan(values: np.ndarray, target: float) -> int:
    """Return the first index at which the running sum exceeds the target."""
    running = 0.0
    for index, value in enumerate(values):
        running += value
        if running > target:
            return index
    raise AssertionError("the target is not below the total")


@given(st.data())
def test_finding_is_a_linear_scan(data: st.DataObject) -> None:
    capacity = data.draw(st.sampled_from(CAPACITIES))
    # Multiples of 1/8: sums are exact, so that the two must agree at the edges, too.
    eighths = arrays(np.int64, capacity, elements=st.integers(0, 40))
    values = data.draw(eighths.filter(lambda drawn: drawn.any())) / 8.0
    tree = SumTree(capacity)
    tree[np.arange(capacity)] = values
    num_changes = data.draw(st.integers(0, 20))
    where = np.array([data.draw(st.integers(0, capacity - 1)) for _ in range(num_changes)], dtype=np.int64)
    what = np.array([data.draw(st.integers(1, 40)) for _ in range(num_changes)]) / 8.0
    tree[where] = what
    values[where] = what
    assert tree.total == values.sum()
    targets = np.array([data.draw(st.floats(0, values.sum(), exclude_max=True)) for _ in range(8)])
    assert tree.find(targets).tolist() == [scan(values, target) for target in targets]


def test_later_values_win_and_blocks_follow() -> None:
    tree = SumTree(FAN_OUT * 3)
    tree[np.array([0, FAN_OUT, FAN_OUT, 2 * FAN_OUT])] = np.array([1.0, 5.0, 2.0, 4.0])
    assert tree.total == 7.0
    assert tree.find(np.array([0.0, 1.0, 2.9, 3.0, 6.9])).tolist() == [0, FAN_OUT, FAN_OUT, 2 * FAN_OUT, 2 * FAN_OUT]


@pytest.mark.parametrize("capacity", CAPACITIES)
def test_a_value_of_zero_is_never_found(capacity: int) -> None:
    generator = np.random.default_rng(0)
    values = generator.random(capacity) * (generator.random(capacity) < 0.3)
    values[capacity // 2] = 0.1
    tree = SumTree(capacity)
    tree[np.arange(capacity)] = values
    edges = np.concatenate([np.cumsum(values), [0.0, tree.total, np.nextafter(tree.total, 0.0)]])
    targets = np.concatenate([edges, np.nextafter(edges, np.inf), np.maximum(np.nextafter(edges, 0.0), 0.0)])
    assert (values[tree.find(targets)] > 0.0).all()


def test_frequencies_are_proportional_to_values() -> None:
    generator = np.random.default_rng(1)
    values = generator.integers(0, 5, FAN_OUT * 2).astype(float)
    tree = SumTree(len(values))
    tree[np.arange(len(values))] = values
    draws = tree.find(generator.random(100_000) * tree.total)
    counts = np.bincount(draws, minlength=len(values))
    assert (counts[values == 0.0] == 0).all()
    expected = values / values.sum() * len(draws)
    assert chisquare(counts[values > 0.0], expected[values > 0.0]).pvalue > 0.001


def test_rounding_errors_do_not_add_up() -> None:
    generator = np.random.default_rng(2)
    tree = SumTree(1000)
    for _ in range(2000):
        tree[generator.integers(0, 1000, 64)] = 10.0 ** generator.uniform(-8, 8, 64)
    tree[np.arange(1000)] = 0.1
    assert tree.total == pytest.approx(100.0, rel=1e-14)
