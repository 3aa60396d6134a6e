"""How good a strategy is: back-test, baselines, metrics, verdicts and figures. Knows neither ray nor torch."""

from rllib_portfolio.evaluation.backtest import BacktestResult, backtest
from rllib_portfolio.evaluation.baselines import index_result, reference_strategies
from rllib_portfolio.evaluation.lineup import Lineup, all_strategies, walk_lineup
from rllib_portfolio.evaluation.policy import MarketView, Strategy

__all__ = [
    "BacktestResult",
    "Lineup",
    "MarketView",
    "Strategy",
    "all_strategies",
    "backtest",
    "index_result",
    "reference_strategies",
    "walk_lineup",
]
