"""Lives of assets: what is read from missing prices and stated ends, and every case that is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from rllib_portfolio.errors import ConfigError, DataError
from rllib_portfolio.market import MarketData, PriceTable, load_market, prepare_market
from rllib_portfolio.market.loading import load_table
from rllib_portfolio.market.plausibility import require_accepted_moves
from rllib_portfolio.market.table import Exit
from rllib_portfolio.market.validation import validate_table
from tests.market.tables import NONE, SHORT, config, random_table
from tests.universes import universe_market, universe_returns

NUM_DAYS = 600


def day(table: PriceTable, row: int) -> pd.Timestamp:
    return table.prices.index[row]


def table_of(
    missing: dict[str, slice | list[slice]], exits: dict[str, tuple[int | None, float]] | None = None, seed: int = 0
) -> PriceTable:
    """A table of three assets without prices on the given rows, and with ends at the given rows."""
    table = random_table(NUM_DAYS, seed=seed, with_index=False)
    prices = table.prices.copy()
    for name, rows in missing.items():
        for part in rows if isinstance(rows, list) else [rows]:
            prices.loc[prices.index[part], name] = np.nan
    ends = {
        name: Exit(None if row is None else day(table, row), terminal, "test")
        for name, (row, terminal) in (exits or {}).items()
    }
    return replace(table, prices=prices, exits=ends)


def prepared(table: PriceTable, **values: object) -> MarketData:
    return prepare_market(table, config(**values))


# ---------------------------------------------------------------- what is read


def test_a_table_without_gaps_has_no_universe():
    assert prepared(table_of({})).universe is None
    assert prepared(table_of({}, {"AAA": (None, 0.5)})).universe is None  # its prices reach the end: it leaves later


def test_a_late_asset_and_one_that_leaves_live_from_their_first_to_their_last_price():
    table = table_of({"BBB": slice(0, 100), "CCC": slice(400, None)}, {"CCC": (400, -1.0)})
    universe = prepared(table).universe
    assert universe.listed.sum(axis=0).tolist() == [NUM_DAYS, 500, 400]
    np.testing.assert_array_equal(universe.quoted, universe.listed)
    assert universe.exit_rows.tolist() == [NUM_DAYS, NUM_DAYS, 400]
    np.testing.assert_array_equal(universe.exit_return, [np.nan, np.nan, -1.0])
    assert not universe.is_sold.any()


def test_returns_are_those_of_an_obvious_loop():
    drawn = universe_market(NUM_DAYS, 3, seed=3)
    daily = np.random.default_rng(0).normal(0.0, 0.01, (NUM_DAYS, 3))
    levels = np.cumprod(1.0 + daily, axis=0)
    table = random_table(NUM_DAYS, with_index=False)
    prices = pd.DataFrame(np.where(drawn.universe.quoted, levels, np.nan), table.prices.index, table.prices.columns)
    rows, terminal = drawn.universe.exit_rows, drawn.universe.exit_return
    exits = {
        name: Exit(prices.index[row], value)
        for name, row, value in zip(prices, rows, terminal, strict=True)
        if row < NUM_DAYS
    }
    assert len(exits) == 1
    assert drawn.universe.halted.any()
    market = prepared(replace(table, prices=prices, exits=exits), gaps="halt")
    np.testing.assert_array_equal(market.universe.listed, drawn.universe.listed)
    np.testing.assert_array_equal(market.universe.quoted, drawn.universe.quoted)
    np.testing.assert_allclose(market.returns, universe_returns(daily, drawn.universe), atol=1e-12)


def test_a_halt_books_its_compounded_return_on_the_first_quote_after_it():
    table = table_of({"BBB": slice(200, 205)})
    market = prepared(table, gaps="halt")
    prices = table.prices["BBB"].to_numpy()
    assert market.returns[200:205, 1].tolist() == [0.0] * 5
    assert market.returns[205, 1] == prices[205] / prices[199] - 1.0
    assert market.universe.halted[:, 1].nonzero()[0].tolist() == [200, 201, 202, 203, 204]
    assert market.universe.member[200:205, 1].all()
    assert any("days without a price 5, assets 1" in note for note in market.notes)


def test_a_halt_lasts_until_a_stated_end():
    market = prepared(table_of({"BBB": slice(300, None)}, {"BBB": (310, -0.5)}), gaps="halt")
    assert market.universe.halted[300:310, 1].all()
    assert not market.universe.listed[310:, 1].any()
    assert market.returns[310, 1] == -0.5
    assert not market.returns[300:310, 1].any()
    assert not market.returns[311:, 1].any()


def test_an_end_on_a_day_without_a_row_is_on_the_next_row():
    table = table_of({"CCC": slice(405, None)})
    saturday = day(table, 404) + pd.Timedelta(days=1)
    assert saturday.day_name() == "Saturday"
    assert saturday not in table.prices.index
    market = prepared(replace(table, exits={"CCC": Exit(saturday, 0.25)}))
    assert (market.universe.exit_rows[2], market.returns[405, 2]) == (405, 0.25)


def test_an_end_without_a_day_follows_the_last_price():
    market = prepared(table_of({"CCC": slice(405, None)}, {"CCC": (None, 0.25)}))
    assert (market.universe.exit_rows[2], market.returns[405, 2]) == (405, 0.25)


@pytest.mark.parametrize("zeros", [slice(450, None), slice(450, 451)])
def test_a_price_of_0_is_a_total_loss_from_its_row_on(zeros):
    table = table_of({"BBB": slice(450, None)})
    table.prices.iloc[zeros, 1] = 0.0
    market = prepared(table)
    assert market.universe.exit_rows[1] == 450
    assert market.returns[450, 1] == market.universe.exit_return[1] == -1.0
    assert not market.universe.is_sold[1]
    assert "exits 1 (1 price of 0), of which total losses 1" in " ".join(market.notes)


def test_ends_that_are_not_stated_are_sales_by_the_default_return():
    table = table_of({"BBB": slice(300, None), "CCC": slice(400, None)}, {"CCC": (400, -1.0)})
    universe = prepared(table, default_exit_return=-0.3).universe
    np.testing.assert_array_equal(universe.exit_return, [np.nan, -0.3, -1.0])
    assert universe.is_sold.tolist() == [False, True, False]


def test_a_stated_end_without_a_return_takes_the_default_return():
    table = table_of({"CCC": slice(400, None)}, {"CCC": (400, np.nan)})
    universe = prepared(table, default_exit_return=0.0).universe
    assert (universe.exit_return[2], universe.is_sold[2]) == (0.0, True)
    with pytest.raises(DataError, match=r"CCC must have a price on each day up to the last.*or a return in exits\.csv"):
        prepared(table)


def test_fills_stay_within_lives():
    table = table_of({"BBB": [slice(0, 50), slice(100, 102)], "CCC": slice(400, None)}, {"CCC": (400, 0.0)})
    market = prepared(table, fill_days=5)
    assert market.universe.listed.sum(axis=0).tolist() == [NUM_DAYS, NUM_DAYS - 50, 400]
    assert market.universe.quoted[100:102, 1].all()
    assert not market.returns[100:102, 1].any()
    assert any("2 missing cells were filled forward, at most 5 days in a row: BBB 2." in note for note in market.notes)


def test_a_short_tail_without_an_end_is_filled():
    assert prepared(table_of({"CCC": slice(NUM_DAYS - 3, None)}), fill_days=3).universe is None


def test_validation_changes_nothing_the_second_time():
    table = table_of({"BBB": [slice(0, 50), slice(100, 102)], "CCC": slice(400, None)})
    table.prices.iloc[400, 2] = 0.0
    once = validate_table(table, config(fill_days=5))
    twice = validate_table(once, config(fill_days=5))
    pd.testing.assert_frame_equal(once.prices, twice.prices)
    assert once.exits == twice.exits == {"CCC": Exit(day(table, 400), -1.0, "price of 0")}


def test_membership_is_a_part_of_the_life():
    table = table_of({"BBB": slice(0, 100)})
    member = pd.DataFrame(True, table.prices.index, table.prices.columns)
    member.iloc[300:350, 0] = False
    member.loc[:, "CCC"] = False
    market = prepared(replace(table, membership=member))
    assert market.universe.listed[:, [0, 2]].all()
    assert not market.universe.member[300:350, 0].any()
    assert market.universe.member[350:, 0].all()
    assert market.universe.member[:, 1].sum() == NUM_DAYS - 100 - 30  # 30 is the longest feature window
    assert not market.universe.member[:, 2].any()
    assert "Never held, because they have no period of membership: CCC." in market.notes


def test_notes_say_who_lists_late_and_leaves_and_name_survivors_only_where_nobody_leaves():
    leaving = table_of({"BBB": slice(0, 100), "CCC": slice(400, None)}, {"CCC": (400, -1.0)})
    notes = " ".join(prepared(leaving).notes)
    assert (
        "Universe: assets 3; late listings 1; exits 1 (1 test), of which total losses 1; members of a day 2 to 3."
        in notes
    )
    assert "survivors" not in notes
    assert "survivors" in " ".join(prepared(table_of({"BBB": slice(0, 100)})).notes)


def test_an_end_moves_the_hash_of_the_data():
    hashes = {
        prepared(table_of({"CCC": slice(400, None)}, {"CCC": (400, terminal)})).data_hash for terminal in (-1.0, 0.0)
    }
    assert len(hashes) == 2


# ---------------------------------------------------------------- what is refused

GAP = {"BBB": slice(200, 205)}
LEFT = {"BBB": slice(300, None)}
REFUSED = {
    "gap": (GAP, {}, {}, r"BBB must have a price on each day, got a gap of 5 rows, longer than fill_days = 0"),
    "gap that is filled in part": (GAP, {}, {"fill_days": 4}, r"got a gap of 1 rows, longer than fill_days = 4"),
    "no end": (
        LEFT,
        {},
        {},
        r"BBB must have a price on each day up to the last, .*got no price of BBB after 2011-02-25",
    ),
    "used again": (
        {"BBB": slice(100, 400)},
        {},
        {"gaps": "halt"},
        r"BBB must be the name of one asset, got no price for 42. days .*such as BBB_old and BBB",
    ),
    "late end": (LEFT, {"BBB": (310, 0.0)}, {}, r"end of BBB must follow its last price, got .* after 10 rows.*halt"),
    "early end": (
        LEFT,
        {"BBB": (299, 0.0)},
        {},
        r"end of BBB must be after its last price, got 2011-02-25 and a price",
    ),
    "end of an asset that goes on": ({}, {"BBB": (300, 0.0)}, {}, r"end of BBB must be after its last price"),
    "unknown asset": ({}, {"ZZZ": (300, 0.0)}, {}, r"exits must be of assets of the table, got ZZZ"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_unclear_life_is_refused(name):
    missing, exits, values, message = REFUSED[name]
    with pytest.raises(DataError, match=message) as error:
        prepared(table_of(missing, exits), **values)
    assert "\n" not in str(error.value)


def test_an_error_lists_the_first_assets_without_an_end_and_counts_them():
    table = random_table(100)
    names = [f"A{i:02}" for i in range(12)]
    prices = pd.DataFrame(np.tile(table.prices["AAA"].to_numpy()[:, None], 12), table.prices.index, names)
    prices.iloc[80:, 1:] = np.nan
    with pytest.raises(DataError, match=r"^A01, A02, A03, A04, A05, A06, A07, A08 and 3 more \(11 assets\) must have"):
        validate_table(replace(table, prices=prices), config())


def test_a_price_of_0_with_a_price_after_it_is_refused():
    table = table_of({})
    table.prices.iloc[300, 1] = 0.0
    with pytest.raises(DataError, match="BBB must be a positive finite price, got 0"):
        prepared(table)


def test_a_price_of_0_contradicts_a_stated_return_above_a_total_loss():
    table = table_of({"BBB": slice(301, None)}, {"BBB": (300, 0.1)})
    table.prices.iloc[300, 1] = 0.0
    with pytest.raises(DataError, match=r"return of BBB in exits\.csv must be -1 because its price is 0, got 0\.1"):
        prepared(table)


@pytest.mark.parametrize(("rows", "is_refused"), [(19, False), (20, True), (100, True)])
def test_a_constant_tail_is_refused_from_20_rows_on(rows, is_refused):
    table = table_of({})
    table.prices.iloc[-rows:, 1] = table.prices.iloc[-rows, 1]
    if is_refused:
        with pytest.raises(DataError, match=rf"BBB must move up to the end .*each of the last {rows} rows .*Vendors"):
            validate_table(table, config())
    validate_table(table, config(accept_moves=is_refused))


def test_a_column_that_never_moves_and_a_tail_before_a_stated_end_are_accepted():
    table = table_of({"CCC": slice(400, None)}, {"CCC": (400, 0.0)})
    table.prices["BBB"] = 1.0
    table.prices.iloc[350:400, 2] = 7.0
    validate_table(table, config())


def test_a_file_with_an_asset_that_has_no_price_is_refused(tmp_path):
    table = table_of({"BBB": slice(0, None)})
    table.prices.to_csv(tmp_path / "prices.csv")
    with pytest.raises(DataError, match=r"BBB must have a price, got none on any day \(.*prices.csv\). Leave it out"):
        load_table(config(data=str(tmp_path / "prices.csv")))


def test_infinite_values_per_asset_are_refused():
    table = table_of({})
    mood = table.prices * 0.0
    mood.iloc[7, 2] = np.inf
    with pytest.raises(DataError, match=r"mood must be a finite number or missing, got an infinite one of CCC"):
        prepared(replace(table, asset_extra={"mood": mood}))


def test_a_bootstrap_of_a_changing_universe_is_refused(tmp_path):
    table_of({"BBB": slice(0, 100)}).prices.to_csv(tmp_path / "prices.csv")
    with pytest.raises(DataError, match="the table of a bootstrap must have a price of each asset on each day"):
        load_market({"source": "bootstrap", "table": str(tmp_path / "prices.csv")})
    with pytest.raises(ConfigError, match=r"market.exits_path must be null for a synthetic market"):
        load_market({"data": {"source": "gbm"}, "exits_path": "exits.csv"})


# ---------------------------------------------------------------- moves of one row


def test_a_stated_loss_is_no_extreme_move_but_any_other_is():
    table = table_of({"CCC": slice(400, None)}, {"CCC": (400, -1.0)})
    require_accepted_moves(prepared(table), config())
    table.prices.iloc[200:, 1] /= 10.0
    with pytest.raises(DataError, match=r"got 1 beyond: BBB 2010-10-11 -9\d"):
        require_accepted_moves(prepared(table), config())
    percent = replace(table_of({"CCC": slice(400, None)}), exits={"CCC": Exit(None, 25.0)})
    with pytest.raises(DataError, match=r"got 1 beyond: CCC .*\+2,500 %"):
        require_accepted_moves(prepared(percent), config())


def test_volatility_is_that_of_the_quotes_of_each_asset():
    table = table_of({"BBB": [slice(0, 100), slice(200, 230)], "CCC": slice(400, None)}, {"CCC": (400, 0.0)})
    market = prepared(table, gaps="halt", features=NONE)
    for column, name in enumerate(table.prices):
        quotes = table.prices[name].dropna()
        expected = quotes.pct_change().rolling(21, min_periods=2).std().fillna(0.0).reindex(table.prices.index)
        np.testing.assert_allclose(market.volatility[:, column], expected.fillna(0.0), atol=1e-15)


@pytest.mark.parametrize("first", [0, 40])
def test_a_late_asset_does_not_move_the_first_row(first):
    every = {name: slice(0, first) for name in ("AAA", "CCC")} if first else {}
    market = prepared(table_of({**every, "BBB": slice(0, 300)}))
    assert market.first_row == first + 30
    assert market.windows["all"][0] == first + 32
    assert market.universe.member[:, 1].argmax() == 330
    assert market.fitted["purge_days"] == 31
    assert SHORT.momentum_days == (30,)
