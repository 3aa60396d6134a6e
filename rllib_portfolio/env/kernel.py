"""The transition kernel: the only place where wealth changes.

Pure and batch-first: the leading axis is B, there is no branch on B, and reductions are row sums, so that B = 1 and
B = 64 agree bit for bit. Environments, back-tests and baselines all call `step`; nothing repeats its arithmetic.

At the close of day t, with wealth V_t and drifted weights w'_t, cash the last of the N + 1 columns:

1. trade to the target weights w_t:      traded_t   = sum over risky i of |w_t,i - w'_t,i|
                                         turnover_t = 1/2 sum over all N + 1 of |w_t,i - w'_t,i|
2. pay:                                  c_t = sum_i cost_i |w_t,i - w'_t,i|  +  sum_i k sigma_i,t |w_t,i - w'_t,i|^1.5
3. earn simple returns r_{t+1}:          g_{t+1} = sum_i w_t,i (1 + r_{t+1,i})
4. the wealth:                           V_{t+1} = V_t (1 - c_t) g_{t+1}
5. the weights drift:                    w'_{t+1,i} = w_t,i (1 + r_{t+1,i}) / g_{t+1}

What is traded at close t was decided on what was known at close t - L, L the execution lag: prices, features and the
portfolio's own weights. For L = 0 these are w'_t; for L = 1 they are w_{t-1}, before day t drifts them, because
w'_t / w_{t-1} tells the return of day t (`known_weights`).

The cost is charged on the notional before the cost is paid; the second-order term is left out by definition. Trading to
w_t of the wealth that is left would leave its share v = 1 - sum_i cost_i |v w_t,i - w'_t,i|, and c_t differs from 1 - v
by at most 1 - v times the largest rate. A full swap of one asset for another at 50 bp pays c_t = 100 bp here and
1 - (1 - 0.005) / (1 + 0.005) = 99.50 bp there: 0.50 bp of wealth more. At 10 bp it is 0.02 bp.

The impact term is the square-root law of market impact: trading a fraction q of an asset's daily volume moves its price
by Y sigma sqrt(q), Y about 1. A fund of size A that trades |dw| of itself in an asset of daily dollar volume ADV trades
q = |dw| A / ADV and pays that move on |dw| of its wealth, so k = Y sqrt(A / ADV): k = 0.1 is a fund of 1 % of the daily
volume, k = 1 one as large as it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from rllib_portfolio.arrays import FloatArray
from rllib_portfolio.errors import ConfigError


class PortfolioState(NamedTuple):
    """Wealth and drifted weights at a close."""

    wealth: FloatArray
    """V_t, [B]."""
    weights: FloatArray
    """w'_t, [B, N+1], rows sum to 1, cash last."""


class Outcome(NamedTuple):
    """What one day did to each portfolio. All fractions."""

    traded: FloatArray
    """Traded notional of the risky assets, [B]."""
    turnover: FloatArray
    """Half the L1 distance over all N+1 weights, [B]."""
    cost: FloatArray
    """c_t, fraction of wealth paid, [B]."""
    growth: FloatArray
    """V_{t+1} / V_t after costs, [B]."""


@dataclass(frozen=True, slots=True)
class CostModel:
    """What trading costs.

    Attributes:
        rates: Proportional cost of each risky asset, as a fraction, [N].
        impact: k of the impact term, dimensionless.
    """

    rates: FloatArray
    impact: float = 0.0

    @classmethod
    def from_bps(cls, cost_bps: float | tuple[float, ...], num_assets: int, impact: float = 0.0) -> CostModel:
        """Costs from basis points: one number, or one for each of `num_assets` assets.

        Raises:
            ConfigError: If there are several numbers, but not one for each asset.
        """
        if isinstance(cost_bps, tuple) and len(cost_bps) != num_assets:
            raise ConfigError(
                f"cost_bps must be one number or {num_assets} numbers, got {len(cost_bps)}. Give one for each asset."
            )
        return cls(np.broadcast_to(np.asarray(cost_bps, dtype=np.float64) * 1e-4, (num_assets,)).copy(), impact)


def initial_state(num_portfolios: int, num_assets: int) -> PortfolioState:
    """Wealth 1, all of it in cash: [B] and [B, N+1]."""
    weights = np.zeros((num_portfolios, num_assets + 1))
    weights[:, -1] = 1.0
    return PortfolioState(np.ones(num_portfolios), weights)


def known_weights(drifted: FloatArray, held: FloatArray, execution_lag: int) -> FloatArray:
    """The portfolio's own weights as they were known at close t - L, after any trade of an earlier decision.

    Args:
        drifted: w'_t, [B, N+1], which include day t's returns.
        held: w_{t-1}, what was held after the close of row t - 1, traded or not, [B, N+1]; all cash before the first.
        execution_lag: L, 0 or 1.

    Returns:
        One of the two arrays, [B, N+1].
    """
    return held if execution_lag else drifted


def trading_cost(move: FloatArray, costs: CostModel, volatility_t: FloatArray) -> FloatArray:
    """c_t, [B], of moving the risky weights by |w_t - w'_t|, [B, N], at trailing daily volatility [B, N]."""
    cost = (costs.rates * move).sum(-1)
    if costs.impact > 0.0:
        cost = cost + (costs.impact * volatility_t * move**1.5).sum(-1)
    return np.asarray(cost)


def step(
    state: PortfolioState, weights: FloatArray, returns_t1: FloatArray, volatility_t: FloatArray, costs: CostModel
) -> tuple[PortfolioState, Outcome]:
    """Trade to `weights` at the close of day t and earn the returns of day t + 1.

    Args:
        state: V_t [B] and w'_t [B, N+1].
        weights: Target weights w_t, [B, N+1], rows on the simplex.
        returns_t1: Simple returns r_{t+1}, cash last, [B, N+1] or [N+1], each above -1.
        volatility_t: Trailing daily volatility of the risky assets, [B, N] or [N]; used by the impact term alone.
        costs: What trading costs.

    Returns:
        The state at the close of day t + 1, and what happened.
    """
    move = np.abs(weights - state.weights)
    risky_move = move[..., :-1]
    cost = trading_cost(risky_move, costs, volatility_t)
    grown = weights * (1.0 + returns_t1)
    gross = grown.sum(-1)
    growth = (1.0 - cost) * gross
    next_state = PortfolioState(state.wealth * growth, grown / gross[..., None])
    return next_state, Outcome(risky_move.sum(-1), 0.5 * move.sum(-1), cost, growth)
