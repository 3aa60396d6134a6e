"""The results of this folder's benchmarks as markdown for benchmarks/README.md, from their JSON."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.evaluation.size_and_power import HAC, is_within
from benchmarks.throughput.tables import Table, markdown


def content(results: Mapping[str, Any]) -> str:
    """What it was measured on, and its tables."""
    builders: dict[str, Callable[[Mapping[str, Any]], list[Table]]] = {
        "evaluation_speed": _speed,
        "size_and_power": _size_and_power,
        "tear_sheet": _tear_sheet,
    }
    return f"{provenance(results['machine'])}\n\n{markdown(builders[results['suite']](results))}"


def _speed(results: Mapping[str, Any]) -> list[Table]:
    size, walk = results["size"], results["baselines"]
    met = [
        [row["name"], f"{row['at_most_s']:g}", f"{row['seconds']:g}", "met" if row["met"] else "NOT MET"]
        for row in results["targets"]
    ]
    parts = [[name, f"{seconds:g}"] for name, seconds in results["seconds"].items()]
    what = f"{size['strategies']} strategies, {size['days']} days, {size['draws']} draws"
    days = f"{walk['rows']} baselines over {walk['days']} days, {walk['first_day']} to {walk['last_day']}"
    return [
        Table("Targets", ["", "at most, s", "seconds", ""], met),
        Table(f"Parts: {what}; {days}, {walk['failed_fits']} failed fits", ["", "seconds"], parts),
    ]


def _size_and_power(results: Mapping[str, Any]) -> list[Table]:
    settings = results["settings"]
    level, tolerance = settings["level"], settings["tolerance"]
    difference, resamples = settings["power_at_difference"], settings["bootstrap_resamples"]
    head = ["test", "returns", "years", "correlation", "samples", "rejected", "+-"]
    sizes = [[*_where(row), "" if is_within(row) else "OUTSIDE"] for row in results["size"]]
    powers = [[*_where(row), f"{row['theory']:.1%}" if row["test"] == HAC else ""] for row in results["power"]]
    found = [
        [name, str(row["num_matrices"]), f"{row['mean']:.3f}", f"{row['error']:.3f}"]
        for name, row in results["overfitting"].items()
    ]
    return [
        Table(f"Rejected at {level:.0%} where nothing differs: {level:.0%} +- {tolerance:.1%}", [*head, ""], sizes),
        Table(f"Found of a Sharpe difference of {difference}, bootstraps of {resamples}", [*head, "theory"], powers),
        Table("Probability of backtest overfitting", ["trials", "matrices", "mean", "+-"], found),
    ]


def _where(row: Mapping[str, Any]) -> list[str]:
    cell = [row["test"], row["process"], str(row["years"]), f"{row['correlation']:g}", str(row["num_samples"])]
    return [*cell, f"{row['rejected']:.1%}", f"{row['error']:.1%}"]


def _tear_sheet(results: Mapping[str, Any]) -> list[Table]:
    rows = []
    for row in results["rows"]:
        medians = {side: statistics.median(seconds) for side, seconds in row["seconds"].items()}
        sides = [f"{medians[side]:.2f}" for side in ("ours", "quantstats")]
        rows.append([str(row["days"]), *sides, f"{row['ratio_median']:.2f}"])
    head = ["days", "ours, s", f"quantstats {results['quantstats']}, s", "quantstats / ours"]
    return [Table("A tear sheet from finished returns, medians", head, rows)]


def provenance(machine: Mapping[str, Any]) -> str:
    """What something was measured on."""
    revision = (machine["git_revision"] or "unknown")[:12]
    clean = "" if machine["git_is_clean"] else " with changes that were not committed"
    return (
        f"{machine['processor']}, {machine['cores']} cores, {machine['system']}, Python {machine['python']}, numpy "
        f"{machine['packages']['numpy']}; revision {revision}{clean}; load average {machine['load_average']}."
    )
