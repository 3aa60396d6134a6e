"""Strategies that are fitted again and again, each time on what was known by then.

A rule is a function of the trailing days alone, from a `History` to target weights. `Refitted` asks it at a stated
frequency and lets the portfolio drift in between. A fit that fails trades nothing and is reported by its date. If
the first fit of a walk fails, 1/N is bought, so that the portfolio is not left in cash.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np
import pandas as pd

from rllib_portfolio.arrays import FloatArray
from rllib_portfolio.backtest.baselines import EqualWeight
from rllib_portfolio.errors import ConfigError
from rllib_portfolio.market import MarketData
from rllib_portfolio.policies.strategy import MarketView, Strategy

logger = logging.getLogger(__name__)

MONTH_DAYS = 21
YEAR_DAYS = 252


def month_days(periods_per_year: int) -> int:
    """Rows of a month in a market with so many a year: 21 of 252, 4 of 52 weeks; at least one."""
    return max(1, round(periods_per_year / 12))


@dataclass(frozen=True, slots=True)
class RefitSchedule:
    """When a rule is fitted, and on what.

    Days are rows of the market: weeks where it has 52 of them a year.

    Attributes:
        refit_days: Trading days from one fit to the next, at least 1. A fit happens at a decision: the first one so
            many days after the fit before.
        window_days: Trailing days that a fit is made on; early in a market's history, all that there are.
        min_days: Fewest days that a fit is made on, at most `window_days`; with fewer it fails. Moments need 2, a fixed
            mix none.
    """

    refit_days: int = MONTH_DAYS
    window_days: int = 3 * YEAR_DAYS
    min_days: int = YEAR_DAYS // 2

    @classmethod
    def of_calendar(cls, periods_per_year: int) -> Self:
        """The default, every month on three years, in a market with so many rows a year."""
        return cls(month_days(periods_per_year), 3 * periods_per_year, max(2, periods_per_year // 2))

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
    """What a rule is fitted on: D trailing days, the newest last.

    Attributes:
        returns: Simple returns of the risky assets, [D, N].
        cash_returns: Simple returns of cash, [D].
    """

    returns: FloatArray
    cash_returns: FloatArray

    @property
    def num_assets(self) -> int:
        """N, cash not counted."""
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
"""Target weights [N+1] on the simplex, cash last, of the days in a history; a ConfigError where there are none."""


@dataclass(frozen=True, slots=True)
class FailedFit:
    """A failed fit and its reason. The holdings, or 1/N after a failed first fit, are kept until the next fit."""

    row: int
    reason: str


@dataclass(eq=False)
class Refitted:
    """Trades to the weights of a rule at each fit and lets them drift until the next.

    Attributes:
        name: Row label.
        rule: What is fitted.
        schedule: When, and on how many days.
        num_fits: Fits of the latest walk, failed ones included.
        failures: The failed fits of the latest walk, in order of time.
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
            return self.rule(self._history(view))
        except ConfigError as error:
            self.failures.append(FailedFit(view.row, str(error)))
            logger.debug("%s, row %d: %s", self.name, view.row, error)
            return EqualWeight().decide(view) if view.is_first else None

    @property
    def row_name(self) -> str:
        """The name of the latest walk's row, which says how many of its fits failed."""
        if not self.failures:
            return self.name
        return f"{self.name} ({len(self.failures)} of {self.num_fits} fits failed)"

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
    """One row per failed fit of the latest walk: strategy, date (of the decision), reason.

    Strategies that are not refitted have none.
    """
    rows = [
        (strategy.name, market.dates[failure.row], failure.reason)
        for strategy in strategies
        if isinstance(strategy, Refitted)
        for failure in strategy.failures
    ]
    frame = pd.DataFrame(rows, columns=["strategy", "date", "reason"])
    return frame.astype({"date": "datetime64[s]"})
