"""Sections that tell what happened: wealth, the data, the clock, active weights, returns and the crises."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from rllib_portfolio.config import ExecutionConfig
from rllib_portfolio.reporting.active import active_weights_figure, relative_figure, tilts
from rllib_portfolio.reporting.markup import Panels, block, chips, notes, paragraph, plain_table, section
from rllib_portfolio.reporting.plots import (
    crisis_figures,
    months_figure,
    rolling_days,
    rolling_figure,
    wealth_figure,
    weights_figure,
)

if TYPE_CHECKING:
    from rllib_portfolio.reporting.report import Report


def clock(report: Report, panels: Panels) -> str:
    """When what is seen is traded, and what it pays."""
    context = report.inputs.context
    if context is None:
        return ""
    steps = "".join(f"<li><b>{escape(head)}</b>{escape(text)}</li>" for head, text in _steps(context.execution))
    lag = context.execution.execution_lag
    closing = (
        "Nothing is filled at a price that it was decided on."
        if lag
        else "The decision is filled at the very close that it saw, which nobody can do exactly: read the curve with "
        "one day of lag, too."
    )
    return section(
        "clock",
        "The clock: what was known, what was traded, what was earned",
        f'<ol class="clock">{steps}</ol>',
        paragraph(f"{closing} Every row of this report goes through the same steps on the same days.", "soft small"),
    )


def _steps(execution: ExecutionConfig) -> tuple[tuple[str, str], ...]:
    lag = execution.execution_lag
    seen = "Close t" if lag == 0 else f"Close t − {lag}"
    cost = float(np.mean(execution.cost_bps))
    impact = " and market impact" if execution.impact > 0.0 else ""
    days = "the next day" if execution.rebalance_days == 1 else f"after {execution.rebalance_days} days"
    return (
        (seen, "The strategy sees prices and features up to this close, and its own portfolio as it stood then."),
        ("Close t", f"It trades to its target weights at this close and pays {cost:g} bp of what it trades{impact}."),
        ("Day t + 1", "The new weights earn the day's simple returns; cash earns its rate."),
        (
            "Close t + 1",
            f"Wealth is booked: V(t+1) = V(t) (1 − cost) × growth. The weights drift; it decides again {days}.",
        ),
    )


def data(report: Report, panels: Panels) -> str:
    """What the data are and are not, and all that the reader must know."""
    inputs, sentences = report.inputs, list(report.statements)
    if inputs.num_days < rolling_days(inputs):
        sentences.append(
            f"The rolling Sharpe ratio is left out: it needs {rolling_days(inputs)} days, and there are "
            f"{inputs.num_days}."
        )
    return section("data", "What to know before believing it", notes(sentences))


def wealth(report: Report, panels: Panels) -> str:
    """Plot wealth and drawdown; this is the first section of the page."""
    inputs = report.inputs
    earned = "Daily returns after costs" if inputs.walks else "Returns from each value to the next, as they came,"
    return section(
        "wealth",
        "Wealth and drawdown",
        chips(report),
        panels.plot("wealth", wealth_figure(inputs)),
        paragraph(f"{earned} on {inputs.days}. Buttons show and hide a strategy in every plot.", "soft small"),
    )


def active(report: Report, panels: Panels) -> str:
    """Plot relative wealth and active weights of the judged strategies."""
    inputs = report.inputs
    relative = relative_figure(inputs)
    if relative is None:
        return ""
    parts = [block(f"Wealth relative to {inputs.benchmark}", panels.plot("relative", relative))]
    for place, name in enumerate(inputs.subjects):
        figure = active_weights_figure(inputs, name)
        if figure is not None:
            heading = f"Weights of {name} minus those of {inputs.benchmark}"
            parts.append(block(heading, paragraph(tilts(inputs, name)), panels.plot(f"active-{place}", figure)))
    return section("active", f"How it differs from {inputs.benchmark}", *parts)


def returns(report: Report, panels: Panels) -> str:
    """Plot the rolling Sharpe ratio, the monthly returns and the weights."""
    inputs, parts = report.inputs, []
    rolling, months = rolling_figure(inputs), months_figure(inputs, inputs.headline)
    if rolling is not None:
        parts.append(block(f"Sharpe ratio of the last {rolling_days(inputs)} days", panels.plot("rolling", rolling)))
    if months is not None:
        parts.append(block(f"Months of {inputs.headline}, per cent", panels.plot("months", months)))
    for place, name in enumerate(inputs.subjects):
        weights = weights_figure(inputs, name)
        if weights is not None:
            parts.append(block(f"Weights of {name}", panels.plot(f"weights-{place}", weights)))
    return section("returns", "Through time", *parts)


def crises(report: Report, panels: Panels) -> str:
    """One card per crisis, and the table."""
    table = report.crises
    if table is None or not table["num_days"].any():
        return ""
    cards, unseen = [], []
    for place, (name, figure) in enumerate(crisis_figures(report.inputs).items()):
        first = table.loc[name].iloc[0]
        if figure is None:
            unseen.append(name)
            continue
        note = ". ".join(filter(None, (_SAMPLES.get(first["sample"], first["sample"]), first["note"])))
        plot = panels.plot(f"crisis-{place}", figure)
        cards.append(f'<div><h3>{escape(name)}</h3><p class="soft small">{escape(note)}</p>{plot}</div>')
    intro = (
        "Return since the close before the window. In-sample: the policy was trained or selected on days of it, so it "
        "proves little. Recovery counts trading days from the lowest close until wealth is back at its peak since that "
        "first close; an older, higher peak does not count."
    ) + (f" No day of this report lies in: {', '.join(unseen)}." if unseen else "")
    return section(
        "crises",
        "The crises",
        paragraph(intro, "soft"),
        chips(report),
        f'<div class="cards">{"".join(cards)}</div>',
        _crisis_table(report, table),
    )


def _crisis_table(report: Report, table: pd.DataFrame) -> str:
    """Subjects, benchmark and index of each crisis; all rows are in the files."""
    inputs = report.inputs
    parts = []
    for name in dict.fromkeys(table.index.get_level_values("crisis")):
        rows = table.loc[name]
        if not rows["num_days"].iloc[0]:
            continue
        shown = rows[["total_return", "max_drawdown", "sharpe_ratio", "recovery_days"]].copy()
        shown["recovery_days"] = [
            f"{days:.0f} d" if days == days else "not back" if fall > 0.0 else "never fell"
            for days, fall in zip(rows["recovery_days"], rows["max_drawdown"], strict=True)
        ]
        kept = [each for each in (*inputs.subjects, inputs.benchmark) if each in rows.index]
        others = [each for each in rows.index if each not in kept]
        ordered = shown.loc[[*kept, *others]]
        parts.append(
            f"<details><summary>{escape(str(name))}: all strategies</summary>{plain_table(ordered, report)}</details>"
        )
    return "".join(parts)


_SAMPLES = {"unknown": "whether anything was trained on these days is not known"}
