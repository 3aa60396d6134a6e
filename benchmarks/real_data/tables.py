"""What the study has left, as markdown: the variants, the walks, their verdicts, every test, the crises."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.real_data import study
from benchmarks.real_data.variants import NUM_SKETCHES, PROTOTYPE
from benchmarks.real_data.walks import UNIVERSES, looks, over_looks
from benchmarks.tables import Table, markdown
from rllib_portfolio.reporting.search_trials import SUMMARY, TRIAL_RETURNS
from rllib_portfolio.statistics.metrics import information_ratio
from rllib_portfolio.statistics.overfitting import (
    SharpeSample,
    deflated_sharpe_ratio,
    expected_best_sharpe_ratio,
    probabilistic_sharpe_ratio,
    sharpe_ratio_interval,
)
from rllib_portfolio.statistics.verdicts import outcome_of

DASH = "–"
BENCHMARK = "1/N"
LEVEL = 0.05
LOOKS_NOTE = (
    "Looks: with how many of an algorithm's policies these days were looked at. p is times the looks, at most 1 "
    "(Bonferroni)."
)

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
_TESTS_NOTE = (
    "Looks: with how many of an algorithm's policies these days were looked at. The p-values of the first five tests "
    "are times the looks, at most 1 (Bonferroni), and the verdict is of these. The probabilistic Sharpe ratio is one "
    "less the one-sided p-value of a Sharpe ratio of at most 0, of one look."
)


def variants(folder: Path) -> str:
    """Every variant, with what it earned on the judged windows, all before 2000."""
    rows = []
    for name, record in study.results(folder).items():
        late, early = (fold["ir"] for fold in record["folds"])
        pooled = record["pooled"]
        rows.append(
            [
                name,
                _settings(record["settings"]),
                *(f"{value:+.2f}" for value in (pooled["ir"], late, early)),
                f"{np.mean([fold['train_ir'] for fold in record['folds']]):+.2f}",
                f"{pooled['tracking_error']:.1%}",
                f"{pooled['sharpe']:.2f}",
                f"{pooled['equal_weight_sharpe']:.2f}",
                f"{pooled['turnover']:.2f}x",
            ]
        )
    head = ["variant", "settings", "IR", "late half", "early half", "training IR", "tracking error", "Sharpe"]
    summary = json.loads((folder / SUMMARY).read_text())
    title = f"{len(rows)} variants, two seeds each, 1991 to 1999; {summary['num_trials']} trials in all"
    return markdown([Table(title, [*head, "1/N's", "turnover a year"], rows)])


def walk(folder: Path, part: str) -> str:
    """Every strategy of a walk but the single seeds, which have a range."""
    results = _results(folder, part)
    strategies = results["strategies"]
    rows = [[name, *_figures(name, [row])] for name, row in strategies.items() if " seed " not in name]
    for label in (subject.removesuffix(" ensemble") for subject in results["subjects"]):
        seeds = [row for name, row in strategies.items() if name.startswith(f"{label} seed ")]
        if seeds:
            rows.append([f"{label}, {len(seeds)} single seeds", *_figures(label, seeds, as_range=True)])
    title = f"{UNIVERSES[part]}, {results['first_day']} to {results['last_day']}, out of sample, after costs"
    head = ["", "return a year", "volatility", "Sharpe", "max drawdown", "turnover a year", "cost a year"]
    tests = ["IR over 1/N", "p", "Sharpe difference", "p", "looks"]
    return markdown([Table(title, [*head, *tests], rows, LOOKS_NOTE)])


def verdicts(folder: Path, part: str) -> str:
    """What the two tests of each subject say, by themselves and over all looks, and how sure its active return is.

    The trials were judged on other days. What was not selected on these is not deflated; later looks at them count.
    """
    results = _results(folder, part)
    returns = pd.read_parquet(folder / part / "daily_returns.parquet")
    lines = [f"- {judged['sentence']}" for judged in results["verdicts"].values()]
    for subject in results["subjects"]:
        active = SharpeSample.of((returns[subject] - returns[BENCHMARK]).to_numpy())
        lower, upper = sharpe_ratio_interval(active, 1.0 - LEVEL / looks(subject))
        psr = probabilistic_sharpe_ratio(active)
        line = (
            f"- {subject}: information ratio {active.sharpe_ratio:+.2f}, 95 % interval{_over_looks(subject)} "
            f"{lower:+.2f} to {upper:+.2f}; probabilistic ratio of the active return PSR(0) = {psr:.3f}, which is one "
            f"less the one-sided p-value {1.0 - psr:.3f} of a true ratio of at most 0, days taken for independent."
        )
        if looks(subject) > 1:
            row = results["strategies"][subject]
            mean, sharpe = (over_looks(row[name], subject) for name in ("mean_p_value", "sharpe_p_value"))
            line += (
                f" The p-values times {looks(subject)} looks (Bonferroni, at most 1): mean active return {mean:.3f}, "
                f"Sharpe ratio {sharpe:.3f}, one-sided {over_looks(1.0 - psr, subject):.3f}."
            )
        lines.append(line)
    return "\n".join(lines)


def _over_looks(strategy: str) -> str:
    return f" over {looks(strategy)} looks (Bonferroni)" if looks(strategy) > 1 else ""


def deflated(folder: Path) -> str:
    """What the number of trials leaves of the chosen variants on the days that they were chosen on, as lines.

    Each was chosen by its information ratio among the variants of its algorithm, so that the spread is theirs. Trials
    without a record count for both algorithms. Active returns are taken for normal: those of the variants are not kept.
    """
    found, lines = study.results(folder), []
    num_days = len(pd.read_parquet(folder / TRIAL_RETURNS))
    unrecorded = len(PROTOTYPE) + NUM_SKETCHES
    for algo in ("ppo", "dqn"):
        if algo not in found:
            continue
        sample = SharpeSample(found[algo]["pooled"]["ir"], num_days)
        own, both = _ratios(folder, algo), _ratios(folder)
        (count, variance), (all_trials, pooled) = ((len(each) + unrecorded, _variance(each)) for each in (own, both))
        lines.append(
            f"- {algo}, on the days that it was chosen on, 1991 to 1999: information ratio {sample.sharpe_ratio:.2f}, "
            f"where the best of {count} worthless trials ({len(own)} variants of {algo}, {unrecorded} trials without a "
            f"record) is expected to show {expected_best_sharpe_ratio(count, variance):.2f}; deflated ratio "
            f"{deflated_sharpe_ratio(sample, count, variance):.3f}. Were all {all_trials} trials of both algorithms of "
            f"one kind, it would be {deflated_sharpe_ratio(sample, all_trials, pooled):.3f} "
            f"(against {expected_best_sharpe_ratio(all_trials, pooled):.2f})."
        )
    return "\n".join(lines)


def _ratios(folder: Path, algo: str | None = None) -> list[float]:
    """The annual information ratios of all variants, or of those of one algorithm."""
    records = study.results(folder).values()
    return [record["pooled"]["ir"] for record in records if algo in (None, record["algo"])]


def _variance(ratios: Sequence[float]) -> float:
    return float(np.var(ratios, ddof=1)) if len(ratios) > 1 else 0.0


def by_years(folder: Path, part: str, years: int = 3) -> str:
    """Information ratios over 1/N in spans of years."""
    returns = pd.read_parquet(folder / part / "daily_returns.parquet")
    first = returns.index[0].year
    rows = []
    for start in range(first, returns.index[-1].year + 1, years):
        span = returns[(returns.index.year >= start) & (returns.index.year < start + years)]
        ratios = [
            f"{information_ratio(span[name].to_numpy(), span[BENCHMARK].to_numpy()):+.2f}" for name in _policies(span)
        ]
        rows.append([f"{start} to {span.index[-1].year}", *ratios])
    return markdown([Table("Information ratio over 1/N", ["", *_policies(returns)], rows)])


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
    table = Table("Against 1/N", header, rows, _TESTS_NOTE)
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


def _policies(returns: pd.DataFrame) -> list[str]:
    return [name for name in returns.columns if name != BENCHMARK]


def _results(folder: Path, part: str) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((folder / part / "results.json").read_text())
    return values


_FIGURES = {
    "annual_return": "{:.1%}",
    "annual_volatility": "{:.1%}",
    "sharpe_ratio": "{:.2f}",
    "max_drawdown": "{:.1%}",
    "turnover_per_year": "{:.2f}x",
    "cost_per_year": "{:.2%}",
    "information_ratio": "{:+.2f}",
    "mean_p_value": "{:.3f}",
    "sharpe_difference": "{:+.2f}",
    "sharpe_p_value": "{:.3f}",
}


def _figures(name: str, rows: Sequence[Mapping[str, Any]], *, as_range: bool = False) -> list[str]:
    """The cells of a strategy, or the range of several of one algorithm; p-values are over all looks."""
    cells = []
    for key, pattern in _FIGURES.items():
        values = [_over(row[key], key, name) for row in rows if row.get(key) is not None]
        ends = (min(values), max(values)) if values and as_range else values
        cells.append(" to ".join(pattern.format(value) for value in ends) or DASH)
    return [*cells, str(looks(name))]


def _over(value: float, figure: str, name: str) -> float:
    return over_looks(value, name) if figure.endswith("p_value") else value


def _settings(settings: Mapping[str, Any]) -> str:
    features = [name for name in settings if name.startswith("market.features.")]
    shown = {name: value for name, value in settings.items() if len(features) <= 4 or name not in features}
    parts = [f"{name.rsplit('.', 1)[-1]} {_value(value)}" for name, value in shown.items()]
    return ", ".join(parts + ["all of `features`"] * (len(shown) < len(settings))) or "as in the file"


def _value(value: Any) -> str:
    return "null" if value is None else str(value)


def _number(value: float | None, digits: int = 2) -> str:
    return "" if value is None else f"{value:.{digits}f}"
