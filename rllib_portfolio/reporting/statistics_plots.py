"""Plots of figures: Sharpe ratios with intervals, cost curve, seed spread, overfitting."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from rllib_portfolio.reporting.inputs import ReportInputs
from rllib_portfolio.reporting.plot_style import (
    BENCHMARK_COLOUR,
    GAIN_COLOUR,
    LOSS_COLOUR,
    SOFT_INK,
    Figure,
    axis,
    colour_of,
    layout,
    rounded,
    vertical,
)
from rllib_portfolio.reporting.report import Report

SEED_JITTER = 0.16
_MARGIN = {"l": 20, "r": 14, "t": 6, "b": 40}


def sharpe_figure(report: Report) -> Figure:
    """Plot the Sharpe ratio of every strategy with its interval, the highest on top."""
    inputs, table = report.inputs, report.table
    defined = table[table["sharpe_ratio"].notna() & table["sharpe_lower"].notna()].sort_values("sharpe_ratio")
    data = [_sharpe_mark(inputs, str(name), row) for name, row in defined.iterrows()]
    shapes = [vertical(0.0, SOFT_INK)]
    if inputs.benchmark in defined.index:
        shapes.append(_benchmark_line(report))
    names = [str(name) for name in defined.index]
    figure = layout(
        70 + 26 * len(defined),
        xaxis=axis("Sharpe ratio, 95 % interval"),
        yaxis=axis(showgrid=False, type="category", categoryorder="array", categoryarray=names),
        shapes=shapes,
        margin=_MARGIN,
    )
    return {"data": data, "layout": figure}


def _sharpe_mark(inputs: ReportInputs, name: str, row: pd.Series[Any]) -> Figure:
    ratio, lower, upper = (float(row[column]) for column in ("sharpe_ratio", "sharpe_lower", "sharpe_upper"))
    is_subject, colour = name in inputs.subjects, colour_of(inputs, name)
    symbol = "circle" if name in inputs.contenders else "circle-open"
    return {
        "type": "scatter",
        "mode": "markers",
        "x": rounded(np.array([ratio]), 4),
        "y": [name],
        "marker": {"color": colour, "size": 10 if is_subject else 7, "symbol": symbol},
        "error_x": _interval(ratio, lower, upper, colour, 2.4 if is_subject else 1.2),
        "hovertemplate": f"{name}: %{{x:.2f}} ({lower:.2f} to {upper:.2f})<extra></extra>",
    }


def cost_figure(inputs: ReportInputs) -> Figure | None:
    """Plot the Sharpe ratio by proportional cost, solid at the lag that was walked; return None without a curve."""
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
    legend = {"orientation": "h", "x": 0, "y": -0.2, "yanchor": "top", "font": {"size": 11}}
    figure = layout(
        340, showlegend=True, legend=legend, xaxis=axis("Cost, basis points of what is traded"), yaxis=axis("Sharpe")
    )
    return {"data": data, "layout": figure} if data else None


def _cost_lines(part: pd.DataFrame, name: str, colour: str, dash: str) -> list[Figure]:
    """Return the line of proportional costs of one strategy and lag, and the marks with market impact if any."""
    lines: list[Figure] = []
    for rows, note, look in (
        (
            part[part["impact"] == 0.0].sort_values("cost_bps"),
            "",
            {
                "mode": "lines+markers",
                "marker": {"color": colour, "size": 7},
                "line": {"color": colour, "dash": dash, "width": 2},
            },
        ),
        (
            part[part["impact"] > 0.0],
            " and impact",
            {
                "mode": "markers",
                "showlegend": False,
                "marker": {"color": colour, "size": 10, "symbol": "diamond-open", "line": {"width": 2}},
            },
        ),
    ):
        if len(rows) or not note:
            lines.append(
                {
                    "type": "scatter",
                    "name": name,
                    "x": rows["cost_bps"].tolist(),
                    "y": rounded(rows["sharpe_ratio"].to_numpy(), 4),
                    "hovertemplate": f"{name}, %{{x}} bp{note}: %{{y:.2f}}<extra></extra>",
                    **look,
                }
            )
    return lines


def seeds_figure(report: Report) -> Figure | None:
    """Plot each seed's Sharpe ratio, the interquartile mean with its interval, and 1/N; return None without seeds."""
    inputs, scores = report.inputs, report.seed_scores
    if not len(scores):
        return None
    data: list[Figure] = []
    subjects = list(dict.fromkeys(scores["subject"]))
    for place, subject in enumerate(subjects):
        values = scores.loc[scores["subject"] == subject, "sharpe_ratio"].to_numpy(float)
        colour = colour_of(inputs, subject) if subject in inputs.names else SOFT_INK
        spread = place + SEED_JITTER * np.linspace(-1.0, 1.0, len(values)) if len(values) > 1 else np.array([place])
        data.append(
            {
                "type": "scatter",
                "mode": "markers",
                "x": rounded(values, 4),
                "y": rounded(spread),
                "marker": {"color": colour, "size": 9, "opacity": 0.55},
                "hovertemplate": f"{subject}, one seed: %{{x:.2f}}<extra></extra>",
            }
        )
        if subject in report.seeds.index:
            data.append(_seed_mean(report.seeds.loc[subject], place - 0.33, subject, colour))
    has_bar = inputs.benchmark is not None and not math.isnan(
        report.statistics.number(inputs.benchmark, "sharpe_ratio")
    )
    ticks = axis(
        showgrid=False, tickvals=list(range(len(subjects))), ticktext=subjects, range=[-0.6, len(subjects) - 0.4]
    )
    figure = layout(
        90 + 70 * len(subjects),
        xaxis=axis("Sharpe ratio"),
        yaxis=ticks,
        shapes=[_benchmark_line(report)] if has_bar else [],
        margin=_MARGIN,
    )
    return {"data": data, "layout": figure}


def _seed_mean(summary: pd.Series[Any], height: float, subject: str, colour: str) -> Figure:
    mean, lower, upper = (float(summary[name]) for name in ("interquartile_mean", "lower", "upper"))
    return {
        "type": "scatter",
        "mode": "markers",
        "x": [mean],
        "y": [height],
        "marker": {"color": colour, "size": 11, "symbol": "line-ns-open", "line": {"width": 3}},
        "error_x": _interval(mean, lower, upper, colour, 2.4),
        "hovertemplate": f"{subject}, interquartile mean: %{{x:.2f}}<extra></extra>",
    }


def overfitting_figure(report: Report) -> Figure | None:
    """Plot where the best trial of one half of the days ranks on the other; return None without trials' returns."""
    overfitting = None if report.selection is None else report.selection.overfitting
    if overfitting is None:
        return None
    shares = 1.0 / (1.0 + np.exp(-overfitting.logits))
    counts, edges = np.histogram(shares, bins=20, range=(0.0, 1.0))
    centres = 0.5 * (edges[:-1] + edges[1:])
    bars = {
        "type": "bar",
        "x": rounded(centres),
        "y": rounded(counts / counts.sum()),
        "width": [0.045] * len(centres),
        "marker": {"color": [LOSS_COLOUR if centre <= 0.5 else GAIN_COLOUR for centre in centres]},
        "hovertemplate": "rank %{x:.2f}: %{y:.1%} of splits<extra></extra>",
    }
    figure = layout(
        240,
        xaxis=axis("Rank on the other half of the days: 0 worst, 1 best", range=[0, 1]),
        yaxis=axis("Splits", tickformat=".0%"),
        shapes=[vertical(0.5, SOFT_INK)],
    )
    return {"data": [bars], "layout": figure}


def _interval(value: float, lower: float, upper: float, colour: str, thickness: float) -> Figure:
    return {
        "type": "data",
        "symmetric": False,
        "array": [upper - value],
        "arrayminus": [value - lower],
        "color": colour,
        "thickness": thickness,
        "width": 0,
    }


def _benchmark_line(report: Report) -> Figure:
    benchmark = report.inputs.benchmark
    assert benchmark is not None
    return vertical(report.statistics.number(benchmark, "sharpe_ratio"), BENCHMARK_COLOUR, "dot")
