"""A report on value series in one call."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from rllib_portfolio.reporting.files import write_report
from rllib_portfolio.reporting.report import report_of
from rllib_portfolio.reporting.value_series import Series, inputs_of_values
from rllib_portfolio.statistics.bootstrap import BootstrapPlan

NUM_DRAWS = 2000
"""Number of resampled histories; 50 of them lie beyond each end of a 95 % interval."""


def generate_performance_report(
    strategies: Mapping[str, Series],
    benchmark: Series | None = None,
    output_path: Path | str | None = None,
    *,
    cash_rate: float = 0.0,
    periods_per_year: float | None = None,
    title: str = "Performance report",
) -> pd.DataFrame:
    """Compare strategies by their value series and write the report.

    ```
    generate_performance_report({"mine": wealth}, benchmark=index_level, output_path="report.html")
    ```

    Args:
        strategies: Maps names to values above 0 (wealth, prices): pandas Series with dates (or ISO 8601 texts), or
            arrays of equal length.
        benchmark: Values of the benchmark; without it there are no verdicts.
        output_path: A path that ends in .csv is for the table, with one CSV per crisis and the notes beside it. A path
            that ends in .html is for the page. Any other path is a folder for all files. None writes nothing.
        cash_rate: Annual return of cash, a fraction.
        periods_per_year: Values per year; by default inferred from the dates, or 252 without dates.
        title: Heading of the report.

    Returns:
        One row per strategy, the benchmark last. The last column gives the reasons for empty cells;
        `attrs["statements"]` says what is left out altogether, as does every file.

    Raises:
        DataError: If the series cannot be compared (see `value_series.inputs_of_values`).
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
