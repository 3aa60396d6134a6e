"""HTML page of a report: one self-contained file for readers who do not know the project.

Its texts and their order are in `templates/report.html.j2`, which escapes every value.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from datetime import datetime
from functools import cache
from importlib.resources import files as resources
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from rllib_portfolio.dates import date_text
from rllib_portfolio.reporting import plot_style, plots, statistics_plots
from rllib_portfolio.reporting.columns import COLUMNS, DASH, GROUPS, WHY_EMPTY, Column, text_of
from rllib_portfolio.reporting.falsification import falsification
from rllib_portfolio.reporting.plot_style import Figure
from rllib_portfolio.reporting.report import Report
from rllib_portfolio.reporting.seed_spread import OVER_FOLDS
from rllib_portfolio.reporting.serialisation import json_value
from rllib_portfolio.revision import git_revision, version_of
from rllib_portfolio.shown_text import displayable_lines
from rllib_portfolio.statistics.crises import CRISES
from rllib_portfolio.statistics.significance import textbook_tests
from rllib_portfolio.statistics.verdicts import SIGNIFICANCE_LEVEL, p_text

SHOWN_VERDICTS = 3
"""Number of verdicts that are visible after the headline's; the others are folded."""

CLAIMS = {"beats": "beats", "loses": "loses to", "no significant difference": "no significant difference from"}
TILES = (
    ("annual_return", "annual return"),
    ("sharpe_ratio", "Sharpe ratio"),
    ("max_drawdown", "maximum drawdown"),
    ("annual_volatility", "volatility"),
    ("turnover_per_year", "annual one-way turnover"),
)
CONDITIONS = {"execution_lag": "execution lag, days", "cost_bps": "cost, bp", "impact": "impact coefficient k"}
"""Maps the conditions of the cost table to their labels."""
NO_BREAK = "\u00a0"


class Panels:
    """The plots of a page, by the id of the HTML element that each plot is drawn into.

    Args:
        names: Names of strategies and assets, which are escaped, since plotly.js would interpret markup in them.
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        self.figures: dict[str, Figure] = {}
        marked = sorted((name for name in names if literal_text(name) != name), key=len, reverse=True)
        self._marked = re.compile("|".join(map(re.escape, marked))) if marked else None

    def plot(self, name: str, figure: Figure) -> Markup:
        """Store a plot and return the HTML element that it is drawn into.

        Args:
            name: Name of the plot, unique on the page.
            figure: The plot; its layout must have a height.
        """
        element = f"plot-{name}"  # the ids of sections have no such prefix
        self.figures[element] = self._unmarked(figure) if self._marked else figure
        height = figure["layout"]["height"]
        return Markup('<div class="panel" id="{}" style="min-height:{}px"></div>').format(element, height)

    def as_json(self) -> Markup:
        """Return the plots as JSON in which an HTML parser finds no element."""
        text = json.dumps(json_value(self.figures), separators=(",", ":"), allow_nan=False)
        return Markup(text.replace("<", "\\u003c"))

    def _unmarked(self, value: Any) -> Any:
        """Return a value of a figure with escaped names; `meta` is unchanged, since it is compared and never shown."""
        if isinstance(value, dict):
            return {name: each if name == "meta" else self._unmarked(each) for name, each in value.items()}
        if isinstance(value, list | tuple):
            return [self._unmarked(each) for each in value]
        if isinstance(value, str) and self._marked is not None:
            return self._marked.sub(lambda match: literal_text(match[0]), value)
        return value


def literal_text(name: str) -> str:
    """Return an escaped name that plotly.js shows literally; it would interpret HTML, and `%{x}` as a value."""
    return str(escape(name)).replace("%{", "%&#123;")


def page(report: Report) -> str:
    """Return the whole page as HTML."""
    inputs, table = report.inputs, report.table
    context, confidence_set = inputs.context, report.confidence_set
    is_included = () if confidence_set is None else zip(inputs.contenders, confidence_set.included, strict=True)
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            report=report,
            title=inputs.title,
            panels=Panels((*inputs.names, *(context.market.assets if context else ()))),
            facts=_facts(report),
            role=lambda name: _row_class(report, name),
            why_empty=lambda columns: _why_empty(table, columns),
            included=[name for name, is_in in is_included if is_in],
            crises=_crises(report),
            mean_cost_bps=None if context is None else float(np.mean(context.execution.cost_bps)),
            of_subjects=lambda frame: _of_subjects(report, frame),
        )
    )


def document(title: str, header: str, main: str, footer: str, panels: Panels) -> str:
    """Return an HTML page that contains everything its plots need.

    Args:
        title: Plain text; the other parts are HTML.
        header: Content above the cards.
        main: The cards.
        footer: Content below the cards.
        panels: The plots on the cards.
    """
    header, main, footer = (Markup(displayable_lines(part)) for part in (header, main, footer))
    template = _environment().get_template("page.html.j2")
    return template.render(title=title, header=header, main=main, footer=footer, panels=panels)


@cache
def _environment() -> Environment:
    """Return the templates' environment, which escapes HTML and shows control characters as visible escapes."""
    environment = Environment(
        loader=PackageLoader("rllib_portfolio.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: displayable_lines(value) if type(value) is str else value,
        extensions=["jinja2.ext.do"],
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"per_cent": _per_cent, "unbroken": _unbroken, "as_tuple": tuple}
    environment.globals |= {
        "plots": plots,
        "statistics_plots": statistics_plots,
        "style": plot_style,
        "groups": GROUPS,
        "reasons": WHY_EMPTY,
        "dash": DASH,
        "tiles": TILES,
        "claims": CLAIMS,
        "shown_verdicts": SHOWN_VERDICTS,
        "significance_level": SIGNIFICANCE_LEVEL,
        "over_folds": OVER_FOLDS,
        "text_of": text_of,
        "p_text": p_text,
        "cells": _cells,
        "textbook_tests": textbook_tests,
        "falsification": falsification,
        "read": _read,
        "plotly": _plotly,
    }
    return environment


def _read(name: str) -> Markup:
    """Return the content of a file in the templates folder, without escaping."""
    return Markup((resources("rllib_portfolio.reporting") / "templates" / name).read_text(encoding="utf-8"))


def _plotly() -> Markup:
    """Return plotly.js from the files of the plotly package; importing the package would take a second."""
    return Markup((resources("plotly") / "package_data" / "plotly.min.js").read_text(encoding="utf-8"))


def _facts(report: Report) -> dict[str, str]:
    """Return the facts of the header: date, revision, data, days and universe."""
    inputs = report.inputs
    return {
        "Made": f"{datetime.now().astimezone():%Y-%m-%d}",
        "Revision": _revision(),
        "Data": ", ".join([*([inputs.context.market.source] if inputs.context else []), inputs.data_hash[:12]]),
        "Days": f"{inputs.days} ({inputs.num_days / inputs.periods_per_year:.1f} years)",
        "Universe": inputs.universe,
    }


def _revision() -> str:
    """Return version and revision, such as `rllib_portfolio 0.1.0, cb7b775 with changes`, as far as they are known."""
    revision = git_revision() or ""
    changes = " with changes" if revision.endswith("-dirty") else ""
    release = " ".join(filter(None, ("rllib_portfolio", version_of("rllib_portfolio"))))
    return release + (f", {revision[:7]}{changes}" if revision else "")


class _ShownCrisis(NamedTuple):
    """A crisis on the page; `figure` is None if no day of the report lies in it."""

    place: int
    name: str
    note: str
    figure: Figure | None
    rows: pd.DataFrame


def _crises(report: Report) -> list[_ShownCrisis]:
    """Return all crises, or none if no day of the report lies in any of them."""
    inputs, table = report.inputs, report.crises
    if table is None or not table["num_days"].any():
        return []
    unknown = {"unknown": "unknown whether these days were used for training or selection"}
    crises = []
    for place, crisis in enumerate(CRISES):
        rows: Any = table.loc[crisis.name]
        first = rows.iloc[0]
        note = ". ".join(filter(None, (unknown.get(first["sample"], first["sample"]), first["note"])))
        shown = rows[["total_return", "max_drawdown", "sharpe_ratio", "recovery_days"]].copy()
        shown["recovery_days"] = [
            f"{days:.0f} d" if days == days else "not recovered" if fall > 0.0 else "no drawdown"
            for days, fall in zip(rows["recovery_days"], rows["max_drawdown"], strict=True)
        ]
        judged = [name for name in (*inputs.subjects, inputs.benchmark) if name in rows.index]
        order = [*judged, *(name for name in rows.index if name not in judged)]
        figure = plots.crisis_figure(inputs, crisis)
        crises.append(_ShownCrisis(place, crisis.name, note, figure, shown.reindex(order)))
    return crises


def _of_subjects(report: Report, table: pd.DataFrame) -> pd.DataFrame:
    """Return the judged rows and the benchmark of a sensitivity table."""
    wanted = [*report.inputs.subjects, report.inputs.benchmark]
    return table[table.index.get_level_values("strategy").isin(wanted)]


def _row_class(report: Report, name: str) -> str:
    """Return the CSS class of a strategy's row; empty for other rows."""
    return report.inputs.role_of(name).name.lower() if name in report.inputs.names else ""


def _why_empty(table: pd.DataFrame, columns: Iterable[Column]) -> dict[str, list[str]]:
    """Return the reasons for empty cells of some columns, each with the labels of the columns that it applies to."""
    found: dict[str, list[str]] = {}
    for column in columns:
        if table[column.name].isna().any() and column.label != "to":
            found.setdefault(WHY_EMPTY[column.name], []).append(column.label)
    return found


def _cells(frame: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """Return the column labels and the cell texts of a table, with its index as the first columns."""
    flat = frame.reset_index() if frame.index.names != [None] else frame
    names = [str(name) for name in flat.columns]
    labels = [
        COLUMNS[name].label if name in COLUMNS else CONDITIONS.get(name, name.replace("_", " ")) for name in names
    ]
    return labels, [[_cell(name, row[name]) for name in names] for _, row in flat.iterrows()]


def _cell(name: str, value: Any) -> str:
    if isinstance(value, pd.Timestamp):
        return date_text(value)
    if name in COLUMNS:
        return text_of(name, value)
    if isinstance(value, float):
        return DASH if value != value else f"{value:g}"
    return str(value)


def _unbroken(text: str) -> str:
    """Return a text with no-break spaces, so that no line ends between a number and its sign."""
    for sign in (" %", " = ", " < "):
        text = text.replace(sign, sign.replace(" ", NO_BREAK))
    return text


def _per_cent(share: float) -> str:
    if share > 0.9995:
        return "more than 99.9 %"
    return "less than 0.1 %" if share < 0.0005 else f"{100.0 * share:.1f} %"
