"""The folder of a back-test: new, or one of ours that may be renewed; nothing else is written over.

DIR/backtest.json names the command, the runs, the window and every file that a back-test wrote there. A new one is
written in DIR/.unfinished first: one that is interrupted leaves the old one as it was, or files that are still ours.
DIR/report_in_use.json names the process that writes there, while it does: see `folder_lock`.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rllib_portfolio.atomic import read_json, write_json
from rllib_portfolio.errors import ConfigError, MachineError
from rllib_portfolio.new_folder import REPORT_IN_USE, begun

RECORD = "backtest.json"
_UNFINISHED = ".unfinished"


def require_renewable(folder: Path) -> None:
    """Raise unless the folder is new, empty, or holds a back-test of ours and nothing else.

    Raises:
        ConfigError: Names a file that is not ours.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise ConfigError(f"--output-dir must be a folder, got the file {folder}. Choose another.")
    ours = {*_written_files(folder), *_files(folder / _UNFINISHED)}
    foreign = sorted(path.relative_to(folder) for path in _files(folder) - ours)
    if foreign:
        raise ConfigError(
            f"--output-dir must be new, empty or an earlier back-test, got {folder}, which holds {foreign[0]}. "
            "Choose another."
        )


@contextmanager
def renewed(folder: Path, values: Mapping[str, Any]) -> Iterator[Path]:
    """Where to write a back-test, which takes the place of an earlier one when it is complete.

    Args:
        folder: New, or `require_renewable`.
        values: What was done, for the record.

    Raises:
        ConfigError: If the folder cannot be written.
        MachineError: If the disk is full or fails. A folder that was new or empty is then as it was.
    """
    require_renewable(folder)
    unfinished = folder / _UNFINISHED
    with begun(folder, "--output-dir", "Choose another."):
        try:
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir()
            yield unfinished
            _take_over(folder, unfinished, values)
        except (ConfigError, MachineError) as error:
            if isinstance(error.__cause__, OSError):
                raise error.__cause__ from None  # of the folder that was asked for
            raise
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)


def _take_over(folder: Path, unfinished: Path, values: Mapping[str, Any]) -> None:
    """Move what was written into the folder; at each moment its record lists every file that is there."""
    old = _written_files(folder) - {folder / RECORD}
    new = {folder / path.relative_to(unfinished): path for path in _files(unfinished)}
    _write_record(folder, unfinished, values, old | new.keys())
    for path, written in new.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        written.replace(path)
    for path in old - new.keys():
        path.unlink(missing_ok=True)
    _write_record(folder, unfinished, values, new.keys())


def _write_record(folder: Path, unfinished: Path, values: Mapping[str, Any], files: Collection[Path]) -> None:
    """Note what was done, and which files are ours."""
    names = sorted(str(path.relative_to(folder)) for path in files)
    record = unfinished / RECORD
    write_json(record, {**values, "files": names})
    record.replace(folder / RECORD)


def _files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file() and path != folder / REPORT_IN_USE}


def _written_files(folder: Path) -> set[Path]:
    """What the record of an earlier back-test lists, the record itself included; nothing without a readable one."""
    record = folder / RECORD
    try:
        names = read_json(record, "back-test", "Restore it.")["files"]
        named = {folder / name for name in names}
        return {record, *(path for path in named if path.resolve().is_relative_to(folder.resolve()))}
    except (OSError, ValueError, KeyError, TypeError):  # a ConfigError is a ValueError
        return set()
