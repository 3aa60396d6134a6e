"""Runners and learners over the tiny market, in this process, and what a runner sampled, by environment."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ray.rllib.callbacks.callbacks import RLlibCallback
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.learner.learner import Learner
from ray.rllib.env.single_agent_env_runner import SingleAgentEnvRunner
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.utils.metrics.metrics_logger import MetricsLogger

from rllib_portfolio.algorithms.ppo import algorithm as ppo
from rllib_portfolio.algorithms.sampling.fast_path import reads_fragments
from rllib_portfolio.config import PPORunConfig
from rllib_portfolio.market import MarketData

SETTINGS: dict[str, dict[str, Any]] = {
    "environment": {"episode_days": 7},
    "network": {"hidden_sizes": (8, 8), "initial_log_std": 2.0},  # e^2 / 10 = 0.74: some actions leave [-1, 1]
    "training": {"rollout_steps": 11, "minibatch_size": 8, "num_epochs": 3, "learning_rate": 1e-2},
    "schedule": {"total_timesteps": 1000},
    "resources": {"num_envs_per_env_runner": 3, "device": "cpu"},
}


@reads_fragments()
class WhereFrom(RLlibCallback):
    """Notes which environment an episode is from, and what happens to it, on the env runner."""

    def on_episode_created(self, *, episode: Any, env_runner: Any, env_index: int, **kwargs: Any) -> None:
        _notes(env_runner).append(("created", env_index, None))

    def on_episode_start(self, *, episode: Any, env_runner: Any, env_index: int, **kwargs: Any) -> None:
        _notes(env_runner).append(("start", env_index, episode.get_observations(0).tolist()))
        env_runner.environments[episode.id_] = env_index
        episode.custom_data["environment"] = env_index

    def on_episode_end(
        self, *, episode: Any, prev_episode_chunks: Sequence[Any], env_runner: Any, env_index: int, **kwargs: Any
    ) -> None:
        chunks = [*prev_episode_chunks, episode]
        length, total = sum(map(len, chunks)), sum(chunk.get_return() for chunk in chunks)
        wealth = float(episode.get_infos(-1)["wealth"])
        assert episode.custom_data["environment"] == env_index
        _notes(env_runner).append(("end", env_index, (length, round(total, 9), wealth)))


def _notes(env_runner: Any) -> list[Any]:
    if not hasattr(env_runner, "notes"):
        env_runner.notes, env_runner.environments = [], {}
    return env_runner.notes


def algorithm_config(market_path: Path, settings: Mapping[str, Any] | None = None) -> ppo.PortfolioPPOConfig:
    """RLlib's configuration of the settings above, with `section.setting` values on top."""
    values = {name: dict(section) for name, section in SETTINGS.items()}
    for name, value in (settings or {}).items():
        section, _, setting = name.partition(".")
        values.setdefault(section, {})[setting] = value
    return ppo.algorithm_config(PPORunConfig(seed=3, **values), market_path).callbacks(WhereFrom)


def build_runner(
    runner_class: type[SingleAgentEnvRunner], config: ppo.PortfolioPPOConfig, **kwargs: Any
) -> SingleAgentEnvRunner:
    """An env runner in this process. It seeds the global generators: use one runner after the other."""
    return runner_class(config=config, **kwargs)


def build_learner(learner_class: type[Learner], config: ppo.PortfolioPPOConfig, runner: SingleAgentEnvRunner) -> Any:
    """A learner in this process, for the spaces of `runner`; equal weights whenever it is called."""
    torch.manual_seed(0)
    spec = config.get_multi_rl_module_spec(spaces=runner.get_spaces(), inference_only=False)
    learner = learner_class(config=config, module_spec=spec)
    learner.build()
    return learner


def chunks_by_environment(runner: Any, episodes: Sequence[SingleAgentEpisode]) -> dict[int, list[SingleAgentEpisode]]:
    """Chunks in the order of time, for each environment."""
    by_environment: dict[int, list[SingleAgentEpisode]] = {}
    for episode in episodes:
        by_environment.setdefault(runner.environments[episode.id_], []).append(episode)
    return dict(sorted(by_environment.items()))


def reduced_metrics(runner: Any) -> dict[str, Any]:
    """Return the runner's metrics as the algorithm would report them, with nested keys joined by a slash."""
    root = MetricsLogger(root=True)
    root.aggregate([runner.get_metrics()])
    return flat(root.reduce(compile=True))


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, keys joined by a slash."""
    result: dict[str, Any] = {}
    for name, value in values.items():
        result |= flat(value, f"{prefix}{name}/") if isinstance(value, Mapping) else {prefix + name: value}
    return result


def weights(learner: Any) -> dict[str, np.ndarray]:
    """Copies of the parameters of the module that is trained."""
    return {name: np.array(value) for name, value in learner.module[DEFAULT_MODULE_ID].get_state().items()}


def sent(value: Any) -> Any:
    """Return a value as it arrives in another process."""
    return pickle.loads(pickle.dumps(value))


def with_features(market: MarketData, num_features: int, num_market_features: int = 1) -> MarketData:
    """The market with other features, whose numbers are noise."""
    rng = np.random.default_rng(0)
    shape = (market.num_days, market.num_assets, num_features)
    return replace(
        market,
        asset_features=rng.standard_normal(shape, dtype=np.float32),
        market_features=rng.standard_normal((market.num_days, num_market_features), dtype=np.float32),
        asset_feature_names=tuple(f"feature_{i}" for i in range(num_features)),
        market_feature_names=tuple(f"market_{i}" for i in range(num_market_features)),
    )
