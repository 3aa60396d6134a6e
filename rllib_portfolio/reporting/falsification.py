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
    "The audit command scrambles every price after a day and looks whether a decision before it moves: one that does "
    "is a leak, and every figure above is void.",
    "Another universe, with the companies that failed in it, is the test that no bundled price table can give.",
)
_OF_VALUES = (
    "Costs that the values leave out, a price that was used before it was known, or assets chosen because they did "
    "well: any of them voids every figure above, and none can be seen in a value series.",
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
    lifted, now, turned = (
        "both p-values",
        f"{p_text(judged.mean_p_value)} and {p_text(judged.sharpe_p_value)}",
        "either",
    )
    if math.isnan(judged.sharpe_p_value):
        lifted, now, turned = "its p-value", p_text(judged.mean_p_value), "this"
    return (
        f"{claim} {benchmark} on {which}. That falls once days after {last_day} are added that lift {lifted} above "
        f"{50.0 * SIGNIFICANCE_LEVEL:g} % (Holm's first step; now {now}), or turn the sign of {turned} difference."
    )


def _of_no_difference(judged: Verdict, benchmark: str, years: float) -> str:
    ratio, difference = judged.information_ratio, judged.sharpe_difference
    if min(ratio, difference) < -SMALLEST_DIFFERENCE and max(ratio, difference) > SMALLEST_DIFFERENCE:
        return (
            f"and {benchmark}: return and Sharpe ratio point in opposite directions (information ratio {ratio:.2f}, "
            f"Sharpe difference {difference:.2f}). However many days like these are added, that is no verdict: one of "
            "the two must turn its sign."
        )
    if math.isnan(ratio) or abs(ratio) < SMALLEST_RATIO:
        apart = f" The Sharpe difference ({p_text(judged.sharpe_p_value)}) could become significant."
        return (
            f"and {benchmark} earned the same on average: no number of days like these would tell their means apart."
            + (apart if abs(difference) > SMALLEST_DIFFERENCE else "")
        )
    needed = POWER_FACTOR / ratio**2
    if needed > years:
        return (
            f"against {benchmark}: at an information ratio of {ratio:.2f} it takes about {needed:.0f} years to tell a "
            f'difference with 80 % power, and these are {years:.1f}. "No significant difference" is not "equal": more '
            "days can overturn it either way."
        )
    return (
        f"against {benchmark}: at an information ratio of {ratio:.2f} independent days would tell a difference after "
        f"about {needed:.1f} years with 80 % power. These are {years:.1f} years of days that hang together, and tell "
        f"less ({p_text(judged.mean_p_value)}): more days can overturn it either way."
    )


def _of_costs(report: Report) -> list[str]:
    if "break_even_cost_bps" not in report.table:
        return []
    sentences = []
    for name in report.inputs.subjects:
        cost = report.statistics.number(name, "break_even_cost_bps")
        if not math.isnan(cost):
            sentences.append(f"Costs above {cost:.1f} bp: from there on {name} ends behind {report.inputs.benchmark}.")
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
        runs = "runs, one per seed and fold," if folds else "of them"
        beside = "" if folds or math.isnan(bar) else f" against {bar:.2f} of {benchmark}"
        sentences.append(
            f"Training {name} again with other seeds: {summary['num_runs']} {runs} gave an interquartile mean Sharpe "
            f"ratio of {summary['interquartile_mean']:.2f} ({summary['lower']:.2f} to {summary['upper']:.2f}){beside}."
        )
    return sentences
