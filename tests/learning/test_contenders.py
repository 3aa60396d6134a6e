"""Everyone learns in the same environment, is judged by the same certificate, and learns the same again."""

from __future__ import annotations

import math
from typing import Any

import pytest

from benchmarks.learning.certification import CANDIDATES, POINTS, Candidate, learn

STEPS = 4096

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_session")]


@pytest.mark.parametrize("name", ["ppo-sb3", "ppo-rllib", "dqn", "dqn-sb3", "dqn-rllib"])
def test_a_contender_leaves_a_curve_and_a_report(name: str) -> None:
    run = learn(CANDIDATES[name], "mean-reversion", 0, STEPS)
    steps = [point["steps"] for point in run["curve"]]
    assert steps == sorted(set(steps))
    assert STEPS <= steps[-1] < STEPS + 2048  # whole batches
    assert all(math.isfinite(value) for value in run["final"].values())
    assert run["final"]["growth"] < 1.0
    assert run["final"]["shortfall_bp"] > 0.0


def test_the_same_seed_gives_the_same_figures_and_another_one_others() -> None:
    once, again, other = (learn(CANDIDATES["ppo"], "kelly-0.8", seed, STEPS) for seed in (0, 0, 1))
    assert _figures(once) == _figures(again)
    assert _figures(once) != _figures(other)


def test_a_candidates_changes_reach_its_run() -> None:
    few = Candidate("", "ppo", changes={"training": {"rollout_steps": 16, "minibatch_size": 256}})
    steps = [point["steps"] for point in learn(few, "kelly-0.8", 0, STEPS)["curve"]]
    assert steps[0] == 1024  # 64 environments, 16 steps each
    assert len(steps) <= POINTS


def _figures(run: dict[str, Any]) -> list[Any]:
    """All but the time that it took."""
    return [{name: value for name, value in point.items() if name != "cpu_s"} for point in run["curve"]] + [
        run["final"]
    ]
