"""Columns that are no prices, moves that the user must accept, and results that are too good."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from rllib_portfolio.config import MarketConfig
from rllib_portfolio.errors import DataError
from rllib_portfolio.market import MarketData, load_market, read_table
from rllib_portfolio.market.plausibility import (
    extreme_moves,
    implausible_result,
    require_accepted_moves,
    require_prices,
)
from tests.market.tables import SHORT, random_prices

T = 1300


def volume(rng: np.random.Generator) -> np.ndarray:
    """Log volume reverts to its level: 0.6 of a day's deviation is left on the next."""
    deviation = np.zeros(T)
    for t in range(1, T):
        deviation[t] = 0.6 * deviation[t - 1] + rng.normal(0.0, 0.3)
    return np.round(5e6 * np.exp(deviation))


def fear_and_greed(rng: np.random.Generator) -> np.ndarray:
    score = np.full(T, 50.0)
    for t in range(1, T):
        score[t] = 50.0 + 0.95 * (score[t - 1] - 50.0) + rng.normal(0.0, 6.0)
    return np.clip(np.round(score), 5, 95)


NO_PRICES: dict[str, tuple[Any, str]] = {
    "volume": (volume, "a volume"),
    "turnover in thousands": (lambda rng: np.round(volume(rng) / 1000), "a volume"),
    "row numbers": (lambda rng: np.arange(1.0, T + 1), "row numbers"),
    "row numbers after a filter": (lambda rng: np.cumsum(rng.integers(1, 4, T)).astype(float), "row numbers"),
    "dates as numbers": (
        lambda rng: pd.bdate_range("2012-01-02", periods=T).strftime("%Y%m%d").astype(float),
        "row numbers or dates",
    ),
    "sentiment in (0, 1)": (lambda rng: rng.uniform(0.01, 1.0, T), "a score"),
    "stars": (lambda rng: rng.integers(1, 6, T).astype(float), "a score"),
    "fear and greed": (fear_and_greed, "a score"),
    "gross returns": (lambda rng: 1.0 + rng.normal(0.0, 0.012, T), "a return"),
    "returns in per cent, from 100": (lambda rng: 100.0 + rng.normal(0.0, 1.2, T), "a return"),
}


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", NO_PRICES)
def test_a_column_that_is_no_price_is_refused(name: str, seed: int) -> None:
    make, kind = NO_PRICES[name]
    values = np.asarray(make(np.random.default_rng(seed)), dtype=float)
    with pytest.raises(
        DataError,
        match=rf"^{name} must be a column of prices, got .*x\.csv.* looks like .*{kind}".replace("(0, 1)", r"\(0, 1\)"),
    ):
        require_prices(name, values, 252, "x.csv")


def walk(rng: np.random.Generator, deviation: float, num_days: int = T) -> np.ndarray:
    return 100.0 * np.exp(np.cumsum(rng.normal(0.0, deviation, num_days)))


PRICES: dict[str, tuple[Any, int]] = {
    "stock": (lambda rng: walk(rng, 0.015), 252),
    "coin at 10 % a day": (lambda rng: walk(rng, 0.10), 365),
    "coin at 10 % a day in whole won": (lambda rng: np.ceil(1e6 * walk(rng, 0.10)), 365),
    "coin by the week": (lambda rng: walk(rng, 0.25), 52),
    "stock by the year": (lambda rng: walk(rng, 0.35, 100), 1),
    "stock of whole yen": (lambda rng: np.maximum(1.0, np.round(0.4 * walk(rng, 0.04))), 252),
    "penny stock at a tick of a cent": (lambda rng: np.maximum(0.01, np.round(0.001 * walk(rng, 0.06), 2)), 252),
    "dear share in whole dollars": (lambda rng: np.round(5000 * walk(rng, 0.012)), 252),
    "pegged to the dollar": (lambda rng: 1.0 + rng.normal(0.0, 0.0004, T), 365),
    "never traded": (lambda rng: np.full(T, 12.0), 252),
    "money-market fund": (lambda rng: 100.0 * 1.0001 ** np.arange(T), 252),
    "collapse by one part in 1e8": (lambda rng: walk(rng, 0.03) * np.where(np.arange(T) > 900, 1e-8, 1.0), 365),
    "bad tick": (lambda rng: walk(rng, 0.01) * np.where(np.arange(T) == 400, 10.0, 1.0), 252),
    "a bad tick every month": (lambda rng: walk(rng, 0.012) * np.where(np.arange(T) % 21 == 3, 0.5, 1.0), 252),
    "bankrupt": (lambda rng: np.maximum(0.01, walk(rng, 0.02) * np.linspace(1.0, 1e-4, T)), 252),
}


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", PRICES)
def test_prices_pass_however_wild_or_still(name: str, seed: int) -> None:
    make, periods = PRICES[name]
    require_prices(name, make(np.random.default_rng(seed)), periods, "x.csv")


@pytest.mark.parametrize("num_days", [60, 250, 1000, 8313])
def test_every_part_of_the_bundled_prices_passes(num_days: int) -> None:
    table = read_table(MarketConfig())
    for name, column in table.prices.items():
        values = column.to_numpy()
        for start in range(0, len(values) - num_days + 1, num_days):
            require_prices(str(name), values[start : start + num_days], 252, "sp500")


def test_a_file_with_a_volume_is_refused_unless_it_is_left_out_or_accepted(tmp_path: Path) -> None:
    prices = random_prices(T)
    path = tmp_path / "prices.csv"
    prices.assign(traded=volume(np.random.default_rng(0))).to_csv(path)
    with pytest.raises(DataError, match=r"traded must be a column of prices, got numbers that move by \d.* % on the"):
        load_market(MarketConfig(data=str(path), features=SHORT))
    load_market(MarketConfig(data=str(path), features=SHORT, assets=("AAA", "BBB")))
    accepted = load_market(MarketConfig(data=str(path), features=SHORT, accept_moves=True))
    assert "traded" in accepted.assets
    (note,) = (note for note in accepted.notes if note.startswith("traded"))
    assert note.startswith("traded looks like a volume, and was accepted (market.accept_moves): numbers that move by ")


# ---------------------------------------------------------------- moves


def with_moves(tmp_path: Path, factors: dict[tuple[int, str], float], **values: Any) -> MarketConfig:
    """A file of random prices whose moves at some rows are multiplied for good."""
    prices = random_prices(T)
    for (row, name), factor in factors.items():
        prices.loc[prices.index[row] :, name] *= factor
    prices.to_csv(tmp_path / "moves.csv")
    return MarketConfig(data=str(tmp_path / "moves.csv"), features=SHORT, **values)


def test_extreme_moves_are_noted_with_day_and_size_and_what_they_look_like(tmp_path: Path) -> None:
    config = with_moves(
        tmp_path, {(400, "BBB"): 10.0, (401, "BBB"): 0.1, (800, "AAA"): 1 / 7, (900, "CCC"): 20.0, (1000, "CCC"): 0.37}
    )
    market = load_market(config)
    moves = extreme_moves(market.dates, market.assets, market.returns)
    assert [(move.asset, move.day) for move in moves] == [
        ("BBB", market.dates[400]),
        ("BBB", market.dates[401]),
        ("AAA", market.dates[800]),
        ("CCC", market.dates[900]),
        ("CCC", market.dates[1000]),
    ]
    assert [move.size for move in moves] == [
        market.returns[row, column] for row, column in ((400, 1), (401, 1), (800, 0), (900, 2), (1000, 2))
    ]
    hints = [move.hint for move in moves]
    assert hints[0].endswith("looks like a bad tick")
    assert hints[1].endswith("looks like a bad tick")
    assert hints[2:] == ["looks like an unadjusted 7-for-1 split", "looks like an unadjusted 1-for-20 split", ""]
    (note,) = (note for note in market.notes if note.startswith("Moves beyond"))
    assert f"AAA {market.dates[800]} {100 * market.returns[800, 0]:+.3g} % (looks like an unadjusted" in note


def test_training_begins_only_when_they_are_accepted(tmp_path: Path) -> None:
    config = with_moves(tmp_path, {(row, "AAA"): 3.5 if row % 2 else 1 / 3.5 for row in range(100, 1200, 91)})
    market = load_market(config)
    with pytest.raises(DataError, match=r"got 13 beyond: AAA .*; and 3 more \(.*set market\.accept_moves to true"):
        require_accepted_moves(market, config)
    accepted = config.model_copy(update={"accept_moves": True})
    market = load_market(accepted)
    require_accepted_moves(market, accepted)
    assert "Moves beyond -60 % or +150 % from one row to the next were accepted (market.accept_moves): 13." in (
        market.notes
    )


def test_moves_at_the_bounds_and_those_of_simulated_and_bundled_markets_need_no_word(bundled: MarketData) -> None:
    edge = np.array([[0.0], [-0.6], [1.5]])
    assert extreme_moves(bundled.dates[:3], ("A",), edge) == ()
    config = MarketConfig(data={"source": "kelly", "up": 3.0, "down": 0.9, "num_days": 100})
    require_accepted_moves(load_market(config), config)
    assert bundled.returns.min() < -0.6  # RRC, whose early prices have three decimals
    require_accepted_moves(bundled, MarketConfig())
    assert not any("beyond" in note for note in bundled.notes)


# ---------------------------------------------------------------- results


def results(**rows: tuple[float, float]) -> pd.DataFrame:
    return pd.DataFrame.from_dict(rows, orient="index", columns=["annual_return", "sharpe_ratio"])


@pytest.fixture
def wild(tmp_path: Path) -> MarketData:
    """A market whose middle column is a volume that was accepted."""
    prices = random_prices(T).assign(BBB=volume(np.random.default_rng(0)))
    prices.to_csv(tmp_path / "wild.csv")
    return load_market(MarketConfig(data=str(tmp_path / "wild.csv"), features=SHORT, accept_moves=True))


@pytest.mark.parametrize(("annual_return", "sharpe"), [(2.01, 1.0), (0.3, 4.01), (6.8, 5.0)])
def test_a_result_above_any_plausible_size_names_the_strangest_column(
    wild: MarketData, annual_return: float, sharpe: float
) -> None:
    table = results(policy=(0.1, 0.5), other=(annual_return, sharpe), cash=(0.02, np.nan))
    warning = implausible_result(table, wild, 260)
    assert warning.startswith(f"Warning: other earns {100 * annual_return:.3g} % a year")
    median = 100 * np.median(np.abs(wild.returns[1:, 1]))
    assert f"a year, moves by {median:.3g} % on the median row" in warning
    assert "Check BBB first, whose prices are the least plausible: it earns " in warning
    assert "\n" not in warning


def test_plausible_results_and_those_of_a_few_days_are_not_warned_of(wild: MarketData) -> None:
    table = results(policy=(2.0, 4.0), cash=(0.02, np.nan))
    assert implausible_result(table, wild, 260) is None
    assert implausible_result(results(policy=(9.0, 9.0)), wild, 62) is None
    assert implausible_result(results(policy=(9.0, 9.0)), wild, 63) is not None


def test_simulated_markets_earn_what_they_were_made_for(wild: MarketData) -> None:
    kelly = load_market({"source": "kelly", "num_days": 500})
    assert implausible_result(results(policy=(25.0, 6.0)), kelly, 260) is None
    by_hand = replace(wild, fitted={})  # made by a user: nobody knows what it is
    assert implausible_result(results(policy=(25.0, 6.0)), by_hand, 260) is not None
