"""Check and alignment of value series; a gap gives an error or a sentence in the report, never a silent NaN."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from rllib_portfolio.backtest.engine import Role
from rllib_portfolio.config.user_values import require_annual_rate, require_names
from rllib_portfolio.dates import Dates, are_intraday, date_text, dates_of
from rllib_portfolio.errors import ConfigError, DataError
from rllib_portfolio.market.frequency import TOLERANCE, frequency_of, require_one_rhythm
from rllib_portfolio.reporting.inputs import FIRST_DAY, ReportInputs
from rllib_portfolio.statistics import metrics

Series = pd.Series | ArrayLike
"""Values of one strategy: a pandas object, or an array; a table or matrix must have one column."""

MIN_VALUES = 12
"""Smallest number of values; fewer than eleven returns say nothing about a Sharpe ratio."""


def inputs_of_values(
    strategies: Mapping[str, Series],
    benchmark: Series | None = None,
    *,
    cash_rate: float = 0.0,
    periods_per_year: float | None = None,
    title: str = "Performance report",
) -> ReportInputs:
    """Check and align value series.

    Series with dates are cut to the days that all of them have, and the report says so; missing values at either end of
    a series are cut as well. Dates may be ISO 8601 texts ("2020-01-31"). Arrays have no dates and must have the same
    length. Series with other labels have no dates either, and their labels must be the same. A time stamp with a time
    zone belongs to the day of its local time, so all series must have the same time zone, or none. Series
    with several values a day keep their times, in UTC if they have a time zone.

    Args:
        strategies: Maps names to values above 0 (wealth, prices), at least one.
        benchmark: Values of the benchmark.
        cash_rate: Annual return of cash, a fraction.
        periods_per_year: Values per year; by default inferred from the dates, or 252 without dates.
        title: Heading of the report.

    Raises:
        DataError: If there is no strategy; if a series has several columns, an inner gap, a value that is not above 0,
            or dates that do not increase; if only some series have dates, or they differ in time zone or in labels that
            are not dates; or if the days that they share are fewer than 12 or have several frequencies.
        ConfigError: If `strategies` is not a mapping, two names are the same text, a setting is out of range, or
            `periods_per_year` differs by more than 10 % from what the dates tell.
    """
    _require_settings(cash_rate, periods_per_year)
    given = _named(strategies)
    judged, name = tuple(given), None
    if benchmark is not None:
        name = _benchmark_name(benchmark, given)
        given[name] = benchmark
    require_names(given, "strategies", "report")
    _require_one_zone(given)
    columns = {each: _series(each, values) for each, values in given.items()}
    has_dates = _have_dates(columns)
    if not has_dates:
        columns = _by_position(columns)
    columns = {each: _without_gaps(each, series) for each, series in columns.items()}
    table, statements = _aligned(columns, name, has_dates)
    returns = table.to_numpy()[1:] / table.to_numpy()[:-1] - 1.0
    dates = dates_of(pd.DatetimeIndex(table.index)) if has_dates else FIRST_DAY + np.arange(len(table))
    periods_per_year, frequency = _frequency(dates if has_dates else None, periods_per_year)
    cash = (1.0 + cash_rate) ** (1.0 / periods_per_year) - 1.0
    return ReportInputs(
        title=title,
        names=tuple(columns),
        roles=tuple(Role.BENCHMARK if each == name else Role.SUBJECT for each in columns),
        dates=dates[1:],
        returns=returns,
        cash_returns=np.full(len(returns), cash),
        periods_per_year=periods_per_year,
        subjects=judged,
        benchmark=name,
        has_dates=has_dates,
        statements=(*statements, *frequency, *_what_is_not_known(name, has_dates, cash_rate)),
    )


def _benchmark_name(benchmark: Series, strategies: Mapping[str, Any]) -> str:
    own = getattr(benchmark, "name", None)
    name = str(own) if own is not None else "benchmark"
    return f"{name} (benchmark)" if name in strategies else name


def _require_settings(cash_rate: float, periods_per_year: float | None) -> None:
    require_annual_rate(cash_rate, "cash_rate", "report")
    if periods_per_year is not None and not (math.isfinite(periods_per_year) and periods_per_year > 0.0):
        raise ConfigError(
            f"periods_per_year must be above 0, got {periods_per_year} (report). Give values per year: 252 for daily, "
            "12 for monthly ones."
        )


def _frequency(dates: Dates | None, stated: float | None) -> tuple[float, tuple[str, ...]]:
    """Return the values per year, as stated or inferred from the dates, and a sentence on it if it is inferred."""
    if dates is not None:
        require_one_rhythm(dates, "report")
    found = None if dates is None else frequency_of(dates)
    if found is None:
        return stated or metrics.PERIODS_PER_YEAR, ()
    if stated is None:
        counted = f"There are {found.rows_a_year:.0f} values in a calendar year, {found.rhythm}"
        return found.periods, (f"{counted}: a year is taken as {found.periods} values.",)
    if abs(stated - found.periods) > TOLERANCE * found.periods:
        raise ConfigError(
            f"periods_per_year must be within {TOLERANCE:.0%} of what the dates tell, got {stated:g}, and a calendar "
            f"year has {found.rows_a_year:.0f} of these values, {found.rhythm} (report). Give {found.periods}, or "
            "leave it out."
        )
    return stated, ()


def _named(strategies: Mapping[str, Series]) -> dict[str, Series]:
    """Return the series with their names as texts, which must be distinct."""
    if not isinstance(strategies, Mapping):
        kind = type(strategies).__name__
        raise ConfigError(f"strategies must be a dict of name to values, got {kind} (report). Name each series.")
    given = {str(name): values for name, values in strategies.items()}
    if not given:
        raise DataError("strategies must be at least one, got none (report). Give a dict of name to values.")
    if len(given) < len(strategies):
        names = ", ".join(repr(name) for name in strategies)
        raise ConfigError(f"strategies must have distinct names, got {names} (report). Rename one of them.")
    return given


def _series(name: str, values: Series) -> pd.Series:
    """Return a series as floats with increasing days as labels, or with its own labels if they are not dates."""
    series = _one_column(name, values)
    try:
        series = series.astype(np.float64)
    except (TypeError, ValueError):
        raise DataError(f"values must be numbers, got {series.dtype} (strategy {name}). Convert the series.") from None
    stamps = _stamps(series.index)
    if stamps is None:
        return series
    clock, offsets = stamps
    days = clock.normalize()
    if len(days) >= 2 * days.nunique():  # hours; in UTC none of them repeats when clocks are set back
        days = (clock if offsets is None else clock - offsets).floor("min")
    steps = np.diff(days.to_numpy())
    falls = np.flatnonzero(~(steps > np.timedelta64(0)))  # a missing date compares as False
    if len(falls):
        day = date_text(days[falls[0] + 1])
        raise DataError(
            f"dates must increase, one value a day, got {day} out of order or twice (strategy {name}). Sort the "
            "series and keep one value a day."
        )
    return series.set_axis(days)


def _one_column(name: str, values: Any) -> pd.Series:
    """Return a series as it is, or the only column of a table or matrix as a series."""
    if isinstance(values, pd.Series):
        return values
    table = values if isinstance(values, pd.DataFrame) else np.asarray(values)
    if table.ndim not in (1, 2) or (table.ndim == 2 and table.shape[1] != 1):
        shape = " x ".join(str(size) for size in table.shape) or "one number"
        raise DataError(f"values must be one series, got {shape} (strategy {name}). Give one strategy for each column.")
    return table.iloc[:, 0] if isinstance(table, pd.DataFrame) else pd.Series(table.reshape(-1))


def _stamps(labels: pd.Index) -> tuple[pd.DatetimeIndex, pd.TimedeltaIndex | None] | None:
    """Return the local times of date labels, and their offsets from UTC if they have a time zone.

    The labels may also be texts or date objects; the result is None if they are not dates.
    """
    if isinstance(labels, pd.PeriodIndex):
        labels = labels.to_timestamp()
    elif labels.inferred_type in ("string", "date", "datetime"):
        try:
            # other formats are ambiguous: 01/02/2020 may be in January or in February
            instants = pd.DatetimeIndex(pd.to_datetime(labels, format="ISO8601", utc=True))
            # summer time gives one zone several offsets, which pandas does not read into one index
            clock = pd.DatetimeIndex([pd.Timestamp(label).tz_localize(None) for label in labels])
        except (ValueError, TypeError):
            return None
        has_zone = pd.Timestamp(labels[0]).tzinfo is not None
        return clock, clock - instants.tz_localize(None) if has_zone else None
    if not isinstance(labels, pd.DatetimeIndex):
        return None
    clock = labels.tz_localize(None)
    return clock, None if labels.tz is None else clock - labels.tz_convert("UTC").tz_localize(None)


def _require_one_zone(given: Mapping[str, Series]) -> None:
    """Raise DataError if two series have different offsets from UTC on a common day, which allows look-ahead bias.

    It is also raised if only some series have a time zone, as for tables of prices (`market.days.require_one_zone`).
    """
    zoned: dict[str, tuple[str, pd.Series]] = {}
    plain = []
    for name, values in given.items():
        labels = _one_column(name, values).index
        clock, offsets = _stamps(labels) or (None, None)
        if clock is not None and offsets is None:
            plain.append(name)
        if clock is not None and offsets is not None:
            by_day: pd.Series = pd.Series(offsets, clock.normalize())
            zone = str(getattr(labels, "tz", None) or f"UTC{by_day.iloc[0] / pd.Timedelta(hours=1):+g} h")
            zoned[name] = zone, by_day[~by_day.index.duplicated() & by_day.notna()]
    if plain and zoned:
        name, (zone, _) = next(iter(zoned.items()))
        raise DataError(
            f"series must be in one time zone, got no time zone and {zone} (strategies {plain[0]} and {name}). Give "
            "all the days of the exchange without a zone: tz_localize(None) keeps the days that stamps name, and "
            "tz_convert before it those of another zone."
        )
    for name, (zone, days) in zoned.items():
        first, (first_zone, first_days) = next(iter(zoned.items()))
        both = pd.concat([first_days, days], axis=1, join="inner").to_numpy()
        if (both[:, 0] != both[:, 1]).any():
            raise DataError(
                f"series must be in one time zone, got {first_zone} and {zone} (strategies {first} and {name}). "
                "Convert one of them: tz_convert keeps its moments, and tz_localize(None) the days that it names."
            )


def _by_position(columns: Mapping[str, pd.Series]) -> dict[str, pd.Series]:
    """Return series without dates, aligned by position; their labels must be equal, or count positions from 0."""
    first, labels = next((name, series.index) for name, series in columns.items())
    for name, series in columns.items():
        count_places = all(each.equals(pd.RangeIndex(len(each))) for each in (series.index, labels))
        if not series.index.equals(labels) and not count_places:
            raise DataError(
                f"series without dates must have the same labels, got {series.index[0]} to {series.index[-1]} beside "
                f"{labels[0]} to {labels[-1]} (strategies {name} and {first}). Make the labels dates "
                "(pandas.to_datetime), or reset_index(drop=True) where they mean nothing."
            )
    return {name: series.reset_index(drop=True) for name, series in columns.items()}


def _without_gaps(name: str, series: pd.Series) -> pd.Series:
    """Return the series from its first to its last value, which must have no gap and only values above 0."""
    first, last = series.first_valid_index(), series.last_valid_index()
    if first is None:
        raise DataError(f"values must hold numbers, got none (strategy {name}). Look at the series.")
    trimmed = series.loc[first:last]
    values = trimmed.to_numpy()
    num_alive = int(np.argmax(values == 0.0))
    if num_alive and (values[:num_alive] > 0.0).all() and (values[num_alive:] == 0.0).all():
        raise DataError(
            f"values must be above 0, got 0 from {_label(trimmed.index[num_alive])} to the end (strategy {name}). It "
            "lost everything: its total and annual return are -100 %, its maximum drawdown is 100 %, and no other "
            "figure is defined. End the series before that day to see the days before, and state the loss beside them."
        )
    for problem, rule, advice in (
        (np.isnan(values), "be without gaps", "Fill it knowingly or leave the day out of all series."),
        (np.isinf(values), "be finite", "Look at the series."),
        (values <= 0.0, "be above 0", "Give values (wealth, prices), not returns: (1 + returns).cumprod() makes them."),
    ):
        if problem.any():
            at = int(np.argmax(problem))
            where = f"strategy {name}, {_label(trimmed.index[at])}"
            raise DataError(f"values must {rule}, got {values[at]} ({where}). {advice}")
    return trimmed


def _label(label: Any) -> str:
    return date_text(label) if isinstance(label, pd.Timestamp) else f"position {label}"


def _have_dates(columns: Mapping[str, pd.Series]) -> bool:
    dated = {name: series.index for name, series in columns.items() if isinstance(series.index, pd.DatetimeIndex)}
    if 0 < len(dated) < len(columns):
        plain = next(name for name in columns if name not in dated)
        raise DataError(
            f"series must all have dates or none, got dates for {next(iter(dated))} and none for {plain} (report). "
            "Give them pandas Series with a DatetimeIndex."
        )
    hours = [name for name, index in dated.items() if are_intraday(dates_of(index))]
    if 0 < len(hours) < len(dated):
        daily = next(name for name in dated if name not in hours)
        raise DataError(
            f"series must all have one value a day or several, got several of {hours[0]} and one of {daily} (report). "
            "Keep the last value of each day in all of them."
        )
    return bool(dated)


def _aligned(
    columns: Mapping[str, pd.Series], benchmark: str | None, has_dates: bool
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Return a table of the days that all series have, and a sentence for each series that has other days."""
    if not has_dates and len({len(series) for series in columns.values()}) > 1:
        lengths = ", ".join(f"{name} {len(series)}" for name, series in columns.items())
        raise DataError(f"arrays must be of one length, got {lengths} (report). Give pandas Series with dates instead.")
    everything: dict[str, Any] = dict(columns)
    table: pd.DataFrame = pd.concat(everything, axis=1, join="inner")
    others: Any = [series for name, series in columns.items() if name != benchmark]
    shared = pd.concat(others, axis=1, join="inner").index
    if benchmark is not None and not columns[benchmark].index.isin(shared).any():
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
    first, last = date_text(table.index[0]), date_text(table.index[-1])
    return table, tuple(
        f"{name} has {len(series)} values ({_span(series)}); {len(series) - len(table)} of them are left out: only the "
        f"{len(table)} days from {first} to {last} that all series have are compared."
        for name, series in columns.items()
        if len(series) > len(table)
    )


def _span(series: pd.Series) -> str:
    if not isinstance(series.index, pd.DatetimeIndex):
        return f"{len(series)} values"
    return f"{date_text(series.index[0])} to {date_text(series.index[-1])}"


def _what_is_not_known(benchmark: str | None, has_dates: bool, cash_rate: float) -> tuple[str, ...]:
    """Return sentences on what value series do not tell, and on the assumed cash return."""
    sentences = [
        "The values are taken as given: costs, execution lag, survivorship bias and how the values were produced "
        "are not known here. Ask for this information before trusting the figures.",
        "Value series contain no weights: turnover, costs, concentration and active share are left out.",
    ]
    no_benchmark = "No benchmark was given: information ratio, alpha, beta, difference tests and verdicts are left out."
    no_dates = "The series have no dates: crises, monthly returns and dates of drawdowns are left out."
    no_cash = "The cash return is taken as 0, so Sharpe ratios use returns without deduction."
    sentences += [no_benchmark] * (benchmark is None) + [no_dates] * (not has_dates)
    return (*sentences, f"The cash return is taken as {100.0 * cash_rate:g} % a year." if cash_rate else no_cash)
