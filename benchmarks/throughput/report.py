"""Tables, picture and README from a run's JSON: `python -m benchmarks.throughput.report [FILE] [--readme]`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.throughput.chart import draw
from benchmarks.throughput.tables import markdown, print_tables, tables

FOLDER = Path(__file__).resolve().parents[1]


def main() -> None:
    """Read, print, draw, and on request fill the README."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.throughput.report", description=__doc__)
    parser.add_argument("file", type=Path, nargs="?", default=FOLDER / "results" / "throughput.json")
    parser.add_argument("--readme", action="store_true", help="put the tables into benchmarks/README.md")
    arguments = parser.parse_args()
    results = json.loads(arguments.file.read_text())
    print_tables(tables(results))
    draw(results, arguments.file.with_suffix(".png"))
    if arguments.readme:
        readme = FOLDER / "README.md"
        readme.write_text(replaced(readme.read_text(), results["suite"], content(results)))


def content(results: Mapping[str, Any]) -> str:
    """What stands between the two marks of a suite: where and when it was measured, and its tables."""
    return f"{_provenance(results)}\n\n{markdown(tables(results))}"


def replaced(text: str, suite: str, content: str) -> str:
    """The README with `content` between the two marks of `suite`.

    Raises:
        ValueError: If a mark is missing.
    """
    first, last = marks(suite)
    before, begin, rest = text.partition(first)
    _, end, after = rest.partition(last)
    if not (begin and end):
        raise ValueError(f"README must hold {first} and {last}, got a text without. Put them back.")
    return f"{before}{first}\n{content}\n{last}{after}"


def marks(suite: str) -> tuple[str, str]:
    """What stands before and after a suite's results in the README."""
    return f"<!-- {suite}: begin -->", f"<!-- {suite}: end -->"


def _provenance(results: Mapping[str, Any]) -> str:
    machine, effort = results["machine"], results["effort"]
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    clean = "" if machine["git_is_clean"] else " with changes that were not committed"
    share = "an unknown share" if results["core_share"] is None else f"{results['core_share']:.0%}"
    revision = (machine["git_revision"] or "unknown")[:12]
    return (
        f"{results['started'][:10]}, {machine['processor']}, {machine['cores']} cores, {machine['memory_gb']:g} GiB, "
        f"{machine['system']}, Python {machine['python']}, {packages}; revision {revision}{clean}; load average at the "
        f"start {machine['load_average']}, {share} of a core for each measured thread. "
        f"{effort['repetitions']} repetitions of at least {effort['measure_s']:g} s.{_earlier_parts(results)}"
    )


def _earlier_parts(results: Mapping[str, Any]) -> str:
    """Which parts come from an earlier run of another revision."""
    revision = results["machine"]["git_revision"]
    earlier = {p: m["git_revision"][:12] for p, m in results["measured"].items() if m["git_revision"] != revision}
    return "".join(f" {part}: revision {other}." for part, other in earlier.items())


if __name__ == "__main__":
    main()
