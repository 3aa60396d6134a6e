from __future__ import annotations

import itertools
import re

import numpy as np
import pytest

from rllib_portfolio.config import FeatureConfig, MarketConfig
from rllib_portfolio.errors import ConfigError, DataError
from rllib_portfolio.market import fold_config, gbm_market, prepare_market, walk_forward
from rllib_portfolio.market.panel import compute_panel, nominal_window
from rllib_portfolio.market.splits import RowsNeeded, split_windows, window_dates
from tests.market.tables import NONE, SHORT, config, days, random_table

DATES = days(100).to_numpy().astype("datetime64[D]")


def test_own_tables_are_cut_at_60_and_80_percent_and_purged():
    windows = split_windows(DATES, window_dates(DATES, config()), first_row=10, purge_days=15)
    # earning starts two rows after the first features; training ends 15 rows before validation
    assert windows == {"train": (12, 45), "validation": (60, 80), "test": (80, 100), "all": (12, 100)}


def test_explicit_dates_include_both_ends():
    explicit = config(
        train=("2010-01-11", "2010-02-12"), validation=("2010-03-01", "2010-03-31"), test=("2010-04-05", "2010-05-07")
    )
    windows = split_windows(DATES, window_dates(DATES, explicit), first_row=0, purge_days=0)
    for name, (first, last) in window_dates(DATES, explicit).items():
        start, stop = windows[name]
        assert (str(DATES[start]), str(DATES[stop - 1])) == (first, last)


def test_a_natural_hole_before_validation_counts_as_purge():
    explicit = config(
        train=("2010-01-04", "2010-02-12"), validation=("2010-03-01", "2010-03-31"), test=("2010-04-05", "2010-05-07")
    )
    by_date = window_dates(DATES, explicit)
    # training ends at row 30, validation starts at row 40: a purge of 10 takes nothing more, one of 12 takes two rows
    assert split_windows(DATES, by_date, 0, 10)["train"] == (2, 30)
    assert split_windows(DATES, by_date, 0, 12)["train"] == (2, 28)


@pytest.mark.parametrize(
    ("windows", "message"),
    [
        ({"train": ("2010-01-04", "2010-02-12")}, "must be given together for own data, got none for validation, test"),
        ({"train": ("2010", "2011-01-01")}, r"train must hold two days as YYYY-MM-DD, got \['2010', '2011-01-01'\]"),
        ({"train": ("2010-01-01", "20100212")}, "train must hold two days as .*20100212 is not written as YYYY-MM-DD"),
        (
            {"train": ("2010-01-01", "2010-W06-5")},
            "train must hold two days as .*2010-W06-5 is not written as YYYY",
        ),
        ({"train": ("2010-01-01", "2010-02-30")}, r"train must hold two days as .*\(day is out of range for month\)"),
        ({"train": ("2010-02-01", "2010-01-01")}, "train must start .* got 2010-02-01 to 2010-01-01"),
        (
            {"train": ("2010-01-01", "2010-03-01"), "validation": ("2010-03-01", "2010-03-05")},
            "validation must start after the window before it .* got 2010-03-01 to 2010-03-05 after 2010-03-01",
        ),
    ],
)
def test_windows_that_are_no_windows_are_refused(windows, message):
    rest = {"validation": ("2010-03-01", "2010-03-31"), "test": ("2010-04-05", "2010-05-07")}
    values = windows if "together" in message else rest | windows
    with pytest.raises(ConfigError, match=message):
        window_dates(DATES, config(**values))


def test_a_table_that_is_too_short_names_the_window_and_the_rows():
    with pytest.raises(
        DataError, match=r"train window must hold at least one day, got none \(2010-01-04 to .*100 rows"
    ):
        prepare_market(random_table(100), config(features=NONE.model_copy(update={"momentum_days": (80,)})))
    outside = {"train": ("2010-01-04", "2010-03-12"), "validation": ("2010-04-01", "2010-04-30")}
    with pytest.raises(DataError, match="the test window must hold at least one day, got none"):
        prepare_market(random_table(100), config(features=NONE, **outside, test=("2015-01-01", "2015-12-31")))


def test_a_table_of_a_thousand_days_is_enough_for_the_default_features():
    # before validation: 252 days of warm-up, 150 for three regimes, 253 of purge; they may be 70 % of the rows
    settings = MarketConfig(data="random")
    assert RowsNeeded(252, 253, 150) == (252, 253, 150)
    assert RowsNeeded(252, 253, 150).before_validation == 655
    assert RowsNeeded(252, 253, 150).num_rows == 936  # 935 x 0.7 = 654.5
    market = prepare_market(random_table(936), settings)
    assert market.windows == {"train": (254, 402), "validation": (655, 795), "test": (795, 936), "all": (254, 936)}
    with pytest.raises(DataError, match=r"must hold at least 150 days, got 56 .* needs 936 rows with these feature wi"):
        prepare_market(random_table(935), settings)
    # from 1,092 rows on, 60 % hold what is needed, and windows are those of 60 / 20 / 20 %
    assert prepare_market(random_table(1092), settings).windows["validation"] == (655, 873)
    assert prepare_market(random_table(1200), settings).windows == {
        "train": (254, 467),
        "validation": (720, 960),
        "test": (960, 1200),
        "all": (254, 1200),
    }


@pytest.mark.parametrize("num_days", [3, 60, 200, 400])
def test_the_rows_that_a_refusal_names_are_those_that_are_needed(num_days: int):
    for features in (SHORT, NONE, SHORT.model_copy(update={"momentum_days": (100,), "num_gmm_regimes": 5})):
        own = config(features=features)
        try:
            prepare_market(random_table(num_days), own)
        except DataError as error:
            found = re.search(r"table needs (\d+) rows", str(error))
            enough = int(found[1])
            prepare_market(random_table(enough), own)
            with pytest.raises(DataError, match=f"needs {enough} rows"):
                prepare_market(random_table(enough - 1), own)


@pytest.mark.parametrize(
    "features",
    [
        FeatureConfig(),
        SHORT,
        NONE,
        NONE.model_copy(update={"macd_days": (12, 90, 30)}),
        NONE.model_copy(update={"rsi_days": 70}),
        NONE.model_copy(update={"drawdown_days": 80}),
        NONE.model_copy(update={"moving_average_days": (60, 90)}),
        NONE.model_copy(update={"volatility_days": (33,)}),
        NONE.model_copy(update={"log_return_days": (44,)}),
        NONE.model_copy(update={"index": True}),
    ],
)
def test_the_longest_window_is_known_without_prices(features: FeatureConfig):
    panel = compute_panel(random_table(400), features)
    assert nominal_window(features, has_index=True) == panel.longest_window == panel.first_row


# ---------------------------------------------------------------- walk-forward


@pytest.mark.parametrize("is_expanding", [True, False])
def test_test_windows_are_contiguous_and_reach_the_end(is_expanding):
    market = gbm_market(num_days=1000)
    folds = list(
        walk_forward(
            market, train_days=300, validation_days=50, test_days=100, is_expanding=is_expanding, purge_days=20
        )
    )
    # rows 2 to 1000 can be earned: train 2..302, purge, validation 322..372, test from 372, seven folds
    assert folds[0] == ((2, 302), (322, 372), (372, 472))
    assert len(folds) == 7
    assert folds[-1].test == (972, 1000)
    for before, after in itertools.pairwise(folds):
        assert before.test[1] == after.test[0]
        assert after.train == (
            (2, 402 + 100 * (folds.index(after) - 1)) if is_expanding else tuple(row + 100 for row in before.train)
        )
    for fold in folds:
        assert fold.validation[0] - fold.train[1] == 20
        assert fold.validation[1] == fold.test[0]


def test_preparing_a_fold_fits_on_its_training_window():
    table, own = random_table(900), config()
    market = prepare_market(table, own)
    folds = list(walk_forward(market, train_days=200, validation_days=100, test_days=200))
    assert len(folds) == 3
    for fold in folds:
        prepared = prepare_market(table, fold_config(own, market, fold))
        assert (prepared.windows["train"], prepared.windows["validation"], prepared.windows["test"]) == tuple(fold)
        assert prepared.fitted["fit_window"][1] == str(market.dates[fold.train[1] - 1])
        purge = market.fitted["purge_days"]
        assert purge == 30 + 1  # momentum of 30 days, and one day of execution lag
        assert fold.validation[0] - fold.train[1] == purge
    scales = [prepare_market(table, fold_config(own, market, fold)).fitted["scaler"] for fold in folds[:2]]
    assert scales[0] != scales[1]


def test_no_observation_of_validation_reads_a_day_that_was_trained_on():
    market = prepare_market(random_table(700), config())
    earliest_observation = market.windows["validation"][0] - 2  # decision at the close before, lag 1
    earliest_price = earliest_observation - market.first_row
    assert market.windows["train"][1] - 1 <= earliest_price  # the last trained return ends where that price is


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"train_days": 0}, "train_days must be at least 1, got 0"),
        ({"train_days": 900}, r"below the 498 rows that can be earned, got 900 \+ 0 \+ 50"),
        ({"purge_days": -1}, "must be below"),
    ],
)
def test_folds_that_do_not_fit_are_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        next(
            walk_forward(
                gbm_market(num_days=500), **{"train_days": 100, "validation_days": 50, "test_days": 50} | values
            )
        )


def test_windows_of_the_bundled_universe(bundled):
    def span(name: str) -> tuple[str, str]:
        start, stop = bundled.windows[name]
        return str(bundled.dates[start]), str(bundled.dates[stop - 1])

    assert span("train") == ("1991-01-03", "2010-12-30")  # 252 days of warm-up and two of lag; 253 purged
    assert span("validation") == ("2012-01-03", "2015-12-31")
    assert span("test") == ("2016-01-04", "2022-12-28")
    assert span("all") == ("1991-01-03", "2022-12-28")
    assert bundled.windows["validation"][0] - bundled.windows["train"][1] == 253
    assert np.all(np.diff(bundled.dates).astype(int) > 0)
