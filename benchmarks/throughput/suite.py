"""The suite: measure the parts, and write the JSON, the picture and the tables."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.machine import description
from benchmarks.throughput import launch, targets
from benchmarks.throughput.chart import draw
from benchmarks.throughput.memory import MemoryJob
from benchmarks.throughput.plan import DEFAULT, FULL, QUICK, Part, dqn_parts, full_parts, quick_parts
from benchmarks.throughput.summary import core_share, sides
from benchmarks.throughput.tables import print_tables, tables

FOLDER = Path(__file__).resolve().parents[1]
RESULTS, PARTIAL = FOLDER / "results", FOLDER.parent / "runs" / "benchmarks"
"""Of complete runs, which are committed, and of others."""
LONG_PARTS = ("memory", "train")
"""One run each, minutes long; not in a quick run unless asked for."""
FREE_CORE_SHARE = 0.95


@dataclass(frozen=True, slots=True)
class Suite:
    """Parts that are measured and written together, into NAME.json."""

    name: str
    parts: Callable[[], dict[str, Part]]
    quick_parts: Callable[[], dict[str, Part]]
    long_parts: tuple[str, ...] = ()

    @property
    def part_names(self) -> tuple[str, ...]:
        """All that can be asked for."""
        return (*self.parts(), *self.long_parts)


SUITES = {
    "throughput": Suite("throughput", full_parts, quick_parts, LONG_PARTS),
    "dqn": Suite("dqn", dqn_parts, dqn_parts),
}


@dataclass(slots=True)
class Results:
    """What a run has found so far, as it goes into the JSON."""

    suite: str
    parts: dict[str, str]
    effort: dict[str, Any]
    machine: dict[str, Any] = field(default_factory=description)
    started: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    measurements: list[dict[str, Any]] = field(default_factory=list)
    memory: dict[str, Any] | None = None
    train_s: float | None = None
    errors: list[str] = field(default_factory=list)
    measured: dict[str, dict[str, Any]] = field(default_factory=dict)
    """For each part: when, of which revision, and the share of its core that a measured process had."""

    def sign(self, parts: Iterable[str]) -> None:
        """Note where and when these parts were measured: now."""
        for part in parts:
            share = core_share(m for m in self.measurements if m["part"] == part)
            revision = self.machine["git_revision"]
            self.measured[part] = {"started": self.started, "git_revision": revision, "core_share": share}

    def keep(self, earlier: Mapping[str, Any], suite: Suite) -> None:
        """Take over what an earlier run measured and this one did not."""
        kept = [part for part in earlier["parts"] if part not in self.parts]
        self.measurements = [m for m in earlier["measurements"] if m["part"] in kept] + self.measurements
        titles = {**earlier["parts"], **self.parts}
        self.parts = {part: titles[part] for part in suite.parts() if part in titles}
        self.memory = self.memory or earlier["memory"]
        self.train_s = self.train_s or earlier["train_s"]
        self.measured = {part: earlier["measured"][part] for part in kept} | self.measured

    def as_json(self) -> dict[str, Any]:
        """With targets and summaries worked out."""
        all_sides = sides(self.measurements)
        return {
            "suite": self.suite,
            "started": self.started,
            "machine": self.machine,
            "effort": self.effort,
            "hyperparameters": asdict(DEFAULT),
            "core_share": core_share(self.measurements),
            "parts": self.parts,
            "targets": targets.checked_dqn(all_sides)
            if self.suite == "dqn"
            else targets.checked(all_sides, self.memory, self.train_s),
            "summary": [side.summary() for side in all_sides],
            "memory": self.memory,
            "train_s": self.train_s,
            "errors": self.errors,
            "measured": self.measured,
            "measurements": self.measurements,
        }


def run(
    suite: Suite, *, quick: bool, only: Sequence[str], repetitions: int | None, output: Path, merge: bool = False
) -> int:
    """Measure, print and write NAME.json, and NAME.png if there is something to draw, into `output`.

    Args:
        suite: What to measure.
        quick: Two minutes instead of an hour.
        only: Parts to measure; empty for all.
        repetitions: Of each cell, or None for the default.
        output: A folder.
        merge: Keep what the file in `output` says of other parts.

    Returns:
        Exit code: 0, or 1 if a measurement failed, or 130 if it was interrupted; what was measured is written anyway,
        but not in the place of what is committed.
    """
    effort = QUICK if quick else FULL
    effort = effort if repetitions is None else replace(effort, repetitions=repetitions)
    parts = _chosen(suite, quick, only)
    long_parts = [name for name in suite.long_parts if name in only or not (only or quick)]
    results = Results(suite.name, parts={name: part.title for name, part in parts.items()}, effort=asdict(effort))
    interrupted = False
    try:
        with launch.market_folder() as folder:
            for part in parts.values():
                progress = _Progress(len(part.cells) * effort.repetitions)
                for measurement in launch.measure_part(part, effort, folder):
                    results.measurements.append(measurement)
                    progress.show(measurement)
            _measure_long(long_parts, folder, results)
    except KeyboardInterrupt:
        interrupted = True
    results.errors += [m["error"] for m in results.measurements if "error" in m]
    results.sign(parts)
    if merge:
        results.keep(json.loads((output / f"{suite.name}.json").read_text()), suite)
    write(results.as_json(), PARTIAL if interrupted and output == RESULTS else output)
    return 130 if interrupted else int(bool(results.errors))


def write(values: dict[str, Any], output: Path) -> None:
    """Print the tables; write the JSON and the picture."""
    print_tables(tables(values))
    output.mkdir(parents=True, exist_ok=True)
    path = output / f"{values['suite']}.json"
    path.write_text(json.dumps(values, indent=1) + "\n")
    has_picture = draw(values, path.with_suffix(".png"))
    if (share := values["core_share"]) is not None and share < FREE_CORE_SHARE:
        print(f"warning: a measured process had {share:.0%} of its core. Others used the machine: measure again.")
    for error in values["errors"]:
        print(f"error: {error}")
    print(f"Wrote {path}{f' and {path.stem}.png' if has_picture else ''}.")


def _chosen(suite: Suite, quick: bool, only: Sequence[str]) -> dict[str, Part]:
    """The parts named; one that a quick run leaves out is taken from the full plan."""
    parts = suite.quick_parts() if quick else suite.parts()
    if not only:
        return parts
    return {name: parts.get(name, part) for name, part in suite.parts().items() if name in only}


def _measure_long(names: Sequence[str], folder: Path, results: Results) -> None:
    for name in names:
        print(f"{name:<12}one long run ...", flush=True)
        try:
            if name == "memory":
                job = MemoryJob(str(folder)).to_json()
                results.memory = launch.answer_of("benchmarks.throughput.memory", job, num_threads=1)
            else:
                results.train_s = round(launch.seconds_of_training(), 1)
        except launch.WorkerError as error:
            results.errors.append(str(error))


class _Progress:
    """One line for each measurement of a part."""

    def __init__(self, total: int) -> None:
        self._total, self._done, self._started = total, 0, time.perf_counter()

    def show(self, measurement: dict[str, Any]) -> None:
        """A measurement is there."""
        self._done += 1
        setting = measurement["setting"]
        left_s = (time.perf_counter() - self._started) / self._done * (self._total - self._done)
        speed = "FAILED" if "error" in measurement else f"{measurement['steps_per_second']:>12,.0f} steps/s"
        print(
            f"{measurement['part']:<12}{self._done:>3}/{self._total:<4}{measurement['contender']:<12}"
            f"{measurement['task']:<7}{setting['num_envs']:>4} envs {setting['num_threads']} thr. "
            f"{speed}   ({left_s:.0f} s left of this part)",
            flush=True,
        )
