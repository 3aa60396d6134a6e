"""What of RLlib's results TensorBoard shows, under names of our own."""

from __future__ import annotations

from typing import Any

LEFT_OUT = "training/updates_left_out"
"""Number of updates left out so far because a gradient was not finite."""


def learner_scalars(results: dict[str, Any]) -> dict[str, float]:
    """Losses and statistics of the learner's last updates; those that the algorithm has."""
    names = {
        "policy_loss": "training/policy_loss",
        "vf_loss": "training/value_loss",
        "total_loss": "training/total_loss",
        "entropy": "training/entropy",
        "mean_kl_loss": "training/kl",
        "vf_explained_var": "training/explained_variance",
        "num_gradient_steps": "training/gradient_steps",
        "num_updates_left_out": LEFT_OUT,
        "qf_loss": "training/td_loss",
        "qf_mean": "training/q_mean",
        "qf_max": "training/q_max",
        "td_error_mean": "training/td_error",
        "gradients_default_optimizer_global_norm": "training/gradient_norm",
        "default_optimizer_learning_rate": "training/learning_rate",
    }
    return {ours: float(results[theirs]) for theirs, ours in names.items() if theirs in results}


def buffer_scalars(results: dict[str, Any]) -> dict[str, float]:
    """Contents of the replay buffer, where there is one."""
    names = {"num_env_steps_stored": "replay/transitions", "beta": "replay/beta"}
    return {ours: float(results[theirs]) for theirs, ours in names.items() if theirs in results}
