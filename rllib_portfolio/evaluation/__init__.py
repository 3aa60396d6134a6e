"""How good a strategy is: back-test, baselines, metrics, verdicts and figures. Knows neither ray nor torch."""

from rllib_portfolio.evaluation.backtest import BacktestResult, backtest
from rllib_portfolio.evaluation.baselines import index_result, reference_strategies
from rllib_portfolio.evaluation.policy import MarketView, Strategy

__all__ = ["BacktestResult", "MarketView", "Strategy", "backtest", "index_result", "reference_strategies"]
