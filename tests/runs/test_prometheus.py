"""Tests of the metrics for Prometheus, with stand-ins for Ray's metrics that record their values."""

from __future__ import annotations

import math
from typing import Any

import pytest
from ray.rllib.utils.metrics import ENV_RUNNER_SAMPLING_TIMER, LEARNER_UPDATE_TIMER, TIMERS

from rllib_portfolio.runs import prometheus as gauges
from tests.cluster.test_files import documented_metrics

TAGS = {"algo": "ppo", "run": "ppo-2024"}


class Recorded:
    suffix = ""
    """Suffix that Prometheus appends to the name."""

    def __init__(self, name: str, description: str, tag_keys: tuple[str, ...]) -> None:
        self.name, self.description, self.tag_keys = name, description, tag_keys
        self.values: list[float] = []

    def _record(self, value: float, tags: dict[str, str]) -> None:
        assert tags == TAGS
        self.values.append(value)


class RecordedGauge(Recorded):
    def set(self, value: float, tags: dict[str, str]) -> None:
        self._record(value, tags)


class RecordedCounter(Recorded):
    suffix = "_total"

    def inc(self, value: float, tags: dict[str, str]) -> None:
        assert value > 0  # or Ray's raises
        self._record(value, tags)


@pytest.fixture
def metrics(monkeypatch: pytest.MonkeyPatch) -> dict[str, Recorded]:
    """Name to metric, of those that were made."""
    made: dict[str, Recorded] = {}

    def recording(kind: type[Recorded]) -> Any:
        return lambda *arguments: made.setdefault(arguments[0], kind(*arguments))

    monkeypatch.setattr(gauges, "Gauge", recording(RecordedGauge))
    monkeypatch.setattr(gauges, "Counter", recording(RecordedCounter))
    return made


def test_a_run_has_the_documented_metrics(metrics: dict[str, Recorded]) -> None:
    gauges.Gauges("ppo", "ppo-2024")
    assert {f"ray_{name}{metric.suffix}" for name, metric in metrics.items()} == documented_metrics()
    assert all(metric.description and metric.tag_keys == ("algo", "run") for metric in metrics.values())


def test_a_run_whose_name_is_not_ascii_tells_rays_metrics(caplog: pytest.LogCaptureFixture) -> None:
    for name in ("läufe", "実行", "\udcff"):  # the last is a byte of a path that is no text
        run = gauges.Gauges("ppo", name)
        run.set(900.0, 0.5, 1, {})
    assert caplog.messages == []


def test_metrics_that_fail_end_no_run_and_are_told_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, metrics: dict[str, Recorded]
) -> None:
    def fail(*arguments: object) -> None:
        raise ValueError("no such tag")

    monkeypatch.setattr(RecordedGauge, "set", fail)
    run = gauges.Gauges("ppo", "ppo-2024")
    for _ in range(3):
        run.set(900.0, 0.5, 0, {})
    monkeypatch.setattr(gauges, "Gauge", fail)
    gauges.Gauges("ppo", "ppo-2024").set(900.0, 0.5, 0, {})
    message = "Warning: Ray's metrics must work, got ValueError: no such tag. Training continues without it."
    assert caplog.messages == [message, message]  # one for each run


def test_each_value_is_that_of_its_gauge_and_restarts_are_counted_once(metrics: dict[str, Recorded]) -> None:
    run = gauges.Gauges("ppo", "ppo-2024")
    run.set(900.0, math.nan, 0, {})  # before the first episode
    timers = {ENV_RUNNER_SAMPLING_TIMER: 3.0, LEARNER_UPDATE_TIMER: 2.0, "another": 7.0}
    for num_restarts in (2, 2, 5):
        run.set(1000.0, 0.5, num_restarts, {TIMERS: timers})
    told = {name.removeprefix("rllib_portfolio_"): metric.values for name, metric in metrics.items()}
    assert math.isnan(told["episode_return"].pop(0))
    assert told == {
        "steps_per_second": [900.0, 1000.0, 1000.0, 1000.0],
        "sampling_seconds": [0.0, 3.0, 3.0, 3.0],
        "learning_seconds": [0.0, 2.0, 2.0, 2.0],
        "episode_return": [0.5, 0.5, 0.5],
        "env_runner_restarts": [2, 3],
    }
