"""The first difference between two markets, and markets whose prices after a day are replaced."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rllib_portfolio.config.user_values import import_function
from rllib_portfolio.env.checker import Counterexample, value_text
from rllib_portfolio.market import MarketData, PriceTable
from rllib_portfolio.market.universe import Universe

Array = NDArray[Any]


class Difference(NamedTuple):
    """The first value of an array that differs between two markets.

    Attributes:
        array: Name of the array.
        column: Text for the column.
        row: Row of the value.
        date: Day of the row.
        one: The value in one market, as text.
        other: The value in the other market, as text.
    """

    array: str
    column: str
    row: int
    date: str
    one: str
    other: str

    def __str__(self) -> str:
        return f"{self.column} on {self.date} is {self.one}, and {self.other}"


def scrambled(table: PriceTable, after: int, seed: int = 1) -> PriceTable:
    """Return a table with random positive numbers for all prices, index levels and extra values after a row.

    The extra values are below 1, because the cash rate may be one of them.

    Args:
        table: The table, which is not changed.
        after: Last row whose values stay.
        seed: Seed of the random numbers.
    """
    rng = np.random.default_rng(seed)

    def other(values: Any, largest: float = np.inf) -> Any:
        copy = values.copy()
        drawn = np.exp(rng.normal(0.0, 2.0, copy.iloc[after + 1 :].shape))
        copy.iloc[after + 1 :] = drawn if largest == np.inf else largest * drawn / (1.0 + drawn)
        return copy

    index = None if table.index is None else other(table.index)
    asset_extra = {name: other(frame) for name, frame in table.asset_extra.items()}
    prices, extra = other(table.prices), other(table.extra, 1.0)
    return replace(table, prices=prices, index=index, extra=extra, asset_extra=asset_extra)


def with_another_future(market: MarketData, row: int, seed: int = 1) -> MarketData:
    """Return a market with random values after a row, and with another universe if there is one.

    Cash returns are known one day ahead, so that they change one row later.

    Args:
        market: The market, which is not changed.
        row: Last row whose values stay.
        seed: Seed of the random values.
    """
    rng = np.random.default_rng(seed)

    def other(array: Array, low: float, high: float, known_until: int = row) -> Array:
        copy = array.copy()
        copy[known_until + 1 :] = rng.uniform(low, high, copy[known_until + 1 :].shape)
        return copy

    index = market.index_returns
    return replace(
        market,
        returns=other(market.returns, -0.2, 0.2),
        cash_returns=other(market.cash_returns, 0.0, 0.001, row + 1),
        volatility=other(market.volatility, 0.01, 0.1),
        asset_features=other(market.asset_features, -1.0, 1.0),
        market_features=other(market.market_features, -1.0, 1.0),
        index_returns=None if index is None else other(index, -0.2, 0.2),
        universe=None if market.universe is None else _another_universe(market.universe, row, rng),
        dollar_volume=None if market.dollar_volume is None else other(market.dollar_volume, 1.0, 1e9),
    )


def _another_universe(universe: Universe, row: int, rng: np.random.Generator) -> Universe:
    """Return a universe in which other assets leave, lose membership and are halted after a row."""
    listed, member, quoted = (mask.copy() for mask in (universe.listed, universe.member, universe.quoted))
    later = slice(row + 1, None)
    leaves = rng.random(listed.shape[1]) < 0.5
    listed[later] = ~leaves & (listed[later] | listed[row])
    drawn = rng.random((2, *listed[later].shape)) < 0.8
    member[later], quoted[later] = listed[later] & drawn[0], listed[later] & drawn[1]
    return Universe(listed, member, quoted, np.where(leaves, -0.5, universe.exit_return), universe.is_sold)


def differences(one: MarketData, other: MarketData, row: int) -> list[Difference]:
    """Return the first difference of each array up to a row, sorted by day.

    Values must agree bit for bit. Cash returns are compared up to `row + 1`, because they are known one day ahead.

    Args:
        one: A market.
        other: The market to compare it with.
        row: Last compared row.
    """
    found, others = [], _columns(other)
    for name, columns in _columns(one).items():
        if columns != others[name]:
            date, names = str(one.dates[0]), (", ".join(columns), ", ".join(others[name]))
            found.append(Difference(name, f"the names of {name}", 0, date, *names))
            continue
        last = row + (name == "cash_returns")
        ours, theirs = (_array(market, name) for market in (one, other))
        if ours is not None and theirs is not None:
            cells = (array[: last + 1].reshape(min(last + 1, len(array)), -1) for array in (ours, theirs))
            difference = first_difference(name, columns, one.dates, *cells)
            found += [] if difference is None else [difference]
    return sorted(found, key=lambda difference: difference.row)


def first_difference(
    array: str, columns: list[str], dates: NDArray[np.datetime64], one: Array, other: Array
) -> Difference | None:
    """Return the first row, and in it the first column, at which two arrays differ; None if they agree.

    If only the lengths differ, the difference is at the end of the shorter array. NaN equals NaN.

    Args:
        array: Name of the arrays.
        columns: Text for each column, C.
        dates: Day of each row.
        one: An array, [T, C].
        other: The array to compare it with, [T', C].
    """
    length = min(len(one), len(other))
    a, b = one[:length], other[:length]
    differs = (a != b) & ~((a != a) & (b != b))
    if differs.any():
        row = int(np.argmax(differs.any(axis=1)))
        column = int(np.argmax(differs[row]))
        return Difference(
            array, columns[column], row, str(dates[row]), value_text(a[row, column]), value_text(b[row, column])
        )
    if len(one) != len(other):
        return Difference(array, f"the number of rows of {array}", length, "-", str(len(one)), str(len(other)))
    return None


def changed_entry(one: Any, other: Any, name: str = "fitted") -> str | None:
    """Return a text on the first entry in which two nested JSON values differ; None if they agree.

    Args:
        one: A value.
        other: The value to compare it with.
        name: Name of the value in the text.
    """
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        keys = [*one, *(key for key in other if key not in one)]
        entries = ((one.get(key), other.get(key), f"{name}.{key}") for key in keys)
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        entries = ((a, b, f"{name}[{i}]") for i, (a, b) in enumerate(zip(one, other, strict=True)))
    else:
        is_same = one == other or (one != one and other != other)
        return None if is_same else f"{name} is {one}, and {other}"
    return next((text for a, b, where in entries if (text := changed_entry(a, b, where)) is not None), None)


def require_same_features(names: Iterable[str], table: PriceTable, other: PriceTable, row: int, where: str) -> None:
    """Compute features of the user from two tables, and require that they agree up to `row`.

    Args:
        names: Functions as `module:function`.
        table: One table of prices.
        other: The other table.
        row: Last compared row.
        where: End of the message of the counterexample.

    Raises:
        Counterexample: If a value differs; names the feature, the day and both values.
    """
    for name in names:
        function = import_function(name, "features.custom")
        ours, theirs = (function(prices.copy()) for prices in (table.prices, other.prices))
        columns = [f"feature {name} of {asset}" for asset in getattr(ours, "columns", [])] or [f"feature {name}"]
        cells = (np.asarray(values, dtype=np.float64).reshape(len(values), -1)[: row + 1] for values in (ours, theirs))
        difference = first_difference(name, columns, table.dates, *cells)
        if difference is not None:
            raise Counterexample(f"{difference} {where}.")


def _array(market: MarketData, name: str) -> Array | None:
    """Return an array of the market, or of its universe; None if the market has none of this name."""
    array: Array | None = getattr(market.universe if name in ("listed", "member", "quoted") else market, name, None)
    return array


def _columns(market: MarketData) -> dict[str, list[str]]:
    """Return a text for each column of each array, by the name of the array in the order of comparison."""
    assets = market.assets
    return {
        "dates": ["the date"],
        "returns": [f"the return of {asset}" for asset in assets],
        "cash_returns": ["the return of cash"],
        "index_returns": ["the return of the index"],
        "volatility": [f"the volatility of {asset}" for asset in assets],
        "listed": [f"the listing of {asset}" for asset in assets],
        "member": [f"the membership of {asset}" for asset in assets],
        "quoted": [f"the quote of {asset}" for asset in assets],
        "dollar_volume": [f"the dollar volume of {asset}" for asset in assets],
        "asset_features": [f"feature {name} of {asset}" for asset in assets for name in market.asset_feature_names],
        "market_features": [f"feature {name}" for name in market.market_feature_names],
    }
