"""Folders and zip files that hold one table per asset, read as one long table."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

import numpy as np
import pandas as pd

from rllib_portfolio.dates import date_text
from rllib_portfolio.errors import DataError, file_error, reason
from rllib_portfolio.market.columns import UNNAMED, VOLUME, sort_columns
from rllib_portfolio.market.days import DAY_FORMAT, TIME_ZONE
from rllib_portfolio.market.files import ARCHIVE, KINDS, LEVELS, frame_of_stream, kind_of, read_frame, stem_of
from rllib_portfolio.market.labels import (
    ADJUSTMENTS,
    CLOSES,
    OTHER_PRICES,
    RETURNS,
    VOLUMES,
    field_of,
    price_among,
    returns_among,
)

STACKED = "stacked"
"""Attribute of a table that was read from one file per asset: the names of the columns with the prices."""
ASSET, CLOSE, RETURN = "asset", "close", "return"
BESIDE = ("membership", "exits", "assets")
"""Names of tables beside the prices, which hold no asset."""

Opener = Callable[[], IO[bytes]]


def read_any(path: Path, date_format: str | None = None) -> tuple[pd.DataFrame, str]:
    """Read a file, or a folder or zip file of one file per asset.

    Args:
        path: The file or folder.
        date_format: Format of the days, see `MarketConfig.date_format`.

    Returns:
        A dated table as `files.read_frame` returns it, and its kind in words. A folder, and a zip file with several
        tables, are a long table with the name of each file in the column `asset`.

    Raises:
        DataError: If a table cannot be read, or a file of several does not hold one asset.
    """
    is_folder = os.path.isdir(path)
    if not is_folder and not (kind_of(path.name) == ARCHIVE and os.path.isfile(path)):
        return read_frame(path, date_format), KINDS.get(str(kind_of(path.name)), "")
    try:
        with ExitStack() as opened:
            members = dict(_in_folder(path) if is_folder else _in_zip(path, opened))
            return _read_members(path, members, date_format)
    except (OSError, EOFError, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        text = f"the price file must be readable, got {path} ({reason(error)})"
        raise file_error(error, text, "Check its path and permissions, or unpack it.", DataError) from None


def _in_folder(folder: Path) -> Iterator[tuple[str, Opener]]:
    for file in sorted(folder.iterdir()):
        if _is_table(file.name) and file.is_file():
            yield file.name, partial(_opened, file)


def _opened(file: Path) -> IO[bytes]:
    return file.open("rb")


def _in_zip(path: Path, opened: ExitStack) -> Iterator[tuple[str, Opener]]:
    archive = opened.enter_context(zipfile.ZipFile(path))
    for name in sorted(archive.namelist()):
        if _is_table(PurePosixPath(name).name) and not name.startswith("__MACOSX"):
            yield name, partial(archive.open, name)


def _is_table(name: str) -> bool:
    return kind_of(name) in KINDS and not name.startswith(".") and stem_of(name).lower() not in BESIDE


def _read_members(path: Path, members: Mapping[str, Opener], date_format: str | None) -> tuple[pd.DataFrame, str]:
    what = "a folder" if path.is_dir() else "a zip file"
    if not members:
        raise DataError(
            f"{what} of prices must hold one table per asset, got none that ends in {', '.join(KINDS)} ({path}). "
            "Name a file."
        )
    frames = {}
    for name, opener in members.items():
        with opener() as stream:
            frames[name] = frame_of_stream(stream, name, f"{path}/{name}", date_format)
    if len(frames) == 1 and not path.is_dir():
        ((name, frame),) = frames.items()
        return frame, f"{KINDS[str(kind_of(name))]} in {what}"
    return _stacked(frames, path), f"{what} of {len(frames)} files"


def _stacked(frames: Mapping[str, pd.DataFrame], path: Path) -> pd.DataFrame:
    """Return tables of one asset each below one another, with the name of each file in a column."""
    stems = Counter(stem_of(PurePosixPath(name).name) for name in frames)
    if len(stems) < len(frames):
        raise DataError(
            f"each asset must have one file, got {stems.most_common(1)[0][0]} twice ({path}). Keep one of them."
        )
    zones = {str(frame.attrs[TIME_ZONE]): name for name, frame in frames.items()}
    if len(zones) > 1:
        told = " and ".join(f"{zone.replace('None', 'no time zone')} in {name}" for zone, name in zones.items())
        raise DataError(f"all files must be in one time zone, got {told} ({path}). Write plain days (YYYY-MM-DD).")
    prices: dict[str, None] = {}
    left_out: dict[str, str] = {}
    parts = []
    for name, frame in frames.items():
        part, price, others = _one_asset(frame, stem_of(PurePosixPath(name).name), f"{path}/{name}")
        parts.append(part)
        prices[price] = None
        left_out |= others
    stacked = pd.concat(parts)
    codes = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    stacked[ASSET] = pd.Categorical.from_codes(codes, pd.Index(list(stems)))
    first = next(iter(frames.values())).attrs
    stacked.attrs = {STACKED: (list(prices), left_out), **{name: first[name] for name in (TIME_ZONE, DAY_FORMAT)}}
    return stacked


def _one_asset(frame: pd.DataFrame, stem: str, source: str) -> tuple[pd.DataFrame, str, dict[str, str]]:
    """Return the columns of one asset under their usual names, the name of its price, and what is left out and why."""
    if not frame.index.is_unique:
        day = frame.index[frame.index.duplicated()][0]
        raise DataError(
            f"each file must hold one asset with one row per day, got two rows ({source}, {date_text(day)}). Keep one "
            "of them, or name this file alone."
        )
    pairs, _ = frame.attrs.get(LEVELS, ({}, ()))
    if pairs:
        columns = sort_columns(frame, None, stem, source)
        assets = list(columns.assets)
        if len(assets) == 1:
            names = {
                columns.assets[assets[0]]: CLOSE,
                **dict.fromkeys(columns.by_asset.get(VOLUME, {}).values(), VOLUME),
            }
            return frame[list(names)].set_axis(list(names.values()), axis=1), columns.price_names[0], columns.left_out
    else:
        price = price_among(list(frame.columns)) or returns_among(list(frame.columns))
        assets = [name for name in frame.columns if frame[name].dtype.kind in "fiu" and not name.startswith(UNNAMED)]
        if price is not None or len(assets) == 1:
            return _with_usual_names(frame, price or assets[0])
    raise DataError(
        f"each file must hold one asset with a column of closes, got {', '.join(assets[:5]) or 'none'} ({source}). "
        "Name the close Close, or name this file alone."
    )


def _with_usual_names(frame: pd.DataFrame, price: str) -> tuple[pd.DataFrame, str, dict[str, str]]:
    kept, left_out = {price: RETURN if field_of(price) in RETURNS else CLOSE}, {}
    for name in frame.columns.drop(price):
        found = field_of(name)
        if found in VOLUMES and VOLUME not in kept.values():
            kept[name] = VOLUME
        elif found in (*CLOSES, *OTHER_PRICES, *ADJUSTMENTS):
            left_out[name] = "other fields"
        elif frame[name].dtype.kind not in "fiu":
            left_out[name] = "text"
        elif not name.startswith(UNNAMED):
            kept[name] = name
    return frame[list(kept)].set_axis(list(kept.values()), axis=1), price, left_out
