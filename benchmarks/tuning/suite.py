"""`make bench ARGS=tuning`: its parts, its targets and its JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.machine import description
from benchmarks.tuning import early_stopping, processes

SUITE = "tuning"
STOPPING, CONCURRENCY, OVERHEAD = "early-stopping", "concurrency", "overhead"
PARTS = (STOPPING, CONCURRENCY, OVERHEAD)
LEAST_GAIN, MOST_STEPS, LEAST_THROUGHPUT, MOST_OVERHEAD = 0.0, 0.65, 0.85, 0.15


def run(output: Path, *, only: Sequence[str] = (), merge: bool = False, repetitions: int | None, quick: bool) -> int:
    """Measure, print and write tuning.json into `output`.

    Args:
        output: Folder.
        only: Parts; all without.
        merge: Keep the other parts of the file that is there.
        repetitions: Of the searches with and without stopping.
        quick: Small searches, which say nothing but that all works.

    Returns:
        Exit code 0: a target that is missed is reported, not an error.
    """
    path = output / f"{SUITE}.json"
    parts = json.loads(path.read_text())["parts"] if merge and path.is_file() else {}
    count = repetitions or (1 if quick else early_stopping.REPETITIONS)
    measures: dict[str, Callable[[], dict[str, Any]]] = {
        STOPPING: lambda: early_stopping.measure(count, quick=quick),
        CONCURRENCY: lambda: processes.measure_concurrency(quick=quick),
        OVERHEAD: lambda: processes.measure_overhead(quick=quick),
    }
    for part in only or PARTS:
        machine = description()
        parts[part] = {"machine": machine, **measures[part]()}
        record = {
            "suite": SUITE,
            "targets": targets(parts),
            "parts": {name: parts[name] for name in PARTS if name in parts},
        }
        output.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(record) + "\n")
    for row in targets(parts):
        print(f"{row['name']:<70}{row['measured']:>8.3f}   {'met' if row['met'] else 'NOT MET'}")
    print(f"Wrote {path}.")
    return 0


def targets(parts: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What the issue asks for, beside what was measured, of the parts that were."""
    rows = []
    if STOPPING in parts:
        found = early_stopping.medians(parts[STOPPING]["rows"])
        rows += [
            _at_least("Sharpe ratio found, less that of random search, share of the best", LEAST_GAIN, found["share"]),
            _at_most("environment steps / those of random search", MOST_STEPS, found["steps"]),
        ]
    if CONCURRENCY in parts:
        speeds = processes.steps_per_second(parts[CONCURRENCY]["rows"])
        together, alone = (speeds[name] for name in processes.PLACES)
        rows.append(_at_least("steps/s of 4 trials at a time / one after another", LEAST_THROUGHPUT, together / alone))
    if OVERHEAD in parts:
        overhead = 1.0 - parts[OVERHEAD]["shares"]["training"]
        rows.append(_at_most("share of a search's time that is not training", MOST_OVERHEAD, overhead))
    return rows


def _at_least(name: str, bound: float, measured: float) -> dict[str, Any]:
    return {"name": name, "at_least": bound, "measured": round(measured, 4), "met": measured >= bound}


def _at_most(name: str, bound: float, measured: float) -> dict[str, Any]:
    return {"name": name, "at_most": bound, "measured": round(measured, 4), "met": measured <= bound}
