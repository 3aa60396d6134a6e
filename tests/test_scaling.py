"""The model of how training scales over env runners, against hand-worked numbers and its simulation."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.cluster.model import Costs, simulated_steps_per_second
from benchmarks.cluster.scaling import RUNNERS, predictions

COSTS = Costs(fragment_steps=1000, sampling_s=0.5, driver_s=0.01, weights_s=0.005, learning_s=0.0001)


def test_steps_a_second_are_those_of_a_hand_worked_iteration() -> None:
    # n = 2: 0.5 s of sampling, 2 x 0.01 s of unpacking, 2 x 0.005 s of weights, 2000 x 0.0001 s of learning = 0.73 s
    assert COSTS.steps_per_second(2) == pytest.approx(2000 / 0.73)


def test_the_limit_is_what_each_further_env_runner_costs() -> None:
    # 0.01 + 0.005 + 1000 x 0.0001 = 0.115 s for 1000 steps
    assert COSTS.limit == pytest.approx(1000 / 0.115)
    assert COSTS.steps_per_second(10_000) == pytest.approx(COSTS.limit, rel=1e-3)


def test_at_the_half_point_half_of_the_limit_is_reached_and_at_nine_times_as_many_90_percent() -> None:
    assert COSTS.half_point == pytest.approx(0.5 / 0.115)
    costs = replace(COSTS, sampling_s=3 * COSTS.serial_s)  # a half point of 3
    assert costs.steps_per_second(3) == pytest.approx(costs.limit / 2)
    assert costs.steps_per_second(27) == pytest.approx(0.9 * costs.limit)


def test_learners_share_the_batch_and_long_fragments_share_the_weights() -> None:
    assert COSTS.with_learners(4).serial_s == pytest.approx(0.01 + 0.005 + 0.025)
    assert COSTS.with_fragments(4).serial_s == pytest.approx(0.04 + 0.005 + 0.4)


def test_the_simulation_of_equal_fragments_is_a_hand_worked_iteration() -> None:
    # both arrive at 0.5 s, are unpacked by 0.52 s; then 0.01 s of weights and 0.2 s of learning, as in the model
    assert simulated_steps_per_second(COSTS, [0.5], 2) == pytest.approx(2000 / 0.73)


def test_the_simulation_waits_for_the_slowest_env_runner() -> None:
    assert simulated_steps_per_second(COSTS, [0.1, 0.9], 16) < COSTS.steps_per_second(16)


def test_a_model_that_is_off_is_told() -> None:
    cell = {"num_env_runners": 1, "num_nodes": 1, "steps_per_second": COSTS.steps_per_second(1), "fragment_s": [0.5]}
    found = predictions(COSTS, [cell])
    assert found["met"]
    assert found["curves"][0]["model"] == [round(COSTS.steps_per_second(count), 1) for count in RUNNERS]
    assert not predictions(COSTS, [{**cell, "steps_per_second": 2 * cell["steps_per_second"]}])["met"]
