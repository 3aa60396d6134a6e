"""Files beside a price table: membership.csv, exits.csv and assets.csv, which say what prices cannot say."""

from __future__ import annotations

import warnings
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from rllib_portfolio.arrays import FloatArray
from rllib_portfolio.config import MarketConfig
from rllib_portfolio.config.user_values import user_path
from rllib_portfolio.dates import Dates, parse_date, rows_between
from rllib_portfolio.errors import DataError, file_error, reason
from rllib_portfolio.market.lives import listed_names
from rllib_portfolio.market.sources import BUNDLED, FRAME
from rllib_portfolio.market.table import Exit, PriceTable

COLUMNS = {
    "membership": ("asset", "start", "end"),
    "exits": ("asset", "date", "return", "reason"),
    "assets": ("asset", "group", "cost_bps"),
}
"""The columns that are read of each file; the last one of exits, and those of assets after the first, may be absent."""
REQUIRED = {"membership": 3, "exits": 3, "assets": 1}
LARGEST_COST_BPS = 5000.0


def with_sidecars(table: PriceTable, config: MarketConfig) -> PriceTable:
    """Return the table with what the files beside it say, and with a note on each file that was read.

    A file is read from the path in the configuration, or beside the file that `config.data` names. If
    `config.assets` selects assets, rows of other assets are left out.

    Args:
        table: The table as it was read.
        config: The source of the table, and the paths of the files.

    Raises:
        DataError: If a file cannot be read, or a row of it cannot be used; names the row and the remedy.
    """
    if (path := _path("membership", config)) is not None:
        table = _with_membership(table, _rows("membership", path, table, config), path)
    if (path := _path("exits", config)) is not None:
        table = _with_exits(table, _rows("exits", path, table, config), path)
    if (path := _path("assets", config)) is not None:
        table = _with_assets(table, _rows("assets", path, table, config), path)
    return table


def _path(kind: str, config: MarketConfig) -> Path | None:
    """Return the path of a file that is stated, or that lies beside the table; None if there is none."""
    stated: str | None = getattr(config, f"{kind}_path")
    if stated is not None:
        return user_path(stated)
    if not isinstance(config.data, str) or config.data in (BUNDLED, FRAME):
        return None
    data = user_path(config.data)
    found = (data if data.is_dir() else data.parent) / f"{kind}.csv"
    return found if found.is_file() and not found.samefile(data) else None


def _rows(kind: str, path: Path, table: PriceTable, config: MarketConfig) -> pd.DataFrame:
    """Return the known columns of a file as text, indexed by line, and the names of its other columns in `attrs`."""
    frame = _read(path)
    names = [str(name).strip().lower() for name in frame.columns]
    known, required = COLUMNS[kind], COLUMNS[kind][: REQUIRED[kind]]
    repeated = [name for name, count in Counter(names).items() if count > 1]
    missing = [name for name in required if name not in names]
    if missing or repeated:
        what = f"no column {', '.join(missing)}" if missing else f"{repeated[0]} twice"
        raise DataError(
            f"{kind} must be a table with the columns {', '.join(known)}, got {what} ({path}). Correct its header, or "
            f"rename the file if it is something else."
        )
    others = [name for name in names if name not in known]
    frame = frame.set_axis(names, axis=1)[[name for name in known if name in names]]
    frame = frame.fillna("").apply(lambda column: column.str.strip()).set_axis(range(2, len(frame) + 2))
    frame = frame[(frame != "").any(axis=1)]
    assets = set(map(str, table.prices.columns))
    is_known = frame["asset"].isin(assets)
    if config.assets is None and not is_known.all():
        unknown = frame["asset"][~is_known].drop_duplicates()
        raise DataError(
            f"{kind} must name assets of the table, got {listed_names(unknown)} ({path}, line {unknown.index[0]}). "
            "Remove these rows, or correct the names."
        )
    known_rows: pd.DataFrame = frame[is_known]
    known_rows.attrs = {"others": others}
    return known_rows


def _read(path: Path) -> pd.DataFrame:
    """Return the cells of a file as text, so that the ticker NA stays one; blank lines are rows without text."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            cells: pd.DataFrame = pd.read_csv(
                path, dtype=str, keep_default_na=False, encoding="utf-8-sig", index_col=False, skip_blank_lines=False
            )
            return cells
    except OSError as error:
        text = f"the file must be readable, got {path} ({reason(error)})"
        raise file_error(error, text, "Check its path and permissions.", DataError) from None
    except (pd.errors.ParserError, pd.errors.ParserWarning, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        why = " ".join(str(error).split())
        raise DataError(f"the file must be a CSV table in UTF-8, got another content ({path}: {why}).") from None


def _note(path: Path, frame: pd.DataFrame, text: str) -> str:
    others = frame.attrs["others"]
    return f"Read {path.name}: {text}{f'; left out: {listed_names(others)}' if others else ''}."


# ---------------------------------------------------------------- membership.csv


def _with_membership(table: PriceTable, rows: pd.DataFrame, path: Path) -> PriceTable:
    member = np.zeros(table.prices.shape, dtype=np.bool_)
    positions = {str(name): position for position, name in enumerate(table.prices.columns)}
    days, last = table.dates, "9999-12-31"
    for line, asset, start, end in rows.itertuples():
        first, stop = (_day(text, days, name, path, line) for text, name in ((start, "start"), (end or last, "end")))
        if first > stop:
            raise DataError(
                f"end must not be before start, got {start} to {end} ({path}, line {line}). Exchange or correct them."
            )
        member[slice(*rows_between(days, first, stop)), positions[asset]] = True
    membership = pd.DataFrame(member, table.prices.index, table.prices.columns)
    text = f"periods of membership {len(rows)}, assets {rows['asset'].nunique()}"
    return replace(table, membership=membership, notes=(*table.notes, _note(path, rows, text)))


def _day(text: str, dates: Dates, name: str, path: Path, line: int) -> np.datetime64:
    try:
        return parse_date(text, dates)
    except ValueError:
        raise DataError(
            f"{name} must be a day as YYYY-MM-DD, got {text!r} ({path}, line {line}). Correct the cell."
        ) from None


# ---------------------------------------------------------------- exits.csv


def _with_exits(table: PriceTable, rows: pd.DataFrame, path: Path) -> PriceTable:
    repeated = rows["asset"][rows["asset"].duplicated()]
    if len(repeated):
        raise DataError(
            f"an asset must leave once, got {repeated.iloc[0]} twice ({path}, line {repeated.index[0]}). If the ticker "
            "was used again, give the second asset a name of its own."
        )
    exits = {}
    for line, row in zip(rows.index, rows.to_dict("records"), strict=True):
        day = pd.Timestamp(_day(row["date"], table.dates, "date", path, line)) if row["date"] else None
        terminal = _number(row["return"], "return", path, line)
        if terminal < -1.0:
            raise DataError(
                f"return must be at least -1, a total loss, got {row['return']} ({path}, line {line}). Write it as a "
                "fraction: divide per cent by 100."
            )
        exits[row["asset"]] = Exit(day, terminal, row.get("reason", ""))
    reasons = Counter(end.reason or "without a reason" for end in exits.values())
    counted = ", ".join(f"{count} {why}" for why, count in reasons.most_common())
    text = f"exits {len(exits)} ({counted})" if exits else "no exits"
    return replace(table, exits={**table.exits, **exits}, notes=(*table.notes, _note(path, rows, text)))


def _number(text: str, name: str, path: Path, line: int) -> float:
    """Return a number, or NaN for an empty cell."""
    if not text:
        return np.nan
    try:
        number = float(text)
    except ValueError:
        number = np.nan
    if not np.isfinite(number):
        raise DataError(f"{name} must be a finite number, got {text!r} ({path}, line {line}). Correct the cell.")
    return number


# ---------------------------------------------------------------- assets.csv


def _with_assets(table: PriceTable, rows: pd.DataFrame, path: Path) -> PriceTable:
    repeated = rows["asset"][rows["asset"].duplicated()]
    if len(repeated):
        raise DataError(
            f"an asset must have one row, got two of {repeated.iloc[0]} ({path}, line {repeated.index[0]}). Keep one."
        )
    info = pd.DataFrame(index=pd.Index(rows["asset"], name="asset"))
    told = [f"assets {len(rows)}"]
    if "group" in rows:
        info["group"] = rows["group"].to_numpy()
        told.append(f"groups {info['group'][info['group'] != ''].nunique()}")
    if "cost_bps" in rows:
        costs = [_cost(text, path, line) for line, text in zip(rows.index, rows["cost_bps"], strict=True)]
        info["cost_bps"] = np.array(costs, dtype=np.float64)
        told.append(f"costs {info['cost_bps'].notna().sum()}")
    return replace(table, assets_info=info, notes=(*table.notes, _note(path, rows, ", ".join(told))))


def _cost(text: str, path: Path, line: int) -> float:
    cost = _number(text, "cost_bps", path, line)
    if not np.isnan(cost) and not 0.0 <= cost < LARGEST_COST_BPS:
        raise DataError(
            f"cost_bps must be at least 0 and below {LARGEST_COST_BPS:g}, got {text} ({path}, line {line}). Give it in "
            "basis points of the traded amount."
        )
    return cost


def costs_and_groups(table: PriceTable) -> tuple[FloatArray | None, tuple[str, ...] | None]:
    """Return the cost of each asset in basis points, [N], NaN where none is stated, and its group, "" for none.

    Args:
        table: A table; both are None as far as `assets_info` does not have them.
    """
    if table.assets_info is None:
        return None, None
    info = table.assets_info.reindex(list(map(str, table.prices.columns)))
    costs = info["cost_bps"].to_numpy(dtype=np.float64) if "cost_bps" in info else None
    groups = tuple(info["group"].fillna("").astype(str)) if "group" in info else None
    return (None if costs is None or np.isnan(costs).all() else costs), groups
