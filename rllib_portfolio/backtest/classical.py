"""The classical allocation rules, which map a `History` of trailing days to target weights [N+1].

All rules are long-only. They use plain sample moments of daily simple returns, without shrinkage, and skfolio as the
solver. It gets returns in per cent, since its tolerances are absolute and daily variances are only of the order of
1e-4; no rule depends on the unit. A solution that the solver calls inaccurate is rejected.

A covariance matrix that is singular, or so close to it that the solver gives up, is shrunk by 1e-5 towards equal
variances without correlation. This happens if an asset is a copy or a multiple of another one, or if there are no more
days than assets. An asset whose return is the same on each day of the history (a constant price, a deposit) has no
measurable risk. The optimising rules give it weight 0, because it would otherwise be the whole minimum-risk portfolio
with an infinite ratio of mean to risk; their riskless asset is cash. `inverse_volatility` sets a lower bound on its
volatility; `momentum` and `merton` use its return.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from rllib_portfolio.arrays import FloatArray
from rllib_portfolio.backtest.baselines import merton_weights
from rllib_portfolio.backtest.refitting import MONTH_DAYS, YEAR_DAYS, History
from rllib_portfolio.env.action_map import equal_weights, inverse_volatility_weights
from rllib_portfolio.errors import ConfigError
from rllib_portfolio.statistics.metrics import SMALLEST_DENOMINATOR

PER_CENT = 100.0
CVAR_CONFIDENCE = 0.95
SOLVER_TOLERANCES = {"tol_gap_abs": 1e-10, "tol_gap_rel": 1e-10}
SHRINKAGE, SHRUNK_TOLERANCE = 1e-5, 1e-8
"""Shrinkage applied to a singular covariance matrix, and the solver tolerance used with it."""

LOGARITHM_TOLERANCES = {"tol_gap_abs": 1e-7, "tol_gap_rel": 1e-7}
"""Tolerances for problems with logarithms, at which Clarabel does not stall; risk contributions agree to 4 digits."""


def equal_weight(history: History, share: float = 1.0) -> FloatArray:
    """Spread a fraction of the wealth equally over the risky assets, with the rest in cash.

    Args:
        history: The trailing days, of which only the number of assets is used.
        share: The fraction, in [0, 1].
    """
    return equal_weights(history.num_assets, share)


def inverse_volatility(history: History) -> FloatArray:
    """Return weights w_i proportional to 1 / sigma_i, which is risk parity if all correlations are equal."""
    return inverse_volatility_weights(history.returns.std(0, ddof=1))


def minimum_variance(history: History) -> FloatArray:
    """Minimise w' Sigma w over w >= 0, sum w = 1.

    Source: Markowitz (1952), "Portfolio Selection", Journal of Finance 7(1).
    """
    from skfolio.optimization import MeanRisk

    return _solved(MeanRisk(solver_params=SOLVER_TOLERANCES), history)


def maximum_sharpe(history: History) -> FloatArray:
    """Maximise (mu - r)' w / sqrt(w' Sigma w) over w >= 0, sum w = 1 (the tangency portfolio).

    There is no solution if no asset earned more than cash.

    Source: Sharpe (1966), "Mutual Fund Performance", Journal of Business 39(1), for the ratio.
    """
    from skfolio.optimization import MeanRisk, ObjectiveFunction

    model = MeanRisk(
        objective_function=ObjectiveFunction.MAXIMIZE_RATIO,
        risk_free_rate=PER_CENT * float(history.cash_returns.mean()),
        solver_params=SOLVER_TOLERANCES,
    )
    return _solved(model, history)


def mean_cvar(history: History) -> FloatArray:
    """Maximise (mu - r)' w / CVaR_95(w) over w >= 0, sum w = 1 (the tangency portfolio of mean and CVaR).

    CVaR is that of the historical days, not of a fitted distribution. There is no solution if no asset earned more than
    cash.

    Source: Rockafellar and Uryasev (2000), "Optimization of Conditional Value-at-Risk", Journal of Risk 2(3).
    """
    from skfolio.measures import RiskMeasure
    from skfolio.optimization import MeanRisk, ObjectiveFunction

    model = MeanRisk(
        objective_function=ObjectiveFunction.MAXIMIZE_RATIO,
        risk_measure=RiskMeasure.CVAR,
        cvar_beta=CVAR_CONFIDENCE,
        risk_free_rate=PER_CENT * float(history.cash_returns.mean()),
        solver_params=SOLVER_TOLERANCES,
    )
    return _solved(model, history)


def risk_parity(history: History) -> FloatArray:
    """Find the w > 0, sum w = 1, with equal contributions w_i (Sigma w)_i of all assets to the variance.

    Source: Maillard, Roncalli and Teiletche (2010), "The Properties of Equally Weighted Risk Contribution Portfolios",
        Journal of Portfolio Management 36(4).
    """
    from skfolio.optimization import RiskBudgeting

    return _solved(RiskBudgeting(solver_params=LOGARITHM_TOLERANCES), history)


def hierarchical_risk_parity(history: History) -> FloatArray:
    """Split the weights by inverse variance between recursive halves of the clustered assets.

    No matrix is inverted. The clustering uses the distances sqrt((1 - correlation) / 2) and Ward linkage; the paper
    uses single linkage.

    Source: López de Prado (2016), "Building Diversified Portfolios that Outperform Out of Sample", Journal of
        Portfolio Management 42(4).
    """
    from skfolio.optimization import HierarchicalRiskParity

    return _solved(HierarchicalRiskParity(), history)


def momentum(history: History, num_winners: int, skip_days: int = MONTH_DAYS) -> FloatArray:
    """Hold the assets with the highest return over the history without its last days, at equal weights.

    Of assets with equal returns, the first one wins. With 252 days, of which 21 are skipped, the returns are Carhart's
    (1997) eleven-month returns lagged one month.

    Args:
        history: The trailing days.
        num_winners: Number of assets to hold, at least 1.
        skip_days: Number of days at the end of the history that are left out, at least 0.

    Source: Jegadeesh and Titman (1993), "Returns to Buying Winners and Selling Losers: Implications for Stock Market
        Efficiency", Journal of Finance 48(1).
    """
    past = history.returns[: len(history.returns) - skip_days]
    winners = np.argsort(-np.log1p(past).sum(0), kind="stable")[:num_winners]
    weights = np.zeros(history.num_assets + 1)
    weights[winners] = 1.0 / len(winners)
    return weights


def merton(history: History, risk_aversion: float = 1.0, periods_per_year: int = YEAR_DAYS) -> FloatArray:
    """Return `merton_weights` for the history's annualised moments, with the full covariance and cash allowed.

    Args:
        history: The trailing days.
        risk_aversion: Relative risk aversion gamma, above 0.
        periods_per_year: Days per year.

    Raises:
        ConfigError: If `risk_aversion` or a moment is not valid, or the solver fails; see `merton_weights`.
    """
    mean_excess, covariance = periods_per_year * history.mean_excess, periods_per_year * history.covariance
    return merton_weights(mean_excess, covariance, risk_aversion)


def _solved(model: Any, history: History) -> FloatArray:
    """Return the weights [N+1] of a skfolio optimisation, without cash; raise ConfigError if it has no solution."""
    from skfolio.exceptions import SkfolioError

    moves = ~(history.returns.std(0) <= SMALLEST_DENOMINATOR)  # NaN counts as moving, and the solver then refuses it
    returns = PER_CENT * history.returns[:, moves]
    if not moves.any():
        raise ConfigError(
            f"returns must vary, got {len(returns)} days on which each asset earned the same ({type(model).__name__}). "
            "Look at the prices of these days."
        )
    try:
        try:
            fitted = _fitted(model, returns)
        except UserWarning:  # the covariance had to be clipped, or the solution may be inaccurate
            fitted = _fitted(_shrunk(model), returns)
    except (SkfolioError, ValueError, UserWarning) as error:
        raise ConfigError(
            f"weights must be an optimum, got {type(error).__name__}: {error} ({type(model).__name__}, "
            f"{len(returns)} days of {history.num_assets} assets). Look at the prices of these days."
        ) from error
    weights = np.zeros(history.num_assets + 1)
    risky = np.maximum(fitted, 0.0)
    weights[:-1][moves] = risky / risky.sum()
    return weights


def _fitted(model: Any, returns: FloatArray) -> FloatArray:
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        return np.asarray(model.fit(returns).weights_)


def _shrunk(model: Any) -> Any:
    """Return the model with a shrunk covariance estimate, which is invertible."""
    from skfolio.moments import ShrunkCovariance
    from skfolio.prior import EmpiricalPrior

    settings = {"prior_estimator": EmpiricalPrior(covariance_estimator=ShrunkCovariance(shrinkage=SHRINKAGE))}
    if "solver_params" in model.get_params():
        settings["solver_params"] = {
            name: max(tolerance, SHRUNK_TOLERANCE) for name, tolerance in model.solver_params.items()
        }
    return model.set_params(**settings)
