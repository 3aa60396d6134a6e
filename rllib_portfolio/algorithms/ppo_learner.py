"""A PPO learner with a tight minibatch loop: RLlib's loss on RLlib's seams, without its work per minibatch.

RLlib's learner builds a batch through connectors, checks each gradient tensor, logs metric objects at every minibatch
and steps an unfused optimiser over many small tensors. Here episodes become arrays once, parameters lie in one flat
buffer, and metrics are means over the update, under RLlib's names.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from ray.rllib.algorithms.ppo.ppo import (
    LEARNER_RESULTS_KL_KEY,
    LEARNER_RESULTS_VF_EXPLAINED_VAR_KEY,
    LEARNER_RESULTS_VF_LOSS_UNCLIPPED_KEY,
)
from ray.rllib.algorithms.ppo.torch.ppo_torch_learner import PPOTorchLearner
from ray.rllib.core import ALL_MODULES, DEFAULT_MODULE_ID
from ray.rllib.core.columns import Columns
from ray.rllib.core.learner.learner import ENTROPY_KEY, POLICY_LOSS_KEY, VF_LOSS_KEY
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

from rllib_portfolio.algorithms.advantages import generalised_advantages
from rllib_portfolio.algorithms.flat_parameters import FlatParameters, Snapshot

logger = logging.getLogger(__name__)

SHUFFLE_GENERATOR = "shuffle_generator"
_HALF_PRECISION = {"bf16": torch.bfloat16, "fp16": torch.float16}
SMALLEST_ADVANTAGE_STD = 1e-4
"""As in RLlib's GAE connector."""


class Batch(NamedTuple):
    """A train batch of S steps, or a minibatch of them."""

    observations: Tensor
    """[S, D]."""
    actions: Tensor
    """[S, A]."""
    log_probabilities: Tensor
    """Of the actions when they were sampled, [S]."""
    distribution_inputs: Tensor
    """Of the policy that sampled, [S, 2A]."""
    advantages: Tensor
    """Standardised, [S]."""
    value_targets: Tensor
    """[S]."""


class MinibatchStats(NamedTuple):
    """Means over one minibatch, on the device."""

    policy_loss: Tensor
    value_loss: Tensor
    value_loss_unclipped: Tensor
    entropy: Tensor
    kl: Tensor
    total_loss: Tensor
    gradient_norm: Tensor


@dataclass
class _Team:
    """The learners that share an update: sums over them."""

    size: int

    def sum(self, tensor: Tensor) -> Tensor:
        if self.size > 1:
            torch.distributed.all_reduce(tensor)
        return tensor


class FusedPPOLearner(PPOTorchLearner):
    """PPO on whole-array episodes of one module.

    Several learners average flat gradients, weighted by the steps that each of them holds, and standardise advantages
    over all of them, so that n learners do what one would do with n times the batch.
    """

    def build(self) -> None:
        self._flat: FlatParameters | None = None
        self._shuffle = torch.Generator()
        self._shuffle.manual_seed(self.config.seed or 0)
        super().build()
        self._team = _Team(max(1, self.config.num_learners))
        self._scaler = torch.amp.GradScaler(self._device_type) if self.config.mixed_precision == "fp16" else None
        self._loss = torch.compile(self._minibatch_loss) if self.config.compile_update else self._minibatch_loss

    def configure_optimizers_for_module(self, module_id: str, config: Any = None) -> None:
        if self._flat is not None:
            raise ValueError(f"learner must have one module, got a second one, {module_id}. Use the stock learner.")
        self._flat = FlatParameters(self._module[module_id].unwrapped())
        optimizer = torch.optim.Adam([self._flat.parameter], fused=True)
        self.register_optimizer(
            module_id=module_id, optimizer=optimizer, params=[self._flat.parameter], lr_or_lr_schedule=config.lr
        )

    def _make_modules_ddp_if_necessary(self) -> None:
        """No wrapper: gradients are averaged as one flat tensor. The first learner's weights are everyone's."""
        if self.config.num_learners > 1:
            torch.distributed.broadcast(self._flat.parameter.data, src=0)

    def update(
        self,
        batch: Any = None,
        *,
        training_data: Any = None,
        episodes: Sequence[SingleAgentEpisode] | None = None,
        timesteps: dict[str, Any] | None = None,
        num_epochs: int = 1,
        minibatch_size: int | None = None,
        shuffle_batch_per_epoch: bool = False,
        _no_metrics_reduce: bool = False,
        **kwargs: Any,
    ) -> Any:
        """RLlib's `Learner.update` on episodes."""
        self._check_is_built()
        self.before_gradient_based_update(timesteps=timesteps or {})
        if training_data is not None:
            training_data.solve_refs()
            episodes = training_data.episodes
        if episodes is None:
            raise ValueError("training data must be episodes, got none. Use the stock learner for batches.")
        self._weights_seq_no += 1
        episodes = [episode for episode in episodes if len(episode)]
        train_batch, values = self._train_batch(episodes)
        num_steps = len(train_batch.advantages)
        total_steps = int(self._team.sum(torch.tensor(num_steps, device=self._device)))
        per_learner = total_steps / self._team.size
        num_minibatches = max(1, round(per_learner / minibatch_size)) if minibatch_size else 1
        weight = num_steps / per_learner
        stats = self._run_epochs(train_batch, num_epochs, num_minibatches, shuffle_batch_per_epoch, weight)
        self._log_update(stats, train_batch, values, episodes, num_epochs)
        self.after_gradient_based_update(timesteps=timesteps or {})
        return None if _no_metrics_reduce else self.metrics.reduce()

    def get_state(self, components: Any = None, *, not_components: Any = None, **kwargs: Any) -> dict[str, Any]:
        state = super().get_state(components, not_components=not_components, **kwargs)
        if self._check_component(SHUFFLE_GENERATOR, components, not_components):
            state[SHUFFLE_GENERATOR] = self._shuffle.get_state().numpy()
        return state

    def set_state(self, state: dict[str, Any]) -> None:
        super().set_state(state)
        if SHUFFLE_GENERATOR in state:
            self._shuffle.set_state(torch.from_numpy(np.array(state[SHUFFLE_GENERATOR])))

    @property
    def _trained_module(self) -> Any:
        return self.module[DEFAULT_MODULE_ID].unwrapped()

    def _train_batch(self, episodes: Sequence[SingleAgentEpisode]) -> tuple[Batch, Tensor]:
        """The batch on the device, and the values before the update."""
        observations = [episode.get_observations() for episode in episodes]
        obs = self._tensor(np.concatenate([array[:-1] for array in observations]))
        last_obs = self._tensor(np.stack([array[-1] for array in observations]))
        with torch.no_grad():
            module = self._trained_module
            values = module.compute_values({Columns.OBS: obs})
            last_values = module.compute_values({Columns.OBS: last_obs})
        advantages = generalised_advantages(
            [np.asarray(episode.get_rewards()) for episode in episodes],
            values.cpu().numpy(),
            last_values.cpu().numpy(),
            np.array([episode.is_terminated for episode in episodes]),
            self.config.gamma,
            self.config.lambda_,
        )
        unstandardised = self._tensor(advantages)
        columns = {
            name: self._tensor(np.concatenate([episode.get_extra_model_outputs(name) for episode in episodes]))
            for name in (Columns.ACTION_LOGP, Columns.ACTION_DIST_INPUTS)
        }
        return Batch(
            observations=obs,
            actions=self._tensor(np.concatenate([episode.get_actions() for episode in episodes])),
            log_probabilities=columns[Columns.ACTION_LOGP],
            distribution_inputs=columns[Columns.ACTION_DIST_INPUTS],
            advantages=self._standardised(unstandardised),
            value_targets=unstandardised + values,
        ), values

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32)).to(self._device)

    def _standardised(self, advantages: Tensor) -> Tensor:
        """Zero mean and unit (population) deviation over the steps of all learners."""
        exact = advantages.double()
        count, total = self._team.sum(torch.stack([torch.ones_like(exact).sum(), exact.sum()]))
        mean = total / count
        variance = self._team.sum((exact - mean).square().sum()) / count
        return ((exact - mean) / variance.sqrt().clamp(min=SMALLEST_ADVANTAGE_STD)).float()

    def _run_epochs(
        self, batch: Batch, num_epochs: int, num_minibatches: int, shuffle: bool, weight: float
    ) -> list[MinibatchStats]:
        """All gradient steps of an update; undone, with the culprits named, if a gradient was not finite."""
        optimizer = self.get_optimizer()
        before = Snapshot(self._flat, optimizer)
        generator_before = self._shuffle.get_state()
        stats = [
            self._gradient_step(minibatch, optimizer, weight)
            for minibatch in self._minibatches(batch, num_epochs, num_minibatches, shuffle)
        ]
        if self._scaler is not None or bool(torch.isfinite(torch.stack([step.gradient_norm for step in stats]).sum())):
            return stats
        before.restore()
        self._shuffle.set_state(generator_before)
        for minibatch in self._minibatches(batch, num_epochs, num_minibatches, shuffle):
            self._gradient_step(minibatch, optimizer, weight)
            if names := self._flat.non_finite_gradients():
                break
        before.restore()
        logger.error("The gradient of %s was not finite; this update is left out.", ", ".join(names))
        return []

    def _minibatches(self, batch: Batch, num_epochs: int, num_minibatches: int, shuffle: bool) -> Iterator[Batch]:
        """Minibatches of nearly equal sizes that use every step once an epoch."""
        num_steps = len(batch.advantages)
        for _ in range(num_epochs):
            epoch = batch
            if shuffle and num_minibatches > 1:
                order = torch.randperm(num_steps, generator=self._shuffle).to(self._device)
                epoch = Batch(*(column[order] for column in batch))
            yield from map(Batch._make, zip(*(column.tensor_split(num_minibatches) for column in epoch), strict=True))

    def _gradient_step(self, minibatch: Batch, optimizer: torch.optim.Optimizer, weight: float) -> MinibatchStats:
        self._flat.gradient.zero_()
        with self._mixed_precision():
            total_loss, parts = self._loss(minibatch)
        (total_loss if self._scaler is None else self._scaler.scale(total_loss)).backward()
        if self._team.size > 1:
            self._team.sum(self._flat.gradient.mul_(weight)).div_(self._team.size)
        if self._scaler is not None:
            self._scaler.unscale_(optimizer)
        norm = self._flat.clip_gradient(self.config.grad_clip)
        if self._scaler is None:
            optimizer.step()
        else:  # leaves out the steps whose scaled gradient overflowed, and lowers the scale
            self._scaler.step(optimizer)
            self._scaler.update()
        return MinibatchStats(*(part.detach() for part in parts), total_loss.detach(), norm)

    def _mixed_precision(self) -> AbstractContextManager[Any]:
        if self.config.mixed_precision is None:
            return nullcontext()
        return torch.autocast(self._device_type, _HALF_PRECISION[self.config.mixed_precision])

    @property
    def _device_type(self) -> str:
        return torch.device(self._device).type

    def _minibatch_loss(self, batch: Batch) -> tuple[Tensor, tuple[Tensor, ...]]:
        """PPO's clipped loss (Schulman et al. 2017, eqs. 7 and 9), term by term as RLlib's learner has it."""
        module, config = self._trained_module, self.config
        inputs = {Columns.OBS: batch.observations}
        outputs = module.forward_train(inputs)
        distribution_class = module.get_train_action_dist_cls()
        distribution = distribution_class.from_logits(outputs[Columns.ACTION_DIST_INPUTS].float())
        ratio = torch.exp(distribution.logp(batch.actions) - batch.log_probabilities)
        clipped = ratio.clamp(1.0 - config.clip_param, 1.0 + config.clip_param)
        policy_loss = -torch.min(batch.advantages * ratio, batch.advantages * clipped).mean()
        values = module.compute_values(inputs, embeddings=outputs.get(Columns.EMBEDDINGS)).float()
        squared_error = (values - batch.value_targets).square()
        value_loss = squared_error.clamp(max=config.vf_clip_param).mean()
        entropy = distribution.entropy().mean()
        entropy_coefficient = self.entropy_coeff_schedulers_per_module[DEFAULT_MODULE_ID].get_current_value()
        total = policy_loss + config.vf_loss_coeff * value_loss - entropy_coefficient * entropy
        kl = torch.zeros_like(entropy)
        if config.use_kl_loss:
            kl = distribution_class.from_logits(batch.distribution_inputs).kl(distribution).mean()
            total = total + self.curr_kl_coeffs_per_module[DEFAULT_MODULE_ID] * kl
        return total, (policy_loss, value_loss, squared_error.mean(), entropy, kl)

    def _log_update(
        self,
        stats: list[MinibatchStats],
        batch: Batch,
        values: Tensor,
        episodes: Sequence[SingleAgentEpisode],
        num_epochs: int,
    ) -> None:
        """Means over the update's minibatches, under the names that RLlib's learner uses."""
        num_steps = len(batch.advantages)
        residual = (batch.value_targets - values).var(correction=0)
        explained = 1.0 - residual / batch.value_targets.var(correction=0).clamp(min=1e-12)
        module_scalars = {
            LEARNER_RESULTS_VF_EXPLAINED_VAR_KEY: explained.clamp(min=-1.0).item(),
            WEIGHTS_SEQ_NO: self._weights_seq_no,
            DIFF_NUM_GRAD_UPDATES_VS_SAMPLER_POLICY: self._off_policyness(episodes),
        }
        if stats:
            means = torch.stack([torch.stack(step) for step in stats]).mean(0).tolist()
            module_scalars |= dict(zip(_STAT_KEYS, means, strict=True))
        self.metrics.log_dict(module_scalars, key=DEFAULT_MODULE_ID, window=1)
        trained = num_steps * num_epochs
        self.metrics.log_value((DEFAULT_MODULE_ID, MODULE_TRAIN_BATCH_SIZE_MEAN), num_steps, reduce="mean")
        for key in (DEFAULT_MODULE_ID, ALL_MODULES):
            self.metrics.log_value((key, NUM_MODULE_STEPS_TRAINED), trained, reduce="sum")
            self.metrics.log_value(
                (key, NUM_MODULE_STEPS_TRAINED_LIFETIME), trained, reduce="lifetime_sum", with_throughput=True
            )
        self.metrics.log_value((ALL_MODULES, NUM_ENV_STEPS_TRAINED), trained, reduce="sum", with_throughput=True)
        self.metrics.log_value(
            (ALL_MODULES, NUM_ENV_STEPS_TRAINED_LIFETIME), trained, reduce="lifetime_sum", with_throughput=True
        )

    def _off_policyness(self, episodes: Sequence[SingleAgentEpisode]) -> float:
        """Updates that the sampling weights lie behind, mean over steps."""
        sampled = np.concatenate([np.asarray(episode.get_extra_model_outputs(WEIGHTS_SEQ_NO)) for episode in episodes])
        return float((self._weights_seq_no - sampled).mean())


_STAT_KEYS = (
    POLICY_LOSS_KEY,
    VF_LOSS_KEY,
    LEARNER_RESULTS_VF_LOSS_UNCLIPPED_KEY,
    ENTROPY_KEY,
    LEARNER_RESULTS_KL_KEY,
    FusedPPOLearner.TOTAL_LOSS_KEY,
    "gradients_default_optimizer_global_norm",
)
