"""DQN on RLlib's new API stack, with prioritized replay, double Q-learning and a dueling noisy network."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from ray.rllib.algorithms.algorithm_config import NotProvided
from ray.rllib.algorithms.dqn import DQN
from ray.rllib.algorithms.dqn import DQNConfig as RLlibDQNConfig
from ray.rllib.algorithms.dqn.torch.dqn_torch_learner import DQNTorchLearner
from ray.rllib.core.rl_module.rl_module import RLModuleSpec

from rllib_portfolio.algorithms.dqn.learner import FusedDQNLearner
from rllib_portfolio.algorithms.dqn.refused_settings import DQN_RULES
from rllib_portfolio.algorithms.off_policy import STEPS_PER_ITERATION, OffPolicyAlgorithm, OffPolicyConfig
from rllib_portfolio.algorithms.refused_settings import refuse_settings
from rllib_portfolio.algorithms.replay.replay_buffer import BUFFER_TYPE, ReplayBatch
from rllib_portfolio.algorithms.run_settings import learning_rate, with_run_settings
from rllib_portfolio.algorithms.sampling.counterfactual import COLUMNS, Counterfactuals
from rllib_portfolio.algorithms.sampling.fast_path import reads_fragments
from rllib_portfolio.algorithms.sampling.shared_market import take_market
from rllib_portfolio.config import DQNConfig, DQNRunConfig, QNetworkConfig
from rllib_portfolio.env.action_table import ActionTable, build_action_table
from rllib_portfolio.env.portfolio_env import resolve_market
from rllib_portfolio.market import MarketData
from rllib_portfolio.market.universe import TRADABLE
from rllib_portfolio.modules.architectures import q_model_config
from rllib_portfolio.modules.dueling_noisy_q import DuelingNoisyQ, averaged_weights

logger = logging.getLogger(__name__)

MANY_ACTIONS = 56
"""Smallest number of actions for which a run prints a note on the cost of its action table: 50 assets in a ladder."""
_LEARNERS = {"fused": FusedDQNLearner, "stock": DQNTorchLearner}


class PortfolioDQNConfig(OffPolicyConfig, RLlibDQNConfig):
    """RLlib's DQN configuration with the settings of the loop and of counterfactual actions."""

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class or PortfolioDQN)
        self.counterfactual_actions = 0
        self.counterfactual_portfolios = False

    def training(
        self,
        *,
        counterfactual_actions: int = NotProvided,
        counterfactual_portfolios: bool = NotProvided,
        **kwargs: Any,
    ) -> Self:
        """Set training settings: RLlib's, those of `OffPolicyConfig`, and those of counterfactual actions.

        Args:
            counterfactual_actions: Largest number of actions that are evaluated for each day of a batch; 0 learns only
                from the action that was taken.
            counterfactual_portfolios: Whether half of the days start from portfolios that were not held.
            **kwargs: Settings of `OffPolicyConfig` and of RLlib.
        """
        super().training(**kwargs)
        if counterfactual_actions is not NotProvided:
            self.counterfactual_actions = counterfactual_actions
        if counterfactual_portfolios is not NotProvided:
            self.counterfactual_portfolios = counterfactual_portfolios
        self.replay_buffer_config["extra_columns"] = COLUMNS if self.counterfactual_actions else ()
        return self

    @property
    def needs_states(self) -> bool:
        """Whether env runners tell the state of the environments before each step."""
        return self.counterfactual_actions > 0

    def validate(self) -> None:
        if self._validate_config:
            refuse_settings(self, DQN_RULES)
        super().validate()


@reads_fragments(infos=False, observations=False)
class PortfolioDQN(OffPolicyAlgorithm, DQN):
    """RLlib's DQN with an `ArrayEpisodeReplayBuffer`, which can also learn from actions that were not taken."""

    @classmethod
    def get_default_config(cls) -> PortfolioDQNConfig:
        return PortfolioDQNConfig()

    def setup(self, config: PortfolioDQNConfig) -> None:
        super().setup(config)
        self._counterfactuals: Counterfactuals | None = None
        if config.counterfactual_actions:
            take_market(config.env_config.get("data"))
            self._counterfactuals = Counterfactuals.of(
                config.env_config,
                config.counterfactual_actions,
                config.counterfactual_portfolios,
                looks_ahead=config.gamma > 0.0,
            )

    def completed(self, batch: ReplayBatch) -> ReplayBatch:
        if self._counterfactuals is None:
            return batch
        return self._counterfactuals.batch(batch, self.local_replay_buffer.rng)


def build(config: DQNRunConfig, market_path: Path) -> PortfolioDQN:
    """Return the algorithm for the prepared market at `market_path`, which every env runner must be able to read."""
    return algorithm_config(config, market_path).build_algo()


def deciding_weights(weights: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the weights with the Q-network's weights replaced by their running average (the target network)."""
    return averaged_weights(weights)


def start_notes(config: DQNRunConfig, market: MarketData) -> tuple[str, ...]:
    """Return notes on the network and the discount, if they were chosen, and on the cost of a large action table."""
    notes = []
    network = config.for_assets(market.num_assets, market.universe is not None).network
    if config.network.architecture != network.architecture == "per_asset":
        notes.append(
            f"The network is per_asset with hidden_sizes {list(network.hidden_sizes)}, because network.architecture is "
            "auto and the assets come and go."
        )
    if config.training.gamma is None:
        reason = "a decision changes what later ones can earn" if config.discount else "no decision changes a later one"
        notes.append(f"The discount is {config.discount:.3g}, because {reason} (training.gamma is null).")
    table = _table(config, market)
    if table.num_actions >= MANY_ACTIONS and table.first_tilt is not None:
        notes.append(
            f"DQN's table has {table.num_actions:,} actions for {market.num_assets:,} assets, and each gradient step "
            "evaluates all of them: with 500 assets it makes about 14 times fewer steps per second than with 20. "
            "Use environment.action_table=quantiles, --algo ppo, or fewer assets (market.assets)."
        )
    return tuple(notes)


def learning_numbers(
    config: DQNRunConfig, market: MarketData, step_numbers: int, num_observed: int, num_hidden: int
) -> dict[str, float]:
    """Return how many numbers the replay buffer and the activations of a batch hold, by setting."""
    dqn = config.training
    num_rows = dqn.batch_size * max(1, min(_table(config, market).num_actions, dqn.counterfactual_actions))
    return {
        "training.buffer_capacity": float(dqn.buffer_capacity) * (step_numbers + 8),
        "training.batch_size": float(num_rows) * (2 * num_observed + 4 * num_hidden),
    }


def algorithm_config(config: DQNRunConfig, market_path: Path) -> PortfolioDQNConfig:
    """Return RLlib's configuration of a run for the prepared market at `market_path`."""
    take_market(str(market_path))
    market = resolve_market(market_path)
    result = with_run_settings(PortfolioDQNConfig(), config, market_path, _LEARNERS)
    schedule = config.schedule
    intervals = (schedule.total_timesteps, schedule.evaluation_interval, schedule.checkpoint_interval)
    return (
        result.rl_module(rl_module_spec=module_spec(config, market))
        .training(**_training_settings(config), steps_per_iteration=min(STEPS_PER_ITERATION, *intervals))
        .reporting(min_sample_timesteps_per_iteration=None, min_time_s_per_iteration=None)
    )


def module_spec(config: DQNRunConfig, market: MarketData) -> RLModuleSpec:
    """Return the specification of the Q-network of a run.

    Args:
        config: The run's configuration.
        market: Its market, which determines the architecture if the configuration leaves it open.

    Raises:
        ConfigError: If the network cannot be used in the market, or over the action table.
    """
    dqn, features = config.training, market.asset_feature_names
    network = config.for_assets(market.num_assets, market.universe is not None).network
    assert isinstance(network, QNetworkConfig)
    settings = q_model_config(network, _table(config, market), len(features), TRADABLE in features)
    epsilon = (
        dqn.epsilon_start,
        dqn.epsilon_end,
        max(1, round(dqn.epsilon_fraction * config.schedule.total_timesteps)),
    )
    return RLModuleSpec(module_class=DuelingNoisyQ, model_config=settings | {"epsilon": epsilon})


def _table(config: DQNRunConfig, market: MarketData) -> ActionTable:
    return build_action_table(config.environment, market.assets, market.asset_feature_names)


def counterfactual_actions(config: DQNRunConfig) -> int:
    """Return the number of actions per day to learn from, or 0 to learn only from the action that was taken.

    It is 0 for n-step returns, for RLlib's env runner or a running observation filter (episodes then lack the
    environment's state), and for RLlib's learner. A warning is logged if the configured number is not 0 in these cases.
    """
    resources = config.resources
    knows_states = resources.env_runner == "vectorised" and config.market.observation_filter != "running"
    if knows_states and resources.learner == "fused" and config.training.n_step == 1:
        return config.training.counterfactual_actions
    if config.training.counterfactual_actions:
        logger.warning(
            "Warning: counterfactual_actions needs n_step 1, our env runner and learner, and no running observation "
            "filter. A gradient step learns only from the %d taken actions of a batch. Set counterfactual_actions to 0 "
            "to confirm this.",
            config.training.batch_size,
        )
    return 0


def _training_settings(config: DQNRunConfig) -> dict[str, Any]:
    dqn: DQNConfig = config.training
    counterfactuals = counterfactual_actions(config)
    fragment = dqn.rollout_steps * config.resources.num_envs
    steps_per_average = max(fragment, dqn.steps_per_update)  # not every fragment is followed by a gradient step
    return {
        "lr": learning_rate(config),
        "gamma": config.discount,
        "train_batch_size_per_learner": dqn.batch_size // max(1, config.resources.num_learners),
        "grad_clip": dqn.max_gradient_norm,
        "grad_clip_by": "global_norm",
        "n_step": dqn.n_step,
        "double_q": dqn.double_q,
        "td_error_loss_fn": dqn.loss,
        "num_atoms": 1,
        "tau": -math.expm1(-steps_per_average / dqn.target_update_interval),
        "target_network_update_freq": fragment,
        "replay_buffer_config": {
            "type": BUFFER_TYPE,
            "capacity": dqn.buffer_capacity,
            "alpha": dqn.per_alpha if dqn.prioritized else 0.0,
            "beta": (dqn.per_beta_start, dqn.per_beta_end),
            "beta_steps": config.schedule.total_timesteps,
            "epsilon": dqn.per_epsilon,
            "seed": config.seed,
        },
        "counterfactual_actions": counterfactuals,
        "counterfactual_portfolios": dqn.counterfactual_portfolios,
        "store_buffer_in_checkpoints": dqn.store_buffer_in_checkpoints,
        "learning_starts": dqn.learning_starts,
        "steps_per_update": dqn.steps_per_update,
        "normalize_rewards": dqn.normalize_rewards,
        "mixed_precision": config.resources.mixed_precision,
    }
