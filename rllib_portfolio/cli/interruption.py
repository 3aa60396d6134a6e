"""What may happen to a command from outside: signals, and readers of its output that go away."""

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
"""Ctrl-C, the request of a scheduler, and the end of a terminal or of an ssh connection."""


_NOBODY_READS = (errno.EPIPE, errno.EIO, errno.ECONNRESET)
_failures: dict[int, str] = {}


class _LastingFile(io.FileIO):
    """An output file that takes all that is written, also when it cannot be passed on."""

    def write(self, data: Any) -> int | None:
        try:
            return super().write(data)
        except OSError as error:
            if error.errno not in _NOBODY_READS:
                _failures[self.fileno()] = error.strerror
            return memoryview(data).nbytes


def outlast_readers() -> None:
    """Make standard output and standard error of this process lasting: no failure to write to them raises.

    A pipe breaks when its reader ends (`| head`, or the Ctrl-C that `| tee log` receives, too), a terminal goes away
    with its connection, the disk of a log is full. What a command does counts for more than what it says: its results
    are in files. A stream that was closed before the command began becomes the null device, so that no other file gets
    its number.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, io.TextIOWrapper(io.BufferedWriter(io.FileIO(os.devnull, "w"))))
        elif stream is getattr(sys, f"__{name}__"):  # not one that somebody captures
            setattr(sys, name, _lasting(stream))


def lost_output() -> str | None:
    """The line about what readers of standard output or standard error still want and did not get; None if nothing."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    if not _failures:
        return None
    names = {1: "standard output", 2: "standard error"}
    failures = ", ".join(f"{names[number]}: {reason}" for number, reason in _failures.items())
    _failures.clear()
    return f"output must be writable, got {failures}. Not all was printed; the files that were written are whole."


def _lasting(stream: Any) -> io.TextIOWrapper:
    """A text stream to the same file, in the same encoding, that buffers as `stream` does."""
    stream.flush()
    file: Any = _LastingFile(stream.fileno(), "w", closefd=False)
    if not isinstance(stream.buffer, io.RawIOBase):  # `python -u` has no buffer
        file = io.BufferedWriter(file)
    return io.TextIOWrapper(
        file, stream.encoding, stream.errors, line_buffering=stream.line_buffering, write_through=stream.write_through
    )


_is_apart = False


def _go_apart() -> None:
    """Give a process that was just forked a group of its own, if it is to be started so."""
    if _is_apart:
        os.setpgid(0, 0)


os.register_at_fork(after_in_child=_go_apart)


@contextmanager
def children_apart() -> Iterator[None]:
    """Start Ray's processes meanwhile, each in a process group of its own.

    A terminal, a shell and `timeout` send a signal to all of a command's group. Ray's processes would end at once, with
    what they have not saved, and the command could not end in order without them. They end when the command does.
    `subprocess` calls what is registered at a fork for those of its processes that are given a `preexec_fn`, as Ray's.
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
    """The signals received so far: the first one, answered with `notice`, asks to end in order.

    The same once more ends the process at once, unless it is a hang-up: a connection that is lost may tell twice, from
    its shell and from the kernel. A hang-up that is ignored when the command begins, as under `nohup`, stays ignored.
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
            with suppress(OSError):  # nobody may be there to read it
                # Not through sys.stderr: the signal may have come in the middle of a write to it.
                os.write(2, f"\n{notice}\n".encode())

    for number in before:
        signal.signal(number, note)
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
