"""Output of a report on the terminal: the most important columns, the verdicts and the statements."""

from __future__ import annotations

from typing import Any

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rllib_portfolio.reporting.columns import COLUMNS, DASH, text_of
from rllib_portfolio.reporting.plain_console import PlainConsole
from rllib_portfolio.reporting.report import Report
from rllib_portfolio.shown_text import displayable_lines

TABLE_WIDTH = 100
"""Number of characters per line if the output does not go to a terminal."""

_PERFORMANCE = {
    "annual_return": "return p.a.",
    "annual_volatility": "vol. p.a.",
    "max_drawdown": "drawdown",
    "turnover_per_year": "turnover",
    "cost_per_year": "cost p.a.",
    "sharpe_ratio": "Sharpe",
}
_DIFFERENCE = {
    "information_ratio": "IR",
    "mean_p_value": "p (mean)",
    "sharpe_difference": "Δ Sharpe",
    "sharpe_p_value": "p (Sharpe)",
    "beta": "beta",
    "verdict": "verdict",
}


def print_report(report: Report, console: Console | None = None) -> None:
    """Print the tables, verdicts and statements of a report.

    Args:
        report: The report.
        console: The console to print on; None for a new one on standard output.
    """
    console = console or wide_console()
    inputs = report.inputs
    console.print(_table(report, f"{inputs.title}: {inputs.days}", _PERFORMANCE), markup=False)
    if inputs.benchmark is not None:
        console.print(_table(report, f"Against {inputs.benchmark} (IR: information ratio)", _DIFFERENCE), markup=False)
    if inputs.context is not None and inputs.context.cost_curve is not None:
        console.print(_cost_table(inputs.context.cost_curve, inputs.subjects), markup=False)
    for judged in report.verdicts.values():
        console.print(judged.sentence, style="bold", soft_wrap=True, highlight=False, markup=False)
    for sentence in report.statements:
        console.print(f"- {sentence}", soft_wrap=True, highlight=False, markup=False)


def _table(report: Report, title: str, columns: dict[str, str]) -> Table:
    shown = {name: label for name, label in columns.items() if name in report.table}
    intervals = "sharpe_ratio" in shown
    table = empty_table(title, [*shown.values(), *(["95 % interval"] if intervals else [])])
    for name, row in report.table.iterrows():
        cells = [text_of(column, row[column]) for column in shown]
        if intervals:
            lower, upper = (text_of(each, row[each]) for each in ("sharpe_lower", "sharpe_upper"))
            cells.append(DASH if DASH in (lower, upper) else f"{lower} to {upper}")
        style = "bold" if name in report.inputs.subjects else None
        table.add_row(str(name), *cells, style=style)
    return table


def _cost_table(curve: pd.DataFrame, subjects: tuple[str, ...]) -> Table:
    """Return a table of Sharpe ratios with one row per strategy and lag, and one column per cost."""
    sharpes: dict[Any, float] = curve["sharpe_ratio"].to_dict()
    rows = dict.fromkeys((name, lag) for name, lag, _, _ in sharpes)
    costs = dict.fromkeys((cost_bps, impact) for _, _, cost_bps, impact in sharpes)
    labels = [f"{cost_bps:g} bp{' + impact' if impact else ''}" for cost_bps, impact in costs]
    table = empty_table("Sharpe ratio at other costs and execution lags", ["lag", *labels])
    for name, lag in rows:
        cells = [text_of("sharpe_ratio", sharpes.get((name, lag, *cost))) for cost in costs]
        table.add_row(str(name), f"{lag}", *cells, style="bold" if name in subjects else None)
    return table


def wide_console() -> Console:
    """Return a console as wide as the terminal, or as wide as the tables need if there is no terminal."""
    console = PlainConsole()
    if not console.is_terminal:
        console.width = TABLE_WIDTH
    return console


def empty_table(title: str, labels: list[str]) -> Table:
    """Return a table of strategies without rows; long names are wrapped, so that no figure is cut off.

    Args:
        title: Heading of the table.
        labels: Headings of the columns after that of the strategies.
    """
    table = Table(
        title=Text(displayable_lines(title), "bold"),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    table.add_column("strategy", overflow="fold")
    for label in labels:
        table.add_column(label, justify="right", no_wrap=True)
    return table


assert set(_PERFORMANCE) | set(_DIFFERENCE) <= set(COLUMNS)
