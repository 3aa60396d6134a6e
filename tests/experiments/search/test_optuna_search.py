"""Optuna's side of a search, driven by hand: what is proposed, and how the study files what became of it."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest
from optuna.storages import BaseStorage, InMemoryStorage
from optuna.trial import FrozenTrial, TrialState
from ray.exceptions import RayTaskError
from ray.tune.search import Searcher

from rllib_portfolio.config.files import load_run_config
from rllib_portfolio.errors import ClaimLostError, ConfigError
from rllib_portfolio.experiments.progress import Watch
from rllib_portfolio.experiments.search.optuna_search import (
    IS_FINISHED,
    NAME,
    NUMBER,
    OBJECTIVE,
    OVERRIDES,
    SPEC,
    StudySearch,
)
from rllib_portfolio.experiments.search.record import SearchRecord
from rllib_portfolio.experiments.search.runner import _Reporter, _StopOnRequest
from rllib_portfolio.experiments.search.session import SearchSession
from rllib_portfolio.experiments.search.settings import SearchSettings
from rllib_portfolio.experiments.search.space import SearchSpace
from rllib_portfolio.experiments.search.study import (
    BEST,
    ERROR,
    STEPS,
    TRAINING_S,
    best_trials,
    num_ended,
    open_storage,
    open_study,
    study_path,
)
from rllib_portfolio.new_folder import IN_USE
from rllib_portfolio.runs import folder_lock
from rllib_portfolio.runs.folder_lock import Holder
from tests.market.tables import NONE, days

SPACE = SearchSpace.parse(
    {
        "training.learning_rate": {"low": 1e-5, "high": 1e-3, "log": True},
        "training.clip": {"low": 0.1, "high": 0.4},
        "network.hidden_sizes": {"choices": [[16, 16], [32, 16]]},
    },
    load_run_config(None, {}),
    "space",
)


@pytest.fixture
def storage() -> BaseStorage:
    return InMemoryStorage()


def searcher(storage: BaseStorage, **settings: Any) -> StudySearch:
    return StudySearch(SPACE, SearchSettings(**{"num_samples": 4, **settings}), storage, "ppo")


def result(steps: int, objective: float, best: float | None = None, *, is_finished: bool = False) -> dict[str, Any]:
    return {
        OBJECTIVE: objective,
        BEST: objective if best is None else best,
        STEPS: steps,
        TRAINING_S: steps / 1000,
        IS_FINISHED: is_finished,
    }


def spec(search: StudySearch, trial_id: str) -> dict[str, Any]:
    suggestion = search.suggest(trial_id)
    assert isinstance(suggestion, dict)
    found: dict[str, Any] = suggestion[SPEC]
    return found


def trials(storage: BaseStorage) -> list[FrozenTrial]:
    return open_study(storage, "ppo").get_trials()


# ---------------------------------------------------------------- what became of trials


def test_finished_pruned_failed_and_running_trials_are_told_apart(storage: BaseStorage) -> None:
    search = searcher(storage)
    specs = [spec(search, trial_id) for trial_id in "abcd"]
    assert [one[NUMBER] for one in specs] == [0, 1, 2, 3]
    assert [one[NAME] for one in specs] == ["trial_0000", "trial_0001", "trial_0002", "trial_0003"]
    for trial_id, first in zip("abcd", (0.5, -0.5, 0.1, 0.2), strict=True):
        search.on_trial_result(trial_id, result(128, first))
    search.on_trial_result("a", result(256, 0.9))
    search.on_trial_complete("a", result(320, 0.7, 0.9, is_finished=True))  # the best was not the last
    search.on_trial_complete("b", result(256, -0.75, -0.5))  # the scheduler stopped it
    search.on_trial_complete("c", error=True)  # how Tune tells of a failure, before its reason is known
    assert trials(storage)[2].state == TrialState.RUNNING
    search.fail("c", "RuntimeError: lost")

    finished, pruned, failed, running = trials(storage)
    assert [trial.state for trial in (finished, pruned, failed, running)] == [
        TrialState.COMPLETE,
        TrialState.PRUNED,
        TrialState.FAIL,
        TrialState.RUNNING,
    ]
    assert [trial.value for trial in (finished, pruned, failed, running)] == [0.9, -0.5, None, None]
    assert finished.intermediate_values == {128: 0.5, 256: 0.9, 320: 0.7}
    assert pruned.intermediate_values == {128: -0.5, 256: -0.75}  # its last, too, which Tune does not pass on
    assert failed.intermediate_values == {128: 0.1}
    assert finished.user_attrs == {BEST: 0.9, STEPS: 320, TRAINING_S: 0.32}
    assert failed.user_attrs == {BEST: 0.1, STEPS: 128, TRAINING_S: 0.128, ERROR: "RuntimeError: lost"}
    for trial, one in zip((finished, pruned, failed, running), specs, strict=True):
        assert SPACE.overrides(trial.params) == one[OVERRIDES]
    assert all(trial.datetime_complete is not None for trial in (finished, pruned, failed))
    study = open_study(storage, "ppo")
    assert num_ended(study) == 3
    assert [trial.number for trial in best_trials(study, 3)] == [0]

    reporter = _Reporter(study.get_trials(), SearchSettings(num_samples=4, max_steps=320), Watch(), search)
    progress = reporter.progress
    assert [(trial.run, trial.status, trial.steps, trial.error) for trial in progress.outcomes] == [
        ("trial_0000", "finished", 320, None),
        ("trial_0001", "pruned", 256, None),
        ("trial_0002", "failed", 128, "RuntimeError: lost"),
    ]
    assert progress.num_before == 3
    assert progress.best is not None
    assert (progress.best.run, progress.best.validation_sharpe) == ("trial_0000", 0.9)
    assert (progress.steps, progress.total_steps, progress.steps_made) == (3 * 320, 4 * 320, 0)


def test_an_evaluation_that_comes_again_after_a_retry_is_ignored_without_a_warning(storage: BaseStorage) -> None:
    search = searcher(storage)
    spec(search, "a")
    search.on_trial_result("a", result(128, 0.5))
    search.on_trial_result("a", result(256, 0.25, 0.5))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        search.on_trial_result("a", result(256, 0.75))
        search.on_trial_result("a", result(384, 0.125, 0.5))
        search.write()
    assert trials(storage)[0].intermediate_values == {128: 0.5, 256: 0.25, 384: 0.125}
    assert trials(storage)[0].user_attrs[BEST] == 0.5


def test_a_trial_that_a_person_put_into_the_study_is_tried_first(storage: BaseStorage) -> None:
    params = {"training.learning_rate": 1e-4, "training.clip": 0.2, "network.hidden_sizes": "[32, 16]"}
    open_study(storage, "ppo").enqueue_trial(params)
    search = searcher(storage, num_samples=1)
    assert spec(search, "a")[OVERRIDES] == params | {"network.hidden_sizes": [32, 16]}
    assert [trial.state for trial in trials(storage)] == [TrialState.RUNNING]
    assert search.suggest("b") == Searcher.FINISHED


# ---------------------------------------------------------------- seeds


def drawn(search: StudySearch, count: int) -> list[dict[str, Any]]:
    """Return the proposed settings, where each trial finishes with its learning rate as its value."""
    found = []
    for number in range(count):
        one = spec(search, str(number))
        search.on_trial_complete(str(number), result(128, one[OVERRIDES]["training.learning_rate"], is_finished=True))
        found.append(one[OVERRIDES])
    return found


@pytest.mark.parametrize("name", ["optuna", "random"])
def test_a_seeded_search_proposes_the_same_again_and_another_seed_something_else(name: str) -> None:
    first, again, other = (
        drawn(searcher(InMemoryStorage(), num_samples=14, search=name, seed=seed), 14) for seed in (3, 3, 4)
    )  # 10 trials before the estimator of TPE takes over
    assert first == again
    assert not any(one in first for one in other)


@pytest.mark.parametrize("name", ["optuna", "random"])
def test_a_continued_search_does_not_propose_its_first_trials_again(name: str, storage: BaseStorage) -> None:
    before = drawn(searcher(storage, num_samples=3, search=name), 3)
    after = drawn(searcher(storage, num_samples=6, search=name), 3)
    assert not any(one in before for one in after)
    assert [trial.number for trial in trials(storage)] == list(range(6))


# ---------------------------------------------------------------- after an interruption


def test_what_was_interrupted_comes_first_with_number_settings_and_reports(tmp_path: Path) -> None:
    url = f"sqlite:///{study_path(tmp_path, 'ppo')}"
    driver = open_storage(url)
    first = searcher(driver)
    before = [spec(first, trial_id) for trial_id in "abc"]
    first.on_trial_complete("a", result(320, 0.9, is_finished=True))
    first.on_trial_result("b", result(128, 0.5))
    first.on_trial_result("c", result(128, 0.1))
    first.on_trial_result("c", result(256, 0.3))
    first.write()
    finished = trials(driver)[0]

    storage = open_storage(url)  # another process
    second = searcher(storage)
    assert [spec(second, trial_id) for trial_id in "xy"] == before[1:]
    assert spec(second, "z")[NUMBER] == 3
    assert second.suggest("w") == Searcher.FINISHED
    second.on_trial_result("x", result(128, 0.75))  # it had no checkpoint after that one
    second.on_trial_result("x", result(256, 0.6))
    second.on_trial_complete("y", result(320, 0.2, 0.3, is_finished=True))
    after = trials(storage)
    assert after[0] == finished
    assert after[1].intermediate_values == {128: 0.5, 256: 0.6}
    assert after[2].intermediate_values == {128: 0.1, 256: 0.3, 320: 0.2}
    assert (after[2].state, after[2].value) == (TrialState.COMPLETE, 0.3)
    assert [trial.number for trial in after] == [0, 1, 2, 3]


def test_a_driver_that_was_killed_while_it_drew_leaves_a_trial_that_gets_the_rest_of_its_settings(
    storage: BaseStorage,
) -> None:
    begun = open_study(storage, "ppo", optuna.samplers.RandomSampler(seed=0)).ask()
    clip = begun.suggest_float("training.clip", 0.1, 0.4)  # then kill -9
    search = searcher(storage, num_samples=1)
    overrides = spec(search, "a")[OVERRIDES]
    assert set(overrides) == set(SPACE.dimensions)
    assert overrides["training.clip"] == clip
    (trial,) = trials(storage)
    assert SPACE.overrides(trial.params) == overrides


def test_layers_that_many_assets_do_not_have_are_not_searched(tmp_path: Path) -> None:
    walks = 50.0 * np.exp(np.cumsum(np.random.default_rng(0).normal(0.0, 0.01, (400, 50)), axis=0))
    frame = pd.DataFrame(walks, days(400), [f"A{number}" for number in range(50)])
    frame.to_csv(tmp_path / "p.csv", index_label="date")
    market = {"market.data": str(tmp_path / "p.csv"), "market.features": NONE.model_dump()}
    config = load_run_config(None, market)
    session = SearchSession(SearchRecord(SearchSettings(), config, SPACE), tmp_path / "out")
    with pytest.raises(
        ConfigError, match=r"got network.hidden_sizes, which network.architecture auto sets to \[16\] for 50"
    ):
        session.prepare()
    stated = load_run_config(None, {**market, "network.architecture": "flat"})
    SearchSession(SearchRecord(SearchSettings(), stated, SPACE), tmp_path / "out").prepare()


def test_a_search_whose_place_was_taken_over_ends_and_files_no_trial_as_failed(tmp_path: Path) -> None:
    lost, failed = (
        ClaimLostError("trials is now written by process 7"),
        SimpleNamespace(config={SPEC: {NAME: "trial_0000"}}),
    )
    failed.pickled_error_file = tmp_path / "error.pkl"
    failed.pickled_error_file.write_bytes(pickle.dumps(RayTaskError("run_trial", "Traceback", lost)))
    filed: list[Any] = []
    reporter = _Reporter([], SearchSettings(num_samples=1), Watch(), SimpleNamespace(fail=filed.append))
    for told in (reporter.on_trial_recover, reporter.on_trial_error):
        with pytest.raises(ClaimLostError, match="process 7"):
            told(1, [], failed)
    assert filed == []


def test_a_search_asks_whether_its_place_was_taken_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_lock, "RENEWED_EVERY_S", 0.01)
    stopper = _StopOnRequest(lambda: False)

    def search_until_lost() -> None:
        with folder_lock.only_writer(tmp_path, is_new=True):
            assert not stopper.stop_all()
            other = Holder.this_process().model_copy(update={"key": "another"})
            (tmp_path / IN_USE).write_text(other.model_dump_json())
            while not stopper.stop_all():
                pass

    with pytest.raises(ClaimLostError, match=f"{tmp_path} is now written by process "):
        search_until_lost()


def test_two_searches_do_not_keep_their_trials_in_one_place_at_a_time(tmp_path: Path) -> None:
    store = tmp_path / "store"
    record = SearchRecord(SearchSettings(), load_run_config(None, {}), SPACE, storage_path=str(store))
    one, other = SearchSession(record, tmp_path / "one"), SearchSession(record, tmp_path / "other")
    with one.only_writer(is_new=True):
        assert sorted(path.parent.name for path in store.glob(f"*/{IN_USE}")) == ["retrained", "trials"]
        record.task(one.output).folders.require_new()
        with pytest.raises(ConfigError, match=f"^{store}/trials is in use by process "):
            other.only_writer(is_new=False).__enter__()
    assert not store.exists()
    with SearchSession(record, tmp_path).only_writer(is_new=True):  # in the search's own folder
        assert not store.exists()
