"""`make results`, or `python -m benchmarks.reproduce [PART ...] [--quick]`.

Regenerates every figure and table of README.md and docs/RESULTS.md. A part that has ended is not run again (--again
runs it anew); one that was interrupted goes on where it stopped. Parts, in order:
"""

from __future__ import annotations

import argparse
import signal
import sys

from benchmarks.reproduce import documents
from benchmarks.reproduce.parts import PARTS, Places
from benchmarks.reproduce.runner import run


def main() -> int:
    """Run what is missing, then fill the documents."""
    arguments = _parser().parse_args()
    for stop in (signal.SIGINT, signal.SIGTERM):  # what runs below is stopped as well, in the background too
        signal.signal(stop, signal.default_int_handler)
    places = Places.quick() if arguments.quick else Places()
    if not arguments.tables:
        code = run({name: PARTS[name] for name in arguments.parts or PARTS}, places, again=arguments.again)
        if code:
            return code
    documents.fill(places)
    return 0


def _parser() -> argparse.ArgumentParser:
    parts = "\n".join(f"  {name:<16}{part.title}" for name, part in PARTS.items())
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.reproduce",
        description=f"{__doc__}\n{parts}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], metavar="PART", help="default: all")
    parser.add_argument("--quick", action="store_true", help="minutes, under runs/reproduce-quick: says nothing")
    parser.add_argument("--again", action="store_true", help="make parts anew, without what is there of them")
    parser.add_argument("--tables", action="store_true", help="only fill the documents from the results that are there")
    return parser


if __name__ == "__main__":
    sys.exit(main())
