"""One measurement in a process of its own: `python -m benchmarks.throughput.measure JOB`, JOB and answer as JSON.

The answer is the last line of standard output: steps_per_second, steps, seconds, cpu_seconds (of this process; if it is
far below seconds x threads, others had the cores), load_average, and the facts that a contender adds.
"""

from __future__ import annotations

import json
import logging
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.machine import load_average
from benchmarks.throughput.contenders import build
from benchmarks.throughput.setting import Setting, market_file


def measure(
    contender: str, task: str, setting: Setting, measure_s: float, warmup_iterations: int, market_folder: Path
) -> dict[str, Any]:
    """Run a contender, and return its speed.

    Args:
        contender: A key of CONTENDERS.
        task: "sample": collect only; "train": collect and update.
        setting: What all contenders are given.
        measure_s: Seconds to measure at least; at least one iteration.
        warmup_iterations: Iterations that do not count.
        market_folder: Where prepared markets are kept.
    """
    torch.set_num_threads(setting.num_threads)
    measured = build(contender, setting, market_file(setting.num_assets, market_folder))
    iterate: Callable[[], int] = getattr(measured, task)
    try:
        for _ in range(warmup_iterations):
            iterate()
        steps, seconds, cpu_before, started = 0, 0.0, time.process_time(), time.perf_counter()
        while seconds < measure_s:
            steps += iterate()
            seconds = time.perf_counter() - started
        return {
            "steps_per_second": round(steps / seconds, 1),
            "steps": steps,
            "seconds": round(seconds, 3),
            "cpu_seconds": round(time.process_time() - cpu_before, 3),
            "load_average": load_average(),
            **measured.facts,
        }
    finally:
        measured.close()


def main() -> None:
    """Answer the job on the command line."""
    warnings.simplefilter("ignore")
    logging.getLogger("ray.rllib").setLevel(logging.ERROR)
    job = json.loads(sys.argv[1])
    values = job.pop("setting")
    setting = Setting(**values | {"hidden_sizes": tuple(values["hidden_sizes"])})
    print(json.dumps(measure(**job | {"setting": setting, "market_folder": Path(job["market_folder"])})), flush=True)


if __name__ == "__main__":
    main()
