"""Pieces of the page: tables that scroll, plots, notes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import pandas as pd

from rllib_portfolio.reporting.columns import COLUMNS, DASH, Column, text_of
from rllib_portfolio.reporting.plot_style import Figure, colour_of, is_shown

if TYPE_CHECKING:
    from rllib_portfolio.reporting.report import Report


class Panels:
    """The plots of a page, by the id of the element that each of them is drawn into.

    Args:
        names: Of strategies and assets; plotly.js would read markup in them.
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        self.figures: dict[str, Figure] = {}
        marked = sorted((name for name in names if _written(name) != name), key=len, reverse=True)
        self._marked = re.compile("|".join(map(re.escape, marked))) if marked else None

    def plot(self, name: str, figure: Figure) -> str:
        """The element of a plot."""
        element = f"plot-{name}"  # sections have their own names
        self.figures[element] = self._unmarked(figure) if self._marked else figure
        height = figure["layout"]["height"]
        return f'<div class="panel" id="{element}" style="min-height:{height}px"></div>'

    def _unmarked(self, value: Any) -> Any:
        """Return a value of a figure with the names in its texts written out; `meta` is compared, and never shown."""
        if isinstance(value, dict):
            return {name: each if name == "meta" else self._unmarked(each) for name, each in value.items()}
        if isinstance(value, list | tuple):
            return [self._unmarked(each) for each in value]
        if isinstance(value, str) and self._marked is not None:
            return self._marked.sub(lambda match: _written(match[0]), value)
        return value


def _written(name: str) -> str:
    """Return a name as plotly.js shows it literally: it reads HTML, and `%{x}` as a value."""
    return escape(name).replace("%{", "%&#123;")


def section(anchor: str, heading: str, *parts: str) -> str:
    """Return a card with a heading, or nothing if all parts are empty."""
    return "" if not any(parts) else f'<section id="{anchor}"><h2>{escape(heading)}</h2>{"".join(parts)}</section>'


def block(heading: str, *parts: str) -> str:
    """Return a heading and its content, which are printed on the same page."""
    return f'<div class="block"><h3>{escape(heading)}</h3>{"".join(parts)}</div>'


def paragraph(text: str, kind: str = "") -> str:
    """One paragraph of plain text."""
    return f'<p class="{kind}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>"


def notes(sentences: Iterable[str]) -> str:
    """A list of sentences."""
    return f'<ul class="notes">{"".join(f"<li>{escape(each)}</li>" for each in sentences)}</ul>'


def chips(report: Report) -> str:
    """Buttons that show and hide a strategy in all plots at once; they are the legend, too."""
    inputs = report.inputs
    buttons = [
        f'<button type="button" aria-pressed="{str(is_shown(inputs, name)).lower()}" '
        f'style="--chip:{colour_of(inputs, name)}">{escape(name)}</button>'
        for name in (*inputs.subjects, *(each for each in inputs.names if each not in inputs.subjects))
    ]
    return f'<div class="chips" aria-label="strategies shown">{"".join(buttons)}</div>'


def strategy_table(report: Report, columns: Sequence[Column], rows: Sequence[str] | None = None) -> str:
    """Columns of the report's table, and below it why cells are empty."""
    table, reasons = report.table, report.statistics.reasons
    shown = [column for column in columns if column.name in table]
    names = list(table.index) if rows is None else list(rows)
    head = "".join(f'<th title="{escape(column.meaning)}">{escape(column.label)}</th>' for column in shown)
    body = []
    for name in names:
        cells = []
        for column in shown:
            text = text_of(column.name, table.at[name, column.name])
            reason = reasons.get((name, column.name))
            cells.append(f'<td title="{escape(reason)}">{text}</td>' if reason else f"<td>{escape(text)}</td>")
        body.append(f"<tr{_row_class(report, name)}><th>{escape(name)}</th>{''.join(cells)}</tr>")
    return _scrolling(f"<th>strategy</th>{head}", body) + _empty_cells(reasons, names, shown)


def plain_table(frame: pd.DataFrame, report: Report | None = None) -> str:
    """Any table of figures, its index as the first columns."""
    flat = frame.reset_index() if frame.index.names != [None] else frame
    head = "".join(f"<th>{escape(_label(str(name)))}</th>" for name in flat.columns)
    body = []
    for _, row in flat.iterrows():
        first, *others = [(str(name), row[name]) for name in flat.columns]
        cells = "".join(f"<td>{escape(_cell(name, value))}</td>" for name, value in others)
        kind = "" if report is None else _row_class(report, str(first[1]))
        body.append(f"<tr{kind}><th>{escape(_cell(*first))}</th>{cells}</tr>")
    return _scrolling(head, body)


def definitions(columns: Iterable[Column]) -> str:
    """What each column means."""
    seen = {column.label: column.meaning for column in columns if column.label != "to"}
    items = "".join(f"<li><b>{escape(label)}</b>: {escape(meaning)}</li>" for label, meaning in seen.items())
    return f'<details><summary>What the columns mean</summary><ul class="notes">{items}</ul></details>'


def _scrolling(head: str, body: Sequence[str]) -> str:
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{"".join(body)}</tbody></table></div>'


def _row_class(report: Report, name: str) -> str:
    if name in report.inputs.subjects:
        return ' class="subject"'
    return ' class="benchmark"' if name == report.inputs.benchmark else ""


def _empty_cells(reasons: dict[tuple[str, str], str], names: Sequence[str], columns: Sequence[Column]) -> str:
    """Why cells of this table are empty, for those who have no mouse to hover with."""
    found: dict[tuple[str, str], list[str]] = {}
    for name in names:
        for column in columns:
            if reason := reasons.get((name, column.name)):
                found.setdefault((name, reason), []).append(column.label)
    if not found:
        return ""
    items = [f"{name}: {', '.join(labels)}: {reason}." for (name, reason), labels in found.items()]
    return f"<details><summary>{DASH} Why some cells are empty ({len(items)})</summary>{notes(items)}</details>"


def _label(name: str) -> str:
    column = COLUMNS.get(name)
    return column.label if column else name.replace("_", " ")


def _cell(name: str, value: Any) -> str:
    if isinstance(value, pd.Timestamp):
        return str(value.date())
    if name in COLUMNS:
        return text_of(name, value)
    if isinstance(value, float):
        return DASH if value != value else f"{value:g}"
    return str(value)
