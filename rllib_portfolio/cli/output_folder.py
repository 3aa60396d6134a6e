"""The folder that a command writes into: where it is, how it is resumed, and what continues it afterwards."""

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
    """Return the name of what begins now in a folder: its time, with microseconds if another began in this second."""
    now = datetime.now()
    name = f"{now:%Y%m%d-%H%M%S}"
    return f"{name}-{now:%f}" if (Path(parent) / name).exists() else name


def chosen_place(arguments: argparse.Namespace, kind: str) -> str:
    """Return the path or URI that --resume or --output-dir names, else that of a new folder below --storage-path.

    Args:
        arguments: With these three flags.
        kind: Folder below --storage-path, or below `runs`, in which the new one is.
    """
    from rllib_portfolio.runs.storage import join_place

    given: str | None = arguments.resume or arguments.output_dir
    if given is not None:
        return given
    parent = join_place(arguments.storage_path or "runs", kind)
    return join_place(parent, new_name(parent))


@contextmanager
def opened(arguments: argparse.Namespace, place: str, script: str) -> Iterator[OutputFolder]:
    """Open the folder of a command for this process alone, with all that it held before.

    Args:
        arguments: With the flag --resume: without it the folder is made.
        place: Path or URI.
        script: What the command is called by in a checkout, such as `python train.py`.

    Raises:
        ConfigError: If another process writes there, or the folder cannot be written.
    """
    from rllib_portfolio.runs.storage import RunStorage

    path = Path(place)
    storage, name = RunStorage.of_run(place) if "://" in place else (RunStorage(str(path.parent)), path.name)
    with storage.only_writer(name, is_new=arguments.resume is None), storage.fetched(name) as folder:
        yield OutputFolder(storage, name, folder, script)


@dataclass(frozen=True, slots=True)
class OutputFolder:
    """An open folder, and where it is kept if that is elsewhere.

    Attributes:
        storage: Where it is kept.
        name: Its name there.
        path: Where the command works: the folder itself, or a local copy of what an object store keeps.
        script: What the command is called by in a checkout.
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
        """Say which folder is used, and, --quiet or not, if it will be lost.

        Args:
            arguments: With the flag --quiet.
            text: Names the folder.
            curves: Where TensorBoard finds events; a URI is left out.
        """
        say(arguments, f"{text}   (tensorboard --logdir {curves})" if curves and "://" not in curves else text)
        if JOB in os.environ and not self.storage.is_remote and self.path.resolve().is_relative_to(Path.cwd()):
            # a Ray job works in a copy of its working directory, which goes away when the job does
            print(
                f"Note: this job writes into its working directory, {Path.cwd()} on {platform.node()}, which is not "
                "kept. Give --storage-path or --output-dir, as absolute paths.",
                file=sys.stderr,
            )

    def warn_if_foreign(self, record: str) -> None:
        """Warn before checkpoints of a run, a search or an analysis are loaded that this user did not begin here.

        Args:
            record: Name of the file in the folder that says who began it.
        """
        from rllib_portfolio.runs.folder import is_from_elsewhere

        if is_from_elsewhere(self.path, record):
            warn(
                f"Warning: {self.place} was not begun by this user on this machine. Resuming unpickles its "
                "checkpoints, which can execute any code: go on only if you trust whoever wrote it. An exported policy "
                f"(load_policy, {as_invoked('backtest.py')}) executes none."
            )

    def keep(self, *, without: Collection[str] = ()) -> None:
        """Bring what is new to where the folder is kept, but for some folders in it."""
        self.storage.keep(self.name, without=without)

    def resume_command(self, settings: Sequence[object]) -> str:
        """Return the command that continues the work.

        Args:
            settings: Settings of the work; for functions that they name the command asks to be trusted.
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
        saved: Callable[[], str] = lambda: "What was done is kept",
    ) -> AbstractContextManager[None]:
        """Note on errors what is saved and how the work goes on.

        Args:
            records: Files in the folder without which nothing was begun.
            settings: As for `resume_command`.
            saved: Returns what was saved.
        """

        def note() -> str | None:
            is_begun = all((self.path / name).is_file() for name in records)
            return f"{saved()}. Continue with: {self.resume_command(settings)}" if is_begun else None

        return way_back(note)

    def stop(self, what: str, settings: Sequence[object], received: Sequence[int]) -> int:
        """Say what was saved when a signal ended the work, and return the exit code.

        Args:
            what: What was saved.
            settings: As for `resume_command`.
            received: The signals.
        """
        tell(f"Stopped; {what}. Continue with: {self.resume_command(settings)}")
        return 128 + received[0]
