"""The folder of a run: the files that are written before training starts, and how they are opened again.

RUN/config.yaml    the resolved configuration
RUN/run.json       configuration, versions, data hash, git revision, seed
RUN/market.npz     the prepared market that every env runner reads
RUN/checkpoints/   see `policies.checkpoint`
RUN/progress.csv   and TensorBoard events, see `tracking`
RUN/results.json   and results.csv, equity_curve.png: the closing comparison
RUN/in_use.json    the process that is writing into the folder, see `folder_lock`
"""

from __future__ import annotations

import errno
import hashlib
import os
import platform
import reprlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml

from rllib_portfolio.atomic import read_json, sealed, whole_file, write_json
from rllib_portfolio.config import RunConfig
from rllib_portfolio.config.consent import note_file
from rllib_portfolio.config.files import load_run_config, read_yaml
from rllib_portfolio.errors import ConfigError, DataError, MachineError, file_error
from rllib_portfolio.market import MarketData
from rllib_portfolio.new_folder import begun, is_unused
from rllib_portfolio.policies.checkpoint import newest_checkpoint, read_progress
from rllib_portfolio.revision import git_revision, version_of

CONFIG = "config.yaml"
RECORD = "run.json"
MARKET = "market.npz"
FINISHED = "finished.json"
"""Name of the file that marks a run of a search or a walk-forward analysis as finished."""
_CHANGEABLE = ("schedule", "resources")
"""Sections that may change when a run is resumed."""
_PACKAGES = ("rllib-portfolio", "ray", "torch", "gymnasium", "numpy", "pandas", "scipy", "scikit-learn", "statsmodels")


def create_run_folder(run_dir: Path, config: RunConfig, market: MarketData, market_file: Path | None = None) -> None:
    """Write configuration, record and market of a new run; if that fails, the files are removed.

    Args:
        run_dir: The folder.
        config: The configuration. Choices that depend on the number of assets are resolved before it is written.
        market: The prepared market.
        market_file: A file that holds the same market. If the file system can, it is linked and not written again.

    Raises:
        ConfigError: If the folder cannot be written or already holds something.
        MachineError: If the disk is full or fails.
    """
    require_fresh(run_dir)
    config = config.for_assets(market.num_assets, market.universe is not None)
    with begun(run_dir):
        _save_market(run_dir / MARKET, market, market_file)
        write_json(run_dir / RECORD, sealed(_record(config, market)))
        _write_config(run_dir, config)  # written last, since it marks the run as begun


def require_fresh(run_dir: Path) -> None:
    """Raise a `ConfigError` if the folder of a new run is not empty, is not a folder, or cannot be made."""
    if run_dir.is_dir() and is_unused(run_dir):
        return
    if run_dir.exists():
        raise ConfigError(
            f"output directory must be new or empty, got {run_dir}. Choose another --output-dir, or continue that run "
            f"with --resume {run_dir}."
        )
    above = next(folder for folder in run_dir.absolute().parents if folder.exists())
    reason = errno.ENOTDIR if not above.is_dir() else 0 if os.access(above, os.W_OK) else errno.EACCES
    if reason:
        got = f"{run_dir} ({os.strerror(reason)})"
        raise ConfigError(f"output directory must be writable, got {got}. Choose another --output-dir.")


def open_run_folder(run_dir: Path, overrides: dict[str, Any]) -> tuple[RunConfig, MarketData]:
    """Return configuration and market of a run that was started before.

    Args:
        run_dir: Its folder.
        overrides: Maps dotted settings to values that replace those of the configuration.

    Raises:
        ConfigError: If the folder holds no run, or its configuration or newest checkpoint was changed.
        DataError: If its market is damaged, or is the market of another run.
    """
    if not has_begun(run_dir):
        raise ConfigError(f"run must be a folder with {CONFIG} and {MARKET}, got {run_dir}. Name a run's folder.")
    _require_recorded_settings(run_dir)
    config, market = load_run_config(run_dir / CONFIG, overrides), MarketData.load(run_dir / MARKET)
    began_with = _read_record(run_dir).get("data_hash", market.data_hash)
    if market.data_hash != began_with:
        raise DataError(
            f"market must be the one that the run began with, got data_hash {market.data_hash} instead of {began_with} "
            f"({run_dir / MARKET}). Restore it."
        )
    note_file(config.model_dump(), run_dir / CONFIG)
    return config, market


@contextmanager
def removed_if_refused(run_dir: Path) -> Iterator[None]:
    """Remove the folder of a new run whose settings turn out to be unusable before anything was trained."""
    try:
        yield
    except ConfigError:
        if newest_checkpoint(run_dir) is None:
            shutil.rmtree(run_dir, ignore_errors=True)
        raise


def _require_recorded_settings(run_dir: Path) -> None:
    """Raise a `ConfigError` if the configuration differs from the run's record or from the newest checkpoint's.

    Settings that a checkpoint of a former version does not hold, or that may change on a resume, are not compared.
    """
    settings, record = read_yaml(run_dir / CONFIG), _read_record(run_dir)
    # `record_settings` may have been interrupted between its two writes: the configuration is then the former one.
    if settings not in (record.get("config"), record.get("former_config")):
        raise _other_settings(run_dir, f"the run's {RECORD}", record.get("config"), settings)
    if (checkpoint := newest_checkpoint(run_dir)) is not None:
        trained = read_progress(checkpoint).get("config", {})
        if isinstance(trained, dict):
            trained = {section: values for section, values in trained.items() if section not in _CHANGEABLE}
        ours, theirs = _common(settings, trained), _common(trained, settings)
        if ours != theirs:
            raise _other_settings(run_dir, checkpoint.name, theirs, ours)


def _other_settings(run_dir: Path, owner: str, recorded: Any, got: Any) -> ConfigError:
    name, *values = first_difference("settings", recorded, got)
    recorded, got = map(reprlib.repr, values)
    return ConfigError(
        f"{name} must be that of {owner}, {recorded}, got {got} ({run_dir / CONFIG}). Restore that file; for other "
        f"settings start a new run with --config {run_dir / CONFIG}."
    )


def _common(one: Any, other: Any) -> Any:
    """Return the part of the nested settings `one` that `other`, perhaps of another version, has as well."""
    if not isinstance(one, dict) or not isinstance(other, dict):
        return one
    return {name: _common(value, other[name]) for name, value in one.items() if name in other}


def first_difference(name: str, recorded: Any, wanted: Any) -> tuple[str, Any, Any]:
    """Return the name and both values of the first difference between two nested JSON values.

    Args:
        name: Name of the two values, to which the path of the difference is appended.
        recorded: One value.
        wanted: The other one.
    """
    inner: list[tuple[str, Any, Any]] = []
    if isinstance(recorded, dict) and isinstance(wanted, dict):
        start = f"{name} " if name.endswith("settings") else f"{name}."
        inner = [(f"{start}{key}", recorded.get(key), wanted.get(key)) for key in {**recorded, **wanted}]
    elif isinstance(recorded, list) and isinstance(wanted, list) and len(recorded) == len(wanted):
        inner = [(f"{name}[{i}]", *values) for i, values in enumerate(zip(recorded, wanted, strict=True))]
    differing = next((leaf for leaf in inner if leaf[1] != leaf[2]), None)
    return (name, recorded, wanted) if differing is None else first_difference(*differing)


def has_begun(run_dir: Path) -> bool:
    """Return whether a folder holds the files with which a run is opened."""
    return not _missing(run_dir)


def _missing(run_dir: Path) -> list[str]:
    return [name for name in (CONFIG, MARKET) if not (run_dir / name).is_file()]


def require_kept(run_dir: Path) -> None:
    """Raise a `MachineError` if files that a run cannot be continued or tested without were removed during training."""
    if missing := _missing(run_dir):
        raise MachineError(
            f"run folder must stay as it is during training, got no {' and no '.join(missing)} ({run_dir}). Nothing "
            "more was written. Bring back what was removed, then use --resume, or start a new run."
        )


def record_settings(run_dir: Path, config: RunConfig) -> None:
    """Write the settings with which a run continues into its configuration and its record.

    Args:
        run_dir: Folder of the run.
        config: The configuration with which the run continues.

    Raises:
        ConfigError: If the files cannot be written.
        MachineError: If the disk is full or fails.
    """
    settings = config.model_dump(mode="json")
    former = read_yaml(run_dir / CONFIG)
    if former == settings:
        return
    try:
        changed = {"config": settings, "former_config": former}
        write_json(run_dir / RECORD, sealed(_read_record(run_dir) | changed))
        _write_config(run_dir, config)
    except OSError as error:
        text = f"run must be a folder that can be written, got {run_dir} ({error.strerror})"
        raise file_error(error, text, "Correct its permissions.") from None


def _write_config(run_dir: Path, config: RunConfig) -> None:
    with whole_file(run_dir / CONFIG) as file:
        file.write_text(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))


def _save_market(path: Path, market: MarketData, market_file: Path | None) -> None:
    if market_file is not None:
        with suppress(OSError):  # another file system, or one without links
            path.hardlink_to(market_file)
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
        "origin": origin(),
        **provenance(),
    }


def is_from_elsewhere(folder: Path, record: str = RECORD) -> bool:
    """Return whether a folder's record says that another user or machine began it.

    Whoever wrote the folder can also change its record, so that this is a reason for a warning, but no protection.

    Args:
        folder: The folder.
        record: Name of the record's file in it.

    Raises:
        ConfigError: If there is no record, or it cannot be read.
    """
    return _read_record(folder, record).get("origin") != origin()


def _read_record(folder: Path, name: str = RECORD) -> dict[str, Any]:
    return read_json(folder / name, "run", "Restore it: it holds what the run's settings are checked against.")


def origin() -> str:
    """Return a hash that identifies this machine and user without naming them."""
    return hashlib.sha256(f"{platform.node()} {os.getuid()}".encode()).hexdigest()[:16]


def provenance() -> dict[str, Any]:
    """Return the software behind a result, as JSON values: git revision, versions of Python and of packages."""
    return {
        "git_revision": git_revision(),
        "python": platform.python_version(),
        "versions": {name: version_of(name) for name in _PACKAGES},
    }
