"""Performance of strategies in the market crises since 2000.

A crisis that a strategy was trained or selected on proves little and is marked as in-sample. A crisis without data
stays in the table, marked as having none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd

from rllib_portfolio.arrays import FloatArray
from rllib_portfolio.dates import Dates, dates_of, rows_between
from rllib_portfolio.errors import ConfigError
from rllib_portfolio.statistics import metrics
from rllib_portfolio.statistics.drawdowns import worst_drawdown

Sample = Literal["in-sample", "out of sample", "unknown", "no data"]

FREE_DAYS = 5
"""Calendar days (weekends, holidays) that may lack data at either end of a window without a note."""


class Crisis(NamedTuple):
    """A window of calendar days, both ends included."""

    name: str
    first_day: np.datetime64
    last_day: np.datetime64


CRISES = tuple(
    Crisis(name, np.datetime64(first_day), np.datetime64(last_day))
    for name, first_day, last_day in (
        ("dot-com", "2000-03-01", "2002-10-31"),
        ("financial crisis", "2008-01-01", "2009-03-31"),
        ("European debt", "2011-08-01", "2012-06-30"),
        ("COVID", "2020-02-01", "2020-04-30"),
        ("rate hikes", "2022-01-01", "2022-10-31"),
    )
)


def crisis_table(
    returns: FloatArray,
    dates: Dates,
    names: Sequence[str],
    cash_returns: FloatArray | float = 0.0,
    trained_until: np.datetime64 | None = None,
    periods_per_year: float = metrics.PERIODS_PER_YEAR,
) -> pd.DataFrame:
    """Return one row per crisis and strategy, indexed by both names.

    Columns: total_return, max_drawdown (from the close before the window), sharpe_ratio, recovery_days, num_days,
    sample ("in-sample", "out of sample", "unknown" or "no data") and note. `recovery_days` counts the trading days from
    the trough inside the window until wealth is back at its peak since the close before the window, even if that is
    after the window's end. It is NaN if wealth does not recover within the data or never fell.

    Args:
        returns: Daily simple returns, [T, K].
        dates: Days or moments of the returns, datetime64 [T], increasing.
        names: Names of the K strategies.
        cash_returns: Cash return per day, a number or [T].
        trained_until: Last day that anything was fitted, tuned or selected on; a window that begins on or before it is
            in-sample. None if it is not known.
        periods_per_year: Days per year.

    Raises:
        ConfigError: If the shapes of names, dates and returns do not match, or the dates do not increase.
    """
    returns, dates = np.asarray(returns, dtype=np.float64), dates_of(dates)
    _require_table(returns, dates, names)
    cash = np.broadcast_to(np.asarray(cash_returns, dtype=np.float64), len(dates))
    rows = []
    for crisis in CRISES:
        start, stop = rows_between(dates, crisis.first_day, crisis.last_day)
        shared: dict[str, float | str] = {
            "num_days": stop - start,
            "sample": _sample(crisis, stop > start, trained_until),
            "note": _note(crisis, dates[start:stop]),
        }
        measures = (
            _measures(returns[start:, k], dates[start:], cash[start:], stop - start, periods_per_year)
            for k in range(len(names))
        )
        rows += [
            {"crisis": crisis.name, "strategy": name} | each | shared
            for name, each in zip(names, measures, strict=True)
        ]
    return pd.DataFrame(rows).set_index(["crisis", "strategy"])


def _measures(
    returns: FloatArray, dates: Dates, cash: FloatArray, num_days: int, periods_per_year: float
) -> dict[str, float | str]:
    """Return the measures of one strategy from its data since a window's first day, `num_days` of them inside it."""
    inside = returns[:num_days]
    fall = worst_drawdown(returns, dates, num_days) if num_days else None
    return {
        "total_return": float(metrics.total_return(inside)),
        "max_drawdown": float(metrics.max_drawdown(inside)),
        "sharpe_ratio": float(metrics.sharpe_ratio(inside, cash[:num_days], periods_per_year)),
        "recovery_days": float("nan") if fall is None or fall.recovery_days is None else float(fall.recovery_days),
    }


def _sample(crisis: Crisis, has_data: bool, trained_until: np.datetime64 | None) -> Sample:
    if not has_data:
        return "no data"
    if trained_until is None:
        return "unknown"
    return "in-sample" if crisis.first_day <= trained_until else "out of sample"


def _note(crisis: Crisis, days: Dates) -> str:
    """Return a sentence on missing days of the window; empty if the data cover it."""
    if not len(days):
        return f"No data from {crisis.first_day} to {crisis.last_day}."
    free = np.timedelta64(FREE_DAYS, "D")
    if days[0] - crisis.first_day > free or crisis.last_day - days[-1] > free:
        return f"Data from {days[0]} to {days[-1]} only."
    return ""


def _require_table(returns: FloatArray, dates: Dates, names: Sequence[str]) -> None:
    if returns.shape != (len(dates), len(names)):
        raise ConfigError(
            f"returns must have one row per day and one column per name, got shape {returns.shape} for {len(dates)} "
            f"days and {len(names)} names (crises). Align them first."
        )
    if len(dates) > 1 and not (dates[1:] > dates[:-1]).all():
        repeated = dates[1:][dates[1:] <= dates[:-1]][0]
        raise ConfigError(f"dates must increase, got {repeated} out of order (crises). Sort them and drop duplicates.")
