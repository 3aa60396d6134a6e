"""Analytic policy gradients beside a bare loop, over 20 to 500 assets: `python -m benchmarks.throughput.apg [--quick]`.

Each measurement is a process of its own, one at a time, and those that are compared alternate. Ratios are of the
least processor time per step of an iteration, which other processes on the machine affect less than the clock.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.machine import description, destination, write_record
from benchmarks.tables import Table, markdown, provenance
from benchmarks.throughput.assets import GIB, measured

MODULE = "benchmarks.throughput.apg_jobs"
NUM_ASSETS, QUICK_NUM_ASSETS = (20, 100, 500), (20,)
CONTENDERS = {
    "learner": "`starts: learner`",
    "env_runners": "`starts: env_runners`",
    "bare": "bare loop",
    "stacked": "5 stacked seeds",
}
STACKED_NUM_ASSETS = 20
REPETITIONS = 3
LEAST_SHARE = 0.8


def run(output: Path, *, quick: bool = False) -> int:
    """Measure, print, and write apg_speed.json into `output`.

    Returns:
        Exit code 0; a target that is missed is no error.
    """
    machine, rows = description(), []
    repetitions, measure_s = (1, 0.5) if quick else (REPETITIONS, 5.0)
    for num_assets in QUICK_NUM_ASSETS if quick else NUM_ASSETS:
        names = [name for name in CONTENDERS if name != "stacked" or num_assets == STACKED_NUM_ASSETS]
        with tempfile.TemporaryDirectory(prefix="benchmarks-") as folder:
            job = {"num_assets": num_assets, "folder": folder, "measure_s": measure_s}
            measured("prepare", job, MODULE)
            found = [{name: measured(name, job, MODULE) for name in names} for _ in range(repetitions)]
        rows.append({"num_assets": num_assets, "repetitions": found})
        print(json.dumps(rows[-1]), flush=True)
    write_record(output / "apg_speed.json", {"suite": "apg_speed", "machine": machine, "rows": rows})
    return 0


def content(results: Mapping[str, Any]) -> str:
    """Return where the benchmark was run, its targets, and its table."""
    targets, rows, note = [], [], ""
    for row in results["rows"]:
        label, found = f"{row['num_assets']:,}", row["repetitions"]
        share = statistics.median(_shares(found, "learner"))
        met = "met" if share >= LEAST_SHARE else "NOT MET"
        targets.append([f"{label} assets: speed / bare loop", f"at least {LEAST_SHARE:g}", f"{share:.2f}", met])
        rows += [[label, CONTENDERS[name], *_figures(found, name)] for name in found[0]]
        if "stacked" in found[0]:
            spread = _spread(_shares(found, "stacked", "learner"))
            note = f"Speed of 5 stacked seeds / 5 seeds one after the other: {spread}."
    head = ["assets", "", "steps/s", "least processor time per step, µs", "speed / bare loop (range)", "memory, GiB"]
    tables = [
        Table("Targets", ["", "target", "measured", ""], targets),
        Table("Defaults over 5,040 rows; a step of each seed counts", head, rows, note),
    ]
    return f"{provenance(results['machine'])}\n\n{markdown(tables)}"


def _figures(found: list[dict[str, Any]], name: str) -> list[str]:
    speed, cpu_s, peak = (
        statistics.median(each[name][figure] for each in found)
        for figure in ("steps_per_second", "cpu_seconds_per_step", "peak_bytes")
    )
    share = "" if name == "bare" else _spread(_shares(found, name))
    return [f"{speed:,.0f}", f"{1e6 * cpu_s:.0f}", share, f"{peak / GIB:.2f}"]


def _shares(found: list[dict[str, Any]], name: str, other: str = "bare") -> list[float]:
    """Return the speed of a contender, in steps per second of processor time, over that of another."""
    return [each[other]["cpu_seconds_per_step"] / each[name]["cpu_seconds_per_step"] for each in found]


def _spread(shares: list[float]) -> str:
    return f"{statistics.median(shares):.2f} ({min(shares):.2f} to {max(shares):.2f})"


if __name__ == "__main__":
    folder, is_quick = destination("benchmarks.throughput.apg", __doc__)
    sys.exit(run(folder, quick=is_quick))
