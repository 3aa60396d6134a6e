"""What is found over all strategies, all trials and all seeds; a sentence for each finding that cannot be had."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from rllib_portfolio.arrays import FloatArray
from rllib_portfolio.reporting.evidence import Evidence
from rllib_portfolio.reporting.seed_spread import COLUMNS, SeedSpread, find_seed_spread
from rllib_portfolio.reporting.trials import Selection, find_selection
from rllib_portfolio.statistics.crises import crisis_table
from rllib_portfolio.statistics.multiple_comparison import (
    ConfidenceSet,
    SuperiorAbilityTest,
    model_confidence_set,
    superior_ability_test,
)

FEWEST_ROWS = 3
TOO_FEW = (
    "With fewer than three rows there is no best of many: the superior ability test and the model confidence set are "
    "left out."
)


@dataclass(frozen=True, slots=True, eq=False)
class Findings:
    """Everything beyond the table.

    Attributes:
        superior: Hansen's test over the evidence's contenders against the benchmark; None without one, and
            for fewer than three rows.
        confidence_set: Over the evidence's contenders; None for fewer than three.
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


def find(evidence: Evidence, seed: int = 0) -> Findings:
    """Work out the findings; `seed` is that of the bootstraps."""
    statements = []
    superior = confidence_set = None
    if len(evidence.contenders) >= FEWEST_ROWS:
        superior = _superior(evidence, seed)
        rows = [evidence.names.index(name) for name in evidence.contenders]
        confidence_set = model_confidence_set(_excess(evidence)[:, rows], seed=seed)
    else:
        statements.append(TOO_FEW)
    selection = None if evidence.context is None else find_selection(evidence.context)
    if selection is None:
        statements.append(
            "No tuning record was given: how many trials were run before is not known, so the deflated Sharpe ratio "
            "and the probability of backtest overfitting are left out."
        )
    elif math.isnan(selection.deflated):
        statements.append(selection.series)
    seeds = _seeds(evidence)
    return Findings(
        superior,
        confidence_set,
        selection,
        seeds.scores,
        seeds.summaries,
        _crises(evidence),
        (*statements, *seeds.statements),
    )


def _excess(evidence: Evidence) -> FloatArray:
    return np.asarray(evidence.returns - evidence.cash_returns[:, None])


def _superior(evidence: Evidence, seed: int) -> SuperiorAbilityTest | None:
    """All rows that could have been held against the benchmark."""
    if evidence.benchmark is None:
        return None
    others = [evidence.names.index(name) for name in evidence.contenders if name != evidence.benchmark]
    return superior_ability_test(evidence.returns[:, others], evidence.of(evidence.benchmark), seed=seed)


def _seeds(evidence: Evidence) -> SeedSpread:
    if evidence.context is None:
        return SeedSpread(pd.DataFrame(columns=COLUMNS), pd.DataFrame(), ())
    return find_seed_spread(evidence.context, evidence.periods_per_year)


def _crises(evidence: Evidence) -> pd.DataFrame | None:
    if not evidence.has_dates:
        return None
    trained_until = None if evidence.context is None else evidence.context.trained_until
    return crisis_table(
        evidence.returns,
        evidence.dates,
        evidence.names,
        evidence.cash_returns,
        trained_until,
        evidence.periods_per_year,
    )
