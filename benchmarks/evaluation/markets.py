"""Pairs of strategies whose true Sharpe ratios are known: `Process(num_samples, days, sharpe, correlation, rng)`.

All have a daily volatility of 1 % and give returns [num_samples, days, 2] in excess of cash.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
Process = Callable[[int, int, tuple[float, float], float, np.random.Generator], FloatArray]

PERIODS_PER_YEAR = 252
DAILY_VOLATILITY = 0.01

DEGREES_OF_FREEDOM = 5
"""Degrees of freedom of the heavy-tailed returns, whose kurtosis is 9."""

ARCH, GARCH = 0.08, 0.90
"""Weights of today's squared shock and variance in tomorrow's variance; the rest is the long-run variance."""


def normal(
    num_samples: int, days: int, sharpe: tuple[float, float], correlation: float, rng: np.random.Generator
) -> FloatArray:
    """Independent normal days."""
    return _returns(_correlated(num_samples, days, correlation, rng), sharpe)


def heavy_tails(
    num_samples: int, days: int, sharpe: tuple[float, float], correlation: float, rng: np.random.Generator
) -> FloatArray:
    """Independent days of a bivariate t distribution: both strategies have their wild days together."""
    noise = _correlated(num_samples, days, correlation, rng)
    mixing = rng.chisquare(DEGREES_OF_FREEDOM, (num_samples, days, 1)) / (DEGREES_OF_FREEDOM - 2)
    return _returns(noise / np.sqrt(mixing), sharpe)


def volatility_clusters(
    num_samples: int, days: int, sharpe: tuple[float, float], correlation: float, rng: np.random.Generator
) -> FloatArray:
    """Bollerslev's (1986) GARCH(1, 1), one variance for both strategies, moved by the first one's surprises."""
    noise = _correlated(num_samples, days, correlation, rng)
    variance = np.ones(num_samples)
    for day in range(days):
        noise[:, day] *= np.sqrt(variance)[:, None]
        variance = (1.0 - ARCH - GARCH) + ARCH * noise[:, day, 0] ** 2 + GARCH * variance
    return _returns(noise, sharpe)


PROCESSES: dict[str, Process] = {
    "normal": normal,
    "heavy tails": heavy_tails,
    "volatility clusters": volatility_clusters,
}


def _correlated(num_samples: int, days: int, correlation: float, rng: np.random.Generator) -> FloatArray:
    noise = rng.normal(size=(num_samples, days, 2))
    noise[..., 1] = correlation * noise[..., 0] + math.sqrt(1.0 - correlation**2) * noise[..., 1]
    return noise


def _returns(noise: FloatArray, sharpe: tuple[float, float]) -> FloatArray:
    return np.asarray(DAILY_VOLATILITY * (noise + np.array(sharpe) / math.sqrt(PERIODS_PER_YEAR)))
