"""Possible returns of the next day with their probabilities, and the portfolio of the highest growth without costs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np
from scipy.optimize import minimize

from rllib_portfolio.arrays import FloatArray


@dataclass(frozen=True)
class Lottery:
    """The next day's outcomes: returns of N risky assets, K rows, and their probabilities. Hashable."""

    returns: tuple[tuple[float, ...], ...]
    probabilities: tuple[float, ...]

    def growth(self, weights: FloatArray) -> float:
        """E log(1 + w'r) of weights [N+1], cash last and earning nothing."""
        return float(np.log1p(np.array(self.returns) @ weights[:-1]) @ np.array(self.probabilities))

    @property
    def num_assets(self) -> int:
        """N."""
        return len(self.returns[0])


@lru_cache
def optimal_weights(lottery: Lottery) -> tuple[float, ...]:
    """The weights [N+1] on the simplex that grow fastest, cash last (Kelly 1956)."""
    return fastest(lottery.growth, lottery.num_assets)


def fastest(growth: Callable[[FloatArray], float], num_assets: int) -> tuple[float, ...]:
    """The weights [N+1] on the simplex, cash last, at which a concave `growth` of weights [N+1] is largest."""
    result = minimize(
        lambda risky: -growth(np.append(risky, 0.0)),
        np.full(num_assets, 0.5 / num_assets),
        method="SLSQP",
        bounds=[(0.0, 1.0)] * num_assets,
        constraints={"type": "ineq", "fun": lambda risky: 1.0 - risky.sum()},
        options={"ftol": 1e-14},
    )
    risky = np.clip(result.x, 0.0, 1.0)
    return (*risky, max(0.0, 1.0 - float(risky.sum())))


def best_of(lottery: Lottery, table: FloatArray) -> FloatArray:
    """The row of a table of portfolios [K, N+1] that grows fastest."""
    return table[int(np.argmax([lottery.growth(row) for row in table]))]


def log_normal(mean: tuple[float, ...], covariance: FloatArray, points: int = 7) -> Lottery:
    """Returns whose logarithms are normal, as `points`^N outcomes by Gauss-Hermite quadrature.

    Args:
        mean: Drift a day of each asset, [N]: the expected simple return is exp(mean) - 1.
        covariance: Of a day's log returns, [N, N].
        points: Of each dimension; the growth of a portfolio without debt is then exact to about 1e-8.
    """
    nodes, weights = np.polynomial.hermite_e.hermegauss(points)
    grid = np.array(list(product(nodes, repeat=len(mean))))
    probabilities = np.prod(list(product(weights / weights.sum(), repeat=len(mean))), axis=1)
    logs = np.array(mean) - np.diag(covariance) / 2.0 + grid @ np.linalg.cholesky(covariance).T
    return Lottery(tuple(map(tuple, np.expm1(logs))), tuple(probabilities))


def beside(one: Lottery, other: Lottery) -> Lottery:
    """The assets of two lotteries that know nothing of each other."""
    pairs = list(product(range(len(one.returns)), range(len(other.returns))))
    return Lottery(
        tuple(one.returns[i] + other.returns[j] for i, j in pairs),
        tuple(one.probabilities[i] * other.probabilities[j] for i, j in pairs),
    )
