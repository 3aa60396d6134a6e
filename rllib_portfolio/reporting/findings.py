"""What is found over all strategies, all trials and all seeds; a sentence for each finding that cannot be had."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rllib_portfolio.reporting.inputs import ReportInputs
from rllib_portfolio.reporting.seed_spread import COLUMNS, SeedSpread, find_seed_spread
from rllib_portfolio.reporting.selection import Selection, find_selection
from rllib_portfolio.statistics.crises import crisis_table
from rllib_portfolio.statistics.multiple_comparison import (
    ConfidenceSet,
    SuperiorAbilityTest,
    model_confidence_set,
    superior_ability_test,
)

FloatArray = NDArray[np.floating[Any]]

FEWEST_ROWS = 3
TOO_FEW = (
    "With fewer than three rows there is no best of many: the superior ability test and the model confidence set are "
    "left out."
)


@dataclass(frozen=True, slots=True, eq=False)
class Findings:
    """Everything beyond the table.

    Attributes:
        superior: Hansen's test over the contenders against the benchmark; None without one, and
            for fewer than three rows.
        confidence_set: Over the contenders; None for fewer than three.
        selection: None without a tuning record.
        seed_scores: One row per subject and seed: its figures; empty without walks of seeds.
        seeds: One row per subject: interquartile mean of the seeds' Sharpe ratios with its interval, and the basis.
        crises: As `crises.crisis_table`; None for series without dates.
        statements: Sentences on what is left out here, and why.
    """

    superior: SuperiorAbilityTest | None
    confidence_set: ConfidenceSet | None
    selection: Selection | None
    seed_scores: pd.DataFrame
    seeds: pd.DataFrame
    crises: pd.DataFrame | None
    statements: tuple[str, ...]


def find(inputs: ReportInputs, seed: int = 0) -> Findings:
    """Work out the findings; `seed` is that of the bootstraps."""
    statements = []
    superior = confidence_set = None
    if len(inputs.contenders) >= FEWEST_ROWS:
        superior = _superior(inputs, seed)
        rows = [inputs.names.index(name) for name in inputs.contenders]
        confidence_set = model_confidence_set(_excess(inputs)[:, rows], seed=seed)
    else:
        statements.append(TOO_FEW)
    selection = None if inputs.context is None else find_selection(inputs.context)
    if selection is None:
        statements.append(
            "No tuning record was given: how many trials were run before is not known, so the deflated Sharpe ratio "
            "and the probability of backtest overfitting are left out."
        )
    elif math.isnan(selection.deflated):
        statements.append(selection.series)
    seeds = _seeds(inputs)
    return Findings(
        superior,
        confidence_set,
        selection,
        seeds.scores,
        seeds.summaries,
        _crises(inputs),
        (*statements, *seeds.statements),
    )


def _excess(inputs: ReportInputs) -> FloatArray:
    return np.asarray(inputs.returns - inputs.cash_returns[:, None])


def _superior(inputs: ReportInputs, seed: int) -> SuperiorAbilityTest | None:
    """All rows that could have been held against the benchmark."""
    if inputs.benchmark is None:
        return None
    others = [inputs.names.index(name) for name in inputs.contenders if name != inputs.benchmark]
    return superior_ability_test(inputs.returns[:, others], inputs.of(inputs.benchmark), seed=seed)


def _seeds(inputs: ReportInputs) -> SeedSpread:
    if inputs.context is None:
        return SeedSpread(pd.DataFrame(columns=COLUMNS), pd.DataFrame(), ())
    return find_seed_spread(inputs.context, inputs.periods_per_year)


def _crises(inputs: ReportInputs) -> pd.DataFrame | None:
    if not inputs.has_dates:
        return None
    trained_until = None if inputs.context is None else inputs.context.trained_until
    return crisis_table(
        inputs.returns,
        inputs.dates,
        inputs.names,
        inputs.cash_returns,
        trained_until,
        inputs.periods_per_year,
    )
