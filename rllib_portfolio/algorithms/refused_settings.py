"""Settings of RLlib that our learners, env runners and training steps cannot follow: each is refused by its name.

All others have the effect that RLlib documents, which tests/algorithms/test_rllib_settings.py holds them to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, NamedTuple

from ray.rllib.algorithms.dqn import DQNConfig
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.env.env_runner_group import EnvRunnerGroup

from rllib_portfolio.algorithms.learning.fused_learner import FusedLearner
from rllib_portfolio.algorithms.replay.replay_buffer import ArrayEpisodeReplayBuffer
from rllib_portfolio.algorithms.sampling.seeded_env_runner import SeededEnvRunner
from rllib_portfolio.env.registration import ENV_ID
from rllib_portfolio.errors import ConfigError
from rllib_portfolio.modules.dueling_noisy_q import DuelingNoisyQ

_RLLIBS_LEARNER = "Leave it as it is, or use RLlib's learner (resources.learner: stock)."
_TRANSITIONS = "Learners are given transitions of the replay buffer, not episodes."
_NOT_CALLED = (
    "compute_losses",
    "compute_loss_for_module",
    "compute_gradients",
    "postprocess_gradients",
    "postprocess_gradients_for_module",
    "apply_gradients",
    "configure_optimizers_for_module",
)
"""Methods of RLlib's learners that a fused learner replaces by a loop of its own."""
_LEARNED_THROUGH = ("setup", "_forward_train", "make_target_networks", "get_target_network_pairs")
"""Methods of the Q-network's module whose work the fused learner does on the network's arrays."""


class Rule(NamedTuple):
    """A condition that a setting must meet."""

    setting: str
    """Its name in the methods of RLlib's configuration."""
    must: str
    is_met: Callable[[Any], bool]
    """Whether a configuration meets it."""
    remedy: str


def refuse_settings(config: Any, rules: Sequence[Rule]) -> None:
    """Raise a ConfigError for the first rule that a configuration of RLlib's breaks.

    Nothing is learned from an evaluation's configuration, so that only the rules for all configurations hold for it.
    """
    for rule in _ALL if config.in_evaluation else rules:
        if not rule.is_met(config):
            algorithm = getattr(config.algo_class, "__name__", config.algo_class)
            raise ConfigError(
                f"{rule.setting} must {rule.must}, got {_value(config, rule.setting)} ({algorithm}). {rule.remedy}"
            )


class RunnerParts(NamedTuple):
    """Shapes and module of an env runner."""

    environment_shape: tuple[int, ...]
    """Shape of the environment's observations."""
    module_shape: tuple[int, ...]
    """Shape of the observations that connectors make of them."""
    module: str
    """Name of the RLModule's class."""
    is_stateful: bool

    @classmethod
    def of(cls, runner: Any) -> RunnerParts:
        """Return those of `runner`."""
        pipeline, module = runner._env_to_module, runner.module
        shapes = (space.shape for space in (pipeline.input_observation_space, pipeline.observation_space))
        return cls(*shapes, type(module).__name__, module.is_stateful())


def refuse_env_runners(config: Any, env_runners: EnvRunnerGroup) -> None:
    """Raise a ConfigError for what only shows when an algorithm's env runners are there."""
    if env_runners.local_env_runner is not None:
        made = RunnerParts.of(env_runners.local_env_runner)
    else:
        (made,) = env_runners.foreach_env_runner(RunnerParts.of, remote_worker_ids=[1], local_env_runner=False)
    learns_from_transitions = hasattr(config, "replay_buffer_config")
    if made.is_stateful and (_is_fused(config) or learns_from_transitions):
        remedy = _TRANSITIONS if learns_from_transitions else "Use RLlib's learner (resources.learner: stock)."
        raise ConfigError(f"rl_module_spec must give a stateless RLModule, got {made.module}. {remedy}")
    if _is_fused(config) and getattr(config, "market_baseline", False) and made.environment_shape != made.module_shape:
        raise ConfigError(
            f"env_to_module_connector must keep the shape {made.environment_shape} of observations, got "
            f"{made.module_shape}. Set training.market_baseline to false: it reads the weights from their end."
        )


def _value(config: Any, setting: str) -> str:
    value = getattr(config, _ATTRIBUTES.get(setting, setting))
    if setting == "rl_module_spec":
        value = getattr(value, "module_class", type(value))
    return str(getattr(value, "__qualname__", repr(value)))


_ATTRIBUTES = {
    "framework": "framework_str",
    "learner_connector": "_learner_connector",
    "env_to_module_connector": "_env_to_module_connector",
    "module_to_env_connector": "_module_to_env_connector",
    "rl_module_spec": "_rl_module_spec",
    "model_config": "_model_config",
}
"""Attributes of settings that have another name."""


def _is_fused(config: Any) -> bool:
    return isinstance(config.learner_class, type) and issubclass(config.learner_class, FusedLearner)


def _has_our_runner(config: Any) -> bool:
    return isinstance(config.env_runner_cls, type) and issubclass(config.env_runner_cls, SeededEnvRunner)


def _is_default(name: str, value: Any) -> Callable[[Any], bool]:
    return lambda config: getattr(config, _ATTRIBUTES.get(name, name)) == value


def _unless(condition: Callable[[Any], bool], rules: Sequence[Rule]) -> tuple[Rule, ...]:
    """The rules, met by any configuration of which `condition` is true."""

    def either(is_met: Callable[[Any], bool]) -> Callable[[Any], bool]:
        return lambda config: condition(config) or is_met(config)

    return tuple(rule._replace(is_met=either(rule.is_met)) for rule in rules)


def _module_class(config: Any) -> Any:
    return getattr(config.rl_module_spec, "module_class", object)


def _calls_its_own_methods(config: Any) -> bool:
    """Whether a user's subclass leaves alone what a fused learner does not call."""
    learner = config.learner_class
    ours = next(base for base in learner.__mro__ if FusedLearner in base.__bases__)
    return all(getattr(learner, name) is getattr(ours, name) for name in _NOT_CALLED)


def _trains_default_module(config: Any) -> bool:
    names = config.policies_to_train
    return names is None or (not callable(names) and DEFAULT_MODULE_ID in names)


_ALL: tuple[Rule, ...] = (
    *(
        Rule(name, "be True", _is_default(name, True), "The algorithms are made for RLlib's new API stack.")
        for name in ("enable_rl_module_and_learner", "enable_env_runner_and_connector_v2")
    ),
    Rule("framework", "be 'torch'", _is_default("framework", "torch"), "The networks are torch modules."),
    Rule(
        "policies",
        f"be {DEFAULT_MODULE_ID!r} alone",
        lambda config: not config.is_multi_agent,
        "The environment has one agent.",
    ),
    Rule(
        "num_aggregator_actors_per_learner",
        "be 0",
        _is_default("num_aggregator_actors_per_learner", 0),
        "Learners are given episodes by the driver.",
    ),
    Rule("input_", "be 'sampler'", _is_default("input_", "sampler"), "The algorithms learn from their env runners."),
    Rule(
        "output",
        "be None",
        lambda config: config.output is None or not _has_our_runner(config),
        "Our env runners write no files: use .env_runners(env_runner_cls=None), which is RLlib's own.",
    ),
    Rule(
        "model_config",
        "be empty beside an rl_module_spec",
        lambda config: not config._model_config or not getattr(config._rl_module_spec, "model_config", None),
        "The network is built from that of rl_module_spec: change it there, or the run's network settings.",
    ),
)

_FUSED: tuple[Rule, ...] = _unless(
    lambda config: not _is_fused(config),
    (
        Rule(
            "learner_class",
            f"override none of {', '.join(_NOT_CALLED)}",
            _calls_its_own_methods,
            "The fused learner never calls them: derive it from RLlib's learner.",
        ),
        Rule("learner_connector", "be None", _is_default("learner_connector", None), _RLLIBS_LEARNER),
        Rule(
            "add_default_connectors_to_learner_pipeline",
            "be True",
            _is_default("add_default_connectors_to_learner_pipeline", True),
            _RLLIBS_LEARNER,
        ),
        Rule(
            "grad_clip_by",
            "be 'global_norm'",
            lambda config: config.grad_clip is None or config.grad_clip_by == "global_norm",
            _RLLIBS_LEARNER,
        ),
        Rule(
            "_torch_grad_scaler_class",
            "be None",
            _is_default("_torch_grad_scaler_class", None),
            "Set resources.mixed_precision to fp16, which scales gradients.",
        ),
        Rule(
            "_torch_lr_scheduler_classes",
            "be None",
            _is_default("_torch_lr_scheduler_classes", None),
            "Set lr to a schedule, or use RLlib's learner (resources.learner: stock).",
        ),
        Rule(
            "torch_compile_learner",
            "be False",
            _is_default("torch_compile_learner", False),
            "With PPO, set resources.compile_update: it compiles the loss of the fused learner.",
        ),
        Rule("torch_ddp_kwargs", "be empty", _is_default("torch_ddp_kwargs", {}), _RLLIBS_LEARNER),
        Rule(
            "algorithm_config_overrides_per_module",
            "be empty",
            _is_default("algorithm_config_overrides_per_module", {}),
            "There is one module: change the settings themselves.",
        ),
        Rule("policies_to_train", f"hold {DEFAULT_MODULE_ID!r}", _trains_default_module, _RLLIBS_LEARNER),
        Rule(
            "rl_module_spec",
            "be an RLModuleSpec",
            lambda config: isinstance(config.rl_module_spec, RLModuleSpec),
            _RLLIBS_LEARNER,
        ),
    ),
)

PPO_RULES: tuple[Rule, ...] = (
    *_ALL,
    *_FUSED,
    Rule(
        "explore",
        "be True in training",
        _is_default("explore", True),
        "PPO learns from the log-probabilities of sampled actions.",
    ),
    *_unless(
        lambda config: not _is_fused(config),
        (
            Rule("use_critic", "be True", _is_default("use_critic", True), _RLLIBS_LEARNER),
            *_unless(
                lambda config: not config.market_baseline,
                (
                    Rule(
                        "market_baseline",
                        "be False with an env runner that is not derived from SeededEnvRunner",
                        _has_our_runner,
                        "Its episodes do not tell what assets returned: set training.market_baseline to false.",
                    ),
                    Rule(
                        "market_baseline",
                        "be False with an RLModule without deterministic_weights",
                        lambda config: hasattr(_module_class(config), "deterministic_weights"),
                        "Set training.market_baseline to false, or derive the module from PortfolioActorCritic.",
                    ),
                ),
            ),
        ),
    ),
)


def _is_our_buffer(config: Any) -> bool:
    kind = config.replay_buffer_config["type"]
    if isinstance(kind, str):
        module, _, name = kind.rpartition(".")
        try:
            kind = getattr(import_module(module), name, None) if module else None
        except ModuleNotFoundError:
            return False
    return isinstance(kind, type) and issubclass(kind, ArrayEpisodeReplayBuffer)


def _is_our_q_network(config: Any) -> bool:
    module = _module_class(config)
    return issubclass(module, DuelingNoisyQ) and all(
        getattr(module, name) is getattr(DuelingNoisyQ, name) for name in _LEARNED_THROUGH
    )


_NOT_OUR_NETWORKS = {
    "num_atoms": "The network learns no distribution",
    "dueling": "Change network.dueling",
    "noisy": "Change network.noisy",
    "sigma0": "Change network.sigma0",
    "hiddens": "Change network.hidden_sizes",
    "epsilon": "Change training.epsilon_start, epsilon_end and epsilon_fraction",
}
"""Settings of RLlib's Q-network that ours does not read, and what to do instead."""


def _unread(name: str, remedy: str) -> Rule:
    default = getattr(DQNConfig(), name)
    remedy = f"{remedy} in the run's configuration, or give RLlib's module and learner."
    return Rule(name, f"be RLlib's {default!r} with our network", _is_default(name, default), remedy)


def _with_counterfactuals(name: str, value: Any, why: str = "") -> Rule:
    must = f"be {value!r} with counterfactual_actions"
    return Rule(name, must, _is_default(name, value), f"{why}Set counterfactual_actions to 0, or leave it as it is.")


_BY_CONNECTORS = "Days that nobody walked do not pass through connectors. "
_COUNTERFACTUAL: tuple[Rule, ...] = _unless(
    lambda config: not config.counterfactual_actions,
    (
        Rule(
            "learner_class",
            "be the fused one with counterfactual_actions",
            _is_fused,
            "RLlib's learns from one action of each day: set counterfactual_actions to 0.",
        ),
        Rule(
            "env_runner_cls",
            "be one of ours with counterfactual_actions",
            _has_our_runner,
            "Others do not tell where the environments stood: set counterfactual_actions to 0.",
        ),
        _with_counterfactuals(
            "env", f"rllib_portfolio:{ENV_ID}", "It is our simulation that tells what they would have earned. "
        ),
        _with_counterfactuals("gym_env_vectorize_mode", "vector_entry_point"),
        _with_counterfactuals("n_step", 1),
        _with_counterfactuals("env_to_module_connector", None, _BY_CONNECTORS),
        _with_counterfactuals("module_to_env_connector", None, _BY_CONNECTORS),
        _with_counterfactuals("add_default_connectors_to_env_to_module_pipeline", True, _BY_CONNECTORS),
        _with_counterfactuals("add_default_connectors_to_module_to_env_pipeline", True, _BY_CONNECTORS),
    ),
)

DQN_RULES: tuple[Rule, ...] = (
    *_ALL,
    Rule("learner_connector", "be None", _is_default("learner_connector", None), _TRANSITIONS),
    Rule(
        "add_default_connectors_to_learner_pipeline",
        "be True",
        _is_default("add_default_connectors_to_learner_pipeline", True),
        _TRANSITIONS,
    ),
    *_FUSED,
    Rule(
        "replay_buffer_config",
        f"have a type derived from {ArrayEpisodeReplayBuffer.__name__}",
        _is_our_buffer,
        "Leave its type as it is.",
    ),
    Rule(
        "training_intensity",
        "be None",
        _is_default("training_intensity", None),
        "Set steps_per_update, the environment steps for each gradient step.",
    ),
    Rule("n_step", "be a number", lambda config: isinstance(config.n_step, int), "Ranges are not drawn from."),
    Rule("burn_in_len", "be 0", _is_default("burn_in_len", 0), "The replay buffer gives transitions, not sequences."),
    *_unless(
        lambda config: not _is_fused(config),
        (
            Rule("num_atoms", "be 1", _is_default("num_atoms", 1), _RLLIBS_LEARNER),
            Rule(
                "rl_module_spec",
                f"give a DuelingNoisyQ that overrides none of {', '.join(_LEARNED_THROUGH)}",
                _is_our_q_network,
                _RLLIBS_LEARNER,
            ),
        ),
    ),
    *_unless(
        lambda config: not issubclass(_module_class(config), DuelingNoisyQ),
        tuple(_unread(name, remedy) for name, remedy in _NOT_OUR_NETWORKS.items()),
    ),
    *_COUNTERFACTUAL,
)
