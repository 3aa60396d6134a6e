"""The folder that a command writes into: its place, its lock, and the command that continues the work."""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from rllib_portfolio.cli.console import JOB, say, tell, warn
from rllib_portfolio.cli.machine_faults import way_back
from rllib_portfolio.command_names import as_invoked
from rllib_portfolio.config.consent import named_functions

if TYPE_CHECKING:
    from rllib_portfolio.runs.storage import RunStorage


def new_name(parent: str | Path) -> str:
    """Return a time stamp as the name of a new folder in `parent`, with microseconds if the name is taken."""
    now = datetime.now()
    name = f"{now:%Y%m%d-%H%M%S}"
    return f"{name}-{now:%f}" if (Path(parent) / name).exists() else name


def chosen_place(arguments: argparse.Namespace, kind: str) -> str:
    """Return the path or URI of --resume or --output-dir, else a new folder below --storage-path or `runs`.

    Args:
        arguments: Parsed arguments with these three flags.
        kind: Name of the folder in which the new folder is placed.
    """
    from rllib_portfolio.runs.storage import join_place

    given: str | None = arguments.resume or arguments.output_dir
    if given is not None:
        return given
    parent = join_place(arguments.storage_path or "runs", kind)
    return join_place(parent, new_name(parent))


@contextmanager
def opened(arguments: argparse.Namespace, place: str, script: str) -> Iterator[OutputFolder]:
    """Lock the folder of a command for this process, and fetch its files from an object store if it is kept there.

    Args:
        arguments: Parsed arguments; without --resume the folder is created.
        place: Path or URI of the folder.
        script: How the command is called in a checkout, such as `python train.py`.

    Raises:
        ConfigError: If another process holds the lock, or the folder cannot be written.
    """
    from rllib_portfolio.runs.storage import RunStorage

    path = Path(place)
    storage, name = RunStorage.of_run(place) if "://" in place else (RunStorage(str(path.parent)), path.name)
    with storage.only_writer(name, is_new=arguments.resume is None), storage.fetched(name) as folder:
        yield OutputFolder(storage, name, folder, script)


@dataclass(frozen=True, slots=True)
class OutputFolder:
    """The open folder of a command.

    Attributes:
        storage: Storage that keeps the folder.
        name: Name of the folder in the storage.
        path: Path in which the command works: the folder itself, or the local copy of a folder in an object store.
        script: How the command is called in a checkout.
    """

    storage: RunStorage
    name: str
    path: Path
    script: str

    @property
    def place(self) -> str:
        """Path or URI of the folder."""
        return self.storage.place(self.name) if self.storage.is_remote else str(self.path)

    def begin(self, arguments: argparse.Namespace, text: str, curves: str = "") -> None:
        """Print which folder is used, and warn (even with --quiet) if it will not be kept.

        Args:
            arguments: Parsed arguments with the flag --quiet.
            text: Line that names the folder.
            curves: Folder of TensorBoard events; a URI is not shown.
        """
        say(arguments, f"{text}   (tensorboard --logdir {curves})" if curves and "://" not in curves else text)
        if JOB in os.environ and not self.storage.is_remote and self.path.resolve().is_relative_to(Path.cwd()):
            # A Ray job works in a copy of its working directory, which is deleted when the job ends.
            print(
                f"Note: this job writes into its working directory, {Path.cwd()} on {platform.node()}, which is not "
                "kept. Give --storage-path or --output-dir, as absolute paths.",
                file=sys.stderr,
            )

    def warn_if_foreign(self, record: str) -> None:
        """Warn before checkpoints are loaded if another user or another machine began the work.

        Args:
            record: Name of the file in the folder that tells who began the work.
        """
        from rllib_portfolio.runs.folder import is_from_elsewhere

        if is_from_elsewhere(self.path, record):
            warn(
                f"Warning: {self.place} was not begun by this user on this machine. Resuming unpickles its "
                "checkpoints, which can execute any code: go on only if you trust whoever wrote it. An exported policy "
                f"(load_policy, {as_invoked('backtest.py')}) executes none."
            )

    def keep(self, *, without: Collection[str] = ()) -> None:
        """Copy new files to the storage, except those in the sub-folders `without`."""
        self.storage.keep(self.name, without=without)

    def resume_command(self, settings: Sequence[object]) -> str:
        """Return the command that continues the work.

        Args:
            settings: Settings of the work; the command gets --trust-custom for each function that they name.
        """
        place, command = self.place, as_invoked(self.script)
        if not self.storage.is_remote:
            absolute = Path(os.path.abspath(place))
            is_near = command == self.script and absolute.is_relative_to(Path.cwd())  # a script runs in its checkout
            place = str(absolute.relative_to(Path.cwd()) if is_near else absolute)
        trusted = "".join(f" --trust-custom {name}" for name in dict.fromkeys(named_functions(list(settings))))
        return f"{command} --resume {shlex.quote(place)}{trusted}"

    def way_back(
        self,
        records: Collection[str],
        settings: Sequence[object],
        saved: Callable[[], str] = lambda: "The finished work is saved",
    ) -> AbstractContextManager[None]:
        """Return a context that adds to each error what was saved and how to continue.

        Args:
            records: Names of files that exist once the work has begun.
            settings: See `resume_command`.
            saved: Function that returns a text about what was saved.
        """

        def note() -> str | None:
            is_begun = all((self.path / name).is_file() for name in records)
            return f"{saved()}. Continue with: {self.resume_command(settings)}" if is_begun else None

        return way_back(note)

    def stop(self, what: str, settings: Sequence[object], received: Sequence[int]) -> int:
        """Print what was saved when a signal ended the work, and return the exit code.

        Args:
            what: Text about what was saved.
            settings: See `resume_command`.
            received: Numbers of the received signals.
        """
        tell(f"Stopped; {what}. Continue with: {self.resume_command(settings)}")
        return 128 + received[0]
