"""The results of this folder's benchmarks as markdown for benchmarks/README.md, from their JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.evaluation.size_and_power import HAC, is_within
from benchmarks.tables import Table, markdown, provenance


def speed(results: Mapping[str, Any]) -> str:
    """Return where the speed of evaluation was measured, and its tables."""
    size, walk = results["size"], results["baselines"]
    met = [
        [row["name"], f"{row['at_most_s']:g}", f"{row['seconds']:g}", "met" if row["met"] else "NOT MET"]
        for row in results["targets"]
    ]
    parts = [[name, f"{seconds:g}"] for name, seconds in results["seconds"].items()]
    what = f"{size['strategies']} strategies, {size['days']} days, {size['draws']} draws"
    days = f"{walk['rows']} baselines over {walk['days']} days, {walk['first_day']} to {walk['last_day']}"
    tables = [
        Table("Targets", ["", "at most, s", "seconds", ""], met),
        Table(f"Parts: {what}; {days}, {walk['failed_fits']} failed fits", ["", "seconds"], parts),
    ]
    return f"{provenance(results['machine'])}\n\n{markdown(tables)}"


def size_and_power(results: Mapping[str, Any]) -> str:
    """Return where size and power of the tests were measured, and their tables."""
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
    tables = [
        Table(f"Rejected at {level:.0%} where nothing differs: {level:.0%} +- {tolerance:.1%}", [*head, ""], sizes),
        Table(f"Found of a Sharpe difference of {difference}, bootstraps of {resamples}", [*head, "theory"], powers),
        Table("Probability of backtest overfitting", ["trials", "matrices", "mean", "+-"], found),
    ]
    return f"{provenance(results['machine'])}\n\n{markdown(tables)}"


def _where(row: Mapping[str, Any]) -> list[str]:
    cell = [row["test"], row["process"], str(row["years"]), f"{row['correlation']:g}", str(row["num_samples"])]
    return [*cell, f"{row['rejected']:.1%}", f"{row['error']:.1%}"]
