"""The record of a search or an analysis: a sealed JSON file beside its runs, from which `--resume` continues."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rllib_portfolio.atomic import read_json, sealed, write_json
from rllib_portfolio.config.consent import note_file
from rllib_portfolio.errors import ConfigError, one_line
from rllib_portfolio.new_folder import is_unused
from rllib_portfolio.runs.folder import provenance


def write_record(path: Path, values: Mapping[str, Any]) -> None:
    """Write a record, with the versions of the software, in place of an earlier one.

    Args:
        path: The file.
        values: The values as JSON values.
    """
    write_json(path, sealed({**values, **provenance()}))


def read_record(path: Path, owner: str, remedy: str) -> dict[str, Any]:
    """Return the values of a record.

    Args:
        path: The file.
        owner: Name, in the error message, of the thing that the record belongs to.
        remedy: A sentence on what to do if the record cannot be read, for the error message.

    Raises:
        ConfigError: If there is no record, or it cannot be read.
    """
    values = read_json(path, owner, remedy)
    note_file(values, path)
    return values


@contextmanager
def parsed_record(path: Path, owner: str, remedy: str) -> Iterator[dict[str, Any]]:
    """Yield the values of a record to the code in this context, which parses them.

    Args:
        path: The file.
        owner: Name, in the error message, of the thing that the record belongs to.
        remedy: A sentence on what to do if the record cannot be read or parsed, for the error message.

    Raises:
        ConfigError: If there is no record, or the code in the context finds values that are missing or malformed.
    """
    values = read_record(path, owner, remedy)
    try:
        yield values
    except ConfigError:
        raise
    except (LookupError, AttributeError, TypeError, ValueError) as error:
        raise ConfigError(f"{owner} must have a whole record, got {one_line(error)} ({path}). {remedy}") from None


def is_new_folder(output: Path) -> bool:
    """Return whether a folder does not exist, or holds nothing but the claim of a process."""
    return not output.exists() or (output.is_dir() and is_unused(output))
