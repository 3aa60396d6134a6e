"""Anyone's value series, checked and aligned: a gap is an error or a sentence in the report, never a silent NaN."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from rllib_portfolio.errors import DataError
from rllib_portfolio.evaluation import metrics
from rllib_portfolio.evaluation.report.evidence import FIRST_DAY, Evidence

FloatArray = NDArray[np.floating[Any]]
Series = pd.Series | ArrayLike
"""Values of one strategy: pandas with dates, or an array."""

MIN_VALUES = 12
"""Eleven returns: fewer say nothing about a Sharpe ratio."""

LARGEST_DAILY_GAP = 3.5
"""Median calendar days between values above which they are no daily ones."""


def evidence_of_values(
    strategies: Mapping[str, Series],
    benchmark: Series | None = None,
    *,
    cash_rate: float = 0.0,
    periods_per_year: float = metrics.PERIODS_PER_YEAR,
    title: str = "Performance report",
) -> Evidence:
    """Check and align value series.

    Series with dates are cut to the days that all of them have, and the report says so; values missing at either end
    are cut likewise. Arrays have no dates and must be of one length.

    Args:
        strategies: Name to values (wealth, prices: above 0), at least one.
        benchmark: Values of what they are judged against.
        cash_rate: What cash earned, annual, a fraction.
        periods_per_year: Values per year.
        title: Heading of the report.

    Raises:
        DataError: If there is no strategy, a series has a gap inside, a value that is not above 0, dates that repeat or
            fall, no day in common with the others, or fewer than 12 values are left.
    """
    given = {str(name): values for name, values in strategies.items()}
    if not given:
        raise DataError("strategies must be at least one, got none (report). Give a dict of name to values.")
    judged, name = tuple(given), None
    if benchmark is not None:
        name = _benchmark_name(benchmark, given)
        given[name] = benchmark
    columns = {each: _series(each, values) for each, values in given.items()}
    has_dates = _have_dates(columns)
    table, statements = _aligned(columns, name, has_dates)
    returns = table.to_numpy()[1:] / table.to_numpy()[:-1] - 1.0
    cash = (1.0 + cash_rate) ** (1.0 / periods_per_year) - 1.0
    dates = table.index.to_numpy().astype("datetime64[D]") if has_dates else FIRST_DAY + np.arange(len(table))
    return Evidence(
        title=title,
        names=tuple(columns),
        dates=dates[1:],
        returns=returns,
        cash_returns=np.full(len(returns), cash),
        periods_per_year=periods_per_year,
        subjects=judged,
        benchmark=name,
        has_dates=has_dates,
        statements=(*statements, *_what_is_not_known(dates, name, has_dates, cash_rate, periods_per_year)),
    )


def _benchmark_name(benchmark: Series, strategies: Mapping[str, Any]) -> str:
    own = getattr(benchmark, "name", None)
    name = str(own) if own is not None else "benchmark"
    return f"{name} (benchmark)" if name in strategies else name


def _series(name: str, values: Series) -> pd.Series:
    """Float values with increasing days, or with a plain range where they have no dates."""
    series = values if isinstance(values, pd.Series) else pd.Series(np.asarray(values).reshape(-1))
    try:
        series = series.astype(np.float64)
    except (TypeError, ValueError):
        raise DataError(f"values must be numbers, got {series.dtype} (strategy {name}). Convert the series.") from None
    if isinstance(series.index, pd.PeriodIndex):
        series = series.set_axis(series.index.to_timestamp())
    if isinstance(series.index, pd.DatetimeIndex):
        series = series.set_axis(series.index.tz_localize(None).normalize())
        falls = np.flatnonzero(np.diff(series.index.to_numpy()) <= np.timedelta64(0))
        if len(falls):
            day = series.index[falls[0] + 1].date()
            raise DataError(
                f"dates must increase, one value a day, got {day} out of order or twice (strategy {name}). Sort the "
                "series and keep one value a day."
            )
    else:
        series = series.reset_index(drop=True)
    return _without_gaps(name, series)


def _without_gaps(name: str, series: pd.Series) -> pd.Series:
    """The series from its first to its last value."""
    first, last = series.first_valid_index(), series.last_valid_index()
    if first is None:
        raise DataError(f"values must hold numbers, got none (strategy {name}). Look at the series.")
    trimmed = series.loc[first:last]
    values = trimmed.to_numpy()
    for problem, rule, advice in (
        (np.isnan(values), "be without gaps", "Fill it knowingly or leave the day out of all series."),
        (np.isinf(values), "be finite", "Look at the series."),
        (values <= 0.0, "be above 0", "Give values (wealth, prices), not returns: (1 + returns).cumprod() makes them."),
    ):
        if problem.any():
            at = int(np.argmax(problem))
            label = trimmed.index[at]
            where = label.date() if isinstance(label, pd.Timestamp) else f"position {label}"
            raise DataError(f"values must {rule}, got {values[at]} (strategy {name}, {where}). {advice}")
    return trimmed


def _have_dates(columns: Mapping[str, pd.Series]) -> bool:
    dated = [name for name, series in columns.items() if isinstance(series.index, pd.DatetimeIndex)]
    if 0 < len(dated) < len(columns):
        plain = next(name for name in columns if name not in dated)
        raise DataError(
            f"series must all have dates or none, got dates for {dated[0]} and none for {plain} (report). Give them "
            "pandas Series with a DatetimeIndex."
        )
    return bool(dated)


def _aligned(
    columns: Mapping[str, pd.Series], benchmark: str | None, has_dates: bool
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The days that all have, and a sentence for each series that had others."""
    if not has_dates and len({len(series) for series in columns.values()}) > 1:
        lengths = ", ".join(f"{name} {len(series)}" for name, series in columns.items())
        raise DataError(f"arrays must be of one length, got {lengths} (report). Give pandas Series with dates instead.")
    table = _joined(columns)
    others = {name: series for name, series in columns.items() if name != benchmark}
    if benchmark is not None and not columns[benchmark].index.isin(_joined(others).index).any():
        span = _span(columns[benchmark])
        raise DataError(
            f"benchmark must share days with the strategies, got {span} beside {_span(next(iter(columns.values())))} "
            f"({benchmark}). Give one over the same days, or none."
        )
    if len(table) < MIN_VALUES:
        spans = "; ".join(f"{name} {_span(series)}" for name, series in columns.items())
        raise DataError(
            f"series must share at least {MIN_VALUES} days, got {len(table)} ({spans}). Leave out the one that "
            "differs, or give longer ones."
        )
    if not has_dates:
        return table, ()
    first, last = table.index[0].date(), table.index[-1].date()
    return table, tuple(
        f"{name} has {len(series)} values ({_span(series)}); {len(series) - len(table)} of them are left out: only the "
        f"{len(table)} days from {first} to {last} that all series have are compared."
        for name, series in columns.items()
        if len(series) > len(table)
    )


def _joined(columns: Mapping[str, pd.Series]) -> pd.DataFrame:
    """The rows that all have."""
    series: Any = list(columns.values())
    table: pd.DataFrame = pd.concat(series, axis=1, join="inner", keys=list(columns))
    return table


def _span(series: pd.Series) -> str:
    if not isinstance(series.index, pd.DatetimeIndex):
        return f"{len(series)} values"
    return f"{series.index[0].date()} to {series.index[-1].date()}"


def _what_is_not_known(
    dates: NDArray[np.datetime64], benchmark: str | None, has_dates: bool, cash_rate: float, periods_per_year: float
) -> tuple[str, ...]:
    """Sentences on what value series leave out."""
    sentences = [
        "The values are taken as given: costs, execution lag, survivorship and the rule that made them are not known "
        "here. Ask for them before believing a figure.",
        "Value series carry no weights: turnover, costs, concentration and active share are left out.",
    ]
    if benchmark is None:
        sentences.append(
            "No benchmark was given: information ratio, alpha, beta, difference tests and verdicts are left out."
        )
    if not has_dates:
        sentences.append("The series have no dates: crises, monthly returns and dates of drawdowns are left out.")
    elif len(dates) > 1 and periods_per_year > 60.0:
        gap = float(np.median(np.diff(dates).astype(int)))
        if gap > LARGEST_DAILY_GAP:
            sentences.append(
                f"Values are {gap:g} calendar days apart, and {periods_per_year:g} of them were taken for a year: "
                "annual figures are wrong unless periods_per_year is given."
            )
    if cash_rate == 0.0:
        sentences.append("Cash was taken to earn nothing: Sharpe ratios are of plain returns.")
    return tuple(sentences)
