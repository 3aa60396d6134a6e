"""Tests of the resources that a run requests, and of the error if a cluster has too few."""

from __future__ import annotations

import pytest

from rllib_portfolio.algorithms.run_settings import process_bundles, require_room
from rllib_portfolio.config import ResourceConfig
from rllib_portfolio.errors import ConfigError


def bundles(num_cpus: float = 1.0, **resources: object) -> list[dict[str, float]]:
    return process_bundles(ResourceConfig(**resources), num_cpus)  # type: ignore[arg-type]


def test_a_run_in_one_process_asks_for_that_process() -> None:
    assert bundles() == [{"CPU": 1.0}]
    assert bundles(0.5) == [{"CPU": 0.5}]


def test_each_env_runner_asks_for_its_cpus() -> None:
    asked = bundles(num_env_runners=2, num_cpus_per_env_runner=0.5)
    assert asked == [{"CPU": 1.0}, {"CPU": 0.5}, {"CPU": 0.5}]


def test_each_learner_asks_for_a_cpu_and_its_gpus() -> None:
    asked = bundles(num_env_runners=1, num_learners=2, num_gpus_per_learner=0.5)
    assert asked == [{"CPU": 1.0}, {"CPU": 1.0}, {"CPU": 1.0, "GPU": 0.5}, {"CPU": 1.0, "GPU": 0.5}]
    assert bundles(num_learners=1) == [{"CPU": 1.0}, {"CPU": 1.0}]


def test_the_runs_own_process_asks_for_the_gpus_where_no_learner_does() -> None:
    assert bundles(device="cuda") == [{"CPU": 1.0, "GPU": 1.0}]
    assert bundles(device="cuda", num_learners=1) == [{"CPU": 1.0}, {"CPU": 1.0, "GPU": 1.0}]
    assert bundles(device="cuda", num_gpus_per_learner=0.0) == [{"CPU": 1.0}]


@pytest.mark.ray
def test_more_than_the_cluster_has_is_told_with_what_it_has(ray_session: None) -> None:
    assert require_room([{"CPU": 1.5}, {"CPU": 0.5}], "a trial") is None  # the session has two
    with pytest.raises(ConfigError) as told:
        require_room([{"CPU": 1.5}, {"CPU": 1.0}], "a trial")
    assert str(told.value) == (
        "a trial must fit the Ray cluster, got 2.5 CPUs where it has 2. Ask for fewer processes or devices, or add "
        "machines. Where an autoscaler brings them, --wait-for-resources waits for it."
    )
    with pytest.raises(ConfigError, match=r"^the run's processes must fit the Ray cluster, got 100 GPUs where it has "):
        require_room([{"CPU": 1.0, "GPU": 100.0}], "the run's processes")


@pytest.mark.ray
def test_machines_are_waited_for_where_the_command_says_so(ray_session: None) -> None:
    assert require_room([{"CPU": 2.0}], "a trial", may_wait=True) is None
    waiting = require_room([{"CPU": 3.0}, {"GPU": 100.0}], "a trial", may_wait=True)
    assert waiting is not None
    assert waiting.startswith(
        "Waiting for machines that hold a trial: 3 CPUs where the cluster has 2, 100 GPUs where the cluster has "
    )
