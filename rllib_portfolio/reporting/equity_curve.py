"""Figures for reports and the README, drawn without pyplot's global state."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rllib_portfolio.backtest.engine import BacktestResult
from rllib_portfolio.statistics.metrics import drawdown

if TYPE_CHECKING:
    from matplotlib.axes import Axes


POLICY_COLOUR = "#1756a9"
MUTED_COLOURS = ("#4d4d4d", "#c99a5b", "#86a882", "#a58bb5", "#8b98a7", "#c58c85")
"""Colours of the baselines, in their order; they repeat after the last one."""

INK, FAINT = "#333333", "#e4e4e4"
LEGEND_WIDTH = 30
"""Characters per line of the legend; longer names take several lines, which leaves room for the curves."""


def equity_curve(results: Sequence[BacktestResult], path: Path, title: str = "") -> None:
    """Draw wealth (log scale) above drawdown into a PNG, 1800 pixels wide.

    Args:
        results: Results over the same days: the policy, then 1/N, then other baselines.
        path: PNG file to write.
        title: One line above the figure.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.0, 5.6), dpi=200, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    wealth_axes, drawdown_axes = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    _draw_wealth(wealth_axes, results)
    _draw_drawdown(drawdown_axes, results)
    for axes in (wealth_axes, drawdown_axes):
        _plain(axes)
    wealth_axes.set_title(title, loc="left", fontsize=11, color=INK, pad=10)
    figure.align_ylabels()
    figure.savefig(path, format="png")


def _draw_wealth(axes: Axes, results: Sequence[BacktestResult]) -> None:
    for rank, result in reversed(list(enumerate(results))):
        axes.plot(_closes(result), result.wealth, **_line(rank))
    axes.set_yscale("log")
    _tick_wealth(axes)
    axes.set_ylabel("Wealth, start = 1 (log)", fontsize=9, color=INK)
    _legend(axes, results)


def _draw_drawdown(axes: Axes, results: Sequence[BacktestResult]) -> None:
    """Draw the drawdowns of the policy and of the first baseline only, since more lines would hide both."""
    for rank, result in enumerate(results[:2]):
        depth = -100.0 * drawdown(result.returns)
        if rank == 0:
            axes.fill_between(_closes(result), depth, 0.0, color=POLICY_COLOUR, alpha=0.15, linewidth=0)
        axes.plot(_closes(result), depth, **(_line(rank) | {"linewidth": 0.9}))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0f} %")
    axes.set_ylim(top=0.0)
    axes.set_ylabel("Drawdown", fontsize=9, color=INK)


def _tick_wealth(axes: Axes) -> None:
    """Set ticks at round multiples of the starting wealth, or other ticks if there are too few or too many of them."""
    from matplotlib.ticker import FixedLocator, LogLocator, MaxNLocator, NullLocator

    low, high = axes.get_ylim()
    steps = [step * 10.0**decade for decade in range(-3, 4) for step in (1, 1.5, 2, 3, 5, 7)]
    ticks = [tick for tick in steps if low <= tick <= high]
    if len(ticks) > 9:
        axes.yaxis.set_major_locator(LogLocator(numticks=8))
    else:
        axes.yaxis.set_major_locator(FixedLocator(ticks) if len(ticks) > 2 else MaxNLocator(5))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")


def _legend(axes: Axes, results: Sequence[BacktestResult]) -> None:
    """Write each name and final wealth beside the axes, the highest wealth first, the policy in bold."""
    lines = dict(zip(results, reversed(axes.get_lines()), strict=True))  # the policy is drawn last
    order = sorted(results, key=lambda result: -result.wealth[-1])
    legend = axes.legend(
        [lines[result] for result in order],
        [textwrap.fill(f"{result.name}  {result.wealth[-1]:.2f}", LEGEND_WIDTH) for result in order],
        loc="upper left",
        bbox_to_anchor=(1.0, 1.0),
        borderaxespad=0.0,
        handlelength=1.0,
        handletextpad=0.5,
        fontsize=8.5,
        labelcolor=INK,
        frameon=False,
    )
    legend.get_texts()[order.index(results[0])].set_fontweight("bold")


def _line(rank: int) -> dict[str, Any]:
    if rank == 0:
        return {"color": POLICY_COLOUR, "linewidth": 2.0, "zorder": 10}
    colour = MUTED_COLOURS[(rank - 1) % len(MUTED_COLOURS)]
    return {"color": colour, "linewidth": 1.3 if rank == 1 else 0.9, "zorder": 6 if rank == 1 else 5}


def _closes(result: BacktestResult) -> NDArray[np.datetime64]:
    """Return the T+1 closes of the wealth path; the first one is drawn one day before the first return."""
    return np.concatenate([result.dates[:1] - np.timedelta64(1, "D"), result.dates])


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#b0b0b0")
    axes.grid(axis="y", color=FAINT, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, labelsize=9, length=3, width=0.7)
    axes.margins(x=0.0)
