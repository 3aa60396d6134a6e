"""What a run asks of a cluster, and what it says when that is too much."""

from __future__ import annotations

from typing import Any

import pytest

from rllib_portfolio.algorithms.autoscaling import UNKNOWN, largest_cluster, largest_of_config
from rllib_portfolio.algorithms.run_settings import process_bundles, require_room, room_or_wait
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
        "machines."
    )
    with pytest.raises(ConfigError, match=r"^the run's processes must fit the Ray cluster, got 100 GPUs where it has "):
        require_room([{"CPU": 1.0, "GPU": 100.0}], "the run's processes")


# ---------------------------------------------------------------- clusters that grow

EIGHT = [{"CPU": 1.0}] * 8
HAVE = {"CPU": 3.0}


def test_a_cluster_that_stays_as_it_is_refuses_what_it_does_not_hold() -> None:
    assert room_or_wait(EIGHT[:3], "the run's processes", HAVE, None) is None
    with pytest.raises(ConfigError) as told:
        room_or_wait(EIGHT, "the run's processes", HAVE, None)
    assert str(told.value) == (
        "the run's processes must fit the Ray cluster, got 8 CPUs where it has 3. Ask for fewer processes or devices, "
        "or add machines."
    )


def test_what_the_autoscaler_can_bring_is_waited_for() -> None:
    waiting = room_or_wait(EIGHT, "the run's processes", HAVE, {"CPU": 8.0, "GPU": 0.0})
    assert waiting == (
        "Waiting for machines that hold the run's processes: 8 CPUs where the cluster has 3 and can grow to 8."
    )
    waiting = room_or_wait([*EIGHT, {"CPU": 1.0, "GPU": 2.0}], "a trial", HAVE, UNKNOWN)
    assert waiting == (
        "Waiting for machines that hold a trial: 9 CPUs where the cluster has 3, 2 GPUs where the cluster has 0."
    )


def test_what_no_autoscaler_can_bring_is_refused_with_what_it_stops_at() -> None:
    with pytest.raises(ConfigError) as told:
        room_or_wait(EIGHT, "a trial", HAVE, {"CPU": 7.0, "GPU": 0.0})
    assert str(told.value) == (
        "a trial must fit the Ray cluster, got 8 CPUs where it has 3 and its autoscaler stops at 7. Ask for fewer "
        "processes or devices, or raise the autoscaler's limit."
    )
    with pytest.raises(ConfigError, match="got 1 GPUs where it has 0 and its autoscaler stops at 0"):
        room_or_wait([{"CPU": 1.0, "GPU": 1.0}], "a trial", HAVE, {"CPU": 100.0, "GPU": 0.0})


@pytest.mark.ray
def test_a_ray_of_one_machine_has_no_autoscaler_and_waits_when_it_is_told_to(ray_session: None) -> None:
    assert largest_cluster() is None
    waiting = require_room([{"CPU": 3.0}], "a trial", may_wait=True)
    assert waiting == "Waiting for machines that hold a trial: 3 CPUs where the cluster has 2."


def launcher_config(*, max_workers: int, **workers: dict[str, Any]) -> dict[str, Any]:
    """As `ray up` writes it for the head, which has two CPUs."""
    head = {"head": {"resources": {"CPU": 2}, "max_workers": 0}}
    return {"max_workers": max_workers, "head_node_type": "head", "available_node_types": {**head, **workers}}


def test_a_launched_cluster_grows_to_its_largest_machines() -> None:
    small = {"resources": {"CPU": 4}, "min_workers": 0, "max_workers": 10}
    large = {"resources": {"CPU": 16, "GPU": 1}, "max_workers": 2}
    # the head's 2; then 2 of 16 and 3 of 4, since 5 machines are the limit; 2 GPUs in 2 machines
    found = largest_of_config(launcher_config(max_workers=5, small=small, large=large))
    assert found == {"CPU": 2 + 2 * 16 + 3 * 4, "GPU": 2}
    # the limit of a kind holds, too: 2 + 10 * 4
    assert largest_of_config(launcher_config(max_workers=50, small=small)) == {"CPU": 42, "GPU": 0}


def test_machines_that_nobody_has_measured_leave_the_limit_open() -> None:
    found = largest_of_config(launcher_config(max_workers=5, worker={"resources": {}, "max_workers": 5}))
    assert found == UNKNOWN


def test_a_launched_cluster_whose_machines_are_all_there_from_the_start_does_not_grow() -> None:
    worker = {"resources": {}, "min_workers": 2, "max_workers": 2}
    assert largest_of_config(launcher_config(max_workers=2, worker=worker)) is None
