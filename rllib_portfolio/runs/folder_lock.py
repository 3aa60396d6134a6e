"""One writer at a time: the claim of a process on a folder, or on a run in an object store.

FOLDER/in_use.json names the process that is writing into a folder, and is removed when it stops. The process also holds
an operating system lock on that file, which ends with the process even if it is killed. Readers need neither.

Object stores and some network file systems have no such locks, and other file systems do not share them between hosts.
There the claim itself decides. It is renewed every minute. Another process may take it over when it is five minutes
old, or at once if its process was on this host and is not alive. The clocks of hosts must agree to a minute or two.
Conditional writes are not available there, so a process writes its claim, waits a second and reads it back. Two
processes can both continue if one needs more than a second between finding the place free and writing its claim, or if
one was suspended for more than five minutes. The process whose claim was replaced stops when it next renews the claim,
and before it uploads anything to a store.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import platform
import re
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryFile
from typing import Protocol

from pydantic import AwareDatetime, BaseModel, Field, ValidationError

from rllib_portfolio.errors import ClaimLostError, ConfigError, file_error, reason
from rllib_portfolio.new_folder import IN_USE, made

logger = logging.getLogger(__name__)

RENEWED_EVERY_S = 60.0
EXPIRES_AFTER = timedelta(minutes=5)
SETTLES_AFTER_S = 1.0
NUM_FOLDERS_ABOVE = 3
"""Depth of a run's folder below that of its walk-forward analysis; in a search the depth is smaller."""


class Holder(BaseModel, frozen=True, extra="forbid"):
    """The process that writes into a place, which is a folder or a run in an object store."""

    key: str
    """Unique key of the claim."""
    pid: int = Field(gt=0, lt=2**31)
    host: str = Field(pattern=r"^[A-Za-z0-9_.:-]*$", max_length=255)
    pid_space: str = Field("", max_length=255)
    """Boot of the host and namespace of the process number. Empty in claims of earlier versions, and if the system
    reports neither."""
    started: AwareDatetime
    renewed: AwareDatetime

    @classmethod
    def this_process(cls) -> Holder:
        """Return a new claim of this process."""
        now, key = _now(), uuid.uuid4().hex
        return cls(key=key, pid=os.getpid(), host=_host(), pid_space=_pid_space(), started=now, renewed=now)

    @classmethod
    def parse(cls, text: bytes) -> Holder | None:
        """Return the claim in a record, or None if it holds no readable claim."""
        try:
            holder = cls.model_validate_json(text)
        except ValidationError:
            return None
        return holder if all(2000 < date.year < 9000 for date in (holder.started, holder.renewed)) else None

    @property
    def is_here(self) -> bool:
        """True if the process belongs to this boot of this host, and to the process namespace of this process."""
        return self.host == _host() and self.pid_space == _pid_space()

    @property
    def is_this_process(self) -> bool:
        """True if the process is this one, or an earlier one with the same process number."""
        return self.is_here and self.pid == os.getpid()

    def is_gone(self, has_lock: bool) -> bool:
        """Return whether the claim is stale.

        Args:
            has_lock: Whether this process has the operating system's lock, so that no other process on this host can
                hold the claim.
        """
        if self.is_here and (has_lock or self.is_this_process or not _is_alive(self.pid)):
            return True
        return abs(_now() - self.renewed) > EXPIRES_AFTER  # a clock may have been set back

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} since {self.started.astimezone():%Y-%m-%d %H:%M}"


class _Record(Protocol):
    """The file or object that holds a claim. Reading one that does not exist returns no bytes."""

    def read(self) -> bytes: ...
    def write(self, text: bytes) -> None: ...
    def remove(self) -> None: ...


class Claim:
    """The claim of this process on a place.

    Args:
        place: Name of the place in messages.
        record: The file or object that holds the claim.
        record_place: Name of the record in messages.
    """

    def __init__(self, place: str, record: _Record, record_place: str) -> None:
        self._place, self._record, self._record_place = place, record, record_place
        self._own = Holder.this_process()
        self._lost: str | None = None

    def _found(self) -> Holder | None:
        return Holder.parse(self._record.read())

    def _take(self, has_lock: bool) -> None:
        if (found := self._found()) is not None:
            if not found.is_gone(has_lock):
                raise self._in_use(found)
            logger.warning(
                "Note: %s was left in use by %s, which is gone. This command uses it now.", self._place, found
            )
        self._write()
        if not has_lock:
            time.sleep(SETTLES_AFTER_S)
            if (found := self._found()) is not None and found.key != self._own.key:
                raise self._in_use(found)
            self._write()

    def renew(self) -> None:
        """Check that the claim is held, see `require_held`, and renew its time stamp."""
        with _one_at_a_time:
            self.require_held()
            self._write()

    def require_held(self) -> None:
        """Check that the record holds this claim.

        Raises:
            ClaimLostError: If it does not, or did not at an earlier check. A missing record also counts as lost, since
                another process may have taken the place over and left it again.
            OSError: If the record cannot be read.
        """
        with _one_at_a_time:
            self.require_not_lost()
            found = self._found()
            if found is None:  # some file systems show a part of a record while it is written
                time.sleep(SETTLES_AFTER_S)
                found = self._found()
            if found is None or found.key != self._own.key:
                writer = found or f"another process, or its claim in {self._record_place} was removed"
                self._lost = f"{self._place} is now written by {writer}. This process stops so as not to write over it."
            self.require_not_lost()

    def require_not_lost(self) -> None:
        """Raise a `ClaimLostError` if an earlier check found the claim lost; this does not read the record."""
        if self._lost is not None:
            raise ClaimLostError(self._lost)

    @contextmanager
    def held(self, has_lock: bool = False) -> Iterator[None]:
        """Make the claim, renew it every minute while this context is open, and remove it at the end.

        Args:
            has_lock: Whether this process has the operating system's lock on the record.

        Raises:
            ConfigError: If another process holds the place.
            ClaimLostError: At the end, if another process has taken the place over meanwhile.
            OSError: If the record cannot be read or written.
        """
        ended = threading.Event()
        thread = threading.Thread(target=self._renew_until, args=(ended,), daemon=True)
        try:
            self._take(has_lock)
            _made_here.add(self)
            thread.start()
            yield
            with suppress(OSError):
                self.require_held()
        finally:
            _made_here.discard(self)
            ended.set()
            if thread.is_alive():
                thread.join()
            with suppress(OSError):
                if (found := self._found()) is None or found.key == self._own.key:
                    self._record.remove()

    def _renew_until(self, ended: threading.Event) -> None:
        while not ended.wait(RENEWED_EVERY_S):
            try:
                self.renew()
            except ClaimLostError:  # the main thread learns of it from `require_claims`
                return
            except OSError:  # the record may become available again before the claim expires
                pass

    def _write(self) -> None:
        self._own = self._own.model_copy(update={"renewed": _now()})
        self._record.write(self._own.model_dump_json().encode())

    def _in_use(self, found: Holder) -> ConfigError:
        minutes = EXPIRES_AFTER // timedelta(minutes=1)
        return in_use(self._place, found, f" If it is gone, wait {minutes} minutes or remove {self._record_place}.")


_made_here: set[Claim] = set()
_one_at_a_time = threading.RLock()
"""Keeps the renewing thread and the main thread from reading a record while the other one is rewriting it."""


def require_claims() -> None:
    """Raise a `ClaimLostError` if an earlier check found that another process has taken over a place of this one."""
    for claim in tuple(_made_here):
        claim.require_not_lost()


def in_use(place: str, holder: Holder | None, more: str = "") -> ConfigError:
    """Return the error that says that another process uses a place.

    Args:
        place: Name of the place.
        holder: The other process, if it is known.
        more: A sentence to append, with a leading space.
    """
    return ConfigError(f"{place} is in use by {holder or 'another process'}. Wait for it or stop it.{more}")


@contextmanager
def only_writer(folder: Path, *, is_new: bool, record: str = IN_USE) -> Iterator[None]:
    """Keep other processes from writing into a folder while this context is open.

    Args:
        folder: The folder. If it is missing and not new, nothing happens: the caller reports what is wrong.
        is_new: Whether to make the folder. It is removed again if nothing is written into it.
        record: Name of the claim file. Claims in files of other names are ignored.

    Raises:
        ConfigError: If another process writes into the folder, into a folder that contains it (a search, a walk-forward
            analysis) or into a run inside of it, or if the folder cannot be written.
        MachineError: If the disk is full or fails.
    """
    _require_no_other_around(folder, record)
    with ExitStack() as stack:
        try:
            if is_new:
                stack.enter_context(made(folder))
            if folder.is_dir():
                with TemporaryFile(dir=folder):  # an old record may be writable in a folder that is not
                    pass
                file, has_lock = _open_locked(folder, record)
                stack.enter_context(closing(file))
                stack.enter_context(Claim(str(folder), file, str(file.path)).held(has_lock))
                # a second check, since another process may have made its check before this claim existed
                _require_no_other_around(folder, record)
        except OSError as error:
            if error.errno not in _LEFT_TO_COMMANDS or os.path.isdir(folder):
                text = f"folder must be writable, got {folder / record} ({reason(error)})"
                raise file_error(error, text, "Correct its permissions, or choose another folder.") from None
        yield


_LEFT_TO_COMMANDS = (errno.EEXIST, errno.ENOTDIR, errno.ENAMETOOLONG)


class _File:
    """An open claim file of a folder. Forked processes close it, since they would share its lock."""

    def __init__(self, path: Path, flags: int) -> None:
        self.path = path
        # The folder may come from a stranger: do not follow a link, and do not wait for a pipe.
        self._descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o644)
        _open_files.add(self)

    def lock(self, kind: int) -> bool:
        """Take the operating system's lock.

        Args:
            kind: `fcntl.LOCK_EX` or `fcntl.LOCK_SH`.

        Returns:
            Whether the file system has such locks.

        Raises:
            BlockingIOError: If another process holds the lock.
        """
        try:
            fcntl.flock(self._descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            raise
        except OSError:
            return False
        return True

    def is_there(self) -> bool:
        """Return whether this file is still the one at its path."""
        try:
            return os.path.samestat(os.fstat(self._descriptor), self.path.lstat())
        except OSError:
            return False

    def read(self) -> bytes:
        return os.pread(self._descriptor, 4096, 0)

    def write(self, text: bytes) -> None:
        os.pwrite(self._descriptor, text, 0)
        os.ftruncate(self._descriptor, len(text))

    def remove(self) -> None:
        if self.is_there():
            self.path.unlink()

    def close(self) -> None:
        _open_files.discard(self)
        os.close(self._descriptor)


_open_files: set[_File] = set()


def _close_inherited() -> None:
    for file in tuple(_open_files):
        file.close()


os.register_at_fork(after_in_child=_close_inherited)


def _open_locked(folder: Path, record: str) -> tuple[_File, bool]:
    """Open the claim file of a folder; return it, and whether the file system has locks and this one was taken."""
    while True:
        file = _File(folder / record, os.O_RDWR | os.O_CREAT)
        try:
            has_lock = file.lock(fcntl.LOCK_EX)
        except BlockingIOError:
            holder = Holder.parse(file.read())
            file.close()
            raise in_use(str(folder), holder) from None
        if file.is_there():
            return file, has_lock
        file.close()  # its former process has removed it in the meantime


def _require_no_other_around(folder: Path, record: str) -> None:
    around = list(Path(os.path.realpath(folder)).parents[:NUM_FOLDERS_ABOVE])
    for depth in range(2, NUM_FOLDERS_ABOVE + 1):
        around += [path.parent for path in folder.glob("/".join([*("*" * depth), record]))]
    for other in around:
        _require_unused(other, record)


def _require_unused(folder: Path, record: str) -> None:
    """Raise a `ConfigError` if another process writes into a folder."""
    with suppress(OSError), closing(_File(folder / record, os.O_RDONLY)) as file:  # it may be missing or unreadable
        holder = Holder.parse(file.read())
        try:
            is_used = holder is not None and not holder.is_gone(file.lock(fcntl.LOCK_SH))
        except BlockingIOError:
            is_used = True
        if is_used and not (holder is not None and holder.is_this_process):
            raise in_use(str(folder), holder)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # the process belongs to another user
        pass
    return True


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9_.:-]", "_", platform.node())[:255]


def _pid_space() -> str:
    """Return an identifier of the boot and the container in which process numbers are valid; empty if unknown.

    Containers may share a host name (Docker, Slurm, KubeRay), but not process numbers; only /proc names both.
    """
    told = []
    with suppress(OSError):
        told.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
    with suppress(OSError):
        told.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(told)


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)
