"""The revision of the source tree that makes a result."""

from __future__ import annotations

import subprocess
from pathlib import Path


def git_revision() -> str | None:
    """The revision of the source tree, marked when it has changes; None outside of a git checkout."""
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return described.stdout.strip() or None
