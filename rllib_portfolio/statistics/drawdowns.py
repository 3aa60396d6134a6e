"""When the largest drawdown began, when it ended, and how long it took."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rllib_portfolio.arrays import FloatArray
from rllib_portfolio.statistics import metrics

SMALLEST_DRAWDOWN = 1e-12
"""What is less is rounding: wealth is back at its peak."""


@dataclass(frozen=True, slots=True)
class DrawdownPeriod:
    """A fall from a peak to a trough, and the way back. Days are trading days.

    Attributes:
        depth: Fraction of the peak that was lost, positive.
        peak: Last day at the peak; the first day of the series where the peak is the starting value, whose own close
            is not among the dates.
        trough: Day of the lowest wealth.
        recovery: First day back at the peak; NaT if that is not within the data.
        fall_days: Days from peak to trough.
        recovery_days: Days from trough to recovery; None if there is no recovery.
        length_days: Days from the peak to the recovery, or to the last day if there is none.
    """

    depth: float
    peak: np.datetime64
    trough: np.datetime64
    recovery: np.datetime64
    fall_days: int
    recovery_days: int | None
    length_days: int


def worst_drawdown(
    returns: FloatArray, dates: NDArray[np.datetime64], trough_within_days: int | None = None
) -> DrawdownPeriod | None:
    """The largest drawdown of one strategy, the first of several equal ones.

    Args:
        returns: Daily simple returns, [T].
        dates: Their days, datetime64[D] [T].
        trough_within_days: Where given, the trough must lie in so many first days; the recovery may come after them.

    Returns:
        The drawdown; None where wealth never falls, or is not a number.
    """
    under_water = metrics.drawdown(returns)  # row 0 is the start, row t + 1 the close of day t
    trough = int(np.argmax(under_water[: None if trough_within_days is None else trough_within_days + 1]))
    depth = float(under_water[trough])
    if not depth > SMALLEST_DRAWDOWN:
        return None
    at_peak = np.flatnonzero(under_water <= SMALLEST_DRAWDOWN)
    peak = int(at_peak[at_peak < trough][-1])
    later = at_peak[at_peak > trough]
    recovery = int(later[0]) if len(later) else None
    return DrawdownPeriod(
        depth=depth,
        peak=dates[max(peak - 1, 0)],
        trough=dates[trough - 1],
        recovery=np.datetime64("NaT") if recovery is None else dates[recovery - 1],
        fall_days=trough - peak,
        recovery_days=None if recovery is None else recovery - trough,
        length_days=(len(under_water) - 1 if recovery is None else recovery) - peak,
    )
