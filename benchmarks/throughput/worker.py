"""One measurement in a process of its own: `python -m benchmarks.throughput.worker JOB`, JOB and answer as JSON.

The answer is the last line of standard output: steps_per_second, steps, seconds, cpu_seconds (of this process; if it is
far below seconds x threads, others had the cores), peak_memory_mb, load_average and, where asked for, microseconds of
each component per environment step.
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

from benchmarks.machine import load_average, peak_memory_mb
from benchmarks.throughput.contenders import build
from benchmarks.throughput.setting import Setting, market_file
from benchmarks.throughput.stopwatch import Stopwatch


@dataclass(frozen=True, slots=True)
class Job:
    """What to measure."""

    contender: str
    """A key of CONTENDERS."""
    task: str
    """"sample": collect only; "train": collect and update."""
    setting: Setting
    measure_s: float
    """Measure at least so long, and at least one iteration."""
    warmup_iterations: int
    with_components: bool
    market_folder: str
    """Where prepared markets are kept."""

    @classmethod
    def from_json(cls, text: str) -> Job:
        """What `json.dumps(dataclasses.asdict(job))` gave."""
        values = json.loads(text)
        setting = values.pop("setting")
        setting["hidden_sizes"] = tuple(setting["hidden_sizes"])
        return cls(setting=Setting(**setting), **values)


def measure(job: Job) -> dict[str, Any]:
    """Do it."""
    torch.set_num_threads(job.setting.num_threads)
    contender = build(job.contender, job.setting, market_file(job.setting.num_assets, Path(job.market_folder)))
    try:
        for _ in range(job.warmup_iterations):
            getattr(contender, job.task)()
        stopwatch = Stopwatch()
        if job.with_components:
            stopwatch.attach(contender.watched())
        cpu_before = time.process_time()
        steps, seconds = _timed(getattr(contender, job.task), job.measure_s)
        answer = {
            "steps_per_second": round(steps / seconds, 1),
            "steps": steps,
            "seconds": round(seconds, 3),
            "cpu_seconds": round(time.process_time() - cpu_before, 3),
            "peak_memory_mb": peak_memory_mb(),
            "load_average": load_average(),
        }
        answer |= getattr(contender, "facts", {})
        if job.with_components:
            answer["components_us"] = _per_step(stopwatch, steps, seconds)
        return answer
    finally:
        contender.close()


def _timed(iterate: Callable[[], int], at_least_s: float) -> tuple[int, float]:
    """Steps and seconds of whole iterations."""
    steps, started = 0, time.perf_counter()
    while True:
        steps += iterate()
        seconds = time.perf_counter() - started
        if seconds >= at_least_s:
            return steps, seconds


def _per_step(stopwatch: Stopwatch, steps: int, seconds: float) -> dict[str, float]:
    """Microseconds per environment step, with what no component took as `rest`."""
    parts = dict(stopwatch.seconds)
    parts["rest"] = seconds - sum(parts.values())
    return {name: round(1e6 * value / steps, 3) for name, value in parts.items()}


def main() -> None:
    """Answer the job on the command line."""
    warnings.simplefilter("ignore")
    logging.getLogger("ray.rllib").setLevel(logging.ERROR)
    print(json.dumps(measure(Job.from_json(sys.argv[1]))), flush=True)


if __name__ == "__main__":
    main()
