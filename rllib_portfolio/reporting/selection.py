"""Correction of the headline's Sharpe ratio for the number of trials that it was selected from."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from rllib_portfolio.arrays import FloatArray
from rllib_portfolio.dates import date_text, dates_of
from rllib_portfolio.reporting.inputs import ReportContext, cash_returns_on
from rllib_portfolio.reporting.search_trials import TRIAL_RETURNS
from rllib_portfolio.statistics.metrics import sharpe_ratio
from rllib_portfolio.statistics.overfitting import BacktestOverfitting, expected_best_sharpe_ratio

LEFT_OUT = "The deflated Sharpe ratio is left out: "
NO_CASH = (
    f"{TRIAL_RETURNS} has no dates, or has days that are missing in this report's market data, so the cash return is "
    "not known."
)
CASH = "in excess of cash (rate of this report's market data)"


@dataclass(frozen=True, slots=True, eq=False)
class Selection:
    """Selection of the headline from the trials of a search.

    Attributes:
        num_trials: Number of all trials, including pruned and failed ones.
        hurdle: Annualised Sharpe ratio that the best of `num_trials` trials without skill is expected to show.
        validation_sharpe: Annualised Sharpe ratio on the days that were selected on; NaN if it is left out.
        deflated: Deflated Sharpe ratio on these days; NaN if it is left out.
        series: Sentence on the returns and the cash behind both ratios, or on why they are left out.
        overfitting: PBO; None if it is left out.
        note: Sentence on the trials behind the PBO, or on why it is left out.
    """

    num_trials: int
    hurdle: float
    validation_sharpe: float
    deflated: float
    series: str
    overfitting: BacktestOverfitting | None
    note: str


class _Selected(NamedTuple):
    """Daily returns that the selection was based on; if they are empty, `series` gives the reason."""

    series: str
    returns: FloatArray = np.empty(0)
    cash_returns: FloatArray = np.empty(0)


def find_selection(context: ReportContext) -> Selection | None:
    """Return the selection of the headline; None without a tuning record."""
    tuning = context.tuning
    if tuning is None:
        return None
    hurdle = expected_best_sharpe_ratio(tuning.num_trials, tuning.sharpe_variance)
    overfitting, note = _overfitting(context)
    selected = _selected_trial(context) if context.validation is None else _validation_walk(context)
    series, sharpe, deflated = selected.series, float("nan"), float("nan")
    if len(selected.returns):
        sharpe = float(sharpe_ratio(selected.returns, selected.cash_returns, tuning.periods_per_year))
        deflated = tuning.deflated_sharpe_ratio(selected.returns, selected.cash_returns)
        if math.isnan(deflated):
            series = f"{LEFT_OUT}it is undefined. {series}"
    return Selection(tuning.num_trials, hurdle, sharpe, deflated, series, overfitting, note)


def _overfitting(context: ReportContext) -> tuple[BacktestOverfitting | None, str]:
    """Return the PBO over the trials, or None and the reason why it is left out."""
    tuning = context.tuning
    assert tuning is not None
    if tuning.trial_returns is None:
        return tuning.overfitting()
    cash = _cash_of_the_trials(context, tuning.trial_returns)
    if cash is None:
        return None, f"The probability of backtest overfitting is left out: {NO_CASH}"
    return tuning.overfitting(cash)


def _cash_of_the_trials(context: ReportContext, trial_returns: pd.DataFrame) -> FloatArray | None:
    """Return the cash returns on the days of the trials' returns; None if they are not known."""
    days = trial_returns.index
    if not isinstance(days, pd.DatetimeIndex):
        return None
    return cash_returns_on(context.market, dates_of(days))


def _validation_walk(context: ReportContext) -> _Selected:
    """Return the returns of the walk on the selection days that the context gives."""
    walk = context.validation
    assert walk is not None
    cash = cash_returns_on(context.market, walk.dates)
    if cash is None:
        return _Selected(
            f"{LEFT_OUT}this report's market data lacks some of the selection days, so the cash return is not known."
        )
    return _Selected(
        f"Based on the returns of {walk.name} from {walk.dates[0]} to {walk.dates[-1]}, {CASH}.", walk.returns, cash
    )


def _selected_trial(context: ReportContext) -> _Selected:
    """Return the returns of the best trial, from those that the search kept."""
    tuning = context.tuning
    assert tuning is not None
    if tuning.trial_returns is None:
        return _Selected(f"{LEFT_OUT}neither a back-test on the selection days nor {TRIAL_RETURNS} was given.")
    cash = _cash_of_the_trials(context, tuning.trial_returns)
    if cash is None:
        return _Selected(f"{LEFT_OUT}{NO_CASH}")
    best = tuning.selected_trial(cash)
    if best is None:
        return _Selected(f"{LEFT_OUT}no trial in {TRIAL_RETURNS} has all days and a defined Sharpe ratio.")
    name, returns = best
    days = tuning.trial_returns.index
    return _Selected(
        f"Based on the returns of {name} from {date_text(days.min())} to {date_text(days.max())}, {CASH}. {name} is "
        "the trial with the highest Sharpe ratio, which is assumed to be the selected one.",
        returns,
        cash,
    )
