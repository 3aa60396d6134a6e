"""Checkpoints, which are written and removed atomically.

    RUN/checkpoints/step_000050000/
        rllib/           RLlib's own state: networks, optimiser, connectors, reward scale, counters
        policy/          the exported policy, readable without RLlib
        progress.json    the training loop's state
        manifest.json    SHA-256 of every file, written last

A checkpoint is written to a folder `step_000050000.unfinished`, which is renamed when the checkpoint is complete.
Before a checkpoint is removed, its folder is renamed to `step_000050000.removed`. If a killed process leaves a folder
of either kind, the next pruning of checkpoints removes it.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rllib_portfolio.atomic import read_json
from rllib_portfolio.errors import ConfigError, file_error, reason

CHECKPOINTS = "checkpoints"
"""The folder of a run that holds its checkpoints."""
MANIFEST = "manifest.json"
_PROGRESS = "progress.json"
_PARTS = {"rllib", "policy", _PROGRESS}
_UNFINISHED, _REMOVED = ".unfinished", ".removed"
_NAME = re.compile(r"step_\d{9,}")


def checkpoint_name(steps: int) -> str:
    """Return the name of a checkpoint, `step_000050000` for 50000 steps; names sort in the order of steps."""
    return f"step_{steps:09d}"


def write_checkpoint(run_dir: Path, steps: int, write_files: Callable[[Path], None], progress: dict[str, Any]) -> Path:
    """Write a checkpoint atomically and return its folder.

    Args:
        run_dir: Folder of the run.
        steps: Environment steps trained so far.
        write_files: Function that writes the files of the checkpoint into the folder that it is given.
        progress: State of the training loop, as JSON values.
    """
    final = run_dir / CHECKPOINTS / checkpoint_name(steps)
    unfinished = final.with_name(final.name + _UNFINISHED)
    _clear(unfinished)
    final.parent.mkdir(exist_ok=True)  # without parents, so that a removed run folder is not created again
    unfinished.mkdir()
    write_files(unfinished)
    (unfinished / _PROGRESS).write_text(json.dumps(progress, indent=1))
    (unfinished / MANIFEST).write_text(json.dumps(_digests(unfinished), indent=1))
    if final.exists():
        _remove(final)
    unfinished.rename(final)
    return final


def checkpoint_folders(run_dir: Path) -> list[Path]:
    """Return the checkpoint folders of a run, with or without a manifest, oldest first."""
    return sorted(path for path in (run_dir / CHECKPOINTS).glob("step_*") if _NAME.fullmatch(path.name))


def checkpoints(run_dir: Path) -> list[Path]:
    """Return the finished checkpoints of a run, oldest first."""
    return [folder for folder in checkpoint_folders(run_dir) if (folder / MANIFEST).is_file()]


def newest_checkpoint(run_dir: Path) -> Path | None:
    """Return the newest finished checkpoint of a run, or None."""
    found = checkpoints(run_dir)
    return found[-1] if found else None


def read_progress(checkpoint: Path) -> dict[str, Any]:
    """Return the training loop's state in a checkpoint, after `require_whole`."""
    require_whole(checkpoint)
    return read_json(checkpoint / _PROGRESS, "checkpoint", _REMEDY, allow_nan=True)


def best_checkpoint(run_dir: Path) -> Path | None:
    """Return the checkpoint that was best on validation, or the newest one if none was evaluated; None if none exists.

    Raises:
        ConfigError: If the best or the newest checkpoint is incomplete or damaged, or the best one is missing.
    """
    folders = checkpoint_folders(run_dir)
    if not folders:
        return None
    newest = folders[-1]  # even without its manifest: an older one might name another best one
    name = read_progress(newest).get("best_checkpoint") or newest.name
    best = newest.parent / str(name)
    if not best.is_dir():
        raise ConfigError(
            f"run must have the checkpoint that was best on validation, got no {name} ({newest.parent}). Restore it, "
            "or train on with --resume and a larger --total-timesteps: the next evaluation is then the best."
        )
    require_whole(best)
    return best


def require_whole(checkpoint: Path) -> None:
    """Raise a `ConfigError` that names the file unless every file of the checkpoint is as it was written."""
    written = read_json(checkpoint / MANIFEST, "checkpoint", _REMEDY)
    try:
        found = _digests(checkpoint)
    except OSError as error:
        text = f"checkpoint must be readable, got {reason(error)} ({error.filename or checkpoint})"
        remedy = "A run that still trains may have removed it: then try again."
        raise file_error(error, text, remedy) from None
    problems = [
        f"{'no file' if name not in found else 'a changed file' if name in written else 'an unlisted file'} {name}"
        for name in sorted(written.keys() | found.keys())
        if written.get(name) != found.get(name)
    ]
    problems += [f"no {name}" for name in sorted(_PARTS - {name.partition("/")[0] for name in found})]
    if problems:
        raise ConfigError(f"checkpoint must be whole, got {problems[0]} ({checkpoint}). {_REMEDY}")


def prune_checkpoints(run_dir: Path, keep: int, best: str | None) -> None:
    """Remove old checkpoints of a run, and folders that killed processes left.

    Args:
        run_dir: Folder of the run.
        keep: Number of newest checkpoints to keep, at least 1.
        best: Name of a checkpoint to keep as well, or None.
    """
    kept, folders = checkpoints(run_dir)[-keep:], checkpoint_folders(run_dir)
    if len(kept) == keep:  # removes older folders even without a manifest, as a removal may have left them
        folders = [folder for folder in folders if folder >= kept[0]]
    _keep_only(run_dir, {best, *(folder.name for folder in folders)})


def keep_best_checkpoint(run_dir: Path) -> None:
    """Remove all checkpoints of a finished run except the one that was best on validation."""
    newest = newest_checkpoint(run_dir)
    best = read_progress(newest).get("best_checkpoint") if newest is not None else None
    if best in {folder.name for folder in checkpoints(run_dir)}:
        _keep_only(run_dir, {best})


_REMEDY = "Remove it; the run resumes from the one before."


def _keep_only(run_dir: Path, names: set[str | None]) -> None:
    """Remove all checkpoints except those in `names`, and the folders that killed processes left."""
    for folder in checkpoint_folders(run_dir):
        if folder.name not in names:
            _remove(folder)
    for path in (run_dir / CHECKPOINTS).glob("step_*"):
        if path.suffix in (_UNFINISHED, _REMOVED) and _NAME.fullmatch(path.stem):
            _clear(path)


def _remove(checkpoint: Path) -> None:
    """Rename and then remove a checkpoint, so that one that is removed only in part does not count as a checkpoint."""
    removed = checkpoint.with_name(checkpoint.name + _REMOVED)
    _clear(removed)
    _clear(checkpoint.rename(removed))


def set_aside(checkpoint: Path) -> Path:
    """Rename an unusable checkpoint, so that it does not count as one any longer, and return its new path."""
    return checkpoint.rename(checkpoint.with_name(f"{checkpoint.name}.damaged-{time.time_ns()}"))


def _clear(path: Path) -> None:
    """Remove a folder, or a link but not its target; files of a folder that cannot be removed stay without an error."""
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.is_dir():
        shutil.rmtree(path, ignore_errors=True)


def _digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file, by its path in the folder, except the manifest and hidden files."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    files = [path for path in files if path != folder / MANIFEST]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
