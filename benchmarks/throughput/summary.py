"""From measurements to medians and ranges; nothing is left out as an outlier."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Measurement = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Spread:
    """Median and range of repeated measurements."""

    median: float
    low: float
    high: float
    repetitions: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of at least one value."""
        return cls(statistics.median(values), min(values), max(values), len(values))


@dataclass(frozen=True, slots=True)
class Side:
    """One cell over all repetitions."""

    part: str
    contender: str
    task: str
    setting: Mapping[str, Any]
    by_repetition: Mapping[int, Measurement]

    @property
    def steps_per_second(self) -> Spread:
        """Environment steps per second."""
        return Spread.of([float(m["steps_per_second"]) for m in self.by_repetition.values()])

    @property
    def peak_memory_mb(self) -> float:
        """Of the process and all below it, median."""
        return statistics.median(float(m["peak_memory_mb"]) for m in self.by_repetition.values())

    @property
    def components_us(self) -> dict[str, float]:
        """Microseconds per environment step of each component, medians."""
        rows = [m["components_us"] for m in self.by_repetition.values() if "components_us" in m]
        return {name: statistics.median(row.get(name, 0.0) for row in rows) for name in (rows[0] if rows else ())}

    def summary(self) -> dict[str, Any]:
        """As JSON."""
        spread = self.steps_per_second
        return {
            "part": self.part,
            "contender": self.contender,
            "task": self.task,
            "setting": dict(self.setting),
            "steps_per_second": {"median": spread.median, "range": [spread.low, spread.high]},
            "repetitions": spread.repetitions,
            "peak_memory_mb": self.peak_memory_mb,
            "components_us": self.components_us,
        }


def sides(measurements: Iterable[Measurement]) -> list[Side]:
    """Measurements grouped by cell; failed ones are left out."""
    cells: dict[str, list[Measurement]] = {}
    for measurement in measurements:
        if "error" not in measurement:
            key = json.dumps([measurement[name] for name in ("part", "contender", "task", "setting")], sort_keys=True)
            cells.setdefault(key, []).append(measurement)
    return [
        Side(
            group[0]["part"],
            group[0]["contender"],
            group[0]["task"],
            group[0]["setting"],
            {measurement["repetition"]: measurement for measurement in group},
        )
        for group in cells.values()
    ]


def core_share(measurements: Iterable[Measurement]) -> float | None:
    """Processor time over wall time of measurements with one thread and one process, median: 1 on a free machine."""
    shares = [
        m["cpu_seconds"] / m["seconds"]
        for m in measurements
        if "cpu_seconds" in m
        and m["setting"]["num_threads"] == 1
        and m["setting"]["num_env_runners"] == 0
        and m["contender"] != "sb3_subproc"
    ]
    return round(statistics.median(shares), 3) if shares else None


def fastest(candidates: Iterable[Side]) -> Side | None:
    """The side with the highest median, or None if there is none: a contender in its best thread setting."""
    return max(candidates, key=lambda side: side.steps_per_second.median, default=None)


def ratio(numerator: Side, denominator: Side) -> Spread | None:
    """Speed over speed, repetition by repetition: what slows the machine down for a while slows both."""
    above, below = numerator.by_repetition, denominator.by_repetition
    shared = sorted(set(above) & set(below))
    if not shared:
        return None
    return Spread.of([float(above[i]["steps_per_second"]) / float(below[i]["steps_per_second"]) for i in shared])
