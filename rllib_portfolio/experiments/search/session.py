"""A new or resumed search in its folder, up to its output files."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
from optuna.storages import BaseStorage

from rllib_portfolio.config.files import with_overrides
from rllib_portfolio.errors import ConfigError
from rllib_portfolio.experiments.progress import Watch
from rllib_portfolio.experiments.runner import Place
from rllib_portfolio.experiments.search.outputs import (
    STATES,
    write_best_config,
    write_results,
    write_summary,
    write_trial_returns,
)
from rllib_portfolio.experiments.search.plots import write_plots
from rllib_portfolio.experiments.search.record import SearchRecord
from rllib_portfolio.experiments.search.retraining import FOLDER, Candidate, Retraining
from rllib_portfolio.experiments.search.runner import search
from rllib_portfolio.experiments.search.study import (
    best_trials,
    num_ended,
    open_storage,
    open_study,
    require_new_study,
    trial_name,
)
from rllib_portfolio.market import MarketData, load_market
from rllib_portfolio.market.plausibility import require_accepted_moves
from rllib_portfolio.runs.folder import MARKET
from rllib_portfolio.runs.storage import RunStorage
from rllib_portfolio.runs.validation import best_validation_returns, equal_weight_returns
from rllib_portfolio.statistics.metrics import sharpe_ratio


@dataclass(frozen=True, slots=True)
class SearchOutcome:
    """The result of a search.

    Attributes:
        counts: Number of trials in each state.
        candidates: The best trials on fresh seeds, best median first; empty if none was trained again.
        best: Name and validation Sharpe ratio of the trial whose settings are in `best_config.yaml`, or None.
        equal_weight_sharpe: Validation Sharpe ratio of 1/N; None if it is undefined.
        num_left: Number of trials that are still missing.
        files: Paths of the written files.
    """

    counts: Mapping[str, int]
    candidates: tuple[Candidate, ...]
    best: tuple[str, float] | None
    equal_weight_sharpe: float | None
    num_left: int
    files: tuple[Path, ...]


class SearchSession:
    """A search in its folder, as this process runs it.

    Args:
        record: The record of the search.
        output: Absolute path of its folder.
    """

    def __init__(self, record: SearchRecord, output: Path) -> None:
        self.record, self.output = record, output
        self._candidates: tuple[Candidate, ...] = ()
        self._retraining: Retraining | None = None
        self._prepared: MarketData | None = None

    @cached_property
    def market(self) -> MarketData:
        """The market on which all trials are evaluated."""
        return MarketData.load(self.output / MARKET)

    @cached_property
    def equal_weight_sharpe(self) -> float | None:
        """Sharpe ratio of 1/N on the validation window, after the costs that every trial pays; None if undefined."""
        market, (start, stop) = self.market, self.market.windows["validation"]
        returns = equal_weight_returns(market, self.record.config)
        sharpe = float(sharpe_ratio(returns, market.cash_returns[start:stop], market.periods_per_year))
        return sharpe if math.isfinite(sharpe) else None

    @cached_property
    def _storage(self) -> BaseStorage:
        return open_storage(self.record.storage_url(self.output))

    @property
    def _study(self) -> optuna.Study:
        return open_study(self._storage, self.record.config.algo)

    @property
    def trials_root(self) -> str:
        """Path or URI of the folder of the trials' run folders."""
        return self.record.task(self.output).folders.root

    @contextmanager
    def only_writer(self, *, is_new: bool) -> Iterator[None]:
        """Keep other processes from writing into the trials' storage, if that is not in the search's own folder.

        Args:
            is_new: Whether the search is a new one, whose storage need not exist.

        Raises:
            ConfigError: If another process writes there.
        """
        with ExitStack() as stack:
            place = self.record.storage_path
            if place is not None and not Path(place).is_relative_to(self.output):
                folders = self.record.task(self.output).folders
                for runs in (folders, folders.beside(FOLDER)):
                    stack.enter_context(runs.only_writer("", is_new=is_new))
            yield

    def prepare(self) -> None:
        """Prepare the market of a new search without writing any file.

        Raises:
            ConfigError: If the database or the storage path holds another search, or they or the market cannot be used.
            DataError: If the prices cannot be used, or hold extreme moves that are not accepted.
        """
        record = self.record
        if record.storage_path is not None:
            record.task(self.output).folders.require_new()
        if record.storage is not None:
            require_new_study(self._storage, record.config.algo, record.storage)
        self._prepared = load_market(record.config.market)
        require_accepted_moves(self._prepared, record.config.market)
        self._require_searched_network(self._prepared)

    def _require_searched_network(self, market: MarketData) -> None:
        """Raise a `ConfigError` if the search is over layer sizes that the network for these assets does not use."""
        name, config, num_assets = "network.hidden_sizes", self.record.config, market.num_assets
        chosen = config.for_assets(num_assets, market.universe is not None).network
        if name in self.record.space.distributions() and chosen.hidden_sizes != config.network.hidden_sizes:
            raise ConfigError(
                f"the search must be over settings that are in force, got {name}, which network.architecture auto sets "
                f"to {list(chosen.hidden_sizes)} for {num_assets} assets. Start from tune_configs/ppo_per_asset.yaml, "
                "or set network.architecture."
            )

    def start(self) -> None:
        """Make the folder with the record and the market of a new search.

        Raises:
            ConfigError: If the folder is not new, or for the reasons of `prepare`, which is called if it was not yet.
        """
        if self._prepared is None:
            self.prepare()
        self.record.start(self.output, self._prepared)
        self._prepared = None

    @property
    def num_left(self) -> int:
        """Number of trials that are still missing."""
        return max(0, self.record.settings.num_samples - num_ended(self._study))

    @property
    def retraining(self) -> Retraining:
        """The retraining of the best trials on fresh seeds. It may be read only after the search has ended."""
        if self._retraining is None:
            self._retraining = Retraining(self.record.task(self.output), self._study, self.record.space)
        return self._retraining

    def search(self, place: Place, watch: Watch) -> None:
        """Run the trials that are missing.

        Args:
            place: Resources of each trial.
            watch: Receives the progress, and may stop the search.

        Raises:
            ConfigError: If the cluster has no room for a trial.
            ClaimLostError: If another process has taken over the storage of the trials.
        """
        self.record.write(self.output)  # the number of trials may have grown
        record = self.record
        self._timed(lambda: search(record.task(self.output), record.space, self.market, self._storage, place, watch))

    def retrain(self, place: Place, watch: Watch) -> None:
        """Train the best trials again on fresh seeds.

        Args:
            place: Resources of each run.
            watch: Receives the progress, and may stop the runs.

        Raises:
            ClaimLostError: If another process has taken over the storage of the runs.
        """
        retraining = self.retraining
        if retraining.num_left:
            self._timed(lambda: retraining.train(self.market, place, watch))
        self._candidates = retraining.candidates

    def finish(self) -> SearchOutcome:
        """Write tables, plots, returns, summary and the best configuration."""
        study, record, algo = self._study, self.record, self.record.config.algo
        folders = record.task(self.output).folders
        best = self._best(study)
        winner = self._candidates[0] if self._candidates else None
        written = [
            write_results(study, algo, self.output),
            write_trial_returns(study, partial(_validation_returns, folders), self.output),
            write_summary(study, self._description(), self.output, record.wall_s, self._winner()),
            write_plots(study, algo, self.output, self.equal_weight_sharpe),
        ]
        if best is not None:
            written.append(self._write_best(study, best, winner))
        return SearchOutcome(
            counts=Counter(STATES[trial.state] for trial in study.get_trials(deepcopy=False)),
            candidates=self._candidates,
            best=best,
            equal_weight_sharpe=self.equal_weight_sharpe,
            num_left=self.num_left,
            files=tuple(path for path in written if path is not None),
        )

    def _description(self) -> dict[str, Any]:
        settings = self.record.settings.model_dump()
        return {
            "algo": self.record.config.algo,
            **{name: settings[name] for name in ("seed", "max_steps", "search", "scheduler")},
            "periods_per_year": self.market.periods_per_year,
            "equal_weight_sharpe": self.equal_weight_sharpe,
        }

    def _winner(self) -> dict[str, Any] | None:
        if not self._candidates:
            return None
        return {**self._candidates[0].to_json(), "candidates": [found.to_json() for found in self._candidates]}

    def _best(self, study: optuna.Study) -> tuple[str, float] | None:
        """Return the best candidate on fresh seeds or, if none was trained again, the best trial of the search."""
        if self._candidates:
            return self._candidates[0].name, self._candidates[0].median
        found = best_trials(study, 1)
        return (trial_name(found[0].number), float(found[0].value or 0.0)) if found else None

    def _write_best(self, study: optuna.Study, best: tuple[str, float], winner: Candidate | None) -> Path:
        name, sharpe = best
        trial = next(trial for trial in study.get_trials(deepcopy=False) if trial_name(trial.number) == name)
        settings, record = self.record.settings, self.record
        config = with_overrides(
            record.config,
            {"schedule.total_timesteps": settings.max_steps, **record.space.overrides(trial.params)},
            name,
        )
        found = f"Found by a search over {num_ended(study)} trials, as {name}; judged at {settings.max_steps:,} steps."
        luck = (
            f"Validation Sharpe ratio after costs {sharpe:.3f}, not trained again on fresh seeds."
            if winner is None
            else f"Validation Sharpe ratio after costs {winner.searched:.3f} in the search, median {winner.median:.3f} "
            f"of {len(winner.retrained)} fresh seeds."
        )
        bar = "undefined" if self.equal_weight_sharpe is None else f"{self.equal_weight_sharpe:.3f}"
        return write_best_config(config, [found, luck, f"1/N on the same days: {bar}."], self.output)

    def _timed(self, work: Callable[[], None]) -> None:
        """Call `work`, and add its duration to the record even if it raises an error."""
        started = time.monotonic()
        try:
            work()
        finally:
            self.record = self.record.after(time.monotonic() - started)
            self.record.write(self.output)


def _validation_returns(folders: RunStorage, number: int) -> pd.Series | None:
    """Return the daily net returns of a trial's best policy on the validation window, or None if it has none."""
    with folders.fetched(trial_name(number)) as folder:
        return best_validation_returns(folder)
