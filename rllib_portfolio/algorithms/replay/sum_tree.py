"""Sums over blocks of values, so that proportional sampling takes logarithmic time, for whole batches at once."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rllib_portfolio.arrays import FloatArray

IntArray = NDArray[np.integer[Any]]
FAN_OUT = 64
"""Children of a node: 100000 leaves take three levels, each of them one pass over [B, 64]."""


class SumTree:
    """Non-negative values and the sums over their blocks of 64, over blocks of blocks, and so on.

    Changing or finding B values costs O(B log n). A block is added up anew when one of its values changes, so that
    rounding errors do not accumulate.

    Args:
        capacity: n, number of values.
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
        """Sum of all values."""
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
        """Where the running sum of the values first exceeds each target, [B]: never at a value of zero.

        Args:
            targets: In [0, total), [B].
        """
        nodes = np.zeros(len(targets), dtype=np.int64)
        rows = np.arange(len(targets))
        for level in reversed(self._levels):
            running = level[nodes].cumsum(-1)
            # A sum over a block, taken in another order, may be off by a rounding error.
            targets = np.minimum(targets, np.nextafter(running[:, -1], 0.0))
            slots = (running <= targets[:, None]).sum(-1)
            targets = targets - np.where(slots > 0, running[rows, slots - 1], 0.0)
            nodes = nodes * FAN_OUT + slots
        return nodes
