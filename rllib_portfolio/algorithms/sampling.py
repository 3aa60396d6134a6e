"""Rounds of sampling that do not wait twice for an env runner which says nothing.

An env runner whose process ended fails at once, and RLlib asks it no more. One that is cut off, or hangs, stays in
service: RLlib waits the whole `sample_timeout_s` for it, and again in every further round of the same iteration.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ray.rllib.env.env_runner_group import EnvRunnerGroup
from ray.rllib.execution.rollout_ops import synchronous_parallel_sample
from ray.rllib.utils.metrics import NUM_ENV_STEPS_SAMPLED


class Round(NamedTuple):
    """What env runners answered."""

    episodes: list[Any]
    """Episode chunks."""
    results: list[Any]
    """Metrics, of each env runner that answered."""
    is_complete: bool
    """Whether all answered that are in service."""


def sample_round(env_runners: EnvRunnerGroup, timeout_s: float) -> Round:
    """A fragment of each env runner; what comes after `timeout_s` is dropped, and not counted."""
    episodes, results = synchronous_parallel_sample(
        worker_set=env_runners, sample_timeout_s=timeout_s, _uses_new_env_runners=True, _return_metrics=True
    )
    return Round(episodes, results, len(results) >= max(1, env_runners.num_healthy_remote_workers()))


def sample_batch(env_runners: EnvRunnerGroup, num_steps: int, timeout_s: float) -> tuple[list[Any], list[Any]]:
    """Rounds until there are `num_steps` environment steps, or one was not complete; their chunks and metrics."""
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
    return episodes, results
