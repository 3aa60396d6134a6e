"""The report folder of a back-test. Only a new folder or that of an earlier back-test is written to.

DIR/backtest.json records the command, the runs, the window and every file of the back-test. A new report is first
written to DIR/.unfinished and then moved. An interruption therefore leaves the old report, or files that the record
lists. While a process writes, DIR/report_in_use.json names it; see `folder_lock`.
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
    """Require that the folder is new, empty, or holds nothing but an earlier back-test.

    Raises:
        ConfigError: If the folder holds another file, which the message names.
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
    """Yield a folder for the files of a new report, which replace those of an earlier report at the end.

    Args:
        folder: Folder of the report, which passes `require_renewable`.
        values: Facts about the back-test for its record.

    Raises:
        ConfigError: If the folder cannot be written or holds other files.
        MachineError: If the disk is full or fails. A folder that was new or empty is then left as it was.
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
                raise error.__cause__ from None  # `begun` then names the folder of the report
            raise
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)


def _take_over(folder: Path, unfinished: Path, values: Mapping[str, Any]) -> None:
    """Move the new files into the folder; the record lists every file of ours at all times."""
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
    """Write the record: the facts about the back-test and the names of its files."""
    names = sorted(str(path.relative_to(folder)) for path in files)
    record = unfinished / RECORD
    write_json(record, {**values, "files": names})
    record.replace(folder / RECORD)


def _files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file() and path != folder / REPORT_IN_USE}


def _written_files(folder: Path) -> set[Path]:
    """Return the record of an earlier back-test and the files that it lists; empty without a readable record."""
    record = folder / RECORD
    try:
        names = read_json(record, "back-test", "Restore it.")["files"]
        named = {folder / name for name in names}
        return {record, *(path for path in named if path.resolve().is_relative_to(folder.resolve()))}
    except (OSError, ValueError, KeyError, TypeError):  # a ConfigError is a ValueError
        return set()
