"""The report on a terminal: the columns that fit, the verdicts, and what the reader must know."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table

from rllib_portfolio.evaluation.report.columns import COLUMNS, DASH, text_of

if TYPE_CHECKING:
    from rllib_portfolio.evaluation.report.report import Report

TABLE_WIDTH = 100
"""Off a terminal."""

_PERFORMANCE = {
    "annual_return": "return/y",
    "annual_volatility": "vol.",
    "max_drawdown": "drawdown",
    "turnover_per_year": "turnover/y",
    "cost_per_year": "cost/y",
    "sharpe_ratio": "Sharpe",
}
_DIFFERENCE = {
    "information_ratio": "IR",
    "mean_p_value": "p mean",
    "sharpe_difference": "Sharpe -",
    "sharpe_p_value": "p Sharpe",
    "beta": "beta",
    "verdict": "verdict",
}


def print_report(report: Report, console: Console | None = None) -> None:
    """Print tables, verdicts and statements."""
    if console is None:
        console = Console()
        if not console.is_terminal:
            console.width = TABLE_WIDTH
    evidence = report.evidence
    console.print(_table(report, f"{evidence.title}: {evidence.days}", _PERFORMANCE))
    if evidence.benchmark is not None:
        console.print(_table(report, f"Against {evidence.benchmark}", _DIFFERENCE))
    for judged in report.verdicts.values():
        console.print(judged.sentence, style="bold", soft_wrap=True, highlight=False)
    for sentence in report.statements:
        console.print(f"- {sentence}", soft_wrap=True, highlight=False, markup=False)


def _table(report: Report, title: str, columns: dict[str, str]) -> Table:
    table = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    table.add_column("strategy", overflow="fold")  # a long name takes two lines, no figure is cut
    shown = {name: label for name, label in columns.items() if name in report.table}
    for label in shown.values():
        table.add_column(label, justify="right", no_wrap=True)
    intervals = "sharpe_ratio" in shown
    if intervals:
        table.add_column("95 %", justify="right", no_wrap=True)
    for name, row in report.table.iterrows():
        cells = [text_of(column, row[column]) for column in shown]
        if intervals:
            lower, upper = (text_of(each, row[each]) for each in ("sharpe_lower", "sharpe_upper"))
            cells.append(DASH if DASH in (lower, upper) else f"{lower} to {upper}")
        style = "bold" if name in report.evidence.subjects else None
        table.add_row(str(name), *cells, style=style)
    return table


assert set(_PERFORMANCE) | set(_DIFFERENCE) <= set(COLUMNS)
