"""Rules that refuse the RLlib settings which DQN does not support; see `algorithms/refused_settings.py`."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from ray.rllib.algorithms.dqn import DQNConfig

from rllib_portfolio.algorithms.refused_settings import (
    ALL_RULES,
    FUSED_RULES,
    RLLIBS_LEARNER,
    TRANSITIONS,
    Rule,
    has_our_runner,
    is_default,
    is_fused,
    module_class,
    unless,
)
from rllib_portfolio.algorithms.replay.replay_buffer import ArrayEpisodeReplayBuffer
from rllib_portfolio.env.registration import ENV_ID
from rllib_portfolio.modules.dueling_noisy_q import DuelingNoisyQ

_LEARNED_THROUGH = ("setup", "_forward_train", "make_target_networks", "get_target_network_pairs")
"""Methods of the Q-network's RLModule that the fused learner replaces by its own computations."""


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
    module = module_class(config)
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
"""RLlib's Q-network settings that our network does not read, and the advice to give instead."""


def _unread(name: str, remedy: str) -> Rule:
    default = getattr(DQNConfig(), name)
    remedy = f"{remedy} in the run's configuration, or give RLlib's module and learner."
    return Rule(name, f"be RLlib's {default!r} with our network", is_default(name, default), remedy)


def _with_counterfactuals(name: str, value: Any, why: str = "") -> Rule:
    must = f"be {value!r} with counterfactual_actions"
    return Rule(name, must, is_default(name, value), f"{why}Set counterfactual_actions to 0, or leave it as it is.")


_BY_CONNECTORS = "Counterfactual transitions do not pass through connectors. "
_COUNTERFACTUAL: tuple[Rule, ...] = unless(
    lambda config: not config.counterfactual_actions,
    (
        Rule(
            "learner_class",
            "be the fused one with counterfactual_actions",
            is_fused,
            "RLlib's learner learns from one action of each day: set counterfactual_actions to 0.",
        ),
        Rule(
            "env_runner_cls",
            "be one of ours with counterfactual_actions",
            has_our_runner,
            "Other env runners do not report the environments' state: set counterfactual_actions to 0.",
        ),
        _with_counterfactuals(
            "env",
            f"rllib_portfolio:{ENV_ID}",
            "The rewards of the other actions come from our simulation. ",
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
    *ALL_RULES,
    Rule("learner_connector", "be None", is_default("learner_connector", None), TRANSITIONS),
    Rule(
        "add_default_connectors_to_learner_pipeline",
        "be True",
        is_default("add_default_connectors_to_learner_pipeline", True),
        TRANSITIONS,
    ),
    *FUSED_RULES,
    Rule(
        "replay_buffer_config",
        f"have a type derived from {ArrayEpisodeReplayBuffer.__name__}",
        _is_our_buffer,
        "Leave its type as it is.",
    ),
    Rule(
        "training_intensity",
        "be None",
        is_default("training_intensity", None),
        "Set steps_per_update, the environment steps for each gradient step.",
    ),
    Rule("n_step", "be a number", lambda config: isinstance(config.n_step, int), "Ranges are not supported."),
    Rule("burn_in_len", "be 0", is_default("burn_in_len", 0), "The replay buffer gives transitions, not sequences."),
    *unless(
        lambda config: not is_fused(config),
        (
            Rule("num_atoms", "be 1", is_default("num_atoms", 1), RLLIBS_LEARNER),
            Rule(
                "rl_module_spec",
                f"give a DuelingNoisyQ that overrides none of {', '.join(_LEARNED_THROUGH)}",
                _is_our_q_network,
                RLLIBS_LEARNER,
            ),
        ),
    ),
    *unless(
        lambda config: not issubclass(module_class(config), DuelingNoisyQ),
        tuple(_unread(name, remedy) for name, remedy in _NOT_OUR_NETWORKS.items()),
    ),
    *_COUNTERFACTUAL,
)
