"""Services that a search is logged to, with a stand-in that goes away."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

import pytest
from ray import cloudpickle
from ray.tune.logger import LoggerCallback

from rllib_portfolio.cli import services


class Service(LoggerCallback):
    def __init__(self, **settings: Any) -> None:
        self.is_there = True

    def log_trial_result(self, iteration: int, trial: Any, result: dict[str, Any]) -> None:
        if not self.is_there:
            raise ConnectionError("nobody answers")


def test_a_service_that_goes_away_ends_no_search_and_is_told_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(services, "_class", lambda package, name: Service)
    (callback,) = services.service_callbacks(Namespace(wandb="project", mlflow=None), "group")
    callback.on_trial_result(1, [], None, {})
    assert caplog.messages == []
    callback = cloudpickle.loads(cloudpickle.dumps(callback))  # as Tune keeps it
    callback.is_there = False
    for iteration in (2, 3):
        callback.on_trial_result(iteration, [], None, {})
    callback.on_experiment_end([])
    message = "Warning: --wandb must work, got ConnectionError: nobody answers. Training continues without it."
    assert caplog.messages == [message]
