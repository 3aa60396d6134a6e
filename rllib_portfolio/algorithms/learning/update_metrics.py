"""What an update of the fused learner reports: means over its minibatches, under the names of RLlib's learner.

The KL divergence alone is the last minibatch's, as in RLlib, which reports the last minibatch's of everything.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from ray.rllib.algorithms.ppo.ppo import (
    LEARNER_RESULTS_KL_KEY,
    LEARNER_RESULTS_VF_EXPLAINED_VAR_KEY,
    LEARNER_RESULTS_VF_LOSS_UNCLIPPED_KEY,
)
from ray.rllib.core import ALL_MODULES, DEFAULT_MODULE_ID
from ray.rllib.core.learner.learner import ENTROPY_KEY, POLICY_LOSS_KEY, VF_LOSS_KEY, Learner
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.utils.metrics import (
    DIFF_NUM_GRAD_UPDATES_VS_SAMPLER_POLICY,
    MODULE_TRAIN_BATCH_SIZE_MEAN,
    NUM_ENV_STEPS_TRAINED,
    NUM_ENV_STEPS_TRAINED_LIFETIME,
    NUM_MODULE_STEPS_TRAINED,
    NUM_MODULE_STEPS_TRAINED_LIFETIME,
    WEIGHTS_SEQ_NO,
)
from torch import Tensor

from rllib_portfolio.algorithms.learning.train_batch import Batch

NUM_UPDATES_LEFT_OUT = "num_updates_left_out"
"""Because of gradients that were not finite; the log names their parameters."""
NUM_GRADIENT_STEPS = "num_gradient_steps"
"""Gradient steps of the last update; fewer than usual if `max_kl` ended it."""


class MinibatchStats(NamedTuple):
    """Means over the minibatch of one gradient step, as tensors on the device."""

    policy_loss: Tensor
    value_loss: Tensor
    value_loss_unclipped: Tensor
    entropy: Tensor
    kl: Tensor
    total_loss: Tensor
    gradient_norm: Tensor
    num_steps: int
    """Environment steps in the minibatch."""


_STAT_KEYS = (
    POLICY_LOSS_KEY,
    VF_LOSS_KEY,
    LEARNER_RESULTS_VF_LOSS_UNCLIPPED_KEY,
    ENTROPY_KEY,
    LEARNER_RESULTS_KL_KEY,
    Learner.TOTAL_LOSS_KEY,
    "gradients_default_optimizer_global_norm",
)


def log_update(metrics: Any, stats: Sequence[MinibatchStats], batch: Batch, values: Tensor) -> None:
    """Log the losses, how well the critic's `values` before the update explain their targets, and counts.

    Args:
        metrics: The learner's `MetricsLogger`.
        stats: Of each minibatch; none of an update that was left out.
        batch: The train batch, S steps.
        values: Of its observations, before the update, [S].
    """
    residual = (batch.value_targets - values).var(correction=0)
    explained = 1.0 - residual / batch.value_targets.var(correction=0).clamp(min=1e-12)
    scalars = {LEARNER_RESULTS_VF_EXPLAINED_VAR_KEY: explained.clamp(min=-1.0).item(), NUM_GRADIENT_STEPS: len(stats)}
    if stats:
        means = torch.stack([torch.stack(step[:-1]) for step in stats]).mean(0).tolist()
        scalars |= dict(zip(_STAT_KEYS, means, strict=True))
        # How far the policy has come, to which the coefficient is adapted: at first every minibatch's is zero.
        scalars[LEARNER_RESULTS_KL_KEY] = stats[-1].kl.item()
    metrics.log_dict(scalars, key=DEFAULT_MODULE_ID, window=1)
    metrics.log_value((DEFAULT_MODULE_ID, NUM_UPDATES_LEFT_OUT), int(not stats), reduce="lifetime_sum")
    metrics.log_value((DEFAULT_MODULE_ID, MODULE_TRAIN_BATCH_SIZE_MEAN), len(batch.advantages), reduce="mean")
    trained = sum(step.num_steps for step in stats)
    for key in (
        (DEFAULT_MODULE_ID, NUM_MODULE_STEPS_TRAINED),
        (ALL_MODULES, NUM_MODULE_STEPS_TRAINED),
        (ALL_MODULES, NUM_ENV_STEPS_TRAINED),
    ):
        metrics.log_value(key, trained, reduce="sum", with_throughput=key[0] == ALL_MODULES)
    for key in (
        (DEFAULT_MODULE_ID, NUM_MODULE_STEPS_TRAINED_LIFETIME),
        (ALL_MODULES, NUM_MODULE_STEPS_TRAINED_LIFETIME),
        (ALL_MODULES, NUM_ENV_STEPS_TRAINED_LIFETIME),
    ):
        metrics.log_value(key, trained, reduce="lifetime_sum", with_throughput=True)


def log_weights(metrics: Any, weights_seq_no: int, episodes: Sequence[SingleAgentEpisode]) -> None:
    """Log the number of this update, and how many of them the sampling weights lie behind, mean over steps."""
    sampled = np.concatenate([np.asarray(episode.get_extra_model_outputs(WEIGHTS_SEQ_NO)) for episode in episodes])
    scalars = {
        WEIGHTS_SEQ_NO: weights_seq_no,
        DIFF_NUM_GRAD_UPDATES_VS_SAMPLER_POLICY: float((weights_seq_no - sampled).mean()),
    }
    metrics.log_dict(scalars, key=DEFAULT_MODULE_ID, window=1)
