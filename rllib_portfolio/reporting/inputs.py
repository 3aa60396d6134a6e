"""Inputs of a report: K strategies on the same T days, from walks (back-tests) or from value series."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from rllib_portfolio.arrays import FloatArray
from rllib_portfolio.backtest.baselines import EqualWeight
from rllib_portfolio.backtest.engine import BacktestResult, Role
from rllib_portfolio.backtest.lineup import MIX_OF, Lineup
from rllib_portfolio.config import ExecutionConfig
from rllib_portfolio.dates import Dates, are_intraday
from rllib_portfolio.errors import ConfigError
from rllib_portfolio.market import MarketData, Window
from rllib_portfolio.reporting.notes import refit_notes, report_notes
from rllib_portfolio.reporting.search_trials import TuningRecord
from rllib_portfolio.statistics.seeds import SeedSummary

FIRST_DAY = np.datetime64("1970-01-01")
"""Date that stands for day 0 of series without dates."""

SHOWN_NAMES = 20
"""Largest number of assets or series that the header names."""


HINDSIGHT = (
    f'"{MIX_OF} X" holds the average weights of X throughout. The difference from X shows what X gains by timing. '
    "It could not have been held, since the average is known only at the end."
)


@dataclass(frozen=True, slots=True, eq=False)
class ReportContext:
    """Information for a report that the walks do not contain.

    Attributes:
        title: Heading of the report.
        market: The market of the walks.
        window: Half-open range of rows whose returns were earned.
        execution: Costs, limits and lag that all rows share.
        subjects: Names of the rows that are judged; the first is the headline.
        trained_until: Last day that anything was fitted, tuned or selected on; a crisis that begins on or before it is
            in-sample. None if it is not known.
        command: Command that regenerates the report.
        cost_curve: Table of `sensitivity.cost_sensitivity`.
        sensitivities: Maps titles to other tables of `sensitivity` (universes, first days).
        seed_walks: Maps subjects to one walk per seed.
        seed_summaries: Maps subjects to the interquartile mean over seeds and folds, which replaces the one over the
            seed walks.
        tuning: Record of the trials that the policy was selected from.
        validation: Walk on the days that the policy was selected on, for the deflated Sharpe ratio. If None, the ratio
            is that of the best trial in `tuning`.
        notes: Additional sentences for the reader.
    """

    title: str
    market: MarketData
    window: Window
    execution: ExecutionConfig
    subjects: tuple[str, ...]
    trained_until: np.datetime64 | None = None
    command: str = ""
    cost_curve: pd.DataFrame | None = None
    sensitivities: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    seed_walks: Mapping[str, tuple[BacktestResult, ...]] = field(default_factory=dict)
    seed_summaries: Mapping[str, SeedSummary] = field(default_factory=dict)
    tuning: TuningRecord | None = None
    validation: BacktestResult | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class ReportInputs:
    """Returns of K strategies on the same T days, and further information on them.

    Attributes:
        title: Heading of the report.
        names: K distinct names.
        roles: Roles of the strategies, in the order of `names`.
        dates: Days or moments whose returns were earned, datetime64 [T]; days from `FIRST_DAY` on for series without
            dates.
        returns: Daily simple returns, [T, K].
        cash_returns: Cash return per day, [T].
        periods_per_year: Days per year.
        subjects: Names of the judged strategies, the headline first.
        benchmark: Name of the benchmark; None without a benchmark.
        walks: Walks of the strategies, in the order of `names`; empty for value series.
        has_dates: Whether `dates` are calendar days.
        statements: Sentences that the reader must know, including those on omissions.
        context: Context of the walks; None for value series.
        failures: One row per failed fit: strategy, date, reason; None for value series.
    """

    title: str
    names: tuple[str, ...]
    roles: tuple[Role, ...]
    dates: Dates
    returns: FloatArray
    cash_returns: FloatArray
    periods_per_year: float
    subjects: tuple[str, ...]
    benchmark: str | None
    walks: tuple[BacktestResult, ...] = ()
    has_dates: bool = True
    statements: tuple[str, ...] = ()
    context: ReportContext | None = None
    failures: pd.DataFrame | None = None

    @property
    def num_days(self) -> int:
        """Number of days, T."""
        return len(self.dates)

    @property
    def headline(self) -> str:
        """Name of the first judged strategy, which the report is about."""
        return self.subjects[0]

    @property
    def benchmark_returns(self) -> FloatArray | None:
        """Returns of the benchmark, [T]; None without a benchmark."""
        return None if self.benchmark is None else self.of(self.benchmark)

    @property
    def days(self) -> str:
        """Number and range of the days, in words."""
        if not self.has_dates:
            return f"{self.num_days} days without dates"
        unit = "rows" if are_intraday(self.dates) else "days"
        return f"the {self.num_days} {unit} from {self.dates[0]} to {self.dates[-1]}"

    @property
    def contenders(self) -> tuple[str, ...]:
        """Names of the strategies that could have been held: all but the constant mixes of average weights."""
        return tuple(name for name in self.names if self.role_of(name) is not Role.CONSTANT_MIX)

    @property
    def data_hash(self) -> str:
        """SHA-256 of the market's numbers, or of the names, days and returns of value series."""
        if self.context is not None:
            return self.context.market.data_hash
        digest = hashlib.sha256("\n".join(self.names).encode())
        digest.update(self.dates.tobytes() + np.ascontiguousarray(self.returns).tobytes())
        return digest.hexdigest()

    @property
    def universe(self) -> str:
        """The traded assets, or the value series, in words."""
        if self.context is None:
            return f"{len(self.names)} value series: {_listed(self.names)}"
        assets = self.context.market.assets
        return f"{len(assets)} assets and cash: {_listed(assets)}"

    def of(self, name: str) -> FloatArray:
        """Return the daily returns of one strategy, [T]."""
        return self.returns[:, self.names.index(name)]

    def role_of(self, name: str) -> Role:
        """Return the role of a strategy."""
        return self.roles[self.names.index(name)]

    def walk_of(self, name: str) -> BacktestResult | None:
        """Return the walk of one strategy; None for value series."""
        return self.walks[self.names.index(name)] if self.walks else None

    def day(self, date: np.datetime64) -> str:
        """Return a day as text: 2020-03-23, or "day 17" for series without dates."""
        return str(date) if self.has_dates else f"day {int((date - FIRST_DAY).astype(int))}"


def inputs_of_walks(lineup: Lineup, context: ReportContext) -> ReportInputs:
    """Return the inputs of a report on a line-up, whose subjects are judged against its 1/N.

    Args:
        lineup: Results over the same days, including 1/N.
        context: Information that the results do not contain, with the names of the subjects.

    Raises:
        ConfigError: If the line-up has no 1/N or lacks a subject, a name repeats, walks are over different days, or the
            market does not have these days.
    """
    names, roles = tuple(walk.name for walk in lineup.results), tuple(walk.role for walk in lineup.results)
    benchmark = _require_names(names, roles, context.subjects)
    dates = lineup.results[0].dates
    cash_returns = _cash_returns(lineup, context.market, dates)
    return ReportInputs(
        title=context.title,
        names=names,
        roles=tuple(Role.SUBJECT if n in context.subjects else role for n, role in zip(names, roles, strict=True)),
        dates=dates,
        returns=np.stack([walk.returns for walk in lineup.results], axis=1),
        cash_returns=cash_returns,
        periods_per_year=context.market.periods_per_year,
        subjects=context.subjects,
        benchmark=benchmark,
        walks=lineup.results,
        statements=(
            *report_notes(context.market, context.execution),
            *refit_notes(lineup.schedules, context.execution.rebalance_days),
            *_missing_days(context, dates),
            *([HINDSIGHT] if Role.CONSTANT_MIX in roles else []),
            *_failure_statements(lineup.failures),
            *context.notes,
        ),
        context=context,
        failures=lineup.failures,
    )


def _listed(names: Sequence[str]) -> str:
    more = len(names) - SHOWN_NAMES
    return ", ".join(names[:SHOWN_NAMES]) + (f" and {more} more" if more > 0 else "")


def cash_returns_on(market: MarketData, dates: Dates) -> FloatArray | None:
    """Return the cash returns of some days, [T]; None if the market does not have all of them.

    Args:
        market: The market.
        dates: The days or moments, datetime64 [T].
    """
    rows = np.searchsorted(market.dates, dates)
    if not len(rows) or rows.max() >= market.num_days or not np.array_equal(market.dates[rows], dates):
        return None
    return np.asarray(market.cash_returns[rows])


def _cash_returns(lineup: Lineup, market: MarketData, dates: Dates) -> FloatArray:
    """Check that all walks of a line-up are over the same days, and return the cash returns of these days, [T]."""
    for walk in lineup.results:
        if not np.array_equal(walk.dates, dates):
            raise ConfigError(
                f"lineup must be over the same days, got {walk.dates[0]} to {walk.dates[-1]} beside {dates[0]} to "
                f"{dates[-1]} (strategies {walk.name} and {lineup.results[0].name}). Back-test them together."
            )
    cash_returns = cash_returns_on(market, dates)
    if cash_returns is None:
        raise ConfigError(
            f"market must have the days of the back-test, got none for some of {dates[0]} to {dates[-1]} (report). "
            "Give the market of the back-test."
        )
    return cash_returns


def _require_names(names: tuple[str, ...], roles: tuple[Role, ...], subjects: tuple[str, ...]) -> str:
    """Check the names of a line-up and return the name of its benchmark."""
    if Role.BENCHMARK not in roles:
        one_nth = EqualWeight().name
        raise ConfigError(f"lineup must hold {one_nth}, got {', '.join(names) or 'none'} (report). Back-test it, too.")
    benchmark = names[roles.index(Role.BENCHMARK)]
    if len(set(names)) < len(names):
        raise ConfigError(f"lineup must have distinct names, got {', '.join(names)} (report). Rename one of them.")
    unknown = [name for name in subjects if name not in names or name == benchmark]
    if unknown or not subjects:
        raise ConfigError(
            f"subjects must be rows of the line-up other than {benchmark}, got {', '.join(unknown) or 'none'} "
            f"(report). Choose from {', '.join(names)}."
        )
    return benchmark


def _missing_days(context: ReportContext, dates: Dates) -> tuple[str, ...]:
    """Return a sentence on days of the window that no walk covers, such as those of a failed fold."""
    start, stop = context.window
    num_missing = int((~np.isin(context.market.dates[start:stop], dates)).sum())
    if not num_missing:
        return ()
    return (
        f"{num_missing} of the {stop - start} days of the window are missing from the back-test and from all figures.",
    )


def _failure_statements(failures: pd.DataFrame) -> tuple[str, ...]:
    """Return a sentence on the number of failed fits of each strategy."""
    if not len(failures):
        return ()
    counts = failures.groupby("strategy", sort=False).size()
    listed = ", ".join(f"{name} {count} times" for name, count in counts.items())
    return (
        f"Some fits failed; the previous holdings (1/N after a failed first fit) were kept: {listed}. A report "
        "that is written as a folder has their dates in failed_fits.csv.",
    )
