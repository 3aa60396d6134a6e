"""Slow, obvious re-implementations of metrics and tests: one day at a time, the standard library's statistics.

Written from the definitions and the papers, not from the package.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence

import numpy as np


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


def quantile(values: Sequence[float], share: float) -> float:
    return -value_at_risk(values, share)


def tail_ratio(returns: Sequence[float], tail: float) -> float:
    return abs(quantile(returns, 1.0 - tail)) / abs(quantile(returns, tail))


def ulcer_index(returns: Sequence[float]) -> float:
    wealth = wealth_path(returns)
    falls = [1.0 - now / max(wealth[: i + 1]) for i, now in enumerate(wealth)]
    return math.sqrt(statistics.fmean([fall * fall for fall in falls[1:]]))


def standardised_moment(returns: Sequence[float], order: int) -> float:
    mean, deviation = statistics.fmean(returns), statistics.pstdev(returns)
    return statistics.fmean([((r - mean) / deviation) ** order for r in returns])


def win_rate(returns: Sequence[float]) -> float:
    return len([r for r in returns if r > 0.0]) / len(returns)


def profit_factor(returns: Sequence[float]) -> float:
    return sum(r for r in returns if r > 0.0) / -sum(r for r in returns if r < 0.0)


def worst_drawdown(returns: Sequence[float]) -> tuple[float, int, int, int | None]:
    """Depth, and rows of the wealth path (0 is the start) of peak, trough and recovery."""
    wealth = wealth_path(returns)
    depth, peak, trough = max(
        (1.0 - wealth[j] / wealth[i], i, -j) for i in range(len(wealth)) for j in range(i, len(wealth))
    )
    back = [row for row in range(-trough, len(wealth)) if wealth[row] >= wealth[peak] * (1.0 - 1e-12)]
    return depth, peak, -trough, back[0] if back else None


def sharpe_difference(a: Sequence[float], b: Sequence[float]) -> float:
    return statistics.fmean(a) / statistics.pstdev(a) - statistics.fmean(b) / statistics.pstdev(b)


def sharpe_standard_error(a: Sequence[float], b: Sequence[float], bound: float = 0.97) -> tuple[float, float]:
    """Ledoit and Wolf (2008): D Psi D' by Parzen's kernel from VAR(1) residuals, the gradient by finite differences.

    And the kernel's bandwidth: Andrews' for the one series that the gradient makes of the recoloured residuals.
    """
    rows = [(x, y, x * x, y * y) for x, y in zip(a, b, strict=True)]
    mean = [statistics.fmean(column) for column in zip(*rows, strict=True)]
    centred = np.array([[value - mean[i] for i, value in enumerate(row)] for row in rows])
    before, now = centred[:-1], centred[1:]
    coefficients = np.linalg.solve(before.T @ before, before.T @ now).T  # normal equations
    largest = max(abs(root) for root in np.linalg.eigvals(coefficients))
    if largest > bound:
        coefficients = coefficients * bound / largest
    residuals = [now[t] - coefficients @ before[t] for t in range(len(now))]
    recolour = np.linalg.inv(np.eye(4) - coefficients)
    gradient = np.array(sharpe_gradient(mean))
    bandwidth = parzen_bandwidth([float(gradient @ recolour @ row) for row in residuals], bound)
    psi = np.zeros((4, 4))
    for t, row_t in enumerate(residuals):
        for s, row_s in enumerate(residuals):
            weight = parzen(abs(t - s) / bandwidth) if t != s else 1.0
            psi += weight * np.outer(row_t, row_s) / len(residuals)
    variance = len(rows) / (len(rows) - 4) * gradient @ recolour @ psi @ recolour.T @ gradient
    return math.sqrt(variance / len(rows)), bandwidth


def parzen_bandwidth(series: Sequence[float], bound: float = 0.97) -> float:
    """Andrews (1991), equations 6.2 and 6.4, from the first autocorrelation, which is bounded; at most T - 1."""
    rho = sum(x * y for x, y in itertools.pairwise(series)) / sum(x * x for x in series)
    rho = math.copysign(min(abs(rho), bound), rho)
    return min(2.6614 * (4.0 * rho**2 / (1.0 - rho) ** 4 * len(series)) ** 0.2, len(series) - 1.0)


def parzen(x: float) -> float:
    if x <= 0.5:
        return 1.0 - 6.0 * x**2 + 6.0 * x**3
    return 2.0 * (1.0 - x) ** 3 if x <= 1.0 else 0.0


def sharpe_gradient(moments: Sequence[float]) -> list[float]:
    def f(v: Sequence[float]) -> float:
        return v[0] / math.sqrt(v[2] - v[0] ** 2) - v[1] / math.sqrt(v[3] - v[1] ** 2)

    gradient = []
    for i, moment in enumerate(moments):
        step = 1e-6 * max(abs(moment), 1e-3)
        up, down = ([*moments[:i], moment + sign * step, *moments[i + 1 :]] for sign in (1.0, -1.0))
        gradient.append((f(up) - f(down)) / (2.0 * step))
    return gradient


def block_statistic(a: Sequence[float], b: Sequence[float], starts: Sequence[int], block_days: int) -> float:
    """d* of one history of circular blocks: |difference* - difference| / s*, section 3.2 of Ledoit and Wolf."""
    days = [(start + i) % len(a) for start in starts for i in range(block_days)]
    drawn = [(a[t], b[t], a[t] ** 2, b[t] ** 2) for t in days]
    mean = [statistics.fmean(column) for column in zip(*drawn, strict=True)]
    gradient = sharpe_gradient(mean)
    zetas = []
    for j in range(len(starts)):
        block = drawn[j * block_days : (j + 1) * block_days]
        zetas.append([sum(row[i] - mean[i] for row in block) / math.sqrt(block_days) for i in range(4)])
    variance = statistics.fmean([sum(g * z for g, z in zip(gradient, zeta, strict=True)) ** 2 for zeta in zetas])
    moved = sharpe_difference([row[0] for row in drawn], [row[1] for row in drawn]) - sharpe_difference(a, b)
    return abs(moved) / math.sqrt(variance / len(days))


def backtest_overfitting(trials: Sequence[Sequence[float]], num_blocks: int) -> list[float]:
    """Logits of CSCV; `trials` holds one list of days per trial, as many days as fill the blocks."""
    size = len(trials[0]) // num_blocks
    logits = []
    for chosen in itertools.combinations(range(num_blocks), num_blocks // 2):
        inside = [[r for i, r in enumerate(trial) if i // size in chosen] for trial in trials]
        outside = [[r for i, r in enumerate(trial) if i // size not in chosen] for trial in trials]
        scores = [[statistics.fmean(half) / statistics.stdev(half) for half in side] for side in (inside, outside)]
        best = scores[0].index(max(scores[0]))
        rank = sorted(scores[1]).index(scores[1][best]) + 1
        share = rank / (len(trials) + 1)
        logits.append(math.log(share / (1.0 - share)))
    return logits
