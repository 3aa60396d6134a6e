"""Sources of prices: the bundled universe, a user's own file or a DataFrame, each read as a `PriceTable`.

`columns.py` gives each column its role. The prices are not checked here but in `validation.py`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from rllib_portfolio.config import MarketConfig
from rllib_portfolio.config.user_values import user_path
from rllib_portfolio.dates import are_intraday, date_text, dates_of
from rllib_portfolio.errors import ConfigError, DataError
from rllib_portfolio.market.archives import read_any
from rllib_portfolio.market.columns import INDEX_COLUMN, Columns, require_assets, sort_columns
from rllib_portfolio.market.days import DAY_FORMAT, TIME_ZONE, require_one_zone
from rllib_portfolio.market.files import stem_of, tabulated
from rllib_portfolio.market.french import LIBRARY
from rllib_portfolio.market.long_tables import stock_column, widened, with_categories
from rllib_portfolio.market.numerals import may_be_two_numbers
from rllib_portfolio.market.returns import price_paths
from rllib_portfolio.market.table import PriceTable

BUNDLED = "sp500"
FRAME = "a DataFrame"
"""Value of `MarketConfig.data` for a DataFrame."""

FITTED_UNTIL = "regimes_fitted_until"
"""Attribute of a table in a Parquet file: see `PriceTable.extra_fitted_until`."""

BUNDLED_NOTE = (
    "The bundled 20 S&P 500 stocks are survivors of 1990-2022, so every return on them is biased upward; their index "
    "is a price index without dividends. Compare with 1/N on the same stocks."
)
MOST_NAMES = 8
"""Largest number of names that the note on what was read lists."""


def read_table(config: MarketConfig, frame: pd.DataFrame | None = None) -> PriceTable:
    """Read a table of prices from the source that a configuration names, or from a DataFrame.

    Args:
        config: The source (`sp500`, a file, or a folder of files), whether it holds prices or returns, and its assets,
            cash rate and index.
        frame: A DataFrame of prices, which replaces the source in `config`, or None.

    Returns:
        The table. Unless it is the bundled one, its first note says what was read and what was left out.

    Raises:
        DataError: If the source cannot be read as a table of prices.
        ConfigError: If `assets`, `cash_rate` or `index_path` does not fit the table.
    """
    if frame is not None:
        layout = _laid_out(tabulated(frame, FRAME, config.date_format), FRAME, config, FRAME)
    elif not isinstance(config.data, str):
        raise ConfigError(f"market.data must be {BUNDLED} or a path, got {config.data!r}. Load it with load_market.")
    elif config.data == BUNDLED:
        return _bundled(config)
    else:
        path = user_path(config.data)
        layout = _laid_out(*read_any(path, config.date_format), config, str(path))
    index = None if config.index_path is None else _index_from(user_path(config.index_path), config, layout)
    return _as_table(layout, config, index)


@dataclass(frozen=True, slots=True)
class _Layout:
    """A table with one row per day, and what its columns are."""

    frame: pd.DataFrame
    columns: Columns
    asset_extra: Mapping[str, pd.DataFrame]
    """Tables of days by assets that are not columns of `frame`, by name."""
    kind: str
    """Kind of the source, in words; empty for the bundled table."""
    source: str


def _laid_out(frame: pd.DataFrame, kind: str, config: MarketConfig, source: str, is_index: bool = False) -> _Layout:
    """Give the columns of a table their roles; a long table becomes a wide one.

    `kind` is the kind of the source, in words. The frame is given up here, so that a large long table is not kept
    beside the wide one.
    """
    rate = config.cash_rate if isinstance(config.cash_rate, str) and not is_index else None
    if rate is not None and rate not in frame.columns:
        raise ConfigError(f"cash_rate must be a number or a column of the table, got {rate!r} ({source}).")
    is_returns = config.kind == "returns"
    if LIBRARY in frame.attrs and not is_returns:
        raise DataError(
            f"market.kind must be returns for a file of Kenneth French's data library, got prices ({source}). "
            "Set market.kind to returns."
        )
    frame = with_categories(frame)
    key = stock_column(frame)
    if key is not None:
        return _Layout(*widened(frame, key, rate, is_returns, source), kind, source)
    stock = INDEX_COLUMN if is_index else _stock(config, source)
    return _Layout(frame, sort_columns(frame, rate, stock, source), {}, kind, source)


def _as_table(layout: _Layout, config: MarketConfig, index: pd.Series | None = None) -> PriceTable:
    """Return the prices, the index and the extra columns of a table.

    `index` is an index from another source, on its own days; its name says which source.
    """
    frame, columns, source = layout.frame, layout.columns, layout.source
    require_assets(columns, source)
    if columns.index is not None and index is not None:
        raise ConfigError(
            f"the index must come from one place, got index_path and a column `{columns.index}` ({source})."
        )
    index_told = columns.index and f"the column {columns.index}" if index is None else str(index.name)
    if columns.index is not None:
        index = _levels(_number(frame[columns.index], source).to_frame(), config, source).iloc[:, 0]
    prices = _subset(_numbers(frame, columns.assets, source), config.assets, source)
    prices = _levels(prices, config, source)
    asset_extra = _asset_extra(layout, list(prices.columns))
    notes: tuple[str, ...] = (_read_as(layout, prices, asset_extra, index_told, config),) if layout.kind else ()
    if index is not None:
        inside = index.index[(index.index >= prices.index.min()) & (index.index <= prices.index.max())]
        if count := len(inside.difference(prices.index)):
            notes += (f"The index has {count} days on which there are no prices; they were not used.",)
        index = (index.reindex(prices.index) if index.index.is_unique else index).rename(INDEX_COLUMN)
    has_regimes = any(name.lower().startswith("regime") for name in columns.extra)
    fitted_until = frame.attrs.get(FITTED_UNTIL) if has_regimes else None
    extra = _numbers(frame, columns.extra, source)
    return PriceTable(prices, index, extra, source, notes, fitted_until, asset_extra)


def _levels(values: pd.DataFrame, config: MarketConfig, source: str) -> pd.DataFrame:
    """Return prices; returns are turned into prices if the configuration says so."""
    if config.kind == "returns":
        return price_paths(values, source)
    _refuse_returns(values, source)
    return values


def _asset_extra(layout: _Layout, assets: list[str]) -> dict[str, pd.DataFrame]:
    """Return the other columns of the assets by name, each a table of days by assets."""
    found = {}
    for name, columns in layout.columns.by_asset.items():
        if any(asset in columns for asset in assets):
            found[name] = _numbers(layout.frame, columns, layout.source).reindex(columns=assets)
    for name, table in layout.asset_extra.items():
        found[name] = table if list(table.columns) == assets else table[assets]
    return found


def _stock(config: MarketConfig, source: str) -> str:
    """Return the asset's name for bars of an unnamed stock: the file name, or a name of `market.assets` in it.

    Thus a policy that was trained on AAPL.csv can read AAPL_2024.csv.
    """
    if source == FRAME:
        return config.assets[0] if config.assets else "stock"
    stem = stem_of(Path(source).name)
    found = (name for name in config.assets or () if re.search(rf"(^|[\W_]){re.escape(name)}([\W_]|$)", stem, re.I))
    return next(found, stem)


def _read_as(
    layout: _Layout, prices: pd.DataFrame, asset_extra: Mapping[str, object], index: str | None, config: MarketConfig
) -> str:
    """Return one sentence on what was read: kind, days, assets, index, features, and what was left out and why."""
    columns, days = layout.columns, dates_of(pd.DatetimeIndex(prices.index))
    unit = "rows" if are_intraday(days) else "days" if len(days) != 1 else "day"
    count, known = prices.shape[1], len(columns.assets)
    counted = f"{count} of {known}" if count < known else f"{count}"
    parts = [
        f"{columns.shape}, in {layout.kind}",
        f"{len(days):,} {unit} from {days.min()} to {days.max()}",
        f"{counted} asset{'s' if known > 1 else ''} ({_listed(list(prices.columns))})",
        *columns.remarks,
        *(["its returns were turned into prices that start at 1"] if config.kind == "returns" else []),
        f"the index is {index}" if index else "no index",
    ]
    if unit == "rows" and (zone := layout.frame.attrs.get(TIME_ZONE)):
        parts.insert(2, f"its times are in {zone}")
    if written := layout.frame.attrs.get(DAY_FORMAT):
        parts.insert(1, f"days written as {written}")
    if asset_extra:
        many = "s" if len(asset_extra) > 1 else ""
        parts.append(f"{len(asset_extra)} feature{many} per asset ({_listed(list(asset_extra))})")
    if columns.extra:
        extra = [name if name == column else f"{name} ({column})" for name, column in columns.extra.items()]
        parts.append(f"extra columns {_listed(extra)}")
    if columns.left_out:
        reasons: dict[str, list[str]] = {}
        for name, reason in columns.left_out.items():
            reasons.setdefault(reason, []).append(name)
        parts.append("left out: " + ", ".join(f"{_listed(names)} ({why})" for why, names in reasons.items()))
    return f"Read as {'; '.join(parts)}."


def _listed(names: Sequence[str]) -> str:
    if len(names) <= MOST_NAMES:
        return ", ".join(names)
    return f"{', '.join(names[: MOST_NAMES - 1])}, ... {names[-1]}"


def _bundled(config: MarketConfig) -> PriceTable:
    # Imported here because skfolio also imports its optimisers, which takes seconds.
    from skfolio.datasets import load_sp500_dataset, load_sp500_index

    if config.index_path is not None:
        raise ConfigError(f"index_path must be null for {BUNDLED}, got {config.index_path!r}. It has its own index.")
    index = load_sp500_index().iloc[:, 0].rename(INDEX_COLUMN)
    table = _as_table(_laid_out(load_sp500_dataset(), "", config, BUNDLED), config, index)
    return replace(table, notes=(*table.notes, BUNDLED_NOTE))


def _index_from(path: Path, config: MarketConfig, prices: _Layout) -> pd.Series:
    """Return the level of the index from its own file, on the days of that file."""
    frame, kind = read_any(path, config.date_format)
    require_one_zone(prices.frame, prices.source, frame, str(path))
    level = _index_column(frame, kind, config, path)
    if not level.index.is_unique:
        day = level.index[level.index.duplicated()][0]
        raise DataError(f"index must have one level per day, got two ({path}, {date_text(day)}). Keep one of them.")
    return _levels(level.to_frame(), config, str(path)).iloc[:, 0].rename(f"{level.name} of {path.name}")


def _index_column(frame: pd.DataFrame, kind: str, config: MarketConfig, path: Path) -> pd.Series:
    if frame.shape[1] == 1:
        return _number(frame.iloc[:, 0], str(path))
    layout = _laid_out(frame, kind, config, str(path), is_index=True)
    levels = list(layout.columns.assets.values()) if layout.columns.index is None else [layout.columns.index]
    if len(levels) != 1:
        raise DataError(
            f"the index file must hold a date and one column, got {_listed(levels or list(frame.columns))} ({path}). "
            "Keep the level of one index."
        )
    return _number(layout.frame[levels[0]], str(path))


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


def _refuse_returns(prices: pd.DataFrame, source: str) -> None:
    """Raise if a column holds returns: numbers of both signs around zero."""
    with np.errstate(invalid="ignore"):
        signs = (prices.to_numpy() < 0.0).sum(axis=0)
    for name in prices.columns[signs > 0]:
        values = prices[name].dropna().to_numpy()
        share = np.mean(values < 0.0) if len(values) else 0.0
        if 0.1 <= share <= 0.9 and np.isfinite(values).all() and abs(np.mean(values)) <= np.std(values):
            raise DataError(
                f"{name} must hold prices, got what looks like returns, from {values.min():g} to {values.max():g} "
                f"({source}). Set market.kind to returns. Turn logarithmic returns into prices: "
                "numpy.exp(frame.cumsum())."
            )


def _numbers(frame: pd.DataFrame, names: Mapping[str, str], source: str) -> pd.DataFrame:
    if not names:
        return pd.DataFrame(index=frame.index, dtype=float)
    numbers = frame[list(names.values())]
    # Most columns hold plain numbers, which need no check of each cell; only the others are converted one by one.
    others = [name for name, kind in numbers.dtypes.items() if not (isinstance(kind, np.dtype) and kind.kind in "fiu")]
    if others:
        numbers = numbers.assign(**{str(name): _number(frame[name], source) for name in others})
    return numbers.astype(float).set_axis(list(names), axis=1)


def _number(column: pd.Series, source: str) -> pd.Series:
    """Return the column as float64; a cell that is neither a number nor empty is an error."""
    if column.dtype.kind in "bMm" or isinstance(column.dtype, pd.PeriodDtype):
        column = column.astype("string")  # pandas would count true as 1, and a moment in nanoseconds
    numbers = pd.to_numeric(column, errors="coerce")
    bad = (numbers.isna() & column.notna()).to_numpy()
    if bad.any():
        row = int(bad.argmax())
        cell = str(column.iloc[row])
        remedy = "Correct the cell, or leave it empty and set fill_days."
        if may_be_two_numbers(cell):
            remedy = "Write it without a thousands separator, and with a decimal point."
        raise DataError(
            f"{column.name} must be a number, got {cell!r} ({source}, {date_text(column.index[row])}). {remedy}"
        )
    return numbers.astype(float)
