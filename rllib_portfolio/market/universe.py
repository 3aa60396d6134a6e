"""`Universe`: which assets exist, may be bought and have a price on each day, where that changes.

A table without gaps has no universe: each asset is then listed, a member and quoted on each day.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from rllib_portfolio.arrays import FloatArray
from rllib_portfolio.errors import DataError

BoolArray = NDArray[np.bool_]

TRADABLE = "tradable"
"""Name of the asset feature that shows a policy `Universe.tradable` as 0 or 1; only markets with a universe have it."""


@dataclass(frozen=True, slots=True, eq=False)
class Universe:
    """The universe of each day: T days, N assets on a fixed axis. Row t is a function of what was known at close t.

    Attributes:
        listed: Whether the asset exists at the close, bool [T, N]. A life is one block of rows.
        member: Whether the asset may be held, bool [T, N]; a subset of `listed`. A member has all its features.
        quoted: Whether the asset has a price at the close, bool [T, N]; a subset of `listed`. Listed without a quote is
            a trading halt.
        exit_return: Simple return on the first row after the life of each asset, float64 [N]; NaN where the life
            reaches the end of the table.
        is_sold: Whether the exit is a sale at the last price, which pays the exit cost, bool [N]; False where
            `exit_return` is a terminal payment.

    Raises:
        DataError: If a mask is not a subset of `listed`.
    """

    listed: BoolArray
    member: BoolArray
    quoted: BoolArray
    exit_return: FloatArray
    is_sold: BoolArray

    def __post_init__(self) -> None:
        for name in ("member", "quoted"):
            if (getattr(self, name) & ~self.listed).any():
                raise DataError(f"{name} must be a subset of listed, got an asset that is not listed (universe).")
        for entry in fields(self):
            getattr(self, entry.name).setflags(write=False)

    @property
    def tradable(self) -> BoolArray:
        """Whether the asset may be bought at the close, bool [T, N]: a member with a quote."""
        return self.member & self.quoted

    @property
    def halted(self) -> BoolArray:
        """Whether the weight of the asset is frozen at the close, bool [T, N]: listed without a quote."""
        return self.listed & ~self.quoted

    @property
    def exit_rows(self) -> NDArray[np.int64]:
        """First row after the life of each asset, int64 [N]; T where the life reaches the end of the table."""
        reversed_rows = np.argmax(self.listed[::-1], axis=0)
        rows = len(self.listed) - reversed_rows
        return np.where(self.listed.any(0), rows, len(self.listed)).astype(np.int64)
