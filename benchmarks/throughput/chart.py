"""One picture of a run: the comparison, sampling, where the time goes, and what assets cost."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.throughput.contenders import CONTENDERS
from benchmarks.throughput.summary import Side, fastest, sides
from benchmarks.throughput.tables import COMPONENTS

_COLOURS = {
    "ours": "#1b6ca8", "stock": "#d1495b", "stock_sync": "#e39aa3", "sb3_dummy": "#edae49", "sb3_subproc": "#f4d193",
    "cleanrl": "#66a182", "bare": "#4a4a4a", "vector_env": "#9aa0a6",
}  # fmt: skip
_COMPONENT_COLOURS = (
    "#2a6f4e", "#66a182", "#b5d3c1", "#d9e8df", "#eef5f0", "#7d5ba6", "#b49ad0", "#1b6ca8", "#5b9bd0", "#a5c8e6",
    "#d5e5f3", "#c9c9c9",
)  # fmt: skip


def draw(results: Mapping[str, Any], path: Path) -> bool:
    """Write the picture; returns False, and writes nothing, if the run has none of its parts."""
    by_part: dict[str, list[Side]] = {}
    for side in sides(results["measurements"]):
        by_part.setdefault(side.part, []).append(side)
    panels = {"training": _bars, "sampling": _lines, "components": _stacks, "assets": _costs}
    present = [part for part in panels if part in by_part]
    if not present:
        return False
    columns = min(2, len(present))
    rows = -(-len(present) // columns)
    figure = Figure(figsize=(7.0 * columns, 4.2 * rows), layout="constrained")
    for axes, part in zip(figure.subplots(rows, columns, squeeze=False).flat, present, strict=False):
        panels[part](axes, by_part[part])
        axes.set_title(results["parts"][part], loc="left", fontsize=11, fontweight="bold")
        axes.spines[["top", "right"]].set_visible(False)
    machine = results["machine"]
    versions = ", ".join(f"{name} {machine['packages'][name]}" for name in ("ray", "torch", "stable-baselines3"))
    figure.supxlabel(f"{machine['processor']}, {machine['cores']} cores; {versions}", fontsize=8, color="#666666")
    figure.savefig(path, dpi=150)
    return True


def _bars(axes: Axes, here: list[Side]) -> None:
    """Steps per second of each contender in its best thread setting, with the range."""
    best = [fastest(s for s in here if s.contender == name) for name in CONTENDERS]
    shown = [side for side in best if side is not None][::-1]
    spreads = [side.steps_per_second for side in shown]
    labels = [CONTENDERS[side.contender].label for side in shown]
    axes.barh(
        labels,
        [spread.median for spread in spreads],
        xerr=[[s.median - s.low for s in spreads], [s.high - s.median for s in spreads]],
        color=[_COLOURS[side.contender] for side in shown],
        error_kw={"ecolor": "#222222", "capsize": 3, "lw": 1},
    )
    for row, (side, spread) in enumerate(zip(shown, spreads, strict=True)):
        threads = side.setting["num_threads"]
        text = f"{spread.median:,.0f}  ({threads} thread{'s' * (threads > 1)})"
        axes.annotate(text, (spread.high, row), (6, 0), textcoords="offset points", va="center", fontsize=9)
    axes.set_xlim(0, 1.3 * max(spread.high for spread in spreads))
    axes.set_xlabel("environment steps per second")


def _lines(axes: Axes, here: list[Side]) -> None:
    """Steps per second by number of environments."""
    sizes = sorted({side.setting["num_envs"] for side in here})
    for name in ("ours", "stock", "stock_sync", "bare"):
        best = [fastest(s for s in here if s.contender == name and s.setting["num_envs"] == size) for size in sizes]
        shown = [side for side in best if side is not None]
        if not shown:
            continue
        axes.plot(
            [side.setting["num_envs"] for side in shown],
            [side.steps_per_second.median for side in shown],
            linestyle="--" if name == "bare" else "-",
            marker="o",
            color=_COLOURS[name],
            label=CONTENDERS[name].label,
        )
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.grid(alpha=0.25)
    axes.set_xlabel("environments")
    axes.set_ylabel("environment steps per second")
    axes.legend(frameon=False, fontsize=9)


def _stacks(axes: Axes, here: list[Side]) -> None:
    """Microseconds per step, component by component."""
    shown = sorted(here, key=lambda s: (s.setting["num_envs"], list(CONTENDERS).index(s.contender)))[::-1]
    labels = [f"{CONTENDERS[s.contender].short}\n{s.setting['num_envs']} envs" for s in shown]
    left = [0.0] * len(shown)
    for name, colour in zip(COMPONENTS, _COMPONENT_COLOURS, strict=True):
        widths = [side.components_us.get(name, 0.0) for side in shown]
        axes.barh(range(len(shown)), widths, left=left, color=colour, label=name, edgecolor="white", linewidth=0.3)
        left = [start + width for start, width in zip(left, widths, strict=True)]
    axes.set_yticks(range(len(shown)), labels, fontsize=8)
    axes.set_xlabel("microseconds per environment step, one thread")
    axes.legend(frameon=False, fontsize=8, loc="lower right")


def _costs(axes: Axes, here: list[Side]) -> None:
    """Microseconds per step by number of assets."""
    for name in ("ours", "bare", "vector_env"):
        shown = sorted((s for s in here if s.contender == name), key=lambda s: s.setting["num_assets"])
        axes.plot(
            [side.setting["num_assets"] for side in shown],
            [1e6 / side.steps_per_second.median for side in shown],
            linestyle="--" if name == "bare" else "-",
            marker="o",
            color=_COLOURS[name],
            label=CONTENDERS[name].label,
        )
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.25)
    axes.set_xlabel("assets")
    axes.set_ylabel("microseconds per environment step")
    axes.legend(frameon=False, fontsize=9)
