"""A disk that is full after a few bytes, and a folder that cannot be written, as the writer of a file meets them."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NOBODY = 65534


@contextmanager
def full_disk(num_bytes: int = 100) -> Iterator[None]:
    """Within, no file grows beyond so many bytes: the write that would do it raises an OSError."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Within, the permissions of a folder let nobody write there; they do not bind root, who becomes another user.

    Args:
        folder: Its parents must let every user in, as those of `tempfile.mkdtemp` do and those of `tmp_path` do not.
    """
    user, mode = os.geteuid(), folder.stat().st_mode
    folder.chmod(0o555)
    if user == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(user)
        folder.chmod(mode)
