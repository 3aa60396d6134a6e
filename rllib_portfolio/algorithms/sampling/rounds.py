"""Rounds of sampling that do not wait twice for an env runner which says nothing.

An env runner whose process ended fails at once, and RLlib asks it no more. One that is cut off, or hangs, stays in
service: RLlib waits the whole `sample_timeout_s` for it, and again in every further round of the same iteration.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ray.rllib.env.env_runner_group import EnvRunnerGroup
from ray.rllib.utils.metrics import NUM_ENV_STEPS_SAMPLED


class Round(NamedTuple):
    """What env runners answered."""

    episodes: list[Any]
    """Episode chunks."""
    results: list[Any]
    """Metrics, of each env runner that answered."""
    silent: tuple[int, ...]
    """Numbers of the env runners that are in service and did not answer."""

    @property
    def is_complete(self) -> bool:
        """Whether all answered that are in service."""
        return bool(self.episodes) and not self.silent


def sample_round(env_runners: EnvRunnerGroup, timeout_s: float) -> Round:
    """A fragment of each env runner; what comes after `timeout_s` is dropped, and not counted."""
    if not env_runners.num_remote_env_runners():
        return Round(env_runners.local_env_runner.sample(), [env_runners.local_env_runner.get_metrics()], ())
    answers = env_runners.foreach_env_runner(
        lambda runner: (runner.worker_index, runner.sample(), runner.get_metrics()),
        local_env_runner=False,
        timeout_seconds=timeout_s,
    )
    silent = set(env_runners.healthy_env_runner_ids()) - {number for number, _, _ in answers}
    episodes = [chunk for _, chunks, _ in answers for chunk in chunks]
    return Round(episodes, [metrics for _, _, metrics in answers], tuple(sorted(silent)))


def sample_batch(env_runners: EnvRunnerGroup, num_steps: int, timeout_s: float) -> Round:
    """Rounds in one, until there are `num_steps` environment steps or one was not complete."""
    episodes: list[Any] = []
    results: list[Any] = []
    num_sampled = 0
    while num_sampled < num_steps:
        found = sample_round(env_runners, timeout_s)
        episodes += found.episodes
        results += found.results
        num_sampled += sum(int(result.get(NUM_ENV_STEPS_SAMPLED, 0)) for result in found.results)
        if not found.is_complete:
            break
    return Round(episodes, results, found.silent)
