"""What is found over all strategies, all trials and all seeds; a sentence for each finding that cannot be had."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rllib_portfolio.evaluation import metrics
from rllib_portfolio.evaluation.crises import crisis_table
from rllib_portfolio.evaluation.multiple_comparison import (
    ConfidenceSet,
    SuperiorAbilityTest,
    model_confidence_set,
    superior_ability_test,
)
from rllib_portfolio.evaluation.report.evidence import Evidence, cash_returns_on, excess_sharpe
from rllib_portfolio.evaluation.seeds import seed_summary
from rllib_portfolio.evaluation.selection import BacktestOverfitting, expected_best_sharpe_ratio

FloatArray = NDArray[np.floating[Any]]

FEWEST_ROWS = 3
TOO_FEW = (
    "With fewer than three rows there is no best of many: the superior ability test and the model confidence set are "
    "left out."
)


@dataclass(frozen=True, slots=True, eq=False)
class Selection:
    """What is left of the headline after counting the trials.

    Attributes:
        num_trials: All of them.
        hurdle: Annual Sharpe ratio that the best of so many worthless trials is expected to show.
        validation_sharpe: Annual Sharpe ratio on the days that were selected on; NaN where they were not given.
        deflated: The deflated Sharpe ratio on these days; NaN where they were not given.
        overfitting: PBO; None where the trials' returns were not kept.
        note: On the trials that it is of, or why it is missing.
    """

    num_trials: int
    hurdle: float
    validation_sharpe: float
    deflated: float
    overfitting: BacktestOverfitting | None
    note: str


@dataclass(frozen=True, slots=True, eq=False)
class Findings:
    """Everything beyond the table.

    Attributes:
        superior: Hansen's test over the evidence's contenders against the benchmark; None without one, and
            for fewer than three rows.
        confidence_set: Over the evidence's contenders; None for fewer than three.
        selection: None without a tuning record.
        seed_scores: One row per subject and seed: its figures; empty without walks of seeds.
        seeds: One row per subject: interquartile mean of the seeds' Sharpe ratios with its interval.
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
    selection = _selection(evidence)
    if selection is None:
        statements.append(
            "No tuning record was given: how many trials were run before is not known, so the deflated Sharpe ratio "
            "and the probability of backtest overfitting are left out."
        )
    scores, seeds = _seeds(evidence)
    if evidence.walks and not len(seeds):
        statements.append("No walks of single seeds were given: how much is the luck of the seed is not known.")
    return Findings(superior, confidence_set, selection, scores, seeds, _crises(evidence), tuple(statements))


def _excess(evidence: Evidence) -> FloatArray:
    return np.asarray(evidence.returns - evidence.cash_returns[:, None])


def _superior(evidence: Evidence, seed: int) -> SuperiorAbilityTest | None:
    """All rows that could have been held against the benchmark."""
    if evidence.benchmark is None:
        return None
    others = [evidence.names.index(name) for name in evidence.contenders if name != evidence.benchmark]
    return superior_ability_test(evidence.returns[:, others], evidence.of(evidence.benchmark), seed=seed)


def _selection(evidence: Evidence) -> Selection | None:
    context = evidence.context
    if context is None or context.tuning is None:
        return None
    tuning, walk = context.tuning, context.validation
    hurdle = expected_best_sharpe_ratio(tuning.num_trials, tuning.sharpe_variance)
    overfitting, note = tuning.overfitting()
    sharpe = deflated = float("nan")
    if walk is not None:
        known = cash_returns_on(context.market, walk.dates)
        cash = np.zeros(len(walk.dates)) if known is None else known
        sharpe = excess_sharpe(walk, cash, tuning.periods_per_year)
        deflated = tuning.deflated_sharpe_ratio(walk.returns, cash)
    return Selection(tuning.num_trials, hurdle, sharpe, deflated, overfitting, note)


def _seeds(evidence: Evidence) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Each seed's figures, and the interquartile mean of their Sharpe ratios."""
    scores, summaries = [], {}
    context = evidence.context
    for subject, walks in ({} if context is None else context.seed_walks).items():
        assert context is not None
        for number, walk in enumerate(walks):
            cash = cash_returns_on(context.market, walk.dates)
            known = np.zeros(len(walk.dates)) if cash is None else cash
            scores.append(
                {
                    "subject": subject,
                    "seed": number,
                    "walk": walk.name,
                    "sharpe_ratio": excess_sharpe(walk, known, evidence.periods_per_year),
                    "annual_return": float(metrics.annualised_return(walk.returns, evidence.periods_per_year)),
                    "max_drawdown": float(metrics.max_drawdown(walk.returns)),
                }
            )
        sharpes = np.array([row["sharpe_ratio"] for row in scores if row["subject"] == subject])
        if len(sharpes) and np.isfinite(sharpes).all():
            summaries[subject] = seed_summary(sharpes)._asdict()
    columns = ["subject", "seed", "walk", "sharpe_ratio", "annual_return", "max_drawdown"]
    return pd.DataFrame(scores, columns=columns), pd.DataFrame.from_dict(summaries, orient="index")


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
