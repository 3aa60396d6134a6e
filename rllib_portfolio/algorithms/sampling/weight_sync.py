"""Transfer of new weights from the learners to the env runners."""

from __future__ import annotations

from typing import Any

import torch
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.learner.learner_group import LearnerGroup
from ray.rllib.env.env_runner_group import EnvRunnerGroup


def sync_weights(env_runners: EnvRunnerGroup, learners: LearnerGroup) -> None:
    """Send the learners' weights to all env runners.

    If the learner and the env runner are both local, the weights are copied directly. Otherwise RLlib's method converts
    them and puts them into the object store.

    Args:
        env_runners: The algorithm's env runners.
        learners: The algorithm's learners.
    """
    if env_runners.num_remote_env_runners() or learners.is_remote:
        env_runners.sync_weights(
            from_worker_or_learner_group=learners, policies={DEFAULT_MODULE_ID}, inference_only=True
        )
        return
    learners.foreach_learner(lambda learner: _copy(learner, env_runners.local_env_runner))


def _copy(learner: Any, env_runner: Any) -> None:
    source = learner.module[DEFAULT_MODULE_ID].unwrapped().state_dict()
    with torch.no_grad():
        for name, tensor in env_runner.module.state_dict().items():
            tensor.copy_(source[name])
    env_runner._weights_seq_no = learner._weights_seq_no
