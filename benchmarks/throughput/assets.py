"""PPO's per-asset network over 20 to 3,000 assets and 20 years: `python -m benchmarks.throughput.assets [--quick]`.

Measures the seconds to prepare a market, the speed of training beside a bare loop, and the seconds and the peak memory
of a walk-forward fold. Each measurement is a process of its own, one at a time; memory is the sum of the resident sets
of all of its processes, Ray's included.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.machine import description, destination, output_of, write_record
from benchmarks.tables import Table, markdown, provenance

NUM_ASSETS, QUICK_NUM_ASSETS = (20, 100, 500, 3000), (20, 60)
REPETITIONS = 3
"""Of each speed; ours and the bare loop alternate."""
TIMEOUT_S = 3600
SAMPLE_S = 0.1
"""Seconds between two looks at the memory."""
GIB = 2**30
LARGEST_GIB = {500: 2.5, 3000: 10.0}
LEAST_SHARE = {500: 0.7}
LONGEST_FOLD_S = 600.0


def run(output: Path, *, quick: bool = False) -> int:
    """Measure, print, and write assets.json into `output`.

    Returns:
        Exit code 0; a target that is missed is no error.
    """
    machine, rows = description(), []
    repetitions, measure_s = (1, 1.0) if quick else (REPETITIONS, 5.0)
    for num_assets in QUICK_NUM_ASSETS if quick else NUM_ASSETS:
        with tempfile.TemporaryDirectory(prefix="benchmarks-") as folder:
            job = {"num_assets": num_assets, "folder": folder, "measure_s": measure_s}
            row: dict[str, Any] = {"num_assets": num_assets, "prepare": measured("prepare", job)}
            pairs = [{name: measured(name, job) for name in ("ours", "bare")} for _ in range(repetitions)]
            rows.append(row | {"pairs": pairs, "fold": measured("fold", job)})
            print(json.dumps(rows[-1]), flush=True)
    write_record(output / "assets.json", {"suite": "assets", "machine": machine, "rows": rows})
    return 0


def content(results: Mapping[str, Any]) -> str:
    """Return where the benchmark was run, its targets, and its table."""
    targets, rows = [], []
    for row in results["rows"]:
        num_assets, peak, fold_s = row["num_assets"], row["fold"]["peak_bytes"] / GIB, row["fold"]["seconds"]
        speeds = [[pair[name]["steps_per_second"] for pair in row["pairs"]] for name in ("ours", "bare")]
        shares = [ours / bare for ours, bare in zip(*speeds, strict=True)]
        share = statistics.median(shares)
        cells = (f"{row['prepare']['seconds']:.2g}", *(f"{statistics.median(speed):,.0f}" for speed in speeds))
        spread = f"{share:.2f} ({min(shares):.2f} to {max(shares):.2f})"
        rows.append([f"{num_assets:,}", *cells, spread, f"{fold_s:.0f}", f"{peak:.2f}"])
        for name, side, measured, bound, is_met in (
            (
                "memory of a fold, GiB",
                "below",
                peak,
                LARGEST_GIB.get(num_assets),
                peak < LARGEST_GIB.get(num_assets, peak),
            ),
            (
                "speed / bare loop",
                "at least",
                share,
                LEAST_SHARE.get(num_assets),
                share >= LEAST_SHARE.get(num_assets, share),
            ),
            (
                "seconds per fold",
                "below",
                fold_s,
                LONGEST_FOLD_S if num_assets == NUM_ASSETS[-1] else None,
                fold_s < LONGEST_FOLD_S,
            ),
        ):
            if bound is not None:
                met = "met" if is_met else "NOT MET"
                targets.append([f"{num_assets:,} assets: {name}", f"{side} {bound:g}", f"{measured:.3g}", met])
    head = [
        "assets",
        "prepare, s",
        "steps/s",
        "bare loop, steps/s",
        "speed / bare loop (range)",
        "seconds per fold",
        "memory of a fold, GiB",
    ]
    tables = [
        Table("Targets", ["", "target", "measured", ""], targets),
        Table("tune_configs/ppo_per_asset.yaml over 5,040 rows", head, rows),
    ]
    return f"{provenance(results['machine'])}\n\n{markdown(tables)}"


def measured(name: str, job: Mapping[str, Any], module: str = "benchmarks.throughput.asset_jobs") -> dict[str, float]:
    """Return the answer of a job of `module`, with the largest memory of its processes, in bytes."""
    with _peak_memory() as peak:
        text = output_of(module, json.dumps({**job, "job": name}), timeout_s=TIMEOUT_S)
    answer: dict[str, float] = json.loads(text.strip().splitlines()[-1])
    return answer | {"peak_bytes": max(peak)}


@contextmanager
def _peak_memory() -> Iterator[list[int]]:
    """Yield a list to which the memory of this process's descendants is appended until the context ends."""
    import ray  # noqa: F401 - makes its copy of psutil importable
    from psutil import Error, Process

    found, ends = [0], threading.Event()

    def watch() -> None:
        while not ends.wait(SAMPLE_S):
            total = 0
            for process in Process().children(recursive=True):
                try:
                    total += process.memory_info().rss
                except Error:  # it has just ended
                    continue
            found.append(total)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield found
    finally:
        ends.set()
        thread.join()


if __name__ == "__main__":
    folder, is_quick = destination("benchmarks.throughput.assets", __doc__)
    sys.exit(run(folder, quick=is_quick))
