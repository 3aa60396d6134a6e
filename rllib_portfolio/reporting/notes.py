"""Sentences of every report that a reader must know before believing its table."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from rllib_portfolio.backtest.refitting import RefitSchedule
from rllib_portfolio.config import ExecutionConfig
from rllib_portfolio.market import MarketData

ONE_WINDOW = (
    "One window is a single sample of history: the standard error of an annual Sharpe ratio over T years is about "
    "1 / sqrt(T)."
)


def report_notes(market: MarketData, execution: ExecutionConfig) -> tuple[str, ...]:
    """Return the market's notes (survivorship bias, price-only index, filled cells) and those on how rows trade.

    Args:
        market: Market of the report.
        execution: Costs, limits and lag that all rows share.
    """
    return (*market.notes, execution_note(execution), ONE_WINDOW)


def execution_note(execution: ExecutionConfig) -> str:
    """Return a sentence on the costs, lag and limits that all rows of a table share."""
    cheapest, dearest = np.min(execution.cost_bps), np.max(execution.cost_bps)
    cost = f"{cheapest:g} bp" if cheapest == dearest else f"{cheapest:g} to {dearest:g} bp"
    impact = f", impact coefficient {execution.impact:g}" if execution.impact > 0.0 else ""
    days = "every day" if execution.rebalance_days == 1 else f"every {execution.rebalance_days} days"
    fill = "at the close of the decision" if execution.execution_lag == 0 else "one day after the decision"
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
        f"All strategies cover the same days and pay {cost} of the traded amount{impact}. They may trade {days}, {fill}"
        + (f", within {', '.join(limits)} (except for the index, which is a single fund)" if limits else "")
        + "."
    )


def refit_notes(schedules: Mapping[str, RefitSchedule], rebalance_days: int) -> tuple[str, ...]:
    """Return a sentence on how often baselines are refitted, and on how many days; empty if none is.

    Args:
        schedules: Maps names of rows to their schedules.
        rebalance_days: Days between decisions; a fit takes place only at a decision.
    """
    names: dict[RefitSchedule, list[str]] = {}
    for name, schedule in schedules.items():
        names.setdefault(schedule, []).append(name)
    parts = [f"{', '.join(alike)}: {_schedule_text(schedule, rebalance_days)}" for schedule, alike in names.items()]
    return (f"Baselines are refitted (their weights drift in between): {'; '.join(parts)}.",) if parts else ()


def _schedule_text(schedule: RefitSchedule, rebalance_days: int) -> str:
    interval = math.ceil(schedule.refit_days / rebalance_days) * rebalance_days
    days = "every day" if interval == 1 else f"every {interval} days"
    if not schedule.window_days:
        return f"{days}, rebalanced to fixed weights"
    fewest = f" (at least {schedule.min_days})" if schedule.min_days < schedule.window_days else ""
    return f"{days}, on the last {schedule.window_days} days{fewest}"
