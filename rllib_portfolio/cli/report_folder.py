"""The folder of a back-test: new, or one of ours that may be renewed; nothing else is written over.

DIR/backtest.json names the command, the runs, the window and every file that a back-test wrote there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rllib_portfolio.errors import ConfigError
from rllib_portfolio.whole_file import write_json

RECORD = "backtest.json"


def require_renewable(folder: Path) -> None:
    """Raise unless the folder is new, empty, or holds a back-test of ours and nothing else.

    Raises:
        ConfigError: Names a file that is not ours.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise ConfigError(f"--output-dir must be a folder, got the file {folder}. Choose another.")
    ours = _written_files(folder)
    foreign = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file() and path not in ours)
    if foreign:
        raise ConfigError(
            f"--output-dir must be new, empty or an earlier back-test, got {folder}, which holds {foreign[0]}. "
            "Choose another."
        )


def clear(folder: Path) -> None:
    """Make the folder, and remove what an earlier back-test wrote there.

    Raises:
        ConfigError: If it cannot be written.
    """
    require_renewable(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in _written_files(folder):
            path.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(f"--output-dir must be writable, got {folder} ({error.strerror}). Choose another.") from None


def write_record(folder: Path, values: Mapping[str, Any]) -> None:
    """Note what was done, and which files are ours: all that lie in the folder."""
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    write_json(folder / RECORD, {**values, "files": files})


def _written_files(folder: Path) -> set[Path]:
    """What the record of an earlier back-test lists, the record itself included; nothing without a readable one."""
    record = folder / RECORD
    try:
        names = json.loads(record.read_text())["files"]
        named = {folder / name for name in names}
        return {record, *(path for path in named if path.resolve().is_relative_to(folder.resolve()))}
    except (OSError, ValueError, KeyError, TypeError):
        return set()
