"""The report on anyone's value series in one call."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from rllib_portfolio.reporting.files import write_report
from rllib_portfolio.reporting.report import report_of
from rllib_portfolio.reporting.value_series import Series, inputs_of_values
from rllib_portfolio.statistics.bootstrap import BootstrapPlan

NUM_DRAWS = 2000
"""Resampled histories: the ends of an interval then hang on 50 of them at either side."""


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
        DataError: If the series cannot be compared: see `value_series.inputs_of_values`.
        ConfigError: If `output_path` cannot be written, or a setting is out of range.
    """
    inputs = inputs_of_values(
        strategies, benchmark, cash_rate=cash_rate, periods_per_year=periods_per_year, title=title
    )
    report = report_of(inputs, BootstrapPlan(num_draws=NUM_DRAWS))
    if output_path is not None:
        write_report(report, output_path)
    table = report.table.copy()
    table.attrs["statements"] = report.statements
    return table
