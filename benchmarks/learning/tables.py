"""Tables of the certification suite for docs/results.md."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from scipy.stats import ttest_ind

from benchmarks.learning.certification import CANDIDATES, STEPS, run_file
from benchmarks.learning.known_optima import EXAMS, Exam
from benchmarks.tables import Table

REACHED = 0.9
"""Share of the gap between the uniform portfolio and the optimum."""
LEVEL = 0.05
ROUNDING = 1e-6
"""Smaller differences of shares or basis points count as zero, because some policies have weights in float32."""
STANDARD_ERRORS = 2.0
"""Largest shortfall that counts as sampling error, in standard errors."""
LEAST_SEEDS = 3
PEERS = {algo: (f"{algo}-sb3", f"{algo}-rllib") for algo in ("ppo", "dqn")}
"""Candidates that each algorithm is compared with."""
Run = Mapping[str, Any]


@dataclass(frozen=True)
class Runs:
    """The runs of one candidate on one market.

    Attributes:
        steps: Environment steps of each run.
        seeds: Learning curve and final report of each seed.
    """

    steps: int
    seeds: Mapping[str, Run]

    def finals(self, figure: str) -> list[float]:
        """Return a figure of the policies at the end of their runs."""
        return [run["final"][figure] for run in self.seeds.values()]

    def steps_to(self, share: float = REACHED) -> list[float]:
        """Return the steps after which `share` of the gap was closed for the first time, infinite if never."""
        return [_first(run, "steps", share) for run in self.seeds.values()]


def _first(run: Run, unit: str, share: float = REACHED) -> float:
    return next((point[unit] for point in run["curve"] if point["gap"] >= share), math.inf)


def collected(folder: Path) -> dict[tuple[str, str], Runs]:
    """Return all runs of a folder by candidate and market."""
    found = {}
    for name, candidate in CANDIDATES.items():
        for exam in candidate.all_exams:
            path = run_file(name, exam, folder)
            if path.is_file():
                values = json.loads(path.read_text())
                seeds = {seed: run for seed, run in values["seeds"].items() if int(seed) >= candidate.first_seed}
                if seeds:
                    found[name, exam] = Runs(values["steps"], dict(sorted(seeds.items())))
    return found


def _certified(runs: Mapping[tuple[str, str], Runs], algo: str, exam: str) -> Runs | None:
    """Return the runs with settings for this market if there are at least three, else those of the algorithm."""
    for name in (f"{algo}-rare", f"{algo}-long", f"{algo}-per-asset"):
        found = runs.get((name, exam))
        if found is not None and len(found.seeds) >= LEAST_SEEDS:
            return found
    return runs.get((algo, exam))


def certificates(runs: Mapping[tuple[str, str], Runs]) -> Table:
    """Return how close each algorithm comes to each optimum, with the settings chosen for the market."""
    best = {(name, algo): _certified(runs, algo, name) for name in EXAMS for algo in ("ppo", "dqn")}
    rows = []
    for name, exam in EXAMS.items():
        cells = [cell for algo in ("ppo", "dqn") for cell in _certificate(name, exam, best[name, algo])[:2]]
        rows.append([exam.title, *cells])
    counts = sorted({len(found.seeds) for found in best.values() if found is not None})
    seeds = " or ".join(map(str, counts))
    title = f"Share of the optimal growth, and share of the gap closed: median and range of {seeds} seeds"
    return Table(title, ["market", "PPO: growth", "gap closed", "DQN: growth", "gap closed"], rows)


def analytic(runs: Mapping[tuple[str, str], Runs]) -> Table:
    """Return how close APG comes to each optimum, and after how many steps beside PPO with its default settings."""
    rows = []
    for name, exam in EXAMS.items():
        growth, gap, _, met = _certificate(name, exam, _certified(runs, "apg", name))
        steps = [_steps(runs.get((algo, name))) for algo in ("apg", "ppo")]
        rows.append([exam.title, _target(exam), growth, gap, met, *steps])
    counts = sorted({len(found.seeds) for (side, _), found in runs.items() if side == "apg"})
    title = (
        f"APG after {STEPS['apg']:,} steps: median and range of {' or '.join(map(str, counts))} seeds, and median "
        f"steps to {REACHED:.0%} of the gap between 1/N and the optimum"
    )
    header = ["market", "target", "growth", "gap closed", "", "steps of APG", "steps of PPO"]
    return Table(title, header, rows)


def _steps(runs: Runs | None) -> str:
    """Return the median number of steps to `REACHED` of the gap."""
    if runs is None:
        return ""
    steps = median(runs.steps_to())
    return f"{steps:,.0f}" if math.isfinite(steps) else "never"


def _target(exam: Exam) -> str:
    parts = [f"growth {exam.growth_target:.0%}"] if exam.growth_target else []
    parts += [f"gap {exam.gap_target:.0%}"] if exam.gap_target else []
    parts += ["no loss"] if exam.may_not_lose else []
    return ", ".join(parts) or "inside sampling error"


def _certificate(name: str, exam: Exam, runs: Runs | None) -> list[str]:
    if runs is None:
        return ["not run"] * 4
    growth, gap = (_spread(runs.finals(figure)) for figure in ("growth", "gap"))
    if name == "noise":  # there is no gap, and the optimal growth is zero
        growth, gap = f"{-max(runs.finals('shortfall_bp')):.2f} bp a day at worst", ""
    if name == "costs":
        growth = f"{-max(runs.finals('shortfall_bp')):.1f} bp a day at worst"
    return [growth, gap, str(len(runs.seeds)), "met" if is_met(name, exam, runs) else "NOT MET"]


def is_met(name: str, exam: Exam, runs: Runs) -> bool:
    """Return whether the median seed meets the targets of the market.

    On a market without any gain every seed must: none may end more than two standard errors below the optimum or, on
    noise, above the uniform portfolio.
    """
    if exam.growth_target is None:
        figures = ["shortfall_in_errors", "z_uniform"] if name == "noise" else ["shortfall_in_errors"]
        return all(max(runs.finals(figure)) <= STANDARD_ERRORS for figure in figures)
    growth = median(runs.finals("growth")) >= (exam.growth_target or 0.0)
    if exam.may_not_lose and min(runs.finals("growth")) < 0.0:
        return False
    return growth and median(runs.finals("gap")) >= (exam.gap_target or 0.0)


def peers(runs: Mapping[tuple[str, str], Runs]) -> Table:
    """Return the median growth of each side at equal steps, and which differences are significant.

    The p-values are of Welch's t-test of the difference of means over the seeds, adjusted by Holm's step-down over all
    comparisons of both algorithms.

    Source: Holm (1979), "A Simple Sequentially Rejective Multiple Test Procedure", Scandinavian Journal of Statistics
        6(2).
    """
    significant = _significant(runs)
    sides = [(algo, side) for algo in PEERS for side in (algo, *PEERS[algo])]
    rows = []
    for name, exam in EXAMS.items():
        if not any((side, name) in runs for algo, side in sides if side != algo):
            continue
        cells = [_median(runs.get((side, name)), exam) + " *" * ((side, name) in significant) for _, side in sides]
        rows.append([exam.title, *cells])
    steps = " and ".join(f"{number:,} steps of {algo.upper()}" for algo, number in STEPS.items() if algo in PEERS)
    title = f"Growth as a share of the optimal growth after {steps}: medians over seeds"
    return Table(title, ["market", *(CANDIDATES[side].title for _, side in sides)], rows)


def _median(runs: Runs | None, exam: Exam) -> str:
    if runs is None:
        return ""
    value = median(runs.finals(_figure(exam)))
    return f"{value:.1%}" if exam.growth_target else f"{-value:.2f} bp a day"


def _significant(runs: Mapping[tuple[str, str], Runs]) -> set[tuple[str, str]]:
    """Return the peers and markets whose difference from ours is significant over all comparisons."""
    from statsmodels.stats.multitest import multipletests  # a second to import

    p_values = {}
    for algo in PEERS:
        for side in PEERS[algo]:
            for name, exam in EXAMS.items():
                mine, other = runs.get((algo, name)), runs.get((side, name))
                if mine is not None and other is not None and min(len(mine.seeds), len(other.seeds)) > 1:
                    p_values[side, name] = _p_value(mine.finals(_figure(exam)), other.finals(_figure(exam)))
    if not p_values:
        return set()
    adjusted = multipletests(list(p_values.values()), method="holm")[1]
    return {key for key, p_value in zip(p_values, adjusted, strict=True) if p_value < LEVEL}


def _figure(exam: Exam) -> str:
    return "growth" if exam.growth_target else "shortfall_bp"


def _p_value(ours: Sequence[float], theirs: Sequence[float]) -> float:
    if np.ptp([*ours, *theirs]) <= ROUNDING:
        return 1.0
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Precision loss")  # all seeds of one side end alike
        return float(ttest_ind(ours, theirs, equal_var=False).pvalue)


def _spread(values: Sequence[float]) -> str:
    if any(math.isnan(value) for value in values):
        return ""
    return f"{median(values):.1%} ({min(values):.1%} to {max(values):.1%})"
