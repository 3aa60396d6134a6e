"""Tests of the sentences on what would overturn a verdict: none contradicts the verdict."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rllib_portfolio.reporting.falsification import what_would_undo
from rllib_portfolio.statistics.verdicts import Outcome, Pair, Verdict, judge


def verdict(outcome: Outcome, p_values: tuple[float, float], ratio: float = 0.8, difference: float = 0.2) -> Verdict:
    return Verdict(outcome, *p_values, ratio, difference, False, "")


def undone(judged: Verdict, years: float = 10.0) -> str:
    return what_would_undo(judged, "1/N", years, "2022-12-28")


@pytest.mark.parametrize(
    ("p_values", "which"),
    [
        ((0.001, 0.13), "the mean active return"),
        ((0.13, 0.001), "the Sharpe difference"),
        ((0.001, 0.04), "both differences"),
    ],
)
def test_a_win_rests_on_what_holm_rejects_and_falls_when_nothing_is_rejected(
    p_values: tuple[float, float], which: str
) -> None:
    # one p-value of 13 % is beside a win already; the win ends where the smaller one is above 5 % / 2
    text = undone(verdict("beats", p_values))
    assert text.startswith(
        f"beats 1/N on {which}. This verdict no longer holds if further days after 2022-12-28 leave "
    )
    assert "both p-values above 2.5 % (Holm's first step; now p" in text
    assert text.endswith("or reverse the sign of either difference.")


def test_a_loss_and_a_win_without_sharpe_ratio_are_worded_by_what_they_are() -> None:
    assert undone(verdict("loses", (0.001, 0.001), -0.8, -0.2)).startswith("loses to 1/N on both differences.")
    text = undone(verdict("beats", (0.001, math.nan), math.nan, math.nan))
    assert "leave its p-value above 2.5 % (Holm's first step; now p = 0.001) or reverse the sign of this" in text


def test_a_win_at_an_information_ratio_near_zero_is_not_called_a_tie() -> None:
    # the same mean, to a ten thousandth of a per cent, at a fifth of the risk: all of the difference is in the risk
    noise = np.random.default_rng(3).normal(0.0, 0.01, 4000)
    noise -= noise.mean()
    judged = judge(Pair("calm", "wild", "", 0.0005 + 1e-7 + 0.2 * noise, 0.0005 + noise))
    assert (judged.outcome, round(judged.information_ratio, 2)) == ("beats", 0.0)
    text = what_would_undo(judged, "wild", 15.9, "day 4000")
    assert text.startswith("beats wild on the Sharpe difference.")
    assert "the same mean" not in text


def test_opposite_signs_are_no_question_of_years() -> None:
    # more return, less of it per risk
    rng = np.random.default_rng(3)
    steady, wild = 0.002 + rng.normal(0.0, 0.002, 4000), 0.004 + rng.normal(0.0, 0.02, 4000)
    judged = judge(Pair("wild", "steady", "", wild, steady))
    assert judged.outcome == "no significant difference"
    text = what_would_undo(judged, "steady", 4000 / 252, "day 4000")
    assert "return and Sharpe ratio point in opposite directions" in text
    assert "one of the two differences must change its sign" in text
    assert "years" not in text


def test_the_years_that_a_difference_takes_are_more_than_there_are() -> None:
    # (1.96 + 0.842)^2 = 7.85: at 0.5 it takes 31.4 years, at 2 it takes 1.96
    assert "about 31 years are needed to detect a difference with 80 % power; this report has 10.0." in undone(
        verdict("no significant difference", (0.2, 0.3), 0.5)
    )
    text = undone(verdict("no significant difference", (0.06, 0.3), 2.0))
    assert "about 2.0 years of independent days are needed to detect a difference" in text
    assert "these 10.0 years have dependent days, which carry less information (p = 0.060)" in text
    assert "this report has" not in text


def test_no_difference_at_all_is_told_as_such() -> None:
    same = undone(verdict("no significant difference", (1.0, 1.0), math.nan, 0.0))
    assert same == "and 1/N have practically the same mean: no number of days with these means would show a difference."
    calmer = undone(verdict("no significant difference", (0.99, 0.2), 0.001, 0.2))
    assert calmer.endswith("The Sharpe difference (p = 0.20) could become significant.")
