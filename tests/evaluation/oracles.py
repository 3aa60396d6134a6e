"""Slow, obvious re-implementations of the metrics: one day at a time, the standard library's statistics."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence


def wealth_path(returns: Sequence[float]) -> list[float]:
    wealth = [1.0]
    for daily in returns:
        wealth.append(wealth[-1] * (1.0 + daily))
    return wealth


def annualised_return(returns: Sequence[float], periods: float) -> float:
    return math.exp(math.log(wealth_path(returns)[-1]) * periods / len(returns)) - 1.0


def sharpe_ratio(returns: Sequence[float], cash: Sequence[float], periods: float) -> float:
    excess = [r - c for r, c in zip(returns, cash, strict=True)]
    return math.sqrt(periods) * statistics.fmean(excess) / statistics.stdev(excess)


def sortino_ratio(returns: Sequence[float], cash: Sequence[float], periods: float) -> float:
    excess = [r - c for r, c in zip(returns, cash, strict=True)]
    shortfall = [e * e if e < 0.0 else 0.0 for e in excess]
    return math.sqrt(periods) * statistics.fmean(excess) / math.sqrt(statistics.fmean(shortfall))


def max_drawdown(returns: Sequence[float]) -> float:
    wealth = wealth_path(returns)
    return max(1.0 - later / earlier for i, earlier in enumerate(wealth) for later in wealth[i:])


def value_at_risk(returns: Sequence[float], tail: float) -> float:
    ordered = sorted(returns)
    position = tail * (len(ordered) - 1)
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    return -(ordered[below] + (position - below) * (ordered[above] - ordered[below]))


def conditional_value_at_risk(returns: Sequence[float], tail: float) -> float:
    return -statistics.fmean([r for r in returns if r <= -value_at_risk(returns, tail)])


def beta(returns: Sequence[float], benchmark: Sequence[float], cash: Sequence[float]) -> float:
    excess = [r - c for r, c in zip(returns, cash, strict=True)]
    market = [b - c for b, c in zip(benchmark, cash, strict=True)]
    return statistics.covariance(excess, market) / statistics.variance(market)


def alpha(returns: Sequence[float], benchmark: Sequence[float], cash: Sequence[float], periods: float) -> float:
    excess = [r - c for r, c in zip(returns, cash, strict=True)]
    market = [b - c for b, c in zip(benchmark, cash, strict=True)]
    return periods * (statistics.fmean(excess) - beta(returns, benchmark, cash) * statistics.fmean(market))


def omega_ratio(returns: Sequence[float], threshold: Sequence[float]) -> float:
    gains = sum(r - h for r, h in zip(returns, threshold, strict=True) if r > h)
    losses = sum(h - r for r, h in zip(returns, threshold, strict=True) if r < h)
    return gains / losses
