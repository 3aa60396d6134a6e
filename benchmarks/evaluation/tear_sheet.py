"""A tear sheet from finished returns: ours beside quantstats' full HTML report, one strategy and a benchmark.

`make bench ARGS=tear-sheet`. Each side makes its page in a process of its own, in turn, and warms up with one page that
does not count; the ratio is of the two in one repetition. quantstats comes with `pip install -e .[bench]`.

The pages are not the same: ours holds 2000 bootstrap draws, two robust tests, the crises and an interactive plotly
page; quantstats' holds static pictures and no test.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.machine import description

DAYS = (2520, 8313)
REPETITIONS = 5
SIDES = ("ours", "quantstats")
ROOT = Path(__file__).resolve().parents[2]


def run(output: Path, repetitions: int | None = None, *, quick: bool = False) -> int:
    """Measure, print and write tear_sheet.json into `output`.

    Returns:
        Exit code: 0, or 1 where quantstats is missing or a side failed.
    """
    if find_spec("quantstats") is None:
        print("error: quantstats is not installed. Install it: .venv/bin/pip install -c constraints.txt -e '.[bench]'")
        return 1
    count = repetitions or (1 if quick else REPETITIONS)
    rows = []
    for days in DAYS:
        seconds: dict[str, list[float]] = {side: [] for side in SIDES}
        for repetition in range(count):
            for side in SIDES[:: 1 if repetition % 2 == 0 else -1]:  # a drift of the machine's speed favours nobody
                seconds[side].append(_measured(side, days))
        ratios = [theirs / ours for ours, theirs in zip(*seconds.values(), strict=True)]
        rows.append({"days": days, "seconds": seconds, "ratio_median": round(statistics.median(ratios), 2)})
        print(
            f"{days} days: ours {statistics.median(seconds['ours']):.2f} s, quantstats "
            f"{statistics.median(seconds['quantstats']):.2f} s, {rows[-1]['ratio_median']:.2f} times as fast "
            f"({min(ratios):.2f} to {max(ratios):.2f})",
            flush=True,
        )
    output.mkdir(parents=True, exist_ok=True)
    record = {"suite": "tear_sheet", "machine": description(), "quantstats": _version("quantstats"), "rows": rows}
    (output / "tear_sheet.json").write_text(json.dumps(record, indent=1) + "\n")
    print(f"Wrote {output / 'tear_sheet.json'}.")
    return 0


def worker(side: str, days: int) -> float:
    """Seconds for one page, after one that does not count."""
    rng = np.random.default_rng(0)
    index = pd.bdate_range("1990-01-02", periods=days)
    market = rng.normal(4e-4, 0.01, days)
    returns = pd.Series(0.8 * market + rng.normal(1e-4, 0.006, days), index=index, name="strategy")
    benchmark = pd.Series(market, index=index, name="benchmark")
    page = {"ours": _ours, "quantstats": _quantstats}[side]
    with tempfile.TemporaryDirectory() as folder:
        page(returns, benchmark, Path(folder) / "warm.html")()
        make = page(returns, benchmark, Path(folder) / "page.html")
        started = time.perf_counter()
        make()
        elapsed = time.perf_counter() - started
        assert (Path(folder) / "page.html").stat().st_size > 50_000
    return elapsed


def _ours(returns: pd.Series, benchmark: pd.Series, path: Path) -> Callable[[], Any]:
    from rllib_portfolio.reporting.performance_report import generate_performance_report

    values, bar = ((1.0 + each).cumprod() for each in (returns, benchmark))
    return lambda: generate_performance_report({"strategy": values}, bar, path)


def _quantstats(returns: pd.Series, benchmark: pd.Series, path: Path) -> Callable[[], Any]:
    import logging

    import quantstats

    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)  # it asks for Arial, once for each text
    return lambda: quantstats.reports.html(returns, benchmark=benchmark, output=str(path), title="strategy")


def _measured(side: str, days: int) -> float:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.evaluation.tear_sheet", side, str(days)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=600,
    )
    return round(float(done.stdout.splitlines()[-1]), 3)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # quantstats' own
    print(worker(sys.argv[1], int(sys.argv[2])))
