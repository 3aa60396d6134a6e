"""Messages about faults of the machine: full disks, lost mounts, dead processes and dead machines."""

from __future__ import annotations

import errno
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rllib_portfolio.errors import ClaimLostError, MachineError, one_line

_DISK_FAULTS = {
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE,
    errno.ENODEV, errno.ENXIO, errno.EMFILE, errno.ENFILE, errno.ENOTCONN, errno.ETIMEDOUT, errno.EHOSTDOWN,
    errno.EREMOTEIO, errno.ENOLCK, errno.EISDIR, errno.ENOTDIR,
}  # fmt: skip
"""Error numbers that mean a fault of the disk, and not a mistake in the program."""
_REASON_LENGTH = 300
_WRAPPERS = ("ray.tune", "optuna", "sqlalchemy")
"""Packages that wrap faults of the machine in errors of their own."""


def described(error: Exception) -> str | None:
    """Return one line with the fault of the machine and the notes of the error; None for any other error."""
    fault = next((text for cause in _with_causes(error) if (text := _fault(cause)) is not None), None)
    return None if fault is None else " ".join((fault, *getattr(error, "__notes__", ())))


@contextmanager
def way_back(note: Callable[[], str | None]) -> Iterator[None]:
    """Add a note on how to continue to each error, unless another process has taken over the work.

    Args:
        note: Function that returns what was saved and the command that continues; None if nothing was begun.
    """
    try:
        yield
    except Exception as error:
        is_lost = any(isinstance(cause, ClaimLostError) for cause in _with_causes(error))
        if not is_lost and (text := note()) is not None:
            error.add_note(text)
        raise


def _with_causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = (error.__cause__ or error.__context__) if type(error).__module__.startswith(_WRAPPERS) else None


def _fault(error: BaseException) -> str | None:
    if isinstance(error, MachineError):
        return str(error)
    if isinstance(error, OSError) and error.errno in _DISK_FAULTS:
        place = f" ({error.filename})" if error.filename else ""
        return f"files must be readable and writable, got {os.strerror(error.errno)}{place}. Correct this."
    if isinstance(error, MemoryError):
        got = one_line(getattr(error, "cause", error))  # the error that was raised in a process of Ray
        return f"memory must hold what the command works on, got {got}. Free some, or use a larger machine."
    if _is_of_database(error):
        return f"the study's database must answer and have room, got {one_line(getattr(error, 'orig', error))}."
    if _is_loss(error):
        reason = " ".join(str(error).split())
        cut = f"{reason[:_REASON_LENGTH]} ..." if len(reason) > _REASON_LENGTH else reason
        return f"Ray's processes must live while they are needed, got {type(error).__name__} ({cut})."
    return None


def _is_of_database(error: BaseException) -> bool:
    if "sqlalchemy" not in sys.modules:
        return False
    from sqlalchemy.exc import OperationalError

    return isinstance(error, OperationalError)


def _is_loss(error: BaseException) -> bool:
    """Return whether Ray lost a process, a machine, or the memory of its object store."""
    if "ray" not in sys.modules:
        return False
    from ray import exceptions

    return isinstance(
        error,
        exceptions.RayActorError
        | exceptions.WorkerCrashedError
        | exceptions.NodeDiedError
        | exceptions.LocalRayletDiedError
        | exceptions.OutOfMemoryError
        | exceptions.OutOfDiskError
        | exceptions.ObjectStoreFullError
        | exceptions.ObjectLostError,
    )


def leave_to_main_thread() -> None:
    """Make background threads print no traceback about a file that they cannot write.

    The main thread receives the same error, because TensorBoard's writer raises it again at the next record.
    """
    threading.excepthook = _tell_unless_file


def _tell_unless_file(arguments: threading.ExceptHookArgs) -> None:
    if not isinstance(arguments.exc_value, OSError):
        threading.__excepthook__(arguments)
