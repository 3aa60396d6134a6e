from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest

from rllib_portfolio.errors import ConfigError
from rllib_portfolio.experiments.walk_forward.folds import FoldLengths, plan_folds
from rllib_portfolio.market import MarketData, gbm_market, load_market, prepare_market
from rllib_portfolio.statistics.crises import CRISES
from tests.market.tables import config, random_table


@pytest.fixture(scope="module")
def market() -> MarketData:
    """Rows 2 to 1000 can be earned; nothing is purged, since nothing looks back."""
    return gbm_market(num_days=1000)


def test_equal_test_windows_reach_from_forty_percent_to_the_last_day(market: MarketData) -> None:
    folds = plan_folds(market, FoldLengths())
    # tests start at 2 + int(0.4 x 998) = 401 at the earliest: 599 days are 4 x 149, and 3 more go to training
    # validation is a tenth of 998 days, 99, since two years are more
    assert folds == (
        ((2, 305), (305, 404), (404, 553)),
        ((2, 454), (454, 553), (553, 702)),
        ((2, 603), (603, 702), (702, 851)),
        ((2, 752), (752, 851), (851, 1000)),
    )


@pytest.mark.parametrize("num_folds", [1, 2, 3, 7, 50])
@pytest.mark.parametrize("is_expanding", [True, False])
def test_any_number_of_folds_is_made_exactly_and_equally(
    market: MarketData, num_folds: int, is_expanding: bool
) -> None:
    folds = plan_folds(market, FoldLengths(num_folds=num_folds, is_expanding=is_expanding))
    assert len(folds) == num_folds
    assert len({stop - start for start, stop in (fold.test for fold in folds)}) == 1
    assert folds[-1].test[1] == 1000
    for before, after in itertools.pairwise(folds):
        assert before.test[1] == after.test[0]


def test_rolling_windows_keep_their_length_and_expanding_ones_their_first_day(market: MarketData) -> None:
    rolling = [fold.train for fold in plan_folds(market, FoldLengths(is_expanding=False))]
    # the first is that of the expanding folds, rows 2 to 305; then it moves by test windows of 149 days
    assert rolling == [(2, 305), (151, 454), (300, 603), (449, 752)]


def test_years_are_rows_and_the_first_test_day_follows_from_them(market: MarketData) -> None:
    lengths = FoldLengths(train_years=1.0, validation_years=0.5, test_years=0.75)
    # 252 + 126 days come before the first test day, row 380; windows of 189 days: 380, 569, 758, 947, the last is 53
    folds = plan_folds(market, lengths)
    assert folds[0] == ((2, 254), (254, 380), (380, 569))
    assert [fold.test for fold in folds] == [(380, 569), (569, 758), (758, 947), (947, 1000)]


def test_training_may_start_later_than_the_first_day(market: MarketData) -> None:
    day = str(market.dates[600])
    (fold,) = plan_folds(market, FoldLengths(num_folds=1, train_years=1.0, validation_years=0.5, first_test_day=day))
    assert fold == ((222, 474), (474, 600), (600, 1000))  # 600 - 126 = 474, 474 - 252 = 222


def test_the_purge_of_the_features_lies_between_training_and_validation() -> None:
    prepared = prepare_market(random_table(700), config())
    for fold in plan_folds(prepared, FoldLengths(num_folds=3)):
        assert fold.validation[0] - fold.train[1] == 31  # momentum of 30 days and one day of execution lag
        assert fold.validation[1] == fold.test[0]


def test_the_bundled_universe_is_out_of_sample_in_every_crisis() -> None:
    market = load_market("sp500")
    folds = plan_folds(market, FoldLengths(), "sp500")
    assert len(folds) == 4
    first, last = market.dates[folds[0].test[0]], market.dates[folds[-1].test[1] - 1]
    assert np.datetime64("2000-01-01") <= first <= np.datetime64("2000-01-10")
    assert all(first <= crisis.first_day and crisis.last_day <= last for crisis in CRISES)
    train = folds[0].train
    assert train[1] - train[0] > 5 * 252


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_folds": 0}, "folds must be at least 1, got 0"),
        ({"num_folds": 600}, r"got 600 folds for 599 days .* Lower --folds"),
        ({"num_folds": 4, "test_years": 1.0}, r"got both, 4 folds and 1 years .* Give --folds or --test-years"),
        ({"test_years": 0.001}, "test_years must be at least one day, got 0.001 years"),
        ({"train_years": math.nan}, "train_years must be a number of years, got nan"),
        ({"validation_years": math.inf}, "validation_years must be a number of years, got inf"),
        ({"test_years": 1e308}, "test_years must be a number of years, got 1e"),
        ({"train_years": 10.0}, "folds must be at most the days that are left for testing, got 4 folds for 0"),
        ({"validation_years": 3.0}, "first test day must leave room for training"),
        ({"first_test_day": "soon"}, "first test day must be a date as YYYY-MM-DD, got 'soon'"),
        ({"first_test_day": "20000103"}, "first test day must be a date as YYYY-MM-DD, got '20000103'"),
        ({"first_test_day": "today"}, "first test day must be a date as YYYY-MM-DD, got 'today'"),
        ({"first_test_day": "2222-01-01"}, "must not come after the last day"),
        ({"first_test_day": "1900-01-01"}, "first test day must leave room for training, 0 purged and 99 validation"),
        ({"first_test_day": "LATE", "train_years": 3.0}, "first test day must leave room for training"),
    ],
)
def test_lengths_that_do_not_fit_are_refused(market: MarketData, values: dict[str, Any], message: str) -> None:
    if values.get("first_test_day") == "LATE":
        values = values | {"first_test_day": str(market.dates[500])}
    with pytest.raises(ConfigError, match=message):
        plan_folds(market, FoldLengths(**values))
