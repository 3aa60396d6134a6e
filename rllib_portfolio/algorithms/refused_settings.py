"""Rules that refuse the RLlib settings which our learners, env runners and training steps do not support.

This module has the rules for all algorithms; the folder of each algorithm has its own rules. All other settings have
the effect that RLlib documents, which tests/algorithms/test_rllib_settings.py checks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.env.env_runner_group import EnvRunnerGroup

from rllib_portfolio.algorithms.learning.fused_learner import FusedLearner
from rllib_portfolio.algorithms.sampling.seeded_env_runner import SeededEnvRunner
from rllib_portfolio.errors import ConfigError

TRANSITIONS = "Learners are given transitions of the replay buffer, not episodes."
RLLIBS_LEARNER = "Leave it as it is, or use RLlib's learner (resources.learner: stock)."
_NOT_CALLED = (
    "compute_losses",
    "compute_loss_for_module",
    "compute_gradients",
    "postprocess_gradients",
    "postprocess_gradients_for_module",
    "apply_gradients",
    "configure_optimizers_for_module",
)
"""Methods of RLlib's learners that a fused learner does not call."""


class Rule(NamedTuple):
    """A condition that a setting must meet."""

    setting: str
    """Name of the setting in the methods of RLlib's configuration."""
    must: str
    """The requirement, as it follows "must" in the message."""
    is_met: Callable[[Any], bool]
    """Returns whether a configuration meets the rule."""
    remedy: str
    """The sentence of the message that says what to change."""


def refuse_settings(config: Any, rules: Sequence[Rule]) -> None:
    """Check an RLlib configuration against the rules.

    Evaluation does not learn, so that an evaluation configuration is checked against `ALL_RULES` only.

    Args:
        config: RLlib's configuration.
        rules: All rules of the algorithm.

    Raises:
        ConfigError: For the first rule that the configuration breaks.
    """
    for rule in ALL_RULES if config.in_evaluation else rules:
        if not rule.is_met(config):
            algorithm = getattr(config.algo_class, "__name__", config.algo_class)
            raise ConfigError(
                f"{rule.setting} must {rule.must}, got {_value(config, rule.setting)} ({algorithm}). {rule.remedy}"
            )


class RunnerParts(NamedTuple):
    """Observation shapes and RLModule of an env runner."""

    environment_shape: tuple[int, ...]
    """Shape of the environment's observations."""
    module_shape: tuple[int, ...]
    """Shape of the observations after the connectors."""
    module: str
    """Class name of the RLModule."""
    is_stateful: bool

    @classmethod
    def of(cls, runner: Any) -> RunnerParts:
        """Return the shapes and the module of `runner`."""
        pipeline, module = runner._env_to_module, runner.module
        shapes = (space.shape for space in (pipeline.input_observation_space, pipeline.observation_space))
        return cls(*shapes, type(module).__name__, module.is_stateful())


def refuse_env_runners(config: Any, env_runners: EnvRunnerGroup) -> None:
    """Check the settings whose effect is known only once an algorithm's env runners exist.

    Args:
        config: RLlib's configuration.
        env_runners: The algorithm's env runners, of which one is checked.

    Raises:
        ConfigError: If the RLModule is stateful, or if connectors change the shape of observations that the market
            baseline reads.
    """
    if env_runners.local_env_runner is not None:
        made = RunnerParts.of(env_runners.local_env_runner)
    else:
        (made,) = env_runners.foreach_env_runner(RunnerParts.of, remote_worker_ids=[1], local_env_runner=False)
    learns_from_transitions = hasattr(config, "replay_buffer_config")
    if made.is_stateful and (is_fused(config) or learns_from_transitions):
        remedy = TRANSITIONS if learns_from_transitions else "Use RLlib's learner (resources.learner: stock)."
        raise ConfigError(f"rl_module_spec must give a stateless RLModule, got {made.module}. {remedy}")
    if is_fused(config) and getattr(config, "market_baseline", False) and made.environment_shape != made.module_shape:
        raise ConfigError(
            f"env_to_module_connector must keep the shape {made.environment_shape} of observations, got "
            f"{made.module_shape}. Set training.market_baseline to false: the baseline reads the portfolio weights "
            "from the end of each observation."
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
"""Attribute names of the settings whose attribute has a different name."""


def is_fused(config: Any) -> bool:
    """Return whether a configuration has a fused learner."""
    return isinstance(config.learner_class, type) and issubclass(config.learner_class, FusedLearner)


def has_our_runner(config: Any) -> bool:
    """Return whether a configuration has one of our env runners."""
    return isinstance(config.env_runner_cls, type) and issubclass(config.env_runner_cls, SeededEnvRunner)


def is_default(name: str, value: Any) -> Callable[[Any], bool]:
    """Return a condition that is true for configurations in which a setting has the given value.

    Args:
        name: Name of the setting, as in `Rule.setting`.
        value: The value.
    """
    return lambda config: getattr(config, _ATTRIBUTES.get(name, name)) == value


def unless(condition: Callable[[Any], bool], rules: Sequence[Rule]) -> tuple[Rule, ...]:
    """Return the rules with an exemption.

    Args:
        condition: Returns whether a configuration is exempt, so that it meets each of the rules.
        rules: Rules that the other configurations must meet.
    """

    def either(is_met: Callable[[Any], bool]) -> Callable[[Any], bool]:
        return lambda config: condition(config) or is_met(config)

    return tuple(rule._replace(is_met=either(rule.is_met)) for rule in rules)


def module_class(config: Any) -> Any:
    """Return the class of the configuration's RLModule."""
    return getattr(config.rl_module_spec, "module_class", object)


def _calls_its_own_methods(config: Any) -> bool:
    """Return whether a user's subclass overrides none of the methods that a fused learner does not call."""
    learner = config.learner_class
    package = FusedLearner.__module__.partition(".")[0]
    ours = next(base for base in learner.__mro__ if base.__module__.partition(".")[0] == package)
    return all(getattr(learner, name) is getattr(ours, name) for name in _NOT_CALLED)


def _trains_default_module(config: Any) -> bool:
    names = config.policies_to_train
    return names is None or (not callable(names) and DEFAULT_MODULE_ID in names)


ALL_RULES: tuple[Rule, ...] = (
    *(
        Rule(name, "be True", is_default(name, True), "The algorithms are made for RLlib's new API stack.")
        for name in ("enable_rl_module_and_learner", "enable_env_runner_and_connector_v2")
    ),
    Rule("framework", "be 'torch'", is_default("framework", "torch"), "The networks are torch modules."),
    Rule(
        "policies",
        f"be {DEFAULT_MODULE_ID!r} alone",
        lambda config: not config.is_multi_agent,
        "The environment has one agent.",
    ),
    Rule(
        "num_aggregator_actors_per_learner",
        "be 0",
        is_default("num_aggregator_actors_per_learner", 0),
        "Learners are given episodes by the driver.",
    ),
    Rule("input_", "be 'sampler'", is_default("input_", "sampler"), "The algorithms learn from their env runners."),
    Rule(
        "output",
        "be None",
        lambda config: config.output is None or not has_our_runner(config),
        "Our env runners write no files: use .env_runners(env_runner_cls=None), which is RLlib's own.",
    ),
    Rule(
        "model_config",
        "be empty beside an rl_module_spec",
        lambda config: not config._model_config or not getattr(config._rl_module_spec, "model_config", None),
        "The network is built from that of rl_module_spec: change it there, or the run's network settings.",
    ),
)

FUSED_RULES: tuple[Rule, ...] = unless(
    lambda config: not is_fused(config),
    (
        Rule(
            "learner_class",
            f"override none of {', '.join(_NOT_CALLED)}",
            _calls_its_own_methods,
            "The fused learner never calls them: derive it from RLlib's learner.",
        ),
        Rule("learner_connector", "be None", is_default("learner_connector", None), RLLIBS_LEARNER),
        Rule(
            "add_default_connectors_to_learner_pipeline",
            "be True",
            is_default("add_default_connectors_to_learner_pipeline", True),
            RLLIBS_LEARNER,
        ),
        Rule(
            "grad_clip_by",
            "be 'global_norm'",
            lambda config: config.grad_clip is None or config.grad_clip_by == "global_norm",
            RLLIBS_LEARNER,
        ),
        Rule(
            "_torch_grad_scaler_class",
            "be None",
            is_default("_torch_grad_scaler_class", None),
            "Set resources.mixed_precision to fp16, which scales gradients.",
        ),
        Rule(
            "_torch_lr_scheduler_classes",
            "be None",
            is_default("_torch_lr_scheduler_classes", None),
            "Set lr to a schedule, or use RLlib's learner (resources.learner: stock).",
        ),
        Rule(
            "torch_compile_learner",
            "be False",
            is_default("torch_compile_learner", False),
            RLLIBS_LEARNER,
        ),
        Rule("torch_ddp_kwargs", "be empty", is_default("torch_ddp_kwargs", {}), RLLIBS_LEARNER),
        Rule(
            "algorithm_config_overrides_per_module",
            "be empty",
            is_default("algorithm_config_overrides_per_module", {}),
            "There is one module: change the settings themselves.",
        ),
        Rule("policies_to_train", f"hold {DEFAULT_MODULE_ID!r}", _trains_default_module, RLLIBS_LEARNER),
        Rule(
            "rl_module_spec",
            "be an RLModuleSpec",
            lambda config: isinstance(config.rl_module_spec, RLModuleSpec),
            RLLIBS_LEARNER,
        ),
    ),
)
