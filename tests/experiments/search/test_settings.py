"""Tests of the settings of a search, and of the configuration of its trials."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rllib_portfolio.config.files import load_run_config
from rllib_portfolio.config.user_values import validated
from rllib_portfolio.errors import ConfigError
from rllib_portfolio.experiments.search.retraining import FreshRun, Retraining
from rllib_portfolio.experiments.search.settings import SearchSettings
from rllib_portfolio.experiments.search.space import SearchSpace
from rllib_portfolio.experiments.search.trial import TrialTask
from rllib_portfolio.runs.storage import RunStorage
from tests.experiments.search.studies import study_of, trial_of


@pytest.mark.parametrize(
    ("given", "report_interval", "grace_steps"),
    [
        ({}, 5_000, 10_000),  # of the 50000 steps of a trial: a tenth, and two tenths
        ({"max_steps": 1_280}, 128, 256),
        ({"max_steps": 5}, 1, 2),  # a tenth of 5 is below one step
        ({"max_steps": 1_000, "report_interval": 250}, 250, 500),
        ({"max_steps": 1_000, "report_interval": 250, "grace_steps": 0}, 250, 0),
        ({"max_steps": 1_000, "report_interval": None, "grace_steps": None}, 100, 200),  # flags that were not given
    ],
)
def test_intervals_follow_from_the_length_of_a_trial(
    given: dict[str, Any], report_interval: int, grace_steps: int
) -> None:
    settings = validated(SearchSettings, given, "command line")
    assert (settings.report_interval, settings.grace_steps) == (report_interval, grace_steps)
    assert validated(SearchSettings, settings.model_dump(mode="json"), "record") == settings


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"num_samples": 0}, "num_samples: input should be greater than or equal to 1"),
        ({"max_steps": 0}, "max_steps: input should be greater than or equal to 1"),
        ({"max_steps": "many"}, "max_steps: input should be a valid integer"),
        ({"report_interval": 0}, "report_interval: input should be greater than or equal to 1"),
        ({"grace_steps": -1}, "grace_steps: input should be greater than or equal to 0"),
        ({"search": "grid"}, "search: input should be 'optuna' or 'random'"),
        ({"scheduler": "hyperband"}, "scheduler: input should be 'median', 'asha' or 'none'"),
        ({"seed": 2**31}, "seed: input should be less than 2147483648"),
        ({"patience": 3}, "patience is not a known setting"),
    ],
)
def test_settings_that_cannot_be_used(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        validated(SearchSettings, given, "command line")
    assert message in str(raised.value)


def test_a_trial_is_as_long_as_all_others_and_keeps_a_checkpoint_of_each_evaluation() -> None:
    settings = SearchSettings(max_steps=1_000, seed=7)
    base = load_run_config(None, {"schedule.early_stopping_evaluations": 4, "training.clip": 0.3, "seed": 1})
    config = settings.trial_config(base, {"training.gamma": 0.9}, "trial_0000")
    of_trials = {"checkpoints_kept": 1, "untrained_candidate": False}
    assert config.schedule == base.schedule.model_copy(
        update={"total_timesteps": 1_000, "evaluation_interval": 100, "checkpoint_interval": 100, **of_trials}
    )
    assert (config.seed, config.training.gamma, config.training.clip) == (7, 0.9, 0.3)
    assert (config.market, config.environment) == (base.market, base.environment)


def test_settings_of_a_trial_that_do_not_fit_each_other_are_refused_by_its_name() -> None:
    base = load_run_config(None, {"algo": "dqn"})
    with pytest.raises(ConfigError, match=r"training.buffer_capacity must exceed .*\(trial_0003\)"):
        SearchSettings().trial_config(base, {"training.buffer_capacity": 900}, "trial_0003")


@pytest.mark.parametrize(("num_stacked_seeds", "first_seeds"), [(1, [8, 9, 10]), (4, [11, 15, 19])])
def test_no_seed_of_a_trial_or_of_another_fresh_run_is_fresh(
    tmp_path: Path, num_stacked_seeds: int, first_seeds: list[int]
) -> None:
    base = load_run_config(None, {"algo": "apg", "resources.num_stacked_seeds": num_stacked_seeds})
    space = SearchSpace.parse({"training.learning_rate": {"low": 1e-5, "high": 1e-3}}, base, "tests")
    study = study_of([trial_of({"training.learning_rate": 1e-4}, 0.5)])
    task = TrialTask(SearchSettings(seed=7), base, RunStorage(str(tmp_path / "trials")))
    retraining = Retraining(task, study, space)
    assert list(retraining._overrides) == [FreshRun(0, seed) for seed in first_seeds]
    seeds = [base.with_seeds(seed, num_stacked_seeds).seeds for seed in (7, *first_seeds)]
    assert len({seed for run in seeds for seed in run}) == 4 * num_stacked_seeds
