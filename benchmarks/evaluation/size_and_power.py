"""How often the Sharpe-difference test rejects what is true and what is false, and PBO on noise and on skill.

`python -m benchmarks.evaluation.size_and_power` takes two minutes on one core and writes
`benchmarks/results/size_and_power.json`, which is committed; `--quick` takes seconds and writes to `runs/benchmarks/`.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import ndtr, ndtri

from benchmarks.evaluation.markets import PERIODS_PER_YEAR, PROCESSES, FloatArray
from benchmarks.machine import description
from rllib_portfolio.evaluation.bootstrap import BootstrapPlan
from rllib_portfolio.evaluation.selection import backtest_overfitting
from rllib_portfolio.evaluation.sharpe_tests import bootstrap_sharpe_test, hac_sharpe_test

FOLDER = Path(__file__).resolve().parent.parent
LEVEL = 0.05
TOLERANCE = 0.015
"""Of the issue: equal Sharpe ratios are rejected 5 % +- 1.5 % of the time."""

BASE_SHARPE, DIFFERENCE = 0.5, 0.5
SIZE_YEARS, POWER_YEARS = 20, (5, 10, 20)
SIZE_CORRELATIONS, POWER_CORRELATIONS = (0.5, 0.9), (0.0, 0.5, 0.8, 0.9, 0.95)
BOOTSTRAP_YEARS = (2, 10)
NUM_RESAMPLES = 499
BATCH = 100


def main() -> int:
    """Simulate, print, write; the exit code is 1 if a size is off by more than the tolerance and than chance."""
    arguments = _parser().parse_args()
    scale = 0.05 if arguments.quick else 1.0
    started = time.perf_counter()
    size = list(_size(int(4000 * scale), int(600 * scale)))
    power = list(_power(int(2000 * scale)))
    result = {
        "machine": description(),
        "settings": {
            "level": LEVEL,
            "base_sharpe_ratio": BASE_SHARPE,
            "power_at_difference": DIFFERENCE,
            "bootstrap_resamples": NUM_RESAMPLES,
            "periods_per_year": PERIODS_PER_YEAR,
        },
        "size": size,
        "power": power,
        "overfitting": _overfitting(max(4, int(100 * scale))),
        "seconds": round(time.perf_counter() - started, 1),
    }
    output = arguments.output or (FOLDER.parent / "runs" / "benchmarks" if arguments.quick else FOLDER / "results")
    output.mkdir(parents=True, exist_ok=True)
    (output / "size_and_power.json").write_text(json.dumps(result, indent=1) + "\n")
    print(_table(result))
    print(f"written to {output / 'size_and_power.json'}")
    return int(any(abs(row["rejected"] - LEVEL) > max(TOLERANCE, 3.0 * row["error"]) for row in size))


def _size(num_hac: int, num_bootstrap: int) -> Iterator[dict[str, Any]]:
    """Rejections at equal Sharpe ratios."""
    equal = (BASE_SHARPE, BASE_SHARPE)
    for process in PROCESSES:
        for correlation in SIZE_CORRELATIONS:
            yield _cell("hac", process, SIZE_YEARS, equal, correlation, num_hac)
    for years in BOOTSTRAP_YEARS:
        for process in ("normal", "volatility clusters"):
            yield _cell("bootstrap", process, years, equal, 0.9, num_bootstrap)


def _power(num_samples: int) -> Iterator[dict[str, Any]]:
    """Rejections at Sharpe ratios that differ by 0.5, and what theory says of independent normal days."""
    unequal = (BASE_SHARPE + DIFFERENCE, BASE_SHARPE)
    for process in ("normal", "volatility clusters"):
        for correlation in POWER_CORRELATIONS:
            for years in POWER_YEARS:
                cell = _cell("hac", process, years, unequal, correlation, num_samples)
                yield cell | {"theory": round(_normal_power(years, unequal, correlation), 4)}


def _cell(
    test: str, process: str, years: int, sharpe: tuple[float, float], correlation: float, num_samples: int
) -> dict[str, Any]:
    """Share of samples in which `test` rejects, and the deviation of that share."""
    rng = np.random.default_rng([years, round(100 * correlation), len(process), len(test), round(100 * sharpe[0])])
    days, rejected = years * PERIODS_PER_YEAR, 0
    for start in range(0, num_samples, BATCH):
        pairs = PROCESSES[process](min(BATCH, num_samples - start), days, sharpe, correlation, rng)
        rejected += sum(_p_value(test, pair, start + i) <= LEVEL for i, pair in enumerate(pairs))
    share = rejected / num_samples
    return {
        "test": test,
        "process": process,
        "years": years,
        "correlation": correlation,
        "num_samples": num_samples,
        "rejected": round(share, 4),
        "error": round(math.sqrt(max(share * (1.0 - share), LEVEL**2) / num_samples), 4),
    }


def _p_value(test: str, pair: FloatArray, seed: int) -> float:
    first, second = np.ascontiguousarray(pair.T)
    if test == "hac":
        return hac_sharpe_test(first, second).p_value
    return bootstrap_sharpe_test(first, second, plan=BootstrapPlan(NUM_RESAMPLES, seed=seed)).p_value


def _normal_power(years: int, sharpe: tuple[float, float], correlation: float) -> float:
    """By the standard error of Memmel (2003), "Performance Hypothesis Testing with the Sharpe Ratio"."""
    first, second = (ratio / math.sqrt(PERIODS_PER_YEAR) for ratio in sharpe)
    variance = 2.0 * (1.0 - correlation) + 0.5 * (first**2 + second**2 - 2.0 * first * second * correlation**2)
    shift = (first - second) / math.sqrt(variance / (years * PERIODS_PER_YEAR))
    critical = ndtri(1.0 - LEVEL / 2.0)
    return float(ndtr(shift - critical) + ndtr(-shift - critical))


def _overfitting(num_matrices: int) -> dict[str, Any]:
    """PBO of 50 worthless trials over 4 years, and of the same with one whose Sharpe ratio is 4 higher."""
    rng, found = np.random.default_rng(0), {"noise": [], "one dominant": []}
    for _ in range(num_matrices):
        trials = rng.normal(0.0, 0.01, (1008, 50))
        found["noise"].append(backtest_overfitting(trials).probability)
        trials[:, 0] += 0.01 * 4.0 / math.sqrt(PERIODS_PER_YEAR)
        found["one dominant"].append(backtest_overfitting(trials).probability)
    return {
        name: {
            "num_matrices": num_matrices,
            "mean": round(float(np.mean(values)), 4),
            "error": round(float(np.std(values) / math.sqrt(num_matrices)), 4),
        }
        for name, values in found.items()
    }


def _table(result: dict[str, Any]) -> str:
    lines = ["size at 5 %: test, process, years, correlation, rejected +- error"]
    for row in result["size"]:
        lines.append(_line(row) + f"{row['rejected']:8.2%} +- {row['error']:.2%}")
    lines.append(f"power at a difference of {DIFFERENCE}: the same, then what theory says of independent normal days")
    for row in result["power"]:
        lines.append(_line(row) + f"{row['rejected']:8.1%} +- {row['error']:.1%} {row['theory']:8.1%}")
    for name, row in result["overfitting"].items():
        lines.append(f"PBO, {name}: {row['mean']:.3f} +- {row['error']:.3f}")
    return "\n".join([*lines, f"{result['seconds']} s"])


def _line(row: dict[str, Any]) -> str:
    return f"  {row['test']:<10}{row['process']:<20}{row['years']:>4}{row['correlation']:>6}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.evaluation.size_and_power", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="seconds: a twentieth of the samples")
    parser.add_argument("--output", type=Path, metavar="DIR", help="default: benchmarks/results, or runs/benchmarks")
    return parser


if __name__ == "__main__":
    sys.exit(main())
