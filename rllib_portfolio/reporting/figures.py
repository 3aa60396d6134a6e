"""Plots over time: wealth and drawdown, rolling Sharpe ratio, weights, monthly returns, crises."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rllib_portfolio.arrays import FloatArray
from rllib_portfolio.market import CASH
from rllib_portfolio.reporting.evidence import Evidence
from rllib_portfolio.reporting.lines import (
    SOFT_INK,
    Figure,
    axis,
    days_of,
    drawing_order,
    drawn_rows,
    horizontal,
    is_shown,
    layout,
    log_ticks,
    rounded,
    strategy_line,
)
from rllib_portfolio.statistics import metrics
from rllib_portfolio.statistics.crises import CRISES, Crisis
from rllib_portfolio.statistics.rolling import rolling_sharpe_ratio

SHOWN_ASSETS = 10
"""Number of assets with a band of their own in the plots of weights; the others share one."""

WEIGHT_POINTS = 260
ASSET_COLOURS = (
    "#1756a9",
    "#5b8fd0",
    "#2b7a5b",
    "#86b59f",
    "#b5542b",
    "#dba079",
    "#7a4a9e",
    "#b79ccd",
    "#a3872c",
    "#d8c078",
)
LEGEND_BELOW = {
    "orientation": "h",
    "x": 0,
    "y": -0.18,
    "yanchor": "top",
    "font": {"size": 11},
    "traceorder": "normal",
}
OTHERS_COLOUR, CASH_COLOUR = "#c3c9d1", "#e9ecef"
LOSS_TO_GAIN = [[0.0, "#b5542b"], [0.5, "#fbfbfa"], [1.0, "#1756a9"]]


def wealth_figure(evidence: Evidence) -> Figure:
    """Wealth on a log scale, drawdown below, on one time axis."""
    wealth = np.cumprod(1.0 + evidence.returns, axis=0)
    under_water = -metrics.drawdown(evidence.returns)[1:]
    turns = [*under_water.argmin(axis=0), *wealth.argmax(axis=0), *wealth.argmin(axis=0)]
    rows = drawn_rows(evidence.num_days, [int(row) for row in turns])
    data = []
    for name in drawing_order(evidence):
        k = evidence.names.index(name)
        data.append(strategy_line(evidence, name, rows, wealth[rows, k]))
        data.append(
            strategy_line(
                evidence,
                name,
                rows,
                under_water[rows, k],
                yaxis="y2",
                hovertemplate=f"{name}: %{{y:.1%}}<extra></extra>",
            )
        )
    shown = [k for k, name in enumerate(evidence.names) if is_shown(evidence, name)]
    ticks = log_ticks(float(wealth[:, shown].min()), float(wealth[:, shown].max()))
    figure = layout(
        440,
        hovermode="closest",
        yaxis=axis(
            "Wealth, start = 1 (log)",
            type="log",
            domain=[0.34, 1.0],
            tickvals=ticks,
            ticktext=[f"{tick:g}" for tick in ticks],
        ),
        yaxis2=axis("Drawdown", domain=[0.0, 0.27], tickformat=".0%", nticks=5),
        xaxis=axis(anchor="y2"),
    )
    return {"data": data, "layout": figure}


def rolling_days(evidence: Evidence) -> int:
    """A year: 252 days, or as many values as the series have in one."""
    return max(2, round(evidence.periods_per_year))


def rolling_figure(evidence: Evidence) -> Figure | None:
    """Sharpe ratio of the last `rolling_days`; None where there are fewer."""
    window = rolling_days(evidence)
    if evidence.num_days < window:
        return None
    rolled = rolling_sharpe_ratio(evidence.returns, evidence.cash_returns, window, evidence.periods_per_year)
    rows = window - 1 + drawn_rows(evidence.num_days - window + 1)
    data = [
        strategy_line(
            evidence,
            name,
            rows,
            rolled[rows, evidence.names.index(name)],
            hovertemplate=f"{name}: %{{y:.2f}}<extra></extra>",
        )
        for name in drawing_order(evidence)
    ]
    return {
        "data": data,
        "layout": layout(300, yaxis=axis(f"Sharpe, {window} days"), shapes=[horizontal(0.0, SOFT_INK)]),
    }


def weights_figure(evidence: Evidence, name: str) -> Figure | None:
    """Plot the weights of a strategy, stacked to 100 %; return None for value series. Labels hold the means."""
    walk = evidence.walk_of(name)
    if walk is None:
        return None
    rows = drawn_rows(evidence.num_days, limit=WEIGHT_POINTS)
    bands = bands_of(walk.weights[:, :-1], walk.assets, "{:.1%}")
    cash = f"{CASH.lower()} {share_text(walk.weights[:, -1].mean(), '{:.1%}')}"
    bands.append((cash, walk.weights[:, -1:], CASH_COLOUR))
    data = [
        band(evidence, rows, label, held.sum(axis=1), colour, stackgroup="weights") for label, held, colour in bands
    ]
    figure = layout(
        360, showlegend=True, legend=LEGEND_BELOW, yaxis=axis("Weight", tickformat=".0%", range=[0, 1], nticks=6)
    )
    return {"data": data, "layout": figure}


def bands_of(weights: FloatArray, names: Sequence[str], pattern: str) -> list[tuple[str, FloatArray, str]]:
    """Return label, weights [T, n] and colour of each of the largest assets, and of all others as one band.

    Args:
        weights: Weights, or differences of weights, [T, N]; the largest assets have the largest mean absolute values.
        names: Names of the N assets.
        pattern: Format of the mean weight in the label.
    """
    order = np.argsort(-np.abs(weights).mean(axis=0), kind="stable")
    largest, rest = order[:SHOWN_ASSETS], order[SHOWN_ASSETS:]
    parts = [(names[i], [i], colour) for i, colour in zip(largest, ASSET_COLOURS, strict=False)]
    if len(rest):
        parts.append((f"{len(rest)} others, together", list(rest), OTHERS_COLOUR))
    return [
        (f"{name} {share_text(weights[:, which].sum(axis=1).mean(), pattern)}", weights[:, which], colour)
        for name, which, colour in parts
    ]


def share_text(share: float, pattern: str) -> str:
    """Return a fraction of the portfolio in per cent, without a sign if it rounds to zero."""
    text = pattern.format(share)
    return (text.lstrip("+-") if not text.strip("+-0.%") else text).replace("%", " %").replace("-", "−")


def band(evidence: Evidence, rows: NDArray[np.intp], label: str, held: FloatArray, colour: str, **more: Any) -> Figure:
    """Return one band of a stacked plot over the days of `rows`."""
    return {
        "type": "scatter",
        "mode": "lines",
        "name": label,
        "x": days_of(evidence, rows),
        "y": rounded(held[rows], 4),
        "line": {"width": 0, "color": colour},
        "fillcolor": colour,
        "hovertemplate": f"{label} on average, %{{y:.2%}} here<extra></extra>",
        **more,
    }


def months_figure(evidence: Evidence, name: str) -> Figure | None:
    """Return of every month, years from the newest down; None for series without dates."""
    if not evidence.has_dates:
        return None
    months = evidence.dates.astype("datetime64[M]").astype(int)
    firsts = np.flatnonzero(np.diff(months, prepend=months[0] - 1))
    growth = np.multiply.reduceat(1.0 + evidence.of(name), firsts) - 1.0
    years, numbers = 1970 + months[firsts] // 12, months[firsts] % 12
    table = pd.DataFrame({"year": years, "month": numbers, "return": growth}).pivot(
        index="year", columns="month", values="return"
    )
    table = table.reindex(columns=range(12))
    strongest = max(0.01, float(np.nanquantile(np.abs(table.to_numpy()), 0.95)))
    cells = [rounded(row, 4) for row in table.to_numpy()]
    heat = {
        "type": "heatmap",
        "z": cells,
        "x": ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"],
        "y": [str(year) for year in table.index],
        "text": [[_per_cent(value) for value in row] for row in cells],
        "texttemplate": "%{text}",
        "textfont": {"size": 10},
        "colorscale": LOSS_TO_GAIN,
        "zmin": -strongest,
        "zmax": strongest,
        "xgap": 2,
        "ygap": 2,
        "showscale": False,
        "hoverongaps": False,
        "hovertemplate": "%{x} %{y}: %{z:.1%}<extra></extra>",
    }
    figure = layout(
        max(150, 52 + 24 * len(table)),
        xaxis=axis(side="top", showgrid=False, fixedrange=True, tickangle=0),
        yaxis=axis(type="category", autorange="reversed", showgrid=False, fixedrange=True, dtick=1),
        margin={"l": 40, "r": 8, "t": 26, "b": 8},
    )
    return {"data": [heat], "layout": figure}


def crisis_figure(evidence: Evidence, crisis: Crisis) -> Figure | None:
    """Wealth from the close before the window; None where there is no day in it."""
    start = int(np.searchsorted(evidence.dates, crisis.first_day))
    stop = int(np.searchsorted(evidence.dates, crisis.last_day, side="right"))
    if stop <= start:
        return None
    wealth = np.cumprod(1.0 + evidence.returns[start:stop], axis=0) - 1.0
    rows = drawn_rows(stop - start, limit=200)
    data = [
        strategy_line(
            evidence,
            name,
            start + rows,
            wealth[rows, evidence.names.index(name)],
            hovertemplate=f"{name}: %{{y:.1%}}<extra></extra>",
        )
        for name in drawing_order(evidence)
    ]
    figure = layout(
        210,
        margin={"l": 44, "r": 8, "t": 6, "b": 28},
        xaxis=axis(nticks=4),
        yaxis=axis(tickformat=".0%", nticks=5),
        shapes=[horizontal(0.0, SOFT_INK)],
    )
    return {"data": data, "layout": figure}


def crisis_figures(evidence: Evidence) -> dict[str, Figure | None]:
    """One for each crisis."""
    return {crisis.name: crisis_figure(evidence, crisis) for crisis in CRISES}


def _per_cent(value: float | None) -> str:
    return "" if value is None else f"{100.0 * value:.1f}".replace("-", "−")
