"""RLlib as it comes and Stable-Baselines3, built from this package's run configurations.

The peers are given the hyperparameters of the configuration wherever they have them. They are imported where they are
built: a process that measures one of them does without the others.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rllib_portfolio.config import DQNRunConfig, PPORunConfig, RunConfig

BATCH_SIZE = 64
"""Transitions in a batch of DQN's peers. Ours has fewer by default, and learns from all actions of each."""
BETA = 0.4
"""Exponent of the importance weights of RLlib's replay buffer, which is RLlib's default."""
GRADIENT_NORM = 10.0
"""Norm at which the gradients of DQN's peers are clipped, which is Stable-Baselines3's default."""


def env_arguments(config: RunConfig, market_path: Path) -> dict[str, Any]:
    """Return the arguments of `PortfolioEnv` for a run."""
    return {"data": str(market_path), **config.environment.model_dump()}


def stock_ppo_config(config: PPORunConfig, market_path: Path) -> Any:
    """Return this package's PPO configuration with RLlib's own algorithm, env runner, learner and callbacks.

    The environment and the network remain ours.
    """
    from ray.rllib.algorithms.ppo import PPO
    from ray.rllib.callbacks.callbacks import RLlibCallback
    from ray.rllib.env.single_agent_env_runner import SingleAgentEnvRunner

    from rllib_portfolio.algorithms.ppo import algorithm as ppo

    resources = config.resources.model_copy(update={"env_runner": "stock", "learner": "stock"})
    stock = ppo.algorithm_config(config.model_copy(update={"resources": resources}), market_path)
    stock.algo_class = PPO
    return stock.env_runners(env_runner_cls=SingleAgentEnvRunner).callbacks(RLlibCallback)


def stock_dqn_config(config: DQNRunConfig, market_path: Path) -> Any:
    """Return RLlib's own DQN with its prioritized episode buffer, over our vector environment."""
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
        .environment(f"rllib_portfolio:{ENV_ID}", env_config=env_arguments(config, market_path))
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
            train_batch_size_per_learner=BATCH_SIZE,
            # RLlib's unit: transitions learned from for each one sampled.
            training_intensity=BATCH_SIZE / dqn.steps_per_update,
            num_steps_sampled_before_learning_starts=dqn.learning_starts,
            target_network_update_freq=dqn.target_update_interval,
            replay_buffer_config={
                "type": "PrioritizedEpisodeReplayBuffer",
                "capacity": dqn.buffer_capacity,
                "alpha": dqn.per_alpha,
                "beta": BETA,
            },
            double_q=dqn.double_q,
            dueling=config.network.dueling,
            grad_clip=GRADIENT_NORM,
        )
        .debugging(seed=config.seed, log_level="ERROR")
    )


def sb3_ppo(config: PPORunConfig, envs: Any, policy: Any = "MlpPolicy", **policy_kwargs: Any) -> Any:
    """Return Stable-Baselines3's PPO; without a policy of its own, two networks of the configuration's sizes."""
    from stable_baselines3 import PPO

    ppo = config.training
    sizes = list(config.network.hidden_sizes)
    own = {
        "net_arch": {"pi": sizes, "vf": sizes},
        "log_std_init": config.network.initial_log_std - math.log(config.environment.logit_scale),
    }
    return PPO(
        policy,
        envs,
        learning_rate=_learning_rate(config),
        n_steps=ppo.rollout_steps,
        batch_size=ppo.minibatch_size,
        n_epochs=ppo.num_epochs,
        gamma=ppo.gamma,
        gae_lambda=ppo.gae_lambda,
        clip_range=ppo.clip,
        ent_coef=ppo.entropy_coefficient,
        vf_coef=ppo.value_coefficient,
        max_grad_norm=ppo.max_gradient_norm,
        policy_kwargs=policy_kwargs or own,
        seed=config.seed,
        device="cpu",
    )


def sb3_dqn(config: DQNRunConfig, envs: Any) -> Any:
    """Return Stable-Baselines3's DQN: uniform replay, a plain network, epsilon-greedy."""
    from stable_baselines3 import DQN

    dqn = config.training
    return DQN(
        "MlpPolicy",
        envs,
        learning_rate=_learning_rate(config),
        buffer_size=dqn.buffer_capacity,
        learning_starts=dqn.learning_starts,
        batch_size=BATCH_SIZE,
        gamma=config.discount,
        train_freq=dqn.rollout_steps,
        gradient_steps=dqn.rollout_steps * config.resources.num_envs // dqn.steps_per_update,
        target_update_interval=dqn.target_update_interval,
        max_grad_norm=GRADIENT_NORM,
        policy_kwargs={"net_arch": list(config.network.hidden_sizes)},
        seed=config.seed,
        device="cpu",
    )


def _learning_rate(config: RunConfig) -> Callable[[float], float]:
    """Return the learning rate as a function of the share of the run that remains."""
    start, end = config.training.learning_rate, config.training.learning_rate_end
    last = start if end is None else end
    return lambda remaining: last + (start - last) * remaining
