"""Many runs: how many at a time, and what becomes of one that fails."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from rllib_portfolio.experiments.progress import Progress, Watch
from rllib_portfolio.experiments.runner import Batch, Place, Runner, RunTask
from rllib_portfolio.market import load_market
from rllib_portfolio.runs.storage import RunStorage
from tests.runs.test_tracking import rows_of
from tests.tiny_runs import COIN, STEPS_PER_ITERATION, tiny_config

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]
STEPS = 6 * STEPS_PER_ITERATION
OFTEN = {"schedule.evaluation_interval": 128, "schedule.checkpoint_interval": 128, "schedule.total_timesteps": STEPS}


class Named(NamedTuple):
    name: str

    def __str__(self) -> str:
        return self.name


def test_a_run_that_fails_goes_on_from_its_checkpoint_and_never_are_there_more_runs_than_may_be(
    ray_session: None, tmp_path: Path
) -> None:
    tired, sound = Named("tired"), Named("sound")
    reward = {"environment.reward": "tests.experiments.search.user_rewards:tired"}
    configs = {tired: tiny_config(COIN, OFTEN, reward), sound: tiny_config(COIN, OFTEN)}
    reported: list[Progress] = []
    batch = Batch(configs, lambda: load_market(configs[sound].market))
    runner = Runner([batch], RunTask(RunStorage(str(tmp_path))), [], Place(max_concurrent=1), max_failures=1)
    outcomes = runner.train(Watch(reported.append))
    assert [outcome.run for outcome in outcomes] == [tired, sound]
    assert (outcomes[1].status, outcomes[1].steps) == ("finished", STEPS)
    assert max(len(progress.running) for progress in reported) == 1
    (retry,) = reported[-1].retries
    assert retry.startswith("tired: goes on from its last checkpoint after ")
    assert "this reward is tired" in retry
    # it fails after 128 steps in a new process, and once more after 256 if it does not go on in the same process
    steps = [int(row["steps"]) for row in rows_of(tmp_path / "tired") if int(row["steps"])]
    assert steps == list(range(STEPS_PER_ITERATION, steps[-1] + 1, STEPS_PER_ITERATION))
    assert (outcomes[0].status, steps[-1]) in (("finished", STEPS), ("failed", 256))
