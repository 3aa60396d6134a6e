"""Atomic file writes, and JSON files with a digest.

A file is complete or absent, even if the process that writes it is killed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from rllib_portfolio.errors import file_error, reason

SEAL = "sha256"
"""Key of a sealed mapping that holds the SHA-256 digest of all other entries."""


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary file to write, which replaces `path` when the context ends without an error.

    The temporary file is always created anew: a link with its name is removed and not followed. If the file cannot be
    completed, it is removed, and errors of the disk name `path`.
    """
    unfinished = path.with_name(path.name + ".unfinished")
    unfinished.unlink(missing_ok=True)
    unfinished.touch(exist_ok=False)
    try:
        yield unfinished
        unfinished.replace(path)
    except BaseException as error:
        with suppress(OSError):
            unfinished.unlink()
        if isinstance(error, OSError) and error.errno is not None and error.filename is None:
            error.filename = str(path)  # the error of a full disk does not name the file
        raise


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write a JSON file atomically.

    Args:
        path: The file; an existing one is replaced.
        values: Its content; numbers must be finite.

    Raises:
        ValueError: If a number is NaN or infinite.
        OSError: If the file cannot be written.
    """
    with whole_file(path) as file:
        file.write_text(json.dumps(values, indent=1, allow_nan=False))


def sealed(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the JSON values with a digest by which `unsealed` detects changes."""
    rest = {name: value for name, value in values.items() if name != SEAL}
    return {**rest, SEAL: _digest(rest)}


def unsealed(values: object) -> dict[str, Any]:
    """Check the digest of a sealed mapping, and return the mapping without it.

    A mapping without a digest, as former versions wrote it, is returned unchecked.

    Raises:
        ValueError: If `values` is not a mapping, or was changed.
    """
    if not isinstance(values, dict):
        raise ValueError(f"{type(values).__name__} instead of a mapping")
    rest = {name: value for name, value in values.items() if name != SEAL}
    if SEAL in values and values[SEAL] != _digest(rest):
        raise ValueError(f"its {SEAL} is of other values")
    return rest


def read_json(path: Path, owner: str, remedy: str, *, allow_nan: bool = False) -> dict[str, Any]:
    """Return the mapping in a JSON file, after a check of its digest if it has one.

    Args:
        path: The file.
        owner: Name, in the error message, of the thing that the file belongs to.
        remedy: A sentence on what to do if the file cannot be read, for the error message.
        allow_nan: Accept NaN and infinite numbers, which are not valid JSON.

    Raises:
        ConfigError: If the file is missing, is not valid JSON, does not hold a mapping, or was changed.
        MachineError: If its disk fails.
    """
    try:
        constant = None if allow_nan else _refused
        return unsealed(json.loads(path.read_text(encoding="utf-8"), parse_constant=constant))
    except (OSError, ValueError, RecursionError) as error:
        text = f"{owner} must have a readable {path.name}, got {reason(error)} ({path.parent})"
        raise file_error(error, text, remedy) from None


def _refused(constant: str) -> float:
    raise ValueError(f"{constant}, which is no number of JSON")


def _digest(values: Mapping[str, Any]) -> str:
    """Return the SHA-256 digest of JSON values, which does not change when they are written and read again."""
    read = json.loads(json.dumps(values))  # turns tuples into lists, and keys into strings
    return hashlib.sha256(json.dumps(read, sort_keys=True).encode()).hexdigest()
