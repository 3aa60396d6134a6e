"""Creation of the folders that commands write into, and their removal if a command fails to begin."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rllib_portfolio.errors import file_error, reason

IN_USE = "in_use.json"
"""Name of the file that names the process which writes into a folder, see `runs.folder_lock`."""
REPORT_IN_USE = "report_in_use.json"
"""Name of the corresponding file of a back-test. Both files may lie in the folder of a run, since a back-test and a
training run do not block each other."""


@contextmanager
def made(folder: Path) -> Iterator[None]:
    """Make a folder and its missing parents, and remove those of them that are still empty when the context ends.

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
    """Make a folder for what is written while this context is open, and remove it if an error ends the context.

    Nothing is removed from a folder that already held something.

    Args:
        folder: The folder.
        owner: Name of the folder in the error message.
        remedy: A sentence on what to do if the folder cannot be written, for the error message.

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
    """Remove everything in a folder except the claims of processes."""
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        elif path.name not in (IN_USE, REPORT_IN_USE):
            with suppress(OSError):
                path.unlink()


def is_unused(folder: Path, claims: Collection[str] = (IN_USE,)) -> bool:
    """Return whether a folder holds no files except claims.

    Args:
        folder: An existing folder.
        claims: Names of the files by which a process claims the folder for itself.
    """
    return all(path.name in claims for path in folder.iterdir())
