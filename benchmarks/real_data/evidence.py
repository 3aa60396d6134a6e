"""What else the report of a walk says, as markdown: crises, and every test of every strategy."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.real_data.walks import looks, over_looks
from benchmarks.tables import Table, markdown
from rllib_portfolio.statistics.verdicts import outcome_of

BENCHMARK = "1/N"
_TESTS = {
    "mean_p_value": "mean active return: p",
    "sharpe_p_value": "Sharpe difference: p",
    "paired_t_p_value": "paired t: p",
    "wilcoxon_p_value": "Wilcoxon: p",
    "kolmogorov_smirnov_p_value": "Kolmogorov-Smirnov: p",
}
"""Tests of one row against 1/N, which are held against the looks at it."""
_OTHERS = {
    "confidence_set_p_value": "model confidence set: p",
    "probabilistic_sharpe_ratio": "probabilistic Sharpe ratio",
}
_NOTE = (
    "Looks: with how many of an algorithm's policies these days were looked at. The p-values of the first five tests "
    "are times the looks, at most 1 (Bonferroni), and the verdict is of these. The probabilistic Sharpe ratio is one "
    "less the one-sided p-value of a Sharpe ratio of at most 0, of one look."
)


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
            corrected = [p if (p := row.get(test)) is None else over_looks(p, name) for test in _TESTS]
            tests = [_number(value, 3) for value in (*corrected, *(row.get(other) for other in _OTHERS))]
            cells = [name, _number(row["sharpe_ratio"]), interval, str(looks(name)), *tests]
            rows.append([*cells, _verdict(row, name)])
    ability = results["superior_ability"]
    header = ["", "Sharpe", "95 %", "looks", *_TESTS.values(), *_OTHERS.values(), "verdict"]
    table = Table("Against 1/N", header, rows, _NOTE)
    sentence = (
        f"Superior predictive ability (Hansen 2005): that none of the {ability['num_compared']} beats 1/N has "
        f"p = {ability['p_value']:.3f} ({ability['p_value_lower']:.3f} to {ability['p_value_upper']:.3f})."
    )
    return f"{markdown([table])}\n\n{sentence}"


def _verdict(row: Mapping[str, Any], name: str) -> str:
    """The verdict of the report; of p-values over all looks where there were several."""
    if looks(name) == 1 or not row.get("verdict"):
        return row.get("verdict") or ""
    mean, sharpe = (math.nan if row[test] is None else row[test] for test in ("information_ratio", "sharpe_difference"))
    p_values = [
        math.nan if row[test] is None else over_looks(row[test], name) for test in ("mean_p_value", "sharpe_p_value")
    ]
    return outcome_of((mean, sharpe), (p_values[0], p_values[1]))


def _number(value: float | None, digits: int = 2) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _results(folder: Path, part: str) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((folder / part / "results.json").read_text())
    return values
