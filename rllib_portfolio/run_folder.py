"""The folder of a run: what is written before training starts, and how it is found again.

RUN/config.yaml    the resolved configuration
RUN/run.json       configuration, versions, data hash, git revision, seed
RUN/market.npz     the prepared market that every env runner reads
RUN/checkpoints/   see `algorithms.checkpoint`
RUN/progress.csv   and TensorBoard events, see `tracking`
RUN/results.json   results.csv equity_curve.png: the closing comparison
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import platform
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import yaml

from rllib_portfolio.algorithms.checkpoint import newest_checkpoint, require_whole
from rllib_portfolio.config import RunConfig
from rllib_portfolio.config_file import load_run_config, read_yaml
from rllib_portfolio.errors import ConfigError, MachineError
from rllib_portfolio.market import MarketData
from rllib_portfolio.revision import git_revision, version_of
from rllib_portfolio.whole_file import whole_file, write_json

CONFIG = "config.yaml"
RECORD = "run.json"
MARKET = "market.npz"
FINISHED = "finished.json"
"""In the folder of a run of a search or a walk-forward analysis that came to its end."""
_PACKAGES = ("rllib-portfolio", "ray", "torch", "gymnasium", "numpy", "pandas", "scipy", "scikit-learn", "statsmodels")


def create_run_folder(run_dir: Path, config: RunConfig, market: MarketData, market_file: Path | None = None) -> None:
    """Write configuration, record and market of a new run.

    Args:
        run_dir: A new or empty folder.
        config: Its configuration; choices that depend on the number of assets are written as resolved.
        market: Its market.
        market_file: The same market as a file; linked, where the file system can do that, instead of written again.

    Raises:
        ConfigError: If the folder cannot be written or already holds something.
    """
    require_fresh(run_dir)
    config = config.for_assets(market.num_assets)
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        _save_market(run_dir / MARKET, market, market_file)
        write_json(run_dir / RECORD, _record(config, market))
        _write_config(run_dir, config)  # last: a run with a configuration has begun
    except OSError as error:
        raise _unwritable(run_dir, error.strerror) from None


def require_fresh(run_dir: Path) -> None:
    """Raise if a run would write over something, or could not write.

    Raises:
        ConfigError: If the folder exists and is not empty, is no folder, or cannot be made.
    """
    if run_dir.is_dir() and not any(run_dir.iterdir()):
        return
    if run_dir.exists():
        raise ConfigError(
            f"output directory must be new or empty, got {run_dir}. Choose another --output-dir, or continue that run "
            f"with --resume {run_dir}."
        )
    above = next(folder for folder in run_dir.absolute().parents if folder.exists())
    reason = errno.ENOTDIR if not above.is_dir() else 0 if os.access(above, os.W_OK) else errno.EACCES
    if reason:
        raise _unwritable(run_dir, os.strerror(reason))


def _unwritable(run_dir: Path, reason: str | None) -> ConfigError:
    return ConfigError(f"output directory must be writable, got {run_dir} ({reason}). Choose another --output-dir.")


def open_run_folder(run_dir: Path, overrides: dict[str, Any]) -> tuple[RunConfig, MarketData]:
    """Configuration, with overrides on top, and market of a run that was started before.

    Raises:
        ConfigError: If the folder holds no run, or its newest checkpoint is damaged.
    """
    if not has_begun(run_dir):
        raise ConfigError(f"run must be a folder with {CONFIG} and {MARKET}, got {run_dir}. Name a run's folder.")
    checkpoint = newest_checkpoint(run_dir)
    if checkpoint is not None:
        require_whole(checkpoint)
    return load_run_config(run_dir / CONFIG, overrides), MarketData.load(run_dir / MARKET)


def has_begun(run_dir: Path) -> bool:
    """Whether a folder holds what a run is opened with."""
    return not _missing(run_dir)


def _missing(run_dir: Path) -> list[str]:
    return [name for name in (CONFIG, MARKET) if not (run_dir / name).is_file()]


def require_kept(run_dir: Path) -> None:
    """Raise if somebody removed a run's folder, or what it cannot be continued or tested without, during training.

    Raises:
        MachineError: If so; it names what is missing.
    """
    if missing := _missing(run_dir):
        raise MachineError(
            f"run folder must stay as it is during training, got no {' and no '.join(missing)} ({run_dir}). Nothing "
            "more was written. Bring back what was removed, then use --resume, or start a new run."
        )


def require_writable(run_dir: Path) -> None:
    """Raise if a run cannot go on in its folder, since nothing could be written there.

    Raises:
        ConfigError: If so; it says why.
    """
    try:
        with TemporaryFile(dir=run_dir):
            pass
    except OSError as error:
        raise _unwritable_run(run_dir, error) from None


def _unwritable_run(run_dir: Path, error: OSError) -> ConfigError:
    return ConfigError(
        f"run must be a folder that can be written, got {run_dir} ({error.strerror}). Mend its permissions."
    )


def record_settings(run_dir: Path, config: RunConfig) -> None:
    """Bring configuration and record of a run up to date: settings that it goes on with are those that it has now.

    Raises:
        ConfigError: If the folder cannot be written.
    """
    settings = config.model_dump(mode="json")
    if read_yaml(run_dir / CONFIG) == settings:
        return
    try:
        write_json(run_dir / RECORD, _read_record(run_dir) | {"config": settings})
        _write_config(run_dir, config)
    except OSError as error:
        raise _unwritable_run(run_dir, error) from None


def _write_config(run_dir: Path, config: RunConfig) -> None:
    with whole_file(run_dir / CONFIG) as file:
        file.write_text(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))


def _save_market(path: Path, market: MarketData, market_file: Path | None) -> None:
    if market_file is not None:
        try:
            path.hardlink_to(market_file)
        except OSError:  # another file system, or one without links
            pass
        else:
            return
    market.save(path)


def _record(config: RunConfig, market: MarketData) -> dict[str, Any]:
    return {
        "config": config.model_dump(mode="json"),
        "seed": config.seed,
        "data_source": market.source,
        "data_hash": market.data_hash,
        "data_notes": market.notes,
        "windows": {
            name: [str(market.dates[start]), str(market.dates[stop - 1])]
            for name, (start, stop) in market.windows.items()
        },
        "origin": _origin(),
        **provenance(),
    }


def is_from_elsewhere(run_dir: Path) -> bool:
    """Whether a run was begun on another machine or by another user, as far as its record tells."""
    return _read_record(run_dir).get("origin") != _origin()


def _read_record(run_dir: Path) -> dict[str, Any]:
    """What a run's record tells; nothing without a readable one."""
    try:
        record = json.loads((run_dir / RECORD).read_text())
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _origin() -> str:
    """Machine and user, told apart but not named."""
    return hashlib.sha256(f"{platform.node()} {os.getuid()}".encode()).hexdigest()[:16]


def provenance() -> dict[str, Any]:
    """What software makes a result: git revision, Python and packages, as JSON values."""
    return {
        "git_revision": git_revision(),
        "python": platform.python_version(),
        "versions": {name: version_of(name) for name in _PACKAGES},
    }
