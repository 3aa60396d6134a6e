"""Files that are there whole or not at all, whatever ends the process that writes them, and JSON that tells damage."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from rllib_portfolio.errors import file_error, reason

SEAL = "sha256"
"""Entry of a sealed mapping: the SHA-256 of all others."""


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A file to write, which takes the place of `path` when it is complete: readers see it whole or not at all.

    The file is always a new one: a link that has its name is removed, not followed. It is removed if it cannot be
    completed, and errors of a disk name `path`.
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
            error.filename = str(path)  # a write that finds the disk full does not say of which file
        raise


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write a JSON file whole or not at all."""
    with whole_file(path) as file:
        file.write_text(json.dumps(values, indent=1, allow_nan=False))


def sealed(values: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON values with their digest, by which `unsealed` tells whether they were changed."""
    rest = {name: value for name, value in values.items() if name != SEAL}
    return {**rest, SEAL: _digest(rest)}


def unsealed(values: object) -> dict[str, Any]:
    """What `sealed` was given; a mapping without a digest, as former versions wrote it, is taken as it is.

    Raises:
        ValueError: If it is no mapping, or was changed.
    """
    if not isinstance(values, dict):
        raise ValueError(f"{type(values).__name__} instead of a mapping")
    rest = {name: value for name, value in values.items() if name != SEAL}
    if SEAL in values and values[SEAL] != _digest(rest):
        raise ValueError(f"its {SEAL} is of other values")
    return rest


def read_json(path: Path, owner: str, remedy: str, *, allow_nan: bool = False) -> dict[str, Any]:
    """Return the mapping in a JSON file; a sealed one is held to its digest.

    `owner` is what has the file, and `remedy` a sentence on what to do if it cannot be read, for the error.

    Raises:
        ConfigError: If the file is missing, is no JSON, holds something else than a mapping, or was changed.
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
    """SHA-256 of JSON values. It does not change when they are written and read again."""
    read = json.loads(json.dumps(values))  # tuples are lists there, and keys are texts
    return hashlib.sha256(json.dumps(read, sort_keys=True).encode()).hexdigest()
