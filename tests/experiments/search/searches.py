"""Searches that take seconds: trials of six iterations, evaluated after every second one or so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna

from rllib_portfolio.experiments.progress import Progress, Watch
from rllib_portfolio.experiments.runner import Place
from rllib_portfolio.experiments.search.record import SearchRecord
from rllib_portfolio.experiments.search.session import SearchOutcome, SearchSession
from rllib_portfolio.experiments.search.settings import SearchSettings
from rllib_portfolio.experiments.search.space import SearchSpace
from rllib_portfolio.experiments.search.study import open_storage, open_study, study_path
from tests.tiny_runs import tiny_config

MAX_STEPS = 384
INTERVAL = 128
ONE_AT_A_TIME = Place(num_cpus=0.5, max_concurrent=1)


@dataclass
class TinySearch:
    """A search in its folder, and what it told on the way."""

    session: SearchSession
    progress: Progress | None = None
    retrained: Progress | None = None
    outcome: SearchOutcome | None = None
    shown: list[tuple[str, ...]] = field(default_factory=list)

    @property
    def output(self) -> Path:
        return self.session.output

    @property
    def study(self) -> optuna.Study:
        """The study as it is read from the file."""
        algo = self.session.record.config.algo
        return open_study(open_storage(f"sqlite:///{study_path(self.output, algo)}"), algo)

    def search(self, place: Place = ONE_AT_A_TIME) -> None:
        def note(progress: Progress) -> None:
            self.progress = progress

        self.session.search(place, Watch(note))

    def retrain(self, place: Place = ONE_AT_A_TIME) -> None:
        def note(progress: Progress) -> None:
            self.retrained = progress

        self.session.retrain(place, Watch(note))


def start_search(
    output: Path, settings: Mapping[str, Any], space: Mapping[str, Any], *config: Mapping[str, Any]
) -> TinySearch:
    """A search that is ready to begin."""
    base = tiny_config(*config)
    asked = SearchSettings(**{"max_steps": MAX_STEPS, "report_interval": INTERVAL, "grace_steps": INTERVAL, **settings})
    session = SearchSession(SearchRecord(asked, base, SearchSpace.parse(space, base, "tests")), output)
    session.start()
    return TinySearch(session)
