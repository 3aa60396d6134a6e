"""Faults of the machine that a command runs on: full disks, lost mounts, processes and machines that died."""

from __future__ import annotations

import errno
import os
import sys
import threading

from rllib_portfolio.errors import MachineError

_DISK_FAULTS = {
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE,
    errno.ENODEV, errno.ENXIO, errno.EMFILE, errno.ENFILE, errno.ENOTCONN,
}  # fmt: skip
"""What an operating system says of a disk, and not of a mistake in the program."""
_REASON_LENGTH = 300


def described(error: Exception) -> str | None:
    """Return one line about a fault of the machine and the error's notes; None for any other error."""
    if isinstance(error, MachineError):
        fault = str(error)
    elif isinstance(error, OSError) and error.errno in _DISK_FAULTS:
        place = f" ({error.filename})" if error.filename else ""
        fault = f"files must be readable and writable, got {os.strerror(error.errno)}{place}. Mend that."
    elif _is_loss(error):
        reason = " ".join(str(error).split())
        cut = f"{reason[:_REASON_LENGTH]} ..." if len(reason) > _REASON_LENGTH else reason
        fault = f"Ray's processes must live while they are needed, got {type(error).__name__} ({cut})."
    else:
        return None
    return " ".join((fault, *getattr(error, "__notes__", ())))


def _is_loss(error: Exception) -> bool:
    """Whether Ray lost a process, a machine, or the memory that it keeps objects in."""
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
    """Let no thread print a traceback about a file that it cannot write: whoever gave it the work is told, too.

    TensorBoard's writer is such a thread; it raises its error again at the next record.
    """
    threading.excepthook = _tell_unless_file


def _tell_unless_file(arguments: threading.ExceptHookArgs) -> None:
    if not isinstance(arguments.exc_value, OSError):
        threading.__excepthook__(arguments)
