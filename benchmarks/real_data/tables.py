"""What the study has left, as markdown: the variants, the walks, their verdicts, every test, the crises."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.real_data import study
from benchmarks.real_data.variants import NUM_SKETCHES, PROTOTYPE
from benchmarks.real_data.walks import looks, over_looks
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
    """What the two tests of each subject say, by themselves and over all looks, and how sure its active return is.

    The trials were judged on other days. What was not selected on these is not deflated; later looks at them count.
    """
    results = _results(folder, part)
    returns = pd.read_parquet(folder / part / "daily_returns.parquet")
    lines = [f"- {judged['sentence']}" for judged in results["verdicts"].values()]
    for subject in results["subjects"]:
        active = SharpeSample.of((returns[subject] - returns[BENCHMARK]).to_numpy())
        lower, upper = sharpe_ratio_interval(active, 1.0 - LEVEL / looks(subject))
        psr = probabilistic_sharpe_ratio(active)
        line = (
            f"- {subject}: information ratio {active.sharpe_ratio:+.2f}, 95 % interval{_over_looks(subject)} "
            f"{lower:+.2f} to {upper:+.2f}; probabilistic ratio of the active return PSR(0) = {psr:.3f}, which is one "
            f"less the one-sided p-value {1.0 - psr:.3f} of a true ratio of at most 0, days taken for independent."
        )
        if looks(subject) > 1:
            row = results["strategies"][subject]
            mean, sharpe = (over_looks(row[name], subject) for name in ("mean_p_value", "sharpe_p_value"))
            line += (
                f" The p-values times {looks(subject)} looks (Bonferroni, at most 1): mean active return {mean:.3f}, "
                f"Sharpe ratio {sharpe:.3f}, one-sided {over_looks(1.0 - psr, subject):.3f}."
            )
        lines.append(line)
    return "\n".join(lines)


def _over_looks(strategy: str) -> str:
    return f" over {looks(strategy)} looks (Bonferroni)" if looks(strategy) > 1 else ""


def deflated(folder: Path) -> str:
    """What the number of trials leaves of the chosen variants on the days that they were chosen on, as lines.

    Each was chosen by its information ratio among the variants of its algorithm, so that the spread is theirs. Trials
    without a record count for both algorithms. Active returns are taken for normal: those of the variants are not kept.
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
            f"- {algo}, on the days that it was chosen on, 1991 to 1999: information ratio {sample.sharpe_ratio:.2f}, "
            f"where the best of {count} worthless trials ({len(own)} variants of {algo}, {unrecorded} trials without a "
            f"record) is expected to show {expected_best_sharpe_ratio(count, variance):.2f}; deflated ratio "
            f"{deflated_sharpe_ratio(sample, count, variance):.3f}. Were all {all_trials} trials of both algorithms of "
            f"one kind, it would be {deflated_sharpe_ratio(sample, all_trials, pooled):.3f} "
            f"(against {expected_best_sharpe_ratio(all_trials, pooled):.2f})."
        )
    return "\n".join(lines)


def _ratios(folder: Path, algo: str | None = None) -> list[float]:
    """The annual information ratios of all variants, or of those of one algorithm."""
    records = study.results(folder).values()
    return [record["pooled"]["ir"] for record in records if algo in (None, record["algo"])]


def _variance(ratios: Sequence[float]) -> float:
    return float(np.var(ratios, ddof=1)) if len(ratios) > 1 else 0.0


def _results(folder: Path, part: str) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((folder / part / "results.json").read_text())
    return values
