"""Size and power of the tests behind a verdict, and the PBO of trials with and without skill.

`python -m benchmarks.evaluation.size_and_power` takes about eleven minutes on one core and writes
`results/size_and_power.json`, which is committed; with `--quick` it takes half a minute, writes to `runs/benchmarks/`
and judges nothing.

The tests that decide a verdict run on the same samples: the studentised bootstrap of the Sharpe difference, the
bootstrap of the mean active return, and the claim ("beats" or "loses") that Holm's step-down makes of both. Where both
strategies have one volatility and one Sharpe ratio, both hypotheses are true and every claim is false.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import ndtr, ndtri

from benchmarks.evaluation.markets import PERIODS_PER_YEAR, PROCESSES, FloatArray
from benchmarks.machine import description, destination, write_record
from rllib_portfolio.statistics.bootstrap import BootstrapPlan
from rllib_portfolio.statistics.overfitting import backtest_overfitting
from rllib_portfolio.statistics.sharpe_tests import bootstrap_sharpe_test, hac_sharpe_test
from rllib_portfolio.statistics.significance import mean_active_return_test
from rllib_portfolio.statistics.verdicts import outcome_of

LEVEL = 0.05
TOLERANCE = 0.015
"""A true hypothesis is rejected 5 % +- 1.5 % of the time. A false claim may be rarer."""

BASE_SHARPE, DIFFERENCE = 0.5, 0.5
EQUAL, UNEQUAL = (BASE_SHARPE, BASE_SHARPE), (BASE_SHARPE + DIFFERENCE, BASE_SHARPE)
LONG, SHORT = 20, 2
POWER_YEARS = (5, 10, 20)
CORRELATIONS, POWER_CORRELATIONS = (0.0, 0.5, 0.9), (0.0, 0.5, 0.8, 0.9, 0.95)
NUM_HAC, NUM_DECIDING, NUM_POWER, NUM_DECIDING_POWER, NUM_MATRICES = 4000, 1800, 2000, 400, 100
"""Samples of a cell. Of 1800 the share that a 5 % test rejects is known to half a per cent."""

NUM_RESAMPLES = 79
"""Few, so that samples can be many: 5 % and Holm's 2.5 % of 79 + 1 are whole numbers, and so p <= 5 % has the chance
that it has with any number of resamples. They cost some power, so that what is tabulated is a lower bound."""

QUICK = 0.02
BATCH = 100

HAC, BOOTSTRAP, MEAN, VERDICT = "Sharpe, HAC", "Sharpe, bootstrap", "mean active return", "verdict"
DECIDING = (BOOTSTRAP, MEAN, VERDICT)


def run(output: Path, *, quick: bool = False) -> int:
    """Simulate, print and write size_and_power.json into `output`.

    Returns:
        Exit code: 1 if a size is off by more than the tolerance, in a complete run.
    """
    started = time.perf_counter()
    scale = QUICK if quick else 1.0
    size, power = _printed("size", _size(scale)), _printed("power", _power(scale))
    result = {
        "suite": "size_and_power",
        "machine": description(),
        "settings": {
            "level": LEVEL,
            "tolerance": TOLERANCE,
            "base_sharpe_ratio": BASE_SHARPE,
            "power_at_difference": DIFFERENCE,
            "bootstrap_resamples": NUM_RESAMPLES,
            "periods_per_year": PERIODS_PER_YEAR,
        },
        "size": size,
        "power": power,
        "overfitting": _overfitting(max(4, round(NUM_MATRICES * scale))),
        "seconds": round(time.perf_counter() - started, 1),
    }
    write_record(output / "size_and_power.json", result)
    return 0


def is_within(row: dict[str, Any]) -> bool:
    """Return whether a size is within the tolerance; a verdict may also reject less often."""
    excess = row["rejected"] - LEVEL
    return bool(excess <= TOLERANCE and (row["test"] == VERDICT or excess >= -TOLERANCE))


def _size(scale: float) -> Iterator[dict[str, Any]]:
    """Yield the rejections at equal Sharpe ratios and means."""
    for process in PROCESSES:
        for correlation in CORRELATIONS:
            yield from _cell((HAC,), process, LONG, EQUAL, correlation, round(NUM_HAC * scale))
            yield from _cell(DECIDING, process, LONG, EQUAL, correlation, round(NUM_DECIDING * scale))
        yield from _cell(DECIDING, process, SHORT, EQUAL, CORRELATIONS[-1], round(NUM_DECIDING * scale))


def _power(scale: float) -> Iterator[dict[str, Any]]:
    """Yield the rejections at Sharpe ratios that differ by 0.5, and the theoretical power on independent days."""
    for process in ("normal", "volatility clusters"):
        for correlation in POWER_CORRELATIONS:
            for years in POWER_YEARS:
                theory = round(_normal_power(years, UNEQUAL, correlation), 4)
                rows = list(_cell((HAC,), process, years, UNEQUAL, correlation, round(NUM_POWER * scale)))
                if years == LONG and process == "normal":
                    rows += _cell(DECIDING, process, years, UNEQUAL, correlation, round(NUM_DECIDING_POWER * scale))
                yield from (row | {"theory": theory} for row in rows)


def _cell(
    tests: tuple[str, ...], process: str, years: int, sharpe: tuple[float, float], correlation: float, num_samples: int
) -> Iterator[dict[str, Any]]:
    """Yield for each test the share of samples in which it rejects, and the standard error of that share."""
    rng = np.random.default_rng([years, round(100 * correlation), len(process), len(tests), round(100 * sharpe[0])])
    days = years * PERIODS_PER_YEAR
    rejected = np.zeros(len(tests))
    for start in range(0, num_samples, BATCH):
        pairs = PROCESSES[process](min(BATCH, num_samples - start), days, sharpe, correlation, rng)
        rejected += sum(np.array(_rejections(tests, pair, start + i), dtype=float) for i, pair in enumerate(pairs))
    for test, share in zip(tests, rejected / num_samples, strict=True):
        yield {
            "test": test,
            "process": process,
            "years": years,
            "correlation": correlation,
            "num_samples": num_samples,
            "rejected": round(float(share), 4),
            "error": round(math.sqrt(max(share * (1.0 - share), LEVEL**2) / num_samples), 4),
        }


def _rejections(tests: tuple[str, ...], pair: FloatArray, seed: int) -> tuple[bool, ...]:
    """Return whether each test rejects at the 5 % level, for the same pair of strategies [T, 2]."""
    first, second = np.ascontiguousarray(pair.T)
    if tests == (HAC,):
        return (hac_sharpe_test(first, second).p_value <= LEVEL,)
    sharpe = bootstrap_sharpe_test(first, second, plan=BootstrapPlan(NUM_RESAMPLES, seed=seed))
    mean_p = mean_active_return_test(first - second, NUM_RESAMPLES, seed).p_value
    outcome = outcome_of((float((first - second).mean()), sharpe.difference), (mean_p, sharpe.p_value))
    return sharpe.p_value <= LEVEL, mean_p <= LEVEL, outcome != "no significant difference"


def _normal_power(years: int, sharpe: tuple[float, float], correlation: float) -> float:
    """Return the power that follows from the asymptotic standard error.

    Source: Memmel (2003), "Performance Hypothesis Testing with the Sharpe Ratio".
    """
    first, second = (ratio / math.sqrt(PERIODS_PER_YEAR) for ratio in sharpe)
    variance = 2.0 * (1.0 - correlation) + 0.5 * (first**2 + second**2 - 2.0 * first * second * correlation**2)
    shift = (first - second) / math.sqrt(variance / (years * PERIODS_PER_YEAR))
    critical = ndtri(1.0 - LEVEL / 2.0)
    return float(ndtr(shift - critical) + ndtr(-shift - critical))


def _overfitting(num_matrices: int) -> dict[str, Any]:
    """Return the PBO of 50 trials without skill over 4 years, and with one trial whose Sharpe ratio is 4 higher."""
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


def _printed(what: str, rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Print each row as soon as it is computed, and return all rows."""
    kept = []
    for row in rows:
        where = f"{row['test']:<20}{row['process']:<20}{row['years']:>3} years, correlation {row['correlation']:<5}"
        theory = f"  theory {row['theory']:.1%}" if "theory" in row else ""
        print(f"{what:<6}{where}{row['rejected']:>8.2%} +- {row['error']:.2%}{theory}", flush=True)
        kept.append(row)
    return kept


if __name__ == "__main__":
    folder, is_quick = destination("benchmarks.evaluation.size_and_power", __doc__)
    sys.exit(run(folder, quick=is_quick))
