"""Where prices come from: the bundled universe or a user's own file. Gives each column its role, and checks none of it.

A wide table has one price column per asset. If some columns are named `price_*`, only these are assets (without the
prefix). `index` is the level of the market index; `VIX`, `regime*` and the column that `cash_rate` names are extra.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from rllib_portfolio.config import MarketConfig
from rllib_portfolio.errors import ConfigError, DataError
from rllib_portfolio.market.files import read_frame
from rllib_portfolio.market.table import PriceTable

BUNDLED = "sp500"
INDEX_COLUMN = "index"
PRICE_PREFIX = "price_"

FITTED_UNTIL = "regimes_fitted_until"
"""Attribute of a table in a Parquet file: see `PriceTable.extra_fitted_until`."""

BUNDLED_NOTE = (
    "The bundled 20 S&P 500 stocks are survivors of 1990-2022, so every return on them is biased upward; their index "
    "is a price index without dividends. Compare with 1/N on the same stocks."
)


def read_table(config: MarketConfig) -> PriceTable:
    """Read the prices that `config` names: `sp500`, or a CSV or Parquet file.

    Raises:
        DataError: If a file cannot be read as a table of prices.
        ConfigError: If `assets`, `cash_rate` or `index_path` does not fit the table.
    """
    if not isinstance(config.data, str):
        raise ConfigError(f"market.data must be {BUNDLED} or a path, got {config.data!r}. Load it with load_market.")
    if config.data == BUNDLED:
        return _bundled(config)
    path = Path(config.data)
    frame = read_frame(path)
    index = None if config.index_path is None else _index_from(Path(config.index_path))
    return table_from_frame(frame, config, str(path), index)


def table_from_frame(
    frame: pd.DataFrame, config: MarketConfig, source: str, index: pd.Series | None = None
) -> PriceTable:
    """Sort the columns of a dated frame into prices, index and extra columns.

    Args:
        frame: Columns by name, days as index.
        config: Names the assets, the rate column and whether extra columns are wanted.
        source: For messages.
        index: Level of the index from elsewhere, on its own days.
    """
    columns = [str(name) for name in frame.columns]
    rate = config.cash_rate if isinstance(config.cash_rate, str) else None
    if rate is not None and rate not in columns:
        raise ConfigError(f"cash_rate must be a number or a column of the table, got {rate!r} ({source}).")
    extra = [name for name in columns if name == "VIX" or name.startswith("regime") or name == rate]
    priced = [name for name in columns if name.startswith(PRICE_PREFIX)]
    assets = priced or [name for name in columns if name not in extra and name != INDEX_COLUMN]
    unused = [name for name in columns if name not in (*assets, *extra, INDEX_COLUMN)]
    if INDEX_COLUMN in columns:
        if index is not None:
            raise ConfigError(f"the index must come from one place, got index_path and a column `index` ({source}).")
        index = _number(frame[INDEX_COLUMN], source)
    prices = _numbers(frame[assets], source).rename(columns=lambda name: name.removeprefix(PRICE_PREFIX))
    prices = _subset(prices, config.assets, source)
    notes: tuple[str, ...] = (f"Columns without a role were not used: {', '.join(unused)}.",) if unused else ()
    if index is not None:
        notes += _unused_index_days(index, prices)
        index = index.reindex(prices.index) if index.index.is_unique else index
    fitted_until = frame.attrs.get(FITTED_UNTIL) if any(name.startswith("regime") for name in extra) else None
    return PriceTable(prices, index, _numbers(frame[extra], source), source, notes, fitted_until)


def _bundled(config: MarketConfig) -> PriceTable:
    # Imported here: skfolio brings its optimisers along, which takes seconds.
    from skfolio.datasets import load_sp500_dataset, load_sp500_index

    if config.index_path is not None:
        raise ConfigError(f"index_path must be null for {BUNDLED}, got {config.index_path!r}. It has its own index.")
    index = load_sp500_index().iloc[:, 0].rename(INDEX_COLUMN)
    table = table_from_frame(load_sp500_dataset(), config, BUNDLED, index)
    return PriceTable(table.prices, table.index, table.extra, table.source, (*table.notes, BUNDLED_NOTE))


def _index_from(path: Path) -> pd.Series:
    frame = read_frame(path)
    if frame.shape[1] != 1:
        raise DataError(
            f"the index file must hold a date and one column, got {', '.join(map(str, frame.columns))} ({path}). "
            "Keep the level of one index."
        )
    level = _number(frame.iloc[:, 0], str(path)).rename(INDEX_COLUMN)
    if not level.index.is_unique:
        day = level.index[level.index.duplicated()][0]
        raise DataError(f"index must have one level per day, got two ({path}, {day:%Y-%m-%d}). Keep one of them.")
    return level


def _unused_index_days(index: pd.Series, prices: pd.DataFrame) -> tuple[str, ...]:
    inside = index.index[(index.index >= prices.index.min()) & (index.index <= prices.index.max())]
    count = len(inside.difference(prices.index))
    return (f"The index has {count} days on which there are no prices; they were not used.",) if count else ()


def _subset(prices: pd.DataFrame, assets: Sequence[str] | None, source: str) -> pd.DataFrame:
    if assets is None:
        return prices
    unknown = [name for name in assets if name not in prices.columns]
    if unknown or len(set(assets)) < len(assets) or not assets:
        raise ConfigError(
            f"assets must be different columns of the table, got {', '.join(unknown or assets) or 'none'} ({source}). "
            f"Choose from {', '.join(prices.columns)}."
        )
    return prices[list(assets)]


def _numbers(frame: pd.DataFrame, source: str) -> pd.DataFrame:
    columns = {str(name): _number(frame[name], source) for name in frame.columns}
    return pd.DataFrame(columns, index=frame.index, dtype=float)


def _number(column: pd.Series, source: str) -> pd.Series:
    """The column as float64; a cell that is neither a number nor empty is an error."""
    if column.dtype.kind in "bMm" or isinstance(column.dtype, pd.PeriodDtype):
        column = column.astype("string")  # pandas would count true as 1, and a moment in nanoseconds
    numbers = pd.to_numeric(column, errors="coerce")
    bad = (numbers.isna() & column.notna()).to_numpy()
    if bad.any():
        row = int(bad.argmax())
        raise DataError(
            f"{column.name} must be a number, got {str(column.iloc[row])!r} ({source}, {column.index[row]:%Y-%m-%d}). "
            "Correct the cell, or leave it empty and set fill_days."
        )
    return numbers.astype(float)
