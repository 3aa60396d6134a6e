"""Every setting of RLlib's PPO and DQN, in tables that say what becomes of it, and the classes that a user may give.

A change is made to a configuration of ours, through RLlib's methods.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from ray.rllib.algorithms.dqn.torch.dqn_torch_learner import DQNTorchLearner
from ray.rllib.callbacks.callbacks import RLlibCallback
from ray.rllib.connectors.connector_v2 import ConnectorV2
from ray.rllib.connectors.env_to_module import MeanStdFilter
from ray.rllib.connectors.env_to_module.observation_preprocessor import SingleAgentObservationPreprocessor
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig
from ray.rllib.core.rl_module.multi_rl_module import MultiRLModuleSpec
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.env.single_agent_env_runner import SingleAgentEnvRunner

from rllib_portfolio.algorithms.ppo.learner import FusedPPOLearner
from rllib_portfolio.modules.dueling_noisy_q import DuelingNoisyQ
from tests.algorithms.sampling import samples as sampling

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
        wealth = env.state.wealth[env_index]
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
    "grad_clip_by": lambda c: c.training(grad_clip=1.0, grad_clip_by="value"),
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
"""Maps each setting of PPO's loss to a changed value, and to the settings to compare with if they are not ours."""
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
    "restart_failed_sub_environments": "test_env_runner.py: a failed environment is created again",
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
