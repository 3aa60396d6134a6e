"""The best that can be done with one risky asset whose odds follow a chain, when trading costs: dynamic programming.

With belief or state k and held weight g, the long-run growth lambda and the relative values V solve

    V(k, g) + lambda = max_w [ log(1 - c |w - g|) + Q(k, w) ]
    Q(k, w) = sum_j p(j | k) [ log(1 + w r_j) + sum_k' T(k' | k, j) V(k', w_j) ],   w_j = w (1 + r_j) / (1 + w r_j)

(Bertsekas, "Dynamic programming and optimal control" vol. II, average cost, relative value iteration.) Held weights and
targets stand on a grid, between whose points values are interpolated.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from rllib_portfolio.arrays import FloatArray

GRID_POINTS = 101
DAMPING = 0.5
"""Damping of the value iteration, without which it would oscillate on a periodic chain."""
TOLERANCE = 1e-9
MAX_ITERATIONS = 20_000


@dataclass(frozen=True, eq=False)
class Chain:
    """K states, in each of which the day has J outcomes.

    Attributes:
        returns: Simple return of the asset in each outcome, [J].
        probabilities: Of the outcomes in each state, [K, J].
        transitions: Probability of the state that follows state and outcome, [K, J, K].
    """

    returns: FloatArray
    probabilities: FloatArray
    transitions: FloatArray


@dataclass(frozen=True, eq=False)
class CostlyTrading:
    """The optimal policy over a chain.

    Attributes:
        chain: What the asset does.
        cost: Of traded notional, a fraction.
        targets: Weights of the asset that a decision may name, on the grid of `GRID_POINTS`; None allows all of it.
            Holding what there is, is always allowed.
        discount: Of the next day's value, in [0, 1]. Below 1 the policy is that of a learner with this gamma, and
            `growth` means nothing; 0 is myopic.
    """

    chain: Chain
    cost: float
    targets: tuple[float, ...] | None = None
    discount: float = 1.0

    @cached_property
    def grid(self) -> FloatArray:
        """Held weights, [G]."""
        return np.linspace(0.0, 1.0, GRID_POINTS)

    @cached_property
    def _columns(self) -> NDArray[np.intp]:
        targets = self.grid if self.targets is None else np.array(self.targets)
        return np.rint(targets * (GRID_POINTS - 1)).astype(np.intp)

    @cached_property
    def _solution(self) -> tuple[FloatArray, float]:
        """Q [K, G], and growth a day of the optimal policy."""
        chain, grid = self.chain, self.grid
        gross = 1.0 + np.outer(chain.returns, grid)  # [J, G]
        drifted = grid * (1.0 + chain.returns[:, None]) / gross
        left, share = _between(drifted, grid)
        earned = chain.probabilities @ np.log(gross)
        trade = np.log1p(-self.cost * np.abs(grid[self._columns][:, None] - grid))  # [A, G]
        values = np.zeros((len(chain.probabilities), len(grid)))
        growth = 0.0
        for _ in range(MAX_ITERATIONS):
            future = earned.copy()
            for j, probability in enumerate(chain.probabilities.T):
                after = chain.transitions[:, j] @ values
                interpolated = (1.0 - share[j]) * after[:, left[j]] + share[j] * after[:, left[j] + 1]
                future += self.discount * probability[:, None] * interpolated
            traded = (future[:, self._columns, None] + trade).max(axis=1)
            change = np.maximum(traded, future) - values
            growth = float(change.max() + change.min()) / 2.0
            if np.ptp(change) < TOLERANCE:
                return future, growth
            values += DAMPING * (change - growth)
        raise RuntimeError(
            f"value iteration must converge in {MAX_ITERATIONS} iterations, got a span of {np.ptp(change)}"
        )

    @property
    def growth(self) -> float:
        """Log growth a day of the optimal policy, in the long run."""
        return self._solution[1]

    def target(self, states: FloatArray, held: FloatArray) -> FloatArray:
        """Optimal weights of the asset [B], from states as weights over the chain's K states [B, K] and held [B]."""
        future = states @ self._solution[0]
        moves = np.log1p(-self.cost * np.abs(self.grid[self._columns] - held[:, None])) + future[:, self._columns]
        left, share = _between(held, self.grid)
        rows = np.arange(len(held))
        holds = (1.0 - share) * future[rows, left] + share * future[rows, left + 1]
        # A trade that gains less than the grid's own error is none.
        is_traded = moves.max(axis=1) > holds + TOLERANCE
        return np.where(is_traded, self.grid[self._columns[moves.argmax(axis=1)]], held)


def belief_chain(points: int, odds: tuple[float, float], stay: float, move: float) -> Chain:
    """Two hidden regimes, as a chain over `points` values of the probability of the first.

    The belief after a day is that of `rllib_portfolio.market.simulators.markov.filtered_beliefs`; it falls between two
    points of the grid and is split over them.
    """
    belief = np.linspace(0.0, 1.0, points)
    gain = belief * odds[0] + (1.0 - belief) * odds[1]
    probabilities = np.column_stack([gain, 1.0 - gain])
    transitions = np.zeros((points, 2, points))
    for j, likelihood in enumerate((odds, (1.0 - odds[0], 1.0 - odds[1]))):
        posterior = belief * likelihood[0] / probabilities[:, j]
        after = posterior * stay + (1.0 - posterior) * (1.0 - stay)
        transitions[:, j] = spread(after, points)
    return Chain(np.array([move, -move]), probabilities, transitions)


def urn_chain(half_width: int, move: float) -> Chain:
    """The states of `rllib_portfolio.market.mean_reverting_market`, from balance -half_width to half_width."""
    num_states = 2 * half_width + 1
    gain = 1.0 - np.arange(num_states) / (num_states - 1)
    transitions = np.zeros((num_states, 2, num_states))
    for state in range(num_states):
        transitions[state, 0, min(state + 1, num_states - 1)] = 1.0
        transitions[state, 1, max(state - 1, 0)] = 1.0
    return Chain(np.array([move, -move]), np.column_stack([gain, 1.0 - gain]), transitions)


def coin_chain(odds: tuple[float, ...], move: float) -> Chain:
    """Each day one of the odds, all equally likely, whatever came before."""
    return regime_chain(odds, 1.0 / len(odds), move)


def regime_chain(odds: tuple[float, ...], stay: float, move: float) -> Chain:
    """One asset of `rllib_portfolio.market.regime_market`, whose regimes last another day with probability `stay`."""
    gain, num_regimes = np.array(odds), len(odds)
    follows = np.full((num_regimes, num_regimes), (1.0 - stay) / max(1, num_regimes - 1))
    np.fill_diagonal(follows, stay)
    transitions = np.repeat(follows[:, None], 2, axis=1)
    return Chain(np.array([move, -move]), np.column_stack([gain, 1.0 - gain]), transitions)


def spread(values: FloatArray, points: int) -> FloatArray:
    """Values in [0, 1] as weights over a grid of `points`, [B, points]: linear interpolation."""
    left, share = _between(values, np.linspace(0.0, 1.0, points))
    rows = np.arange(len(values))
    result = np.zeros((len(values), points))
    result[rows, left] = 1.0 - share
    result[rows, left + 1] = share
    return result


def _between(values: FloatArray, grid: FloatArray) -> tuple[NDArray[np.intp], FloatArray]:
    """Index of the grid point below each value, and how far the value is on the way to the next one."""
    position = np.clip(values, grid[0], grid[-1]) * (len(grid) - 1)
    left = np.minimum(position.astype(np.intp), len(grid) - 2)
    return left, position - left
