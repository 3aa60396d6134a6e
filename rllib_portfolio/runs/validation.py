"""The back-test of a policy on the validation window, and its results in the folder of a checkpoint."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from rllib_portfolio.arrays import FloatArray
from rllib_portfolio.backtest.baselines import EqualWeight
from rllib_portfolio.backtest.engine import BacktestResult, backtest
from rllib_portfolio.config import RunConfig
from rllib_portfolio.market import MarketData
from rllib_portfolio.policies.checkpoint import best_checkpoint
from rllib_portfolio.policies.saved_policy import PortfolioPolicy, read_policy
from rllib_portfolio.statistics.metrics import (
    annualised_return,
    annualised_volatility,
    information_ratio,
    max_drawdown,
    sharpe_ratio,
)

VALIDATION_RETURNS = "validation_returns.parquet"
"""File in a checkpoint with the daily net returns of its policy on the validation window."""


def walk(policy: PortfolioPolicy, market: MarketData, window: str, config: RunConfig) -> BacktestResult:
    """Return the back-test of a policy over a named window, with the run's costs and limits.

    Args:
        policy: The policy.
        market: The market.
        window: Name of the window, such as "validation".
        config: The run's configuration.

    Raises:
        ConfigError: If the costs do not fit the market, the policy returns weights that are not a portfolio, or market
            impact leaves no wealth.
    """
    (result,) = backtest(market, market.windows[window], [policy], config.environment)
    return result


def best_policy(run_dir: Path, market: MarketData) -> PortfolioPolicy:
    """Return the policy of a run that was best on validation.

    Args:
        run_dir: Folder of the run.
        market: Market on which the policy will decide.

    Raises:
        ConfigError: If the run has no whole policy, or the policy does not fit the market.
    """
    policy = read_policy(run_dir)
    policy.require_compatible(market)
    return policy


def equal_weight_returns(market: MarketData, config: RunConfig) -> FloatArray:
    """Return the daily net returns of 1/N over the validation window, with the run's costs and limits.

    Args:
        market: The run's market.
        config: The run's configuration.

    Returns:
        Simple returns, [T] for the T days of the window.

    Raises:
        ConfigError: If the costs do not fit the market, or market impact leaves no wealth.
    """
    (result,) = backtest(market, market.windows["validation"], [EqualWeight()], config.environment)
    return result.returns


def validation_scalars(result: BacktestResult, market: MarketData, equal_weight: FloatArray) -> dict[str, float]:
    """Return the metrics of a back-test for TensorBoard and for the selection of policies.

    Args:
        result: The back-test.
        market: Its market.
        equal_weight: Daily net returns of 1/N on the same days.
    """
    periods = market.periods_per_year
    start, stop = np.searchsorted(market.dates, [result.dates[0], result.dates[-1]]) + np.array([0, 1])
    return {
        "sharpe_ratio": float(sharpe_ratio(result.returns, market.cash_returns[start:stop], periods)),
        "information_ratio": float(information_ratio(result.returns, equal_weight, periods)),
        "annual_return": float(annualised_return(result.returns, periods)),
        "volatility": float(annualised_volatility(result.returns, periods)),
        "max_drawdown": float(max_drawdown(result.returns)),
        "daily_turnover": float(result.turnover.mean()),
        "cost_per_year": float(result.cost.mean() * periods),
    }


def write_validation_returns(checkpoint: Path, result: BacktestResult) -> None:
    """Write the daily net returns of a back-test on the validation window into a checkpoint's folder.

    Args:
        checkpoint: Folder of the checkpoint.
        result: The back-test.
    """
    result.to_frame()[["return"]].to_parquet(checkpoint / VALIDATION_RETURNS)


def best_validation_returns(run_dir: Path) -> pd.Series | None:
    """Return the daily net returns of a run's best policy on the validation window, by date; None before it has any."""
    best = best_checkpoint(run_dir)
    if best is None or not (path := best / VALIDATION_RETURNS).is_file():
        return None
    return pd.read_parquet(path)["return"]
