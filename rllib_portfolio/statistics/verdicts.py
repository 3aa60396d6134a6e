"""Verdicts on whether a strategy beat its benchmark, from two tests, in one word and one sentence.

Both tests are two-sided and draw the days of strategy and benchmark jointly. Their null hypotheses are:

- The mean active return is zero (stationary bootstrap). This is the more powerful test between portfolios that move
  together.
- The Sharpe ratios are equal (Ledoit and Wolf 2008, studentised circular bootstrap).

Holm's multiple-testing correction keeps the probability of any false claim at 5 %: the smaller p-value is significant
up to 2.5 %, and if it is, the larger one is significant up to 5 %. The outcome is

- "beats" if at least one difference is significant and neither is negative,
- "loses" if at least one difference is significant and neither is positive,
- "no significant difference" if neither is significant, or if return and Sharpe ratio point in opposite directions: a
  higher return at a lower Sharpe ratio, or the reverse, indicates a different level of risk, not skill.

An undefined test (nothing to divide by, or fewer than 10 days) is never significant and has no direction, but counts as
one of the two in Holm's correction. The deflated Sharpe ratio has no influence on a verdict.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from rllib_portfolio.arrays import FloatArray
from rllib_portfolio.statistics import metrics
from rllib_portfolio.statistics.bootstrap import BootstrapPlan
from rllib_portfolio.statistics.sharpe_tests import MIN_DAYS, bootstrap_sharpe_test
from rllib_portfolio.statistics.significance import mean_active_return_test

Outcome = Literal["beats", "no significant difference", "loses"]

SIGNIFICANCE_LEVEL = 0.05
SUSPICIOUS_SHARPE_GAIN = 0.3
"""A Sharpe ratio this far above that of 1/N on real prices is more often due to leakage than to skill."""

SMALLEST_DIFFERENCE = 1e-9
"""A smaller difference is a rounding error without direction, as between two leverages of the same strategy."""

SHARPE_DRAWS = 1999
"""Number of draws, about that of the mean test; a p-value of 5 % then has a standard error of 0.5 %."""


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """A strategy and its benchmark on the same T days.

    Attributes:
        name: Name of the strategy.
        benchmark_name: Name of the benchmark.
        days: The days in words, for the sentence, such as "the test window (2016-01-04 to 2022-12-28)".
        returns: Daily simple returns of the strategy, [T].
        benchmark: Daily simple returns of the benchmark, [T].
        cash_returns: Cash return per day, a number or [T].
        periods_per_year: Days per year.
    """

    name: str
    benchmark_name: str
    days: str
    returns: FloatArray
    benchmark: FloatArray
    cash_returns: FloatArray | float = 0.0
    periods_per_year: float = metrics.PERIODS_PER_YEAR


@dataclass(frozen=True, slots=True)
class Verdict:
    """Result of the comparison of a strategy with its benchmark on the same days.

    Attributes:
        outcome: "beats", "no significant difference" or "loses", at the 5 % level over both tests (see the module).
        mean_p_value: Two-sided p-value of the stationary-bootstrap test of the mean daily active return.
        sharpe_p_value: Two-sided p-value of the Ledoit-Wolf test of the Sharpe difference; NaN where it is undefined.
        information_ratio: Annualised information ratio; NaN if the active return never changes.
        sharpe_difference: Sharpe ratio of the strategy minus the benchmark's; NaN where either is undefined.
        leakage_suspected: Whether `sharpe_difference` is 0.3 or more.
        sentence: The verdict in plain English, with its figures.
    """

    outcome: Outcome
    mean_p_value: float
    sharpe_p_value: float
    information_ratio: float
    sharpe_difference: float
    leakage_suspected: bool
    sentence: str


def judge(pair: Pair, seed: int = 0) -> Verdict:
    """Return the verdict on a pair.

    Args:
        pair: The strategy, its benchmark and their days.
        seed: Seed of both bootstraps.
    """
    active = pair.returns - pair.benchmark
    mean_p = mean_active_return_test(active, seed=seed).p_value
    sharpe_p = _sharpe_p_value(pair, seed)
    sharpe, benchmark_sharpe = (
        float(metrics.sharpe_ratio(each, pair.cash_returns, pair.periods_per_year))
        for each in (pair.returns, pair.benchmark)
    )
    difference = sharpe - benchmark_sharpe
    outcome = outcome_of((float(active.mean()), difference), (mean_p, sharpe_p))
    suspected = difference >= SUSPICIOUS_SHARPE_GAIN
    ratio = float(metrics.information_ratio(pair.returns, pair.benchmark, pair.periods_per_year))
    sentence = _sentence(pair, outcome, (mean_p, sharpe_p), ratio, (sharpe, benchmark_sharpe))
    if suspected:
        sentence += (
            f" On real prices a Sharpe ratio {difference:.2f} above {pair.benchmark_name} is more often due to "
            "leakage than to skill: check for leakage first."
        )
    return Verdict(outcome, mean_p, sharpe_p, ratio, difference, suspected, sentence)


def holm_rejections(p_values: Sequence[float], level: float = SIGNIFICANCE_LEVEL) -> tuple[bool, ...]:
    """Return whether Holm's step-down procedure rejects each of m hypotheses.

    The probability of any false rejection is at most `level`. In ascending order of the p-values, hypothesis j (from 0)
    is rejected if its p-value is at most level / (m - j) and all hypotheses before it are rejected.

    Args:
        p_values: P-value of each hypothesis, m; a NaN counts as 1.
        level: Largest probability of any false rejection, in (0, 1).

    Source: Holm (1979), "A Simple Sequentially Rejective Multiple Test Procedure", Scandinavian Journal of Statistics
        6(2).
    """
    values = [1.0 if math.isnan(p) else p for p in p_values]
    rejected = [False] * len(values)
    for place, test in enumerate(sorted(range(len(values)), key=values.__getitem__)):
        if values[test] > level / (len(values) - place):
            break
        rejected[test] = True
    return tuple(rejected)


def outcome_of(differences: tuple[float, float], p_values: tuple[float, float]) -> Outcome:
    """Return the outcome that follows from both tests, as the module describes.

    Args:
        differences: Mean active return and Sharpe difference; NaN where undefined.
        p_values: P-values of the two differences, in the same order; NaN where undefined.
    """
    rejected = holm_rejections(p_values)
    signs = {float(np.sign(each)) for each in differences if abs(each) > SMALLEST_DIFFERENCE}
    if not any(rejected) or len(signs) != 1:
        return "no significant difference"
    return "beats" if signs == {1.0} else "loses"


def p_text(p_value: float) -> str:
    """Return a p-value as text, such as `p = 0.031`, `p < 0.001` or `p undefined`."""
    if math.isnan(p_value):
        return "p undefined"
    if p_value < 0.001:
        return "p < 0.001"
    return f"p = {p_value:.2f}" if p_value >= 0.1 else f"p = {p_value:.3f}"


def _sharpe_p_value(pair: Pair, seed: int) -> float:
    if len(pair.returns) < MIN_DAYS:
        return math.nan
    plan = BootstrapPlan(num_draws=SHARPE_DRAWS, seed=seed)
    return bootstrap_sharpe_test(pair.returns, pair.benchmark, pair.cash_returns, pair.periods_per_year, plan).p_value


_SIGNIFICANT = "significant at 5 % after Holm's correction for two tests"
_CLAIMS: dict[Outcome, str] = {"beats": "beat", "no significant difference": "did not beat", "loses": "lost to"}


def _sentence(
    pair: Pair, outcome: Outcome, p_values: tuple[float, float], ratio: float, sharpes: tuple[float, float]
) -> str:
    ours, theirs = (
        f"{metrics.annualised_return(each, pair.periods_per_year):.1%}".replace("%", " %")
        for each in (pair.returns, pair.benchmark)
    )
    difference = sharpes[0] - sharpes[1]
    return (
        f"On {pair.days} {pair.name} {_CLAIMS[outcome]} {pair.benchmark_name}: annual return {ours} against {theirs}, "
        f"information ratio {_number(ratio)} (test of the mean active return: {p_text(p_values[0])}); Sharpe ratio "
        f"{_number(sharpes[0])} against {_number(sharpes[1])}, difference {_number(difference)} (Ledoit-Wolf test: "
        f"{p_text(p_values[1])}). {_reason(outcome, p_values)}"
    )


def _reason(outcome: Outcome, p_values: tuple[float, float]) -> str:
    """Return a sentence on how the outcome follows from the two tests and Holm's correction."""
    mean, sharpe = holm_rejections(p_values)
    if not (mean or sharpe):
        return f"Neither difference is {_SIGNIFICANT}."
    alone = "The mean active return is" if mean else "The Sharpe difference is"
    which = "Both differences are" if mean and sharpe else alone
    contrary = ", but return and Sharpe ratio point in opposite directions, which indicates a different level of risk, "
    is_contrary = outcome == "no significant difference"
    return f"{which} {_SIGNIFICANT}{f'{contrary}not skill' if is_contrary else ''}."


def _number(value: float) -> str:
    return "undefined" if math.isnan(value) else f"{round(value, 2) + 0.0:.2f}"  # never -0.00
