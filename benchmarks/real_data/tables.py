"""Results of the study on real data as markdown: verdicts, corrected p-values and deflated Sharpe ratios."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.real_data import study
from benchmarks.real_data.variants import NUM_SKETCHES, PROTOTYPE
from benchmarks.real_data.walks import corrected, num_tested
from rllib_portfolio.reporting.search_trials import TRIAL_RETURNS
from rllib_portfolio.statistics.overfitting import (
    SharpeSample,
    deflated_sharpe_ratio,
    expected_best_sharpe_ratio,
    probabilistic_sharpe_ratio,
    sharpe_ratio_interval,
)

BENCHMARK = "1/N"
LEVEL = 0.05


def verdicts(folder: Path, part: str) -> str:
    """Return the verdict and the corrected p-values of each subject on one universe, as lines.

    The ratios are not deflated, because the trials were selected on other days. Tests of several versions on the same
    days are corrected by Bonferroni's method.
    """
    results = _results(folder, part)
    returns = pd.read_parquet(folder / part / "daily_returns.parquet")
    lines = [f"- {judged['sentence']}" for judged in results["verdicts"].values()]
    for subject in results["subjects"]:
        active = SharpeSample.of((returns[subject] - returns[BENCHMARK]).to_numpy())
        lower, upper = sharpe_ratio_interval(active, 1.0 - LEVEL / num_tested(subject))
        psr = probabilistic_sharpe_ratio(active)
        line = (
            f"- {subject}: information ratio {active.sharpe_ratio:+.2f}, 95 % interval{_corrected_for(subject)} "
            f"{lower:+.2f} to {upper:+.2f}; one-sided p-value of the hypothesis that the true ratio is at most 0, if "
            f"days are independent: {1.0 - psr:.3f}."
        )
        if num_tested(subject) > 1:
            row = results["strategies"][subject]
            mean, sharpe = (corrected(row[name], subject) for name in ("mean_p_value", "sharpe_p_value"))
            line += (
                f" P-values multiplied by {num_tested(subject)} and limited to 1: mean active return {mean:.3f}, "
                f"Sharpe difference {sharpe:.3f}, one-sided {corrected(1.0 - psr, subject):.3f}."
            )
        lines.append(line)
    return "\n".join(lines)


def _corrected_for(strategy: str) -> str:
    count = num_tested(strategy)
    return f" (Bonferroni's correction for {count} tested versions)" if count > 1 else ""


def deflated(folder: Path) -> str:
    """Return the deflated Sharpe ratio of each chosen variant's active return on the days of its selection, as lines.

    Each variant was selected by its information ratio among the variants of its algorithm, so their variance is used.
    Trials without a record count for both algorithms. Active returns are assumed to be normal, because those of the
    variants are not kept.
    """
    found, lines = study.results(folder), []
    num_days = len(pd.read_parquet(folder / TRIAL_RETURNS))
    unrecorded = len(PROTOTYPE) + NUM_SKETCHES
    for algo in ("ppo", "dqn"):
        if algo not in found:
            continue
        sample = SharpeSample(found[algo]["pooled"]["ir"], num_days)
        own, both = _ratios(folder, algo), _ratios(folder)
        (count, variance), (all_trials, pooled) = ((len(each) + unrecorded, _variance(each)) for each in (own, both))
        lines.append(
            f"- {algo.upper()}, 1991 to 1999: information ratio {sample.sharpe_ratio:.2f}. The best of {count} trials "
            f"without skill ({len(own)} variants of {algo.upper()}, {unrecorded} trials without a record) is expected "
            f"to reach {expected_best_sharpe_ratio(count, variance):.2f}. Deflated ratio: "
            f"{deflated_sharpe_ratio(sample, count, variance):.3f}. If the {all_trials} trials of both algorithms are "
            f"counted together, {expected_best_sharpe_ratio(all_trials, pooled):.2f} is expected, and the deflated "
            f"ratio is {deflated_sharpe_ratio(sample, all_trials, pooled):.3f}."
        )
    return "\n".join(lines)


def _ratios(folder: Path, algo: str | None = None) -> list[float]:
    """Return the annual information ratios of all variants, or of those of one algorithm."""
    records = study.results(folder).values()
    return [record["pooled"]["ir"] for record in records if algo in (None, record["algo"])]


def _variance(ratios: Sequence[float]) -> float:
    return float(np.var(ratios, ddof=1)) if len(ratios) > 1 else 0.0


def _results(folder: Path, part: str) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((folder / part / "results.json").read_text())
    return values
