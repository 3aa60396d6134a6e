"""The page: one file with everything inside, for a reader who has never seen the project."""

from __future__ import annotations

import json
from html import escape
from importlib.resources import files as resources
from typing import TYPE_CHECKING

from rllib_portfolio.evaluation.report import sections
from rllib_portfolio.evaluation.report.columns import text_of
from rllib_portfolio.evaluation.report.files import json_value
from rllib_portfolio.evaluation.report.markup import Panels
from rllib_portfolio.evaluation.report.style import SCRIPT, STYLE
from rllib_portfolio.evaluation.verdicts import Verdict

if TYPE_CHECKING:
    from rllib_portfolio.evaluation.report.report import Report

NO_BREAK = "\u00a0"
SHOWN_VERDICTS = 3
"""Beside the headline's; further ones are folded."""

ICON = "data:,"
"""Nothing: else a browser asks the network for one."""


def page(report: Report) -> str:
    """The whole page as HTML."""
    panels = Panels()
    body = "".join(part(report, panels) for part in sections.ORDER)
    figures = json.dumps(json_value(panels.figures), separators=(",", ":"), allow_nan=False).replace("</", "<\\/")
    evidence = report.evidence
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="icon" href="{ICON}"><title>{escape(evidence.title)}</title><style>{STYLE}</style></head><body>'
        f"<header><h1>{escape(evidence.title)}</h1>{_subtitle(report)}{_verdicts(report)}"
        f"{_contents()}</header><main>{body}</main><footer>{_footer(report)}</footer>"
        f'<script type="application/json" id="plots">{figures}</script>'
        f"<script>{_plotly()}</script><script>{SCRIPT}</script></body></html>"
    )


def _plotly() -> str:
    """plotly.js as the wheel carries it; importing plotly itself would cost a second."""
    return (resources("plotly") / "package_data" / "plotly.min.js").read_text(encoding="utf-8")


def _subtitle(report: Report) -> str:
    evidence = report.evidence
    years = evidence.num_days / evidence.periods_per_year
    against = "" if evidence.benchmark is None else f", judged against {escape(evidence.benchmark)}"
    return (
        f'<p class="soft">{len(evidence.names)} strategies over {escape(evidence.days)} ({years:.1f} years){against}.'
        " Every figure is after costs where the costs are known.</p>"
    )


def _verdicts(report: Report) -> str:
    """The headline's verdict large with its figures, those of other judged strategies below it."""
    if not report.verdicts:
        reason = "no benchmark was given, so nothing can be said about who beats whom."
        none = f'<div class="verdict"><span class="badge">no verdict</span><p>There is no verdict: {reason}</p></div>'
        return none + _tiles(report)
    benchmark = str(report.evidence.benchmark)
    first, *others = (
        _verdict(name, judged, benchmark, " further" if place else "")
        for place, (name, judged) in enumerate(report.verdicts.items())
    )
    shown, folded = others[:SHOWN_VERDICTS], others[SHOWN_VERDICTS:]
    more = f"<details><summary>{len(folded)} more verdicts</summary>{''.join(folded)}</details>" if folded else ""
    return "".join((first, _tiles(report), *shown, more))


def _verdict(name: str, judged: Verdict, benchmark: str, kind: str) -> str:
    word = judged.outcome.replace(" ", "-")
    claim = {"beats": "beats", "loses": "loses to", "no significant difference": "no significant difference to"}[
        judged.outcome
    ]
    return (
        f'<div class="verdict {word}{kind}"><span class="badge {word}">{escape(f"{name}: {claim} {benchmark}")}</span>'
        f"<p>{_unbroken(escape(judged.sentence))}</p></div>"
    )


def _unbroken(text: str) -> str:
    """No line ends between a number and its sign."""
    for sign in (" %", " = ", " &lt; "):
        text = text.replace(sign, sign.replace(" ", NO_BREAK))
    return text


def _tiles(report: Report) -> str:
    """The headline's main figures, with the benchmark's beside them."""
    evidence, table = report.evidence, report.table
    row = table.loc[evidence.headline]
    beside = None if evidence.benchmark is None else table.loc[evidence.benchmark]
    tiles = []
    for column, label in (
        ("annual_return", "return a year"),
        ("sharpe_ratio", "Sharpe ratio"),
        ("max_drawdown", "maximum drawdown"),
        ("annual_volatility", "volatility"),
        ("turnover_per_year", "turnover a year"),
    ):
        if column not in table:
            continue
        lines = [f"{label}, {evidence.headline}"]
        if column == "sharpe_ratio":
            bounds = [text_of("sharpe_ratio", row[each]) for each in ("sharpe_lower", "sharpe_upper")]
            lines.append(f"95 %: {bounds[0]} to {bounds[1]}")
        if beside is not None:
            lines.append(f"{evidence.benchmark}: {text_of(column, beside[column])}")
        spans = "".join(f"<span>{escape(line)}</span>" for line in lines)
        tiles.append(f'<div class="tile"><b>{text_of(column, row[column])}</b>{spans}</div>')
    return f'<div class="tiles" aria-label="{escape(evidence.headline)}">{"".join(tiles)}</div>'


def _contents() -> str:
    links = "".join(f'<a href="#{anchor}">{escape(label)}</a>' for anchor, label in sections.CONTENTS)
    return f"<nav>{links}</nav>"


def _footer(report: Report) -> str:
    context, statistics = report.evidence.context, report.statistics
    command = "" if context is None or not context.command else f"<p>Made by <code>{escape(context.command)}</code></p>"
    source = "" if context is None else f"Data: {escape(context.market.source)} ({context.market.data_hash[:12]}). "
    return (
        f"{command}<p>{source}Intervals: {statistics.num_draws} histories by the stationary bootstrap, blocks of "
        f"{statistics.block_days} days on average. Lines of more than 900 days are drawn at evenly spaced days and at "
        "every strategy's highest, lowest and deepest one; all figures are of all days.</p>"
    )
