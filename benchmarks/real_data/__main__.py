"""`python -m benchmarks.real_data [PART ...] [--quick]`: each part, or all of them in order.

defaults: how the settings of tune_configs/ppo.yaml were chosen, on days before 2000; what is there is not made again
variants: every variant on days before 2000, one JSON each; what is there is not made again
walk:     the chosen configurations on the bundled universe, out of sample 2000-2022: `backtest.py walk-forward`
factors:  the same, unchanged, on skfolio's five factor funds, 2014-2022
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.machine import RESULTS, ROOT
from benchmarks.real_data import defaults, study, walks

PARTS = ("defaults", "variants", "walk", "factors")
QUICK = ROOT / "runs" / "real-data-quick"


def main() -> int:
    """Run the parts."""
    parser = _parser()
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(PARTS):
        parser.error(f"PART must be one of {', '.join(PARTS)}, got {', '.join(sorted(unknown))}")
    folder = arguments.output or (QUICK / "results" if arguments.quick else RESULTS / "real_data")
    runs = arguments.runs or (QUICK if arguments.quick else ROOT / "runs" / "real-data")
    for part in arguments.parts or PARTS:
        if part == "variants":
            study.run(folder, quick=arguments.quick, only=arguments.only)
        elif part == "defaults":
            defaults.run(folder, quick=arguments.quick, only=arguments.only)
        elif code := walks.run(part, folder, runs, quick=arguments.quick):
            return code
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.real_data", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)} (default: all)")
    parser.add_argument("--quick", action="store_true", help="minutes: few steps, seeds and folds; says nothing")
    parser.add_argument("--only", action="append", default=[], metavar="VARIANT", help="may be repeated")
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="small results (default: benchmarks/results/real_data)"
    )
    parser.add_argument("--runs", type=Path, metavar="DIR", help="walk-forward folders (default: runs/real-data)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
