"""Who learns: this package, RLlib as it comes, Stable-Baselines3. All on our environment, one process, one thread.

The peers are given the hyperparameters of this package's defaults wherever they have them, and more than they come
with: RLlib's PPO learns with our network, whose first deviation fits the environment's logits; Stable-Baselines3
normalises rewards. What they do not have is the market baseline, noisy streams and, for Stable-Baselines3, prioritized
replay.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.learning.certificates import Certificate, Decision, progress, run_config
from benchmarks.peers import env_arguments, sb3_dqn, sb3_ppo, stock_dqn_config, stock_ppo_config
from rllib_portfolio.algorithms.policy_export import current_policy
from rllib_portfolio.algorithms.registry import ALGORITHMS
from rllib_portfolio.arrays import FloatArray
from rllib_portfolio.config import PPORunConfig, RunConfig
from rllib_portfolio.env import PortfolioEnv
from rllib_portfolio.env.action_map import ActionInputs, softmax_weights
from rllib_portfolio.env.action_table import ActionTable, build_action_table
from rllib_portfolio.market import MarketData

Watch = Callable[[int, Decision], None]
"""Called with the environment steps so far, and the greedy policy that they have led to."""

SETTINGS: dict[str, dict[str, Any]] = {
    "ppo": {},
    "apg": {},
    "dqn": {
        "environment": {"action_table": "auto", "action_levels": 5},
        "network": {"hidden_sizes": (128, 64)},
        "training": {"batch_size": 32},
    },
}
"""Sections on top of the defaults: DQN's portfolios are steps of 20 %, its network the smallest of the search space,
and its batches twice as large as the default's."""


def configuration(
    certificate: Certificate, algo: str, seed: int, steps: int, changes: Mapping[str, Any] | None = None
) -> RunConfig:
    """The run that everyone makes."""
    sections = {name: dict(values) for name, values in SETTINGS[algo].items()}
    for name, values in (changes or {}).items():
        sections[name] = sections.get(name, {}) | dict(values)
    sections["environment"] = sections.get("environment", {}) | certificate.environment
    return run_config(algo, seed, steps, **sections)


def action_table(config: RunConfig, market: MarketData) -> ActionTable | None:
    """Return the action table of a run with discrete actions; None for continuous actions."""
    if config.environment.action_mode == "continuous":
        return None
    return build_action_table(config.environment, market.assets)


def ours(config: RunConfig, market: MarketData, market_path: Path, interval: int, watch: Watch) -> None:
    """Train with this package."""
    _rllib(ALGORITHMS[config.algo].build(config, market_path), _ours_now, config, market, interval, watch)


def stock(config: RunConfig, market: MarketData, market_path: Path, interval: int, watch: Watch) -> None:
    """RLlib's own algorithm, env runner, learner and replay."""
    is_ppo = isinstance(config, PPORunConfig)
    algorithm = (stock_ppo_config if is_ppo else stock_dqn_config)(config, market_path).build_algo()
    _rllib(algorithm, _ours_now if is_ppo else _greedy_rllib, config, market, interval, watch)


def _rllib(
    algorithm: Any, policy: Callable[..., Decision], config: RunConfig, market: MarketData, interval: int, watch: Watch
) -> None:
    for steps in progress(algorithm, config.schedule.total_timesteps, interval):
        watch(steps, policy(algorithm, config, market))


def _ours_now(algorithm: Any, config: RunConfig, market: MarketData) -> Decision:
    """Return the policy that the learners of one of our algorithms have reached."""
    return partial(current_policy(algorithm, config, market), volatility=_volatility(market.num_assets))


def _volatility(num_assets: int) -> FloatArray:
    """Daily volatility [N] up to a factor, for the inverse-volatility action, which is then the uniform portfolio.

    The markets whose table has that action are of assets that are equally volatile.
    """
    return np.ones(num_assets)


def _greedy_rllib(algorithm: Any, config: RunConfig, market: MarketData) -> Decision:
    from ray.rllib.core.columns import Columns

    module, table = algorithm.get_module(), action_table(config, market)
    assert table is not None

    def decide(observations: FloatArray) -> FloatArray:
        with torch.inference_mode():
            actions = module.forward_inference({Columns.OBS: torch.from_numpy(observations)})[Columns.ACTIONS]
        return _targets(table, actions.numpy(), observations)

    return decide


def sb3(config: RunConfig, market: MarketData, market_path: Path, interval: int, watch: Watch) -> None:
    """Stable-Baselines3, its own policies, all environments in this process."""
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

    make = partial(PortfolioEnv, **env_arguments(config, market_path))
    envs = DummyVecEnv([make] * config.resources.num_envs)
    rewards = VecNormalize(envs, norm_obs=False, norm_reward=True, gamma=config.discount)
    model = (sb3_ppo if isinstance(config, PPORunConfig) else sb3_dqn)(config, rewards)
    table, total = action_table(config, market), config.schedule.total_timesteps

    def decide(observations: FloatArray) -> FloatArray:
        actions, _ = model.predict(observations, deterministic=True)
        if table is None:
            return softmax_weights(np.clip(actions, -1.0, 1.0), config.environment.logit_scale)
        return _targets(table, actions, observations)

    class AfterUpdates(BaseCallback):
        """Looks at the policy where a rollout begins, and at the end: what came before is learned from by then."""

        seen = 0

        def _on_step(self) -> bool:
            return True

        def _on_rollout_start(self) -> None:
            before, self.seen = self.seen, self.num_timesteps
            if before // interval < self.seen // interval or self.seen >= total:
                watch(self.seen, decide)

        _on_training_end = _on_rollout_start

    # SB3 reckons its schedules from the steps of one call, so that there is one call.
    model.learn(total, callback=AfterUpdates(), log_interval=None)


def _targets(table: ActionTable, actions: NDArray[np.integer[Any]], observations: FloatArray) -> FloatArray:
    num_weights = table.weights.shape[1]
    held = observations[:, -num_weights:].astype(np.float64)
    return table.target(actions, held, ActionInputs(_volatility(num_weights - 1)))


CONTENDERS = {"ours": ours, "rllib": stock, "sb3": sb3}
