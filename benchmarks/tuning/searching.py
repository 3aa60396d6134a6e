"""One search as the benchmarks run it: `SearchSession.search` in a Ray session that has been started, timed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.tuning.timing import Clock
from rllib_portfolio.cli.console import quieten_libraries, ray_session
from rllib_portfolio.config.files import SEARCH, load_run_config, read_yaml
from rllib_portfolio.config.user_values import validated
from rllib_portfolio.experiments.search.record import SearchRecord
from rllib_portfolio.experiments.search.runner import Place, Watch
from rllib_portfolio.experiments.search.session import SearchSession
from rllib_portfolio.experiments.search.settings import SearchSettings
from rllib_portfolio.experiments.search.space import SearchSpace

PPO = Path(__file__).resolve().parents[2] / "tune_configs" / "ppo.yaml"


@contextmanager
def started_ray(record: SearchRecord) -> Iterator[None]:
    """Ray on this machine alone, as tune.py starts it."""
    quieten_libraries()
    with ray_session(record.config, None):
        yield


def ppo_record(settings: Mapping[str, Any]) -> SearchRecord:
    """A search over tune_configs/ppo.yaml: the bundled universe, PPO's defaults and its search space."""
    config = load_run_config(PPO, {"resources.device": "cpu"})
    space = SearchSpace.parse(read_yaml(PPO).get(SEARCH), config, str(PPO))
    return SearchRecord(validated(SearchSettings, settings, "benchmark"), config, space)


def searched(record: SearchRecord, output: Path, place: Place) -> tuple[SearchSession, Clock]:
    """A whole search in a new folder, and when its trials did what."""
    session, clock = SearchSession(replace(record, command="benchmark"), output), Clock()
    session.start()
    assert session.market is not None  # read before the clock starts
    clock.start()
    session.search(place, Watch(callbacks=(clock,)))
    clock.stop()
    return session, clock
