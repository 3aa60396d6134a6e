"""Dates and durations of the largest drawdown."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rllib_portfolio.arrays import FloatArray
from rllib_portfolio.statistics import metrics

SMALLEST_DRAWDOWN = 1e-12
"""A smaller drawdown is a rounding error: wealth counts as being at its peak."""


@dataclass(frozen=True, slots=True)
class DrawdownPeriod:
    """A fall from a peak to a trough, and the recovery; durations are in trading days.

    Attributes:
        depth: Fraction of the peak that was lost, positive.
        peak: Last day at the peak. If the peak is the starting value, whose close is not among the dates, it is the
            first day of the series.
        trough: Day of the lowest wealth.
        recovery: First day back at the peak; NaT if wealth does not recover within the data.
        fall_days: Days from peak to trough.
        recovery_days: Days from trough to recovery; None without a recovery.
        length_days: Days from the peak to the recovery, or to the last day without a recovery.
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
    """Return the largest drawdown of one strategy, the first one if several are equally deep.

    Args:
        returns: Daily simple returns, [T].
        dates: Days or moments of the returns, datetime64 [T].
        trough_within_days: Number of first days in which the trough must lie, or None for all; the recovery may be
            later.

    Returns:
        The drawdown; None if wealth never falls or is NaN.
    """
    under_water = metrics.drawdown(returns)  # row 0 is the start, row t + 1 is the close of day t
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
