"""Sections that weigh what happened: the table, the tests, the trials, costs, seeds and exposure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pandas as pd

from rllib_portfolio.reporting.columns import GROUPS
from rllib_portfolio.reporting.markup import (
    Panels,
    block,
    definitions,
    notes,
    paragraph,
    plain_table,
    section,
    strategy_table,
)
from rllib_portfolio.reporting.panels import cost_figure, overfitting_figure, seeds_figure, sharpe_figure
from rllib_portfolio.reporting.seed_spread import OVER_FOLDS
from rllib_portfolio.statistics.significance import textbook_tests
from rllib_portfolio.statistics.verdicts import SIGNIFICANCE_LEVEL, p_text

if TYPE_CHECKING:
    from rllib_portfolio.reporting.report import Report


CHECKPOINTS = (
    "Not counted: the checkpoints of one run that were compared on its validation window. Where the best of them was "
    "kept, more was tried than these trials, and the bar is too low."
)


def figures(report: Report, panels: Panels) -> str:
    """Every figure of every strategy, with intervals."""
    columns = [*GROUPS["Return and risk"], *GROUPS["Losses and tails"]]
    return section(
        "figures",
        "Every figure, with its interval",
        paragraph(
            "Intervals hold 95 % of resampled histories; all strategies live the same resampled days. Hollow dots are "
            "rows that nobody could have held.",
            "soft",
        ),
        paragraph(
            "The interval of a drawdown is biased, mostly towards shallower ones: histories are drawn in blocks of "
            f"{report.statistics.block_days} days on average, and a crash that lasted longer is broken up.",
            "soft",
        ),
        panels.plot("sharpe", sharpe_figure(report.inputs, report.table)),
        block("Return and risk", strategy_table(report, GROUPS["Return and risk"])),
        block("Losses and tails", strategy_table(report, GROUPS["Losses and tails"])),
        definitions(columns),
    )


def difference(report: Report, panels: Panels) -> str:
    """Each row against the benchmark."""
    inputs = report.inputs
    benchmark, name = inputs.benchmark_returns, inputs.benchmark
    if benchmark is None or name is None:
        return ""
    text = (
        "A verdict rests on two tests: whether the mean active return is zero (stationary block bootstrap), and "
        "whether the Sharpe ratios are equal (Ledoit and Wolf 2008, studentised bootstrap). Holm's step-down holds the "
        "chance of a false claim at 5 % over both. A strategy beats or loses where one of the differences is "
        "significant and the other does not point the other way."
    )
    tests = textbook_tests(inputs.of(inputs.headline), benchmark)
    ignored = [f"{test.name} ({p_text(test.p_value)} for {inputs.headline}): {test.ignores}" for test in tests]
    return section(
        "difference",
        f"The difference to {name}",
        paragraph(text),
        *_over_rows(report),
        strategy_table(report, GROUPS["Against the benchmark"]),
        definitions(GROUPS["Against the benchmark"]),
        block("What the textbook tests ignore", notes(ignored)),
    )


def _over_rows(report: Report) -> list[str]:
    """That each row has its own chance of a false claim, where there are several."""
    num_rows = len(report.statistics.verdicts)
    if num_rows < 2:
        return []
    text = (
        "The 5 % hold for each row by itself, not for all of them: where nothing differs, "
        f"{SIGNIFICANCE_LEVEL * num_rows:.1f} of {num_rows} rows are claimed to differ by chance, at the most and on "
        "average."
    )
    return [paragraph(text if report.findings.superior is None else f"{text} The next section counts the rows.")]


def all_at_once(report: Report, panels: Panels) -> str:
    """The superior ability test and the model confidence set."""
    findings, inputs, parts = report.findings, report.inputs, []
    superior, confidence_set = findings.superior, findings.confidence_set
    if superior is not None:
        parts.append(
            paragraph(
                f"Does any of the {superior.num_compared} rows that differ from {inputs.benchmark} have a higher "
                f"mean return? Hansen's test of superior predictive ability: {p_text(superior.p_value)} (bounds "
                f"{superior.p_value_lower:.2f} to {superior.p_value_upper:.2f}). The best of many looks good by "
                "chance; this p-value knows how many there are on the table, but not what was tried before."
            )
        )
    if confidence_set is not None:
        included = [name for name, is_in in zip(inputs.contenders, confidence_set.included, strict=True) if is_in]
        parts.append(
            paragraph(
                f"Which may be the best by mean return? The model confidence set holds the best one with "
                f"{confidence_set.level:.0%} probability: {len(included)} of {len(inputs.contenders)} rows "
                f"({', '.join(included)}). A large set means that the data say little.".replace("%", " %")
            )
        )
    return section("all", "All strategies at once", *parts)


def trials(report: Report, panels: Panels) -> str:
    """Probabilistic and deflated Sharpe ratio, and the probability of overfitting."""
    selection, headline = report.findings.selection, report.inputs.headline
    psr = report.statistics.number(headline, "probabilistic_sharpe_ratio")
    parts = []
    if not math.isnan(psr):
        parts.append(
            paragraph(
                f"The probabilistic Sharpe ratio of {headline} on the days of this report is {_per_cent(psr)}: one "
                "less the one-sided p-value of a true Sharpe ratio of at most 0, had it been the only strategy ever "
                "tried."
            )
        )
    if selection is None:
        text = (
            "How many were tried is not known: the deflated Sharpe ratio and the probability of overfitting are "
            "left out."
        )
        return section("trials", "How many were tried", *parts, paragraph(text, "soft"))
    parts.append(
        paragraph(
            f"It was chosen among {selection.num_trials} trials, pruned and failed ones included. The best of so many "
            f"worthless ones is expected to show a Sharpe ratio of {selection.hurdle:.2f}."
        )
    )
    parts.append(paragraph(CHECKPOINTS, "soft small"))
    if not math.isnan(selection.deflated):
        parts.append(
            paragraph(
                f"On the days that it was selected on it showed {selection.validation_sharpe:.2f}: the deflated Sharpe "
                f"ratio, one less the one-sided p-value of a true one of at most that bar, is "
                f"{_per_cent(selection.deflated)}."
            )
        )
        parts.append(paragraph(selection.series, "soft small"))
    else:
        parts.append(paragraph(selection.series, "soft"))
    if selection.overfitting is not None:
        parts.append(
            paragraph(
                f"Probability of backtest overfitting: {_per_cent(selection.overfitting.probability)} of all ways to "
                "halve the days pick a trial that is not above the median on the other half. Noise gives 50 %."
            )
        )
    parts.append(paragraph(selection.note, "soft small"))
    ranks = overfitting_figure(report.findings)
    return section("trials", "How many were tried", *parts, "" if ranks is None else panels.plot("overfitting", ranks))


def costs(report: Report, panels: Panels) -> str:
    """The cost curve, the other lag, other universes and first days."""
    context = report.inputs.context
    figure = cost_figure(report.inputs)
    parts = []
    if figure is not None:
        parts.append(
            paragraph(
                "The same decisions at other costs. Solid: the lag of this report; dotted: the other one; diamonds: "
                "with market impact. Nothing was trained again.",
                "soft",
            )
        )
        parts.append(panels.plot("costs", figure))
    if context is not None and context.cost_curve is not None:
        rows = _of_subjects(report, context.cost_curve)
        parts.append(f"<details><summary>The curve in figures</summary>{plain_table(rows, report)}</details>")
    for title, table in ({} if context is None else context.sensitivities).items():
        parts.append(block(title, plain_table(_of_subjects(report, table), report)))
    return section("costs", "What costs, lag and universe do to it", *parts)


def seeds(report: Report, panels: Panels) -> str:
    """How much is the luck of the seed."""
    figure = seeds_figure(report.inputs, report.findings, report.table)
    means = _of_seeds(report)
    if figure is None:
        return section("seeds", "The luck of the seed", notes(means) if means else "")
    text = (
        "One dot per training seed, over all days; below the dots the interquartile mean and its 95 % interval over "
        f"seeds. The dotted line is {report.inputs.benchmark}. The interval is of the luck of training, not of the "
        "market."
    )
    return section(
        "seeds",
        "The luck of the seed",
        paragraph(text, "soft"),
        panels.plot("seeds", figure),
        notes(means),
    )


def _of_seeds(report: Report) -> list[str]:
    """The means in words, and what a run of them is."""
    apart = "The mean of folds' ratios is another figure than the ratio over all days, which dots and line show."
    return [
        f"{subject}: interquartile mean {summary['interquartile_mean']:.2f} ({summary['lower']:.2f} to "
        f"{summary['upper']:.2f}) of {summary['num_runs']} runs, {summary['basis']}."
        + (f" {apart}" if summary["basis"] == OVER_FOLDS else "")
        for subject, summary in report.findings.seeds.iterrows()
    ]


def exposure(report: Report, panels: Panels) -> str:
    """What was held and traded."""
    columns = [column for column in GROUPS["Against the benchmark"] if column.name == "beta"]
    columns = [*columns, *GROUPS["Trading and exposure"]]
    if "active_share" not in report.table:
        return ""
    return section(
        "exposure",
        "Exposure and trading",
        *_near_equal_weight(report),
        strategy_table(report, columns),
        definitions(columns),
    )


def _near_equal_weight(report: Report) -> list[str]:
    """A policy that holds 1/N and calls it learning is the commonest failure of all."""
    close = [name for name in report.inputs.subjects if report.statistics.number(name, "active_share") < 0.1]
    return [
        paragraph(f"{name} holds nearly 1/N: on average less than a tenth of it is placed differently.")
        for name in close
    ]


def _of_subjects(report: Report, table: pd.DataFrame) -> pd.DataFrame:
    """The judged rows and the benchmark of a sensitivity table."""
    wanted = [*report.inputs.subjects, report.inputs.benchmark]
    return table[table.index.get_level_values("strategy").isin(wanted)]


def _per_cent(share: float) -> str:
    if share > 0.9995:
        return "more than 99.9 %"
    return "less than 0.1 %" if share < 0.0005 else f"{100.0 * share:.1f} %"
