"""Creation of the folders that commands write into; a folder is removed again if its command fails to begin."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rllib_portfolio.errors import file_error, reason

IN_USE = "in_use.json"
"""The claim of the process that writes into a folder, see `runs.folder_lock`."""
REPORT_IN_USE = "report_in_use.json"
"""The same in the folder of a back-test. It may lie in that of a run: neither keeps the other's process waiting."""


@contextmanager
def made(folder: Path) -> Iterator[None]:
    """Make a folder and those that it is in, and remove what is still empty of them at the end.

    Raises:
        OSError: If it cannot be made.
    """
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    finally:
        for path in missing:
            with suppress(OSError):
                path.rmdir()


@contextmanager
def begun(
    folder: Path, owner: str = "output directory", remedy: str = "Choose another --output-dir."
) -> Iterator[None]:
    """Make a folder for what is written while this context is open; it goes away again if an error ends that.

    Of a folder that was there and held something, nothing is removed. `owner` and `remedy` are for the error.

    Raises:
        ConfigError: If the folder cannot be written.
        MachineError: If the disk is full or fails.
    """
    try:
        with made(folder):
            is_new = is_unused(folder, (IN_USE, REPORT_IN_USE))
            try:
                yield
            except BaseException:
                if is_new:
                    _clear(folder)
                raise
    except OSError as error:
        raise file_error(error, f"{owner} must be writable, got {folder} ({reason(error)})", remedy) from error


def _clear(folder: Path) -> None:
    """Remove what is in a folder, but for the claim of a process."""
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        elif path.name not in (IN_USE, REPORT_IN_USE):
            with suppress(OSError):
                path.unlink()


def is_unused(folder: Path, claims: Collection[str] = (IN_USE,)) -> bool:
    """Return whether a folder holds nothing but the claim of a process."""
    return all(path.name in claims for path in folder.iterdir())
