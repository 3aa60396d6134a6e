"""Portfolios of assets whose shocks have the same law in all directions: one number says what the day does to each.

The return of weights w is w'm + sqrt(w'S w) Y, with means m, scale matrix S and Y a coordinate of the shocks of
`rllib_portfolio.market.simulators.simulated.bounded_shocks`: their length times that of a uniform direction (Fang,
Kotz and Ng 1990, "Symmetric multivariate and related distributions", section 2.1). Expectations are exact by
quadrature over both.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import roots_jacobi
from scipy.stats import chi2, f

from rllib_portfolio.arrays import FloatArray

NEGLIGIBLE = 1e-13
"""Probability of lengths that the quadrature leaves out, at either end."""


@dataclass(frozen=True, eq=False)
class Elliptical:
    """The next day of N assets.

    Attributes:
        scale: S, [N, N].
        shocks: Values of Y, [J].
        probabilities: Of them, [J].
    """

    scale: FloatArray
    shocks: FloatArray
    probabilities: FloatArray

    @classmethod
    def bounded(
        cls, scale: FloatArray, degrees: float, radius: float, lengths: int = 64, directions: int = 16
    ) -> Elliptical:
        """Shocks of Student's t with `degrees` of freedom (infinity: normal) cut to `radius`, by quadrature.

        Args:
            scale: S, [N, N], N at least 2.
            degrees: Of freedom.
            radius: Greatest length of a day's shocks.
            lengths: Points of the length, in its logarithm.
            directions: Points of the direction.
        """
        num_assets = len(scale)
        squared = f(num_assets, degrees, scale=num_assets) if np.isfinite(degrees) else chi2(num_assets)
        low, high = 0.5 * np.log([squared.ppf(NEGLIGIBLE), min(radius**2, squared.isf(NEGLIGIBLE))])
        nodes, weights = np.polynomial.legendre.leggauss(lengths)
        inside = np.exp(low + (high - low) * (nodes + 1.0) / 2.0)
        length = np.append(inside, radius)
        share = np.append(squared.pdf(inside**2) * inside**2 * weights * (high - low), squared.sf(radius**2))
        cosine, density = roots_jacobi(directions, (num_assets - 3) / 2.0, (num_assets - 3) / 2.0)
        return cls(
            scale, np.outer(length, cosine).ravel(), np.outer(share / share.sum(), density / density.sum()).ravel()
        )

    def returns(self, weights: FloatArray, means: FloatArray) -> FloatArray:
        """Returns [B, J] of weights [B, N+1], cash last and earning nothing, given means [B, N]."""
        risky = weights[:, :-1]
        deviation = np.sqrt(((risky @ self.scale) * risky).sum(axis=1))
        return np.asarray((risky * means).sum(axis=1)[:, None] + deviation[:, None] * self.shocks)

    def growth(self, weights: FloatArray, means: FloatArray) -> FloatArray:
        """E log(1 + w'r), [B]."""
        return np.asarray(np.log1p(self.returns(weights, means)) @ self.probabilities)

    def best_of(self, table: FloatArray, means: FloatArray) -> FloatArray:
        """The row of a table of portfolios [A, N+1] that grows fastest, for each of means [B, N]."""
        growths = [self.growth(np.tile(row, (len(means), 1)), means) for row in table]
        return np.asarray(table[np.argmax(growths, axis=0)])
