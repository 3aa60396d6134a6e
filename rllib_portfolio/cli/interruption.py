"""Handling of signals and of output streams that can no longer be written."""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals of Ctrl-C, of a scheduler, and of a terminal or an ssh connection that ends."""


_NOBODY_READS = (errno.EPIPE, errno.EIO, errno.ECONNRESET)
_failures: dict[int, str] = {}


class _LastingFile(io.FileIO):
    """An output file whose writes never raise; it drops what cannot be written."""

    def write(self, data: Any) -> int | None:
        try:
            return super().write(data)
        except OSError as error:
            if error.errno not in _NOBODY_READS:
                _failures[self.fileno()] = error.strerror
            return memoryview(data).nbytes


def outlast_readers() -> None:
    """Replace standard output and standard error by streams that never raise on a failed write.

    A pipe breaks when its reader ends (`| head`, or `| tee log`, which receives Ctrl-C, too), a terminal is closed with
    its connection, and a disk may be full. The command goes on in these cases, because its results are in files. A
    stream that was closed before the command began is replaced by the null device, so that no other file gets its
    number.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, io.TextIOWrapper(io.BufferedWriter(io.FileIO(os.devnull, "w"))))
        elif stream is getattr(sys, f"__{name}__"):  # a captured stream is left alone
            setattr(sys, name, _lasting(stream))


def lost_output() -> str | None:
    """Return a message if output was lost that someone may still read, else None."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    if not _failures:
        return None
    names = {1: "standard output", 2: "standard error"}
    failures = ", ".join(f"{names[number]}: {reason}" for number, reason in _failures.items())
    _failures.clear()
    return f"output must be writable, got {failures}. Some output is lost; all files that were written are complete."


def _lasting(stream: Any) -> io.TextIOWrapper:
    """Return a text stream to the same file, with the encoding and the buffering of `stream`."""
    stream.flush()
    file: Any = _LastingFile(stream.fileno(), "w", closefd=False)
    if not isinstance(stream.buffer, io.RawIOBase):  # `python -u` has no buffer
        file = io.BufferedWriter(file)
    return io.TextIOWrapper(
        file, stream.encoding, stream.errors, line_buffering=stream.line_buffering, write_through=stream.write_through
    )


_is_apart = False


def _go_apart() -> None:
    """Move a process that was just forked into a process group of its own inside `children_apart`."""
    if _is_apart:
        os.setpgid(0, 0)


os.register_at_fork(after_in_child=_go_apart)


@contextmanager
def children_apart() -> Iterator[None]:
    """Start each of Ray's processes in a process group of its own while this context is open.

    A terminal, a shell and `timeout` send a signal to the whole process group of a command. Ray's processes would end
    at once and lose what they have not saved, and the command could not end in order without them. They still end when
    the command does. `os.register_at_fork` hooks run in a `subprocess` child only if it has a `preexec_fn`. Ray's
    processes have one.
    """
    global _is_apart
    _is_apart = True
    try:
        yield
    finally:
        _is_apart = False


@contextmanager
def stop_signals(
    notice: str = "Stopping after this iteration, then writing a checkpoint ...",
) -> Iterator[list[int]]:
    """Yield a list to which each signal is added; the first signal prints `notice`, and the command then ends in order.

    A second signal of the same kind ends the process at once. SIGHUP is an exception, because a lost connection may
    send it twice: from its shell and from the kernel. If SIGHUP is ignored when the command begins, as under `nohup`,
    it stays ignored.
    """
    received: list[int] = []
    before = {number: signal.getsignal(number) for number in ENDING}
    if before[signal.SIGHUP] == signal.SIG_IGN:
        del before[signal.SIGHUP]

    def note(number: int, frame: Any) -> None:
        received.append(number)
        if number != signal.SIGHUP:
            signal.signal(number, before[signal.Signals(number)])
        if len(received) == 1:
            with suppress(OSError):  # the terminal may be closed
                # sys.stderr is not used, because the signal may have interrupted a write to it.
                os.write(2, f"\n{notice}\n".encode())

    for number in before:
        signal.signal(number, note)
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
