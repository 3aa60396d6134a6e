"""Who learns: this package, RLlib as it comes, Stable-Baselines3. All on our environment, one process, one thread.

The peers are given the hyperparameters of this package's defaults wherever they have them, and more than they come
with: RLlib's PPO learns with our network, whose first deviation fits the environment's logits; Stable-Baselines3
normalises rewards. What they do not have is the market baseline, noisy streams and, for Stable-Baselines3, prioritized
replay.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.learning.certificates import Certificate, Decision, run_config
from rllib_portfolio.algorithms.policy import current_policy
from rllib_portfolio.algorithms.registry import ALGORITHMS
from rllib_portfolio.config import DQNRunConfig, PPORunConfig, RunConfig
from rllib_portfolio.env import PortfolioEnv
from rllib_portfolio.env.action_map import ActionTable, build_action_table, softmax_weights
from rllib_portfolio.market import MarketData

FloatArray = NDArray[np.floating[Any]]
Progress = Iterator[tuple[int, Decision]]
"""Environment steps so far, and the greedy policy that they have led to."""

PEERS_BATCH_SIZE = 64
"""Transitions in a batch of DQN's peers. Ours has fewer, and learns from all actions of each."""
PEERS_BETA = 0.4
"""Exponent of the importance weights of RLlib's replay buffer, which is RLlib's default."""
PEERS_GRADIENT_NORM = 10.0
"""Norm at which the gradients of DQN's peers are clipped, which is Stable-Baselines3's default."""
SETTINGS: dict[str, dict[str, Any]] = {
    "ppo": {},
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
    """Of a run with discrete actions."""
    if config.environment.action_mode == "continuous":
        return None
    return build_action_table(config.environment, market.assets)


def ours(config: RunConfig, market: MarketData, market_path: Path, interval: int) -> Progress:
    """This package."""
    algorithm = ALGORITHMS[config.algo].build(config, market_path)
    return _rllib(algorithm, config, interval, lambda: _ours_now(algorithm, config, market))


def stock(config: RunConfig, market: MarketData, market_path: Path, interval: int) -> Progress:
    """RLlib's own algorithm, env runner, learner and replay."""
    if isinstance(config, PPORunConfig):
        algorithm = _stock_ppo(config, market_path)
        return _rllib(algorithm, config, interval, lambda: _ours_now(algorithm, config, market))
    algorithm = _stock_dqn(config, market_path)
    return _rllib(algorithm, config, interval, lambda: _greedy_rllib(algorithm, config, market))


def _ours_now(algorithm: Any, config: RunConfig, market: MarketData) -> Decision:
    """Return the policy that the learners of one of our algorithms have reached."""
    return partial(current_policy(algorithm, config, market), volatility=_volatility(market.num_assets))


def _volatility(num_assets: int) -> FloatArray:
    """Daily volatility [N] up to a factor, for the inverse-volatility action, which is then the uniform portfolio.

    The markets whose table has that action are of assets that are equally volatile.
    """
    return np.ones(num_assets)


def _rllib(algorithm: Any, config: RunConfig, interval: int, policy: Callable[[], Decision]) -> Progress:
    try:
        steps = 0
        while steps < config.schedule.total_timesteps:
            before = steps
            result = algorithm.train()
            steps = int(result["env_runners"]["num_env_steps_sampled_lifetime"])
            if before // interval < steps // interval or steps >= config.schedule.total_timesteps:
                yield steps, policy()
    finally:
        algorithm.stop()


def _stock_ppo(config: PPORunConfig, market_path: Path) -> Any:
    from benchmarks.throughput.rllib import as_it_comes
    from rllib_portfolio.algorithms.ppo import algorithm as ppo

    resources = config.resources.model_copy(update={"env_runner": "stock", "learner": "stock"})
    return as_it_comes(
        ppo.algorithm_config(config.model_copy(update={"resources": resources}), market_path)
    ).build_algo()


def _stock_dqn(config: DQNRunConfig, market_path: Path) -> Any:
    from ray.rllib.algorithms.dqn import DQN
    from ray.rllib.algorithms.dqn import DQNConfig as RLlibDQNConfig
    from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig

    from rllib_portfolio import ENV_ID
    from rllib_portfolio.algorithms.run_settings import learning_rate

    dqn, hidden_sizes = config.training, config.network.hidden_sizes
    model = DefaultModelConfig(
        fcnet_hiddens=[hidden_sizes[0]],
        fcnet_activation="relu",
        head_fcnet_hiddens=[hidden_sizes[1]],
        head_fcnet_activation="relu",
    )
    return (
        RLlibDQNConfig(algo_class=DQN)
        .environment(f"rllib_portfolio:{ENV_ID}", env_config=_env_arguments(config, market_path))
        .env_runners(
            num_env_runners=0,
            num_envs_per_env_runner=config.resources.num_envs,
            gym_env_vectorize_mode="vector_entry_point",
            rollout_fragment_length=dqn.rollout_steps,
        )
        .rl_module(model_config=model)
        .training(
            lr=learning_rate(config),
            gamma=config.discount,
            train_batch_size_per_learner=PEERS_BATCH_SIZE,
            training_intensity=PEERS_BATCH_SIZE / dqn.steps_per_update,
            num_steps_sampled_before_learning_starts=dqn.learning_starts,
            target_network_update_freq=dqn.target_update_interval,
            replay_buffer_config={
                "type": "PrioritizedEpisodeReplayBuffer",
                "capacity": dqn.buffer_capacity,
                "alpha": dqn.per_alpha,
                "beta": PEERS_BETA,
            },
            double_q=dqn.double_q,
            dueling=config.network.dueling,
            grad_clip=PEERS_GRADIENT_NORM,
        )
        .debugging(seed=config.seed, log_level="ERROR")
        .build_algo()
    )


def _greedy_rllib(algorithm: Any, config: RunConfig, market: MarketData) -> Decision:
    from ray.rllib.core.columns import Columns

    module, table = algorithm.get_module(), action_table(config, market)
    assert table is not None

    def decide(observations: FloatArray) -> FloatArray:
        with torch.inference_mode():
            actions = module.forward_inference({Columns.OBS: torch.from_numpy(observations)})[Columns.ACTIONS]
        return _targets(table, actions.numpy(), observations)

    return decide


def sb3(config: RunConfig, market: MarketData, market_path: Path, interval: int) -> Progress:
    """Stable-Baselines3, its own policies, all environments in this process."""
    from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

    make = partial(PortfolioEnv, **_env_arguments(config, market_path))
    envs = DummyVecEnv([make] * config.resources.num_envs)
    rewards = VecNormalize(envs, norm_obs=False, norm_reward=True, gamma=config.discount)
    model = (_sb3_ppo if isinstance(config, PPORunConfig) else _sb3_dqn)(config, rewards)
    table = action_table(config, market)

    def decide(observations: FloatArray) -> FloatArray:
        actions, _ = model.predict(observations, deterministic=True)
        if table is None:
            return softmax_weights(np.clip(actions, -1.0, 1.0), config.environment.logit_scale)
        return _targets(table, actions, observations)

    total = config.schedule.total_timesteps
    # SB3 reckons its schedules from the steps of one call: one call then, interrupted at each interval.
    yield from _interrupted(model, total, interval, decide)


def _interrupted(model: Any, total: int, interval: int, decide: Decision) -> Progress:
    """The course of `model.learn(total)`, yielded between rollouts.

    What `learn` does is done here call by call, through its own methods.
    """
    _, callback = model._setup_learn(total, None)
    callback.on_training_start({}, {})
    is_on_policy = hasattr(model, "rollout_buffer")
    while model.num_timesteps < total:
        before = model.num_timesteps
        if is_on_policy:
            model.collect_rollouts(model.env, callback, model.rollout_buffer, n_rollout_steps=model.n_steps)
            model._update_current_progress_remaining(model.num_timesteps, total)
            model.train()
        else:
            rollout = model.collect_rollouts(
                model.env,
                train_freq=model.train_freq,
                action_noise=model.action_noise,
                callback=callback,
                learning_starts=model.learning_starts,
                replay_buffer=model.replay_buffer,
                log_interval=None,
            )
            if model.num_timesteps > model.learning_starts:
                steps = model.gradient_steps if model.gradient_steps >= 0 else rollout.episode_timesteps
                model.train(batch_size=model.batch_size, gradient_steps=steps)
        if before // interval < model.num_timesteps // interval or model.num_timesteps >= total:
            yield int(model.num_timesteps), decide


def _sb3_ppo(config: PPORunConfig, envs: Any) -> Any:
    from stable_baselines3 import PPO

    ppo = config.training
    sizes = list(config.network.hidden_sizes)
    return PPO(
        "MlpPolicy",
        envs,
        learning_rate=_sb3_learning_rate(config),
        n_steps=ppo.rollout_steps,
        batch_size=ppo.minibatch_size,
        n_epochs=ppo.num_epochs,
        gamma=ppo.gamma,
        gae_lambda=ppo.gae_lambda,
        clip_range=ppo.clip,
        ent_coef=ppo.entropy_coefficient,
        vf_coef=ppo.value_coefficient,
        max_grad_norm=ppo.max_gradient_norm,
        policy_kwargs={
            "net_arch": {"pi": sizes, "vf": sizes},
            "log_std_init": config.network.initial_log_std - math.log(config.environment.logit_scale),
        },
        seed=config.seed,
        device="cpu",
    )


def _sb3_dqn(config: DQNRunConfig, envs: Any) -> Any:
    from stable_baselines3 import DQN

    dqn = config.training
    return DQN(
        "MlpPolicy",
        envs,
        learning_rate=_sb3_learning_rate(config),
        buffer_size=dqn.buffer_capacity,
        learning_starts=dqn.learning_starts,
        batch_size=PEERS_BATCH_SIZE,
        gamma=config.discount,
        train_freq=dqn.rollout_steps,
        gradient_steps=dqn.rollout_steps * config.resources.num_envs // dqn.steps_per_update,
        target_update_interval=dqn.target_update_interval,
        max_grad_norm=PEERS_GRADIENT_NORM,
        policy_kwargs={"net_arch": list(config.network.hidden_sizes)},
        seed=config.seed,
        device="cpu",
    )


def _sb3_learning_rate(config: RunConfig) -> Callable[[float], float]:
    """Of the share of the run that remains."""
    start, end = config.training.learning_rate, config.training.learning_rate_end
    last = start if end is None else end
    return lambda remaining: last + (start - last) * remaining


def _targets(table: ActionTable, actions: NDArray[np.integer[Any]], observations: FloatArray) -> FloatArray:
    num_weights = table.weights.shape[1]
    held = observations[:, -num_weights:].astype(np.float64)
    return table.target(actions, held, _volatility(num_weights - 1))


def _env_arguments(config: RunConfig, market_path: Path) -> dict[str, Any]:
    return {"data": str(market_path), **config.environment.model_dump()}


CONTENDERS: dict[str, Callable[[RunConfig, MarketData, Path, int], Progress]] = {
    "ours": ours,
    "rllib": stock,
    "sb3": sb3,
}
