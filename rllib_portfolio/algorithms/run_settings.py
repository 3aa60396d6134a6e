"""RLlib settings that all algorithms share: environment, env runners, learners, fault tolerance and seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import ray
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.connectors.env_to_module import MeanStdFilter

from rllib_portfolio.algorithms.sampling.callbacks import ReportFinishedEpisodes
from rllib_portfolio.algorithms.sampling.env_runner import SeededEnvRunner, VectorisedEnvRunner
from rllib_portfolio.config import ResourceConfig, RunConfig
from rllib_portfolio.config.consent import require_consent
from rllib_portfolio.env.registration import ENV_ID
from rllib_portfolio.errors import ConfigError

SAMPLE_TIMEOUT_S = 20.0
"""Seconds after which an iteration goes on without the env runners that have not answered."""
FILTER_TIMEOUT_S = 2.0
"""Seconds to wait for the observation filters of the env runners; RLlib also asks those that do not answer."""
ROLLOUTS = "training.rollout_steps or resources.num_envs_per_env_runner"
"""Settings that determine the memory of sampled steps."""
_FAULT_TOLERANCE = {
    "restart_failed_env_runners": True,
    "env_runner_health_probe_timeout_s": 2.0,  # keeps an iteration with a lost connection below 30 s in total
    "env_runner_restore_timeout_s": 5.0,
    "delay_between_env_runner_restarts_s": 5.0,
    "num_consecutive_env_runner_failures_tolerance": 100,
}
_ENV_RUNNERS = {"vectorised": VectorisedEnvRunner, "stock": SeededEnvRunner}

Config = TypeVar("Config", bound=AlgorithmConfig)


def with_run_settings(result: Config, config: RunConfig, market_path: Path, learner_classes: dict[str, Any]) -> Config:
    """Return RLlib's configuration with the run's settings.

    Args:
        result: A new configuration of the algorithm, which is changed in place.
        config: The run's configuration.
        market_path: File of its prepared market, which every env runner must be able to read.
        learner_classes: Learner class for each value of `resources.learner`.

    Raises:
        ConfigError: If the environment's settings name a function that is not trusted.
    """
    resources, environment = config.resources, config.environment
    require_consent(environment.model_dump())  # env runners in other processes import a custom reward
    result = (
        result.environment(
            f"rllib_portfolio:{ENV_ID}",
            env_config={"data": str(market_path), **environment.model_dump()},
            normalize_actions=False,
            clip_actions=True,
        )
        .env_runners(
            env_runner_cls=_ENV_RUNNERS[resources.env_runner],
            num_env_runners=resources.num_env_runners,
            num_envs_per_env_runner=resources.num_envs_per_env_runner,
            num_cpus_per_env_runner=resources.num_cpus_per_env_runner,
            gym_env_vectorize_mode="vector_entry_point",
            rollout_fragment_length=config.rollout_steps,
            sample_timeout_s=SAMPLE_TIMEOUT_S,
        )
        .learners(
            learner_class=learner_classes[resources.learner],
            num_learners=resources.num_learners,
            num_gpus_per_learner=resources.gpus_per_learner,
        )
        .fault_tolerance(**_FAULT_TOLERANCE)
        .callbacks(ReportFinishedEpisodes)
        .debugging(seed=config.seed, log_level="ERROR", log_sys_usage=False)  # the usage log's thread delays each stop
    )
    result.sync_filters_on_rollout_workers_timeout_s = FILTER_TIMEOUT_S  # no method of RLlib sets this
    if config.market.observation_filter == "running":
        result.env_runners(env_to_module_connector=lambda env, spaces, device: MeanStdFilter())
    return result


def holds_references(config: RunConfig) -> bool:
    """Return whether a run's episodes hold observations by reference, unless callbacks of the user read whole ones."""
    is_ours = config.resources.env_runner == "vectorised" and config.resources.learner == "fused"
    return is_ours and config.market.observation_filter != "running"


def learning_rate(config: RunConfig, scale: float = 1.0) -> Any:
    """Return the learning rate times `scale` in RLlib's form: a constant, or a schedule that changes linearly.

    Args:
        config: The run's configuration.
        scale: Factor on the learning rate, above 0.
    """
    start, end = config.training.learning_rate, config.training.learning_rate_end
    if end is None:
        return start * scale
    return [[0, start * scale], [config.schedule.total_timesteps, end * scale]]


def process_bundles(resources: ResourceConfig, num_cpus: float = 1.0) -> list[dict[str, float]]:
    """Return the Ray resource bundles of a run: one for its own process, then one per process that it starts.

    Args:
        resources: The run's processes and devices.
        num_cpus: Number of CPUs of the run's own process.
    """
    gpu = {"GPU": resources.gpus_per_learner} if resources.gpus_per_learner else {}
    learners = [{"CPU": 1.0, **gpu} for _ in range(resources.num_learners)]
    own = {"CPU": num_cpus, **(gpu if not learners else {})}
    return [own, *({"CPU": resources.num_cpus_per_env_runner} for _ in range(resources.num_env_runners)), *learners]


def require_room(bundles: Sequence[Mapping[str, float]], what: str, *, may_wait: bool = False) -> str | None:
    """Check that processes fit the Ray cluster as it is now; Ray itself would wait without limit and without a message.

    Args:
        bundles: Resource bundles, as `process_bundles` returns them.
        what: Subject of the message, such as "a trial".
        may_wait: Whether to wait for machines that an autoscaler or a person adds, if the cluster is too small.

    Returns:
        A message about the missing resources if `may_wait` is true and the cluster is too small, else None.

    Raises:
        ConfigError: If the cluster is too small and `may_wait` is false.
    """
    have = ray.cluster_resources()
    needs = {name: sum(bundle.get(name, 0.0) for bundle in bundles) for name in ("CPU", "GPU")}
    short = {name: need for name, need in needs.items() if need > have.get(name, 0.0)}
    if not short:
        return None
    if may_wait:
        wanted = (f"{need:g} {name}s where the cluster has {have.get(name, 0.0):g}" for name, need in short.items())
        return f"Waiting for machines that hold {what}: {', '.join(wanted)}."
    wanted = (f"{need:g} {name}s where it has {have.get(name, 0.0):g}" for name, need in short.items())
    raise ConfigError(
        f"{what} must fit the Ray cluster, got {', '.join(wanted)}. Ask for fewer processes or devices, or add "
        "machines. Where an autoscaler brings them, --wait-for-resources waits for it."
    )
