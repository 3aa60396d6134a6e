"""Whether a difference between two strategies is more than chance.

Present: the stationary-bootstrap test of the mean active return. Not here: the Sharpe-difference test of Ledoit and
Wolf (2008), and corrections for the number of policies that were tried.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

FloatArray = NDArray[np.floating[Any]]

SMALLEST_DEVIATION = 1e-12
"""A standard deviation below this counts as zero, as in the metrics."""

MIN_DAYS_FOR_BLOCKS = 10
"""Autocorrelations of fewer days say nothing."""


class ActiveReturnTest(NamedTuple):
    """Two-sided test that the mean daily active return is zero."""

    p_value: float
    """In [1 / (num_resamples + 1), 1]."""
    block_days: int
    """Mean length of a resampled block."""


def mean_active_return_test(active: FloatArray, num_resamples: int = 2000, seed: int = 0) -> ActiveReturnTest:
    """Test H0: E[a] = 0 against E[a] != 0 by the stationary bootstrap.

    Days of policy and benchmark are drawn jointly, which for a mean is the same as drawing days of their difference a.
    The resampled means m* are centred at the sample mean m, where H0 would put them at 0:
    p = (1 + #{|m* - m| >= |m|}) / (num_resamples + 1). The mean is not studentised.

    Args:
        active: Daily returns of the policy less those of the benchmark, [T], T at least 1.
        num_resamples: Number of resampled series.
        seed: Of the draws; the same seed gives the same p-value.

    Source: Politis and Romano (1994), "The Stationary Bootstrap", JASA 89(428). Block length: Politis and White (2004),
        "Automatic Block-Length Selection for the Dependent Bootstrap", corrected by Patton, Politis and White (2009).
    """
    from arch.bootstrap import StationaryBootstrap  # two seconds to import

    if np.abs(active).max() < SMALLEST_DEVIATION:
        return ActiveReturnTest(1.0, 1)
    block_days = _block_days(active)
    resampled = StationaryBootstrap(block_days, active, seed=seed).apply(np.mean, num_resamples)
    mean = active.mean()
    num_as_far = int((np.abs(resampled - mean) >= abs(mean)).sum())
    return ActiveReturnTest((1 + num_as_far) / (num_resamples + 1), block_days)


def _block_days(active: FloatArray) -> int:
    """Optimal mean block length, at least 1 and at most the series; 1 where nothing can be estimated."""
    from arch.bootstrap import optimal_block_length

    if len(active) < MIN_DAYS_FOR_BLOCKS or active.std() < SMALLEST_DEVIATION:
        return 1
    optimum = float(optimal_block_length(pd.Series(active))["stationary"].iloc[0])
    return min(max(1, math.ceil(optimum)), len(active)) if math.isfinite(optimum) else 1
