"""What a reader must know before believing a table: the sentences that every report repeats."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from rllib_portfolio.backtest.refitting import RefitSchedule
from rllib_portfolio.config import ExecutionConfig
from rllib_portfolio.market import MarketData

ONE_WINDOW = (
    "One window is one draw of history: the standard error of an annual Sharpe ratio over T years is about 1 / sqrt(T)."
)


def report_notes(market: MarketData, execution: ExecutionConfig) -> tuple[str, ...]:
    """What the market says of itself (survivorship, price-only index, filled cells), then how all rows were traded."""
    return (*market.notes, execution_note(execution), ONE_WINDOW)


def execution_note(execution: ExecutionConfig) -> str:
    """Costs, lag and limits that all rows of a table share, as one sentence."""
    cheapest, dearest = np.min(execution.cost_bps), np.max(execution.cost_bps)
    cost = f"{cheapest:g} bp" if cheapest == dearest else f"{cheapest:g} to {dearest:g} bp"
    impact = f", impact coefficient {execution.impact:g}" if execution.impact > 0.0 else ""
    days = "every day" if execution.rebalance_days == 1 else f"every {execution.rebalance_days} days"
    fill = "at the close that it saw" if execution.execution_lag == 0 else "one close after the one that it saw"
    limits = [
        f"{label} {value:g}"
        for label, value, is_set in (
            ("maximum weight", execution.max_weight, execution.max_weight < 1.0),
            ("maximum turnover", execution.max_turnover, execution.max_turnover < 1.0),
            ("minimum cash", execution.min_cash, execution.min_cash > 0.0),
        )
        if is_set
    ]
    return (
        f"Every row covers the same days and pays {cost} of what it trades{impact}; each may trade {days}, {fill}"
        + (f", within {', '.join(limits)} (the index row, one fund, apart)" if limits else "")
        + "."
    )


def refit_notes(schedules: Mapping[str, RefitSchedule], rebalance_days: int) -> tuple[str, ...]:
    """Return how often, and on what, baselines are fitted again, as one sentence; empty where no row is.

    Args:
        schedules: Name of a row to its schedule.
        rebalance_days: Days between decisions, at which alone a row can be fitted.
    """
    names: dict[RefitSchedule, list[str]] = {}
    for name, schedule in schedules.items():
        names.setdefault(schedule, []).append(name)
    parts = [f"{', '.join(alike)}: {_schedule_text(schedule, rebalance_days)}" for schedule, alike in names.items()]
    return (f"When rows are fitted again, and drift in between: {'; '.join(parts)}.",) if parts else ()


def _schedule_text(schedule: RefitSchedule, rebalance_days: int) -> str:
    interval = math.ceil(schedule.refit_days / rebalance_days) * rebalance_days
    days = "every day" if interval == 1 else f"every {interval} days"
    if not schedule.window_days:
        return f"{days}, to the same weights"
    fewest = f" (at least {schedule.min_days})" if schedule.min_days < schedule.window_days else ""
    return f"{days}, on the last {schedule.window_days} days{fewest}"
