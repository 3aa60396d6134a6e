"""The results of the benchmarks of evaluation as markdown for docs/benchmarks.md."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.evaluation.size_and_power import is_within
from benchmarks.tables import Table, markdown, provenance

SHOWN_CORRELATIONS = (0.0, 0.5, 0.8, 0.9)
OVERFITTING = {"noise": "50 trials without skill", "one dominant": "50 trials, one of them with skill"}
PARTS = {
    "metrics": "metrics of the whole period",
    "rolling": "rolling Sharpe ratio, volatility, drawdown and beta",
    "bootstrap": "bootstrap intervals",
    "sharpe tests": "tests of Sharpe differences",
    "superior ability": "test of superior predictive ability",
    "confidence set": "model confidence set",
}
TESTS = {
    "Sharpe, HAC": "Sharpe ratios, robust (HAC) standard errors",
    "Sharpe, bootstrap": "Sharpe ratios, studentised bootstrap",
    "mean active return": "mean active return, stationary bootstrap",
    "verdict": "verdict, from both bootstraps",
}
"""These map the names in the JSON file to texts for the reader."""


def speed(results: Mapping[str, Any]) -> str:
    """Return the machine and the tables of the speed of evaluation."""
    size, walk = results["size"], results["baselines"]
    met = [
        [row["name"], f"{row['at_most_s']:g}", f"{row['seconds']:g}", "met" if row["met"] else "NOT MET"]
        for row in results["targets"]
    ]
    parts = [[PARTS[name], f"{seconds:g}"] for name, seconds in results["seconds"].items()]
    what = f"{size['strategies']} strategies over {size['days']:,} days, with {size['draws']:,} draws of the bootstrap"
    days = f"{walk['rows']} baselines over {walk['days']:,} days, {walk['first_day']} to {walk['last_day']}"
    note = f"The back-test has {days}; {walk['failed_fits']} fits failed."
    tables = [
        Table("Targets", ["task", "target, at most seconds", "seconds", ""], met, note),
        Table(f"Seconds of each part: {what}", ["part", "seconds"], parts),
    ]
    return f"{provenance(results['machine'])}\n\n{markdown(tables)}"


def size_and_power(results: Mapping[str, Any]) -> str:
    """Return the machine, and the table of size and power of each test."""
    settings = results["settings"]
    level, difference = settings["level"], settings["power_at_difference"]
    tests = list(dict.fromkeys(row["test"] for row in results["size"]))
    outside = sum(not is_within(row) for row in results["size"])
    rows = []
    for test in tests:
        sizes = [row["rejected"] for row in results["size"] if row["test"] == test]
        powers = {row["correlation"]: row["rejected"] for row in results["power"] if _is_shown(row, test)}
        cells = (f"{powers[at]:.0%}" if at in powers else "" for at in SHOWN_CORRELATIONS)
        rows.append([TESTS[test], f"{min(sizes):.1%} to {max(sizes):.1%}", *cells])
    head = ["test", "size (rejections without a true difference)", "power at correlation 0"]
    head += [f"at {at:g}" for at in SHOWN_CORRELATIONS[1:]]
    note = (
        f"All tests are at the {level:.0%} level; {outside} of {len(results['size'])} sizes lie outside {level:.0%} +- "
        f"{settings['tolerance']:.1%}. Power is the share of samples of 20 years of normal returns in which a Sharpe "
        "difference of "
        f"{difference} is found, by the correlation of the two strategies. "
    )
    means = (f"{row['mean']:.2f} for {OVERFITTING[name]}" for name, row in results["overfitting"].items())
    note += f"Mean probability of backtest overfitting: {', '.join(means)}."
    return f"{provenance(results['machine'])}\n\n{markdown([Table('Size and power', head, rows, note)])}"


def _is_shown(row: Mapping[str, Any], test: str) -> bool:
    return row["test"] == test and row["process"] == "normal" and row["years"] == 20
