"""Last section of the page: observations that would show that the claims of the report are wrong."""

from __future__ import annotations

import math

from rllib_portfolio.reporting.report import Report
from rllib_portfolio.reporting.seed_spread import OVER_FOLDS
from rllib_portfolio.statistics.verdicts import (
    SIGNIFICANCE_LEVEL,
    SMALLEST_DIFFERENCE,
    Verdict,
    holm_rejections,
    p_text,
)

POWER_FACTOR = (1.960 + 0.842) ** 2
"""(z_0.975 + z_0.80)^2: a two-sided 5 % test has 80 % power if years x squared information ratio is this large."""

SMALLEST_RATIO = 0.01
"""It takes 78 000 years or more to tell a smaller information ratio from zero."""

SHOWN_VERDICTS = 4
"""Largest number of judged strategies whose verdicts the section covers."""

_OF_WALKS = (
    "The audit command changes all prices after a given day and checks whether earlier decisions change. If one does, "
    "there is look-ahead bias and all figures above are invalid.",
    "A test for survivorship bias needs a universe that includes failed companies; no bundled price table has one.",
)
_OF_VALUES = (
    "Omitted costs, look-ahead bias or survivorship bias would invalidate all figures above; none of them is visible "
    "in a value series.",
)


def falsification(report: Report) -> list[str]:
    """Return sentences on what would show that the claims of the report are wrong."""
    inputs = report.inputs
    years, last_day = inputs.num_days / inputs.periods_per_year, inputs.day(inputs.dates[-1])
    judged = list(report.verdicts.items())[:SHOWN_VERDICTS]
    return [
        *(f"{name} {what_would_undo(each, str(inputs.benchmark), years, last_day)}" for name, each in judged),
        *_of_costs(report),
        *_of_seeds(report),
        *(_OF_WALKS if inputs.walks else _OF_VALUES),
    ]


def what_would_undo(judged: Verdict, benchmark: str, years: float, last_day: str) -> str:
    """Return what would overturn a verdict, as text that continues the name of the judged strategy.

    Args:
        judged: The verdict.
        benchmark: Name of the benchmark.
        years: Length in years of the days that the verdict is on.
        last_day: The last of these days, in words.
    """
    if judged.outcome == "no significant difference":
        return _of_no_difference(judged, benchmark, years)
    claim = "beats" if judged.outcome == "beats" else "loses to"
    mean, sharpe = holm_rejections((judged.mean_p_value, judged.sharpe_p_value))
    which = "both differences" if mean and sharpe else f"the {'mean active return' if mean else 'Sharpe difference'}"
    left, now, turned = (
        "both p-values",
        f"{p_text(judged.mean_p_value)} and {p_text(judged.sharpe_p_value)}",
        "either",
    )
    if math.isnan(judged.sharpe_p_value):
        left, now, turned = "its p-value", p_text(judged.mean_p_value), "this"
    return (
        f"{claim} {benchmark} on {which}. This verdict no longer holds if further days after {last_day} leave "
        f"{left} above {50.0 * SIGNIFICANCE_LEVEL:g} % (Holm's first step; now {now}) or reverse the sign of "
        f"{turned} difference."
    )


def _of_no_difference(judged: Verdict, benchmark: str, years: float) -> str:
    ratio, difference = judged.information_ratio, judged.sharpe_difference
    if min(ratio, difference) < -SMALLEST_DIFFERENCE and max(ratio, difference) > SMALLEST_DIFFERENCE:
        return (
            f"against {benchmark}: return and Sharpe ratio point in opposite directions (information ratio "
            f"{ratio:.2f}, Sharpe difference {difference:.2f}). More days with these means will not give a verdict; "
            "one of the two differences must change its sign."
        )
    if math.isnan(ratio) or abs(ratio) < SMALLEST_RATIO:
        apart = f" The Sharpe difference ({p_text(judged.sharpe_p_value)}) could become significant."
        return (
            f"and {benchmark} have practically the same mean: no number of days with these means would show a "
            "difference." + (apart if abs(difference) > SMALLEST_DIFFERENCE else "")
        )
    needed = POWER_FACTOR / ratio**2
    if needed > years:
        return (
            f"against {benchmark}: at an information ratio of {ratio:.2f}, about {needed:.0f} years are needed to "
            f'detect a difference with 80 % power; this report has {years:.1f}. "No significant difference" does not '
            'mean "equal": more days can change the verdict in either direction.'
        )
    return (
        f"against {benchmark}: at an information ratio of {ratio:.2f}, about {needed:.1f} years of independent days "
        f"are needed to detect a difference with 80 % power; these {years:.1f} years have dependent days, which carry "
        f"less information ({p_text(judged.mean_p_value)}). More days can change the verdict in either direction."
    )


def _of_costs(report: Report) -> list[str]:
    if "break_even_cost_bps" not in report.table:
        return []
    sentences = []
    for name in report.inputs.subjects:
        cost = report.statistics.number(name, "break_even_cost_bps")
        if not math.isnan(cost):
            sentences.append(f"With costs above {cost:.1f} bp, {name} ends behind {report.inputs.benchmark}.")
    return sentences


def _of_seeds(report: Report) -> list[str]:
    """Return sentences on the results of other seeds, with the benchmark's Sharpe ratio if it is on the same days."""
    benchmark = report.inputs.benchmark
    if benchmark is None:
        return []
    bar = report.statistics.number(benchmark, "sharpe_ratio")
    sentences = []
    for name, summary in report.seeds.iterrows():
        folds = summary["basis"] == OVER_FOLDS
        runs = "runs (one per seed and fold)" if folds else "seeds"
        beside = "" if folds or math.isnan(bar) else f" against {bar:.2f} of {benchmark}"
        sentences.append(
            f"Training {name} with {summary['num_runs']} {runs} gave an interquartile mean Sharpe ratio of "
            f"{summary['interquartile_mean']:.2f} ({summary['lower']:.2f} to {summary['upper']:.2f}){beside}."
        )
    return sentences
