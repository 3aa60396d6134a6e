"""Variation between training seeds: the figures of each seed, and their interquartile mean."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from rllib_portfolio.reporting.inputs import ReportContext, cash_returns_on
from rllib_portfolio.statistics import metrics
from rllib_portfolio.statistics.seeds import seed_summary

FEWEST_SEEDS = 2
"""Smallest number of seeds with an interval; resampling a single seed would give an interval of no width."""

OVER_DAYS = "one per seed, over all days"
OVER_FOLDS = "one per seed and fold; seeds are resampled within each fold"

NO_SEEDS = "No back-tests of single seeds were given, so the variation between seeds is not known."
COLUMNS = ["subject", "seed", "walk", "sharpe_ratio", "annual_return", "max_drawdown"]


class SeedSpread(NamedTuple):
    """Figures of the seeds of the judged strategies.

    Attributes:
        scores: Figures of each seed, one row per subject and seed.
        summaries: Fields of a `SeedSummary`, and `basis`, which says what a run is; one row per subject.
        statements: Sentences on what is left out.
    """

    scores: pd.DataFrame
    summaries: pd.DataFrame
    statements: tuple[str, ...]


def find_seed_spread(context: ReportContext, periods_per_year: float) -> SeedSpread:
    """Compute the figures of each seed and their interquartile mean over seeds.

    Args:
        context: Context of the report, with the walks of the seeds. Its own summaries replace the means.
        periods_per_year: Days per year.
    """
    rows = [row for subject in context.seed_walks for row in _scores(context, subject, periods_per_year)]
    summaries: dict[str, dict[str, Any]] = {
        subject: {**summary._asdict(), "basis": OVER_FOLDS} for subject, summary in context.seed_summaries.items()
    }
    statements = []
    for subject in context.seed_walks:
        sharpes = np.array([row["sharpe_ratio"] for row in rows if row["subject"] == subject])
        if subject in summaries:
            continue
        if not np.isfinite(sharpes).all():
            statements.append(_undefined(subject))
        elif len(sharpes) < FEWEST_SEEDS:
            statements.append(_too_few(subject, len(sharpes)))
        else:
            summaries[subject] = {**seed_summary(sharpes)._asdict(), "basis": OVER_DAYS}
    if not rows and not summaries:
        statements = [NO_SEEDS]
    scores = pd.DataFrame(rows, columns=COLUMNS)
    return SeedSpread(scores, pd.DataFrame.from_dict(summaries, orient="index"), tuple(dict.fromkeys(statements)))


def _scores(context: ReportContext, subject: str, periods_per_year: float) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for number, walk in enumerate(context.seed_walks[subject]):
        cash = cash_returns_on(context.market, walk.dates)
        rows.append(
            {
                "subject": subject,
                "seed": number,
                "walk": walk.name,
                "sharpe_ratio": math.nan
                if cash is None
                else float(metrics.sharpe_ratio(walk.returns, cash, periods_per_year)),
                "annual_return": float(metrics.annualised_return(walk.returns, periods_per_year)),
                "max_drawdown": float(metrics.max_drawdown(walk.returns)),
            }
        )
    return rows


def _too_few(subject: str, num_seeds: int) -> str:
    had = "one seed" if num_seeds else "no seed"
    return (
        f"{subject} has {had}, so the variation between seeds is not known and the interquartile mean over seeds is "
        "left out."
    )


def _undefined(subject: str) -> str:
    return (
        f"The Sharpe ratio of a seed of {subject} is undefined: its return is constant, or its days are missing in the "
        "market data. No mean over seeds is shown for this strategy."
    )
