"""The transition kernel: the only place where wealth changes.

Its functions are pure and batch-first: the leading axis is B, there is no branch on B, and reductions are row sums, so
that results for B = 1 and B = 64 agree bit for bit. Environments, back-tests and baselines all call `step`, or
`step_with_exits` where assets may leave; no other code repeats its arithmetic. The functions also take torch tensors,
through which gradients flow (see `arrays.namespace`).

A step starts at the close of day t with wealth V_t and drifted weights w'_t; cash is the last of the N + 1 columns:

1. trade to the target weights w_t:      traded_t   = sum over risky i of |w_t,i - w'_t,i|
                                         turnover_t = 1/2 sum over all N + 1 of |w_t,i - w'_t,i|
2. pay:                                  c_t = sum_i cost_i |w_t,i - w'_t,i|  +  sum_i k sigma_i,t |w_t,i - w'_t,i|^1.5
3. earn simple returns r_{t+1}:          g_{t+1} = sum_i w_t,i (1 + r_{t+1,i})
4. the wealth:                           V_{t+1} = V_t (1 - c_t) g_{t+1}
5. the weights drift:                    w'_{t+1,i} = w_t,i (1 + r_{t+1,i}) / g_{t+1}

The trade at close t is decided on prices, features and portfolio weights that were known at close t - L, where L is the
execution lag. The known weights are w'_t for L = 0. For L = 1 they are w_{t-1}, without the returns of day t, because
w'_t / w_{t-1} would reveal these returns (see `known_weights`).

The cost is charged on the notional before costs, which neglects a second-order term. If w_t were instead a target for
the wealth after costs, a share v = 1 - sum_i cost_i |v w_t,i - w'_t,i| of wealth would be left; c_t differs from 1 - v
by at most (1 - v) times the largest rate. For example, a full swap of one asset for another at 50 bp costs c_t = 100 bp
here and 1 - (1 - 0.005) / (1 + 0.005) = 99.50 bp in that case, a difference of 0.50 bp of wealth. At 10 bp the
difference is 0.02 bp.

The impact term is the square-root law of market impact: trading a fraction q of an asset's daily volume moves its price
by Y sigma sqrt(q), with Y about 1. A fund of size A that trades a fraction |dw| of its wealth in an asset with a daily
dollar volume ADV trades q = |dw| A / ADV and pays this price move on |dw| of its wealth. Hence k = Y sqrt(A / ADV):
k = 0.1 describes a fund of 1 % of the daily volume, and k = 1 a fund as large as the daily volume.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rllib_portfolio.arrays import FloatArray, namespace
from rllib_portfolio.errors import ConfigError

RUIN = 1e-12
"""Growth factor of a portfolio all of whose assets become worthless on one day, so that logarithms stay finite."""


class PortfolioState(NamedTuple):
    """Wealth and drifted weights at a close."""

    wealth: FloatArray
    """Wealth V_t, [B]."""
    weights: FloatArray
    """Drifted weights w'_t, [B, N+1]; rows sum to 1, and cash is last."""


class Outcome(NamedTuple):
    """The result of one day for each portfolio; trades and costs are fractions of wealth."""

    move: FloatArray
    """Traded fraction |w_t - w'_t| of each asset, cash last, [B, N+1]."""
    cost: FloatArray
    """Transaction cost c_t, [B]."""
    growth: FloatArray
    """Growth factor V_{t+1} / V_t after costs, [B]."""

    @property
    def traded(self) -> FloatArray:
        """Traded notional of the risky assets, [B]."""
        return self.move[..., :-1].sum(-1)  # type: ignore[no-any-return]

    @property
    def turnover(self) -> FloatArray:
        """Half the L1 distance over all N+1 weights, [B]."""
        return 0.5 * self.move.sum(-1)  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True)
class CostModel:
    """Transaction costs.

    Attributes:
        rates: Proportional cost of each risky asset, as a fraction of the traded notional, [N].
        impact: Coefficient k of the impact term, dimensionless: one number, or one for each trade, [B, N].
    """

    rates: FloatArray
    impact: float | FloatArray = 0.0

    @property
    def has_impact(self) -> bool:
        """Whether trades pay the impact term, so that costs depend on volatility."""
        return not isinstance(self.impact, float) or self.impact > 0.0

    @classmethod
    def from_bps(cls, cost_bps: float | tuple[float, ...], num_assets: int, impact: float = 0.0) -> CostModel:
        """Return the cost model for rates in basis points.

        Args:
            cost_bps: Cost in basis points of the traded notional: one number for all assets, or one for each.
            num_assets: Number N of risky assets.
            impact: Coefficient k of the impact term, dimensionless, at least 0.

        Raises:
            ConfigError: If there are several numbers, but not one for each asset.
        """
        if isinstance(cost_bps, tuple) and len(cost_bps) != num_assets:
            raise ConfigError(
                f"cost_bps must be one number or {num_assets} numbers, got {len(cost_bps)}. Give one for each asset."
            )
        return cls(np.broadcast_to(np.asarray(cost_bps, dtype=np.float64) * 1e-4, (num_assets,)).copy(), impact)


def initial_state(num_portfolios: int, num_assets: int) -> PortfolioState:
    """Return the state of portfolios with wealth 1, all in cash.

    Args:
        num_portfolios: Number B of portfolios.
        num_assets: Number N of risky assets.
    """
    weights = np.zeros((num_portfolios, num_assets + 1))
    weights[:, -1] = 1.0
    return PortfolioState(np.ones(num_portfolios), weights)


def known_weights(drifted: FloatArray, held: FloatArray, execution_lag: int) -> FloatArray:
    """Return the portfolio's own weights as known at close t - L, after the trades of all earlier decisions.

    Args:
        drifted: Weights w'_t, which include the returns of day t, [B, N+1].
        held: Weights w_{t-1} after the close of row t - 1, traded or not, [B, N+1]; all cash before the first trade.
        execution_lag: Execution lag L, 0 or 1.

    Returns:
        One of the two arrays, [B, N+1].
    """
    return held if execution_lag else drifted


def trading_cost(move: FloatArray, costs: CostModel, volatility_t: FloatArray) -> FloatArray:
    """Return the cost c_t of trades, a fraction of wealth, [B].

    Args:
        move: Traded fractions |w_t - w'_t| of the risky assets, [B, N].
        costs: Transaction costs.
        volatility_t: Trailing daily volatility of the risky assets, [B, N] or [N]; only the impact term uses it.
    """
    cost = (costs.rates * move).sum(-1)
    if costs.has_impact:
        cost = cost + (costs.impact * volatility_t * move**1.5).sum(-1)
    return cost  # type: ignore[no-any-return]


def step(
    state: PortfolioState, weights: FloatArray, returns_t1: FloatArray, volatility_t: FloatArray, costs: CostModel
) -> tuple[PortfolioState, Outcome]:
    """Trade to `weights` at the close of day t and earn the returns of day t + 1.

    Args:
        state: Wealth V_t, [B], and drifted weights w'_t, [B, N+1].
        weights: Target weights w_t, [B, N+1], rows on the simplex.
        returns_t1: Simple returns r_{t+1}, cash last, [B, N+1] or [N+1], each above -1.
        volatility_t: Trailing daily volatility of the risky assets, [B, N] or [N]; only the impact term uses it.
        costs: Transaction costs.

    Returns:
        The state at the close of day t + 1, and the outcome of the day.
    """
    move = abs(weights - state.weights)
    cost = trading_cost(move[..., :-1], costs, volatility_t)
    grown = weights * (1.0 + returns_t1)
    gross = grown.sum(-1)
    growth = (1.0 - cost) * gross
    next_state = PortfolioState(state.wealth * growth, grown / gross[..., None])
    return next_state, Outcome(move, cost, growth)


def step_with_exits(
    state: PortfolioState,
    weights: FloatArray,
    returns_t1: FloatArray,
    volatility_t: FloatArray,
    costs: CostModel,
    listed_t1: NDArray[np.bool_],
    exit_rates: FloatArray,
) -> tuple[PortfolioState, Outcome]:
    """Take `step` in a universe that assets may leave: what they pay on the day after their life becomes cash.

    A sale at the end of a life costs a part of the wealth, V_{t+1} = V_t (1 - c_t) g_{t+1} (1 - e_{t+1}), where
    e_{t+1} = sum_i exit_rate_i w'_{t+1,i} over the assets that leave. It is counted in the cost of the day.

    Args:
        state: Wealth V_t, [B], and drifted weights w'_t, [B, N+1].
        weights: Target weights w_t, [B, N+1], rows on the simplex.
        returns_t1: Simple returns r_{t+1}, cash last, [B, N+1], each at least -1.
        volatility_t: Trailing daily volatility of the risky assets, [B, N]; only the impact term uses it.
        costs: Transaction costs.
        listed_t1: Whether each asset is listed on day t + 1, [B, N].
        exit_rates: Cost of the sale at the end of a life as a fraction of the notional, [N]; 0 without a sale.

    Returns:
        The state at the close of day t + 1, and the outcome of the day. A portfolio whose assets all become worthless
        keeps the fraction `RUIN` of its wealth, in cash.
    """
    xp = namespace(weights)
    with np.errstate(invalid="ignore"):  # 0 / 0 where all is lost
        after, outcome = step(state, weights, returns_t1, volatility_t, costs)
    drifted = after.weights
    is_lost = (outcome.growth == 0.0) & (outcome.cost < 1.0)
    if is_lost.any():
        cash = xp.zeros_like(drifted)
        cash[:, -1] = 1.0
        drifted = xp.where(is_lost[:, None], cash, drifted)
    exited = xp.where(listed_t1, 0.0, drifted[:, :-1])
    drifted = xp.concatenate([drifted[:, :-1] - exited, drifted[:, -1:] + exited.sum(-1, keepdims=True)], axis=-1)
    exit_cost = (exit_rates * exited).sum(-1)
    growth = xp.where(is_lost, RUIN, outcome.growth * (1.0 - exit_cost))
    paid = xp.where(exit_cost > 0.0, 1.0 - (1.0 - outcome.cost) * (1.0 - exit_cost), outcome.cost)
    return PortfolioState(state.wealth * growth, drifted), outcome._replace(cost=paid, growth=growth)
