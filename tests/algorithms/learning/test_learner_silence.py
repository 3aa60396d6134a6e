"""Tests of the warnings of a run whose learner process does not answer."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from ray.rllib.utils.metrics import ENV_RUNNER_RESULTS, NUM_ENV_STEPS_SAMPLED_LIFETIME

from rllib_portfolio.algorithms.learning import learner_silence
from rllib_portfolio.algorithms.ppo import algorithm as ppo
from rllib_portfolio.market import MarketData
from tests.tiny_runs import STEPS_PER_ITERATION, tiny_config


@pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.data.context")  # of its own options
def test_a_learner_that_says_nothing_is_told_once_and_waited_for(
    ray_session: None, tmp_path: Path, tiny_market: MarketData, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_market.save(tmp_path / "market.npz")
    algorithm = ppo.algorithm_config(tiny_config({"resources.num_learners": 1}), tmp_path / "market.npz").build_algo()
    (pid,) = [result.get() for result in algorithm.learner_group.foreach_learner(lambda learner: os.getpid())]
    told: list[str] = []

    def go_on(warning: str) -> None:
        told.append(warning)
        os.kill(pid, signal.SIGCONT)

    monkeypatch.setattr(learner_silence.logger, "warning", go_on)
    try:
        algorithm.train()
        assert told == []
        with monkeypatch.context() as patch:
            patch.setattr(learner_silence, "SILENT_AFTER_S", 1.0)
            patch.setattr(learner_silence, "TIMES_USUAL", 0.0)
            os.kill(pid, signal.SIGSTOP)
            result = algorithm.train()
        assert result[ENV_RUNNER_RESULTS][NUM_ENV_STEPS_SAMPLED_LIFETIME] == 2 * STEPS_PER_ITERATION
        algorithm.train()
    finally:
        os.kill(pid, signal.SIGCONT)
        algorithm.stop()
    (warning,) = told
    assert warning.startswith("Warning: no answer from the learners for 1 s. Training waits for them. ")
