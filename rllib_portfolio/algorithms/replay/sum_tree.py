"""A tree of block sums, with which a whole batch is sampled in proportion to values in logarithmic time."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rllib_portfolio.arrays import FloatArray

IntArray = NDArray[np.integer[Any]]
FAN_OUT = 64
"""Number of children of a node. With it 100000 values take three levels, each of which is one pass over [B, 64]."""


class SumTree:
    """Non-negative values, the sums of blocks of 64 values, the sums of blocks of 64 such sums, and so on.

    Changing or finding B values takes O(B log n). The sum of a block is recomputed when one of its values changes, so
    that rounding errors do not accumulate.

    Args:
        capacity: n, the number of values.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._levels: list[FloatArray] = []
        num_nodes = capacity
        while num_nodes > 1 or not self._levels:
            num_nodes = -(-num_nodes // FAN_OUT)
            self._levels.append(np.zeros((num_nodes, FAN_OUT)))

    @property
    def total(self) -> float:
        """The sum of all values."""
        return float(self._levels[-1].sum())

    def __getitem__(self, indices: IntArray | slice) -> FloatArray:
        return self._levels[0].reshape(-1)[: self.capacity][indices]

    def __setitem__(self, indices: IntArray, values: FloatArray | float) -> None:
        """Change the values at `indices` [B]."""
        self._levels[0].reshape(-1)[indices] = values
        blocks = indices // FAN_OUT
        for lower, upper in pairwise(self._levels):
            upper.reshape(-1)[blocks] = lower[blocks].sum(-1)
            blocks = blocks // FAN_OUT

    def find(self, targets: FloatArray) -> IntArray:
        """Return the indices [B] at which the cumulative sum of the values first exceeds each target.

        The values at these indices are never 0.

        Args:
            targets: Numbers in [0, total), [B].
        """
        nodes = np.zeros(len(targets), dtype=np.int64)
        rows = np.arange(len(targets))
        for level in reversed(self._levels):
            running = level[nodes].cumsum(-1)
            # A sum of the same block in a different order may differ by a rounding error.
            targets = np.minimum(targets, np.nextafter(running[:, -1], 0.0))
            slots = (running <= targets[:, None]).sum(-1)
            targets = targets - np.where(slots > 0, running[rows, slots - 1], 0.0)
            nodes = nodes * FAN_OUT + slots
        return nodes
