"""PPO (Schulman et al. 2017, arXiv 1707.06347) on RLlib's new API stack, with reward normalisation in the driver."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from ray.rllib.algorithms.algorithm_config import NotProvided
from ray.rllib.algorithms.ppo import PPO
from ray.rllib.algorithms.ppo import PPOConfig as RLlibPPOConfig
from ray.rllib.core import ALL_MODULES
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.utils.metrics import (
    ENV_RUNNER_RESULTS,
    ENV_RUNNER_SAMPLING_TIMER,
    LEARNER_RESULTS,
    LEARNER_UPDATE_TIMER,
    NUM_ENV_STEPS_SAMPLED_LIFETIME,
    NUM_MODULE_STEPS_TRAINED_LIFETIME,
    SYNCH_WORKER_WEIGHTS_TIMER,
    TIMERS,
)

from rllib_portfolio.algorithms.learning.learner_silence import warned_of_silence
from rllib_portfolio.algorithms.learning.reward_scale import ScalesRewards
from rllib_portfolio.algorithms.learning.train_batch import LARGEST_PASS
from rllib_portfolio.algorithms.ppo.learner import FusedPPOLearner, StockPPOLearner
from rllib_portfolio.algorithms.ppo.refused_settings import PPO_RULES
from rllib_portfolio.algorithms.rare_moves import rare_moves
from rllib_portfolio.algorithms.refused_settings import refuse_env_runners, refuse_settings
from rllib_portfolio.algorithms.run_settings import ROLLOUTS, learning_rate, with_run_settings
from rllib_portfolio.algorithms.sampling.fast_path import reads_fragments
from rllib_portfolio.algorithms.sampling.rounds import sample_batch
from rllib_portfolio.algorithms.sampling.shared_market import take_market
from rllib_portfolio.algorithms.sampling.weight_sync import sync_weights
from rllib_portfolio.config import PER_ASSET_FROM, NetworkConfig, PPOConfig, PPORunConfig
from rllib_portfolio.config.networks import PER_ASSET
from rllib_portfolio.env.portfolio_env import resolve_market
from rllib_portfolio.market import MarketData
from rllib_portfolio.market.universe import TRADABLE
from rllib_portfolio.modules.architectures import ACTOR_CRITICS, model_config

_LEARNERS = {"fused": FusedPPOLearner, "stock": StockPPOLearner}
WIDE_BATCH = 8192
"""Smallest batch, in steps, with which PPO gives rare days enough weight (the rare crashes in docs/results.md)."""
STEP_ASSETS = 20
"""Largest number of assets for which a flat network learns at the configured learning rate."""


class PortfolioPPOConfig(RLlibPPOConfig):
    """RLlib's PPO configuration with additional training settings."""

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class or PortfolioPPO)
        self.normalize_rewards = True
        self.market_baseline = True
        self.weight_decay = 0.0
        self.max_kl: float | None = None
        self.mixed_precision: str | None = None

    def training(
        self,
        *,
        normalize_rewards: bool = NotProvided,
        market_baseline: bool = NotProvided,
        weight_decay: float = NotProvided,
        max_kl: float | None = NotProvided,
        mixed_precision: str | None = NotProvided,
        **kwargs: Any,
    ) -> Self:
        """Set training settings: RLlib's and ours.

        Args:
            normalize_rewards: Whether rewards are divided by the running standard deviation of their discounted sum.
            market_baseline: Whether the part of rewards and advantages that the day's asset returns explain is removed
                by a regression (fused learner only).
            weight_decay: Decoupled decay of the weight matrices (Loshchilov and Hutter 2019; fused learner only).
            max_kl: An update ends at the first minibatch on which the KL divergence from the policy that sampled
                exceeds this value; None disables the check (fused learner only).
            mixed_precision: "bf16", "fp16" or None; only the fused learner uses it.
            **kwargs: RLlib's own settings.
        """
        super().training(**kwargs)
        ours = {
            "normalize_rewards": normalize_rewards,
            "market_baseline": market_baseline,
            "weight_decay": weight_decay,
            "max_kl": max_kl,
            "mixed_precision": mixed_precision,
        }
        for name, value in ours.items():
            if value is not NotProvided:
                setattr(self, name, value)
        return self

    def validate(self) -> None:
        if self._validate_config:
            refuse_settings(self, PPO_RULES)
        super().validate()


@reads_fragments(infos=False, observations=False)
class PortfolioPPO(ScalesRewards, PPO):
    """RLlib's PPO with normalised rewards."""

    silent_env_runners: tuple[int, ...] = ()
    """Indices of the env runners that did not answer in the last round of sampling."""

    @classmethod
    def get_default_config(cls) -> PortfolioPPOConfig:
        return PortfolioPPOConfig()

    def setup(self, config: PortfolioPPOConfig) -> None:
        super().setup(config)
        refuse_env_runners(config, self.env_runner_group)

    def training_step(self) -> None:
        with self.metrics.log_time((TIMERS, ENV_RUNNER_SAMPLING_TIMER)):
            episodes, env_runner_results, self.silent_env_runners = sample_batch(
                self.env_runner_group, self.config.total_train_batch_size, self.config.sample_timeout_s
            )
            if not episodes:
                return
            self.metrics.aggregate(env_runner_results, key=ENV_RUNNER_RESULTS)
        if self.config.normalize_rewards:
            self.reward_scale.update(episodes)
            episodes = self.reward_scale.scaled(episodes)
        with warned_of_silence(self), self.metrics.log_time((TIMERS, LEARNER_UPDATE_TIMER)):
            learner_results = self.learner_group.update(
                episodes=episodes,
                timesteps=self._timesteps(),
                num_epochs=self.config.num_epochs,
                minibatch_size=self.config.minibatch_size,
                shuffle_batch_per_epoch=self.config.shuffle_batch_per_epoch,
            )
            self.metrics.aggregate(learner_results, key=LEARNER_RESULTS)
        self.log_reward_scale()
        with self.metrics.log_time((TIMERS, SYNCH_WORKER_WEIGHTS_TIMER)):
            sync_weights(self.env_runner_group, self.learner_group)

    def _timesteps(self) -> dict[str, int]:
        """Return the step counts that the learners' schedules depend on."""
        return {
            NUM_ENV_STEPS_SAMPLED_LIFETIME: self.metrics.peek((ENV_RUNNER_RESULTS, NUM_ENV_STEPS_SAMPLED_LIFETIME)),
            NUM_MODULE_STEPS_TRAINED_LIFETIME: self.metrics.peek(
                (LEARNER_RESULTS, ALL_MODULES, NUM_MODULE_STEPS_TRAINED_LIFETIME), default=0
            ),
        }


def build(config: PPORunConfig, market_path: Path) -> PortfolioPPO:
    """Return the algorithm for the prepared market at `market_path`, which every env runner must be able to read."""
    return algorithm_config(config, market_path).build_algo()


def algorithm_config(config: PPORunConfig, market_path: Path) -> PortfolioPPOConfig:
    """Return RLlib's configuration of a run for the prepared market at `market_path`."""
    take_market(str(market_path))
    market = resolve_market(market_path)
    config = config.for_assets(market.num_assets, market.universe is not None)
    result = with_run_settings(PortfolioPPOConfig(), config, market_path, _LEARNERS)
    settings = _training_settings(config, step_scale(config.network, market.num_assets))
    return result.rl_module(rl_module_spec=module_spec(config, market)).training(**settings)


def module_spec(config: PPORunConfig, market: MarketData) -> RLModuleSpec:
    """Return the specification of the actor-critic for a market.

    Args:
        config: The run's configuration.
        market: Its market, which determines the architecture if the configuration leaves it open.

    Raises:
        ConfigError: If the network cannot be used in the market.
    """
    network = config.network.for_assets(market.num_assets, market.universe is not None)
    features, environment = market.asset_feature_names, config.environment
    settings = model_config(
        network, environment.logit_scale, len(features), TRADABLE in features, environment.partial_trading
    )
    return RLModuleSpec(module_class=ACTOR_CRITICS[network.architecture], model_config=settings)


def step_scale(network: NetworkConfig, num_assets: int) -> float:
    """Return the factor on the learning rate that keeps the policy's step size independent of the number of assets.

    Adam changes every weight by about the learning rate, whatever its gradient, so that a layer's outputs change in
    proportion to the number of its inputs (Yang et al. 2022, arXiv 2203.03466, table 3). The number of inputs of a flat
    network grows with the number of assets, so that its learning rate falls in proportion above 20 assets. The
    per-asset network has the same number of inputs for any number of assets.

    Args:
        network: Settings of the network, with a resolved architecture (not "auto").
        num_assets: N.
    """
    return 1.0 if network.architecture == PER_ASSET else min(1.0, STEP_ASSETS / num_assets)


def deciding_weights(weights: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the weights unchanged, because the policy decides with the learned weights."""
    return weights


def start_notes(config: PPORunConfig, market: MarketData) -> tuple[str, ...]:
    """Return notes on settings that follow from the market, on settings without effect, and on rare large moves."""
    num_assets = market.num_assets
    network = config.network.for_assets(num_assets, market.universe is not None)
    scale, is_chosen = step_scale(network, num_assets), config.network.architecture == "auto"
    others = (*_ignored_by_stock_learner(config), *_idle_baseline(config), *_rare_moves(config, market))
    if not is_chosen and scale == 1.0:
        return others
    text = f"The network is {network.architecture} with hidden_sizes {list(network.hidden_sizes)}"
    if is_chosen and market.universe is not None:
        text += ", because network.architecture is auto and the assets come and go"
    elif is_chosen:
        text += f", because network.architecture is auto: flat below {PER_ASSET_FROM} assets; there are {num_assets}"
    if scale < 1.0:
        rate = f"{config.training.learning_rate * scale:.3g}"
        text += f". For {num_assets} assets the learning rate is {rate}, {STEP_ASSETS}/{num_assets} of the setting"
    return (f"{text}.", *others)


def learning_numbers(
    config: PPORunConfig, market: MarketData, step_numbers: int, num_observed: int, num_hidden: int
) -> dict[str, float]:
    """Return how many numbers the batch with its copies, the largest forward pass over it, and a minibatch hold."""
    num_steps = config.training.rollout_steps * config.resources.num_envs
    in_pass = min(num_steps, LARGEST_PASS // num_observed + 1)
    return {
        "training.minibatch_size": float(config.training.minibatch_size) * (2 * num_observed + 4 * num_hidden),
        ROLLOUTS: 3.0 * num_steps * step_numbers + float(in_pass) * (2 * num_observed + num_hidden),
    }


def _idle_baseline(config: PPORunConfig) -> tuple[str, ...]:
    """Return a note if batches may hold a single episode: the market baseline is fitted to the other episodes."""
    days, steps = config.environment.episode_days, config.training.rollout_steps
    is_single = config.resources.num_envs == 1 and (days is None or steps * config.environment.rebalance_days <= days)
    if not (is_single and config.training.market_baseline):
        return ()
    return (
        "training.market_baseline has no effect on a batch of one episode, because it is fitted to the others. Use two "
        "environments (resources.num_envs_per_env_runner) or longer batches (training.rollout_steps).",
    )


def _rare_moves(config: PPORunConfig, market: MarketData) -> tuple[str, ...]:
    """Return a note if an asset's returns are dominated by moves that are too rare for the batches of the run."""
    found, envs_in_all = rare_moves(market), -(-WIDE_BATCH // config.training.rollout_steps)
    if not found or config.resources.num_envs >= envs_in_all:
        return ()
    num_envs = -(-envs_in_all // max(1, config.resources.num_env_runners))
    return (
        f"{found} PPO's clipped ratios and gradients give such days too little weight, and it may hold far too much of "
        f"an asset that crashes rarely. Use larger batches and more steps: --set "
        f"resources.num_envs_per_env_runner={num_envs} --set training.minibatch_size=2048 --set "
        "training.max_gradient_norm=null --set schedule.total_timesteps=1000000.",
    )


def _ignored_by_stock_learner(config: PPORunConfig) -> tuple[str, ...]:
    """Return a note on the settings that RLlib's learner ignores, if the run uses RLlib's learner."""
    training = config.training
    settings = {
        "market_baseline": training.market_baseline,
        "weight_decay": training.weight_decay > 0.0,
        "max_kl": training.max_kl is not None,
    }
    names = [f"training.{name}" for name, is_set in settings.items() if is_set]
    if config.resources.learner != "stock" or not names:
        return ()
    return (
        f"RLlib's own learner (resources.learner: stock) ignores {', '.join(names)}, and divides advantages by the "
        "deviation of their own batch.",
    )


def _training_settings(config: PPORunConfig, scale: float) -> dict[str, Any]:
    ppo: PPOConfig = config.training
    batch_size = ppo.rollout_steps * config.resources.num_envs
    return {
        "lr": learning_rate(config, scale),
        "gamma": ppo.gamma,
        "lambda_": ppo.gae_lambda,
        "clip_param": ppo.clip,
        "vf_loss_coeff": ppo.value_coefficient,
        "vf_clip_param": ppo.value_clip if ppo.value_clip is not None else float("inf"),
        "entropy_coeff": ppo.entropy_coefficient,
        "num_epochs": ppo.num_epochs,
        "minibatch_size": ppo.minibatch_size,
        "train_batch_size_per_learner": batch_size // max(1, config.resources.num_learners),
        "grad_clip": ppo.max_gradient_norm,
        "grad_clip_by": "global_norm",
        "use_kl_loss": ppo.use_kl_loss,
        "kl_coeff": ppo.kl_coefficient,
        "kl_target": ppo.kl_target,
        "normalize_rewards": ppo.normalize_rewards,
        "market_baseline": ppo.market_baseline,
        "weight_decay": ppo.weight_decay,
        "max_kl": ppo.max_kl,
        "mixed_precision": config.resources.mixed_precision,
    }
