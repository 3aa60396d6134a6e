"""The record of a search, kept beside its study so that `--resume` needs no other argument.

OUTPUT/<algo>_search.json   settings, configuration, search space, places, command, software
OUTPUT/<algo>_study.db      the Optuna study, unless it is kept elsewhere
OUTPUT/market.npz           the prepared market, the same for all trials
OUTPUT/trials/trial_0007/   a complete run folder for each trial, unless they are kept elsewhere
OUTPUT/retrained/...        the same for the best trials on fresh seeds
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

from rllib_portfolio.command_names import as_invoked
from rllib_portfolio.config import RUN_CONFIGS, RunConfig
from rllib_portfolio.config.consent import consented
from rllib_portfolio.config.user_values import validated
from rllib_portfolio.errors import ConfigError
from rllib_portfolio.experiments.record import is_new_folder, parsed_record, write_record
from rllib_portfolio.experiments.search.settings import SearchSettings
from rllib_portfolio.experiments.search.space import SearchSpace
from rllib_portfolio.experiments.search.study import study_url, without_password
from rllib_portfolio.experiments.search.trial import TrialTask
from rllib_portfolio.market import MarketData
from rllib_portfolio.new_folder import begun
from rllib_portfolio.runs.folder import MARKET, origin
from rllib_portfolio.runs.storage import RunStorage, join_place

TRIALS = "trials"
_SUFFIX = "_search.json"
_REMEDY = "Restore it, or choose another --output-dir."


@dataclass(frozen=True, slots=True)
class SearchRecord:
    """The settings and places of a search.

    Attributes:
        settings: Settings of the search.
        config: The configuration that trials start from.
        space: The search space.
        storage: Database URL of the study; None for the SQLite file in the output folder. Records hold it without its
            password.
        storage_path: Absolute path or URI of the storage of run folders; None for the output folder.
        command: The command that began the search.
        wall_s: Duration of its sessions in seconds.
        origin: Hash of the machine and user that began it, see `runs.folder.is_from_elsewhere`.
    """

    settings: SearchSettings
    config: RunConfig
    space: SearchSpace
    storage: str | None = None
    storage_path: str | None = None
    command: str = ""
    wall_s: float = 0.0
    origin: str = field(default_factory=origin)

    @classmethod
    def read(cls, output: Path) -> Self:
        """Return the record in a folder.

        Raises:
            ConfigError: If there is no record, or it cannot be read.
        """
        path = _record_path(output)
        if path is None:
            raise ConfigError(
                f"--resume must name the folder of a search, got {output}, which holds no *{_SUFFIX}. Name a folder "
                f"that {as_invoked('tune.py')} wrote."
            )
        with parsed_record(path, "search", _REMEDY) as values:
            config = validated(RUN_CONFIGS[values["config"]["algo"]], values["config"], str(path))
            if not all(isinstance(values[name], str | None) for name in ("storage", "storage_path")):
                raise TypeError("storage or storage_path that is no text")
            return cls(
                settings=validated(SearchSettings, values["settings"], str(path)),
                config=config,
                space=SearchSpace.parse(values["search"], config, str(path)),
                storage=values["storage"],
                storage_path=values["storage_path"],
                command=values["command"],
                wall_s=float(values["wall_s"]),
                origin=values.get("origin", ""),
            )

    def start(self, output: Path, market: MarketData) -> None:
        """Write the record and the market of a new search.

        Args:
            output: The folder of the search, which must be new or empty.
            market: The prepared market, the same for all trials.

        Raises:
            ConfigError: If the folder cannot be written, or already holds something.
            MachineError: If the disk is full or fails. The written files are then removed.
        """
        require_new_folder(output)
        with begun(output):
            market.save(output / MARKET)
            self.write(output)

    def write(self, output: Path) -> None:
        """Write the record in place of an earlier one."""
        values = {
            "command": self.command,
            "settings": self.settings.model_dump(mode="json"),
            "config": self.config.model_dump(mode="json"),
            "search": self.space.to_json(),
            "storage": None if self.storage is None else without_password(self.storage),
            "storage_path": self.storage_path,
            "wall_s": self.wall_s,
            "origin": self.origin,
        }
        write_record(output / self.file_name, values)

    @property
    def file_name(self) -> str:
        """Name of the record's file in the folder of the search."""
        return f"{self.config.algo}{_SUFFIX}"

    def after(self, seconds: float) -> Self:
        """Return the record with the duration of a session added."""
        return replace(self, wall_s=round(self.wall_s + seconds, 3))

    def storage_url(self, output: Path) -> str:
        """Return the database URL of the study."""
        return self.storage or study_url(output, self.config.algo)

    def task(self, output: Path) -> TrialTask:
        """Return the settings that all trials share."""
        folders = RunStorage(join_place(self.storage_path or str(output), TRIALS)).under_claims()
        return TrialTask(self.settings, self.config, folders, output / MARKET, consented())


def require_new_folder(output: Path) -> None:
    """Check that a new search can write into a folder.

    Raises:
        ConfigError: If the folder exists and is not empty. If it holds a search, the message says how to continue it.
    """
    if is_new_folder(output):
        return
    if output.is_dir() and (path := _record_path(output)) is not None:
        algo = path.name.removesuffix(_SUFFIX)
        raise ConfigError(
            f"output directory must be new or empty, got {output}, which holds a search of {algo}. Continue it with "
            f"--resume {output}, or choose another --output-dir."
        )
    raise ConfigError(f"output directory must be new or empty, got {output}. Choose another --output-dir.")


def _record_path(output: Path) -> Path | None:
    return next(iter(sorted(output.glob(f"*{_SUFFIX}"))), None) if output.is_dir() else None
