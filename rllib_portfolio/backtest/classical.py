"""The classical allocation rules: functions of the trailing days alone, from a `History` to target weights [N+1].

All are long only. Moments are plain sample moments of daily simple returns, without shrinkage; skfolio solves. Returns
go to it in per cent: its tolerances are absolute, and daily variances, of the order of 1e-4, would be small beside
them; no rule here depends on the unit. A solution that the solver calls inaccurate counts as none.

A covariance matrix that is singular, or so nearly that the solver gives up, is shrunk by 1e-5 towards equal variances
without correlation: where an asset is a copy or a multiple of another, and where there are no more days than assets. An
asset that earns the same each day of the history (a price that stands still, a deposit that accrues steadily) has no
risk that could be measured, and beside it there is cash, which is the riskless asset of these rules. The rules that
optimise leave it out, with weight 0: it would be the whole portfolio of least risk, and the ratio of any mean to its
risk is infinite. `inverse_volatility` puts a floor under its volatility; `momentum` and `merton` look at what it earns.
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
"""Where logarithms are solved for, Clarabel stalls now and then short of more; risks are then equal to 4 digits."""


def equal_weight(history: History, share: float = 1.0) -> FloatArray:
    """1/N over the risky assets of `share` of the wealth, the rest in cash."""
    return equal_weights(history.num_assets, share)


def inverse_volatility(history: History) -> FloatArray:
    """w_i proportional to 1 / sigma_i: risk parity where all correlations are equal."""
    return inverse_volatility_weights(history.returns.std(0, ddof=1))


def minimum_variance(history: History) -> FloatArray:
    """The w that minimises w' Sigma w over w >= 0, sum w = 1.

    Source: Markowitz (1952), "Portfolio Selection", Journal of Finance 7(1).
    """
    from skfolio.optimization import MeanRisk

    return _solved(MeanRisk(solver_params=SOLVER_TOLERANCES), history)


def maximum_sharpe(history: History) -> FloatArray:
    """The tangency portfolio: the w that maximises (mu - r)' w / sqrt(w' Sigma w) over w >= 0, sum w = 1.

    There is none where no asset earned more than cash.

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
    """The w that maximises (mu - r)' w / CVaR_95(w) over w >= 0, sum w = 1: the tangency portfolio of mean and CVaR.

    CVaR is of the days themselves, not of a fitted law. There is none where no asset earned more than cash.

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
    """The w > 0, sum w = 1, at which w_i (Sigma w)_i is the same for all i: equal contributions to the variance.

    Source: Maillard, Roncalli and Teiletche (2010), "The Properties of Equally Weighted Risk Contribution Portfolios",
        Journal of Portfolio Management 36(4).
    """
    from skfolio.optimization import RiskBudgeting

    return _solved(RiskBudgeting(solver_params=LOGARITHM_TOLERANCES), history)


def hierarchical_risk_parity(history: History) -> FloatArray:
    """Variance split down the halves of the assets in order of their clustering: no matrix is inverted.

    Ward linkage of the distances sqrt((1 - correlation) / 2); the paper takes single linkage.

    Source: López de Prado (2016), "Building Diversified Portfolios that Outperform Out of Sample", Journal of
        Portfolio Management 42(4).
    """
    from skfolio.optimization import HierarchicalRiskParity

    return _solved(HierarchicalRiskParity(), history)


def momentum(history: History, num_winners: int, skip_days: int = MONTH_DAYS) -> FloatArray:
    """Equal weights in the `num_winners` assets of highest return over the history, its last `skip_days` left out.

    Over 252 days with 21 skipped these are the eleven-month returns lagged one month of Carhart (1997). Ties go to the
    asset that comes first.

    Source: Jegadeesh and Titman (1993), "Returns to Buying Winners and Selling Losers: Implications for Stock Market
        Efficiency", Journal of Finance 48(1).
    """
    past = history.returns[: len(history.returns) - skip_days]
    winners = np.argsort(-np.log1p(past).sum(0), kind="stable")[:num_winners]
    weights = np.zeros(history.num_assets + 1)
    weights[winners] = 1.0 / len(winners)
    return weights


def merton(history: History, risk_aversion: float = 1.0, periods_per_year: int = YEAR_DAYS) -> FloatArray:
    """`merton_weights` of the history's annualised moments: full covariance, cash allowed."""
    mean_excess, covariance = periods_per_year * history.mean_excess, periods_per_year * history.covariance
    return merton_weights(mean_excess, covariance, risk_aversion)


def _solved(model: Any, history: History) -> FloatArray:
    """Weights [N+1] of a skfolio optimisation, without cash; a ConfigError where it has no solution."""
    from skfolio.exceptions import SkfolioError

    moves = ~(history.returns.std(0) <= SMALLEST_DENOMINATOR)  # the solver refuses NaN
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
    """Return the model with a shrunk estimate of the covariance, which is regular."""
    from skfolio.moments import ShrunkCovariance
    from skfolio.prior import EmpiricalPrior

    settings = {"prior_estimator": EmpiricalPrior(covariance_estimator=ShrunkCovariance(shrinkage=SHRINKAGE))}
    if "solver_params" in model.get_params():
        settings["solver_params"] = {
            name: max(tolerance, SHRUNK_TOLERANCE) for name, tolerance in model.solver_params.items()
        }
    return model.set_params(**settings)
