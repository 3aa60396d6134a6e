"""Reference strategies that every report shows beside a policy.

They have the same back-test, costs and limits as the policy. Rules that estimate moments are in `classical`.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rllib_portfolio.arrays import FloatArray
from rllib_portfolio.backtest.engine import BacktestResult, Role, backtest
from rllib_portfolio.config import ExecutionConfig
from rllib_portfolio.errors import ConfigError
from rllib_portfolio.market import MarketData, Window
from rllib_portfolio.policies.strategy import MarketView

logger = logging.getLogger(__name__)

INDEX_NAME = "index"

SMALLEST_EIGENVALUE = 1e-10
"""Tolerated size of a negative eigenvalue, as a fraction of the largest eigenvalue."""


@dataclass(frozen=True, eq=False)
class EqualWeight:
    """1/N over the risky assets that can be traded, rebalanced at each decision.

    Source: DeMiguel, Garlappi and Uppal (2009), "Optimal Versus Naive Diversification: How Inefficient is the 1/N
        Portfolio Strategy?", Review of Financial Studies 22(5).
    """

    name: str = "1/N"
    role: Role = Role.BENCHMARK

    def decide(self, view: MarketView) -> FloatArray:
        """Return equal weights without cash."""
        return view.equal_weights


@dataclass(frozen=True, eq=False)
class BuyAndHold:
    """1/N that is bought at the first decision and then drifts.

    With a maximum turnover below 1, the part that cannot be bought at the first decision stays in cash. So does what an
    asset pays that leaves the universe.
    """

    name: str = "buy-and-hold"
    role: Role = Role.REFERENCE

    def decide(self, view: MarketView) -> FloatArray | None:
        """Return equal weights at the first decision and None (hold) afterwards."""
        return view.equal_weights if view.is_first else None


@dataclass(frozen=True, eq=False)
class AllCash:
    """A portfolio of cash only."""

    name: str = "all cash"

    def decide(self, view: MarketView) -> FloatArray:
        """Return a weight of 1 for cash and 0 for all risky assets."""
        weights = np.zeros(len(view.weights))
        weights[-1] = 1.0
        return weights


@dataclass(frozen=True, eq=False)
class ConstantMix:
    """Fixed target weights, rebalanced at each decision.

    Attributes:
        weights: Target weights [N+1] on the simplex, cash last.
        name: Row label.
        role: Role in a line-up.
    """

    weights: FloatArray
    name: str = "constant mix"
    role: Role = Role.BASELINE

    def decide(self, view: MarketView) -> FloatArray:
        """Return the fixed weights."""
        return self.weights


def merton_weights(mean_excess: FloatArray, covariance: FloatArray, risk_aversion: float = 1.0) -> FloatArray:
    """Maximise w'(mu - r) - gamma/2 w' Sigma w over w >= 0, sum w <= 1; the rest is cash.

    If no bound binds, the solution is Sigma^-1 (mu - r) / gamma.

    Args:
        mean_excess: mu - r of the N risky assets, [N], in the time unit of `covariance`.
        covariance: Sigma, [N, N], positive semi-definite.
        risk_aversion: gamma, above 0.

    Returns:
        Weights [N+1] on the simplex, cash last.

    Raises:
        ConfigError: If `risk_aversion` is not positive, a moment is not finite, `covariance` is not positive
            semi-definite, or the solver fails.

    Source: Merton (1969), "Lifetime Portfolio Selection under Uncertainty: The Continuous-Time Case", Review of
        Economics and Statistics 51(3); the bounds make it the quadratic programme of Markowitz (1952).
    """
    if not risk_aversion > 0.0:
        raise ConfigError(f"risk_aversion must be above 0, got {risk_aversion} (Merton). Raise it.")
    if not (np.isfinite(mean_excess).all() and np.isfinite(covariance).all()):
        raise ConfigError("moments must be finite, got a NaN or an infinity (Merton). Look for gaps in the prices.")
    variances = np.linalg.eigvalsh(covariance)
    if variances[0] < -SMALLEST_EIGENVALUE * max(variances[-1], 0.0):
        raise ConfigError(
            f"covariance must be positive semi-definite, got an eigenvalue of {variances[0]:.3g} (Merton). Estimate it "
            "from one set of days for all assets."
        )
    risky = np.maximum(_solve_long_only(mean_excess, covariance, risk_aversion), 0.0)
    risky /= max(1.0, risky.sum())
    return np.append(risky, max(0.0, 1.0 - risky.sum()))


def index_result(market: MarketData, window: Window, execution: ExecutionConfig) -> BacktestResult | None:
    """Back-test buying and holding the index; return None for a market without an index.

    The index is a single fund. It pays the proportional cost (the mean if each asset has its own) and no market impact.
    The limits do not apply to it, since they restrict single assets and their trading.

    Args:
        market: The market.
        window: Rows of the back-test.
        execution: Settings of the compared strategies; their costs, lag and rebalancing days apply to the index.
    """
    if market.index_returns is None:
        return None
    fund = replace(
        market,
        assets=(INDEX_NAME,),
        returns=market.index_returns[:, None],
        volatility=np.zeros((market.num_days, 1)),
        asset_features=np.zeros((market.num_days, 1, 0), dtype=np.float32),
        asset_feature_names=(),
        universe=None,
        dollar_volume=None,
        cost_bps=None,
        groups=None,
    )
    terms = ExecutionConfig(
        cost_bps=float(np.mean(execution.cost_bps)),
        execution_lag=execution.execution_lag,
        rebalance_days=execution.rebalance_days,
    )
    return backtest(fund, window, [BuyAndHold(INDEX_NAME, Role.INDEX)], terms)[0]


def _solve_long_only(mean_excess: FloatArray, covariance: FloatArray, risk_aversion: float) -> FloatArray:
    import cvxpy  # takes a second to import

    cp: Any = cvxpy  # cvxpy's annotations are partial
    weights = cp.Variable(len(mean_excess), nonneg=True)
    utility = mean_excess @ weights - 0.5 * risk_aversion * cp.quad_form(weights, cp.psd_wrap(covariance))
    problem = cp.Problem(cp.Maximize(utility), [cp.sum(weights) <= 1.0])
    try:
        problem.solve(solver=cp.CLARABEL, tol_gap_abs=1e-11, tol_gap_rel=1e-11, tol_feas=1e-11)
        status = problem.status
    except cp.SolverError as error:
        logger.debug("Clarabel: %s", error)
        status = "failed"
    if status != cp.OPTIMAL:
        raise ConfigError(
            f"Merton's weights must have an optimum, got solver status {status} (Clarabel, {len(mean_excess)} assets). "
            "Look for returns of absurd size, or lengthen the window."
        )
    return np.asarray(weights.value)
