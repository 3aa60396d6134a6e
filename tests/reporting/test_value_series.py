"""Anyone's value series: what is refused, what is cut, and that the reader is told."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from rllib_portfolio.errors import ConfigError, DataError
from rllib_portfolio.reporting.performance_report import generate_performance_report
from rllib_portfolio.reporting.value_series import inputs_of_values

DAYS = pd.bdate_range("2015-01-01", periods=40)


def series(seed: int = 0, index: Any = DAYS, name: str | None = None) -> pd.Series:
    rng = np.random.default_rng(seed)
    return pd.Series(100.0 * np.cumprod(1.0 + rng.normal(0.0005, 0.01, len(index))), index=index, name=name)


def spoiled(position: int, value: float) -> pd.Series:
    values = series()
    values.iloc[position] = value
    return values


def statements(*arguments: Any, **settings: Any) -> str:
    return "\n".join(inputs_of_values(*arguments, **settings).statements)


def test_returns_are_those_between_the_values() -> None:
    # 100, 110, 99, then flat: + 10 %, - 10 %, 0 %
    inputs = inputs_of_values({"mine": np.array([100.0, 110.0, 99.0, *[99.0] * 9])})
    assert inputs.returns[:3, 0] == pytest.approx([0.1, -0.1, 0.0], abs=1e-15)
    assert inputs.num_days == 11


def test_the_benchmark_is_the_last_row_under_its_own_name() -> None:
    assert inputs_of_values({"mine": series()}, series(1, name="S&P 500")).names == ("mine", "S&P 500")
    assert inputs_of_values({"mine": series()}, series(1)).names == ("mine", "benchmark")
    assert inputs_of_values({"mine": series()}, series(1, name="mine")).names == ("mine", "mine (benchmark)")


def test_cash_earns_its_rate_each_day() -> None:
    # (1 + r)^252 = 1.05
    inputs = inputs_of_values({"mine": series()}, cash_rate=0.05)
    assert (1.0 + inputs.cash_returns[0]) ** 252 == pytest.approx(1.05, rel=1e-12)


def test_series_over_other_days_are_cut_to_those_in_common_and_the_report_says_so() -> None:
    # 40 and 40 days, 10 later: days 10 to 39 are shared, 30 values; each loses 10
    inputs = inputs_of_values({"early": series(), "late": series(1, pd.bdate_range(DAYS[10], periods=40))})
    assert (inputs.num_days, inputs.dates[0], inputs.dates[-1]) == (
        29,
        np.datetime64(DAYS[11].date()),
        np.datetime64(DAYS[39].date()),
    )
    for name in ("early", "late"):
        assert f"{name} has 40 values" in "\n".join(inputs.statements)
    assert "10 of them are left out: only the 30 days from 2015-01-15 to 2015-02-25" in inputs.statements[0]


def test_values_missing_at_the_ends_are_cut_and_those_inside_are_refused() -> None:
    values = spoiled(0, np.nan)
    values.iloc[-1] = np.nan
    inputs = inputs_of_values({"short": values, "long": series(1)})
    assert inputs.num_days == 37
    assert not np.isnan(inputs.returns).any()
    assert "long has 40 values" in "\n".join(inputs.statements)
    with pytest.raises(DataError, match=r"values must be without gaps, got nan \(strategy mine, 2015-01-08\)"):
        inputs_of_values({"mine": spoiled(5, np.nan)})


OTHER_DAYS = pd.bdate_range("2020-01-01", periods=40)
REFUSED: dict[str, tuple[dict[Any, Any], Any, str]] = {
    "zero": ({"mine": spoiled(5, 0.0)}, None, r"values must be above 0, got 0.0 \(strategy mine, 2015-01-08\)"),
    "returns": (
        {"mine": series().pct_change().dropna()},
        None,
        r"not returns: \(1 \+ returns\)\.cumprod\(\) makes them",
    ),
    "ruin": (
        {"ruined": series().where(np.arange(40) < 30, 0.0)},
        None,
        r"got 0 from 2015-02-12 to the end \(strategy ruined\)\. It lost everything: .* -100 %, .* 100 %",
    ),
    "infinite": ({"mine": spoiled(5, np.inf)}, None, "values must be finite, got inf"),
    "texts": ({"mine": pd.Series(["a"] * 40, index=DAYS)}, None, "values must be numbers"),
    "days that repeat": (
        {"mine": series(index=pd.DatetimeIndex([*DAYS[:5], DAYS[4], *DAYS[5:]]))},
        None,
        "dates must increase, one value a day, got 2015-",
    ),
    "days that fall": ({"mine": series(index=DAYS[::-1])}, None, "dates must increase, one value a day, got 2015-"),
    "a missing date": (
        {"mine": series(index=pd.DatetimeIndex([*DAYS[:5], pd.NaT, *DAYS[6:]]))},
        None,
        "dates must increase, one value a day, got NaT",
    ),
    "a benchmark over other days": (
        {"mine": series()},
        series(1, OTHER_DAYS),
        "benchmark must share days with the strategies, got 2020-01-01 to 2020-02-25",
    ),
    "no day in common": (
        {"a": series(), "b": series(1, OTHER_DAYS)},
        None,
        r"series must share at least 12 days, got 0 \(a 2015-01-01 to ",
    ),
    "too few": ({"mine": series(index=DAYS[:11])}, None, "series must share at least 12 days, got 11"),
    "no strategy": ({}, None, "strategies must be at least one, got none"),
    "arrays of other lengths": (
        {"a": np.ones(20), "b": np.ones(21)},
        None,
        "arrays must be of one length, got a 20, b 21",
    ),
    "arrays beside dates": (
        {"a": np.ones(40), "b": series()},
        None,
        "series must all have dates or none, got dates for b and none for a",
    ),
    "names written alike": ({1: series(), "1": series(1)}, None, "strategies must have distinct names, got 1, '1'"),
    "no names": ([series()], None, "strategies must be a dict of name to values, got list"),  # type: ignore[dict-item]
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_value_series_is_refused(case: str) -> None:
    strategies, benchmark, message = REFUSED[case]
    with pytest.raises((ConfigError, DataError), match=message):
        inputs_of_values(strategies, benchmark)


@pytest.mark.parametrize(
    ("setting", "value"),
    [("periods_per_year", value) for value in (0, np.inf, np.nan)]
    + [("cash_rate", value) for value in (-1.0, 1.5, np.inf, np.nan)],
)
def test_settings_out_of_range_are_refused(setting: str, value: float) -> None:
    rule = {"periods_per_year": "above 0", "cash_rate": "an annual rate as a fraction .*"}[setting]
    with pytest.raises(ConfigError, match=f"{setting} must be {rule}, got {value:g}"):
        inputs_of_values({"mine": series()}, **{setting: value})


def test_what_arrays_leave_out_is_stated() -> None:
    told = statements({"mine": np.linspace(1.0, 2.0, 40)})
    assert "The series have no dates: crises, monthly returns and dates of drawdowns are left out." in told
    assert "No benchmark was given" in told
    assert "Value series contain no weights" in told
    assert "The cash return is taken as 0" in told


@pytest.mark.parametrize(
    ("days", "stated", "found"),
    [
        # 59 months are 1795 days: 59 * 365.25 / 1795 = 12.0 a year
        (pd.date_range("2010-01-31", periods=60, freq="ME"), 252, 12),
        # every second business day: 499 steps over 1396 days, 499 * 365.25 / 1396 = 130.6
        (pd.bdate_range("2010-01-04", periods=1000)[::2], 252, 131),
        # every day of the week: the median gap is a day, as of trading days
        (pd.date_range("2010-01-04", periods=1000), 252, 365),
        # 261 weekdays a year, and some holidays by convention
        (pd.bdate_range("2010-01-04", periods=1000), 365, 252),
        (pd.date_range("2010-01-04", periods=300, freq="28D"), 52, 13),
        (pd.date_range("2010-01-04", periods=300, freq="W"), 12, 52),
    ],
)
def test_values_per_year_are_inferred_and_another_number_is_refused(
    days: pd.DatetimeIndex, stated: float, found: int
) -> None:
    inputs = inputs_of_values({"mine": series(index=days)})
    assert inputs.periods_per_year == found
    assert any(f": a year is taken as {found} values." in sentence for sentence in inputs.statements)
    with pytest.raises(
        ConfigError, match=rf"periods_per_year must be within 10% .*, got {stated}, .* Give {found}, or"
    ):
        inputs_of_values({"mine": series(index=days)}, periods_per_year=stated)
    near = inputs_of_values({"mine": series(index=days)}, periods_per_year=1.08 * found)
    assert near.periods_per_year == 1.08 * found


@pytest.mark.parametrize(
    "written",
    [
        lambda days: days.strftime("%Y-%m-%d"),
        lambda days: days.strftime("%Y%m%d"),
        lambda days: pd.Index([day.date() for day in days], dtype=object),
        lambda days: pd.Index([day.to_pydatetime() for day in days], dtype=object),
        lambda days: days.to_period("D"),
    ],
)
def test_dates_that_are_written_out_or_kept_as_objects_align_like_dates(written: Any) -> None:
    # 40 days each, 10 later: 30 are shared, and none is paired with another day
    late = pd.bdate_range(DAYS[10], periods=40)
    plain = inputs_of_values({"early": series()}, series(1, late))
    texts = inputs_of_values({"early": series().set_axis(written(DAYS))}, series(1, late).set_axis(written(late)))
    assert texts.has_dates
    assert texts.num_days == 29
    assert np.array_equal(texts.dates, plain.dates)
    assert np.array_equal(texts.returns, plain.returns)
    assert texts.statements == plain.statements


def test_labels_that_are_no_dates_must_be_the_same_for_all() -> None:
    texts = pd.Index([f"{day:%m/%d/%Y}" for day in DAYS])
    numbers = pd.RangeIndex(40)
    for first, second in ((texts, texts[::-1]), (texts, numbers), (numbers, numbers + 5)):
        with pytest.raises(DataError, match="series without dates must have the same labels, got"):
            inputs_of_values({"a": series(index=first), "b": series(1, second)})
    for same in (texts, numbers + 5):
        inputs = inputs_of_values({"a": series(index=same), "b": series(1, same)})
        assert (inputs.num_days, inputs.has_dates) == (39, False)
    assert inputs_of_values({"a": series(index=numbers), "b": np.linspace(1.0, 2.0, 40)}).num_days == 39


def test_a_table_of_one_column_is_a_series_with_its_dates_and_more_columns_are_refused() -> None:
    inputs = inputs_of_values({"mine": series().to_frame("wealth")}, series(1).to_frame())
    assert inputs.has_dates
    assert np.array_equal(inputs.returns, inputs_of_values({"mine": series()}, series(1)).returns)
    assert inputs_of_values({"mine": series().to_numpy()[:, None]}).num_days == 39
    two = np.ones((40, 2))
    for values in (two, pd.DataFrame(two, index=DAYS), np.ones((1, 40))):
        with pytest.raises(DataError, match=r"values must be one series, got \d+ x \d+ \(strategy mine\)"):
            inputs_of_values({"mine": values})
    with pytest.raises(DataError, match=r"values must be one series, got one number \(strategy mine\)"):
        inputs_of_values({"mine": 3.0})


def test_plain_days_beside_a_time_zone_are_refused_with_both_named() -> None:
    # midnight in Tokyo is the day before in UTC: the same values would be paired a day apart
    tokyo = series(index=DAYS.tz_localize("Asia/Tokyo"))
    for zone, stamped in (("UTC", tokyo.tz_convert("UTC")), ("Asia/Tokyo", tokyo)):
        told = rf"one time zone, got no time zone and {zone} \(strategies plain and stamped\)"
        with pytest.raises(DataError, match=told):
            inputs_of_values({"plain": series(), "stamped": stamped})
        with pytest.raises(DataError, match=told):
            inputs_of_values({"stamped": stamped}, series(name="plain"))
    texts = series().set_axis(DAYS.strftime("%Y-%m-%d"))
    with pytest.raises(DataError, match=r"got no time zone and UTC\+9 h \(strategies plain and stamped\)"):
        inputs_of_values({"plain": texts, "stamped": tokyo.set_axis(tokyo.index.map(str))})
    plain = inputs_of_values({"plain": series(), "stamped": tokyo.tz_localize(None)})
    assert np.array_equal(plain.returns[:, 0], plain.returns[:, 1])


def test_one_series_in_two_zones_is_refused_with_both_named() -> None:
    tokyo = series(index=DAYS.tz_localize("Asia/Tokyo"))
    told = r"series must be in one time zone, got Asia/Tokyo and UTC \(strategies mine and same\)"
    with pytest.raises(DataError, match=told):
        inputs_of_values({"mine": tokyo}, tokyo.tz_convert("UTC").rename("same"))
    texts = tokyo.set_axis(tokyo.index.map(str))
    with pytest.raises(DataError, match=r"got UTC\+9 h and UTC \("):
        inputs_of_values({"mine": texts}, tokyo.tz_convert("UTC").rename("same"))
    assert inputs_of_values({"mine": texts}, tokyo).num_days == 39


def test_summer_time_is_one_zone() -> None:
    days = pd.bdate_range("2018-01-02", periods=200, tz="America/New_York") + pd.Timedelta(hours=16)
    stamped = series(index=days)
    told = inputs_of_values({"mine": stamped.set_axis(days.map(str))}, stamped.tz_convert("US/Eastern").rename("same"))
    assert told.has_dates
    assert np.array_equal(told.dates, days[1:].tz_localize(None).to_numpy().astype("datetime64[D]"))
    assert np.array_equal(told.returns[:, 0], told.returns[:, 1])


def test_no_column_of_the_table_is_silently_empty() -> None:
    for given, benchmark in (({"mine": series()}, None), ({"mine": series(), "b": series(1)}, series(2))):
        table = generate_performance_report(given, benchmark)
        assert "turnover_per_year" not in table
        assert ("information_ratio" in table) == (benchmark is not None)
        for strategy, row in table.iterrows():
            for name in table.columns[row.isna()]:
                assert name in row["undefined"], (strategy, name)
