"""Measures of the holdings and the trading of a strategy, from the results of a back-test.

Cash counts as one asset: half in cash and half in one stock is less concentrated than all in that stock. NaN weights
give NaN.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from rllib_portfolio.arrays import FloatArray
from rllib_portfolio.backtest.engine import BacktestResult
from rllib_portfolio.env.action_map import equal_weights, equal_weights_over
from rllib_portfolio.errors import ConfigError
from rllib_portfolio.market import CASH, MarketData
from rllib_portfolio.market.universe import BoolArray
from rllib_portfolio.statistics import metrics

BPS = 1e-4
NO_GROUP = "no group"
GROUPS = "Mean weight of each group"
"""Title of the table of `group_weights` in reports."""


@dataclass(frozen=True, slots=True)
class Holdings:
    """Trading and concentration of one strategy.

    Attributes:
        turnover_per_year: Half the L1 distance over all N+1 weights, summed over a year; 1 is one trade of the whole
            portfolio.
        cost_per_year: Transaction costs as fractions of wealth, summed over a year.
        cost_drag: Annualised return before costs minus annualised return after costs.
        break_even_cost_bps: Result of the function of this name.
        effective_assets: Mean over days of 1 / sum(w^2); N for 1/N, 1 for a single asset.
        herfindahl: Mean over days of sum(w^2), from 1 / (N+1) to 1.
        active_share: Mean over days of half the L1 distance to 1/N over the risky assets, from 0 to 1.
    """

    turnover_per_year: float
    cost_per_year: float
    cost_drag: float
    break_even_cost_bps: float
    effective_assets: float
    herfindahl: float
    active_share: float


def holdings(
    result: BacktestResult, benchmark: BacktestResult, periods_per_year: float = metrics.PERIODS_PER_YEAR
) -> Holdings:
    """Compute the measures of one strategy.

    Args:
        result: Result of the strategy.
        benchmark: Result over the same days that the break-even cost refers to.
        periods_per_year: Days per year.

    Raises:
        ConfigError: If the two are over different days.
    """
    return Holdings(
        turnover_per_year=_per_year(result.turnover, periods_per_year),
        cost_per_year=_per_year(result.cost, periods_per_year),
        cost_drag=cost_drag(result, periods_per_year),
        break_even_cost_bps=break_even_cost_bps(result, benchmark),
        effective_assets=float(effective_assets(result.weights).mean()),
        herfindahl=float(herfindahl_index(result.weights).mean()),
        active_share=float(active_share(result.weights, result.members).mean()),
    )


def herfindahl_index(weights: FloatArray) -> FloatArray:
    """Compute sum(w^2) over all N+1 weights of each day: [T, N+1] gives [T].

    Source: Herfindahl (1950) and Hirschman (1945), who use it for market shares.
    """
    return np.asarray((np.asarray(weights, dtype=np.float64) ** 2).sum(axis=-1))


def effective_assets(weights: FloatArray) -> FloatArray:
    """Compute 1 / sum(w^2), the number of equally weighted assets of the same concentration: [T, N+1] gives [T]."""
    return np.asarray(1.0 / herfindahl_index(weights))


def active_share(weights: FloatArray, members: BoolArray | None = None) -> FloatArray:
    """Compute half the L1 distance of each day's weights to 1/N over the risky assets: [T, N+1] gives [T], in [0, 1].

    Args:
        weights: Weights of each day, [T, N+1], cash last.
        members: Whether each asset is a member of the universe on each day, [T, N]; None if all are.

    Source: Cremers and Petajisto (2009), "How Active Is Your Fund Manager? A New Measure That Predicts Performance",
        Review of Financial Studies 22(9), equation (1), with 1/N for the benchmark index.
    """
    weights = np.asarray(weights, dtype=np.float64)
    benchmark = equal_weights(weights.shape[-1] - 1) if members is None else equal_weights_over(members)
    return np.asarray(0.5 * np.abs(weights - benchmark).sum(axis=-1))


def group_weights(results: Sequence[BacktestResult], market: MarketData) -> pd.DataFrame | None:
    """Compute the mean weight of each group of assets, of assets without a group, and of cash.

    Args:
        results: Results on the assets of the market; others, such as the index, are left out.
        market: The market, with or without groups.

    Returns:
        One row per strategy and one column per group, or None for a market without groups.
    """
    if market.groups is None:
        return None
    columns = [*(name or NO_GROUP for name in market.groups), CASH]
    rows = {
        result.name: pd.Series(result.weights.mean(axis=0), index=columns).groupby(level=0, sort=False).sum()
        for result in results
        if result.assets == market.assets
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("strategy").round(4)


def gross_returns(result: BacktestResult) -> FloatArray:
    """Compute the returns before costs, [T]: g - 1 where V_{t+1} = V_t (1 - c) g. Weights do not depend on costs."""
    return np.asarray((1.0 + result.returns) / (1.0 - result.cost) - 1.0)


def cost_drag(result: BacktestResult, periods_per_year: float = metrics.PERIODS_PER_YEAR) -> float:
    """Compute the annualised return before costs minus the annualised return after costs.

    Args:
        result: Result of a strategy.
        periods_per_year: Days per year.
    """
    before = metrics.annualised_return(gross_returns(result), periods_per_year)
    return float(before - metrics.annualised_return(result.returns, periods_per_year))


def log_lead(result: BacktestResult, benchmark: BacktestResult, cost_bps: float) -> float:
    """Compute log(final wealth / the benchmark's) if both paid the same proportional cost for their trades.

    Args:
        result: Result of a strategy.
        benchmark: Result of its benchmark over the same days.
        cost_bps: Cost per traded notional, in basis points.
    """
    ours, theirs = (
        (np.log1p(gross_returns(each)) + np.log1p(-cost_bps * BPS * each.traded)).sum() for each in (result, benchmark)
    )
    return float(ours - theirs)


def break_even_cost_bps(result: BacktestResult, benchmark: BacktestResult) -> float:
    """Find the cost per traded notional at which strategy and benchmark end with the same wealth.

    Both pay the cost k for the trades that they made in the back-test, which are assumed not to depend on k. At the
    solution, sum_t log((1 - k traded_t) g_t) is the same for both, where g_t is the growth before costs.

    Args:
        result: Result of the strategy.
        benchmark: Result of its benchmark over the same days.

    Returns:
        Cost in basis points. NaN if there is no such cost, since the strategy is not ahead without costs or is ahead at
        any cost.

    Raises:
        ConfigError: If the two are over different days.
    """
    from scipy.optimize import brentq

    _require_same_days(result, benchmark)

    def lead(cost: float) -> float:
        return log_lead(result, benchmark, cost / BPS)

    most_traded = max(result.traded.max(initial=0.0), benchmark.traded.max(initial=0.0))
    if not most_traded > metrics.SMALLEST_DENOMINATOR:
        return float("nan")
    ruinous = (1.0 - 1e-9) / most_traded
    if not (lead(0.0) > 0.0 > lead(ruinous)):
        return float("nan")
    return float(brentq(lead, 0.0, ruinous, xtol=1e-12)) / BPS


def _require_same_days(result: BacktestResult, benchmark: BacktestResult) -> None:
    if not np.array_equal(result.dates, benchmark.dates):
        raise ConfigError(
            f"benchmark must be over the days of the strategy, got {len(benchmark.dates)} days beside "
            f"{len(result.dates)} (strategies {benchmark.name} and {result.name}). Back-test them together."
        )


def _per_year(daily: FloatArray, periods_per_year: float) -> float:
    return float(periods_per_year * daily.mean())
