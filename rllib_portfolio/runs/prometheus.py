"""Metrics of a run for Prometheus, exported by Ray: docs/cluster.md says how they are collected and shown.

A failure of the metrics never ends a run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ray.rllib.utils.metrics import ENV_RUNNER_SAMPLING_TIMER, LEARNER_UPDATE_TIMER, TIMERS
from ray.util.metrics import Counter, Gauge

from rllib_portfolio.runs.tracking import Sparing

_GAUGES = {
    "rllib_portfolio_steps_per_second": "Environment steps per second, sampling and learning, in the last iteration",
    "rllib_portfolio_sampling_seconds": "Moving average of the seconds of a sampling round",
    "rllib_portfolio_learning_seconds": "Moving average of the seconds of a learner update",
    "rllib_portfolio_episode_return": "Mean raw return of the last finished episodes",
}
_RESTARTS = "rllib_portfolio_env_runner_restarts"


class Gauges:
    """The metrics of a run, tagged with its algorithm and the name of its folder."""

    def __init__(self, algo: str, run: str) -> None:
        self._tags = {"algo": algo, "run": run.encode("ascii", "backslashreplace").decode()}  # Ray accepts only ASCII
        self._sparing = Sparing("Ray's metrics")
        tags = tuple(self._tags)
        self._gauges: dict[str, Gauge] = {}
        with self._sparing:
            self._gauges = {name: Gauge(name, text, tags) for name, text in _GAUGES.items()}
            self._restarts = Counter(_RESTARTS, "Env runners that were started again", tags)
        self._num_restarts = 0

    def set(self, steps_per_second: float, episode_return: float, num_restarts: int, result: Mapping[str, Any]) -> None:
        """Set the metrics after an iteration.

        Args:
            steps_per_second: Environment steps a second in this iteration.
            episode_return: Mean return of the last finished episodes; NaN before the first.
            num_restarts: Restarts of env runners since this process began.
            result: RLlib's result of the iteration, with its timers.
        """
        timers = result.get(TIMERS, {})
        values = {
            "rllib_portfolio_steps_per_second": steps_per_second,
            "rllib_portfolio_sampling_seconds": float(timers.get(ENV_RUNNER_SAMPLING_TIMER, 0.0)),
            "rllib_portfolio_learning_seconds": float(timers.get(LEARNER_UPDATE_TIMER, 0.0)),
            "rllib_portfolio_episode_return": episode_return,
        }
        with self._sparing:
            for name, gauge in self._gauges.items():
                gauge.set(values[name], self._tags)
            if num_restarts > self._num_restarts:
                self._restarts.inc(num_restarts - self._num_restarts, self._tags)
                self._num_restarts = num_restarts
