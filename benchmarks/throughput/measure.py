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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.machine import load_average
from benchmarks.throughput.contenders import build
from benchmarks.throughput.setting import Setting, market_file


@dataclass(frozen=True, slots=True)
class Job:
    """What to measure.

    Attributes:
        contender: A key of CONTENDERS.
        task: "sample": collect only; "train": collect and update.
        setting: What all contenders are given.
        measure_s: Seconds to measure at least; at least one iteration.
        warmup_iterations: Iterations that do not count.
        market_folder: Where prepared markets are kept.
    """

    contender: str
    task: str
    setting: Setting
    measure_s: float
    warmup_iterations: int
    market_folder: str

    @classmethod
    def from_json(cls, text: str) -> Job:
        """Return what `json.dumps(dataclasses.asdict(job))` gave."""
        values = json.loads(text)
        setting = values.pop("setting")
        setting["hidden_sizes"] = tuple(setting["hidden_sizes"])
        return cls(setting=Setting(**setting), **values)


def measure(job: Job) -> dict[str, Any]:
    """Run the contender, and return its speed."""
    torch.set_num_threads(job.setting.num_threads)
    contender = build(job.contender, job.setting, market_file(job.setting.num_assets, Path(job.market_folder)))
    iterate: Callable[[], int] = getattr(contender, job.task)
    try:
        for _ in range(job.warmup_iterations):
            iterate()
        steps, seconds, cpu_before, started = 0, 0.0, time.process_time(), time.perf_counter()
        while seconds < job.measure_s:
            steps += iterate()
            seconds = time.perf_counter() - started
        return {
            "steps_per_second": round(steps / seconds, 1),
            "steps": steps,
            "seconds": round(seconds, 3),
            "cpu_seconds": round(time.process_time() - cpu_before, 3),
            "load_average": load_average(),
            **getattr(contender, "facts", {}),
        }
    finally:
        contender.close()


def main() -> None:
    """Answer the job on the command line."""
    warnings.simplefilter("ignore")
    logging.getLogger("ray.rllib").setLevel(logging.ERROR)
    print(json.dumps(measure(Job.from_json(sys.argv[1]))), flush=True)


if __name__ == "__main__":
    main()
