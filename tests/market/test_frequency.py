"""Rows of a year: what the dates say, what is stated, and what annual figures become."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from rllib_portfolio.backtest.comparison import compare
from rllib_portfolio.backtest.engine import backtest
from rllib_portfolio.backtest.lineup import reference_strategies
from rllib_portfolio.config import ExecutionConfig, MarketConfig
from rllib_portfolio.errors import ConfigError, DataError
from rllib_portfolio.market import MarketData, load_market
from rllib_portfolio.market.frequency import frequency_of, require_one_rhythm
from rllib_portfolio.reporting.value_series import inputs_of_values
from tests.market.tables import NONE, SHORT


def as_days(index: pd.DatetimeIndex) -> np.ndarray:
    return index.to_numpy().astype("datetime64[D]")


def dates(rhythm: str, count: int, first: str = "2015-01-01") -> np.ndarray:
    return as_days(pd.date_range(first, periods=count, freq=rhythm))


@pytest.mark.parametrize("count", [20, 60, 200])
@pytest.mark.parametrize(
    ("rhythm", "periods"),
    [
        *(("B", 252), ("D", 365), ("W-FRI", 52), ("W-SUN", 52), ("2W", 26), ("4W", 13)),
        *(("SME", 24), ("ME", 12), ("BME", 12), ("MS", 12), ("QE", 4), ("YE", 1)),
    ],
)
def test_the_dates_say_how_many_rows_a_year_has(rhythm: str, periods: int, count: int) -> None:
    found = frequency_of(dates(rhythm, count, "1800-01-01"))
    assert found.periods == periods


@pytest.mark.parametrize("count", [20, 21, 25, 40, 100, 260, 400])
def test_holidays_and_the_first_weekday_of_a_short_table_do_not_matter(count: int) -> None:
    for start in range(14):
        first = str(np.datetime64("2019-01-01") + start)
        weekdays, all_days = dates("B", count, first), dates("D", count, first)
        is_open = np.random.default_rng(start).random(count) > 0.04
        is_open[:20] = True
        for table, periods in ((weekdays, 252), (weekdays[is_open], 252), (all_days, 365)):
            found = frequency_of(table)
            assert found.periods == periods


def test_weekdays_of_other_countries_are_weekdays_and_a_six_day_week_is_counted() -> None:
    every_day = pd.date_range("2015-01-01", "2020-12-31")
    from_sunday_to_thursday = as_days(every_day[~every_day.day_of_week.isin([4, 5])])
    with_saturdays = as_days(every_day[every_day.day_of_week != 6])
    assert frequency_of(from_sunday_to_thursday).periods == 252  # type: ignore[union-attr]
    for six in (with_saturdays, with_saturdays[:300]):
        found = frequency_of(six)
        assert found.periods == 313  # 6 / 7 of 365.25


def joined(*parts: tuple[str, str, str]) -> np.ndarray:
    """Days of several rhythms, one after another: first day, last day and rhythm of each."""
    return np.concatenate([as_days(pd.date_range(first, last, freq=rhythm)) for first, last, rhythm in parts])


WEEKS_THEN_DAYS = (("2005-01-01", "2014-12-31", "W-FRI"), ("2015-01-01", "2018-12-31", "B"))


@pytest.mark.parametrize(
    "parts",
    [
        WEEKS_THEN_DAYS,
        (("2005-01-01", "2008-12-31", "B"), ("2009-01-01", "2018-12-31", "W-FRI")),
        (("2005-01-01", "2014-12-31", "W-FRI"), ("2015-01-01", "2015-12-31", "B")),
        (("2000-01-01", "2001-12-31", "W-FRI"), ("2002-01-01", "2021-12-31", "B")),
    ],
)
def test_a_table_of_weeks_and_days_is_refused_with_both(parts: tuple[tuple[str, str, str], ...]) -> None:
    message = r"one rhythm, got 52 rows a year \(one a week\) .* and \d+ rows a year \(five days a week\) .*\(table\)\."
    with pytest.raises(DataError, match=message):
        require_one_rhythm(joined(*parts), "table")


def test_one_rhythm_passes_with_holidays_closures_and_a_sixth_trading_day() -> None:
    days = dates("B", 2500)
    for seed in range(10):
        rng = np.random.default_rng(seed)
        require_one_rhythm(days[rng.random(2500) > 0.1], "table")
        for first in rng.integers(0, 2400, 3):  # weeks and months of closure, the longest of half a year
            days_open = np.delete(days, slice(first, first + int(rng.integers(7, 130))))
            require_one_rhythm(days_open, "table")
    six_days = as_days(pd.date_range("2005-01-01", "2009-12-31"))
    require_one_rhythm(np.concatenate([six_days[(six_days.astype(int) + 3) % 7 < 6], dates("B", 1000)]), "table")
    for rhythm in ("D", "W-FRI", "2W", "SME", "ME", "QE"):
        require_one_rhythm(dates(rhythm, 400, "1900-01-01"), "table")


def test_a_market_and_a_report_of_two_rhythms_are_refused(tmp_path: Path) -> None:
    days = joined(*WEEKS_THEN_DAYS)
    steady = pd.Series(np.linspace(100.5, 200.5, len(days)), pd.DatetimeIndex(days, name="date"), name="AAA")
    steady.to_csv(tmp_path / "prices.csv")
    with pytest.raises(DataError, match=r"dates must have one rhythm, got .*prices\.csv"):
        load(tmp_path / "prices.csv")
    with pytest.raises(DataError, match=r"dates must have one rhythm, got .*\(report\)"):
        inputs_of_values({"mine": steady})


# ---------------------------------------------------------------- markets


def write(path: Path, rhythm: str, count: int, rows_a_year: float, **columns: Any) -> Path:
    """AAA earns exactly 10 % a year by the calendar; BBB moves beside it."""
    steady = 100.0 * 1.1 ** (np.arange(count) / rows_a_year)
    noise = np.exp(np.cumsum(np.random.default_rng(1).normal(0.0, 0.02, count)))
    index = pd.date_range("2010-01-01", periods=count, freq=rhythm, name="date")
    pd.DataFrame({"AAA": steady, "BBB": 50.0 * noise, **columns}, index).to_csv(path)
    return path


def load(path: Path, **values: Any) -> MarketData:
    return load_market(MarketConfig(data=str(path), **{"features": SHORT, **values}))


@pytest.mark.parametrize(
    ("rhythm", "count", "rows_a_year", "periods"),
    [("W-FRI", 800, 365.25 / 7, 52), ("D", 1500, 365.25, 365), ("ME", 480, 12, 12)],
)
def test_ten_per_cent_a_year_and_cash_at_two_are_shown_as_such(
    tmp_path: Path, rhythm: str, count: int, rows_a_year: float, periods: int
) -> None:
    path = write(tmp_path / "prices.csv", rhythm, count, rows_a_year)
    market = load(path, assets=("AAA",), cash_rate=0.02, features=NONE)
    assert market.periods_per_year == periods
    # cash over all rows, by the calendar: 1.02 to the number of years
    years = (count - 1) / rows_a_year
    assert np.prod(1.0 + market.cash_returns[1:]) ** (1.0 / years) - 1.0 == pytest.approx(0.02, abs=2e-4)
    window = market.windows["all"]
    strategies = reference_strategies(market)
    walks = backtest(market, window, strategies, ExecutionConfig(cost_bps=0.0))
    table = compare(walks, market.cash_returns[slice(*window)], market.periods_per_year)
    assert table.loc["buy-and-hold", "annual_return"] == pytest.approx(0.10, abs=2e-3)
    assert table.loc["all cash", "annual_return"] == pytest.approx(0.02, abs=1e-9)
    assert "Cash earned 2.00 % a year." in market.notes


@pytest.mark.parametrize(
    ("rhythm", "stated", "inferred"), [("D", 252, 365), ("B", 365, 252), ("W-FRI", 252, 52), ("B", 226, 252)]
)
def test_a_stated_number_that_is_far_off_is_refused_with_the_inferred_one(
    tmp_path: Path, rhythm: str, stated: int, inferred: int
) -> None:
    path = write(tmp_path / "prices.csv", rhythm, 600, 252)
    with pytest.raises(
        ConfigError, match=rf"got {stated}, and the table has .*prices.csv\)\. Set it to {inferred}, or"
    ):
        load(path, periods_per_year=stated)


@pytest.mark.parametrize(("rhythm", "stated"), [("B", 252), ("B", 227), ("B", 261), ("D", 360), ("W-FRI", 50)])
def test_a_stated_number_that_is_near_is_taken(tmp_path: Path, rhythm: str, stated: int) -> None:
    market = load(write(tmp_path / "prices.csv", rhythm, 600, 252), periods_per_year=stated)
    assert market.periods_per_year == stated
    np.testing.assert_allclose((1.0 + market.cash_returns) ** stated, 1.02)


def test_simulated_markets_keep_252_and_a_bootstrap_has_the_rows_of_its_table(tmp_path: Path) -> None:
    assert load_market({"source": "gbm", "num_days": 300}).periods_per_year == 252
    path = write(tmp_path / "prices.csv", "W-FRI", 600, 52.18)
    source = {"source": "bootstrap", "table": str(path), "num_days": 500}
    weekly = load_market(MarketConfig(data=source, features=SHORT))
    assert weekly.periods_per_year == 52
    with pytest.raises(ConfigError, match="Set it to 52"):
        load_market(MarketConfig(data=source, features=SHORT, periods_per_year=252))
