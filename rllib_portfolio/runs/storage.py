"""Storage of run folders: on a file system that all machines share, or in an object store.

On a shared file system, a run works directly in its folder. For an object store, it works in a local copy, which is
uploaded after each checkpoint: first the files, then the configuration, without which a run has not begun, then the
manifests of checkpoints, and then the file that marks the run as finished. Files that are no longer needed are deleted
last. So a run or a checkpoint in the store is either complete or not recognised as one.

A store that cannot be reached does not end a run: the next upload includes the files that this one could not bring. The
last upload of a run is retried for two minutes. Files that could not be uploaded by then, or were not uploaded when the
process was killed, stay on this machine. If another process has taken over a place, nothing more is uploaded to it, and
the command ends.
"""

from __future__ import annotations

import hashlib
import logging
import platform
import shutil
import tempfile
import time
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import ClassVar, Self
from urllib.parse import urlsplit
from urllib.request import url2pathname

from pyarrow import ArrowInvalid
from pyarrow.fs import FileSelector, FileSystem, FileType, copy_files

from rllib_portfolio.errors import ClaimLostError, ConfigError, MachineError, file_error, one_line
from rllib_portfolio.new_folder import IN_USE
from rllib_portfolio.policies.checkpoint import CHECKPOINTS, MANIFEST
from rllib_portfolio.runs.folder import CONFIG, FINISHED, MARKET
from rllib_portfolio.runs.folder_lock import NUM_FOLDERS_ABOVE, Claim, Holder, in_use, only_writer

logger = logging.getLogger(__name__)

RETRY_EVERY_S = 5.0


@dataclass(frozen=True, slots=True)
class RunStorage:
    """The folders of runs, by their names.

    Attributes:
        root: Absolute path on a shared file system, or URI of a place in an object store. The query of a URI, after
            `?`, says how the store is reached.
        claims: Claims of the process that started this one. They must be valid at each upload.
    """

    root: str
    claims: tuple[Claim, ...] = field(default=(), kw_only=True, repr=False, compare=False)
    KEPT_WITHIN_S: ClassVar[float] = 120.0
    """Seconds for which `keep` retries an upload that failed."""

    @property
    def is_remote(self) -> bool:
        """True if runs work in local copies and are kept in an object store."""
        return "://" in self.root and not self.root.startswith("file://")

    @classmethod
    def of_run(cls, place: str) -> tuple[RunStorage, str]:
        """Return the storage of the run at a path or URI, and the run's name in it."""
        root, name = split_place(place)
        return cls(root), name

    def place(self, name: str) -> str:
        """Return the path or URI of a run, or with an empty name that of the folder of all runs."""
        return join_place(self.root, name) if name else self.root

    def beside(self, name: str) -> Self:
        """Return the storage called `name` in the folder that contains this one."""
        return replace(self, root=join_place(split_place(self.root)[0], name))

    def under_claims(self) -> Self:
        """Return this storage with the claims of this process, for other processes that work for it."""
        return replace(self, claims=tuple(_claims.values()))

    def local(self, name: str) -> Path:
        """Return the folder in which a run works on this machine."""
        if self.is_remote:
            place = hashlib.sha256(self.root.encode()).hexdigest()[:16]
            return Path(tempfile.gettempdir()) / f"rllib_portfolio-{place}" / name
        root = url2pathname(urlsplit(self.root).path) if self.root.startswith("file://") else self.root
        return Path(root) / name

    @contextmanager
    def only_writer(self, name: str, *, is_new: bool) -> Iterator[None]:
        """Keep other processes from writing into a run while this context is open, as `folder_lock.only_writer` does.

        If an object store refuses the claim, a warning is printed and the command continues without a lock.

        Args:
            name: Name of the run, or an empty name for the folder of all runs.
            is_new: Whether the run is a new one, whose folder need not exist.

        Raises:
            ConfigError: If another process writes there, or the folder cannot be written.
        """
        if not self.is_remote:
            with only_writer(self.local(name), is_new=is_new):
                yield
            return
        place, (file_system, path) = self.place(name), self._remote(name)
        with ExitStack() as stack:
            try:
                _require_no_other_above(place, file_system, path)
                if is_new or file_system.get_file_info(path).type == FileType.Directory:
                    claim = Claim(place, _ClaimObject(file_system, path), join_place(place, IN_USE))
                    stack.enter_context(claim.held())
                    _claims[place] = claim
                    stack.callback(_claims.pop, place)
            except OSError as error:
                logger.warning(
                    "Warning: %s could not be locked (%s). Let no other process write into it.", place, one_line(error)
                )
            yield

    @contextmanager
    def fetched(self, name: str) -> Iterator[Path]:
        """Yield the local folder of a run, with all files that are stored of it.

        A local copy is removed at the end. If it was not uploaded completely, it is moved to another folder, and a
        warning names that folder. The same is done with a copy that a killed process left.
        """
        folder = self.local(name)
        if not self.is_remote:
            yield folder
            return
        self._rescue(name)
        try:
            self.bring(name, folder)
            yield folder
        except ClaimLostError as error:  # the user must not copy these files over those of the other process
            if self._is_unkept(name):
                error.add_note(f"What was not brought there stays in {self._moved(name)} on {platform.node()}.")
            raise
        except BaseException as error:
            if told := self._rescue(name):
                error.add_note(told)  # a run in a process of Ray returns nothing but its error
            raise
        finally:
            self._rescue(name)
            shutil.rmtree(folder, ignore_errors=True)

    def bring(self, name: str, folder: Path) -> None:
        """Replace a local folder by the stored files of a run. On a shared file system this does nothing.

        Args:
            name: Name of the run.
            folder: The local folder. It does not exist afterwards if nothing is stored of the run.

        Raises:
            ConfigError: If the object store cannot be used.
        """
        if not self.is_remote:
            return
        shutil.rmtree(folder, ignore_errors=True)
        file_system, place = self._remote(name)
        try:
            if file_system.get_file_info(place).type == FileType.Directory:
                folder.mkdir(parents=True)
                copy_files(place, str(folder), source_filesystem=file_system)
        except OSError as error:
            raise self._unusable(error) from None

    def keep(self, name: str, *, without: Collection[str] = ()) -> None:
        """Upload the changes of a local copy to the object store, after the last write of a run.

        Args:
            name: Name of the run.
            without: Names of folders in the copy that are not uploaded.

        Raises:
            ClaimLostError: If another process has taken over the run, or the search or analysis that it belongs to.
            MachineError: If the upload did not succeed within two minutes. The error says where the local copy was
                moved.
        """
        if not self.is_remote:
            return
        until, is_told = time.monotonic() + self.KEPT_WITHIN_S, False
        while True:
            try:
                self._upload(name, without)
                return
            except OSError as error:
                got = f"got {one_line(error)} ({self.place(name)})"
            if time.monotonic() >= until:
                raise MachineError(f"object store must take what a run wrote, {got}. {self._set_aside(name)}")
            if not is_told:
                seconds = f"{self.KEPT_WITHIN_S:g} s"
                logger.warning("Warning: the end of a run is not stored yet, %s. Trying again for %s.", got, seconds)
                is_told = True
            time.sleep(RETRY_EVERY_S)

    def keep_so_far(self, name: str) -> None:
        """Upload the changes of a local copy while its run continues. A failure is a warning; the next upload retries.

        Raises:
            ClaimLostError: If another process has taken over the run, or the search or analysis that it belongs to.
        """
        if not self.is_remote:
            return
        try:
            self._upload(name)
        except (OSError, ConfigError) as error:
            logger.warning(
                "Warning: a checkpoint was not uploaded to %s (%s). The next upload includes it.",
                self.place(name),
                one_line(error),
            )

    def _upload(self, name: str, without: Collection[str] = ()) -> None:
        self._unkept(name).touch()
        for claim in self.claims:
            claim.require_held()
        if (claim := _claims.get(self.place(name))) is not None:
            claim.renew()
        _mirror(self.local(name), *self._remote(name), without)
        self._unkept(name).unlink()

    def _unkept(self, name: str) -> Path:
        """Return the path of a marker file, which exists while the local copy of a run is not completely uploaded."""
        folder = self.local(name)
        return folder.with_name(f"{folder.name}.unkept")

    def _rescue(self, name: str) -> str:
        """Move a local copy aside if it was not completely uploaded; print and return a warning, or return nothing."""
        if not self._is_unkept(name):
            return ""
        told = f"Warning: not all of {self.place(name)} was kept. {self._set_aside(name)}"
        logger.warning(told)
        return told

    def _is_unkept(self, name: str) -> bool:
        return self._unkept(name).is_file() and self.local(name).is_dir()

    def _set_aside(self, name: str) -> str:
        """Move a local copy aside; return a sentence that says where it is and what to do with it."""
        return f"All of it stays in {self._moved(name)} on {platform.node()}: copy that to the store, then continue."

    def _moved(self, name: str) -> Path:
        """Move a local copy to a folder that the next run of that name does not clear, and return that folder."""
        folder = self.local(name)
        place = folder.rename(tempfile.mkdtemp(prefix=f"{folder.name}-unkept-", dir=folder.parent))
        self._unkept(name).unlink(missing_ok=True)
        return place

    def require_new(self) -> None:
        """Raise a `ConfigError` if the storage holds runs already, which a new search would take for its own."""
        file_system, place = self._remote()
        try:
            found = file_system.get_file_info(FileSelector(place, allow_not_found=True))
        except OSError as error:
            raise self._unusable(error) from None
        if any(info.base_name != IN_USE for info in found):
            raise ConfigError(
                f"--storage-path must hold no runs of another search, got {self.root}. Choose another, or continue "
                "that search with --resume."
            )

    def _remote(self, name: str = "") -> tuple[FileSystem, str]:
        try:
            return _file_system(self.place(name))
        except (ArrowInvalid, OSError, ImportError) as error:
            raise self._unusable(error) from None

    def _unusable(self, error: Exception) -> Exception:
        text = f"--storage-path must be a shared folder or the URI of an object store, got {self.root}"
        return file_error(error, f"{text} ({' '.join(str(error).split())})", "Correct it.")


@lru_cache(maxsize=32)
def _file_system(uri: str) -> tuple[FileSystem, str]:
    """Return the file system of a URI and the path in it. The cache keeps it usable if the store goes away later."""
    file_system, place = FileSystem.from_uri(uri)
    return file_system, place


_claims: dict[str, Claim] = {}
"""Claims of this process on runs in object stores, by place. Each upload renews the claim on its run."""


@dataclass(frozen=True, slots=True)
class _ClaimObject:
    """The object in a folder of an object store that holds the claim of the process which writes there."""

    file_system: FileSystem
    folder: str

    @property
    def path(self) -> str:
        return f"{self.folder}/{IN_USE}"

    def read(self) -> bytes:
        if self.file_system.get_file_info(self.path).type != FileType.File:
            return b""
        with self.file_system.open_input_stream(self.path) as file:
            return bytes(file.read())

    def write(self, text: bytes) -> None:
        self.file_system.create_dir(self.folder, recursive=True)
        with self.file_system.open_output_stream(self.path) as file:
            file.write(text)

    def remove(self) -> None:
        self.file_system.delete_file(self.path)


def _require_no_other_above(place: str, file_system: FileSystem, path: str) -> None:
    """Raise a `ConfigError` if another process writes into the search or walk-forward analysis of a run."""
    for _ in range(NUM_FOLDERS_ABOVE):
        if "/" not in path:
            return
        place, path = split_place(place)[0], path.rpartition("/")[0]
        holder = None
        with suppress(OSError):  # the access key may be valid only for the run, and not for the folders above it
            holder = Holder.parse(_ClaimObject(file_system, path).read())
        if holder is not None and not holder.is_gone(has_lock=False):
            raise in_use(place, holder)


def join_place(root: str, name: str) -> str:
    """Append a name to a path or URI; the query of a URI stays at the end.

    Args:
        root: Path or URI of a folder.
        name: Name to append, which may consist of several parts.
    """
    path, query = _path_and_query(root)
    return f"{path.rstrip('/')}/{name}{query}"


def split_place(place: str) -> tuple[str, str]:
    """Split a path or URI into its parent and its last name, as the inverse of `join_place`."""
    path, query = _path_and_query(place)
    root, _, name = path.rstrip("/").rpartition("/")
    return f"{root}{query}", name


def _path_and_query(place: str) -> tuple[str, str]:
    if "://" not in place:
        return place, ""
    path, mark, query = place.partition("?")
    return path, mark + query


def _mirror(folder: Path, file_system: FileSystem, place: str, without: Collection[str]) -> None:
    """Make a remote folder equal to a local one, except for the folders in `without` and the claim."""
    there = {
        info.path.removeprefix(place).lstrip("/"): info.size
        for info in file_system.get_file_info(FileSelector(place, recursive=True, allow_not_found=True))
        if info.type == FileType.File
    }
    here = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    for files in (there, here):
        for name in [name for name in files if name.partition("/")[0] in {*without, IN_USE}]:
            del files[name]
    if lost := [name for name in (CONFIG, MARKET) if name in there and name not in here]:
        raise MachineError(
            f"the local copy of a run must stay whole, got no {' and no '.join(lost)} ({folder}). What is kept in "
            f"{place} was left as it was."
        )
    # Remote files of a checkpoint without a manifest are from another attempt: they may differ at the same size.
    half_there = tuple(
        name.removesuffix(MANIFEST) for name in here.keys() - there.keys() if Path(name).name == MANIFEST
    )
    changed = [
        name
        for name, path in here.items()
        if there.get(name) != path.stat().st_size
        or name.startswith(half_there)
        or not (_is_written_once(name) or _is_same(path, file_system, f"{place}/{name}"))
    ]
    for name in sorted(changed, key=lambda name: (name == FINISHED, Path(name).name == MANIFEST, name == CONFIG, name)):
        file_system.create_dir(f"{place}/{name}".rpartition("/")[0], recursive=True)
        copy_files(str(here[name]), f"{place}/{name}", destination_filesystem=file_system)
    for name in sorted(there.keys() - here.keys(), key=lambda name: (Path(name).name != MANIFEST, name)):
        file_system.delete_file(f"{place}/{name}")


def _is_written_once(name: str) -> bool:
    """Return whether a file of a run, such as the large ones, never changes."""
    return name == MARKET or CHECKPOINTS in Path(name).parts


def _is_same(path: Path, file_system: FileSystem, place: str) -> bool:
    """Return whether a remote file of the same size has the same content."""
    with file_system.open_input_stream(place) as file:
        return bool(file.read() == path.read_bytes())
