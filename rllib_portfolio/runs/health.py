"""Monitoring of the processes that train: which are lost, silent or back, and when a run cannot go on without them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ray.exceptions import RayActorError, RayError

from rllib_portfolio.config import ResourceConfig
from rllib_portfolio.errors import MachineError
from rllib_portfolio.runs.tracking import LEFT_OUT

HEALTHY, RESTARTS = "env_runners/healthy", "env_runners/restarts"
NOBODY_SAMPLES_S = 600.0
"""Seconds that a run waits for env runners to come back if none of them samples."""
LEARNER_TIMEOUT_S = 10.0
"""Seconds that learners have to answer, after one of them failed, in the check of which are alive."""


class Health:
    """Watches env runners, learners and updates, and reports each change once.

    Args:
        algorithm: The RLlib algorithm that they train.
        resources: The planned number of env runners and learners.
    """

    def __init__(self, algorithm: Any, resources: ResourceConfig) -> None:
        self.algorithm, self._resources = algorithm, resources
        self._num_healthy = resources.num_env_runners
        self._unsampled_s = 0.0
        """Seconds spent in iterations since the last one that sampled a step."""
        self._silent: tuple[int, ...] = ()
        """Env runners that had not answered at the time of the last notice."""
        self._num_left_out = 0
        """Number of updates left out at the time of the last notice."""

    def scalars(self) -> dict[str, float]:
        """Return the number of healthy remote env runners, and how often one was restarted; empty without any."""
        if not self._resources.num_env_runners:
            return {}
        group = self.algorithm.env_runner_group
        return {HEALTHY: group.num_healthy_remote_workers(), RESTARTS: group.num_remote_worker_restarts()}

    def require_env_runners(self, duration_s: float, has_sampled: bool) -> None:
        """Raise a `MachineError` if no env runner has sampled for longer than `NOBODY_SAMPLES_S`.

        Args:
            duration_s: Seconds of the last iteration.
            has_sampled: Whether an env runner sampled in it.
        """
        self._unsampled_s = 0.0 if has_sampled else self._unsampled_s + duration_s
        if self._unsampled_s > NOBODY_SAMPLES_S:
            raise MachineError(
                f"env runners must come back when they are lost, got none that has sampled for {NOBODY_SAMPLES_S:g} s. "
                "Look for a lack of memory, a full disk or object store, or for machines that were lost."
            )

    def require_learners(self, error: RayError) -> None:
        """Raise a `MachineError` if a learner is dead.

        Args:
            error: The error of the update. A learner that is alive may have raised it because it lost another one.
        """
        if not self._resources.num_learners:
            return
        asked = self.algorithm.learner_group.foreach_learner(
            lambda learner: None, healthy_only=False, timeout_seconds=LEARNER_TIMEOUT_S
        )
        num_dead = sum(isinstance(result.get(), RayActorError) for result in asked)
        if num_dead:
            raise MachineError(
                f"learners must live until training ends, got {num_dead} of {self._resources.num_learners} whose "
                "process ended. Look for a lack of memory, or for a machine that was lost."
            ) from error

    def notice(self, steps: int, scalars: Mapping[str, float]) -> str | None:
        """Return notices about the last iteration, one per line; None if there are none.

        Args:
            steps: Environment steps of the run so far.
            scalars: Scalars of the iteration.
        """
        lines = [*self._env_runner_notices(scalars), *self._left_out_notices(scalars)]
        return "\n".join(f"{steps:>9,} steps: {line}" for line in lines) or None

    def _env_runner_notices(self, scalars: Mapping[str, float]) -> list[str]:
        """Return lines if env runners were lost, fell silent or came back since the last iteration."""
        before = self._num_healthy
        self._num_healthy = int(scalars.get(HEALTHY, before))  # missing when the untrained network is evaluated
        silent_before, self._silent = self._silent, self.algorithm.silent_env_runners
        lines = []
        if count := abs(self._num_healthy - before):
            lost = f"lost; what {'they were' if count > 1 else 'it was'} sampling is not counted"
            lines.append(f"{count} env runner{'s' * (count > 1)} {lost if self._num_healthy < before else 'back'}")
        if self._silent and self._silent != silent_before:
            names = f"{'s' * (len(self._silent) > 1)} {', '.join(map(str, self._silent))}"
            seconds = self.algorithm.config.sample_timeout_s
            lines.append(f"no answer from env runner{names} for {seconds:g} s; what was sampled there is not counted")
        elif silent_before and not self._silent and self._num_healthy >= before:
            lines.append("all env runners in service answer again")
        sampling = f"{self._num_healthy - len(self._silent)} of {self._resources.num_env_runners} sample"
        return [f"{line}; {sampling}" for line in lines]

    def _left_out_notices(self, scalars: Mapping[str, float]) -> list[str]:
        """Return a line at the first update that is left out, and whenever their number has doubled."""
        number = int(scalars.get(LEFT_OUT, 0))
        if number < max(1, 2 * self._num_left_out):
            return []
        self._num_left_out = number
        what = "1 update was" if number == 1 else f"{number:,} updates were"
        return [
            f"so far {what} left out, because a gradient was not finite. Lower training.learning_rate, or look for "
            "rewards and features that are not finite."
        ]
