"""The certification suite's runs as tables, for docs/RESULTS.md, and what they say about each claim."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import ttest_ind

from benchmarks.learning.certification import CANDIDATES, STEPS, run_file
from benchmarks.learning.known_optima import EXAMS, Exam
from benchmarks.tables import Table

REACHED = 0.9
"""Share of the gap between uniform and optimum."""
LEVEL = 0.05
ROUNDING = 1e-6
"""Weights are float32 here and float64 there: shares or basis points that differ by less are the same."""
STANDARD_ERRORS = 2.0
"""Inside sampling error."""
LEAST_SEEDS = 3
PEERS = {algo: (f"{algo}-sb3", f"{algo}-rllib") for algo in STEPS}
"""Candidates that each algorithm is compared with."""
Run = Mapping[str, Any]


@dataclass(frozen=True)
class Runs:
    """What one candidate did on one market.

    Attributes:
        steps: Environment steps of each run.
        seeds: Learning curve and final report of each seed.
    """

    steps: int
    seeds: Mapping[str, Run]

    def finals(self, figure: str) -> list[float]:
        """A figure of the policies at the end."""
        return [run["final"][figure] for run in self.seeds.values()]

    def steps_to(self, share: float = REACHED) -> list[float]:
        """Steps after which `share` of the gap was closed for the first time, infinite if never."""
        return [_first(run, "steps", share) for run in self.seeds.values()]


def _first(run: Run, unit: str, share: float = REACHED) -> float:
    return next((point[unit] for point in run["curve"] if point["gap"] >= share), math.inf)


def collected(folder: Path) -> dict[tuple[str, str], Runs]:
    """All runs of a folder, by candidate and market."""
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


def certificates(runs: Mapping[tuple[str, str], Runs]) -> Table:
    """Return how close each of our candidates comes to each optimum."""
    rows = []
    for name, exam in EXAMS.items():
        for side, candidate in CANDIDATES.items():
            found = runs.get((side, name))
            if candidate.contender == "ours" and found is not None:
                rows.append([exam.title, candidate.title, _target(exam), *_certificate(name, exam, found)])
    header = ["market", "agent", "target", "growth: median (worst to best)", "gap closed", "seeds", ""]
    return Table("Share of the optimal growth, and of the gap between uniform and optimum that is closed", header, rows)


def _certified(runs: Mapping[tuple[str, str], Runs], algo: str, exam: str) -> Runs | None:
    """Return the runs that speak for an algorithm: those made for the market, if there are at least three."""
    for name in (f"{algo}-rare", f"{algo}-long", f"{algo}-per-asset"):
        found = runs.get((name, exam))
        if found is not None and len(found.seeds) >= LEAST_SEEDS:
            return found
    return runs.get((algo, exam))


def short(runs: Mapping[tuple[str, str], Runs]) -> Table:
    """The same in few columns."""
    best = {(name, algo): _certified(runs, algo, name) for name in EXAMS for algo in ("ppo", "dqn")}
    rows = []
    for name, exam in EXAMS.items():
        cells = [cell for algo in ("ppo", "dqn") for cell in _certificate(name, exam, best[name, algo])[:2]]
        rows.append([exam.title, *cells])
    counts = sorted({len(found.seeds) for found in best.values() if found is not None})
    seeds = " or ".join(map(str, counts))
    title = f"Growth and gap as shares of the optimum: median and range of {seeds} seeds"
    return Table(title, ["market", "PPO: growth", "gap closed", "DQN: growth", "gap closed"], rows)


def _target(exam: Exam) -> str:
    parts = [f"growth {exam.growth_target:.0%}"] if exam.growth_target else []
    parts += [f"gap {exam.gap_target:.0%}"] if exam.gap_target else []
    parts += ["no loss"] if exam.may_not_lose else []
    return ", ".join(parts) or "inside sampling error"


def _certificate(name: str, exam: Exam, runs: Runs | None) -> list[str]:
    if runs is None:
        return ["not run"] * 4
    growth, gap = (_spread(runs.finals(figure)) for figure in ("growth", "gap"))
    if name == "noise":  # the gap is none, and growth is a matter of a hundredth of a basis point
        growth, gap = f"{-max(runs.finals('shortfall_bp')):.2f} bp a day at worst", ""
    if name == "costs":
        growth = f"{-max(runs.finals('shortfall_bp')):.1f} bp a day at worst"
    return [growth, gap, str(len(runs.seeds)), "met" if is_met(name, exam, runs) else "NOT MET"]


def is_met(name: str, exam: Exam, runs: Runs) -> bool:
    """Whether the median seed meets the market's targets; where nothing can be gained, whether every seed does.

    There no seed may end more than two standard errors below the optimum, nor, on noise, above the uniform portfolio.
    """
    if exam.growth_target is None:
        figures = ["shortfall_in_errors", "z_uniform"] if name == "noise" else ["shortfall_in_errors"]
        return all(max(runs.finals(figure)) <= STANDARD_ERRORS for figure in figures)
    growth = median(runs.finals("growth")) >= (exam.growth_target or 0.0)
    if exam.may_not_lose and min(runs.finals("growth")) < 0.0:
        return False
    return growth and median(runs.finals("gap")) >= (exam.gap_target or 0.0)


@dataclass(frozen=True)
class Comparison:
    """The difference between our final policies and a peer's on one market.

    Attributes:
        difference: Of the means over the seeds: shares of the optimal growth, or basis points a day where nothing is to
            be gained; above 0 where ours are better.
        lower: Lower end of its 95 % t interval (Welch).
        upper: Upper end.
        p_value: Two-sided, of Welch's t-test that it is 0; 1 where the two are the same.
        adjusted_p_value: The same after Holm's step-down over all comparisons.
    """

    difference: float
    lower: float
    upper: float
    p_value: float
    adjusted_p_value: float = math.nan


def comparisons(runs: Mapping[tuple[str, str], Runs]) -> dict[tuple[str, str], Comparison]:
    """Every comparison with a peer, by peer and market: of both algorithms, since all of them are shown together.

    Seeds are taken for independent and their differences for normal, which is rough where shares are near 1. An
    interval holds for its own comparison; the adjusted p-values hold the chance of any false claim at the level.

    Source: Holm (1979), "A Simple Sequentially Rejective Multiple Test Procedure", Scandinavian Journal of Statistics
        6(2).
    """
    from statsmodels.stats.multitest import multipletests  # a second to import

    found = {}
    for algo in STEPS:
        for side in PEERS[algo]:
            for name, exam in EXAMS.items():
                mine, other = runs.get((algo, name)), runs.get((side, name))
                if mine is None or other is None or min(len(mine.seeds), len(other.seeds)) < 2:
                    continue
                sign = 1.0 if exam.growth_target else -1.0
                found[side, name] = _compared(*(sign * np.array(one.finals(_figure(exam))) for one in (mine, other)))
    if not found:
        return {}
    adjusted = multipletests([one.p_value for one in found.values()], method="holm")[1]
    return {key: replace(one, adjusted_p_value=float(p)) for (key, one), p in zip(found.items(), adjusted, strict=True)}


def _figure(exam: Exam) -> str:
    return "growth" if exam.growth_target else "shortfall_bp"


def _compared(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> Comparison:
    difference = float(ours.mean() - theirs.mean())
    if np.ptp(np.concatenate([ours, theirs])) <= ROUNDING:
        return Comparison(0.0, 0.0, 0.0, 1.0)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Precision loss")  # all seeds of one side end alike
        test = ttest_ind(ours, theirs, equal_var=False)
    interval = test.confidence_interval(1.0 - LEVEL)
    return Comparison(difference, float(interval.low), float(interval.high), float(test.pvalue))


def peers(runs: Mapping[tuple[str, str], Runs], algo: str) -> Table:
    """Growth at equal steps, and how far it is from that of each peer."""
    compared = comparisons(runs)
    title = CANDIDATES[algo].title
    header = ["market", title, "seeds"]
    for side in PEERS[algo]:
        header += [CANDIDATES[side].title, "difference (95 %)", "p, Holm"]
    rows = []
    for name, exam in EXAMS.items():
        mine = runs.get((algo, name))
        if mine is None or not any((side, name) in runs for side in PEERS[algo]):
            continue
        is_share = exam.growth_target is not None
        cells = [_spread(mine.finals(_figure(exam)), is_share=is_share), str(len(mine.seeds))]
        for side in PEERS[algo]:
            other = runs.get((side, name))
            cells.append("not run" if other is None else _spread(other.finals(_figure(exam)), is_share=is_share))
            cells += _comparison(compared.get((side, name)), is_share=is_share)
        rows.append([exam.title, *cells])
    note = (
        f"At equal steps, but not on equal information: of each step {title} reads the returns of all assets, the "
        f"peers one reward. Difference: {title} less the peer, of the means over their seeds, with its own 95 % "
        "interval (Welch); in points of the optimal growth, or in basis points a day. An interval that holds 0 shows "
        f"neither difference nor equality. p: by Holm's step-down over all {len(compared)} comparisons of both "
        "algorithms; a star marks those below 5 %."
    )
    return Table(f"At equal steps, {runs_steps(runs, algo):,} each", header, rows, note)


def _comparison(found: Comparison | None, *, is_share: bool) -> list[str]:
    if found is None:
        return ["-", "-"]
    star = " *" if found.adjusted_p_value < LEVEL else ""
    p_value = f"{found.adjusted_p_value:.3f}{star}"
    if found.difference == found.lower == found.upper == 0.0:
        return ["same", p_value]
    scale, digits, unit = (100.0, 1, "") if is_share else (1.0, 2, " bp")
    mean, lower, upper = (f"{scale * value:+.{digits}f}" for value in (found.difference, found.lower, found.upper))
    return [f"{mean} ({lower} to {upper}){unit}", p_value]


def runs_steps(runs: Mapping[tuple[str, str], Runs], algo: str) -> int:
    """Steps of the algorithm's runs."""
    return next((found.steps for (name, _), found in runs.items() if name == algo), STEPS[algo])


def to_ninety(runs: Mapping[tuple[str, str], Runs], algo: str) -> Table:
    """Steps until 90 % of the gap is closed, beside the peers, and processor seconds on the seeds of one processor."""
    sides = [side for side in (algo, *PEERS[algo]) if any(name == side for name, _ in runs)]
    header = [
        "market",
        *(f"{CANDIDATES[side].title}: {unit}" for side in sides for unit in ("steps", "seconds", "seeds")),
    ]
    rows = []
    for name, exam in EXAMS.items():
        is_compared = (algo, name) in runs and any((side, name) in runs for side in PEERS[algo])
        if exam.growth_target is None or not is_compared:
            continue
        cells = []
        for side in sides:
            cells += _reached(runs.get((side, name)), _processors(runs, sides, name))
        rows.append([exam.title, *cells])
    return Table("Until 90 % of the gap between uniform and optimum is closed: medians", header, rows)


def _processors(runs: Mapping[tuple[str, str], Runs], sides: Sequence[str], exam: str) -> set[str]:
    """Processors on which every side has runs: seconds of different ones do not compare."""
    found = [{run["processor"] for run in runs[side, exam].seeds.values()} for side in sides if (side, exam) in runs]
    return set.intersection(*found) if found else set()


def _reached(runs: Runs | None, processors: set[str]) -> list[str]:
    """Median steps over all seeds, median seconds over those on `processors`, and how many of all seeds got there."""
    if runs is None:
        return ["not run", "", ""]
    steps = runs.steps_to()
    seconds = [_first(run, "cpu_s") for run in runs.seeds.values() if run["processor"] in processors]
    return [
        f"{median(steps) / 1000:.0f} k" if math.isfinite(median(steps)) else "never",
        "" if not seconds else f"{median(seconds):.1f}" if math.isfinite(median(seconds)) else "never",
        f"{sum(map(math.isfinite, steps))} of {len(steps)}",
    ]


def processor_time(runs: Mapping[tuple[str, str], Runs]) -> Table:
    """What the runs of each candidate took, evaluations between them left out."""
    rows = []
    for name, candidate in CANDIDATES.items():
        found = [(run, one.steps) for (side, _), one in runs.items() if side == name for run in one.seeds.values()]
        if not found:
            continue
        seconds = [run["curve"][-1]["cpu_s"] for run, _ in found]
        steps = " or ".join(f"{number:,}" for number in sorted({number for _, number in found}))
        processors = " and ".join(sorted({run["processor"] for run, _ in found}))
        rows.append(
            [
                candidate.title,
                processors,
                str(len(found)),
                steps,
                f"{median(seconds):.0f} s",
                f"{sum(seconds) / 60:.0f} min",
            ]
        )
    header = ["candidate", "processor", "runs", "steps of each", "time of each, median", "in all"]
    return Table("Processor time of the certification's runs, one thread each", header, rows)


def _spread(values: Sequence[float], *, is_share: bool = True) -> str:
    if any(math.isnan(value) for value in values):
        return ""
    if is_share:
        return f"{median(values):.1%} ({min(values):.1%} to {max(values):.1%})"
    return f"{-median(values):.2f} ({-max(values):.2f} to {-min(values):.2f}) bp"
