"""Each setting of RLlib's PPO and DQN has the effect that RLlib gives it, or is refused by its name.

The tables below hold every attribute of the two configurations, so that a new version of RLlib that brings a setting
fails here until somebody has found out which table it belongs to.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from ray.rllib.algorithms.algorithm_config import DEPRECATED_VALUE
from ray.rllib.algorithms.dqn import DQN, DQNConfig
from ray.rllib.algorithms.dqn.torch.default_dqn_torch_rl_module import DefaultDQNTorchRLModule
from ray.rllib.algorithms.dqn.torch.dqn_torch_learner import DQNTorchLearner
from ray.rllib.algorithms.ppo import PPO, PPOConfig
from ray.rllib.algorithms.ppo.torch.ppo_torch_learner import PPOTorchLearner
from ray.rllib.callbacks.callbacks import RLlibCallback
from ray.rllib.connectors.connector_v2 import ConnectorV2
from ray.rllib.connectors.env_to_module import AddObservationsFromEpisodesToBatch, MeanStdFilter
from ray.rllib.connectors.env_to_module.observation_preprocessor import SingleAgentObservationPreprocessor
from ray.rllib.connectors.module_to_env import GetActions
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig
from ray.rllib.core.rl_module.multi_rl_module import MultiRLModuleSpec
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.env.single_agent_env_runner import SingleAgentEnvRunner
from ray.rllib.evaluation.postprocessing import Postprocessing
from ray.rllib.utils.metrics import NUM_ENV_STEPS_SAMPLED_LIFETIME

from rllib_portfolio.algorithms import dqn, ppo
from rllib_portfolio.algorithms.counterfactual import COLUMNS
from rllib_portfolio.algorithms.dqn_learner import FusedDQNLearner
from rllib_portfolio.algorithms.env_runner import VectorisedEnvRunner
from rllib_portfolio.algorithms.fast_path import reads_fragments
from rllib_portfolio.algorithms.ppo_learner import FusedPPOLearner, StockPPOLearner
from rllib_portfolio.algorithms.refused_settings import DQN_RULES, PPO_RULES
from rllib_portfolio.algorithms.seeded_env_runner import ASSET_RETURNS, SeededEnvRunner
from rllib_portfolio.env import PortfolioVectorEnv
from rllib_portfolio.errors import ConfigError
from rllib_portfolio.market import MarketData
from rllib_portfolio.modules.dueling_noisy_q import DuelingNoisyQ
from tests.algorithms import dqn_runs, sampling
from tests.algorithms.sampling import build_learner, build_runner, sent, weights
from tests.algorithms.test_ppo_learner import RAY_DATA_WARNS, TIMESTEPS, for_stock

Config = Any
Change = Callable[[Config], Any]


class Silent(ConnectorV2):
    """Passes data on, and counts how often."""

    calls = 0

    def __call__(self, *, batch: Any, **kwargs: Any) -> Any:
        type(self).calls += 1
        return batch


def named(name: str, base: type) -> type:
    """A subclass that has the name of another class and counts its calls."""

    def call(self: Any, **kwargs: Any) -> Any:
        cls.calls += 1
        return base.__call__(self, **kwargs)

    cls: Any = type(name, (base,), {"__call__": call, "calls": 0})
    return cls


class OneMore(SingleAgentObservationPreprocessor):
    """Appends a number to each observation."""

    def recompute_output_observation_space(self, input_observation_space: Any, input_action_space: Any) -> Any:
        return gym.spaces.Box(-np.inf, np.inf, (input_observation_space.shape[0] + 1,), np.float32)

    def preprocess(self, observation: Any, episode: Any) -> Any:
        return np.append(observation, np.float32(1.0))


class Diary(RLlibCallback):
    """Notes what it is shown, and when."""

    def _note(self, event: str, episode: Any, env_runner: Any, env: Any, env_index: int) -> None:
        infos = episode.get_infos() if episode.is_reset else []
        wealth = env.simulation.get_state()["wealth"][env_index]
        noted = (len(episode), episode.t_started, sum(map(bool, infos)), dict(episode.custom_data), wealth)
        vars(env_runner).setdefault("diary", []).append((event, env_index, noted))

    def on_episode_created(self, *, episode: Any, env_runner: Any, env: Any, env_index: int, **kwargs: Any) -> None:
        self._note("created", episode, env_runner, env, env_index)

    def on_episode_start(self, *, episode: Any, env_runner: Any, env: Any, env_index: int, **kwargs: Any) -> None:
        self._note("start", episode, env_runner, env, env_index)
        episode.custom_data["started"] = True

    def on_episode_step(self, *, episode: Any, env_runner: Any, env: Any, env_index: int, **kwargs: Any) -> None:
        self._note("step", episode, env_runner, env, env_index)
        episode.custom_data["steps"] = episode.custom_data.get("steps", 0) + 1

    def on_episode_end(self, *, episode: Any, env_runner: Any, env: Any, env_index: int, **kwargs: Any) -> None:
        self._note("end", episode, env_runner, env, env_index)

    def on_sample_end(self, *, samples: Any, env_runner: Any, **kwargs: Any) -> None:
        infos = [sum(map(bool, episode.get_infos())) for episode in samples]
        vars(env_runner).setdefault("diary", []).append(("sample end", infos, list(map(len, samples))))


class OwnLoss(FusedPPOLearner):
    def compute_loss_for_module(self, **kwargs: Any) -> Any:
        raise AssertionError


class OwnQNetwork(DuelingNoisyQ):
    def setup(self) -> None:
        raise AssertionError


LSTM = RLModuleSpec(model_config=DefaultModelConfig(fcnet_hiddens=[8], use_lstm=True, max_seq_len=4))
RLLIBS_NETWORK = RLModuleSpec(model_config=DefaultModelConfig(fcnet_hiddens=[8]))

# ---------------------------------------------------------------- the tables

BOTH_REFUSE: dict[str, Change] = {
    "enable_rl_module_and_learner": lambda c: c.api_stack(enable_rl_module_and_learner=False),
    "enable_env_runner_and_connector_v2": lambda c: c.api_stack(enable_env_runner_and_connector_v2=False),
    "framework": lambda c: c.framework("tf2"),
    "policies": lambda c: c.multi_agent(policies={"first", "second"}),
    "num_aggregator_actors_per_learner": lambda c: c.learners(num_aggregator_actors_per_learner=1),
    "input_": lambda c: c.offline_data(input_=["episodes"]),
    "output": lambda c: c.offline_data(output="episodes"),
    "learner_connector": lambda c: c.learners(learner_connector=lambda observations, actions: Silent()),
    "add_default_connectors_to_learner_pipeline": lambda c: c.learners(
        add_default_connectors_to_learner_pipeline=False
    ),
    "grad_clip_by": lambda c: c.training(grad_clip_by="value"),
    "_torch_grad_scaler_class": lambda c: c.experimental(_torch_grad_scaler_class=torch.amp.GradScaler),
    "_torch_lr_scheduler_classes": lambda c: c.experimental(
        _torch_lr_scheduler_classes=[torch.optim.lr_scheduler.ConstantLR]
    ),
    "torch_compile_learner": lambda c: c.framework(torch_compile_learner=True),
    "torch_ddp_kwargs": lambda c: c.framework(torch_ddp_kwargs={"find_unused_parameters": True}),
    "algorithm_config_overrides_per_module": lambda c: c.rl_module(
        algorithm_config_overrides_per_module={DEFAULT_MODULE_ID: {"gamma": 0.5}}
    ),
    "policies_to_train": lambda c: c.multi_agent(policies_to_train=[]),
    "model_config": lambda c: c.rl_module(model_config={"hidden_sizes": (4,)}),
    "rl_module_spec": lambda c: c.rl_module(
        rl_module_spec=MultiRLModuleSpec(rl_module_specs={DEFAULT_MODULE_ID: c._rl_module_spec})
    ),
}
PPO_REFUSES: dict[str, Change] = {
    **BOTH_REFUSE,
    "learner_class": lambda c: c.learners(learner_class=OwnLoss),
    "explore": lambda c: c.env_runners(explore=False),
    "use_critic": lambda c: c.training(use_critic=False),
    "market_baseline": lambda c: c.env_runners(env_runner_cls=SingleAgentEnvRunner),
    "market_baseline with a module": lambda c: c.rl_module(rl_module_spec=RLLIBS_NETWORK),
}
DQN_REFUSES: dict[str, Change] = {
    **BOTH_REFUSE,
    "learner_class": lambda c: c.learners(learner_class=DQNTorchLearner),
    "learner_connector with RLlib's learner": lambda c: BOTH_REFUSE["learner_connector"](without_counterfactuals(c)),
    "replay_buffer_config": lambda c: c.training(replay_buffer_config={"type": "PrioritizedEpisodeReplayBuffer"}),
    "training_intensity": lambda c: c.training(training_intensity=8.0),
    "n_step": lambda c: c.training(n_step=(1, 5)),
    "n_step with counterfactual actions": lambda c: c.training(n_step=3),
    "burn_in_len": lambda c: c.training(burn_in_len=2),
    "num_atoms": lambda c: c.training(num_atoms=51),
    "dueling": lambda c: c.training(dueling=False),
    "noisy": lambda c: c.training(noisy=True),
    "sigma0": lambda c: c.training(sigma0=0.1),
    "hiddens": lambda c: c.training(hiddens=[8]),
    "epsilon": lambda c: c.training(epsilon=0.3),
    "rl_module_spec with another network": lambda c: c.rl_module(rl_module_spec=RLModuleSpec(module_class=OwnQNetwork)),
    "env_runner_cls": lambda c: c.env_runners(env_runner_cls=SingleAgentEnvRunner),
    "env": lambda c: c.environment("CartPole-v1"),
    "gym_env_vectorize_mode": lambda c: c.env_runners(gym_env_vectorize_mode="sync"),
    "env_to_module_connector": lambda c: c.env_runners(env_to_module_connector=lambda env, spaces, device: Silent()),
    "module_to_env_connector": lambda c: c.env_runners(module_to_env_connector=lambda env, spaces: Silent()),
    "add_default_connectors_to_env_to_module_pipeline": lambda c: c.env_runners(
        add_default_connectors_to_env_to_module_pipeline=False
    ),
    "add_default_connectors_to_module_to_env_pipeline": lambda c: c.env_runners(
        add_default_connectors_to_module_to_env_pipeline=False
    ),
}


def without_counterfactuals(config: Config) -> Config:
    return config.training(counterfactual_actions=0).learners(learner_class=DQNTorchLearner)


SAMPLED: dict[str, Change] = {
    "rollout_fragment_length": lambda c: c.env_runners(rollout_fragment_length=5),
    "num_envs_per_env_runner": lambda c: c.env_runners(num_envs_per_env_runner=4),
    "batch_mode": lambda c: c.env_runners(batch_mode="complete_episodes"),
    "explore": lambda c: c.env_runners(explore=False),
    "episodes_to_numpy": lambda c: c.env_runners(episodes_to_numpy=False),
    "episode_lookback_horizon": lambda c: c.env_runners(episode_lookback_horizon=3),
    "env_config": lambda c: c.environment(env_config=c.env_config | {"episode_days": 4}),
    "seed": lambda c: c.debugging(seed=8),
    "callbacks_class": lambda c: c.callbacks([sampling.WhereFrom, Diary]),
    **{
        f"callbacks_{event}": lambda c, event=event: c.callbacks(**{event: getattr(Diary(), event)})
        for event in ("on_episode_created", "on_episode_start", "on_episode_step", "on_episode_end", "on_sample_end")
    },
}
"""Settings of env runners: the vectorised one samples what RLlib's does."""
PPO_SAMPLED: dict[str, Change] = {
    **SAMPLED,
    "gym_env_vectorize_mode": lambda c: c.env_runners(gym_env_vectorize_mode="sync"),
    "normalize_actions": lambda c: c.environment(normalize_actions=True),
    "clip_actions": lambda c: c.environment(clip_actions=False).rl_module(rl_module_spec=cautious(c)),
    "_env_to_module_connector": lambda c: c.env_runners(env_to_module_connector=lambda env, spaces, device: FILTER()),
    "_module_to_env_connector": lambda c: c.env_runners(module_to_env_connector=lambda env, spaces: Silent()),
    "add_default_connectors_to_env_to_module_pipeline": lambda c: without_defaults(c, "env_to_module"),
    "add_default_connectors_to_module_to_env_pipeline": lambda c: without_defaults(c, "module_to_env"),
    "custom_evaluation_function": lambda c: c.evaluation(custom_evaluation_function=lambda *arguments: None),
}
FILTER = named("AddObservationsFromEpisodesToBatch", MeanStdFilter)


def cautious(config: Config) -> RLModuleSpec:
    """The network with so little noise that no action has to be clipped."""
    spec = copy.deepcopy(config._rl_module_spec)
    spec.model_config["initial_log_std"] = -5.0
    return spec


def without_defaults(config: Config, pipeline: str) -> Config:
    """All of RLlib's connectors, given by the user and observed."""
    original = config.copy(copy_frozen=False)
    build = getattr(original, f"build_{pipeline}_connector")

    def connectors(env: Any, spaces: Any, device: Any = None) -> list[Any]:
        arguments = {"device": device} if pipeline == "env_to_module" else {}
        return [Silent(), *build(env=env, spaces=spaces, **arguments).connectors]

    changed = {f"{pipeline}_connector": connectors, f"add_default_connectors_to_{pipeline}_pipeline": False}
    return config.env_runners(**changed)


PPO_LEARNED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "gamma": ({"gamma": 0.5}, {}),
    "lambda_": ({"lambda_": 0.2}, {}),
    "lr": ({"lr": 0.002}, {}),
    "clip_param": ({"clip_param": 0.01}, {}),
    "vf_loss_coeff": ({"vf_loss_coeff": 0.1}, {}),
    "vf_clip_param": ({"vf_clip_param": 0.01}, {}),
    "entropy_coeff": ({"entropy_coeff": 0.2}, {}),
    "grad_clip": ({"grad_clip": 1e-4}, {}),
    "use_kl_loss": ({"use_kl_loss": True, "kl_coeff": 2.0}, {}),
    "kl_coeff": ({"use_kl_loss": True, "kl_coeff": 5.0}, {"use_kl_loss": True, "kl_coeff": 0.5}),
    "kl_target": ({"use_kl_loss": True, "kl_target": 9.0}, {"use_kl_loss": True, "kl_target": 1e-5}),
}
"""For each setting of PPO's loss a changed one, and what it is compared with if not with our own settings."""
DQN_LEARNED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "gamma": ({"gamma": 0.5}, {}),
    "lr": ({"lr": 0.002}, {}),
    "double_q": (
        {"double_q": False, "target_network_update_freq": 10**6},
        {"target_network_update_freq": 10**6},
    ),
    "td_error_loss_fn": ({"td_error_loss_fn": "mse"}, {"td_error_loss_fn": "huber"}),
    "grad_clip": ({"grad_clip": 1e-3}, {}),
    "tau": ({"target_network_update_freq": 25, "tau": 0.3}, {"target_network_update_freq": 25, "tau": 1.0}),
    "target_network_update_freq": (
        {"target_network_update_freq": 25, "tau": 1.0},
        {"target_network_update_freq": 50, "tau": 1.0},
    ),
}
PPO_TRAINED: dict[str, dict[str, Any]] = {
    "num_epochs": {"num_epochs": 2},
    "minibatch_size": {"minibatch_size": 7},
    "shuffle_batch_per_epoch": {"shuffle_batch_per_epoch": True},
    "_train_batch_size_per_learner": {"train_batch_size_per_learner": 66},
}
"""Settings of PPO's training step: learners are called as by RLlib's."""
DQN_DRAWN: dict[str, dict[str, Any]] = {
    "_train_batch_size_per_learner": {"train_batch_size_per_learner": 5},
    "gamma": {"gamma": 0.5},
    "n_step": {"n_step": 3, "counterfactual_actions": 0},
}
"""Settings of what DQN draws from its buffer: as RLlib's training step does."""
DQN_IGNORES = {"minibatch_size", "num_epochs", "shuffle_batch_per_epoch"}
"""Settings that RLlib's DQN does not read: a batch of the buffer is one gradient step."""
ELSEWHERE = {
    "store_buffer_in_checkpoints": "test_a_buffer_is_in_checkpoints_if_asked_for",
    "num_steps_sampled_before_learning_starts": "test_learning_starts_under_rllibs_name",
    "torch_skip_nan_gradients": "test_ppo_learner.py: updates that are not finite are left out whole, never zeroed",
    "log_gradients": "test_ppo_learner.py: the norm is reported, whether or not it is asked for",
    "restart_failed_sub_environments": "test_env_runner.py: a failed environment is made anew",
    "in_evaluation": "test_env_runner.py: evaluation keeps its streams to itself",
    "_learner_class": "the fused learner, RLlib's, and what is derived from them: refused by name if it is bypassed",
    "_rl_module_spec": "test_rllibs_network_learns_without_the_market_baseline",
    "env_runner_cls": "refused where a learner needs more than RLlib's tells",
    "env": "test_the_market_baseline_needs_an_environment_that_tells_returns",
}
"""Settings with a test of their own."""
OURS = {
    "normalize_rewards",
    "market_baseline",
    "weight_decay",
    "max_kl",
    "mixed_precision",
    "compile_update",
    "learning_starts",
    "steps_per_update",
    "steps_per_iteration",
    "counterfactual_actions",
    "counterfactual_portfolios",
}
BY_RLLIB: dict[str, str] = {
    "what RLlib's Algorithm does around a training step, which we leave to it": """
        algo_class callbacks_on_algorithm_init callbacks_on_checkpoint_loaded callbacks_on_env_runners_recreated
        callbacks_on_evaluate_end callbacks_on_evaluate_offline_end callbacks_on_evaluate_offline_start
        callbacks_on_evaluate_start callbacks_on_offline_eval_runners_recreated callbacks_on_train_result
        metrics_episode_collection_timeout_s metrics_num_episodes_for_smoothing min_sample_timesteps_per_iteration
        min_time_s_per_iteration min_train_timesteps_per_iteration stats_cls_lookup log_level log_sys_usage
        _use_msgpack_checkpoints _validate_config _is_frozen _is_online""",
    "how RLlib makes its processes, places them and mends them": """
        callbacks_on_environment_created create_env_on_local_worker create_local_env_runner
        custom_resources_for_main_process custom_resources_per_env_runner custom_resources_per_learner
        delay_between_env_runner_restarts_s env_runner_health_probe_timeout_s env_runner_restore_timeout_s
        ignore_env_runner_failures local_gpu_idx max_num_env_runner_restarts max_requests_in_flight_per_env_runner
        max_requests_in_flight_per_learner num_consecutive_env_runner_failures_tolerance num_cpus_for_main_process
        num_cpus_per_env_runner num_cpus_per_learner num_env_runners num_gpus num_gpus_per_env_runner
        num_gpus_per_learner num_learners placement_strategy remote_worker_envs restart_failed_env_runners
        sample_timeout_s validate_env_runners_after_construction extra_python_environs_for_driver
        extra_python_environs_for_worker _fake_gpus""",
    "how RLlib hands the states of connectors round between iterations": """
        broadcast_env_runner_states merge_env_runner_states use_worker_filter_stats update_worker_filter_stats
        sync_filters_on_rollout_workers_timeout_s _dont_auto_sync_env_runner_states""",
    "RLlib's evaluation": """
        evaluation_auto_duration_max_env_steps_per_sample evaluation_auto_duration_min_env_steps_per_sample
        evaluation_config evaluation_duration evaluation_duration_unit evaluation_error_after_n_consecutive_skips
        evaluation_force_reset_envs_before_iteration evaluation_interval evaluation_num_env_runners
        evaluation_parallel_to_training evaluation_sample_timeout_s evaluation_unhealthy_workers_timeout_s""",
    "RLlib's evaluation on recorded data": """
        broadcast_offline_eval_runner_states custom_resources_per_offline_eval_runner
        dataset_num_iters_per_eval_runner ignore_offline_eval_runner_failures max_num_offline_eval_runner_restarts
        max_requests_in_flight_per_offline_eval_runner num_cpus_per_offline_eval_runner
        num_gpus_per_offline_eval_runner num_offline_eval_runners off_policy_estimation_methods
        offline_eval_batch_size_per_runner offline_eval_rl_module_inference_only offline_eval_runner_class
        offline_eval_runner_health_probe_timeout_s offline_eval_runner_restore_timeout_s offline_evaluation_duration
        offline_evaluation_interval offline_evaluation_parallel_to_training offline_evaluation_timeout_s
        offline_evaluation_type offline_loss_for_module_fn ope_split_batch_by_episode
        restart_failed_offline_eval_runners validate_offline_eval_runners_after_construction""",
    "what RLlib hands to an RLModule, learner or agent of the user's": """
        model observation_space action_space learner_config_dict policy_mapping_fn count_steps_by""",
    "read with a setting that is refused, and without it by nobody": """
        actions_in_input_normalized dataset_num_iters_per_learner ignore_final_observation input_compress_columns
        input_config input_filesystem input_filesystem_kwargs input_read_batch_size input_read_episodes
        input_read_method input_read_method_kwargs input_read_sample_batches input_read_schema input_spaces_jsonable
        iter_batches_kwargs map_batches_kwargs materialize_data materialize_mapped_data offline_data_class
        offline_sampling postprocess_inputs prelearner_buffer_class prelearner_buffer_kwargs prelearner_class
        prelearner_module_synch_period prelearner_use_recorded_module_states shuffle_buffer_size
        output_compress_columns output_config output_filesystem output_filesystem_kwargs output_max_file_size
        output_max_rows_per_file output_write_episodes output_write_method output_write_method_kwargs
        output_write_remaining_data max_requests_in_flight_per_aggregator_actor torch_compile_learner_dynamo_backend
        torch_compile_learner_dynamo_mode torch_compile_learner_what_to_compile v_max v_min _per_module_overrides""",
    "refused by RLlib, see test_rllib_refuses_its_own": "entropy_coeff_schedule lr_schedule exploration_config",
    "RLlib's PPO and DQN do not read them on the new API stack either": """
        _disable_action_flattening _disable_initialize_loss_from_dummy_batch _disable_preprocessor_api
        _prior_exploration_config _tf_policy_handles_more_than_one_loss _is_atari action_mask_key adam_epsilon
        before_learn_on_batch categorical_distribution_temperature checkpoint_trainable_policies_only clip_rewards
        compress_observations disable_env_checking eager_max_retraces eager_tracing enable_tf1_exec_eagerly
        env_runner_state_server_max_concurrency export_native_model_files fake_sampler
        keep_per_episode_custom_metrics local_tf_session_args observation_filter observation_fn optimizer
        policy_map_capacity policy_states_are_swappable preprocessor_pref remote_env_batch_wait_ms render_env
        replay_sequence_length sample_collector sampler_perf_stats_ema_coef tf_session_args torch_compile_worker
        torch_compile_worker_dynamo_backend torch_compile_worker_dynamo_mode use_env_runner_state_server use_gae
        """,
    "read by RLlib where train_batch_size_per_learner is not set, which is set in every run": "train_batch_size",
}
"""Why settings have RLlib's effect although no code of ours reads them."""

DERIVED = {"learner_class"}
"""Settings that are refused and are no attributes of a configuration, but properties."""
ATTRIBUTES = {
    "framework": "framework_str",
    "learner_connector": "_learner_connector",
    "env_to_module_connector": "_env_to_module_connector",
    "module_to_env_connector": "_module_to_env_connector",
    "rl_module_spec": "_rl_module_spec",
    "model_config": "_model_config",
}


def setting_of(case: str) -> str:
    return case.split(" with ")[0]


# ---------------------------------------------------------------- every setting is in a table


@pytest.mark.parametrize(
    ("config", "of_rllib", "tables"),
    [
        (ppo.PortfolioPPOConfig, PPOConfig, (PPO_REFUSES, PPO_SAMPLED, PPO_LEARNED, PPO_TRAINED)),
        (dqn.PortfolioDQNConfig, DQNConfig, (DQN_REFUSES, PPO_SAMPLED, DQN_LEARNED, DQN_DRAWN)),
    ],
)
def test_every_setting_is_in_a_table(
    config: type[Any], of_rllib: type[Any], tables: tuple[Mapping[str, Any], ...]
) -> None:
    settings = {name for name, value in vars(config()).items() if value is None or type(value) is not int or value >= 0}
    deprecated = {name for name, value in vars(of_rllib()).items() if value == DEPRECATED_VALUE}
    known = {ATTRIBUTES.get(setting_of(case), setting_of(case)) for table in tables for case in table}
    by_rllib = {name for names in BY_RLLIB.values() for name in names.split()}
    known |= DQN_IGNORES if of_rllib is DQNConfig else set()
    missing = settings - deprecated - known - by_rllib - OURS - ELSEWHERE.keys()
    assert not missing, (
        f"RLlib's {of_rllib.__name__} has settings of which nobody knows whether our env runners, learners and "
        f"training steps follow them: {sorted(missing)}. Find out, refuse them in refused_settings.py if they do not, "
        "and put each into one of the tables of this file."
    )
    assert not by_rllib & known, "a setting is in one table"


def test_no_table_holds_what_rllib_no_longer_has() -> None:
    attributes = vars(ppo.PortfolioPPOConfig()).keys() | vars(dqn.PortfolioDQNConfig()).keys()
    of_tables = {
        ATTRIBUTES.get(setting_of(case), setting_of(case))
        for table in (PPO_REFUSES, DQN_REFUSES, PPO_SAMPLED, PPO_LEARNED, DQN_LEARNED, PPO_TRAINED, ELSEWHERE)
        for case in table
    }
    of_tables |= {name for names in BY_RLLIB.values() for name in names.split()} | OURS
    assert of_tables - attributes == DERIVED


# ---------------------------------------------------------------- refused


@pytest.fixture(scope="module")
def market_path(tiny_market: MarketData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny market with features of ordinary size."""
    path = tmp_path_factory.mktemp("market") / "tiny.npz"
    rng = np.random.default_rng(0)
    features = {name: getattr(tiny_market, name) for name in ("asset_features", "market_features")}
    noise = {name: rng.standard_normal(array.shape, dtype=np.float32) for name, array in features.items()}
    replace(tiny_market, **noise).save(path)
    return path


@pytest.fixture(params=["ppo", "dqn"])
def algorithm(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def config_of(algorithm: str, market_path: Path, settings: Mapping[str, Any] | None = None) -> Config:
    if algorithm == "ppo":
        return sampling.algorithm_config(market_path, settings)
    return dqn.algorithm_config(dqn_runs.run_config(settings), market_path).callbacks(sampling.WhereFrom)


def test_what_is_not_changed_is_not_refused(algorithm: str, market_path: Path) -> None:
    for settings in ({}, {"resources.learner": "stock"}, {"resources.env_runner": "stock"}):
        config_of(algorithm, market_path, settings).validate()


@pytest.mark.parametrize(
    ("algorithm", "case"), [*(("ppo", case) for case in PPO_REFUSES), *(("dqn", case) for case in DQN_REFUSES)]
)
def test_a_setting_that_cannot_be_followed_is_refused_by_name(algorithm: str, case: str, market_path: Path) -> None:
    config = config_of(algorithm, market_path)
    (PPO_REFUSES if algorithm == "ppo" else DQN_REFUSES)[case](config)
    with pytest.raises(ConfigError, match=rf"^{setting_of(case)} must .+, got .+ \(Portfolio.+\)\. .+\.$"):
        config.validate()


def test_every_refusal_is_tested() -> None:
    for rules, table in ((PPO_RULES, PPO_REFUSES), (DQN_RULES, DQN_REFUSES)):
        assert {rule.setting for rule in rules} == {setting_of(case) for case in table}


def test_what_our_network_does_not_read_is_left_to_rllibs(market_path: Path) -> None:
    settings = {name: getattr(DQNConfig(), name) for name in ("num_atoms", "sigma0", "hiddens")}
    config = without_counterfactuals(config_of("dqn", market_path)).training(**settings, dueling=False, epsilon=0.3)
    with pytest.raises(ConfigError, match=r"^dueling must be RLlib's True with our network"):
        config.validate()
    config.rl_module(rl_module_spec=RLModuleSpec(DefaultDQNTorchRLModule, model_config={})).validate()


def test_rllib_refuses_its_own(algorithm: str, market_path: Path) -> None:
    schedule, only_ppos = [[0, 1.0], [9, 0.0]], {"entropy_coeff_schedule"} if algorithm == "ppo" else set()
    for name in {"lr_schedule"} | only_ppos:
        with pytest.raises(ValueError, match=f"`{name}` is deprecated and must be None"):
            config_of(algorithm, market_path).training(**{name: schedule}).validate()
    with pytest.raises(ValueError, match="exploration_config can not be set"):
        config_of(algorithm, market_path).env_runners(exploration_config={"type": "Random"}).validate()


@pytest.mark.ray
def test_an_algorithm_is_not_built_with_a_refused_setting(ray_session: None, algorithm: str, market_path: Path) -> None:
    config = config_of(algorithm, market_path)
    with pytest.raises(ConfigError, match=r"^learner_connector must be None"):
        BOTH_REFUSE["learner_connector"](config).build_algo()


# ---------------------------------------------------------------- env runners

FAST = {
    "rollout_fragment_length",
    "num_envs_per_env_runner",
    "env_config",
    "seed",
    "gym_env_vectorize_mode",
    "clip_actions",
}
"""Settings that leave the fast path on: its chunks have no lookback, which nobody reads."""


def sampled(runner_class: type[SeededEnvRunner], config: Config, fragments: int = 3) -> tuple[Any, list[Any]]:
    runner: Any = build_runner(runner_class, config)
    torch.manual_seed(7)
    return runner, [runner.sample() for _ in range(fragments)]


def assert_same_chunk(ours: Any, stock: Any, with_lookback: bool) -> None:
    for name in ("t_started", "t", "is_done", "is_terminated", "is_truncated", "is_numpy", "custom_data"):
        assert getattr(ours, name) == getattr(stock, name), name
    for name in ("observations", "actions", "rewards", "infos"):
        np.testing.assert_equal(getattr(ours, f"get_{name}")(), getattr(stock, f"get_{name}")())
        if with_lookback:
            assert getattr(ours, name).lookback == getattr(stock, name).lookback
    assert ours.extra_model_outputs.keys() == stock.extra_model_outputs.keys()
    for name in stock.extra_model_outputs:
        mine, theirs = (np.asarray(chunk.get_extra_model_outputs(name)) for chunk in (ours, stock))
        assert mine.dtype == theirs.dtype
        np.testing.assert_allclose(mine, theirs, rtol=1e-6, atol=1e-6 if name == Columns.ACTION_LOGP else 0.0)


@pytest.mark.parametrize(
    ("algorithm", "setting"),
    [*(("ppo", setting) for setting in PPO_SAMPLED), *(("dqn", setting) for setting in SAMPLED)],
)
def test_env_runners_sample_what_rllibs_does(algorithm: str, setting: str, market_path: Path) -> None:
    config = config_of(algorithm, market_path)
    (PPO_SAMPLED if algorithm == "ppo" else SAMPLED)[setting](config)
    stock, of_stock = sampled(SeededEnvRunner, config)
    ours, of_ours = sampled(VectorisedEnvRunner, config)
    for mine, theirs in zip(of_ours, of_stock, strict=True):
        by_environment, expected = (sampling.chunks_by_environment(*of) for of in ((ours, mine), (stock, theirs)))
        assert by_environment.keys() == expected.keys()
        for index, chunks in expected.items():
            for chunk, other in zip(by_environment[index], chunks, strict=True):
                assert_same_chunk(chunk, other, with_lookback=setting not in FAST)
                assert {ASSET_RETURNS, *(COLUMNS if algorithm == "dqn" else ())} <= chunk.extra_model_outputs.keys()
    assert getattr(ours, "diary", []) == getattr(stock, "diary", [])
    assert ("callbacks" in setting) == hasattr(ours, "diary")


def test_rllibs_own_runner_samples_the_same(algorithm: str, market_path: Path) -> None:
    """What our algorithms learn from is added to episodes without touching anything else."""
    config = config_of(algorithm, market_path)
    ours, of_ours = sampled(SeededEnvRunner, config)
    rllibs: Any = build_runner(SingleAgentEnvRunner, config)  # type: ignore[arg-type]
    rllibs._seed = ours._seed
    torch.manual_seed(7)
    for mine, theirs in zip(of_ours, [rllibs.sample() for _ in of_ours], strict=True):
        for chunk, other in zip(mine, theirs, strict=True):
            for name in chunk.extra_model_outputs.keys() - other.extra_model_outputs.keys():
                assert chunk.extra_model_outputs[name].lookback == chunk.actions.lookback
                del chunk.extra_model_outputs[name]
            assert_same_chunk(chunk, other, with_lookback=True)


def test_a_connector_that_is_named_like_a_default_is_called(market_path: Path) -> None:
    pieces = [named("AddObservationsFromEpisodesToBatch", AddObservationsFromEpisodesToBatch)]
    pieces.append(named("GetActions", GetActions))
    config = sampling.algorithm_config(market_path).env_runners(
        env_to_module_connector=lambda env, spaces, device: pieces[0](),
        module_to_env_connector=lambda env, spaces: pieces[1](),
    )
    build_runner(VectorisedEnvRunner, config).sample()
    assert all(piece.calls > 10 for piece in pieces)


def test_a_callback_that_may_read_more_is_named_with_what_it_costs(
    market_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = sampling.algorithm_config(market_path)
    assert build_runner(VectorisedEnvRunner, config)._is_vectorisable
    assert not caplog.records
    assert not build_runner(VectorisedEnvRunner, config.callbacks(Diary))._is_vectorisable
    (record,) = caplog.records
    assert record.getMessage().startswith("Warning: Diary may read what the vectorised env runner leaves out")


def test_the_mark_of_a_class_is_not_inherited(market_path: Path) -> None:
    @reads_fragments()
    class Marked(RLlibCallback):
        def on_episode_end(self, **kwargs: Any) -> None:
            pass

    class Inherits(Marked):
        pass

    @reads_fragments()
    class Steps(Marked):
        def on_episode_step(self, **kwargs: Any) -> None:
            pass

    config = sampling.algorithm_config(market_path)
    found = {
        callbacks: build_runner(VectorisedEnvRunner, config.callbacks(callbacks))._is_vectorisable
        for callbacks in (Marked, Inherits, Steps)
    }
    assert found == {Marked: True, Inherits: False, Steps: False}


# ---------------------------------------------------------------- learners


def assert_same_weights(ours: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray]) -> None:
    """Nearly all: Adam moves a parameter whose gradient is rounding a whole step, up or down."""
    differences = np.concatenate([np.abs(ours[name] - theirs[name]).ravel() for name in theirs])
    assert np.quantile(differences, 0.9) < 1e-4


def differ(first: Mapping[str, np.ndarray], second: Mapping[str, np.ndarray]) -> bool:
    return max(float(np.abs(first[name] - second[name]).max()) for name in first) > 1e-4


def batch_of(learner: Any, episodes: list[Any]) -> Any:
    """The batch that the learner will make of episodes next; its running scale is left as it is."""
    scale = copy.deepcopy(learner._batches.scale.get_state())
    batch, _ = learner._batches.build(episodes)
    learner._batches.scale.set_state(scale)
    return batch


@pytest.mark.parametrize("setting", PPO_LEARNED)
def test_ppo_learns_what_rllibs_does(setting: str, market_path: Path) -> None:
    changed, base = PPO_LEARNED[setting]
    results = []
    for values in (changed, base):
        config = sampling.algorithm_config(market_path, {"training.market_baseline": False}).training(**values)
        runner, (episodes,) = sampled(VectorisedEnvRunner, config, fragments=1)
        ours, stock = (build_learner(cls, config, runner) for cls in (FusedPPOLearner, PPOTorchLearner))
        batch = batch_of(ours, episodes)
        of_rllib = stock._learner_connector(
            rl_module=stock.module, batch={}, episodes=sent(episodes), shared_data={}, metrics=stock.metrics
        )[DEFAULT_MODULE_ID]
        torch.testing.assert_close(
            of_rllib[Postprocessing.VALUE_TARGETS][of_rllib[Columns.LOSS_MASK]],
            batch.value_targets,
            rtol=1e-5,
            atol=1e-6,
        )
        for _ in range(2):  # the second starts from another KL coefficient
            batch = batch_of(ours, episodes)
            ours.update(episodes=episodes, timesteps=TIMESTEPS, num_epochs=2)
            stock.update(batch=for_stock(batch, 33), timesteps=TIMESTEPS, num_epochs=2)
        results.append(weights(ours))
        assert_same_weights(results[-1], weights(stock))
    assert differ(*results)


@pytest.mark.ray
@pytest.mark.parametrize("setting", DQN_LEARNED)
def test_dqn_learns_what_rllibs_does(ray_session: None, setting: str) -> None:
    changed, base = DQN_LEARNED[setting]
    results = []
    for values in (changed, base):
        of_each = []
        for learner_class in (FusedDQNLearner, DQNTorchLearner):
            learner = dqn_learner(learner_class, values)
            for update in range(8):
                batch = dqn_runs.multi_agent(dqn_runs.random_columns(seed=update))
                learner.update(batch=batch, timesteps={NUM_ENV_STEPS_SAMPLED_LIFETIME: 25 * update})
            of_each.append(dqn_runs.weights(learner))
        assert_same_weights(*of_each)
        results.append(of_each[0])
    assert differ(*results)


def dqn_learner(learner_class: type[Any], values: Mapping[str, Any]) -> Any:
    """Without noise, of which RLlib's learner draws another."""
    run_config = dqn_runs.run_config({"network.noisy": False, "training.learning_rate": 1e-2})
    torch.manual_seed(0)
    spec = dqn.module_spec(run_config)
    spec.observation_space = gym.spaces.Box(-np.inf, np.inf, (dqn_runs.D,), np.float32)
    spec.action_space = gym.spaces.Discrete(dqn_runs.K)
    config = dqn.algorithm_config(run_config, Path("market.npz")).training(**{"gamma": 0.9} | values)
    learner = learner_class(config=config, module_spec=spec)
    learner.build()
    return learner


def test_a_networks_own_training_pass_is_called(market_path: Path) -> None:
    config = sampling.algorithm_config(market_path)
    network = type("Own", (config._rl_module_spec.module_class,), {"_forward_train": _forward_train})
    config._rl_module_spec.module_class = network
    runner, (episodes,) = sampled(VectorisedEnvRunner, config, fragments=1)
    learner = build_learner(FusedPPOLearner, config, runner)
    with pytest.raises(ZeroDivisionError):
        learner.update(episodes=episodes, timesteps={})


def _forward_train(self: Any, batch: Any, **kwargs: Any) -> Any:
    raise ZeroDivisionError


# ---------------------------------------------------------------- algorithms


@pytest.fixture
def build(ray_session: None) -> Iterator[Callable[[Config], Any]]:
    """Builds algorithms, and stops them."""
    built = []

    def build(config: Config) -> Any:
        built.append(config.build_algo())
        return built[-1]

    yield build
    for algorithm in built:
        algorithm.stop()


ONE_STEP = {"training.minibatch_size": 33, "training.num_epochs": 1}
"""One gradient step on the whole batch: the order of episodes does not matter."""


def learned_with(build: Any, config: Config) -> dict[str, np.ndarray]:
    torch.manual_seed(7)
    algorithm = build(config)
    torch.manual_seed(8)
    algorithm.train()
    weights: dict[str, np.ndarray] = algorithm.learner_group.get_weights()[DEFAULT_MODULE_ID]
    return {name: np.array(value) for name, value in weights.items()}


@pytest.mark.ray
def test_a_callback_leaves_the_algorithm_as_it_is(build: Any, market_path: Path) -> None:
    learned = [
        learned_with(build, sampling.algorithm_config(market_path, ONE_STEP | settings).callbacks(callbacks))
        for callbacks, settings in (
            (sampling.WhereFrom, {}),
            (Diary, {}),
            (sampling.WhereFrom, {"resources.env_runner": "stock"}),
            (sampling.WhereFrom, {"training.market_baseline": False}),
        )
    ]
    for other in learned[1:3]:
        assert_same_weights(learned[0], other)
        for name, value in learned[0].items():
            np.testing.assert_allclose(other[name], value, atol=1e-4, err_msg=name)
    assert differ(learned[0], learned[3])


@pytest.mark.ray
@pytest.mark.parametrize("setting", PPO_TRAINED)
def test_learners_are_called_as_by_rllibs_training_step(
    build: Any, market_path: Path, setting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = PPO_TRAINED[setting]
    algorithm = build(sampling.algorithm_config(market_path).training(normalize_rewards=False, **values))
    calls: list[dict[str, Any]] = []
    update = algorithm.learner_group.update

    def noted(episodes: Any, timesteps: Any, **kwargs: Any) -> Any:
        calls.append({**kwargs, "steps": sum(map(len, episodes))})
        return update(episodes=episodes, timesteps=timesteps, **kwargs)

    monkeypatch.setattr(algorithm.learner_group, "update", noted)
    for training_step in (PPO.training_step, type(algorithm).training_step):
        training_step(algorithm)
    of_rllib, ours = calls
    assert ours == of_rllib
    steps = values.pop("train_batch_size_per_learner", None)
    assert ours["steps"] == (steps or 33)
    assert values.items() <= ours.items()


@pytest.mark.ray
@pytest.mark.parametrize("setting", DQN_DRAWN)
def test_batches_are_drawn_as_by_rllibs_training_step(
    build: Any, market_path: Path, setting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of("dqn", market_path).training(num_steps_sampled_before_learning_starts=20, **DQN_DRAWN[setting])
    algorithm = build(config)
    calls: list[dict[str, Any]] = []
    sample = algorithm.local_replay_buffer.sample

    def noted(num_items: int, **kwargs: Any) -> Any:
        calls.append({"num_items": num_items, "n_step": kwargs["n_step"], "gamma": kwargs["gamma"]})
        raise StopIteration

    algorithm.train()
    monkeypatch.setattr(algorithm.local_replay_buffer, "sample", noted)
    for training_step in (DQN.training_step, type(algorithm).training_step):
        with pytest.raises(StopIteration):
            training_step(algorithm)
    of_rllib, ours = calls
    assert ours == of_rllib
    monkeypatch.undo()
    assert len(sample(**ours)[Columns.OBS]) == config.train_batch_size_per_learner
    algorithm.train()


@pytest.mark.ray
def test_a_learner_connector_is_called_by_rllibs_learner(build: Any, market_path: Path) -> None:
    Silent.calls = 0
    config = BOTH_REFUSE["learner_connector"](sampling.algorithm_config(market_path, {"resources.learner": "stock"}))
    assert config.learner_class is StockPPOLearner
    build(config).train()
    assert Silent.calls == 1


@pytest.mark.ray
def test_dqn_learns_whatever_watches_its_steps(build: Any, market_path: Path) -> None:
    build(config_of("dqn", market_path).callbacks(Diary)).train()
    config = config_of("dqn", market_path).env_runners(
        env_to_module_connector=lambda env, spaces, device: MeanStdFilter()
    )
    build(config.training(counterfactual_actions=0)).train()


@pytest.mark.ray
def test_evaluation_may_differ_from_training(build: Any, algorithm: str, market_path: Path) -> None:
    changed = {"gym_env_vectorize_mode": "sync", "explore": False}
    config = config_of(algorithm, market_path).evaluation(evaluation_interval=1, evaluation_duration=2)
    results = build(config.evaluation(evaluation_config=changed)).train()
    assert results["evaluation"]["env_runners"]["num_episodes"] == 2
    with pytest.raises(ConfigError, match=r"^output must be None"):
        build(config.evaluation(evaluation_config={"output": "episodes"}))


@pytest.mark.ray
def test_a_stateful_network_needs_rllibs_learner(build: Any, market_path: Path) -> None:
    def config(learner: str) -> Config:
        settings = {"training.market_baseline": False, "resources.learner": learner}
        return sampling.algorithm_config(market_path, settings).rl_module(rl_module_spec=LSTM)

    with pytest.raises(ConfigError, match=r"^rl_module_spec must give a stateless RLModule, got Default.*stock\)\.$"):
        build(config("fused"))
    build(config("stock")).train()
    recurrent = RLModuleSpec(DefaultDQNTorchRLModule, model_config={"use_lstm": True, "max_seq_len": 4})
    with pytest.raises(ConfigError, match=r"^rl_module_spec must give a stateless RLModule, got DefaultDQN"):
        build(without_counterfactuals(config_of("dqn", market_path)).rl_module(rl_module_spec=recurrent))


@pytest.mark.ray
def test_rllibs_network_learns_without_the_market_baseline(build: Any, market_path: Path) -> None:
    config = sampling.algorithm_config(market_path, {"training.market_baseline": False})
    build(config.rl_module(rl_module_spec=RLLIBS_NETWORK)).train()


@pytest.mark.ray
def test_the_market_baseline_needs_observations_of_the_environments_shape(build: Any, market_path: Path) -> None:
    def config(market_baseline: bool) -> Config:
        settings = {"training.market_baseline": market_baseline}
        return sampling.algorithm_config(market_path, settings).env_runners(
            env_to_module_connector=lambda env, spaces, device: OneMore()
        )

    with pytest.raises(ConfigError, match=r"^env_to_module_connector must keep the shape"):
        build(config(True))
    build(config(False)).train()


class TellsNothing(PortfolioVectorEnv):
    def step(self, actions: Any) -> Any:
        *step, infos = super().step(actions)
        return *step, {name: value for name, value in infos.items() if ASSET_RETURNS not in name}


@pytest.mark.ray
@pytest.mark.parametrize("env_runner", ["vectorised", "stock"])
def test_the_market_baseline_needs_an_environment_that_tells_returns(
    build: Any, market_path: Path, env_runner: str
) -> None:
    gym.register("tests/TellsNothing-v0", entry_point=TellsNothing, vector_entry_point=TellsNothing)
    config = sampling.algorithm_config(market_path, {"resources.env_runner": env_runner})
    config.environment("tests/TellsNothing-v0")
    with pytest.raises(ConfigError, match=r"^market_baseline must be False where episodes have no asset_returns"):
        build(config).train()
    build(config.copy(copy_frozen=False).training(market_baseline=False)).train()
    del gym.registry["tests/TellsNothing-v0"]


@pytest.mark.ray
@pytest.mark.filterwarnings(RAY_DATA_WARNS)
def test_episodes_are_recorded_by_rllibs_runner(build: Any, market_path: Path, tmp_path: Path) -> None:
    config = sampling.algorithm_config(market_path, {"training.market_baseline": False})
    config.offline_data(output=str(tmp_path), output_write_episodes=False).env_runners(
        env_runner_cls=None, batch_mode="complete_episodes"
    )
    build(config).train()
    assert [path for path in tmp_path.rglob("*") if path.is_file()]


def test_learning_starts_under_rllibs_name(market_path: Path) -> None:
    config = config_of("dqn", market_path)
    assert config.training(num_steps_sampled_before_learning_starts=77).learning_starts == 77
    assert config.training(learning_starts=88).learning_starts == 88


@pytest.mark.ray
def test_a_buffer_is_in_checkpoints_if_asked_for(build: Any, market_path: Path) -> None:
    config = config_of("dqn", market_path).training(replay_buffer_config={"beta": 0.5, "capacity": 99})
    for asked in (True, False):
        algorithm = build(config.copy(copy_frozen=False).training(store_buffer_in_checkpoints=asked))
        assert (dqn.REPLAY_BUFFER in algorithm.get_state()) == asked
    buffer = algorithm.local_replay_buffer
    assert (buffer.capacity, buffer.beta(0), buffer.beta(10**9)) == (99, 0.5, 0.5)
