"""Metrics of a PPO update of the fused learner: means over its minibatches, under the names of RLlib's learner.

Only the KL divergence is that of the last minibatch. RLlib reports all metrics of the last minibatch only.
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
"""Number of updates that were left out because a gradient was not finite; the log names the parameters."""
NUM_GRADIENT_STEPS = "num_gradient_steps"
"""Number of gradient steps in the last update, which is smaller than usual if `max_kl` ended it."""


class MinibatchStats(NamedTuple):
    """Statistics of one gradient step, averaged over its minibatch, as tensors on the device."""

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
    """Log losses, counts, and the share of the value targets' variance that the critic explained before the update.

    Args:
        metrics: The learner's `MetricsLogger`.
        stats: Statistics of each minibatch; empty if the update was left out.
        batch: The train batch of S steps.
        values: Values of its observations before the update, [S].
    """
    residual = (batch.value_targets - values).var(correction=0)
    explained = 1.0 - residual / batch.value_targets.var(correction=0).clamp(min=1e-12)
    scalars = {LEARNER_RESULTS_VF_EXPLAINED_VAR_KEY: explained.clamp(min=-1.0).item(), NUM_GRADIENT_STEPS: len(stats)}
    if stats:
        means = torch.stack([torch.stack(step[:-1]) for step in stats]).mean(0).tolist()
        scalars |= dict(zip(_STAT_KEYS, means, strict=True))
        # RLlib adapts the KL coefficient to how far the policy has moved; a mean would include the first minibatch's 0.
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
    """Log the number of this update, and the mean age, in updates, of the weights that sampled the steps.

    Args:
        metrics: The learner's `MetricsLogger`.
        weights_seq_no: Number of updates of the learner so far, including this one.
        episodes: Episode chunks of the update, with the extra output `WEIGHTS_SEQ_NO`.
    """
    sampled = np.concatenate([np.asarray(episode.get_extra_model_outputs(WEIGHTS_SEQ_NO)) for episode in episodes])
    scalars = {
        WEIGHTS_SEQ_NO: weights_seq_no,
        DIFF_NUM_GRAD_UPDATES_VS_SAMPLER_POLICY: float((weights_seq_no - sampled).mean()),
    }
    metrics.log_dict(scalars, key=DEFAULT_MODULE_ID, window=1)
