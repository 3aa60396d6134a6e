"""Checkpoints that are whole or not there.

    RUN/checkpoints/step_000050000/
        rllib/           RLlib's own state: networks, optimiser, connectors, reward scale, counters
        policy/          the exported policy, readable without RLlib
        progress.json    the training loop's state
        manifest.json    SHA-256 of every file, written last

A checkpoint is written beside its name and moved into place when it is complete; its manifest goes first.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rllib_portfolio.errors import ConfigError

CHECKPOINTS = "checkpoints"
"""Folder of a run that holds them."""
MANIFEST = "manifest.json"
_PROGRESS = "progress.json"
_UNFINISHED = ".unfinished"


def checkpoint_name(steps: int) -> str:
    """`step_000050000` of 50000 steps: names sort as steps do."""
    return f"step_{steps:09d}"


def write_checkpoint(run_dir: Path, steps: int, write_files: Callable[[Path], None], progress: dict[str, Any]) -> Path:
    """Write a checkpoint whole.

    Args:
        run_dir: The run's folder.
        steps: Environment steps so far.
        write_files: Writes the files of the checkpoint into the folder that it is given.
        progress: JSON values of the training loop.
    """
    final = run_dir / CHECKPOINTS / checkpoint_name(steps)
    unfinished = final.with_name(final.name + _UNFINISHED)
    shutil.rmtree(unfinished, ignore_errors=True)
    final.parent.mkdir(exist_ok=True)  # and no parents: a run's folder that was removed does not come back in part
    unfinished.mkdir()
    write_files(unfinished)
    (unfinished / _PROGRESS).write_text(json.dumps(progress, indent=1))
    (unfinished / MANIFEST).write_text(json.dumps(_digests(unfinished), indent=1))
    if final.exists():
        _remove(final)
    unfinished.rename(final)
    return final


def checkpoints(run_dir: Path) -> list[Path]:
    """Finished checkpoints of a run, oldest first."""
    folders = sorted((run_dir / CHECKPOINTS).glob("step_*"))
    return [folder for folder in folders if folder.suffix != _UNFINISHED and (folder / MANIFEST).is_file()]


def newest_checkpoint(run_dir: Path) -> Path | None:
    """The last finished checkpoint of a run, or None."""
    found = checkpoints(run_dir)
    return found[-1] if found else None


def read_progress(checkpoint: Path) -> dict[str, Any]:
    """The training loop's state, after checking that the checkpoint is whole.

    Raises:
        ConfigError: If a file is missing or was changed.
    """
    require_whole(checkpoint)
    progress: dict[str, Any] = json.loads((checkpoint / _PROGRESS).read_text())
    return progress


def require_whole(checkpoint: Path) -> None:
    """Raise unless every file of the checkpoint is what was written.

    Raises:
        ConfigError: Names the file.
    """
    try:
        written = json.loads((checkpoint / MANIFEST).read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"checkpoint must have a readable {MANIFEST}, got {error} ({checkpoint}). {_REMEDY}"
        ) from None
    found = _digests(checkpoint)
    for name, digest in written.items():
        if found.get(name) != digest:
            state = "a changed file" if name in found else "no file"
            raise ConfigError(f"checkpoint must be whole, got {state} {name} ({checkpoint}). {_REMEDY}")


def prune_checkpoints(run_dir: Path, keep: int, best: str | None) -> None:
    """Remove all but the last `keep` checkpoints and the one named `best`."""
    for folder in checkpoints(run_dir)[:-keep]:
        if folder.name != best:
            _remove(folder)


def keep_best_checkpoint(run_dir: Path) -> None:
    """Remove all checkpoints of a finished run but the one that was best on validation."""
    newest = newest_checkpoint(run_dir)
    best = read_progress(newest).get("best_checkpoint") if newest is not None else None
    if newest is None or best is None:
        return
    for folder in checkpoints(run_dir):
        if folder.name != best:
            _remove(folder)


_REMEDY = "Remove it; the run resumes from the one before."


def _remove(checkpoint: Path) -> None:
    """Remove a checkpoint; one that is removed in part no longer counts as finished."""
    (checkpoint / MANIFEST).unlink(missing_ok=True)
    shutil.rmtree(checkpoint)


def _digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
