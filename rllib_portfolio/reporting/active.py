"""Plots of wealth relative to the benchmark, and of active weights.

A strategy near the benchmark lies on top of it in all other plots; these two show the difference.
"""

from __future__ import annotations

import numpy as np

from rllib_portfolio.arrays import FloatArray
from rllib_portfolio.market import CASH
from rllib_portfolio.reporting.evidence import Evidence
from rllib_portfolio.reporting.figures import LEGEND_BELOW, WEIGHT_POINTS, band, bands_of, share_text
from rllib_portfolio.reporting.lines import (
    BENCHMARK_COLOUR,
    Figure,
    axis,
    drawn_rows,
    horizontal,
    layout,
    strategy_line,
)

SIGNED = "{:+.1%}"
NAMED_TILTS = 3
"""Number of overweight and of underweight assets that the text names."""

SHOWN_DAYS = 0.99
"""Fraction of the days that the axis covers if a few extreme days would flatten the others."""

SMALLEST_TILT = 0.0005
"""Smallest tilt that is named, as a fraction of the portfolio."""


def relative_figure(evidence: Evidence) -> Figure | None:
    """Plot the wealth of the judged strategies relative to the benchmark; return None without a benchmark."""
    benchmark = evidence.benchmark_returns
    if benchmark is None:
        return None
    data = []
    for name in reversed(evidence.subjects):
        ratio = np.asarray(np.cumprod((1.0 + evidence.of(name)) / (1.0 + benchmark)), dtype=np.float64)
        rows = drawn_rows(evidence.num_days, [int(ratio.argmax()), int(ratio.argmin())])
        text = f"{name}: %{{y:.3f}} of {evidence.benchmark}<extra></extra>"
        data.append(strategy_line(evidence, name, rows, ratio[rows], hovertemplate=text))
    title = axis(f"Wealth relative to {evidence.benchmark}")
    return {"data": data, "layout": layout(280, yaxis=title, shapes=[horizontal(1.0, BENCHMARK_COLOUR, "dot")])}


def active_weights(evidence: Evidence, name: str) -> FloatArray | None:
    """Return the weights of a strategy minus those of the benchmark, cash last, [T, N+1]; None for value series."""
    walk, benchmark = evidence.walk_of(name), evidence.walk_of(str(evidence.benchmark))
    return None if walk is None or benchmark is None else walk.weights - benchmark.weights


def active_weights_figure(evidence: Evidence, name: str) -> Figure | None:
    """Plot the weights above and below the benchmark, stacked to either side; return None for value series.

    The bands above zero and those below have the same total height, which is the active share of the day.
    """
    active, walk = active_weights(evidence, name), evidence.walk_of(name)
    if active is None or walk is None:
        return None
    rows = drawn_rows(evidence.num_days, limit=WEIGHT_POINTS)
    data = []
    for label, held, colour in bands_of(active, (*walk.assets, CASH.lower()), SIGNED):
        above, below = np.maximum(held, 0.0).sum(axis=1), np.minimum(held, 0.0).sum(axis=1)
        data.append(band(evidence, rows, label, above, colour, stackgroup="above", legendgroup=label))
        data.append(band(evidence, rows, label, below, colour, stackgroup="below", legendgroup=label, showlegend=False))
    yaxis = axis(f"Weight minus that of {evidence.benchmark}", tickformat="+.1~%", nticks=7, zeroline=True)
    height = 0.5 * np.abs(active).sum(axis=1)
    usual = 1.25 * float(np.quantile(height, SHOWN_DAYS))
    if 0.0 < usual < 0.5 * height.max():  # a day in cash would flatten all others
        yaxis["range"] = [-usual, usual]
        yaxis["title"]["text"] += " (some days lie outside)"
    return {"data": data, "layout": layout(360, showlegend=True, legend=LEGEND_BELOW, yaxis=yaxis)}


def tilts(evidence: Evidence, name: str) -> str:
    """Return sentences on the active share and the largest mean tilts of a strategy; empty for value series."""
    active, walk = active_weights(evidence, name), evidence.walk_of(name)
    if active is None or walk is None:
        return ""
    mean, names = active.mean(axis=0), (*walk.assets, CASH.lower())
    order = np.argsort(-mean, kind="stable")
    above = [f"{names[i]} ({share_text(mean[i], SIGNED)})" for i in order[:NAMED_TILTS] if mean[i] > SMALLEST_TILT]
    below = [
        f"{names[i]} ({share_text(mean[i], SIGNED)})" for i in order[::-1][:NAMED_TILTS] if mean[i] < -SMALLEST_TILT
    ]
    elsewhere = share_text(0.5 * np.abs(active).sum(axis=1).mean(), "{:.1%}")
    sides = [f"more of {', '.join(above)}"] * bool(above) + [f"less of {', '.join(below)}"] * bool(below)
    return (
        f"The active share of {name} against {evidence.benchmark} is {elsewhere} on average over these days. "
        f"Largest mean tilts, as shares of the portfolio: {'; '.join(sides) or 'none'}."
    )
