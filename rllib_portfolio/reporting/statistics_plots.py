"""Plots of statistics: Sharpe ratios with intervals, cost curve, seed spread, overfitting."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from rllib_portfolio.reporting.inputs import ReportInputs
from rllib_portfolio.reporting.plot_style import (
    BENCHMARK_COLOUR,
    GAIN_COLOUR,
    LEGEND_BELOW,
    LOSS_COLOUR,
    SOFT_INK,
    Figure,
    axis,
    colour_of,
    figure,
    marks,
    rounded,
    trace,
    vertical,
)
from rllib_portfolio.reporting.report import Report

SEED_JITTER = 0.16
_MARGIN = {"l": 20, "r": 14, "t": 6, "b": 40}


def sharpe_figure(report: Report) -> Figure:
    """Plot the Sharpe ratio of every strategy with its interval, the highest on top."""
    inputs, table = report.inputs, report.table
    defined = table[table["sharpe_ratio"].notna() & table["sharpe_lower"].notna()].sort_values("sharpe_ratio")
    names = [str(name) for name in defined.index]
    return figure(
        [_sharpe_mark(inputs, str(name), row) for name, row in defined.iterrows()],
        70 + 26 * len(defined),
        xaxis=axis("Sharpe ratio, 95 % interval"),
        yaxis=axis(showgrid=False, type="category", categoryorder="array", categoryarray=names),
        shapes=[vertical(0.0, SOFT_INK), *(_benchmark_line(report) if inputs.benchmark in defined.index else [])],
        margin=_MARGIN,
    )


def _sharpe_mark(inputs: ReportInputs, name: str, row: pd.Series[Any]) -> Figure:
    ratio, lower, upper = (float(row[column]) for column in ("sharpe_ratio", "sharpe_lower", "sharpe_upper"))
    is_subject, colour = name in inputs.subjects, colour_of(inputs, name)
    look = {"color": colour, "size": 10 if is_subject else 7}
    look["symbol"] = "circle" if name in inputs.contenders else "circle-open"
    hover = f"{name}: %{{x:.2f}} ({lower:.2f} to {upper:.2f})"
    interval = _interval(ratio, lower, upper, colour, 2.4 if is_subject else 1.2)
    return marks(rounded(np.array([ratio]), 4), [name], hover, look, error_x=interval)


def cost_figure(inputs: ReportInputs) -> Figure | None:
    """Plot the Sharpe ratio by proportional cost, solid at the lag of the report; return None without a curve."""
    curve = None if inputs.context is None else inputs.context.cost_curve
    if inputs.context is None or curve is None or not len(curve):
        return None
    rows, own_lag = curve.reset_index(), inputs.context.execution.execution_lag
    for column, default in (("execution_lag", own_lag), ("impact", 0.0)):
        if column not in rows:
            rows[column] = default
    wanted = [*inputs.subjects, inputs.benchmark]
    data: list[Figure] = []
    for (name, lag), part in rows[rows["strategy"].isin(wanted)].groupby(["strategy", "execution_lag"], sort=False):
        colour = colour_of(inputs, str(name))
        data += _cost_lines(part, f"{name}, lag {lag}", colour, "solid" if lag == own_lag else "dot")
    impact = rows["impact"].max()
    label = "Cost, basis points of the traded amount"
    if impact > 0.0:
        label += f" (diamonds: plus market impact, k = {impact:g})"
    axes = {"xaxis": axis(label), "yaxis": axis("Sharpe ratio")}
    return figure(data, 340, showlegend=True, legend=LEGEND_BELOW | {"y": -0.2}, **axes) if data else None


def _cost_lines(part: pd.DataFrame, name: str, colour: str, dash: str) -> list[Figure]:
    """Return the line of one strategy and lag over proportional costs, and the marks with market impact if any."""
    proportional, with_impact = part[part["impact"] == 0.0].sort_values("cost_bps"), part[part["impact"] > 0.0]

    def line(rows: pd.DataFrame, note: str, look: dict[str, Any], **more: Any) -> Figure:
        sharpes = rounded(rows["sharpe_ratio"].to_numpy(), 4)
        hover = f"{name}, %{{x}} bp{note}: %{{y:.2f}}"
        return marks(rows["cost_bps"].tolist(), sharpes, hover, {"color": colour, **look}, name=name, **more)

    lines = [
        line(proportional, "", {"size": 7}, mode="lines+markers", line={"color": colour, "dash": dash, "width": 2})
    ]
    if len(with_impact):
        look = {"size": 10, "symbol": "diamond-open", "line": {"width": 2}}
        lines.append(line(with_impact, " and market impact", look, showlegend=False))
    return lines


def seeds_figure(report: Report) -> Figure | None:
    """Plot each seed's Sharpe ratio, their interquartile mean with its interval, and the benchmark's Sharpe ratio.

    Return None without seeds.
    """
    inputs, scores = report.inputs, report.seed_scores
    if not len(scores):
        return None
    data: list[Figure] = []
    subjects = list(dict.fromkeys(scores["subject"]))
    for place, subject in enumerate(subjects):
        values = scores.loc[scores["subject"] == subject, "sharpe_ratio"].to_numpy(float)
        colour = colour_of(inputs, subject) if subject in inputs.names else SOFT_INK
        spread = place + SEED_JITTER * np.linspace(-1.0, 1.0, len(values)) if len(values) > 1 else np.array([place])
        look = {"color": colour, "size": 9, "opacity": 0.55}
        data.append(marks(rounded(values, 4), rounded(spread), f"{subject}, one seed: %{{x:.2f}}", look))
        if subject in report.seeds.index:
            data.append(_seed_mean(report.seeds.loc[subject], place - 0.33, subject, colour))
    places: Figure = {"tickvals": list(range(len(subjects))), "ticktext": subjects}
    return figure(
        data,
        90 + 70 * len(subjects),
        xaxis=axis("Sharpe ratio"),
        yaxis=axis(showgrid=False, range=[-0.6, len(subjects) - 0.4], **places),
        shapes=_benchmark_line(report),
        margin=_MARGIN,
    )


def _seed_mean(summary: pd.Series[Any], height: float, subject: str, colour: str) -> Figure:
    mean, lower, upper = (float(summary[name]) for name in ("interquartile_mean", "lower", "upper"))
    look = {"color": colour, "size": 11, "symbol": "line-ns-open", "line": {"width": 3}}
    interval = _interval(mean, lower, upper, colour, 2.4)
    return marks([mean], [height], f"{subject}, interquartile mean: %{{x:.2f}}", look, error_x=interval)


def overfitting_figure(report: Report) -> Figure | None:
    """Plot the out-of-sample ranks of the best in-sample trial over all splits; return None without a PBO."""
    overfitting = None if report.selection is None else report.selection.overfitting
    if overfitting is None:
        return None
    shares = 1.0 / (1.0 + np.exp(-overfitting.logits))
    counts, edges = np.histogram(shares, bins=20, range=(0.0, 1.0))
    centres = 0.5 * (edges[:-1] + edges[1:])
    colours = [LOSS_COLOUR if centre <= 0.5 else GAIN_COLOUR for centre in centres]
    bars = trace(
        "bar",
        rounded(centres),
        rounded(counts / counts.sum()),
        "rank %{x:.2f}: %{y:.1%} of splits",
        width=[0.045] * len(centres),
        marker={"color": colours},
    )
    title = "Rank on the other half of the days: 0 worst, 1 best"
    axes = {"xaxis": axis(title, range=[0, 1]), "yaxis": axis("Splits", tickformat=".0%")}
    return figure([bars], 240, shapes=[vertical(0.5, SOFT_INK)], **axes)


def _interval(value: float, lower: float, upper: float, colour: str, thickness: float) -> Figure:
    ends = {"array": [upper - value], "arrayminus": [value - lower]}
    return {"type": "data", "symmetric": False, **ends, "color": colour, "thickness": thickness, "width": 0}


def _benchmark_line(report: Report) -> list[Figure]:
    """Return the line at the benchmark's Sharpe ratio; no line without a benchmark, or if its ratio is undefined."""
    name = report.inputs.benchmark
    ratio = math.nan if name is None else report.statistics.number(name, "sharpe_ratio")
    return [] if math.isnan(ratio) else [vertical(ratio, BENCHMARK_COLOUR, "dot")]
