"""Strategies that are refitted at regular intervals on the data known at each fit.

A rule is a function from a `History` of trailing days to target weights. `Refitted` calls it at a given frequency and
lets the portfolio drift in between. If a fit fails, there is no trade, and a report lists its date. If the first fit of
a walk fails, 1/N is bought, so that the portfolio is not left in cash.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np
import pandas as pd

from rllib_portfolio.arrays import FloatArray
from rllib_portfolio.backtest.baselines import EqualWeight
from rllib_portfolio.errors import ConfigError
from rllib_portfolio.market import MarketData
from rllib_portfolio.market.frequency import MOST_DAYS
from rllib_portfolio.policies.strategy import MarketView, Strategy

logger = logging.getLogger(__name__)

MONTH_DAYS = 21
YEAR_DAYS = 252


def month_days(periods_per_year: int) -> int:
    """Return the number of rows of a month, at least 1: 21 if a year has 252, 4 if it has 52 (weeks)."""
    return max(1, round(periods_per_year / 12))


@dataclass(frozen=True, slots=True)
class RefitSchedule:
    """The times at which a rule is fitted, and the number of days that each fit uses.

    Days are rows of the market, so they are weeks in a market with weekly rows.

    Attributes:
        refit_days: Smallest number of days between two fits, at least 1. A fit takes place at the first decision after
            this number of days.
        window_days: Number of trailing days that a fit uses, or all days if the market's history is shorter.
        min_days: Smallest number of days of a fit, at most `window_days`; with fewer days the fit fails. Sample moments
            need 2 days, a fixed mix none.
    """

    refit_days: int = MONTH_DAYS
    window_days: int = 3 * YEAR_DAYS
    min_days: int = YEAR_DAYS // 2

    @classmethod
    def of_calendar(cls, periods_per_year: int) -> Self:
        """Return the default schedule, every month on three years, for a market with this number of rows a year.

        A fit needs half a year, or in rows of hours as many of them as half a year has days.
        """
        return cls(month_days(periods_per_year), 3 * periods_per_year, max(2, min(periods_per_year, MOST_DAYS) // 2))

    def __post_init__(self) -> None:
        if self.refit_days < 1:
            raise ConfigError(f"refit_days must be at least 1, got {self.refit_days} (refit schedule). Raise it.")
        if not 0 <= self.min_days <= self.window_days:
            raise ConfigError(
                f"min_days must lie between 0 and window_days {self.window_days}, got {self.min_days} (refit "
                "schedule). Lower it or lengthen the window."
            )


@dataclass(frozen=True, slots=True, eq=False)
class History:
    """The D trailing days that a rule is fitted on, the newest last.

    Attributes:
        returns: Simple returns of the risky assets, [D, N].
        cash_returns: Simple returns of cash, [D].
    """

    returns: FloatArray
    cash_returns: FloatArray

    @property
    def num_assets(self) -> int:
        """Number of risky assets, N."""
        return int(self.returns.shape[1])

    @property
    def mean_excess(self) -> FloatArray:
        """Sample mean of the daily returns in excess of cash, [N]."""
        return np.asarray((self.returns - self.cash_returns[:, None]).mean(0))

    @property
    def covariance(self) -> FloatArray:
        """Sample covariance of the daily returns, ddof 1, [N, N]."""
        return np.asarray(np.cov(self.returns, rowvar=False, ddof=1)).reshape(self.num_assets, self.num_assets)


Rule = Callable[[History], FloatArray]
"""Returns target weights [N+1] on the simplex, cash last, for a history; raises ConfigError if there are none."""


@dataclass(frozen=True, slots=True)
class FailedFit:
    """A failed fit at a decision row, and its reason."""

    row: int
    reason: str


@dataclass(eq=False)
class Refitted:
    """A strategy that trades to the weights of a rule at each fit and lets them drift until the next fit.

    Attributes:
        name: Row label.
        rule: The rule that gives the weights.
        schedule: The times of the fits, and the number of days that each fit uses.
        num_fits: Number of fits in the latest walk, including failed ones.
        failures: Failed fits of the latest walk, in order of time.
    """

    name: str
    rule: Rule
    schedule: RefitSchedule = RefitSchedule()
    num_fits: int = field(default=0, init=False)
    failures: list[FailedFit] = field(default_factory=list, init=False)
    _due_row: int = field(default=0, init=False, repr=False)

    def decide(self, view: MarketView) -> FloatArray | None:
        """Return the rule's weights if a fit is due and succeeds, 1/N if the first fit fails, and else None (hold)."""
        if view.is_first:
            self.num_fits, self.failures, self._due_row = 0, [], view.row
        if view.row < self._due_row:
            return None
        self._due_row = view.row + self.schedule.refit_days
        self.num_fits += 1
        try:
            return self._fitted(view)
        except ConfigError as error:
            self.failures.append(FailedFit(view.row, str(error)))
            logger.debug("%s, row %d: %s", self.name, view.row, error)
            return EqualWeight().decide(view) if view.is_first else None

    @property
    def row_name(self) -> str:
        """Name of the row of the latest walk, with the number of failed fits if any."""
        if not self.failures:
            return self.name
        return f"{self.name} ({len(self.failures)} of {self.num_fits} fits failed)"

    def _fitted(self, view: MarketView) -> FloatArray:
        """Return the rule's weights, [N+1], for the assets whose history spans the whole window, 0 for the others."""
        history = self._history(view)
        kept = view.has_history(len(history.returns))
        if kept.all():
            return self.rule(history)
        if not kept.any():
            raise ConfigError(
                f"history must be known for at least one tradable asset, got none with {len(history.returns)} days "
                f"({self.name}). Start later or shorten the window."
            )
        weights = np.zeros(len(view.weights))
        weights[np.append(kept, True)] = self.rule(replace(history, returns=history.returns[:, kept]))
        return weights

    def _history(self, view: MarketView) -> History:
        known, schedule = len(view.past_returns), self.schedule
        if known < schedule.min_days:
            raise ConfigError(
                f"history must hold at least {schedule.min_days} days, got {known} ({self.name}). Start later or lower "
                "min_days."
            )
        trailing = slice(max(0, known - schedule.window_days), known)
        return History(view.past_returns[trailing], view.past_cash_returns[trailing])


def failed_fits(strategies: Sequence[Strategy], market: MarketData) -> pd.DataFrame:
    """Return one row per failed fit of the latest walk: strategy, date (of the decision), reason.

    Args:
        strategies: Strategies; those that are not `Refitted` have no rows.
        market: The market of the walk, which dates the decisions.
    """
    rows = [
        (strategy.name, market.dates[failure.row], failure.reason)
        for strategy in strategies
        if isinstance(strategy, Refitted)
        for failure in strategy.failures
    ]
    frame = pd.DataFrame(rows, columns=["strategy", "date", "reason"])
    return frame.astype({"date": "datetime64[s]"})
