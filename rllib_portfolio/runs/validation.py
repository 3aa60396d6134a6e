"""How a policy does on the window that it is selected on, and what of that is kept beside its checkpoint."""

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
"""In a checkpoint: the daily net returns of its policy on the validation window."""


def walk(policy: PortfolioPolicy, market: MarketData, window: str, config: RunConfig) -> BacktestResult:
    """The back-test of a policy over a named window, under the run's costs and limits."""
    (result,) = backtest(market, market.windows[window], [policy], config.environment)
    return result


def best_policy(run_dir: Path, market: MarketData) -> PortfolioPolicy:
    """Return the policy of a run that was best on validation; raise a `ConfigError` if it does not fit the market."""
    policy = read_policy(run_dir)
    policy.require_compatible(market)
    return policy


def equal_weight_returns(market: MarketData, config: RunConfig) -> FloatArray:
    """Daily net returns of 1/N over the validation window, under the run's costs and limits."""
    (result,) = backtest(market, market.windows["validation"], [EqualWeight()], config.environment)
    return result.returns


def validation_scalars(result: BacktestResult, market: MarketData, equal_weight: FloatArray) -> dict[str, float]:
    """Return the metrics of a walk that TensorBoard shows, and that policies are selected by.

    `equal_weight` holds the daily returns of 1/N on the same days.
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
    """Keep the daily returns of a walk over the validation window in a checkpoint's folder."""
    result.to_frame()[["return"]].to_parquet(checkpoint / VALIDATION_RETURNS)


def best_validation_returns(run_dir: Path) -> pd.Series | None:
    """Return daily net returns on the validation window, by date, of a run's best policy; None before there is one."""
    best = best_checkpoint(run_dir)
    if best is None or not (path := best / VALIDATION_RETURNS).is_file():
        return None
    return pd.read_parquet(path)["return"]
