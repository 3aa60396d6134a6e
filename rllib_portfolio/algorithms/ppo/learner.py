"""A PPO learner that computes RLlib's loss behind RLlib's interface, without RLlib's overhead per minibatch.

RLlib's learner builds a batch through connectors, checks each gradient tensor, logs metric objects at every minibatch
and runs an unfused optimiser over many small tensors. This learner converts episodes to arrays once, keeps parameters
in one flat buffer, and reports means over the update under RLlib's metric names.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
import torch
from ray.rllib.algorithms.ppo.ppo import LEARNER_RESULTS_KL_KEY
from ray.rllib.algorithms.ppo.torch.ppo_torch_learner import PPOTorchLearner
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.columns import Columns
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.utils.metrics import NUM_ENV_STEPS_SAMPLED_LIFETIME
from torch import Tensor

from rllib_portfolio.algorithms.learning.flat_parameters import Snapshot
from rllib_portfolio.algorithms.learning.fused_learner import FusedLearner
from rllib_portfolio.algorithms.learning.train_batch import Batch, BatchBuilder
from rllib_portfolio.algorithms.learning.update_metrics import MinibatchStats, log_update, log_weights
from rllib_portfolio.algorithms.sampling.fast_path import reads_fragments
from rllib_portfolio.modules.actor_critic import PortfolioActorCritic

UPDATE_STATE = "update_state"
_CALLED_BY_RLLIB = ("_forward_train", "compute_values")


@reads_fragments(infos=False)
class StockPPOLearner(PPOTorchLearner):
    """RLlib's PPO learner, but the KL divergence is reported even if it is not part of the loss (RLlib reports 0)."""

    def compute_loss_for_module(self, *, module_id: str, config: Any, batch: dict[str, Any], fwd_out: Any) -> Tensor:
        loss: Tensor = super().compute_loss_for_module(module_id=module_id, config=config, batch=batch, fwd_out=fwd_out)
        if not config.use_kl_loss:
            make = self.module[module_id].unwrapped().get_train_action_dist_cls().from_logits
            with torch.no_grad():
                before, now = (make(of[Columns.ACTION_DIST_INPUTS]) for of in (batch, fwd_out))
                kl = before.kl(now)
                mean_kl = (kl[batch[Columns.LOSS_MASK]] if Columns.LOSS_MASK in batch else kl).mean()
            self.metrics.log_value((module_id, LEARNER_RESULTS_KL_KEY), mean_kl, window=1)
        return loss


@reads_fragments(infos=False, observations=False)
class FusedPPOLearner(FusedLearner, PPOTorchLearner):
    """PPO for one module, on episodes of arrays; advantages are standardised over the batches of all learners."""

    def build(self) -> None:
        self._shuffle = torch.Generator()
        self._shuffle.manual_seed(self.config.seed or 0)
        self._timesteps: dict[str, Any] = {}
        super().build()
        self._batches = BatchBuilder(self._trained_module, self.config, self._team, self._whole)
        module = type(self._trained_module)
        self._has_standard_forward = issubclass(module, PortfolioActorCritic) and all(
            getattr(module, name) is getattr(PortfolioActorCritic, name) for name in _CALLED_BY_RLLIB
        )
        """Whether `evaluate` may replace the methods that RLlib's learner calls: the module overrides none of them."""

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
        """Make an update as RLlib's `Learner.update` does, on episodes only.

        Args:
            batch: Not used; RLlib's learner also accepts a batch.
            training_data: RLlib's container of episodes; if it is given, `episodes` is ignored.
            episodes: Episode chunks to learn from. Empty chunks are left out.
            timesteps: Step counts that schedules depend on.
            num_epochs: Number of passes over the steps.
            minibatch_size: Approximate number of steps in a minibatch of one learner; None makes one minibatch of all.
            shuffle_batch_per_epoch: Whether the steps are shuffled before each pass.
            _no_metrics_reduce: Whether the metrics stay in the learner's logger.
            **kwargs: Not used; RLlib's learner has further arguments.

        Returns:
            The learner's metrics, or None if `_no_metrics_reduce` is true.

        Raises:
            ValueError: If there are no episodes.
        """
        self._check_is_built()
        self._timesteps = timesteps or {}
        self.before_gradient_based_update(timesteps=self._timesteps)
        if training_data is not None:
            training_data.solve_refs()
            episodes = training_data.episodes
        if episodes is None:
            raise ValueError("training data must be episodes, got none. Use the stock learner for batches.")
        self._weights_seq_no += 1
        episodes = [episode for episode in episodes if len(episode)]
        train_batch, values = self._batches.build(episodes)
        stats = self._run_epochs(train_batch, num_epochs, minibatch_size, shuffle_batch_per_epoch)
        if stats:
            self._batches.scale.advance()
        log_update(self.metrics, stats, train_batch, values)
        log_weights(self.metrics, self._weights_seq_no, episodes)
        self.after_gradient_based_update(timesteps=self._timesteps)
        return None if _no_metrics_reduce else self.metrics.reduce()

    def get_state(self, components: Any = None, *, not_components: Any = None, **kwargs: Any) -> dict[str, Any]:
        state = super().get_state(components, not_components=not_components, **kwargs)
        if self._check_component(UPDATE_STATE, components, not_components):
            state[UPDATE_STATE] = {
                "shuffle_generator": self._shuffle.get_state().numpy(),
                "kl_coefficient": float(self.curr_kl_coeffs_per_module[DEFAULT_MODULE_ID]),
                "gradient_scaler": self._scaler.state_dict() if self._scaler is not None else {},
                "timesteps": self._timesteps,
                "advantage_scale": self._batches.scale.get_state(),
            }
        return state

    def set_state(self, state: dict[str, Any]) -> None:
        super().set_state(state)
        if UPDATE_STATE not in state:
            return
        ours = state[UPDATE_STATE]
        self._shuffle.set_state(torch.from_numpy(np.array(ours["shuffle_generator"])))
        self.curr_kl_coeffs_per_module[DEFAULT_MODULE_ID].data.fill_(ours["kl_coefficient"])
        if self._scaler is not None and ours["gradient_scaler"]:
            self._scaler.load_state_dict(ours["gradient_scaler"])
        self._timesteps = ours["timesteps"]
        if "advantage_scale" in ours:  # older checkpoints have none
            self._batches.scale.set_state(ours["advantage_scale"])
        step = self._timesteps.get(NUM_ENV_STEPS_SAMPLED_LIFETIME, 0)
        self.entropy_coeff_schedulers_per_module[DEFAULT_MODULE_ID].update(timestep=step)

    def _run_epochs(
        self, batch: Batch, num_epochs: int, minibatch_size: int | None, shuffle: bool
    ) -> list[MinibatchStats]:
        """Make all gradient steps of an update, and return the statistics of the steps.

        If a gradient is not finite, undo the update, log the parameters responsible and return an empty list. With
        fp16, only the steps whose gradient overflowed are left out.
        """
        num_steps = len(batch.advantages)
        steps_per_learner = float(self._team.total(np.array([num_steps]))[0]) / self._team.size
        num_minibatches = max(1, round(steps_per_learner / minibatch_size)) if minibatch_size else 1
        weight = num_steps / steps_per_learner

        def minibatches() -> Iterator[Batch]:
            generator = self._shuffle if shuffle else None
            return chain.from_iterable(batch.minibatches(num_minibatches, generator) for _ in range(num_epochs))

        before, generator_state = Snapshot(self._flat, self.get_optimizer()), self._shuffle.get_state()
        self._trained_module.train()
        stats = self._gradient_steps(minibatches(), weight)
        is_finite = torch.isfinite(torch.stack([step.gradient_norm for step in stats])).tolist()
        if all(is_finite) or self._scaler is not None:  # the scaler has skipped the steps that overflowed
            return [step for step, finite in zip(stats, is_finite, strict=True) if finite]
        before.restore()
        self._shuffle.set_state(generator_state)
        names = self._non_finite_gradients(minibatches(), weight)
        before.restore()
        self._shuffle.set_state(generator_state)
        self._name_culprits(names)
        return []

    def _non_finite_gradients(self, minibatches: Iterator[Batch], weight: float) -> list[str]:
        """Repeat the gradient steps and return the names of the parameters whose gradient is not finite first."""
        for minibatch in minibatches:
            self._backward(partial(self._minibatch_loss, minibatch), weight)
            if names := self._flat.non_finite_gradients():
                return names
            self._apply_gradient()
        return ["all parameters together (its norm overflowed)"]

    def _gradient_steps(self, minibatches: Iterator[Batch], weight: float) -> list[MinibatchStats]:
        """Make gradient steps until no minibatch is left or the KL divergence exceeds `max_kl`.

        The KL divergence from the policy that sampled is averaged over all learners, so that all stop at the same step.
        """
        stats: list[MinibatchStats] = []
        for minibatch in minibatches:
            total_loss, parts = self._backward(partial(self._minibatch_loss, minibatch), weight)
            *losses, kl = (part.detach() for part in parts)
            kl = self._team.sum(kl * weight) / self._team.size
            if stats and self.config.max_kl is not None and kl > self.config.max_kl:
                return [*stats[:-1], stats[-1]._replace(kl=kl)]
            norm, num_steps = self._apply_gradient(), len(minibatch.advantages)
            stats.append(MinibatchStats(*losses, kl, total_loss.detach(), norm, num_steps))
        return stats

    def _minibatch_loss(self, batch: Batch) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return PPO's clipped loss (Schulman et al. 2017, eqs. 7 and 9) and its terms, which equal RLlib's."""
        config = self.config
        distribution, values = self._evaluate(batch.observations)
        ratio = torch.exp(distribution.logp(batch.actions) - batch.log_probabilities)
        clipped = ratio.clamp(1.0 - config.clip_param, 1.0 + config.clip_param)
        policy_loss = -torch.min(batch.advantages * ratio, batch.advantages * clipped).mean()
        squared_error = (values - batch.value_targets).square()
        value_loss = value_loss_unclipped = squared_error.mean()
        if config.vf_clip_param < math.inf:
            value_loss = squared_error.clamp(max=config.vf_clip_param).mean()
        entropy = distribution.entropy().mean()
        entropy_coefficient = self.entropy_coeff_schedulers_per_module[DEFAULT_MODULE_ID].get_current_value()
        total = policy_loss + config.vf_loss_coeff * value_loss - entropy_coefficient * entropy
        with torch.set_grad_enabled(config.use_kl_loss):
            kl = type(distribution).from_logits(batch.distribution_inputs).kl(distribution).mean()
        if config.use_kl_loss:
            total = total + self.curr_kl_coeffs_per_module[DEFAULT_MODULE_ID] * kl
        return total, (policy_loss, value_loss, value_loss_unclipped, entropy, kl)

    def _evaluate(self, observations: Tensor) -> tuple[Any, Tensor]:
        """Return the action distribution and the values [B] for observations [B, D], or [B, N+2] by reference."""
        module, observations = self._trained_module, self._whole(observations)
        if self._has_standard_forward:
            distribution, values = module.evaluate(observations)
            return type(distribution)(distribution.loc.float(), distribution.log_std.float()), values.float()
        inputs = {Columns.OBS: observations}
        outputs = module._forward_train(inputs)  # `forward_train` visits all submodules to set `training`
        distribution = module.get_train_action_dist_cls().from_logits(outputs[Columns.ACTION_DIST_INPUTS].float())
        return distribution, module.compute_values(inputs, embeddings=outputs.get(Columns.EMBEDDINGS)).float()
