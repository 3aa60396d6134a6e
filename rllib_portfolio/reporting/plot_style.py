"""Style of the plots: colours, axes, and the selection of the days that are drawn."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rllib_portfolio.arrays import FloatArray
from rllib_portfolio.backtest.engine import Role
from rllib_portfolio.reporting.equity_curve import INK, MUTED_COLOURS, POLICY_COLOUR
from rllib_portfolio.reporting.inputs import ReportInputs

Figure = dict[str, Any]
"""A figure for plotly.js, with `data` and `layout`, or a part of one."""

GAIN_COLOUR, LOSS_COLOUR = POLICY_COLOUR, "#b5542b"
SUBJECT_COLOURS = (POLICY_COLOUR, LOSS_COLOUR, "#2b7a5b", "#7a4a9e", "#a3872c")
BENCHMARK_COLOUR = "#222222"
GRID, SOFT_INK = "#e7e9ec", "#5c6570"
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', 'DejaVu Sans', sans-serif"

LEGEND_BELOW = {"orientation": "h", "x": 0, "y": -0.18, "yanchor": "top", "font": {"size": 11}, "traceorder": "normal"}

SHOWN_SUBJECTS = 3
SHOWN_FIRST = (Role.BENCHMARK, Role.REFERENCE, Role.INDEX)
"""Roles that are visible when the page opens, like the first subjects; others become visible by a click."""

NARROW, MOST_TICKS = 1.5, 8
"""Ratio of highest to lowest wealth below which ticks are evenly spaced, and the largest number of ticks of an axis."""

MAX_POINTS = 900
"""Largest number of points of a line. A plot is about 400 pixels wide on a phone and 1100 on a desktop."""


def colour_of(inputs: ReportInputs, name: str) -> str:
    """Return the colour of a strategy: strong for subjects, black for the benchmark, muted for the others.

    Args:
        inputs: Inputs of the report.
        name: Name of the strategy.
    """
    if name in inputs.subjects and len(inputs.subjects) <= len(SUBJECT_COLOURS):
        return SUBJECT_COLOURS[inputs.subjects.index(name)]
    if name == inputs.headline:
        return POLICY_COLOUR
    if name == inputs.benchmark:
        return BENCHMARK_COLOUR
    others = [each for each in inputs.names if each not in (inputs.headline, inputs.benchmark)]
    return MUTED_COLOURS[1:][others.index(name) % len(MUTED_COLOURS[1:])]


def line_of(inputs: ReportInputs, name: str) -> dict[str, Any]:
    """Return colour, width and dash of a strategy's line.

    Args:
        inputs: Inputs of the report.
        name: Name of the strategy.
    """
    colour = colour_of(inputs, name)
    if name == inputs.headline:
        return {"color": colour, "width": 2.4}
    if name in inputs.subjects or name == inputs.benchmark:
        return {"color": colour, "width": 1.7}
    place = inputs.names.index(name)
    return {"color": colour, "width": 1.2, "dash": ("solid", "dash", "dot")[place // len(MUTED_COLOURS) % 3]}


def is_shown(inputs: ReportInputs, name: str) -> bool:
    """Return whether a strategy's line is visible when the page opens.

    Args:
        inputs: Inputs of the report.
        name: Name of the strategy.
    """
    if name in inputs.subjects:
        return inputs.subjects.index(name) < SHOWN_SUBJECTS
    return inputs.role_of(name) in SHOWN_FIRST


def drawing_order(inputs: ReportInputs) -> list[str]:
    """Return the names in the order of drawing, with the headline last, so that it lies on top."""
    first = [name for name in inputs.names if name not in inputs.subjects and name != inputs.benchmark]
    benchmark = [] if inputs.benchmark is None else [inputs.benchmark]
    return [*first, *benchmark, *(name for name in reversed(inputs.subjects))]


def figure(traces: Iterable[Figure], height: int, **more: Any) -> Figure:
    """Return a figure.

    Args:
        traces: Its traces.
        height: Its height in pixels.
        **more: Properties that override those of the common layout.
    """
    return {"data": list(traces), "layout": layout(height, **more)}


def trace(kind: str, x: list[Any], y: list[Any], hover: str, **more: Any) -> Figure:
    """Return a trace of bars, points or lines, or a heat map.

    Args:
        kind: Type of the trace in plotly.js, such as "scatter" or "bar".
        x: Horizontal positions; those of the columns of a heat map.
        y: Vertical positions, one for each of `x`; those of the rows of a heat map.
        hover: Template of the text under the pointer, such as "%{x}: %{y:.1%}".
        **more: Further properties of the trace.
    """
    return {"type": kind, "x": x, "y": y, "hovertemplate": f"{hover}<extra></extra>", **more}


def marks(x: list[Any], y: list[Any], hover: str, look: Mapping[str, Any], **more: Any) -> Figure:
    """Return a trace of points.

    Args:
        x: Horizontal positions.
        y: Vertical positions, one for each of `x`.
        hover: Template of the text under the pointer.
        look: Style of the markers.
        **more: Further properties of the trace.
    """
    return trace("scatter", x, y, hover, **{"mode": "markers", "marker": look, **more})


def strategy_line(
    inputs: ReportInputs, name: str, rows: NDArray[np.intp], values: FloatArray, pattern: str, **more: Any
) -> Figure:
    """Return a strategy's line, which the buttons of the page show and hide.

    Args:
        inputs: Inputs of the report.
        name: Name of the strategy.
        rows: Rows of the R days that are drawn, [R].
        values: Values of the line on these days, [R].
        pattern: Format of the values under the pointer, such as ":.1%".
        **more: Further properties of the trace.
    """
    look = {"line": line_of(inputs, name), "visible": is_shown(inputs, name), "meta": name, "name": name}
    hover = f"{name}: %{{y{pattern}}}"
    return trace("scatter", days_of(inputs, rows), rounded(values), hover, mode="lines", **look, **more)


def days_of(inputs: ReportInputs, rows: NDArray[np.intp]) -> list[Any]:
    """Return some days for the axis of a plot: dates, or numbers from 1 for series without dates.

    Args:
        inputs: Inputs of the report.
        rows: Rows of the days, each from 0 to T - 1.
    """
    return [str(day) for day in inputs.dates[rows]] if inputs.has_dates else [int(row) + 1 for row in rows]


def drawn_rows(num_days: int, kept: Iterable[int] = (), limit: int = MAX_POINTS) -> NDArray[np.intp]:
    """Return the rows of the days that are drawn: evenly spaced ones from the first to the last, and those in `kept`.

    Args:
        num_days: Number of days, T.
        kept: Rows that are drawn in any case, such as those of extreme values.
        limit: Largest number of evenly spaced rows. All rows are returned if there are no more than these.
    """
    if num_days <= limit:
        return np.arange(num_days)
    even = np.linspace(0, num_days - 1, limit).round().astype(np.intp)
    return np.unique(np.concatenate([even, np.fromiter(kept, dtype=np.intp)]))


def rounded(values: FloatArray, digits: int = 5) -> list[float | None]:
    """Return the values rounded to significant digits, with None for NaN and infinity.

    Args:
        values: The values, [R].
        digits: Number of significant digits.
    """
    return [float(f"{value:.{digits}g}") if math.isfinite(value) else None for value in np.asarray(values)]


def layout(height: int, **more: Any) -> Figure:
    """Return the common layout of a figure.

    Args:
        height: Height of the figure in pixels.
        **more: Properties that override those of the common layout.
    """
    return {
        "height": height,
        "margin": {"l": 52, "r": 14, "t": 10, "b": 34},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": FONT, "size": 12, "color": INK},
        "showlegend": False,
        "hovermode": "closest",
        "hoverlabel": {"bgcolor": "white", "bordercolor": GRID, "font": {"family": FONT, "size": 12, "color": INK}},
        "xaxis": axis(),
        "yaxis": axis(),
        **more,
    }


def axis(title: str = "", **more: Any) -> Figure:
    """Return an axis in the common style.

    Args:
        title: Text beside the axis.
        **more: Properties that override those of the common style.
    """
    return {
        "gridcolor": GRID,
        "zeroline": False,
        "linecolor": GRID,
        "ticks": "",
        "tickfont": {"color": SOFT_INK, "size": 11},
        "title": {"text": title, "font": {"size": 11, "color": SOFT_INK}, "standoff": 6},
        "automargin": True,
        "fixedrange": False,
        **more,
    }


def horizontal(y: float, colour: str, dash: str = "solid") -> Figure:
    """Return a horizontal line over the whole width.

    Args:
        y: Its position on the vertical axis.
        colour: Its colour.
        dash: Its dash style in plotly.js.
    """
    line = {"color": colour, "width": 1, "dash": dash}
    return {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": y, "y1": y, "line": line}


def vertical(x: float, colour: str, dash: str = "solid") -> Figure:
    """Return a vertical line over the whole height, behind the marks.

    Args:
        x: Its position on the horizontal axis.
        colour: Its colour.
        dash: Its dash style in plotly.js.
    """
    line = {"color": colour, "width": 1, "dash": dash}
    return {"type": "line", "yref": "paper", "y0": 0, "y1": 1, "x0": x, "x1": x, "line": line, "layer": "below"}


def log_ticks(lowest: float, highest: float) -> list[float]:
    """Return a few round values for a logarithmic axis of wealth, evenly spaced if wealth hardly moves.

    Args:
        lowest: Lowest wealth on the axis, above 0.
        highest: Highest wealth on the axis.
    """
    if highest < NARROW * lowest:
        for gap in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5):
            places = range(math.ceil(lowest / gap), math.floor(highest / gap) + 1)
            if len(places) <= MOST_TICKS and gap >= 0.01 * highest:
                return [round(place * gap, 2) for place in places]
    steps: tuple[tuple[float, ...], ...] = ((1.0, 1.2, 1.5, 2.0, 3.0, 5.0, 7.0), (1.0, 2.0, 5.0), (1.0,))
    for step in steps:
        exponents = range(math.floor(math.log10(lowest)) - 1, math.ceil(math.log10(highest)) + 1)
        ticks = [each * 10.0**power for power in exponents for each in step]
        inside = [tick for tick in ticks if lowest * 0.98 <= tick <= highest * 1.02]
        if len(inside) <= MOST_TICKS:
            break
    return inside
