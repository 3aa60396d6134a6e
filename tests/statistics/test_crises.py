from __future__ import annotations

import numpy as np
import pytest

from rllib_portfolio.errors import ConfigError
from rllib_portfolio.statistics import metrics
from rllib_portfolio.statistics.crises import CRISES, crisis_table

DATES = np.arange("2019-12-02", "2020-12-31", dtype="datetime64[D]")
DATES = DATES[np.is_busday(DATES)]


def _returns(moves: dict[str, float]) -> np.ndarray:
    returns = np.zeros(len(DATES))
    for day, move in moves.items():
        returns[np.searchsorted(DATES, np.datetime64(day))] = move
    return returns


CRASH = _returns({"2020-01-15": 1.0, "2020-03-16": -0.5, "2020-04-01": 0.2, "2020-06-01": 1.0})
TABLE = crisis_table(np.column_stack([CRASH, np.zeros(len(DATES))]), DATES, ["crash", "calm"])


def test_the_five_windows_are_those_of_the_design() -> None:
    assert [(crisis.name, str(crisis.first_day), str(crisis.last_day)) for crisis in CRISES] == [
        ("dot-com", "2000-03-01", "2002-10-31"),
        ("financial crisis", "2008-01-01", "2009-03-31"),
        ("European debt", "2011-08-01", "2012-06-30"),
        ("COVID", "2020-02-01", "2020-04-30"),
        ("rate hikes", "2022-01-01", "2022-10-31"),
    ]


def test_a_crisis_by_hand() -> None:
    # inside the window 0.5 * 1.2 = 0.6 of the wealth before it; the doubling before it is no part of it. From the
    # trough on Monday 2020-03-16 to the recovery on Monday 2020-06-01 there are 11 weeks of 5 days.
    row = TABLE.loc[("COVID", "crash")]
    assert row.total_return == pytest.approx(-0.4, rel=1e-12)
    assert row.max_drawdown == pytest.approx(0.5, rel=1e-12)
    assert row.recovery_days == 55
    inside = slice(*np.searchsorted(DATES, np.array(["2020-02-01", "2020-05-01"], dtype="datetime64[D]")))
    assert row.num_days == len(DATES[inside])
    assert row.sharpe_ratio == pytest.approx(metrics.sharpe_ratio(CRASH[inside]), rel=1e-12)
    assert row.note == ""


def test_a_strategy_that_lost_nothing_has_nothing_to_recover() -> None:
    row = TABLE.loc[("COVID", "calm")]
    assert (row.total_return, row.max_drawdown) == (0.0, 0.0)
    assert np.isnan(row.recovery_days)
    assert np.isnan(row.sharpe_ratio)


def test_a_window_without_data_is_said_to_have_none() -> None:
    row = TABLE.loc[("dot-com", "crash")]
    assert (row.num_days, row["sample"]) == (0, "no data")
    assert row.note == "No data from 2000-03-01 to 2002-10-31."
    assert np.isnan([row.total_return, row.max_drawdown, row.sharpe_ratio, row.recovery_days]).all()
    assert len(TABLE) == 10


def test_a_window_that_is_covered_in_part_says_which() -> None:
    late = slice(int(np.searchsorted(DATES, np.datetime64("2020-03-02"))), None)
    table = crisis_table(CRASH[late][:, None], DATES[late], ["crash"])
    assert table.loc[("COVID", "crash")].note == "Data from 2020-03-02 to 2020-04-30 only."


@pytest.mark.parametrize(
    ("trained_until", "sample"),
    [
        (None, "unknown"),
        ("2019-12-31", "out of sample"),
        ("2020-01-31", "out of sample"),
        ("2020-02-01", "in-sample"),
        ("2020-03-01", "in-sample"),
        ("2021-01-01", "in-sample"),
    ],
)
def test_a_window_that_is_not_wholly_out_of_sample_is_in_sample(trained_until: str | None, sample: str) -> None:
    last_day = None if trained_until is None else np.datetime64(trained_until)
    table = crisis_table(CRASH[:, None], DATES, ["crash"], trained_until=last_day)
    assert table.loc[("COVID", "crash")]["sample"] == sample
    assert table.loc[("rate hikes", "crash")]["sample"] == "no data"


def test_tables_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"returns must have one row per day and one column per name, got shape"):
        crisis_table(CRASH[:, None], DATES, ["crash", "calm"])
    with pytest.raises(ConfigError, match=r"dates must increase, got 2019-12-02 out of order"):
        crisis_table(np.zeros((2, 1)), DATES[[0, 0]], ["crash"])
