"""The results of `make bench ARGS=scaling` as markdown for benchmarks/README.md, from their JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.evaluation.tables import provenance
from benchmarks.throughput.tables import Table, markdown

Results = Mapping[str, Any]


def content(results: Results) -> str:
    """What it was measured on, and its tables."""
    tables = [_cells(results), _costs(results), _curves(results)]
    return f"{provenance(results['machine'])}\n\n{markdown(tables)}"


def _cells(results: Results) -> Table:
    rows = [
        [
            str(cell["num_env_runners"]),
            str(cell["num_nodes"]),
            f"{cell['steps_per_second']:,.0f}",
            f"{row['model']:,.0f}",
            f"{cell['sampled_per_second']:,.0f}",
            f"{cell['bytes_per_step']:,.0f}",
            f"{cell['weights_bytes'] / 1024:,.0f}",
            f"{1000 * cell['driver_s']:.1f}",
        ]
        for cell, row in zip(results["cells"], results["comparison"], strict=True)
    ]
    head = ["env runners", "nodes", "steps/s", "model", "sampling alone", "bytes a step", "weights, KiB", "driver, ms"]
    return Table("Training over env runners and nodes; driver time of one fragment", head, rows)


def _costs(results: Results) -> Table:
    costs = results["costs"]
    rows = [
        ["steps of a fragment, F", f"{costs['fragment_steps']:,}"],
        ["sampling one, t_s", f"{1000 * costs['sampling_s']:.1f} ms"],
        ["driver, t_d", f"{1000 * costs['driver_s']:.2f} ms"],
        ["weights to one runner, t_w", f"{1000 * costs['weights_s']:.2f} ms"],
        ["learning, F t_l", f"{1000 * costs['fragment_steps'] * costs['learning_s']:.1f} ms"],
        ["model off the measurements, at most", f"{results['off_measured']:.1%}"],
        ["model off the simulation, at most", f"{results['off_simulated']:.1%}"],
    ]
    return Table("What an iteration is made of", ["", ""], rows)


def _curves(results: Results) -> Table:
    rows = []
    for curve in results["curves"]:
        for kind in ("model", "simulation"):
            rates = [f"{rate:,.0f}" for rate in curve[kind]]
            ends = [f"{curve['limit']:,.0f}", f"{curve['half_point']:.2f}"] if kind == "model" else ["", ""]
            rows.append([curve["variant"] if kind == "model" else "simulated", *rates, *ends])
    head = ["steps/s with env runners", *map(str, results["num_env_runners"]), "limit", "half of it at"]
    return Table("More env runners, learners, longer fragments", head, rows)
