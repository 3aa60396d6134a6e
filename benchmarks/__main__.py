"""`python -m benchmarks`: see benchmarks/README.md."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.throughput import report
from benchmarks.throughput.suite import FOLDER, PARTIAL, RESULTS, SUITES, run

SINGLE = {
    "evaluation": "evaluation_speed",
    "size-and-power": "size_and_power",
    "tear-sheet": "tear_sheet",
    "tuning": "tuning",
    "scaling": "scaling",
}
"""Not suites of contenders and cells, by the name of the JSON file and of the marks in the README."""


def main() -> int:
    """Run a suite."""
    parser = _parser()
    arguments = parser.parse_args()
    if arguments.suite in SINGLE:
        return _single(parser, arguments)
    suite = SUITES[arguments.suite]
    if unknown := set(arguments.only) - set(suite.part_names):
        parser.error(f"--only must be one of {', '.join(suite.part_names)}, got {', '.join(sorted(unknown))}")
    for stop in (signal.SIGINT, signal.SIGTERM):  # what was measured so far is written, in the background too
        signal.signal(stop, signal.default_int_handler)
    is_complete = not (arguments.quick or arguments.only or arguments.repetitions)
    # Only a complete run goes where the committed results are, or one that is merged into them.
    is_committed = is_complete or arguments.merge
    output = arguments.output or (RESULTS if is_committed else PARTIAL)
    code = run(
        suite,
        quick=arguments.quick,
        only=arguments.only,
        repetitions=arguments.repetitions,
        output=output,
        merge=arguments.merge,
    )
    if is_committed and output == RESULTS and not code:
        _fill_readme(output / f"{suite.name}.json", report.content)
    return code


def _single(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> int:
    """Run it; a complete run's tables go into the README."""
    from benchmarks.evaluation import size_and_power, speed, tables, tear_sheet  # seconds to import

    if arguments.suite == "tuning":
        return _tuning(parser, arguments)
    if arguments.suite == "scaling":
        return _scaling(arguments)
    if arguments.only or arguments.merge:
        parser.error(f"--only and --merge are for {', '.join(SUITES)}, tuning; {arguments.suite} has no parts")
    if arguments.repetitions and arguments.suite != "tear-sheet":
        parser.error(f"--repetitions is not for {arguments.suite}, which measures once")
    is_complete = not (arguments.quick or arguments.repetitions)
    output = arguments.output or (RESULTS if is_complete else PARTIAL)
    if arguments.suite == "tear-sheet":
        code = tear_sheet.run(output, arguments.repetitions, quick=arguments.quick)
    else:
        module = speed if arguments.suite == "evaluation" else size_and_power
        code = module.run(output, quick=arguments.quick)
    path = output / f"{SINGLE[arguments.suite]}.json"
    if is_complete and output == RESULTS and path.is_file():
        _fill_readme(path, tables.content)
    return code


def _tuning(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> int:
    """Run it, or parts of it; what is complete goes into the README."""
    from benchmarks.tuning import suite, tables

    if unknown := set(arguments.only) - set(suite.PARTS):
        parser.error(f"--only must be one of {', '.join(suite.PARTS)}, got {', '.join(sorted(unknown))}")
    is_committed = arguments.merge or not (arguments.quick or arguments.repetitions or arguments.only)
    output = arguments.output or (RESULTS if is_committed else PARTIAL)
    code = suite.run(
        output,
        only=arguments.only,
        merge=arguments.merge,
        repetitions=arguments.repetitions,
        quick=arguments.quick,
    )
    if is_committed and output == RESULTS:
        _fill_readme(output / f"{suite.SUITE}.json", tables.content)
    return code


def _scaling(arguments: argparse.Namespace) -> int:
    """Run it; what is complete goes into the README."""
    from benchmarks.cluster import scaling, tables

    output = arguments.output or (PARTIAL if arguments.quick else RESULTS)
    code = scaling.run(output, quick=arguments.quick)
    if not arguments.quick and output == RESULTS:
        _fill_readme(output / "scaling.json", tables.content)
    return code


def _fill_readme(path: Path, content: Callable[[Mapping[str, Any]], str]) -> None:
    results, readme = json.loads(path.read_text()), FOLDER / "README.md"
    readme.write_text(report.replaced(readme.read_text(), results["suite"], content(results)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Speed beside peers, and statistics.")
    parser.add_argument("suite", nargs="?", choices=[*SUITES, *SINGLE], default="throughput")
    parser.add_argument("--quick", action="store_true", help="minutes at most: fewer and smaller measurements")
    parser.add_argument("--only", action="append", default=[], metavar="PART", help="one part; may be repeated")
    parser.add_argument("--repetitions", type=int, help="of each measurement (default: 3, or 1 with --quick)")
    parser.add_argument(
        "--merge", action="store_true", help="with --only: put the parts into the file of an earlier complete run"
    )
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="default: benchmarks/results, or runs/benchmarks for a partial run"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
