"""Rounds of sampling that do not wait twice in an iteration for an env runner that does not answer.

If an env runner's process has ended, its call fails at once, and RLlib does not call it again. If an env runner is
disconnected or hangs, RLlib regards it as healthy and waits for the whole `sample_timeout_s` in every round of the
iteration.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ray.rllib.env.env_runner_group import EnvRunnerGroup
from ray.rllib.utils.metrics import NUM_ENV_STEPS_SAMPLED


class Round(NamedTuple):
    """The answers of the env runners in one or more rounds of sampling."""

    episodes: list[Any]
    """Episode chunks."""
    results: list[Any]
    """Metrics of each env runner that answered."""
    silent: tuple[int, ...]
    """Indices of the healthy env runners that did not answer."""

    @property
    def is_complete(self) -> bool:
        """Whether all healthy env runners answered, and at least one did."""
        return bool(self.episodes) and not self.silent


def sample_round(env_runners: EnvRunnerGroup, timeout_s: float) -> Round:
    """Sample one fragment from each env runner.

    Args:
        env_runners: The algorithm's env runners.
        timeout_s: Seconds after which answers are dropped and not counted.

    Returns:
        The answers of the env runners.
    """
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
    """Sample until there are `num_steps` environment steps or a round is not complete.

    Args:
        env_runners: The algorithm's env runners.
        num_steps: Number of environment steps over all env runners.
        timeout_s: Seconds to wait for answers in each round.

    Returns:
        The answers of all rounds, with the env runners that did not answer in the last round.
    """
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
