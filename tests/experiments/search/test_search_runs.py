"""Whole searches on this machine: who is stopped, what is left of trials, what becomes of one that fails."""

from __future__ import annotations

import shutil
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
from optuna.trial import FrozenTrial, TrialState

from rllib_portfolio.config.files import load_run_config, with_overrides
from rllib_portfolio.errors import ConfigError
from rllib_portfolio.experiments.progress import Watch
from rllib_portfolio.experiments.runner import Place
from rllib_portfolio.experiments.search.record import SearchRecord
from rllib_portfolio.experiments.search.session import SearchSession
from rllib_portfolio.experiments.search.stopping import MIN_OTHERS
from rllib_portfolio.experiments.search.study import BEST, ERROR, STEPS, trial_name
from rllib_portfolio.policies.checkpoint import checkpoints, read_progress
from rllib_portfolio.reporting.search_trials import TuningRecord
from rllib_portfolio.runs.folder import open_run_folder
from rllib_portfolio.runs.resumable import finished_training
from rllib_portfolio.runs.validation import best_policy, best_validation_returns, walk
from rllib_portfolio.statistics.metrics import sharpe_ratio
from tests.experiments.search.searches import INTERVAL, MAX_STEPS, TinySearch, start_search
from tests.experiments.search.user_rewards import KILLED
from tests.runs.test_tracking import assert_same, columns_of, events_of, hyperparameters_of, rows_of
from tests.tiny_runs import COIN

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]

SPACE = {
    "training.learning_rate": {"low": 1e-5, "high": 1e-1, "log": True},
    "training.rollout_steps": {"choices": [16, 24]},
}
"""24 steps of 4 environments: 96 an iteration, which never ends at 128 or 256."""
REPORTED_AT = {16: [128, 256, 384], 24: [192, 288, 384]}
"""The first ends of iterations at or after 128, 256 and 384 steps."""


@pytest.fixture(scope="module")
def searched(ray_session: None, tmp_path_factory: pytest.TempPathFactory, price_settings: dict[str, Any]) -> TinySearch:
    """Six trials, one at a time, under the median rule; the best two of them again on two fresh seeds."""
    settings = {"num_samples": 6, "num_retrained": 2, "num_retrain_seeds": 2}
    search = start_search(tmp_path_factory.mktemp("search") / "out", settings, SPACE, price_settings)
    search.search()
    search.retrain()
    search.outcome = search.session.finish()
    return search


def folder_of(search: TinySearch, trial: FrozenTrial) -> Path:
    return search.output / "trials" / trial_name(trial.number)


def sharpe_of(search: TinySearch, returns: np.ndarray) -> float:
    """Annualised Sharpe ratio over cash on the validation window."""
    market = search.session.market
    start, stop = market.windows["validation"]
    assert len(returns) == stop - start
    return float(sharpe_ratio(returns, market.cash_returns[start:stop], market.periods_per_year))


# ---------------------------------------------------------------- the study


def test_finished_and_pruned_trials_are_in_the_study_with_what_they_reported(searched: TinySearch) -> None:
    trials = searched.study.get_trials()
    assert [trial.number for trial in trials] == list(range(6))
    assert {trial.state for trial in trials} == {TrialState.COMPLETE, TrialState.PRUNED}
    assert {trial.params["training.rollout_steps"] for trial in trials} == {16, 24}
    for trial in trials:
        reports = trial.intermediate_values
        at = REPORTED_AT[trial.params["training.rollout_steps"]]
        assert list(reports) == (at if trial.state == TrialState.COMPLETE else at[: len(reports)])
        assert [steps // INTERVAL for steps in reports] == [1, 2, 3][: len(reports)]  # the same intervals for all
        assert trial.value == max(reports.values()) == trial.user_attrs[BEST]
        assert trial.user_attrs[STEPS] == max(reports)


def test_the_trials_that_were_stopped_are_those_that_the_median_rule_names(searched: TinySearch) -> None:
    trials = searched.study.get_trials()
    for trial in trials:
        reports = trial.intermediate_values
        stopped_at = None
        for steps in reports:
            best = max(value for at, value in reports.items() if at <= steps)
            others = [
                [value for at, value in other.intermediate_values.items() if INTERVAL <= at <= steps]
                for other in trials[: trial.number]
                if max(other.intermediate_values) >= steps
            ]
            means = [statistics.mean(values) for values in others if values]  # 24 steps: nothing before 192
            if len(means) >= MIN_OTHERS and best < statistics.median(means):
                stopped_at = steps
                break
        assert stopped_at == (max(reports) if trial.state == TrialState.PRUNED else None)


# ---------------------------------------------------------------- the trials


def test_the_folder_of_a_trial_is_that_of_a_run(searched: TinySearch) -> None:
    record = searched.session.record
    for trial in searched.study.get_trials():
        folder = folder_of(searched, trial)
        config, market = open_run_folder(folder, {})
        assert config == record.settings.trial_config(record.config, record.space.overrides(trial.params), "test")
        assert market.data_hash == searched.session.market.data_hash
        assert (folder / "market.npz").samefile(searched.output / "market.npz")  # one copy for all trials
        iteration = 4 * trial.params["training.rollout_steps"]
        reached = trial.user_attrs[STEPS]
        assert [int(row["steps"]) for row in rows_of(folder)] == list(range(iteration, reached + 1, iteration))
        outcome = finished_training(folder)
        assert (outcome is not None) == (trial.state == TrialState.COMPLETE)
        if outcome is not None:
            assert (outcome.steps, outcome.validation_sharpe) == (MAX_STEPS, trial.value)
            (best,) = checkpoints(folder)  # the others have served
            assert read_progress(best)["best_checkpoint"] == best.name


def test_the_objective_is_the_sharpe_ratio_of_the_best_policy_after_costs_on_the_validation_window(
    searched: TinySearch,
) -> None:
    market = searched.session.market
    for trial in searched.study.get_trials():
        folder = folder_of(searched, trial)
        config, _ = open_run_folder(folder, {})
        assert config.environment.cost_bps == 10.0
        result = walk(best_policy(folder, market), market, "validation", config)
        assert result.cost.sum() > 0.0
        assert sharpe_of(searched, result.returns) == pytest.approx(trial.value, rel=1e-9)
        kept = best_validation_returns(folder)
        np.testing.assert_allclose(kept.to_numpy(), result.returns, rtol=1e-9, atol=1e-12)


def test_tensorboard_shows_the_curves_and_the_hyperparameters_of_each_trial(searched: TinySearch) -> None:
    for trial in searched.study.get_trials():
        folder = folder_of(searched, trial)
        events, columns = events_of(folder), columns_of(folder)
        best = events.pop("search/validation_sharpe")
        assert best == [(trial.user_attrs[STEPS], pytest.approx(trial.value, rel=1e-6))]
        assert_same(events, columns)
        curve = dict(columns["validation/sharpe_ratio"])
        assert curve == pytest.approx(trial.intermediate_values, rel=1e-12)
        assert hyperparameters_of(folder, "search/validation_sharpe") == trial.params


# ---------------------------------------------------------------- the best, again


def test_the_best_trials_are_trained_again_on_seeds_that_nothing_was_chosen_by(searched: TinySearch) -> None:
    record, outcome = searched.session.record, searched.outcome
    finished = [trial for trial in searched.study.get_trials() if trial.state == TrialState.COMPLETE]
    chosen = sorted(finished, key=lambda trial: -float(trial.value or 0.0))[:2]
    assert {found.number for found in outcome.candidates} == {trial.number for trial in chosen}
    for found in outcome.candidates:
        trial = searched.study.get_trials()[found.number]
        sharpes = []
        for seed in (1, 2):  # the search had 0
            folder = searched.output / "retrained" / f"{found.name}_seed_{seed}"
            config, _ = open_run_folder(folder, {})
            settings = {**record.space.overrides(trial.params), "seed": seed}
            assert config == record.settings.trial_config(record.config, settings, "test")
            outcome_of_seed = finished_training(folder)
            sharpes.append(outcome_of_seed.validation_sharpe)
        assert found.retrained == tuple(sharpes)
        assert len(set(sharpes)) == 2
        assert found.searched == trial.value
        assert found.median == statistics.median(found.retrained)
        assert found.selection_bias == found.searched - found.median
    medians = [found.median for found in outcome.candidates]
    assert medians == sorted(medians, reverse=True)
    assert outcome.best == (outcome.candidates[0].name, medians[0])


def test_what_was_trained_again_is_not_trained_a_third_time(searched: TinySearch) -> None:
    before = {path: path.stat().st_mtime_ns for path in (searched.output / "retrained").rglob("finished.json")}
    assert len(before) == 4
    again = TinySearch(SearchSession(SearchRecord.read(searched.output), searched.output))
    again.search()  # the study is full: nothing to do
    again.retrain()
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert again.retrained is None  # nothing is shown as if it were made
    assert again.session.finish().candidates == searched.outcome.candidates


# ---------------------------------------------------------------- the files


def test_what_is_missing_of_the_best_is_trained_and_shown_beside_what_is_there(
    searched: TinySearch, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    shutil.copytree(searched.output, output)
    assert searched.outcome is not None
    missing = f"{searched.outcome.candidates[0].name}_seed_2"
    shutil.rmtree(output / "retrained" / missing)
    again = TinySearch(SearchSession(SearchRecord.read(output), output))
    assert (again.session.num_left, again.session.retraining.num_left) == (0, 1)
    assert len(again.session.retraining.known) == 3
    again.retrain()
    assert again.retrained is not None
    assert len(again.retrained.outcomes) == again.retrained.num_runs == 4
    assert again.retrained.outcomes[-1].run.name == missing
    assert again.session.retraining.num_left == 0
    assert again.session.retraining.candidates == searched.outcome.candidates


def test_the_best_configuration_is_the_base_with_the_winners_settings(searched: TinySearch) -> None:
    record, outcome = searched.session.record, searched.outcome
    winner = outcome.candidates[0]
    settings = record.space.overrides(searched.study.get_trials()[winner.number].params)
    expected = with_overrides(record.config, {**settings, "schedule.total_timesteps": MAX_STEPS}, "test")
    assert load_run_config(searched.output / "best_config.yaml", {}) == expected
    text = (searched.output / "best_config.yaml").read_text()
    assert f"in the search, median {winner.median:.3f} of 2 fresh seeds." in text


# ---------------------------------------------------------------- failures


@pytest.fixture(scope="module")
def failed(ray_session: None, tmp_path_factory: pytest.TempPathFactory) -> TinySearch:
    """Two trials that may fail once each: one whose reward fails twice, one that is sound."""
    rewards = ["tests.experiments.search.user_rewards:tired", "log_return"]
    search = start_search(
        tmp_path_factory.mktemp("failures") / "out",
        {"num_samples": 2, "max_failures": 1, "scheduler": "none", "num_retrained": 0},
        {"environment.reward": {"choices": rewards}},
        COIN,
    )
    for reward in rewards:
        search.study.enqueue_trial({"environment.reward": reward})
    search.search()
    search.outcome = search.session.finish()
    return search


def test_a_trial_that_fails_goes_on_from_its_checkpoint_and_fails_in_the_end_with_its_reason(
    failed: TinySearch,
) -> None:
    trial, sound = failed.study.get_trials()
    assert trial.state == TrialState.FAIL
    reason = trial.user_attrs[ERROR]
    assert "this reward is tired" in reason
    assert "\n" not in reason
    # failed after 128, went on from there, and failed after 256: begun anew, it would not have come so far
    assert list(trial.intermediate_values) == [128, 256]
    assert [int(row["steps"]) for row in rows_of(folder_of(failed, trial))] == [64, 128, 192, 256]
    (retry,) = failed.progress.retries
    assert retry.startswith("trial_0000: goes on from its last checkpoint after ")
    assert "this reward is tired" in retry
    assert [(one.run, one.status) for one in failed.progress.outcomes] == [
        ("trial_0000", "failed"),
        ("trial_0001", "finished"),
    ]
    assert sound.state == TrialState.COMPLETE
    assert list(sound.intermediate_values) == [128, 256, 384]


def test_a_trial_that_failed_counts_as_tried_and_is_not_the_best(failed: TinySearch) -> None:
    outcome = failed.outcome
    assert dict(outcome.counts) == {"failed": 1, "finished": 1}
    assert outcome.candidates == ()
    assert outcome.best[0] == "trial_0001"
    assert outcome.num_left == 0
    assert TuningRecord.read(failed.output).num_trials == 2
    assert load_run_config(failed.output / "best_config.yaml", {}).environment.reward == "log_return"


def test_a_trial_that_no_machine_can_hold_is_refused_before_it_is_waited_for(failed: TinySearch) -> None:
    record = SearchRecord.read(failed.output)
    grown = SearchRecord(record.settings.model_copy(update={"num_samples": 3}), record.config, record.space)
    with pytest.raises(ConfigError, match="a trial must fit the Ray cluster, got 64 GPUs where it has "):
        SearchSession(grown, failed.output).search(Place(num_gpus=64), Watch())
    assert len(failed.study.get_trials()) == 2


def test_a_trial_whose_env_runner_is_killed_goes_on_with_another_one(ray_session: None, tmp_path: Path) -> None:
    search = start_search(
        tmp_path / "out",
        {"num_samples": 2, "scheduler": "none", "num_retrained": 0},
        SPACE,
        {
            **COIN,
            "environment.reward": "tests.experiments.search.user_rewards:killed_once",
            "resources.num_env_runners": 1,
        },
    )
    search.search()
    ray.kill(ray.get_actor(**KILLED))
    trials = search.study.get_trials()
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 2
    assert search.progress is not None
    assert search.progress.retries == ()
    restarts = []
    for trial in trials:
        assert list(trial.intermediate_values) == REPORTED_AT[trial.params["training.rollout_steps"]]
        restarts.append(float(rows_of(folder_of(search, trial))[-1]["env_runners/restarts"]))
    assert restarts == [1.0, 0.0]
