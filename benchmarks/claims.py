"""The table of commonly quoted claims, each with the measured figure and the verdict that follows from it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.learning.tables import collected
from benchmarks.tables import Table
from benchmarks.throughput.tables import fastest, speeds

Row = tuple[str, str, bool | None]
"""The measured figures, the benchmark that measures them, and whether the claim holds; None if they do not tell."""
_VERDICT = {True: "confirmed", False: "refuted", None: "inconclusive"}
_BENCH = "`benchmarks.throughput`"
_ABLATION = "`benchmarks.learning.ablation`"
_WALK = "`benchmarks.real_data walk`"


def table(results: Path) -> Table:
    """Return every claim with its verdict.

    Args:
        results: Folder of all results.
    """
    found = {**_of_speed(results), **of_ablation(results), **_of_learning(results)}
    rows = [[claim, measured, name, _VERDICT[holds]] for claim, (measured, name, holds) in found.items()]
    return Table("Claims and measurements", ["claim", "measured here", "benchmark", "verdict"], rows)


def _json(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text()))


def _of_speed(results: Path) -> dict[str, Row]:
    cells = speeds(_json(results / "throughput.json")["measurements"])

    def speed(part: str, num_envs: int) -> float:
        row = fastest(cells, ["ours"], part=part, num_envs=num_envs)
        assert row is not None
        return float(row.median())

    trained, sampled = speed("training", 8), speed("sampling", 8)
    times = sampled / speed("sampling", 1)
    replay = [each for each in _json(results / "dqn.json")["measurements"] if each["part"] == "replay"]
    ours, theirs = (
        median(each["buffer_mb"] / each["observations_mb"] for each in replay if each["contender"] == f"replay_{side}")
        for side in ("ours", "stock")
    )
    saved = 1.0 - ours / theirs
    return {
        "850 steps a second with 8 environments": (
            f"{trained:,.0f} steps a second in training (10 epochs of minibatches of 64), {sampled:,.0f} when only "
            "sampling",
            _BENCH,
            trained >= 850.0,
        ),
        "8 environments are 7 times as fast as one": (
            f"{times:.1f} times as fast when only sampling, in one process",
            _BENCH,
            times >= 7.0,
        ),
        "the replay buffer takes 40 % less memory": (
            f"{saved:.0%} less than RLlib's prioritized episode buffer ({ours:.2f} against {theirs:.2f} times the size "
            "of the observations, without the data for counterfactual actions)",
            "`benchmarks.throughput dqn`",
            saved >= 0.395,
        ),
    }


def of_ablation(results: Path) -> dict[str, Row]:
    """Return the claims about the parts of DQN; a variant that never reaches 90 % has infinitely many steps."""
    rows = {row["variant"]: row for row in _json(results / "ablation.json")["summary"]}
    plain, double, dueling = rows["vanilla"], rows["+ double"], rows["+ dueling"]
    steps, fewer = (rows[name]["steps_to_90"] or math.inf for name in ("vanilla", "+ prioritized"))
    low, high = plain["final_growth_range"]
    overlaps = low <= dueling["final_growth_range"][1] and dueling["final_growth_range"][0] <= high
    growth = f"{dueling['final_growth']:.0%} of the optimal growth with it, {plain['final_growth']:.0%} without"
    return {
        "prioritized replay needs 30 % fewer samples": (
            f"{_thousands(fewer)} steps to 90 % of the optimal growth with it, {_thousands(steps)} without",
            _ABLATION,
            None if math.isinf(steps) and math.isinf(fewer) else fewer <= 0.7 * steps,
        ),
        "double Q-learning lowers overestimation by a quarter": (
            f"{plain['overestimation']:+.2f} without it, {double['overestimation']:+.2f} with it, in log wealth "
            "(medians of five seeds)",
            _ABLATION,
            double["overestimation"] <= 0.75 * plain["overestimation"],
        ),
        "a dueling network helps by 15 %": (
            growth + ("; the ranges of the seeds overlap" if overlaps else ""),
            _ABLATION,
            None if overlaps else dueling["final_growth"] >= 1.15 * plain["final_growth"],
        ),
    }


def _thousands(steps: float) -> str:
    return f"{1000 * round(steps / 1000):,}" if math.isfinite(steps) else "infinitely many"


def _of_learning(results: Path) -> dict[str, Row]:
    steps = {key: median(runs.steps_to()) for key, runs in collected(results / "certification").items()}
    pairs = [(mine, steps.get(("ppo-rllib", exam), math.inf)) for (name, exam), mine in steps.items() if name == "ppo"]
    ratios = [mine / peer for mine, peer in pairs if math.isfinite(mine) and math.isfinite(peer)]
    walk = _json(results / "real_data" / "walk" / "results.json")
    sharpes = {name: walk["strategies"][name]["sharpe_ratio"] for name in [*walk["subjects"], "1/N"]}
    gain = sharpes["PPO ensemble"] / sharpes["DQN ensemble"] - 1.0
    found = ", ".join(f"{name} {sharpe:.2f}" for name, sharpe in sharpes.items())
    return {
        "PPO converges in half the steps": (
            f"PPO needs {median(ratios):.2f} times the steps of unmodified RLlib PPO to close 90 % of the gap (median "
            f"of the {len(ratios)} markets on which both close it)",
            "`benchmarks.learning.certification`",
            median(ratios) <= 0.5,
        ),
        "PPO is 20 to 30 % better than DQN, adjusted for risk": (
            f"Sharpe ratio of PPO {abs(gain):.0%} {'above' if gain >= 0.0 else 'below'} that of DQN (ensembles of five "
            "seeds)",
            _WALK,
            gain >= 0.2,
        ),
        "trained policies have Sharpe ratios of 1.8 to 2.2": (
            f"{found}; 2000 to 2022, out of sample",
            _WALK,
            max(sharpes.values()) >= 1.8,
        ),
    }
