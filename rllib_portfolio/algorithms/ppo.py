"""PPO (Schulman et al. 2017, arXiv 1707.06347) on RLlib's new API stack, with reward normalisation in the driver."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

from ray.rllib.algorithms.algorithm_config import NotProvided
from ray.rllib.algorithms.ppo import PPO
from ray.rllib.algorithms.ppo import PPOConfig as RLlibPPOConfig
from ray.rllib.algorithms.ppo.torch.ppo_torch_learner import PPOTorchLearner
from ray.rllib.connectors.env_to_module import MeanStdFilter
from ray.rllib.core import ALL_MODULES, DEFAULT_MODULE_ID
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.execution.rollout_ops import synchronous_parallel_sample
from ray.rllib.utils.filter import RunningStat
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
from ray.rllib.utils.numpy import SMALL_NUMBER

from rllib_portfolio import ENV_ID
from rllib_portfolio.algorithms.callbacks import ReportFinishedEpisodes
from rllib_portfolio.algorithms.env_runner import SeededEnvRunner, VectorisedEnvRunner
from rllib_portfolio.algorithms.policy import PolicySpec, PortfolioPolicy, build_policy
from rllib_portfolio.algorithms.ppo_learner import FusedPPOLearner
from rllib_portfolio.algorithms.reward_scale import RunningRewardScale
from rllib_portfolio.config import PPOConfig, RunConfig
from rllib_portfolio.env.observation import ObservationLayout
from rllib_portfolio.market import MarketData
from rllib_portfolio.modules.actor_critic import LayerNormActorCritic

REWARD_SCALE = "reward_scale"
SAMPLE_TIMEOUT_S = 20.0
_ENV_RUNNERS = {"vectorised": VectorisedEnvRunner, "stock": SeededEnvRunner}
_LEARNERS = {"fused": FusedPPOLearner, "stock": PPOTorchLearner}


class PortfolioPPOConfig(RLlibPPOConfig):
    """RLlib's PPO configuration, and what it does not have."""

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class or PortfolioPPO)
        self.normalize_rewards = True
        self.market_baseline = True
        self.mixed_precision: str | None = None
        self.compile_update = False

    def training(
        self,
        *,
        normalize_rewards: bool = NotProvided,
        market_baseline: bool = NotProvided,
        mixed_precision: str | None = NotProvided,
        compile_update: bool = NotProvided,
        **kwargs: Any,
    ) -> Self:
        """RLlib's settings, and ours.

        Args:
            normalize_rewards: Divide rewards by the running deviation of their discounted sum.
            market_baseline: Regress out of the advantages what the day's market explains (fused learner).
            mixed_precision: "bf16", "fp16" or None; the fused learner's arithmetic.
            compile_update: Run the fused learner's loss through torch.compile.
            **kwargs: RLlib's own settings.
        """
        super().training(**kwargs)
        ours = {
            "normalize_rewards": normalize_rewards,
            "market_baseline": market_baseline,
            "mixed_precision": mixed_precision,
            "compile_update": compile_update,
        }
        for name, value in ours.items():
            if value is not NotProvided:
                setattr(self, name, value)
        return self


class PortfolioPPO(PPO):
    """RLlib's PPO whose learners see normalised rewards; the normaliser is part of its checkpoint."""

    @classmethod
    def get_default_config(cls) -> PortfolioPPOConfig:
        return PortfolioPPOConfig()

    def setup(self, config: PortfolioPPOConfig) -> None:
        self.reward_scale = RunningRewardScale(config.gamma)
        super().setup(config)

    def training_step(self) -> None:
        with self.metrics.log_time((TIMERS, ENV_RUNNER_SAMPLING_TIMER)):
            episodes, env_runner_results = synchronous_parallel_sample(
                worker_set=self.env_runner_group,
                max_env_steps=self.config.total_train_batch_size,
                sample_timeout_s=self.config.sample_timeout_s,
                _uses_new_env_runners=True,
                _return_metrics=True,
            )
            if not episodes:
                return
            self.metrics.aggregate(env_runner_results, key=ENV_RUNNER_RESULTS)
        if self.config.normalize_rewards:
            self.reward_scale.update(episodes)
            episodes = self.reward_scale.scaled(episodes)
        with self.metrics.log_time((TIMERS, LEARNER_UPDATE_TIMER)):
            learner_results = self.learner_group.update(
                episodes=episodes,
                timesteps=self._timesteps(),
                num_epochs=self.config.num_epochs,
                minibatch_size=self.config.minibatch_size,
                shuffle_batch_per_epoch=self.config.shuffle_batch_per_epoch,
            )
            self.metrics.aggregate(learner_results, key=LEARNER_RESULTS)
        with self.metrics.log_time((TIMERS, SYNCH_WORKER_WEIGHTS_TIMER)):
            self.env_runner_group.sync_weights(
                from_worker_or_learner_group=self.learner_group,
                policies=set(learner_results[0].keys()) - {ALL_MODULES},
                inference_only=True,
            )

    def _timesteps(self) -> dict[str, int]:
        """What the learners' schedules are functions of."""
        return {
            NUM_ENV_STEPS_SAMPLED_LIFETIME: self.metrics.peek((ENV_RUNNER_RESULTS, NUM_ENV_STEPS_SAMPLED_LIFETIME)),
            NUM_MODULE_STEPS_TRAINED_LIFETIME: self.metrics.peek(
                (LEARNER_RESULTS, ALL_MODULES, NUM_MODULE_STEPS_TRAINED_LIFETIME), default=0
            ),
        }

    def get_state(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        return {**super().get_state(*args, **kwargs), REWARD_SCALE: self.reward_scale.get_state()}

    def set_state(self, state: dict[str, Any]) -> None:
        super().set_state(state)
        if REWARD_SCALE in state:
            self.reward_scale.set_state(state[REWARD_SCALE])


def build(config: RunConfig, market_path: Path) -> PortfolioPPO:
    """The algorithm of a run over the prepared market at `market_path`, which every env runner must be able to read."""
    return algorithm_config(config, market_path).build_algo()


def algorithm_config(config: RunConfig, market_path: Path) -> PortfolioPPOConfig:
    """RLlib's configuration of a run, through its fluent methods alone: they refuse unknown settings."""
    resources, environment = config.resources, config.environment
    result = (
        PortfolioPPOConfig()
        .environment(
            f"rllib_portfolio:{ENV_ID}",
            env_config={"data": str(market_path), **environment.model_dump()},
            normalize_actions=False,
            clip_actions=True,
        )
        .env_runners(
            env_runner_cls=_ENV_RUNNERS[resources.env_runner],
            num_env_runners=resources.num_env_runners,
            num_envs_per_env_runner=resources.num_envs_per_env_runner,
            gym_env_vectorize_mode="vector_entry_point",
            rollout_fragment_length=config.training.rollout_steps,
            sample_timeout_s=SAMPLE_TIMEOUT_S,
        )
        .learners(
            learner_class=_LEARNERS[resources.learner],
            num_learners=resources.num_learners,
            num_gpus_per_learner=_gpus_per_learner(resources.device),
        )
        .rl_module(rl_module_spec=module_spec(config))
        .callbacks(ReportFinishedEpisodes)
        .debugging(seed=config.seed, log_level="ERROR")
        .training(**_training_settings(config))
    )
    if config.market.observation_filter == "running":
        result.env_runners(env_to_module_connector=lambda env, spaces, device: MeanStdFilter())
    return result


def module_spec(config: RunConfig) -> RLModuleSpec:
    """The actor-critic that the configuration asks for."""
    network = config.network.model_dump() | {"logit_scale": config.environment.logit_scale}
    return RLModuleSpec(module_class=LayerNormActorCritic, model_config=network)


def _training_settings(config: RunConfig) -> dict[str, Any]:
    ppo: PPOConfig = config.training
    batch_size = ppo.rollout_steps * config.resources.num_envs
    learning_rate: Any = ppo.learning_rate
    if ppo.learning_rate_end is not None:
        learning_rate = [[0, ppo.learning_rate], [config.schedule.total_timesteps, ppo.learning_rate_end]]
    return {
        "lr": learning_rate,
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
        "mixed_precision": config.resources.mixed_precision,
        "compile_update": config.resources.compile_update,
    }


def _gpus_per_learner(device: str) -> int:
    return 1 if device == "cuda" else 0


def current_policy(algorithm: PortfolioPPO, config: RunConfig, market: MarketData) -> PortfolioPolicy:
    """The policy that the learners have reached."""
    weights = algorithm.learner_group.get_weights([DEFAULT_MODULE_ID])[DEFAULT_MODULE_ID]
    mean, std = _filter_moments(algorithm) if config.market.observation_filter == "running" else (None, None)
    spec = PolicySpec(
        algo=config.algo,
        assets=market.assets,
        observation_names=ObservationLayout(market).names,
        network=config.network.model_dump(mode="json"),
        market=config.market.model_dump(mode="json"),
        environment=config.environment.model_dump(mode="json"),
        fitted=market.fitted,
        observation_mean=mean,
        observation_std=std,
    )
    return build_policy(spec, weights)


def _filter_moments(algorithm: PortfolioPPO) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of RLlib's running observation filter, merged over the env runners."""
    pipeline = algorithm.env_runner._env_to_module if algorithm.env_runner else algorithm.env_to_module_connector
    (mean_std_filter,) = (piece for piece in pipeline.connectors if isinstance(piece, MeanStdFilter))
    (state,) = mean_std_filter.get_state().values()
    (running,) = (RunningStat.from_state(moments) for moments in state["running_stats"])
    return running.mean.tolist(), (running.std + SMALL_NUMBER).tolist()
