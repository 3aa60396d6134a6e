"""What else the report of a walk says, as markdown: crises, and every test of every strategy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.throughput.tables import Table, markdown

BENCHMARK = "1/N"
_TESTS = {
    "mean_p_value": "mean active return: p",
    "sharpe_p_value": "Sharpe difference: p",
    "paired_t_p_value": "paired t: p",
    "wilcoxon_p_value": "Wilcoxon: p",
    "kolmogorov_smirnov_p_value": "Kolmogorov-Smirnov: p",
    "confidence_set_p_value": "model confidence set: p",
    "probabilistic_sharpe_ratio": "probabilistic Sharpe ratio",
}


def crises(folder: Path, part: str) -> str:
    """Total return and drawdown of the ensembles and 1/N in each crisis, all of them out of sample."""
    results = _results(folder, part)
    names = [*results["subjects"], BENCHMARK]
    rows: dict[str, list[str]] = {}
    for row in results["crises"]:
        if row["strategy"] in names:
            first = f"{row['crisis']}, {row['num_days']} days, {row['sample']}"
            rows.setdefault(first, [first]).append(f"{row['total_return']:+.1%} ({row['max_drawdown']:.1%})")
    return markdown([Table("Crises: total return (largest drawdown)", ["", *names], list(rows.values()))])


def significance(folder: Path, part: str) -> str:
    """All tests against 1/N, of all strategies; textbook ones beside those that decide."""
    results = _results(folder, part)
    rows = []
    for name, row in results["strategies"].items():
        if name != BENCHMARK:
            bounds = [_number(row[side]) for side in ("sharpe_lower", "sharpe_upper")]
            interval = " to ".join(filter(None, bounds))
            tests = [_number(row.get(test), 3) for test in _TESTS]
            rows.append([name, _number(row["sharpe_ratio"]), interval, *tests, row.get("verdict") or ""])
    ability = results["superior_ability"]
    table = Table("Against 1/N", ["", "Sharpe", "95 %", *_TESTS.values(), "verdict"], rows)
    sentence = (
        f"Superior predictive ability (Hansen 2005): that none of the {ability['num_compared']} beats 1/N has "
        f"p = {ability['p_value']:.3f} ({ability['p_value_lower']:.3f} to {ability['p_value_upper']:.3f})."
    )
    return f"{markdown([table])}\n\n{sentence}"


def _number(value: float | None, digits: int = 2) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _results(folder: Path, part: str) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((folder / part / "results.json").read_text())
    return values
