"""What is often said of such systems, beside what was measured here; verdicts follow from the figures."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.learning.tables import Runs, collected
from benchmarks.throughput.summary import Side, sides
from benchmarks.throughput.tables import Table

Row = tuple[str, str, bool | None]
"""What was measured, where, and whether the claim holds; None where it cannot be told."""
_VERDICT = {True: "held", False: "refuted", None: "cannot be told"}
BUDGET_ENVS = 8


def table(results: Path) -> Table:
    """Every claim whose figures are there."""
    rows = []
    for claim, measure in _CLAIMS.items():
        found = measure(results)
        if found is not None:
            measured, command, holds = found
            rows.append([claim, measured, command, _VERDICT[holds]])
    return Table("Commonly quoted, and measured", ["claim", "measured here", "by", ""], rows)


def _json(path: Path) -> dict[str, Any] | None:
    return json.loads(path.read_text()) if path.is_file() else None


def _speed(results: Path, part: str, contender: str, num_envs: int) -> float | None:
    """Median steps a second in the better thread setting."""
    values = _json(results / "throughput.json")
    if values is None:
        return None
    found: list[Side] = [
        side
        for side in sides(values["measurements"])
        if (side.part, side.contender, side.setting["num_envs"]) == (part, contender, num_envs)
    ]
    return max((side.steps_per_second.median for side in found), default=None)


def _steps_a_second(results: Path) -> Row | None:
    trained, sampled = (_speed(results, part, "ours", BUDGET_ENVS) for part in ("training", "sampling"))
    if trained is None or sampled is None:
        return None
    text = f"training {trained:,.0f} (10 epochs of minibatches of 64), sampling alone {sampled:,.0f}"
    return text, "`make bench`", trained >= 850.0


def _many_environments(results: Path) -> Row | None:
    eight, one = (_speed(results, "sampling", "ours", number) for number in (BUDGET_ENVS, 1))
    if eight is None or one is None:
        return None
    return (
        f"{eight / one:.1f} times the sampling of one environment, in one process",
        "`make bench`",
        eight / one >= 7.0,
    )


def _memory(results: Path) -> Row | None:
    values = _json(results / "dqn.json")
    if values is None:
        return None
    ours, theirs = (_replay_memory(values, f"replay_{side}") for side in ("ours", "stock"))
    saved = 1.0 - ours / theirs
    text = f"{saved:.0%} less than RLlib's prioritized episode buffer"
    sizes = f"{ours:.2f} against {theirs:.2f} of its observations; what it holds to learn from all actions comes on top"
    return f"{text} ({sizes})", "`make bench ARGS=dqn`", saved >= 0.395


def _replay_memory(values: Mapping[str, Any], contender: str) -> float:
    """Of a full buffer, over that of its observations."""
    rows = [row for row in values["measurements"] if row["contender"] == contender]
    return median(row["buffer_mb"] / row["observations_mb"] for row in rows)


def _ablation(results: Path) -> dict[str, dict[str, Any]] | None:
    values = _json(results / "ablation.json")
    return {row["variant"]: row for row in values["summary"]} if values else None


_ABLATION = "`python -m benchmarks.learning.ablation`"


def _prioritized(results: Path) -> Row | None:
    rows = _ablation(results)
    if rows is None:
        return None
    plain, other = (rows[name]["steps_to_90"] or math.inf for name in ("vanilla", "+ prioritized"))
    text = f"steps to 90 % of the optimum: {_thousands(other)}, without {_thousands(plain)}"
    return text, _ABLATION, None if math.isinf(plain) and math.isinf(other) else other <= 0.7 * plain


def _thousands(steps: float) -> str:
    return f"{steps / 1000:.0f} k" if math.isfinite(steps) else "never"


def _double(results: Path) -> Row | None:
    rows = _ablation(results)
    if rows is None:
        return None
    plain, other = rows["vanilla"]["overestimation"], rows["+ double"]["overestimation"]
    return f"from {plain:+.2f} to {other:+.2f} log wealth, medians of five seeds", _ABLATION, other <= 0.75 * plain


def _dueling(results: Path) -> Row | None:
    rows = _ablation(results)
    if rows is None:
        return None
    plain, other = rows["vanilla"], rows["+ dueling"]
    low, high = plain["final_growth_range"]
    overlaps = low <= other["final_growth_range"][1] and other["final_growth_range"][0] <= high
    text = f"{other['final_growth']:.0%} of the optimal growth against {plain['final_growth']:.0%}"
    text += "; ranges overlap" if overlaps else ""
    return text, _ABLATION, None if overlaps else other["final_growth"] >= 1.15 * plain["final_growth"]


def _half_the_steps(results: Path) -> Row | None:
    runs = collected(results / "certification")
    ratios = []
    for (name, exam), mine in runs.items():
        peer = runs.get(("ppo-rllib", exam))
        if name == "ppo" and peer is not None and all(map(math.isfinite, (_steps(mine), _steps(peer)))):
            ratios.append(_steps(mine) / _steps(peer))
    if not ratios:
        return None
    text = f"{median(ratios):.2f} of stock RLlib PPO's steps to 90 % of the gap, median of {len(ratios)} markets"
    return f"{text} that both reach", "`python -m benchmarks.learning.certification`", median(ratios) <= 0.5


def _steps(runs: Runs) -> float:
    return median(runs.steps_to())


def _walk(results: Path) -> dict[str, Any] | None:
    return _json(results / "real_data" / "walk" / "results.json")


_WALK = "`python -m benchmarks.real_data walk`"


def _sharpe(results: Path) -> Row | None:
    values = _walk(results)
    if values is None:
        return None
    found = {name: values["strategies"][name]["sharpe_ratio"] for name in [*values["subjects"], "1/N"]}
    text = ", ".join(f"{name} {sharpe:.2f}" for name, sharpe in found.items())
    return f"{text}; 2000 to 2022, out of sample", _WALK, max(found.values()) >= 1.8


def _ppo_over_dqn(results: Path) -> Row | None:
    values = _walk(results)
    if values is None:
        return None
    by_algo = {name.split()[0].lower(): values["strategies"][name]["sharpe_ratio"] for name in values["subjects"]}
    gain = by_algo["ppo"] / by_algo["dqn"] - 1.0
    return f"Sharpe ratio {gain:+.0%} of DQN's (ensembles of five seeds)", _WALK, gain >= 0.2


_CLAIMS: dict[str, Callable[[Path], Row | None]] = {
    "850 steps a second with 8 environments": _steps_a_second,
    "8 environments are 7 times as fast as one": _many_environments,
    "the replay buffer takes 40 % less memory": _memory,
    "prioritized replay needs 30 % fewer samples": _prioritized,
    "double Q lowers overestimation by a quarter": _double,
    "dueling helps by 15 %": _dueling,
    "converges in half the steps": _half_the_steps,
    "PPO is 20 to 30 % better than DQN, adjusted for risk": _ppo_over_dqn,
    "Sharpe ratios of 1.8 to 2.2": _sharpe,
}
