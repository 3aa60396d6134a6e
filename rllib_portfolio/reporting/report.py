"""The computed report, with all figures that `console`, `files` and `page` show."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from rllib_portfolio.backtest.lineup import Lineup
from rllib_portfolio.reporting.inputs import ReportContext, ReportInputs, inputs_of_walks
from rllib_portfolio.reporting.seed_spread import COLUMNS, SeedSpread, find_seed_spread
from rllib_portfolio.reporting.selection import Selection, find_selection
from rllib_portfolio.reporting.table import StatisticsTable, statistics_table
from rllib_portfolio.statistics.bootstrap import BootstrapPlan
from rllib_portfolio.statistics.crises import crisis_table
from rllib_portfolio.statistics.multiple_comparison import (
    ConfidenceSet,
    SuperiorAbilityTest,
    model_confidence_set,
    superior_ability_test,
)
from rllib_portfolio.statistics.verdicts import Verdict

FEWEST_ROWS = 3
TOO_FEW = "The superior ability test and the model confidence set need at least three strategies and are left out."
NO_TUNING_RECORD = (
    "No tuning record was given, so the number of trials is not known; the deflated Sharpe ratio and the probability "
    "of backtest overfitting are left out."
)


@dataclass(frozen=True, slots=True, eq=False)
class Report:
    """Figures and tests of strategies on the same days.

    Attributes:
        inputs: The strategies and their days.
        statistics: All figures of every strategy.
        superior: Hansen's test of the contenders against the benchmark; None without a benchmark or with fewer than
            three contenders.
        confidence_set: Model confidence set over the contenders; None with fewer than three.
        selection: Trials that the headline was selected from; None without a tuning record.
        seed_scores: Figures of each seed, one row per subject and seed; empty without seed walks.
        seeds: Interquartile mean of the seeds' Sharpe ratios, its interval and its basis, one row per subject.
        crises: One row per crisis and strategy; None for series without dates.
        omissions: Sentences on what is left out, and why.
    """

    inputs: ReportInputs
    statistics: StatisticsTable
    superior: SuperiorAbilityTest | None
    confidence_set: ConfidenceSet | None
    selection: Selection | None
    seed_scores: pd.DataFrame
    seeds: pd.DataFrame
    crises: pd.DataFrame | None
    omissions: tuple[str, ...]

    @property
    def table(self) -> pd.DataFrame:
        """Table with one row per strategy, whose last column gives the reasons for empty cells."""
        return self.statistics.frame

    @property
    def verdicts(self) -> dict[str, Verdict]:
        """Verdicts on the judged strategies, the headline first; empty without a benchmark."""
        found = self.statistics.verdicts
        return {name: found[name] for name in self.inputs.subjects if name in found}

    @property
    def statements(self) -> tuple[str, ...]:
        """Sentences that the reader must know, including those on omissions."""
        return (*self.inputs.statements, *self.omissions)


def report_of_walks(lineup: Lineup, *, context: ReportContext, plan: BootstrapPlan | None = None) -> Report:
    """Return the report on the results of a line-up.

    Args:
        lineup: Results over the same days, including 1/N.
        context: Information that the results do not contain.
        plan: Settings of the bootstrap.

    Raises:
        ConfigError: If the line-up and the context do not match (see `inputs.inputs_of_walks`).
    """
    return report_of(inputs_of_walks(lineup, context), plan)


def report_of(inputs: ReportInputs, plan: BootstrapPlan | None = None) -> Report:
    """Return the report on any inputs.

    Args:
        inputs: The strategies and their days.
        plan: Settings of the bootstrap; its seed is also that of the tests of many strategies. None for the defaults.
    """
    plan, context = plan or BootstrapPlan(), inputs.context
    superior, confidence_set, too_few = _best_of_many(inputs, plan.seed)
    selection = None if context is None else find_selection(context)
    if selection is None:
        untold: tuple[str, ...] = (NO_TUNING_RECORD,)
    else:
        untold = (selection.series,) if math.isnan(selection.deflated) else ()
    seeds = SeedSpread(pd.DataFrame(columns=COLUMNS), pd.DataFrame(), ())
    if context is not None:
        seeds = find_seed_spread(context, inputs.periods_per_year)
    return Report(
        inputs=inputs,
        statistics=statistics_table(inputs, plan, None if confidence_set is None else confidence_set.p_values),
        superior=superior,
        confidence_set=confidence_set,
        selection=selection,
        seed_scores=seeds.scores,
        seeds=seeds.summaries,
        crises=_crises(inputs),
        omissions=(*too_few, *untold, *seeds.statements),
    )


def _best_of_many(
    inputs: ReportInputs, seed: int
) -> tuple[SuperiorAbilityTest | None, ConfidenceSet | None, tuple[str, ...]]:
    """Test all contenders at once; if there are too few of them, return only a sentence that says so."""
    if len(inputs.contenders) < FEWEST_ROWS:
        return None, None, (TOO_FEW,)
    superior = None
    if inputs.benchmark is not None:
        others = [inputs.names.index(name) for name in inputs.contenders if name != inputs.benchmark]
        superior = superior_ability_test(inputs.returns[:, others], inputs.of(inputs.benchmark), seed=seed)
    rows = [inputs.names.index(name) for name in inputs.contenders]
    excess = np.asarray(inputs.returns - inputs.cash_returns[:, None])
    return superior, model_confidence_set(excess[:, rows], seed=seed), ()


def _crises(inputs: ReportInputs) -> pd.DataFrame | None:
    if not inputs.has_dates:
        return None
    trained_until = None if inputs.context is None else inputs.context.trained_until
    cash, periods = inputs.cash_returns, inputs.periods_per_year
    return crisis_table(inputs.returns, inputs.dates, inputs.names, cash, trained_until, periods)
