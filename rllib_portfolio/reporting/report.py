"""The report as a value: made once from the evidence, then printed and written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from rich.console import Console

from rllib_portfolio.backtest.lineup import Lineup
from rllib_portfolio.reporting.console import print_report
from rllib_portfolio.reporting.evidence import Evidence, ReportContext, evidence_of_walks
from rllib_portfolio.reporting.files import write_report
from rllib_portfolio.reporting.findings import Findings, find
from rllib_portfolio.reporting.table import StatisticsTable, statistics_table
from rllib_portfolio.reporting.value_series import Series, evidence_of_values
from rllib_portfolio.statistics.bootstrap import BootstrapPlan
from rllib_portfolio.statistics.verdicts import Verdict

VALUE_DRAWS = 2000
"""Resampled histories of a report on value series: the ends of an interval then hang on 50 of them at either side."""


@dataclass(frozen=True, slots=True, eq=False)
class Report:
    """Strategies side by side, with the tests.

    Attributes:
        evidence: What it is about.
        statistics: Every figure.
        findings: What is found over all rows, trials and seeds.
    """

    evidence: Evidence
    statistics: StatisticsTable
    findings: Findings

    @property
    def table(self) -> pd.DataFrame:
        """One row per strategy; its last column says of each empty cell why it is empty."""
        return self.statistics.frame

    @property
    def crises(self) -> pd.DataFrame | None:
        """One row per crisis and strategy; None for series without dates."""
        return self.findings.crises

    @property
    def verdicts(self) -> dict[str, Verdict]:
        """Of the judged strategies, the headline first; empty without a benchmark."""
        found = self.statistics.verdicts
        return {name: found[name] for name in self.evidence.subjects if name in found}

    @property
    def statements(self) -> tuple[str, ...]:
        """What the reader must know, omissions among it."""
        return (*self.evidence.statements, *self.findings.statements)

    def write(self, output_path: Path | str) -> tuple[Path, ...]:
        """Write the report; the files that were written.

        Args:
            output_path: Ends in .csv: the table, one CSV per crisis, and the notes. Ends in .html: the page. Otherwise
                a folder, for everything.

        Raises:
            ConfigError: If it ends in another format's suffix, or cannot be written.
        """
        return write_report(self, Path(output_path))

    def print(self, console: Console | None = None) -> None:
        """The table and the verdicts on the screen."""
        print_report(self, console)


def report_of_walks(lineup: Lineup, *, context: ReportContext, plan: BootstrapPlan | None = None) -> Report:
    """The report on a line-up that was walked.

    Args:
        lineup: Walks over the same days, 1/N among them.
        context: What the walks alone do not tell.
        plan: How intervals are bootstrapped.

    Raises:
        ConfigError: If the line-up and the context do not belong together.
    """
    return report_of(evidence_of_walks(lineup, context), plan)


def generate_performance_report(
    strategies: Mapping[str, Series],
    benchmark: Series | None = None,
    output_path: Path | str | None = None,
    *,
    cash_rate: float = 0.0,
    periods_per_year: float | None = None,
    title: str = "Performance report",
) -> pd.DataFrame:
    """Compare anyone's strategies, given their value series, and write the report.

    ```
    generate_performance_report({"mine": wealth}, benchmark=index_level, output_path="report.html")
    ```

    Args:
        strategies: Name to values (wealth, prices: above 0): pandas Series with dates (ISO 8601 texts will do), or
            arrays of one length.
        benchmark: Values of what they are judged against; without it there are no verdicts.
        output_path: Ends in .csv: the table, one CSV per crisis, and the notes. Ends in .html: the page. Otherwise a
            folder, for everything. None writes nothing.
        cash_rate: What cash earned, annual, a fraction.
        periods_per_year: Values per year; by default inferred from the dates, or 252 without dates.
        title: Heading of the report.

    Returns:
        One row per strategy, the benchmark last; its last column says of each empty cell why it is empty. What is left
        out altogether is in `attrs["statements"]`, and in every file.

    Raises:
        DataError: If the series cannot be compared: see `values.evidence_of_values`.
        ConfigError: If `output_path` cannot be written, or a setting is out of range.
    """
    evidence = evidence_of_values(
        strategies, benchmark, cash_rate=cash_rate, periods_per_year=periods_per_year, title=title
    )
    report = report_of(evidence, BootstrapPlan(num_draws=VALUE_DRAWS))
    if output_path is not None:
        report.write(output_path)
    table = report.table.copy()
    table.attrs["statements"] = report.statements
    return table


def report_of(evidence: Evidence, plan: BootstrapPlan | None = None) -> Report:
    """The report on any evidence."""
    plan = plan or BootstrapPlan()
    findings = find(evidence, plan.seed)
    confidence_set = findings.confidence_set
    p_values = None if confidence_set is None else confidence_set.p_values
    return Report(evidence, statistics_table(evidence, plan, p_values), findings)
