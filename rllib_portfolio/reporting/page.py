"""The page: one file with everything inside, for a reader who has never seen the project."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from html import escape
from importlib.resources import files as resources
from typing import TYPE_CHECKING, Any

from rllib_portfolio.reporting import falsification, judgement, story
from rllib_portfolio.reporting.columns import text_of
from rllib_portfolio.reporting.files import json_value
from rllib_portfolio.reporting.markup import Panels, paragraph, section
from rllib_portfolio.reporting.style import SCRIPT, STYLE
from rllib_portfolio.revision import git_revision, version_of
from rllib_portfolio.shown_text import displayable_lines
from rllib_portfolio.statistics.verdicts import Verdict

if TYPE_CHECKING:
    from rllib_portfolio.reporting.report import Report

NO_BREAK = "\u00a0"
SHOWN_VERDICTS = 3
"""Beside the headline's; further ones are folded."""

ICON = "data:,"
"""Nothing: else a browser asks the network for one."""


ORDER: dict[str, tuple[str, Callable[[Any, Panels], str]]] = {
    "wealth": ("Wealth", story.wealth),
    "verdict": ("Verdict", lambda report, panels: _verdicts(report)),
    "data": ("What to know", story.data),
    "clock": ("Clock", story.clock),
    "active": ("Active", story.active),
    "returns": ("Through time", story.returns),
    "figures": ("Figures", judgement.figures),
    "difference": ("Difference", judgement.difference),
    "all": ("All at once", judgement.all_at_once),
    "trials": ("Trials", judgement.trials),
    "costs": ("Costs", judgement.costs),
    "seeds": ("Seeds", judgement.seeds),
    "crises": ("Crises", story.crises),
    "exposure": ("Exposure", judgement.exposure),
    "falsify": ("What would undo it", falsification.falsification),
}
"""Maps the anchor of each section to its label and the function that makes it, in the order of the page: the outcome,
the caveats, the evidence, and what would change the verdict. The function returns an empty string if there is no
content."""


def page(report: Report) -> str:
    """The whole page as HTML."""
    context = report.inputs.context
    panels = Panels((*report.inputs.names, *(context.market.assets if context else ())))
    made = {anchor: make(report, panels) for anchor, (_, make) in ORDER.items()}
    links = "".join(f'<a href="#{anchor}">{escape(ORDER[anchor][0])}</a>' for anchor, text in made.items() if text)
    title = report.inputs.title
    header = f"<h1>{escape(title)}</h1>{_facts(report)}{_badges(report)}<nav>{links}</nav>"
    return document(title, header, "".join(made.values()), _footer(report), panels)


def document(title: str, header: str, main: str, footer: str, panels: Panels) -> str:
    """Return an HTML page that contains everything its plots need.

    Args:
        title: Plain text; the other parts are HTML.
        header: Content above the cards.
        main: The cards.
        footer: Content below the cards.
        panels: The plots on the cards.
    """
    figures = json.dumps(json_value(panels.figures), separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    title, header, main, footer = map(displayable_lines, (title, header, main, footer))
    scripts = f"<script>{_plotly()}</script><script>{SCRIPT}</script>" if panels.figures else ""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="icon" href="{ICON}"><title>{escape(title)}</title><style>{STYLE}</style></head><body>'
        f"<header>{header}</header><main>{main}</main><footer>{footer}</footer>"
        f'<script type="application/json" id="plots">{figures}</script>{scripts}</body></html>'
    )


def _plotly() -> str:
    """plotly.js as the wheel carries it; importing plotly itself would cost a second."""
    return (resources("plotly") / "package_data" / "plotly.min.js").read_text(encoding="utf-8")


def _facts(report: Report) -> str:
    """Return the line of facts: date, revision, data, days and universe."""
    inputs = report.inputs
    facts = {
        "Made": f"{datetime.now().astimezone():%Y-%m-%d}",
        "Revision": _revision(),
        "Data": ", ".join([*([inputs.context.market.source] if inputs.context else []), inputs.data_hash[:12]]),
        "Days": f"{inputs.days} ({inputs.num_days / inputs.periods_per_year:.1f} years)",
        "Universe": inputs.universe,
    }
    spans = "".join(f"<span><b>{name}</b> {escape(fact)}</span> " for name, fact in facts.items())
    return f'<p class="facts">{spans}</p>'


def _revision() -> str:
    """Return version and revision, such as `rllib_portfolio 0.1.0, cb7b775 with changes`, as far as they are known."""
    revision = git_revision() or ""
    changes = " with changes" if revision.endswith("-dirty") else ""
    release = " ".join(filter(None, ("rllib_portfolio", version_of("rllib_portfolio"))))
    return release + (f", {revision[:7]}{changes}" if revision else "")


def _badges(report: Report) -> str:
    """Return a badge with the verdict for each of the first judged strategies."""
    inputs = report.inputs
    if not report.verdicts:
        return '<p><span class="badge">no verdict: no benchmark was given</span></p>'
    badges = []
    for name, judged in list(report.verdicts.items())[: SHOWN_VERDICTS + 1]:
        words = escape(f"{name}: {_CLAIMS[judged.outcome]} {inputs.benchmark}")
        badges.append(f'<span class="badge {_kind(judged)}">{words}</span>')
    return f"<p>{' '.join(badges)}</p>"


_CLAIMS = {"beats": "beats", "loses": "loses to", "no significant difference": "no significant difference to"}


def _kind(judged: Verdict) -> str:
    return judged.outcome.replace(" ", "-")


def _verdicts(report: Report) -> str:
    """Return the figures and the verdict of the headline strategy, followed by the other verdicts."""
    if not report.verdicts:
        none = "There is no verdict: no benchmark was given, so the strategies are compared with nothing."
        return section("verdict", "The verdict", _tiles(report), paragraph(none))
    first, *others = (
        f'<div class="verdict {_kind(judged)}"><p>{_unbroken(escape(judged.sentence))}</p></div>'
        for judged in report.verdicts.values()
    )
    shown, folded = others[:SHOWN_VERDICTS], others[SHOWN_VERDICTS:]
    more = f"<details><summary>{len(folded)} more verdicts</summary>{''.join(folded)}</details>" if folded else ""
    against = f"The verdict against {report.inputs.benchmark}"
    return section("verdict", against, _tiles(report), first, *shown, more)


def _unbroken(text: str) -> str:
    """No line ends between a number and its sign."""
    for sign in (" %", " = ", " &lt; "):
        text = text.replace(sign, sign.replace(" ", NO_BREAK))
    return text


def _tiles(report: Report) -> str:
    """The headline's main figures, with the benchmark's beside them."""
    inputs, table = report.inputs, report.table
    row = table.loc[inputs.headline]
    beside = None if inputs.benchmark is None else table.loc[inputs.benchmark]
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
        lines = [f"{label}, {inputs.headline}"]
        if column == "sharpe_ratio":
            bounds = [text_of("sharpe_ratio", row[each]) for each in ("sharpe_lower", "sharpe_upper")]
            lines.append(f"95 %: {bounds[0]} to {bounds[1]}")
        if beside is not None:
            lines.append(f"{inputs.benchmark}: {text_of(column, beside[column])}")
        spans = "".join(f"<span>{escape(line)}</span>" for line in lines)
        tiles.append(f'<div class="tile"><b>{text_of(column, row[column])}</b>{spans}</div>')
    return f'<div class="tiles" aria-label="{escape(inputs.headline)}">{"".join(tiles)}</div>'


def _footer(report: Report) -> str:
    context, statistics = report.inputs.context, report.statistics
    command = "" if context is None or not context.command else f"<p>Made by <code>{escape(context.command)}</code></p>"
    return (
        f"{command}<p>Every figure is after costs where the costs are known. Intervals: {statistics.num_draws} "
        f"histories by the stationary bootstrap, blocks of {statistics.block_days} days on average. Lines of more than "
        "900 days are drawn at evenly spaced days and at every strategy's highest, lowest and deepest one; all figures "
        "use all days.</p>"
    )
