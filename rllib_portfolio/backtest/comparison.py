"""Comparison of strategies on the same days: the table of their measures, and verdicts by the tests of `verdicts`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from rllib_portfolio.arrays import FloatArray
from rllib_portfolio.backtest.engine import BacktestResult
from rllib_portfolio.errors import ConfigError
from rllib_portfolio.statistics import metrics
from rllib_portfolio.statistics.verdicts import Pair, Verdict, judge


def compare(
    results: Sequence[BacktestResult], cash_returns: FloatArray, periods_per_year: float = metrics.PERIODS_PER_YEAR
) -> pd.DataFrame:
    """Return one row per strategy, indexed by its name, in the order of `results`.

    The columns are fractions except for the Sharpe ratio: total_return, annual_return, annual_volatility, sharpe_ratio
    (excess over cash), max_drawdown, turnover_per_year (half the L1 distance, summed over a year; 1 is one trade of the
    whole portfolio) and cost_per_year (fractions of wealth, summed over a year).

    Args:
        results: K results over the same days.
        cash_returns: Cash return on each of these days, [T].
        periods_per_year: Days per year.

    Raises:
        ConfigError: If there is no result, or the results and `cash_returns` are not over the same days.
    """
    _require_same_days(results, cash_returns)
    returns = np.stack([result.returns for result in results], axis=1)
    turnover = np.stack([result.turnover for result in results], axis=1)
    cost = np.stack([result.cost for result in results], axis=1)
    return pd.DataFrame(
        {
            "total_return": metrics.total_return(returns),
            "annual_return": metrics.annualised_return(returns, periods_per_year),
            "annual_volatility": metrics.annualised_volatility(returns, periods_per_year),
            "sharpe_ratio": metrics.sharpe_ratio(returns, cash_returns, periods_per_year),
            "max_drawdown": metrics.max_drawdown(returns),
            "turnover_per_year": periods_per_year * turnover.mean(axis=0),
            "cost_per_year": periods_per_year * cost.mean(axis=0),
        },
        index=pd.Index([result.name for result in results], name="strategy"),
    )


def verdict(
    policy: BacktestResult,
    benchmark: BacktestResult,
    cash_returns: FloatArray,
    periods_per_year: float = metrics.PERIODS_PER_YEAR,
    window_name: str = "test",
    seed: int = 0,
) -> Verdict:
    """Judge whether `policy` beat `benchmark` by both tests of `verdicts`.

    Args:
        policy: Result of the policy.
        benchmark: Result of 1/N on the same assets and days.
        cash_returns: Cash return on each of these days, [T].
        periods_per_year: Days per year.
        window_name: Name of the window in the sentence.
        seed: Seed of the bootstraps.

    Raises:
        ConfigError: If the results and `cash_returns` are not over the same days.
    """
    _require_same_days((policy, benchmark), cash_returns)
    days = f"the {window_name} window ({policy.dates[0]} to {policy.dates[-1]})"
    return judge(
        Pair(policy.name, benchmark.name, days, policy.returns, benchmark.returns, cash_returns, periods_per_year), seed
    )


def _require_same_days(results: Sequence[BacktestResult], cash_returns: FloatArray) -> None:
    if not results:
        raise ConfigError("results must be at least one, got none (comparison). Back-test a strategy first.")
    days = results[0].dates
    for result in results:
        if not np.array_equal(result.dates, days):
            raise ConfigError(
                f"results must be over the same days, got {result.dates[0]} to {result.dates[-1]} beside {days[0]} to "
                f"{days[-1]} (strategies {result.name} and {results[0].name}). Back-test them together."
            )
    if np.shape(cash_returns) != days.shape:
        raise ConfigError(
            f"cash_returns must have one number for each of {len(days)} days, got shape {np.shape(cash_returns)} "
            "(comparison). Cut them to the window."
        )
