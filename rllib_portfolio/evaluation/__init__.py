"""How good a strategy is: back-test, baselines, metrics, verdicts and figures. Knows neither ray nor torch."""

from rllib_portfolio.evaluation.backtest import BacktestResult, backtest
from rllib_portfolio.evaluation.baselines import index_result
from rllib_portfolio.evaluation.lineup import Lineup, all_strategies, reference_strategies, walk_lineup
from rllib_portfolio.evaluation.policy import MarketView, Strategy
from rllib_portfolio.evaluation.report import (
    Report,
    ReportContext,
    TuningRecord,
    generate_performance_report,
    report_of_walks,
)

__all__ = [
    "BacktestResult",
    "Lineup",
    "MarketView",
    "Report",
    "ReportContext",
    "Strategy",
    "TuningRecord",
    "all_strategies",
    "backtest",
    "generate_performance_report",
    "index_result",
    "reference_strategies",
    "report_of_walks",
    "walk_lineup",
]
