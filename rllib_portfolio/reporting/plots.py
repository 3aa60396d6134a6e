"""Plots over time: wealth and drawdown, rolling Sharpe ratio, weights, monthly returns, crises."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rllib_portfolio.arrays import FloatArray
from rllib_portfolio.dates import rows_between
from rllib_portfolio.market import CASH
from rllib_portfolio.reporting.inputs import ReportInputs
from rllib_portfolio.reporting.plot_style import (
    BENCHMARK_COLOUR,
    GAIN_COLOUR,
    LEGEND_BELOW,
    LOSS_COLOUR,
    SOFT_INK,
    Figure,
    axis,
    days_of,
    drawing_order,
    drawn_rows,
    figure,
    horizontal,
    is_shown,
    log_ticks,
    rounded,
    strategy_line,
    trace,
)
from rllib_portfolio.statistics import metrics
from rllib_portfolio.statistics.crises import Crisis
from rllib_portfolio.statistics.rolling import rolling_sharpe_ratio

SHOWN_ASSETS = 10
"""Number of assets with their own bands in the plots of weights; the others share one band."""

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
OTHERS_COLOUR, CASH_COLOUR = "#c3c9d1", "#e9ecef"
LOSS_TO_GAIN = [[0.0, LOSS_COLOUR], [0.5, "#fbfbfa"], [1.0, GAIN_COLOUR]]

SIGNED = "{:+.1%}"
NAMED_TILTS = 3
"""Number of overweight and of underweight assets that the text names."""

SHOWN_DAYS = 0.99
"""Fraction of the days that the axis covers if a few extreme days would flatten the others."""

SMALLEST_TILT = 0.0005
"""Smallest tilt that is named, as a fraction of the portfolio."""


def wealth_figure(inputs: ReportInputs) -> Figure:
    """Plot wealth on a logarithmic scale above drawdown, with a common time axis."""
    wealth = np.cumprod(1.0 + inputs.returns, axis=0)
    under_water = -metrics.drawdown(inputs.returns)[1:]
    turns = [*under_water.argmin(axis=0), *wealth.argmax(axis=0), *wealth.argmin(axis=0)]
    rows = drawn_rows(inputs.num_days, [int(row) for row in turns])
    data = []
    for name in drawing_order(inputs):
        k = inputs.names.index(name)
        data.append(strategy_line(inputs, name, rows, wealth[rows, k], ""))
        data.append(strategy_line(inputs, name, rows, under_water[rows, k], ":.1%", yaxis="y2"))
    shown = [k for k, name in enumerate(inputs.names) if is_shown(inputs, name)]
    ticks = log_ticks(float(wealth[:, shown].min()), float(wealth[:, shown].max()))
    scale = {"type": "log", "tickvals": ticks, "ticktext": [f"{tick:g}" for tick in ticks]}
    return figure(
        data,
        440,
        yaxis=axis("Wealth, start = 1 (log)", domain=[0.34, 1.0], **scale),
        yaxis2=axis("Drawdown", domain=[0.0, 0.27], tickformat=".0%", nticks=5),
        xaxis=axis(anchor="y2"),
    )


def rolling_days(inputs: ReportInputs) -> int:
    """Return the window of the rolling Sharpe ratio: one year, such as 252 days."""
    return max(2, round(inputs.periods_per_year))


def rolling_figure(inputs: ReportInputs) -> Figure | None:
    """Plot the Sharpe ratio of the last `rolling_days` days; return None if the series are shorter."""
    window = rolling_days(inputs)
    if inputs.num_days < window:
        return None
    rolled = rolling_sharpe_ratio(inputs.returns, inputs.cash_returns, window, inputs.periods_per_year)
    rows = window - 1 + drawn_rows(inputs.num_days - window + 1)
    lines = _strategy_lines(inputs, rows, rolled[rows], ":.2f")
    return figure(lines, 300, yaxis=axis(f"Sharpe, {window} days"), shapes=[horizontal(0.0, SOFT_INK)])


def weights_figure(inputs: ReportInputs, name: str) -> Figure | None:
    """Plot the weights of a strategy, stacked to 100 %, with means in the labels; return None for value series.

    Args:
        inputs: Inputs of the report.
        name: Name of the strategy.
    """
    walk = inputs.walk_of(name)
    if walk is None:
        return None
    rows = drawn_rows(inputs.num_days, limit=WEIGHT_POINTS)
    bands = bands_of(walk.weights[:, :-1], walk.assets, "{:.1%}")
    cash = f"{CASH.lower()} {share_text(walk.weights[:, -1].mean(), '{:.1%}')}"
    bands.append((cash, walk.weights[:, -1:], CASH_COLOUR))
    data = [band(inputs, rows, label, held.sum(axis=1), colour, stackgroup="weights") for label, held, colour in bands]
    yaxis = axis("Weight", tickformat=".0%", range=[0, 1], nticks=6)
    return figure(data, 360, showlegend=True, legend=LEGEND_BELOW, yaxis=yaxis)


def bands_of(weights: FloatArray, names: Sequence[str], pattern: str) -> list[tuple[str, FloatArray, str]]:
    """Return label, weights [T, n] and colour of a band for each of the largest assets, and of one for all others.

    Args:
        weights: Weights or differences of weights, [T, N]; assets are ordered by their mean absolute values.
        names: Names of the N assets.
        pattern: Format of the mean weight in the label.
    """
    order = np.argsort(-np.abs(weights).mean(axis=0), kind="stable")
    largest, rest = order[:SHOWN_ASSETS], order[SHOWN_ASSETS:]
    parts = [(names[i], [i], colour) for i, colour in zip(largest, ASSET_COLOURS, strict=False)]
    if len(rest):
        parts.append((f"{len(rest)} other {'asset' if len(rest) == 1 else 'assets'}", list(rest), OTHERS_COLOUR))
    return [
        (f"{name} {share_text(weights[:, which].sum(axis=1).mean(), pattern)}", weights[:, which], colour)
        for name, which, colour in parts
    ]


def share_text(share: float, pattern: str) -> str:
    """Return a fraction of the portfolio in per cent, without a sign if it rounds to zero.

    Args:
        share: The fraction.
        pattern: Format of the fraction, such as "{:.1%}".
    """
    text = pattern.format(share)
    return (text.lstrip("+-") if not text.strip("+-0.%") else text).replace("%", " %").replace("-", "−")


def band(
    inputs: ReportInputs, rows: NDArray[np.intp], label: str, held: FloatArray, colour: str, **more: Any
) -> Figure:
    """Return one band of a stacked plot.

    Args:
        inputs: Inputs of the report.
        rows: Rows of the days that are drawn.
        label: Name of the band in the legend.
        held: Height of the band on all days, [T].
        colour: Colour of the band.
        **more: Further properties of the trace, such as the stack that the band belongs to.
    """
    look = {"mode": "lines", "line": {"width": 0, "color": colour}, "fillcolor": colour, "name": label}
    hover = f"{label} on average, %{{y:.2%}} here"
    return trace("scatter", days_of(inputs, rows), rounded(held[rows], 4), hover, **look, **more)


def relative_figure(inputs: ReportInputs) -> Figure | None:
    """Plot the wealth of the judged strategies relative to the benchmark; return None without a benchmark."""
    benchmark = inputs.benchmark_returns
    if benchmark is None:
        return None
    data = []
    for name in reversed(inputs.subjects):
        ratio = np.asarray(np.cumprod((1.0 + inputs.of(name)) / (1.0 + benchmark)), dtype=np.float64)
        rows = drawn_rows(inputs.num_days, [int(ratio.argmax()), int(ratio.argmin())])
        text = f"{name}: %{{y:.3f}} of {inputs.benchmark}<extra></extra>"
        data.append(strategy_line(inputs, name, rows, ratio[rows], "") | {"hovertemplate": text})
    title = axis(f"Wealth relative to {inputs.benchmark}")
    return figure(data, 280, yaxis=title, shapes=[horizontal(1.0, BENCHMARK_COLOUR, "dot")])


def active_weights(inputs: ReportInputs, name: str) -> FloatArray | None:
    """Return the weights of a strategy minus those of the benchmark, cash last, [T, N+1]; None for value series.

    Args:
        inputs: Inputs of the report.
        name: Name of the strategy.
    """
    walk, benchmark = inputs.walk_of(name), inputs.walk_of(str(inputs.benchmark))
    return None if walk is None or benchmark is None else walk.weights - benchmark.weights


def active_weights_figure(inputs: ReportInputs, name: str) -> Figure | None:
    """Plot the weights above and below the benchmark, stacked to either side; return None for value series.

    The bands above zero and those below have the same total height, which is the active share of the day.

    Args:
        inputs: Inputs of the report.
        name: Name of the strategy.
    """
    active, walk = active_weights(inputs, name), inputs.walk_of(name)
    if active is None or walk is None:
        return None
    rows = drawn_rows(inputs.num_days, limit=WEIGHT_POINTS)
    data = []
    for label, held, colour in bands_of(active, (*walk.assets, CASH.lower()), SIGNED):
        above, below = np.maximum(held, 0.0).sum(axis=1), np.minimum(held, 0.0).sum(axis=1)
        data.append(band(inputs, rows, label, above, colour, stackgroup="above", legendgroup=label))
        data.append(band(inputs, rows, label, below, colour, stackgroup="below", legendgroup=label, showlegend=False))
    yaxis = axis(f"Weight minus that of {inputs.benchmark}", tickformat="+.1~%", nticks=7, zeroline=True)
    height = 0.5 * np.abs(active).sum(axis=1)
    usual = 1.25 * float(np.quantile(height, SHOWN_DAYS))
    if 0.0 < usual < 0.5 * height.max():  # otherwise a single day in cash would flatten all others
        yaxis["range"] = [-usual, usual]
        yaxis["title"]["text"] += " (axis cut off on some days)"
    return figure(data, 360, showlegend=True, legend=LEGEND_BELOW, yaxis=yaxis)


def tilts(inputs: ReportInputs, name: str) -> str:
    """Return sentences on the active share and the largest mean tilts of a strategy; empty for value series.

    Args:
        inputs: Inputs of the report.
        name: Name of the strategy.
    """
    active, walk = active_weights(inputs, name), inputs.walk_of(name)
    if active is None or walk is None:
        return ""
    mean, names = active.mean(axis=0), (*walk.assets, CASH.lower())
    order = np.argsort(-mean, kind="stable")
    above, below = (
        [f"{names[i]} ({share_text(mean[i], SIGNED)})" for i in side[:NAMED_TILTS] if sign * mean[i] > SMALLEST_TILT]
        for sign, side in ((1.0, order), (-1.0, order[::-1]))
    )
    elsewhere = share_text(0.5 * np.abs(active).sum(axis=1).mean(), "{:.1%}")
    sides = [f"overweight {', '.join(above)}"] * bool(above) + [f"underweight {', '.join(below)}"] * bool(below)
    return (
        f"The active share of {name} against {inputs.benchmark} is {elsewhere} on average over these days. "
        f"Largest mean tilts, as shares of the portfolio: {'; '.join(sides) or 'none'}."
    )


def months_figure(inputs: ReportInputs, name: str) -> Figure | None:
    """Plot the return of every month as a heat map with a row per year; return None for series without dates.

    Args:
        inputs: Inputs of the report.
        name: Name of the strategy.
    """
    if not inputs.has_dates:
        return None
    months = inputs.dates.astype("datetime64[M]").astype(int)
    firsts = np.flatnonzero(np.diff(months, prepend=months[0] - 1))
    growth = np.multiply.reduceat(1.0 + inputs.of(name), firsts) - 1.0
    years, numbers = 1970 + months[firsts] // 12, months[firsts] % 12
    table = pd.DataFrame({"year": years, "month": numbers, "return": growth}).pivot(
        index="year", columns="month", values="return"
    )
    table = table.reindex(columns=range(12))
    strongest = max(0.01, float(np.nanquantile(np.abs(table.to_numpy()), 0.95)))
    cells = [rounded(row, 4) for row in table.to_numpy()]
    look = {"colorscale": LOSS_TO_GAIN, "zmin": -strongest, "zmax": strongest, "xgap": 2, "ygap": 2, "showscale": False}
    heat = trace(
        "heatmap",
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"],
        [str(year) for year in table.index],
        "%{x} %{y}: %{z:.1%}",
        z=cells,
        text=[[_per_cent(value) for value in row] for row in cells],
        texttemplate="%{text}",
        textfont={"size": 10},
        hoverongaps=False,
        **look,
    )
    return figure(
        [heat],
        max(150, 52 + 24 * len(table)),
        xaxis=axis(side="top", showgrid=False, fixedrange=True, tickangle=0),
        yaxis=axis(type="category", autorange="reversed", showgrid=False, fixedrange=True, dtick=1),
        margin={"l": 40, "r": 8, "t": 26, "b": 8},
    )


def crisis_figure(inputs: ReportInputs, crisis: Crisis) -> Figure | None:
    """Plot the return since the close before the crisis; return None if no day of the report lies in it.

    Args:
        inputs: Inputs of the report, which must have dates.
        crisis: The crisis.
    """
    start, stop = rows_between(inputs.dates, crisis.first_day, crisis.last_day)
    if stop <= start:
        return None
    wealth = np.cumprod(1.0 + inputs.returns[start:stop], axis=0) - 1.0
    rows = drawn_rows(stop - start, limit=200)
    return figure(
        _strategy_lines(inputs, start + rows, wealth[rows], ":.1%"),
        210,
        margin={"l": 44, "r": 8, "t": 6, "b": 28},
        xaxis=axis(nticks=4),
        yaxis=axis(tickformat=".0%", nticks=5),
        shapes=[horizontal(0.0, SOFT_INK)],
    )


def _strategy_lines(inputs: ReportInputs, rows: NDArray[np.intp], values: FloatArray, pattern: str) -> list[Figure]:
    """Return one line per strategy over the days of `rows`; `values` is [R, K] for R rows."""
    columns = dict(zip(inputs.names, values.T, strict=True))
    return [strategy_line(inputs, name, rows, columns[name], pattern) for name in drawing_order(inputs)]


def _per_cent(value: float | None) -> str:
    return "" if value is None else f"{100.0 * value:.1f}".replace("-", "−")
