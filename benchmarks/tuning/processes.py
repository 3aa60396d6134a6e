"""Trials on the bundled universe by the clock: several at a time, and what a search takes besides training.

PPO's defaults and the search space of tune_configs/ppo.yaml, nothing stopped; Ray has been started before the clock.
"""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.machine import load_average
from benchmarks.tuning.searching import ppo_record, searched, started_ray
from benchmarks.tuning.timing import as_json, shares, throughput
from rllib_portfolio.experiments.search.runner import Place

STEPS, QUICK_STEPS = 50_000, 10_000
TOGETHER = 4
PLACES = {
    f"{TOGETHER} at a time": Place(num_cpus=0.5, max_concurrent=TOGETHER),
    "one after another": Place(num_cpus=1.0, max_concurrent=1),
}
NUM_TRIALS, QUICK_TRIALS = 50, 3
SLOTS = 2


def measure_concurrency(*, quick: bool) -> dict[str, Any]:
    """The same trials at a time and one after another: environment steps per second while trials run."""
    steps = QUICK_STEPS if quick else STEPS
    # Random search with one seed: both sides get the same settings.
    record = ppo_record({"num_samples": TOGETHER, "max_steps": steps, "search": "random", "scheduler": "none"})
    rows = []
    for name, place in PLACES.items():
        load = load_average()
        with tempfile.TemporaryDirectory() as folder, started_ray(record):
            _, clock = searched(record, Path(folder) / "search", place)
        trials = list(clock.trials.values())
        row = {
            "name": name,
            "steps_per_second": round(throughput(trials), 1),
            "steps": sum(trial.steps for trial in trials),
            "wall_s": round(clock.wall_s, 2),
            "load_average": load,
            "trials": as_json(clock.trials),
        }
        rows.append(row)
        print(f"{name:<20}{row['steps_per_second']:>8,.0f} steps/s, {row['wall_s']:.0f} s in all", flush=True)
    return {"settings": record.settings.model_dump(mode="json"), "rows": rows}


def measure_overhead(*, quick: bool) -> dict[str, Any]:
    """Where the time of a search goes, two trials at a time."""
    trials, steps = (QUICK_TRIALS, QUICK_STEPS) if quick else (NUM_TRIALS, STEPS)
    record = ppo_record({"num_samples": trials, "max_steps": steps, "scheduler": "none"})
    load = load_average()
    with tempfile.TemporaryDirectory() as folder, started_ray(record):
        _, clock = searched(record, Path(folder) / "search", Place(max_concurrent=SLOTS))
    found = shares(list(clock.trials.values()), clock.wall_s, SLOTS)
    print(f"{trials} trials in {clock.wall_s:.0f} s, {found.overhead:.1%} of it not training: {found}", flush=True)
    return {
        "settings": record.settings.model_dump(mode="json"),
        "slots": SLOTS,
        "wall_s": round(clock.wall_s, 2),
        "load_average": load,
        "shares": asdict(found),
        "trials": as_json(clock.trials),
    }


def steps_per_second(rows: list[dict[str, Any]]) -> dict[str, float]:
    """By the names of `PLACES`."""
    return {row["name"]: row["steps_per_second"] for row in rows}
