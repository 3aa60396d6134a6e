"""Analytic policy gradients on RLlib's new API stack: an algorithm of its own, with its configuration.

Sources: Moody and Saffell (2001), direct reinforcement; Jiang, Xu and Liang (2017), portfolio policies; Buehler et al.
(2019), deep hedging; Freeman et al. (2021) and Xu et al. (2022), analytic gradients of simulations.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Self

from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig, NotProvided
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.utils.metrics import (
    ENV_RUNNER_RESULTS,
    ENV_RUNNER_SAMPLING_TIMER,
    LEARNER_RESULTS,
    LEARNER_UPDATE_TIMER,
    NUM_ENV_STEPS_SAMPLED_LIFETIME,
    SYNCH_WORKER_WEIGHTS_TIMER,
    TIMERS,
)

from rllib_portfolio.algorithms.apg.learner import APGLearner
from rllib_portfolio.algorithms.apg.refused_settings import APG_RULES
from rllib_portfolio.algorithms.apg.simulation import DifferentiableSimulation
from rllib_portfolio.algorithms.learning.learner_silence import warned_of_silence
from rllib_portfolio.algorithms.rare_moves import rare_moves
from rllib_portfolio.algorithms.refused_settings import refuse_env_runners, refuse_settings
from rllib_portfolio.algorithms.run_settings import ROLLOUTS, learning_rate, with_run_settings
from rllib_portfolio.algorithms.sampling.fast_path import reads_fragments
from rllib_portfolio.algorithms.sampling.rounds import sample_batch
from rllib_portfolio.algorithms.sampling.shared_market import take_market
from rllib_portfolio.algorithms.sampling.weight_sync import sync_weights
from rllib_portfolio.config import APGRunConfig, EnvironmentConfig, NetworkConfig
from rllib_portfolio.env.portfolio_env import resolve_market
from rllib_portfolio.env.rewards import BUILT_IN
from rllib_portfolio.market import MarketData
from rllib_portfolio.market.universe import TRADABLE
from rllib_portfolio.modules.architectures import ACTOR_CRITICS, model_config
from rllib_portfolio.modules.stacked_actor_critic import StackedActorCritic

STEPS_PER_ITERATION = 10_000
"""Approximate number of environment steps in one call of RLlib's `train()`, unless the schedule has shorter
intervals."""


class PortfolioAPGConfig(AlgorithmConfig):
    """The RLlib configuration of analytic policy gradients."""

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class or PortfolioAPG)
        self.explore = False
        self.starts = "learner"
        self.num_portfolios = 64
        self.num_decisions = 32
        self.num_stacked_seeds = 1
        self.updates_per_iteration = 1
        self.backpropagate_holdings = True
        self.bootstrap = False
        self.vf_loss_coeff = 0.5
        self.lambda_ = 0.95
        self.max_gradient_norm: float | None = None
        self.weight_decay = 0.0
        self.feature_dropout = 0.0
        self.mixed_precision: str | None = None

    def training(
        self,
        *,
        starts: str = NotProvided,
        num_portfolios: int = NotProvided,
        num_decisions: int = NotProvided,
        num_stacked_seeds: int = NotProvided,
        updates_per_iteration: int = NotProvided,
        backpropagate_holdings: bool = NotProvided,
        bootstrap: bool = NotProvided,
        vf_loss_coeff: float = NotProvided,
        lambda_: float = NotProvided,
        max_gradient_norm: float | None = NotProvided,
        weight_decay: float = NotProvided,
        feature_dropout: float = NotProvided,
        **kwargs: Any,
    ) -> Self:
        """Set training settings: RLlib's and ours.

        Args:
            starts: "learner" if the learner draws the days itself, or "env_runners".
            num_portfolios: Number B of portfolios that walk at the same time, for each seed.
            num_decisions: Number H of decisions within a horizon.
            num_stacked_seeds: Number S of networks that are trained as one program.
            updates_per_iteration: Updates in one call of `train`, if the learner draws the days.
            backpropagate_holdings: Whether gradients flow through the portfolio weights in observations.
            bootstrap: Whether a critic values the state at the end of the horizon.
            vf_loss_coeff: Weight of the critic's squared error.
            lambda_: Lambda of the critic's targets.
            max_gradient_norm: Largest norm of the gradient of each network; None does not clip.
            weight_decay: Decoupled decay of the weight matrices (Loshchilov and Hutter 2019).
            feature_dropout: Probability with which each feature is set to 0 for a whole horizon.
            **kwargs: RLlib's own settings.
        """
        ours = {name: value for name, value in locals().items() if name not in ("self", "kwargs", "__class__")}
        super().training(**kwargs)
        for name, value in ours.items():
            if value is not NotProvided:
                setattr(self, name, value)
        return self

    @property
    def needs_states(self) -> bool:
        """Whether env runners tell the state of the environments before each step."""
        return self.starts == "env_runners"

    def get_default_learner_class(self) -> type[APGLearner]:
        return APGLearner

    def get_default_rl_module_spec(self) -> RLModuleSpec:
        settings = model_config(NetworkConfig(architecture="flat"), EnvironmentConfig().logit_scale, None)
        return RLModuleSpec(module_class=ACTOR_CRITICS["flat"], model_config=settings)

    def validate(self) -> None:
        if self._validate_config:
            refuse_settings(self, APG_RULES)
        super().validate()


@reads_fragments(infos=False, observations=False)
class PortfolioAPG(Algorithm):
    """Analytic policy gradients: learning by differentiating the accounting."""

    silent_env_runners: tuple[int, ...] = ()
    """Indices of the env runners that did not answer in the last round of sampling."""

    @classmethod
    def get_default_config(cls) -> PortfolioAPGConfig:
        return PortfolioAPGConfig()

    def setup(self, config: PortfolioAPGConfig) -> None:
        super().setup(config)
        refuse_env_runners(config, self.env_runner_group)

    def training_step(self) -> None:
        if self.config.starts == "learner":
            self._learn_from_own_portfolios()
        else:
            self._learn_from_walks()
        with self.metrics.log_time((TIMERS, SYNCH_WORKER_WEIGHTS_TIMER)):
            sync_weights(self.env_runner_group, self.learner_group)

    def _learn_from_own_portfolios(self) -> None:
        """Let the learners simulate and learn; each simulated decision of a seed counts as one environment step."""
        config, steps = self.config, self._num_steps()
        update = partial(_update_from_own_portfolios, num_updates=config.updates_per_iteration, first_step=steps)
        with warned_of_silence(self), self.metrics.log_time((TIMERS, LEARNER_UPDATE_TIMER)):
            results = [result.get() for result in self.learner_group.foreach_learner(update)]
        self.metrics.aggregate(results, key=LEARNER_RESULTS)
        walked = config.updates_per_iteration * config.num_portfolios * config.num_decisions
        key = (ENV_RUNNER_RESULTS, NUM_ENV_STEPS_SAMPLED_LIFETIME)
        self.metrics.log_value(key, walked, reduce="lifetime_sum", with_throughput=True)

    def _learn_from_walks(self) -> None:
        """Let env runners walk the market, and the learners repeat and differentiate their walks."""
        with self.metrics.log_time((TIMERS, ENV_RUNNER_SAMPLING_TIMER)):
            episodes, env_runner_results, self.silent_env_runners = sample_batch(
                self.env_runner_group,
                self.config.num_portfolios * self.config.num_decisions,
                self.config.sample_timeout_s,
            )
            if not episodes:
                return
            self.metrics.aggregate(env_runner_results, key=ENV_RUNNER_RESULTS)
        with warned_of_silence(self), self.metrics.log_time((TIMERS, LEARNER_UPDATE_TIMER)):
            timesteps = {NUM_ENV_STEPS_SAMPLED_LIFETIME: self._num_steps()}
            results = self.learner_group.update(episodes=episodes, timesteps=timesteps)
            self.metrics.aggregate(results, key=LEARNER_RESULTS)

    def _num_steps(self) -> int:
        return int(self.metrics.peek((ENV_RUNNER_RESULTS, NUM_ENV_STEPS_SAMPLED_LIFETIME), default=0))


def _update_from_own_portfolios(learner: Any, num_updates: int, first_step: int) -> Any:
    return learner.update_from_own_portfolios(num_updates, first_step)


def build(config: APGRunConfig, market_path: Path) -> PortfolioAPG:
    """Return the algorithm for the prepared market at `market_path`, which every env runner must be able to read."""
    return algorithm_config(config, market_path).build_algo()


def algorithm_config(config: APGRunConfig, market_path: Path) -> PortfolioAPGConfig:
    """Return RLlib's configuration of a run for the prepared market at `market_path`."""
    take_market(str(market_path))
    market = resolve_market(market_path)
    result = with_run_settings(PortfolioAPGConfig(), config, market_path, {"fused": APGLearner})
    if config.environment.reward not in BUILT_IN:
        DifferentiableSimulation.of(result.env_config, "cpu").require_differentiable_reward()
    return result.rl_module(rl_module_spec=module_spec(config, market)).training(**_training_settings(config))


def module_spec(config: APGRunConfig, market: MarketData) -> RLModuleSpec:
    """Return the specification of the network, or of the stacked networks, for a market.

    Args:
        config: The run's configuration.
        market: Its market, which determines the architecture if the configuration leaves it open.

    Raises:
        ConfigError: If the network cannot be used in the market.
    """
    network = config.network.for_assets(market.num_assets, market.universe is not None)
    features, num_members = market.asset_feature_names, config.resources.num_stacked_seeds
    environment = config.environment
    settings = model_config(
        network, environment.logit_scale, len(features), TRADABLE in features, environment.partial_trading
    )
    if num_members == 1:
        return RLModuleSpec(module_class=ACTOR_CRITICS[network.architecture], model_config=settings)
    return RLModuleSpec(module_class=StackedActorCritic, model_config=settings | {"num_members": num_members})


def deciding_weights(weights: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the weights unchanged, because the policy decides with the learned weights."""
    return weights


def start_notes(config: APGRunConfig, market: MarketData) -> tuple[str, ...]:
    """Return notes on the horizon, the network and the reward."""
    network = config.network.for_assets(market.num_assets, market.universe is not None)
    notes = [
        f"Rewards are differentiated over {config.rollout_steps} decisions of a {network.architecture} network with "
        f"hidden_sizes {list(network.hidden_sizes)} (training.horizon_days)."
    ]
    if config.resources.num_stacked_seeds > 1:
        notes.append(
            f"{config.resources.num_stacked_seeds} seeds are trained as one program, and steps are counted for each. "
            "The policy is their ensemble."
        )
    if config.training.max_gradient_norm is not None and (found := rare_moves(market)):
        notes.append(
            f"{found} Clipped gradients give such days too little weight. Use larger batches without clipping: --set "
            "training.max_gradient_norm=null --set resources.num_envs_per_env_runner=128 --set "
            "training.learning_rate=0.003 --set schedule.total_timesteps=1000000."
        )
    return tuple(notes)


def learning_numbers(
    config: APGRunConfig, market: MarketData, step_numbers: int, num_observed: int, num_hidden: int
) -> dict[str, float]:
    """Return how many numbers the graph of a horizon holds: the observations and all layers of each decision."""
    num_steps = config.rollout_steps * config.resources.num_envs * config.resources.num_stacked_seeds
    return {ROLLOUTS: float(num_steps) * (2 * num_observed + 4 * num_hidden + 12 * market.num_assets)}


def _training_settings(config: APGRunConfig) -> dict[str, Any]:
    apg, schedule, batch = config.training, config.schedule, config.rollout_steps * config.resources.num_envs
    intervals = (schedule.total_timesteps, schedule.evaluation_interval, schedule.checkpoint_interval)
    return {
        "lr": learning_rate(config),
        "gamma": config.discount,
        "lambda_": apg.value_lambda,
        "vf_loss_coeff": apg.value_coefficient,
        "train_batch_size_per_learner": batch // max(1, config.resources.num_learners),
        "starts": apg.starts,
        "num_portfolios": config.resources.num_envs,
        "num_decisions": config.rollout_steps,
        "num_stacked_seeds": config.resources.num_stacked_seeds,
        "updates_per_iteration": max(1, min(STEPS_PER_ITERATION, *intervals) // batch),
        "backpropagate_holdings": apg.backpropagate_holdings,
        "bootstrap": apg.bootstrap,
        "max_gradient_norm": apg.max_gradient_norm,
        "weight_decay": apg.weight_decay,
        "feature_dropout": apg.feature_dropout,
    }
