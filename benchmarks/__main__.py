"""`python -m benchmarks`: see benchmarks/README.md."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

from benchmarks.evaluation import tear_sheet
from benchmarks.throughput.suite import SUITES, run

FOLDER = Path(__file__).resolve().parent
TEAR_SHEET = "tear-sheet"
"""No suite of parts: two sides and one ratio."""


def main() -> int:
    """Run a suite."""
    parser = _parser()
    arguments = parser.parse_args()
    if arguments.suite == TEAR_SHEET:
        is_committed = not (arguments.quick or arguments.repetitions)
        folder = FOLDER / "results" if is_committed else FOLDER.parent / "runs" / "benchmarks"
        return tear_sheet.run(arguments.output or folder, arguments.repetitions, quick=arguments.quick)
    suite = SUITES[arguments.suite]
    if unknown := set(arguments.only) - set(suite.part_names):
        parser.error(f"--only must be one of {', '.join(suite.part_names)}, got {', '.join(sorted(unknown))}")
    for stop in (signal.SIGINT, signal.SIGTERM):  # what was measured so far is written, in the background too
        signal.signal(stop, signal.default_int_handler)
    is_complete = not (arguments.quick or arguments.only)
    # Only a complete run goes where the committed results are, or one that is merged into them.
    is_committed = is_complete or arguments.merge
    output = arguments.output or (FOLDER / "results" if is_committed else FOLDER.parent / "runs" / "benchmarks")
    return run(
        suite,
        quick=arguments.quick,
        only=arguments.only,
        repetitions=arguments.repetitions,
        output=output,
        merge=arguments.merge,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Speed, measured beside its peers.")
    parser.add_argument("suite", nargs="?", choices=[*SUITES, TEAR_SHEET], default="throughput")
    parser.add_argument("--quick", action="store_true", help="two minutes: one thread, one repetition, fewer cells")
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
