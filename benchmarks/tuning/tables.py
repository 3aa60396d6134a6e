"""The results of `make bench ARGS=tuning` as markdown for benchmarks/README.md, from their JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from statistics import median
from typing import Any

from benchmarks.evaluation.tables import provenance
from benchmarks.throughput.tables import Table, markdown
from benchmarks.tuning.early_stopping import OURS, RANDOM, comparison, medians
from benchmarks.tuning.suite import CONCURRENCY, OVERHEAD, STOPPING

Part = Mapping[str, Any]


def content(results: Mapping[str, Any]) -> str:
    """What each part was measured on, and its tables."""
    builders: dict[str, Callable[[Part], list[Table]]] = {
        STOPPING: _early_stopping,
        CONCURRENCY: _concurrency,
        OVERHEAD: _overhead,
    }
    blocks = [markdown([_targets(results)])]
    for name, builder in builders.items():
        if (part := results["parts"].get(name)) is not None:
            blocks += [markdown(builder(part)), provenance(part["machine"])]
    return "\n\n".join(blocks)


def _targets(results: Mapping[str, Any]) -> Table:
    rows = []
    for row in results["targets"]:
        bound = f"at least {row['at_least']:g}" if "at_least" in row else f"at most {row['at_most']:g}"
        rows.append([row["name"], bound, f"{row['measured']:.3f}", "met" if row["met"] else "NOT MET"])
    return Table("Targets", ["", "target", "measured", ""], rows)


def _early_stopping(part: Part) -> list[Table]:
    settings = part["settings"]
    what = f"{settings['num_samples']} trials of at most {settings['max_steps']:,} steps, {OURS} beside {RANDOM}"
    head = [
        "repetition",
        "true Sharpe",
        "of random",
        "in the search",
        "of random",
        "steps",
        "of random",
        "ratio",
        "stopped",
    ]
    sides = {side: {row["repetition"]: row for row in part["rows"] if row["side"] == side} for side in (OURS, RANDOM)}
    rows = []
    for pair in comparison(part["rows"]):
        ours, theirs = (sides[side][pair["repetition"]] for side in (OURS, RANDOM))
        rows.append([str(pair["repetition"]), *_found(ours, theirs), f"{pair['steps']:.2f}", str(ours["pruned"])])
    middle = medians(part["rows"])
    ours, theirs = (
        {name: median(row[name] for row in sides[side].values()) for name in ("share", "sharpe", "steps", "pruned")}
        for side in (OURS, RANDOM)
    )
    rows.append(["median", *_found(ours, theirs), f"{middle['steps']:.2f}", f"{ours['pruned']:g}"])
    return [Table(what, head, rows)]


def _found(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    both = (ours, theirs)
    true, searched = ([f"{side['share']:.1%}" for side in both], [f"{side['sharpe']:.2f}" for side in both])
    return [*true, *searched, *(f"{side['steps']:,.0f}" for side in both)]


def _concurrency(part: Part) -> list[Table]:
    rows = [[row["name"], f"{row['steps_per_second']:,.0f}", f"{row['wall_s']:.0f}"] for row in part["rows"]]
    settings = part["settings"]
    title = f"{settings['num_samples']} trials of {settings['max_steps']:,} steps on two cores"
    return [Table(title, ["", "steps/s while trials run", "seconds, start of processes included"], rows)]


def _overhead(part: Part) -> list[Table]:
    settings, shares = part["settings"], part["shares"]
    title = (
        f"{settings['num_samples']} trials of {settings['max_steps']:,} steps, {part['slots']} at a time: "
        f"{part['wall_s']:.0f} s"
    )
    return [Table(title, ["", "share of the time"], [[name, f"{share:.1%}"] for name, share in shares.items()])]
