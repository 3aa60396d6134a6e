"""Plots of figures: Sharpe ratios with intervals, cost curve, seed spread, overfitting."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from rllib_portfolio.reporting.findings import Findings
from rllib_portfolio.reporting.inputs import ReportInputs
from rllib_portfolio.reporting.plot_style import SOFT_INK, Figure, axis, colour_of, layout, rounded, vertical

SEED_JITTER = 0.16


def sharpe_figure(inputs: ReportInputs, table: pd.DataFrame) -> Figure:
    """Sharpe ratio of every strategy with its interval, the highest on top."""
    defined = table[table["sharpe_ratio"].notna() & table["sharpe_lower"].notna()].sort_values("sharpe_ratio")
    data: list[Figure] = [
        {
            "type": "scatter",
            "mode": "markers",
            "x": rounded(row[["sharpe_ratio"]].to_numpy(float), 4),
            "y": [name],
            "marker": {
                "color": colour_of(inputs, str(name)),
                "size": 10 if name in inputs.subjects else 7,
                "symbol": "circle" if name in inputs.contenders else "circle-open",
            },
            "error_x": {
                "type": "data",
                "symmetric": False,
                "array": [float(row["sharpe_upper"] - row["sharpe_ratio"])],
                "arrayminus": [float(row["sharpe_ratio"] - row["sharpe_lower"])],
                "color": colour_of(inputs, str(name)),
                "thickness": 2.4 if name in inputs.subjects else 1.2,
                "width": 0,
            },
            "hovertemplate": f"{name}: %{{x:.2f}} ({row.sharpe_lower:.2f} to {row.sharpe_upper:.2f})<extra></extra>",
        }
        for name, row in defined.iterrows()
    ]
    shapes = [vertical(0.0, SOFT_INK)]
    if inputs.benchmark in defined.index:
        shapes.append(vertical(_number(defined, str(inputs.benchmark)), "#222222", "dot"))
    figure = layout(
        70 + 26 * len(defined),
        xaxis=axis("Sharpe ratio, 95 % interval"),
        yaxis=axis(
            showgrid=False, type="category", categoryorder="array", categoryarray=[str(n) for n in defined.index]
        ),
        shapes=shapes,
        margin={"l": 20, "r": 14, "t": 6, "b": 40},
    )
    return {"data": data, "layout": figure}


def cost_figure(inputs: ReportInputs) -> Figure | None:
    """Sharpe ratio by proportional cost, solid at the lag that was walked; None without a curve."""
    curve = None if inputs.context is None else inputs.context.cost_curve
    if curve is None or not len(curve):
        return None
    rows = curve.reset_index()
    own_lag = inputs.context.execution.execution_lag if inputs.context is not None else 1
    if "execution_lag" not in rows:
        rows["execution_lag"] = own_lag
    if "impact" not in rows:
        rows["impact"] = 0.0
    wanted = [*inputs.subjects, inputs.benchmark]
    data: list[Figure] = []
    for (name, lag), part in rows[rows["strategy"].isin(wanted)].groupby(["strategy", "execution_lag"], sort=False):
        plain, impact = part[part["impact"] == 0.0].sort_values("cost_bps"), part[part["impact"] > 0.0]
        colour, dash = colour_of(inputs, str(name)), "solid" if lag == own_lag else "dot"
        shared = {"type": "scatter", "name": f"{name}, lag {lag}", "marker": {"color": colour, "size": 7}}
        data.append(
            shared
            | {
                "mode": "lines+markers",
                "x": plain["cost_bps"].tolist(),
                "y": rounded(plain["sharpe_ratio"].to_numpy(), 4),
                "line": {"color": colour, "dash": dash, "width": 2},
                "hovertemplate": f"{name}, lag {lag}, %{{x}} bp: %{{y:.2f}}<extra></extra>",
            }
        )
        if len(impact):
            data.append(
                shared
                | {
                    "mode": "markers",
                    "showlegend": False,
                    "x": impact["cost_bps"].tolist(),
                    "y": rounded(impact["sharpe_ratio"].to_numpy(), 4),
                    "marker": {"color": colour, "size": 10, "symbol": "diamond-open", "line": {"width": 2}},
                    "hovertemplate": f"{name}, lag {lag}, %{{x}} bp and impact: %{{y:.2f}}<extra></extra>",
                }
            )
    legend = {"orientation": "h", "x": 0, "y": -0.2, "yanchor": "top", "font": {"size": 11}}
    figure = layout(
        340, showlegend=True, legend=legend, xaxis=axis("Cost, basis points of what is traded"), yaxis=axis("Sharpe")
    )
    return {"data": data, "layout": figure} if data else None


def seeds_figure(inputs: ReportInputs, findings: Findings, table: pd.DataFrame) -> Figure | None:
    """Each seed's Sharpe ratio, the interquartile mean with its interval, and 1/N; None without seeds."""
    scores = findings.seed_scores
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
        if subject in findings.seeds.index:
            data.append(_summary(findings.seeds.loc[subject], place - 0.33, subject, colour))
    shapes = []
    if inputs.benchmark is not None and not math.isnan(bar := _number(table, inputs.benchmark)):
        shapes.append(vertical(bar, "#222222", "dot"))
    ticks = axis(
        showgrid=False, tickvals=list(range(len(subjects))), ticktext=subjects, range=[-0.6, len(subjects) - 0.4]
    )
    figure = layout(
        90 + 70 * len(subjects),
        xaxis=axis("Sharpe ratio"),
        yaxis=ticks,
        shapes=shapes,
        margin={"l": 20, "r": 14, "t": 6, "b": 40},
    )
    return {"data": data, "layout": figure}


def overfitting_figure(findings: Findings) -> Figure | None:
    """Where the best trial of one half of the days ranks on the other; None without trials' returns."""
    overfitting = None if findings.selection is None else findings.selection.overfitting
    if overfitting is None:
        return None
    shares = 1.0 / (1.0 + np.exp(-overfitting.logits))
    counts, edges = np.histogram(shares, bins=20, range=(0.0, 1.0))
    centres = 0.5 * (edges[:-1] + edges[1:])
    bars: dict[str, Any] = {
        "type": "bar",
        "x": rounded(centres),
        "y": rounded(counts / counts.sum()),
        "width": [0.045] * len(centres),
        "marker": {"color": ["#b5542b" if centre <= 0.5 else "#1756a9" for centre in centres]},
        "hovertemplate": "rank %{x:.2f}: %{y:.1%} of splits<extra></extra>",
    }
    figure = layout(
        240,
        xaxis=axis("Rank on the other half of the days: 0 worst, 1 best", range=[0, 1]),
        yaxis=axis("Splits", tickformat=".0%"),
        shapes=[vertical(0.5, SOFT_INK)],
    )
    return {"data": [bars], "layout": figure}


def _summary(summary: pd.Series, height: float, subject: str, colour: str) -> Figure:
    mean = float(summary["interquartile_mean"])
    return {
        "type": "scatter",
        "mode": "markers",
        "x": [mean],
        "y": [height],
        "marker": {"color": colour, "size": 11, "symbol": "line-ns-open", "line": {"width": 3}},
        "error_x": {
            "type": "data",
            "symmetric": False,
            "array": [float(summary["upper"]) - mean],
            "arrayminus": [mean - float(summary["lower"])],
            "color": colour,
            "thickness": 2.4,
            "width": 0,
        },
        "hovertemplate": f"{subject}, interquartile mean: %{{x:.2f}}<extra></extra>",
    }


def _number(table: pd.DataFrame, name: str) -> float:
    value: Any = table.at[name, "sharpe_ratio"]
    return float(value)
