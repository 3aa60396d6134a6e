"""The certification suite's runs as tables, for docs/RESULTS.md, and what they say about each claim."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from scipy.stats import ttest_rel

from benchmarks.learning.certification import CANDIDATES, STEPS, run_file
from benchmarks.learning.known_optima import EXAMS, Exam
from benchmarks.throughput.tables import Table

REACHED = 0.9
"""Share of the gap between uniform and optimum."""
LEVEL = 0.05
ROUNDING = 1e-6
"""Weights are float32 here and float64 there: shares or basis points that differ by less are the same."""
STANDARD_ERRORS = 2.0
"""Inside sampling error."""
LEAST_SEEDS = 3
FRESH = "-fresh"
"""Ends the name of a candidate whose seeds nothing was chosen on."""
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
                found[name, exam] = Runs(values["steps"], dict(sorted(values["seeds"].items())))
    return found


def certificates(runs: Mapping[tuple[str, str], Runs]) -> Table:
    """How close each algorithm comes to each optimum."""
    header = ["market", "target"]
    for algo in ("PPO", "DQN"):
        header += [f"{algo}: growth", "gap closed", "seeds", ""]
    rows = []
    for name, exam in EXAMS.items():
        cells = []
        for algo in ("ppo", "dqn"):
            cells += _certificate(name, exam, _certified(runs, algo, name))
        rows.append([exam.title, _target(exam), *cells])
    return Table("Share of the optimal growth, and of the gap between uniform and optimum that is closed", header, rows)


def _certified(runs: Mapping[tuple[str, str], Runs], algo: str, exam: str) -> Runs | None:
    """The runs that speak for an algorithm: those with more steps, and seeds that nothing was chosen on, if there are.

    Fewer than three seeds speak for nothing.
    """
    for name in (f"{algo}-long{FRESH}", f"{algo}-long", f"{algo}{FRESH}"):
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
    counts = [len(found.seeds) for found in best.values() if found is not None]
    seeds = " to ".join(str(count) for count in sorted({min(counts), max(counts)}))
    title = f"Growth and gap as shares of the optimum: median and range of {seeds} seeds"
    return Table(title, ["market", "PPO: growth", "gap closed", "DQN: growth", "gap closed"], rows)


def fresh(runs: Mapping[tuple[str, str], Runs]) -> Table | None:
    """The seeds that settings were found on, and others; None if there are no others."""
    rows = []
    for name, candidate in CANDIDATES.items():
        for exam in candidate.all_exams if name.endswith(FRESH) else ():
            seen, unseen = runs.get((name.removesuffix(FRESH), exam)), runs.get((name, exam))
            if seen is None or unseen is None:
                continue
            title = f"{CANDIDATES[name.removesuffix(FRESH)].title}: {EXAMS[exam].title}"
            cells = [*_certificate(exam, EXAMS[exam], seen)[:2], *_certificate(exam, EXAMS[exam], unseen)]
            rows.append([title, _target(EXAMS[exam]), *cells])
    header = ["", "target", "seeds 0 to 4: growth", "gap closed", "fresh seeds: growth", "gap closed", "seeds", ""]
    return Table("On the seeds that settings were found on, and on fresh ones", header, rows) if rows else None


def tuning_gain(values: Mapping[str, Any]) -> Table:
    """The search's configuration beside the default, on seeds and days that the search has not seen."""
    rows = []
    for side in ("default", "tuned"):
        cells = []
        for window in ("validation", "test"):
            found = [row[window] for row in values["rows"] if row["side"] == side]
            sharpes = [figures["sharpe"] for figures in found]
            cells.append(f"{median(sharpes):.3f} ({min(sharpes):.3f} to {max(sharpes):.3f})")
            cells.append(f"{found[0]['equal_weight_sharpe']:.3f}")
            cells.append(f"{median(figures['ir'] for figures in found):+.2f}")
        rows.append([side, str(len(found)), *cells])
    columns = [f"{window}: {what}" for window in ("validation", "test") for what in ("Sharpe", "1/N's", "IR")]
    return Table("Default and tuned PPO", ["configuration", "seeds", *columns], rows)


def _target(exam: Exam) -> str:
    parts = [f"growth {exam.growth_target:.0%}"] if exam.growth_target else []
    parts += [f"gap {exam.gap_target:.0%}"] if exam.gap_target else []
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
    return growth and median(runs.finals("gap")) >= (exam.gap_target or 0.0)


def peers(runs: Mapping[tuple[str, str], Runs], algo: str) -> Table:
    """Growth at equal steps, and steps and processor time to 90 % of the gap, beside the peers."""
    sides = [name for name, candidate in CANDIDATES.items() if name in (algo, f"{algo}-sb3", f"{algo}-rllib")]
    header = ["market"]
    for side in sides:
        header += [CANDIDATES[side].title, "p" if side != algo else "seeds"]
    rows = []
    for name, exam in EXAMS.items():
        mine = runs.get((algo, name))
        if mine is None:
            continue
        cells = []
        for side in sides:
            other = runs.get((side, name))
            figure = "growth" if exam.growth_target else "shortfall_bp"
            cells.append("not run" if other is None else _spread(other.finals(figure), is_share=figure == "growth"))
            cells.append(str(len(mine.seeds)) if side == algo else _p_value(mine, other, figure))
        rows.append([exam.title, *cells])
    return Table(f"At equal steps, {runs_steps(runs, algo):,} each", header, rows)


def runs_steps(runs: Mapping[tuple[str, str], Runs], algo: str) -> int:
    """Steps of the algorithm's runs."""
    return next((found.steps for (name, _), found in runs.items() if name == algo), STEPS[algo])


def _p_value(mine: Runs, other: Runs | None, figure: str) -> str:
    """Of no difference, paired over the seeds that both have (two-sided t), and who is ahead."""
    pairs = [] if other is None else _pairs(mine, other, figure)
    if len(pairs) < 2:
        return "-"
    ours, theirs = ([pair[i] for pair in pairs] for i in (0, 1))
    if np.allclose(ours, theirs, rtol=0.0, atol=ROUNDING):
        return "same"
    p = float(ttest_rel(ours, theirs).pvalue)
    ahead = (sum(ours) > sum(theirs)) == (figure != "shortfall_bp")
    return f"{'ahead' if ahead else 'behind'}, {p:.3f}{' *' if p < LEVEL else ''}"


def _pairs(mine: Runs, other: Runs, figure: str) -> list[tuple[float, float]]:
    both = [seed for seed in mine.seeds if seed in other.seeds]
    return [(mine.seeds[seed]["final"][figure], other.seeds[seed]["final"][figure]) for seed in both]


def to_ninety(runs: Mapping[tuple[str, str], Runs], algo: str) -> Table:
    """Steps until 90 % of the gap is closed, beside the peers, and processor seconds on the seeds of one processor."""
    sides = [side for side in (algo, f"{algo}-sb3", f"{algo}-rllib") if any(name == side for name, _ in runs)]
    header = [
        "market",
        *(f"{CANDIDATES[side].title}: {unit}" for side in sides for unit in ("steps", "seconds", "seeds")),
    ]
    rows = []
    for name, exam in EXAMS.items():
        if exam.growth_target is None or (algo, name) not in runs:
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


def efficiency(runs: Mapping[tuple[str, str], Runs]) -> Table:
    """Steps to 90 % of the gap with 1, 8 and 64 environments."""
    sides = {"ppo-1-env": "1 environment", "ppo-8-envs": "8", "ppo": "64"}
    rows = []
    for exam in CANDIDATES["ppo-1-env"].exams:
        cells = []
        for side in sides:
            found = runs.get((side, exam))
            cells.append("not run" if found is None else _steps_spread(found.steps_to()))
        rows.append([EXAMS[exam].title, *cells])
    return Table("PPO: steps until 90 % of the gap is closed, median (range)", ["market", *sides.values()], rows)


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


def _steps_spread(steps: Sequence[float]) -> str:
    def text(value: float) -> str:
        return f"{value / 1000:.0f} k" if math.isfinite(value) else "never"

    return f"{text(median(steps))} ({text(min(steps))} to {text(max(steps))}), {len(steps)} seeds"


def _spread(values: Sequence[float], *, is_share: bool = True) -> str:
    if any(math.isnan(value) for value in values):
        return ""
    if is_share:
        return f"{median(values):.1%} ({min(values):.1%} to {max(values):.1%})"
    return f"{-median(values):.2f} ({-max(values):.2f} to {-min(values):.2f}) bp"
