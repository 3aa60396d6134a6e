"""Environment steps a second beside the peers: `python -m benchmarks.throughput [throughput|dqn|gpu] [--quick]`.

Each measurement is a process of its own, one at a time. In each repetition the cells of a part are visited in random
order, and in the next one the other way round, so that a drift of the machine's speed favours nobody. A complete run is
written to benchmarks/results, another to runs/benchmarks; `python -m benchmarks.documents` makes the tables.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.machine import RESULTS, SCRATCH, description, output_of
from benchmarks.throughput.setting import Setting
from benchmarks.throughput.tables import core_share
from rllib_portfolio.atomic import write_json

DEFAULT = Setting()
LARGE = Setting(num_envs=64, minibatch_size=512)
BOTH_THREADS = (1, 2)
FREE_CORE_SHARE = 0.95
TIMEOUT_S = 900


@dataclass(frozen=True, slots=True)
class Cell:
    """One thing to measure, several times: `task` is "train" (sample and update) or "sample" (collect only)."""

    part: str
    contender: str
    task: str
    setting: Setting


def _cells(part: str, contenders: str, task: str, setting: Setting, threads: Sequence[int] = (1,)) -> list[Cell]:
    return [
        Cell(part, contender, task, replace(setting, num_threads=count))
        for contender in contenders.split()
        for count in threads
    ]


def ppo_cells() -> list[Cell]:
    """Return what is measured of PPO and of the environment."""
    cells = _cells("training", "ours stock stock_sync sb3_dummy sb3_subproc bare", "train", DEFAULT, BOTH_THREADS)
    cells += _cells("large", "ours stock bare", "train", LARGE, BOTH_THREADS)
    for num_envs in (1, 4, 8, 64, 256):  # fragments of about 4096 steps, of 32 rows at least and 256 at most
        setting = replace(DEFAULT, num_envs=num_envs, rollout_steps=min(256, max(32, 4096 // num_envs)))
        threads, sync = (BOTH_THREADS, " stock_sync") if num_envs in (8, 64) else ((1,), "")
        cells += _cells("sampling", f"ours stock{sync} bare", "sample", setting, threads)
    cells += _cells("environment", "kernel vector_env", "sample", replace(DEFAULT, num_envs=256))
    for count in (1, 2):
        setting = replace(LARGE, num_env_runners=count, rollout_steps=64)
        cells += _cells("runners", "ours stock", "sample", setting) + _cells("runners", "ours stock", "train", setting)
    for count in (20, 100, 500):
        setting = replace(LARGE, num_assets=count, rollout_steps=64)
        cells += _cells("assets", "ours bare", "train", setting) + _cells("assets", "vector_env", "sample", setting)
    return cells


def dqn_cells() -> list[Cell]:
    """Return what is measured of DQN and of its replay buffer."""
    cells = _cells("dqn", "dqn_ours dqn_stock dqn_sb3", "train", DEFAULT)
    return cells + _cells("replay", "replay_ours replay_stock", "train", DEFAULT)


def gpu_cells() -> list[Cell]:
    """Return what is measured of PPO on a machine with a GPU: whole iterations, sampling on the CPU."""
    cells = []
    for sizes in ((256, 256), (1024, 1024), (4096, 4096)):
        for minibatch in (512, 8192):
            setting = replace(DEFAULT, num_envs=256, minibatch_size=minibatch, hidden_sizes=sizes)
            if sizes[0] <= 1024:  # wider networks take minutes an iteration
                cells += _cells("gpu", "ours", "train", setting, (1, 8))
            cells += _cells("gpu", "ours", "train", replace(setting, device="cuda"))
            cells += _cells("gpu", "ours", "train", replace(setting, device="cuda", mixed_precision="bf16"))
    return cells


SUITES = {"throughput": ppo_cells, "dqn": dqn_cells, "gpu": gpu_cells}
"""Maps the name of the JSON file to the function that returns the measurements."""


def in_order(cells: Sequence[Cell], repetition: int) -> list[Cell]:
    """Return the cells shuffled, and for the next repetition the other way round."""
    order = list(cells)
    random.Random(repetition // 2).shuffle(order)
    return order[::-1] if repetition % 2 else order


def measurements(cells: Sequence[Cell], effort: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Measure all cells, part after part; what fails has an `error` instead of a speed."""
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as folder:
        for part in dict.fromkeys(cell.part for cell in cells):
            for repetition in range(effort["repetitions"]):
                for cell in in_order([each for each in cells if each.part == part], repetition):
                    yield {**asdict(cell), "repetition": repetition, **_answer(cell, effort, folder)}


def _answer(cell: Cell, effort: dict[str, Any], folder: str) -> dict[str, Any]:
    pace = {name: effort[name] for name in ("measure_s", "warmup_iterations")}
    job = {"contender": cell.contender, "task": cell.task, "setting": asdict(cell.setting), "market_folder": folder}
    module, num_threads = "benchmarks.throughput.measure", cell.setting.num_threads
    try:
        text = output_of(module, json.dumps(job | pace), num_threads=num_threads, timeout_s=TIMEOUT_S)
        answer: dict[str, Any] = json.loads(text.strip().splitlines()[-1])
    except (RuntimeError, ValueError, IndexError) as error:
        return {"error": str(error)}
    return answer


def run(suite: str, cells: Sequence[Cell], effort: dict[str, Any], folder: Path) -> int:
    """Measure, and write NAME.json; returns the exit code, 1 if a measurement failed."""
    path = folder / f"{suite}.json"
    unfinished = SCRATCH / f"{suite}.json"
    started = datetime.now(UTC).isoformat(timespec="seconds")
    values: dict[str, Any] = {"suite": suite, "started": started, "machine": description(), "effort": effort}
    values["measurements"] = []
    for each in (path, unfinished):
        each.parent.mkdir(parents=True, exist_ok=True)
    total = len(cells) * effort["repetitions"]
    for count, found in enumerate(measurements(cells, effort), start=1):
        values["measurements"].append(found)
        write_json(unfinished, values)  # what was measured stays, whatever ends this process
        setting = found["setting"]
        speed = "FAILED" if "error" in found else f"{found['steps_per_second']:,.0f} steps/s"
        print(
            f"{count:>3}/{total}  {found['part']:<12}{found['contender']:<13}{found['task']:<7}"
            f"{setting['num_envs']:>4} envs {setting['num_threads']} threads {speed:>18}",
            flush=True,
        )
    values["core_share"] = core_share(values["measurements"])
    write_json(path, values)
    errors = [each["error"] for each in values["measurements"] if "error" in each]
    for error in errors:
        print(f"error: {error}", file=sys.stderr)
    if (values["core_share"] or 1.0) < FREE_CORE_SHARE:
        print(f"warning: a measured process had {values['core_share']:.0%} of its core. Others used the machine.")
    print(f"Wrote {path}.")
    return int(bool(errors))


def main() -> int:
    """Run a suite."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.throughput", description=__doc__)
    parser.add_argument("suite", nargs="?", choices=list(SUITES), default="throughput")
    parser.add_argument("--quick", action="store_true", help="one repetition of a second, with one thread")
    parser.add_argument("--only", action="append", default=[], metavar="PART", help="one part; may be repeated")
    parser.add_argument("--repetitions", type=int, help="of each measurement (default: 3, or 1 with --quick)")
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="default: benchmarks/results, or runs/benchmarks for a partial run"
    )
    arguments = parser.parse_args()
    cells = SUITES[arguments.suite]()
    parts = {cell.part for cell in cells}
    if unknown := set(arguments.only) - parts:
        parser.error(f"--only must be one of {', '.join(sorted(parts))}, got {', '.join(sorted(unknown))}")
    effort = {"repetitions": 3, "measure_s": 5.0, "warmup_iterations": 2}
    if arguments.quick:
        effort = {"repetitions": 1, "measure_s": 1.0, "warmup_iterations": 1}
        cells = [cell for cell in cells if cell.setting.num_threads == 1]
    effort["repetitions"] = arguments.repetitions or effort["repetitions"]
    cells = [cell for cell in cells if not arguments.only or cell.part in arguments.only]
    is_complete = not (arguments.quick or arguments.only or arguments.repetitions)
    try:
        return run(arguments.suite, cells, effort, arguments.output or (RESULTS if is_complete else SCRATCH))
    except KeyboardInterrupt:
        print(f"Interrupted. What was measured is in {SCRATCH / arguments.suite}.json.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
