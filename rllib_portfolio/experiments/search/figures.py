"""The figures of a search, as plotly.js takes them: Optuna's, in the house's look.

Optuna draws finished trials only, cuts long names short and shows lists as Python would; history and slices get the
pruned trials here, axes their whole names.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

import optuna
from optuna.importance import FanovaImportanceEvaluator
from optuna.trial import FrozenTrial, TrialState
from optuna.visualization import (
    plot_optimization_history,
    plot_parallel_coordinate,
    plot_param_importances,
    plot_slice,
)
from plotly.colors import sample_colorscale

from rllib_portfolio.experiments.search.outputs import STATES
from rllib_portfolio.reporting.equity_curve import POLICY_COLOUR
from rllib_portfolio.reporting.plot_style import (
    BENCHMARK_COLOUR,
    SOFT_INK,
    SUBJECT_COLOURS,
    Figure,
    axis,
    horizontal,
    layout,
    log_ticks,
)

SHARPE = "validation Sharpe ratio"
BEST_COLOUR, PRUNED_COLOUR = SUBJECT_COLOURS[1], "#a9b1bb"
LOW_TO_HIGH = [[0.0, "#dbe4f0"], [0.6, "#a3bcdd"], [1.0, POLICY_COLOUR]]
IMPORTANCE_SEED = 0
"""Of the forest behind the importances: one study, one page."""

HISTORY_HEIGHT, PARALLEL_HEIGHT, SLICE_HEIGHT = 440, 460, 250
TICK_GAP = 0.045
"""Smallest distance of two tick labels on an axis of the parallel coordinates, as a fraction of its height."""


class NothingToDrawError(Exception):
    """Why a figure cannot be made, as a sentence."""


class Study(NamedTuple):
    """A study, read once.

    Attributes:
        optuna: The study itself.
        trials: All of its trials, by number.
        settings: Dotted names of what the finished ones have searched.
        best: The finished trial with the highest value.
        equal_weight_sharpe: Sharpe ratio of 1/N, which needs no training; None if it is undefined.
    """

    optuna: optuna.Study
    trials: list[FrozenTrial]
    settings: list[str]
    best: FrozenTrial
    equal_weight_sharpe: float | None

    def with_value(self, state: TrialState) -> list[FrozenTrial]:
        """The trials that ended so and have a Sharpe ratio."""
        return [trial for trial in self.trials if trial.state == state and trial.value is not None]


def history(study: Study) -> Figure:
    """Plot the Sharpe ratio by trial: finished and pruned trials, the best finished one so far, and 1/N."""
    finished, best_so_far, _infeasible = _optuna_figure(plot_optimization_history(study.optuna))["data"]
    texts = {trial.number: _hover(trial) for trial in study.trials}
    finished |= {
        "name": "finished",
        "marker": {"color": POLICY_COLOUR, "size": 8},
        "text": [texts[number] for number in finished["x"]],
        "hovertemplate": "%{text}<extra></extra>",
    }
    best_so_far |= {
        "name": "best so far",
        "line": {"color": BEST_COLOUR, "width": 1.6, "shape": "hv"},
        "hoverinfo": "skip",
    }
    pruned, best = _points(study.with_value(TrialState.PRUNED), "pruned"), _points([study.best], "best")
    ends = [-0.7, len(study.trials) - 0.3]
    return {
        "data": [finished, pruned, best_so_far, *_equal_weight(study, ends), best],
        "layout": layout(
            HISTORY_HEIGHT,
            xaxis=axis("trial", range=ends, **({"dtick": 1} if len(study.trials) < 12 else {})),
            yaxis=axis(SHARPE),
            showlegend=True,
            legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        ),
    }


def _equal_weight(study: Study, ends: list[float]) -> list[Figure]:
    """Return 1/N as a horizontal line with an entry in the legend; empty if it is undefined."""
    value = study.equal_weight_sharpe
    if value is None:
        return []
    line = {"color": BENCHMARK_COLOUR, "width": 1.4, "dash": "dot"}
    shown = {"type": "scatter", "mode": "lines", "name": "1/N", "x": ends, "y": [value, value], "line": line}
    return [shown | {"hovertemplate": f"1/N: {value:.3f}<extra></extra>"}]


def importances(study: Study) -> Figure:
    """Share of each setting in the differences between finished trials, as bars.

    Raises:
        NothingToDrawError: If they do not differ.
    """
    if len({trial.value for trial in study.with_value(TrialState.COMPLETE)}) < 2:
        raise NothingToDrawError("Importances need at least two finished trials with different Sharpe ratios.")
    try:
        drawn = plot_param_importances(study.optuna, evaluator=FanovaImportanceEvaluator(seed=IMPORTANCE_SEED))
    except RuntimeError:  # no tree of the forest finds a setting to split on
        raise NothingToDrawError("No setting explains why the finished trials' Sharpe ratios differ.") from None
    bars = _optuna_figure(drawn)["data"]
    for bar in bars:
        bar |= {"marker": {"color": POLICY_COLOUR}, "hovertemplate": "%{y}: %{x:.3f}<extra></extra>", "width": 0.6}
    shape = layout(
        90 + 36 * len(study.settings),
        xaxis=axis("share explained", rangemode="tozero"),
        yaxis=axis(showgrid=False, ticksuffix="  "),
    )
    shape["margin"] = shape["margin"] | {"r": 44}
    return {"data": bars, "layout": shape}


def parallel_coordinates(study: Study) -> Figure:
    """A line for each finished trial over an axis for each setting; the best stands out."""
    drawn = _optuna_figure(plot_parallel_coordinate(study.optuna, target_name=SHARPE))
    names = [SHARPE, *sorted(study.settings)]  # in Optuna's order, which cuts long ones short
    *lines, scale = drawn["data"]
    _in_order_of_choices(study, drawn)
    lines.sort(key=lambda line: line["y"][0])  # the best on top
    for line in lines:
        line["customdata"] = [[name, _number(text)] for name, (_, text) in zip(names, line["customdata"], strict=True)]
        line["opacity"] = 0.8
        line["line"] = {"color": sample_colorscale(LOW_TO_HIGH, line["y"][0])[0], "width": 1.4}
    lines[-1] |= {"opacity": 1.0, "line": {"color": BEST_COLOUR, "width": 2.6}}
    scale["marker"] |= {"colorscale": LOW_TO_HIGH, "reversescale": False}
    scale["marker"]["colorbar"] = {"title": {"text": "Sharpe"}, "thickness": 10, "outlinewidth": 0, "len": 0.9}
    ticks = _uncrowded(drawn["layout"]["annotations"])
    xaxis = drawn["layout"]["xaxis"] | {"ticktext": [_wrapped(name) for name in names], "tickangle": 0}
    return {
        "data": [*lines, scale],
        "layout": layout(
            PARALLEL_HEIGHT,
            xaxis=axis(**xaxis, fixedrange=True, showline=False) | {"automargin": True},
            yaxis=drawn["layout"]["yaxis"],
            annotations=ticks,
            shapes=drawn["layout"]["shapes"],
        ),
    }


def slices(study: Study) -> dict[str, Figure]:
    """Plot the Sharpe ratio over the values of each setting, on one vertical axis, with 1/N as a dotted line."""
    ended = [*study.with_value(TrialState.COMPLETE), *study.with_value(TrialState.PRUNED)]
    bar = study.equal_weight_sharpe
    shown = [*(trial.values[0] for trial in ended), *([] if bar is None else [bar])]
    low, high = min(shown), max(shown)
    margin = 0.06 * (high - low) or 0.5
    figures = {name: _slice(study, name) for name in study.settings}
    for figure in figures.values():
        figure["layout"]["yaxis"]["range"] = [low - margin, high + margin]
        figure["layout"]["shapes"] = [] if bar is None else [horizontal(bar, BENCHMARK_COLOUR, "dot")]
    return figures


def _slice(study: Study, name: str) -> Figure:
    drawn = _optuna_figure(plot_slice(study.optuna, params=[name]))
    (finished,) = drawn["data"]
    numbers = finished["marker"]["color"]
    texts = {trial.number: _hover(trial) for trial in study.trials}
    is_category = drawn["layout"]["xaxis"].get("type") == "category"
    finished |= {
        "x": [_unquoted(value) for value in finished["x"]] if is_category else finished["x"],
        "text": [texts[number] for number in numbers],
        "hovertemplate": "%{text}<extra></extra>",
        "marker": {"color": numbers, "colorscale": LOW_TO_HIGH, "size": 7, "showscale": False},
    }
    pruned, best = (
        _points([trial for trial in trials if name in trial.params], word, name, is_category)
        for trials, word in ((study.with_value(TrialState.PRUNED), "pruned"), ([study.best], "best"))
    )
    xaxis = axis()
    if is_category:
        categories = [_unquoted(value) for value in drawn["layout"]["xaxis"]["categoryarray"]]
        whole = [-0.5, len(categories) - 0.5]  # of the axis, choices that no trial made included
        xaxis |= {"type": "category", "categoryorder": "array", "categoryarray": categories, "range": whole}
    elif drawn["layout"]["xaxis"].get("type") == "log":
        xaxis |= _log_axis([*finished["x"], *pruned["x"]])
    return {
        "data": [pruned, finished, best],
        "layout": layout(SLICE_HEIGHT, xaxis=xaxis, yaxis=axis()),
    }


# ---------------------------------------------------------------- pieces


def _optuna_figure(figure: Any) -> Figure:
    """Data and layout as plain values, null for what is not finite, without the template."""
    plain: Figure = json.loads(figure.to_json())
    plain["layout"].pop("template", None)
    return plain


def _points(trials: Sequence[FrozenTrial], word: str, setting: str | None = None, is_category: bool = False) -> Figure:
    """Rings, over the trials' numbers or over the values of one of their settings."""
    places = [trial.number if setting is None else trial.params[setting] for trial in trials]
    style = {"color": BEST_COLOUR, "size": 13} if word == "best" else {"color": PRUNED_COLOUR, "size": 7}
    return {
        "type": "scatter",
        "mode": "markers",
        "name": word,
        "x": [str(place) for place in places] if is_category else places,
        "y": [trial.value for trial in trials],
        "text": [_hover(trial) for trial in trials],
        "hovertemplate": "%{text}<extra></extra>",
        "marker": {**style, "symbol": "circle-open", "line": {"width": 2 if word == "best" else 1.4}},
    }


def _hover(trial: FrozenTrial) -> str:
    steps = trial.user_attrs.get("steps")
    after = "" if steps is None else f" after {steps} steps"
    value = "" if trial.value is None else f", {trial.value:.3f}"
    head = f"<b>trial {trial.number}{value}</b> ({STATES[trial.state]}{after})"
    return "<br>".join([head, *(f"{escape(name)}: {_short(value)}" for name, value in trial.params.items())])


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else escape(str(value))


def _log_axis(values: Sequence[float]) -> Figure:
    """Round ticks, and of many the powers of ten only."""
    ticks = log_ticks(min(values), max(values))
    tens = [tick for tick in ticks if f"{tick:e}".startswith("1.000000e")]
    shown = (tens if len(ticks) > 4 and len(tens) > 1 else ticks) or [min(values), max(values)]
    return {"type": "log", "tickvals": shown, "ticktext": [_number(f"{tick:g}") for tick in shown], "tickangle": 0}


def _in_order_of_choices(study: Study, drawn: Figure) -> None:
    """Move named choices to the order of the search space; Optuna has them in the order that trials drew them."""
    distributions = {name: kind for trial in study.trials for name, kind in trial.distributions.items()}
    for place, name in enumerate(sorted(study.settings), start=1):
        choices = getattr(distributions[name], "choices", ())
        ticks = [tick for tick in drawn["layout"]["annotations"] if tick["x"] == place]
        drawn_choices = [choice for choice in choices if choice in {tick["text"] for tick in ticks}]
        if len(drawn_choices) < 2 or len(drawn_choices) < len(ticks):
            continue
        heights = {choice: rank / (len(drawn_choices) - 1) for rank, choice in enumerate(drawn_choices)}
        for tick in ticks:
            tick["y"] = heights[tick["text"]]
        for line in drawn["data"][:-1]:
            line["y"][place] = heights[line["customdata"][place][1]]


def _uncrowded(ticks: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Optuna's tick labels, the lowest and highest of an axis first, then those that have room beside them."""
    kept: list[dict[str, Any]] = []
    for tick in sorted(ticks, key=lambda tick: (tick["x"], tick["y"] not in (0.0, 1.0), tick["y"])):
        if all(tick["x"] != other["x"] or abs(tick["y"] - other["y"]) > TICK_GAP for other in kept):
            kept.append(
                {
                    **tick,
                    "text": _number(tick["text"]),
                    "font": {"size": 10.5, "color": SOFT_INK},
                    "bgcolor": "rgba(255,255,255,.8)",
                    "borderpad": 1,
                }
            )
    return kept


def _number(text: str) -> str:
    """`1250` for `1.25e+03` and `2e-5` for `2e-05`; what is no number stays as it is."""
    try:
        value = float(text)
    except ValueError:
        return text
    if value == 0.0 or abs(value) >= 1e-3:
        return f"{value:g}"
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"


def _unquoted(category: str) -> str:
    """The choice that Optuna shows as Python would: `[256, 256]` for `'[256, 256]'`."""
    return category[1:-1] if category[:1] in ("'", '"') else category


def _wrapped(name: str, width: int = 17) -> str:
    """A dotted name over several lines, the section in the first, the setting broken after underscores and spaces."""
    section, dot, setting = name.rpartition(".")
    lines = [""]
    for part in re.findall(r"[^_ ]+[_ ]?", setting):
        if lines[-1] and len(lines[-1] + part.strip()) > width:
            lines.append("")
        lines[-1] += part
    return "<br>".join([section + dot, *(line.strip() for line in lines)] if dot else [line.strip() for line in lines])
