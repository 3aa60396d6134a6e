"""What the study has left, as markdown: the variants, the walks, their verdicts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.real_data import offsets, study
from benchmarks.real_data.walks import UNIVERSES
from benchmarks.throughput.tables import Table, markdown
from rllib_portfolio.evaluation.metrics import information_ratio
from rllib_portfolio.evaluation.report.tuning import SUMMARY, TRIAL_RETURNS
from rllib_portfolio.evaluation.selection import SharpeSample, deflated_sharpe_ratio, expected_best_sharpe_ratio

DASH = "–"
BENCHMARK = "1/N"


def content(folder: Path) -> str:
    """All tables, one after the other."""
    blocks = [variants(folder), deflated(folder)]
    for part in UNIVERSES:
        if (folder / part / "results.json").is_file():
            blocks += [walk(folder, part), verdicts(folder, part), by_years(folder, part)]
    blocks.append(offsets.summary(folder))
    return "\n\n".join(filter(None, blocks))


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
    strategies: Mapping[str, Mapping[str, Any]] = results["strategies"]
    rows = [_row(name, row) for name, row in strategies.items() if " seed " not in name]
    for subject in results["subjects"]:
        label = subject.removesuffix(" ensemble")
        seeds = [row for name, row in strategies.items() if name.startswith(f"{label} seed ")]
        if seeds:
            rows.append([f"{label}, {len(seeds)} single seeds", *_ranges(seeds)])
    title = f"{UNIVERSES[part]}, {results['first_day']} to {results['last_day']}, out of sample, after costs"
    head = ["", "return a year", "volatility", "Sharpe", "max drawdown", "turnover a year", "cost a year"]
    return markdown([Table(title, [*head, "IR over 1/N", "p", "Sharpe difference", "p"], rows)])


def verdicts(folder: Path, part: str) -> str:
    """What the two tests say, and what all that was tried leaves of the information ratio."""
    results = _results(folder, part)
    lines = [f"- {judged['sentence']}" for judged in results["verdicts"].values()]
    count, variance = _trials(folder)
    returns = pd.read_parquet(folder / part / "daily_returns.parquet")
    hurdle = expected_best_sharpe_ratio(count, variance)
    for subject in results["subjects"]:
        active = SharpeSample.of((returns[subject] - returns[BENCHMARK]).to_numpy())
        deflated = deflated_sharpe_ratio(active, count, variance)
        lines.append(
            f"- {subject}: the best of {count} worthless variants is expected to show an information ratio of "
            f"{hurdle:.2f}; the true one is above that with probability {deflated:.1%} (out of sample)."
        )
    return "\n".join(lines)


def deflated(folder: Path) -> str:
    """What the number of trials leaves of the chosen variants on the days that they were chosen on, as lines."""
    found, lines = study.results(folder), []
    num_days = len(pd.read_parquet(folder / TRIAL_RETURNS))
    for algo in ("ppo", "dqn"):
        if algo not in found:
            continue
        parts = []
        for name, figure in (("information ratio", "ir"), ("Sharpe ratio", "sharpe")):
            count, variance = _trials(folder, figure)
            value = found[algo]["pooled"][figure]
            probability = deflated_sharpe_ratio(SharpeSample(value, num_days), count, variance)
            hurdle = expected_best_sharpe_ratio(count, variance)
            parts.append(f"deflated {name} {probability:.1%} ({value:.2f} against {hurdle:.2f})")
        lines.append(f"- {algo}, on the days that it was chosen on, 1991 to 1999: {', '.join(parts)}.")
    return "\n".join(lines)


def _trials(folder: Path, figure: str = "ir") -> tuple[int, float]:
    """How many there were, and the variance of their annual information or Sharpe ratios."""
    ratios = [record["pooled"][figure] for record in study.results(folder).values()]
    count = json.loads((folder / SUMMARY).read_text())["num_trials"]
    return count, float(np.var(ratios, ddof=1)) if len(ratios) > 1 else 0.0


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


def _policies(returns: pd.DataFrame) -> list[str]:
    return [name for name in returns.columns if name != BENCHMARK]


def _results(folder: Path, part: str) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((folder / part / "results.json").read_text())
    return values


_FIGURES = (
    ("annual_return", "{:.1%}"),
    ("annual_volatility", "{:.1%}"),
    ("sharpe_ratio", "{:.2f}"),
    ("max_drawdown", "{:.1%}"),
    ("turnover_per_year", "{:.2f}x"),
    ("cost_per_year", "{:.2%}"),
    ("information_ratio", "{:+.2f}"),
    ("mean_p_value", "{:.3f}"),
    ("sharpe_difference", "{:+.2f}"),
    ("sharpe_p_value", "{:.3f}"),
)


def _row(name: str, values: Mapping[str, Any]) -> list[str]:
    return [name, *(DASH if (value := values.get(key)) is None else text.format(value) for key, text in _FIGURES)]


def _ranges(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    cells = []
    for key, text in _FIGURES:
        values = [row[key] for row in rows if row.get(key) is not None]
        cells.append(f"{text.format(min(values))} to {text.format(max(values))}" if values else DASH)
    return cells


def _settings(settings: Mapping[str, Any]) -> str:
    features = [name for name in settings if name.startswith("market.features.")]
    shown = {name: value for name, value in settings.items() if len(features) <= 4 or name not in features}
    parts = [f"{name.rsplit('.', 1)[-1]} {_value(value)}" for name, value in shown.items()]
    return ", ".join(parts + ["all of `features`"] * (len(shown) < len(settings))) or "as in the file"


def _value(value: Any) -> str:
    return "null" if value is None else str(value)
