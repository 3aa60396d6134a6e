"""What our learners share: one module, flat parameters, one fused optimiser, gradients averaged as one tensor."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from torch import Tensor

from rllib_portfolio.algorithms.learning.flat_parameters import FlatParameters
from rllib_portfolio.algorithms.learning.train_batch import Team

logger = logging.getLogger(__name__)

_HALF_PRECISION = {"bf16": torch.bfloat16, "fp16": torch.float16}
INITIAL_SCALE = 2.0**10
"""Of the loss in fp16. With torch's 2^16 the first gradients overflow, and the scaler leaves their steps out."""


class FusedLearner(TorchLearner):
    """A base beside one of RLlib's Torch learners: `class Ours(FusedLearner, PPOTorchLearner)`.

    Several learners average flat gradients, weighted by the steps that each of them holds, so that n learners do what
    one would do with n times the batch.
    """

    @staticmethod
    def parameter_order(name: str) -> int:
        """Rank of the parameter of this name in the flat buffer."""
        return 0

    def build(self) -> None:
        config = self.config
        self._flat: FlatParameters | None = None
        self._has_named_culprits = False
        super().build()
        self._team = Team(max(1, config.num_learners), self._device)
        self._scaler = None
        if config.mixed_precision == "fp16":
            self._scaler = torch.amp.GradScaler(self._device_type, init_scale=INITIAL_SCALE)

    def configure_optimizers_for_module(self, module_id: str, config: Any = None) -> None:
        if self._flat is not None:
            raise ValueError(f"learner must have one module, got a second one, {module_id}. Use the stock learner.")
        self._flat = FlatParameters(self._module[module_id].unwrapped(), self.parameter_order)
        optimizer = torch.optim.Adam([self._flat.parameter], fused=True)
        self.register_optimizer(
            module_id=module_id, optimizer=optimizer, params=[self._flat.parameter], lr_or_lr_schedule=config.lr
        )

    @property
    def _trained_module(self) -> Any:
        return self.module[DEFAULT_MODULE_ID].unwrapped()

    @property
    def _device_type(self) -> str:
        return torch.device(self._device).type

    def _make_modules_ddp_if_necessary(self) -> None:
        """No wrapper: gradients are averaged as one flat tensor. The first learner's weights are everyone's."""
        if self.config.num_learners > 1:
            torch.distributed.broadcast(self._flat.parameter.data, src=0)

    def _backward(self, loss: Callable[[], tuple[Tensor, Any]], weight: float) -> tuple[Tensor, Any]:
        """The gradient of a minibatch's loss, over all learners, into the flat buffer.

        Args:
            loss: Gives the total loss and whatever else is of interest.
            weight: Steps of this learner's minibatch over their mean over the learners.

        Returns:
            What `loss` gave.
        """
        self._flat.gradient.zero_()
        with self._mixed_precision():
            total_loss, parts = loss()
        (total_loss if self._scaler is None else self._scaler.scale(total_loss)).backward()
        self._average_gradient(weight)
        return total_loss, parts

    def _average_gradient(self, weight: float) -> None:
        """Over all learners; `weight` as for `_backward`."""
        if self._team.size > 1:
            self._team.sum(self._flat.gradient.mul_(weight)).div_(self._team.size)

    def _apply_gradient(self) -> Tensor:
        """Clip and step; returns the gradient's norm before clipping."""
        optimizer = self.get_optimizer()
        if self._scaler is None:
            norm = self._flat.clip_gradient(self.config.grad_clip)
            self._decay_weights(optimizer)
            optimizer.step()
            return norm
        self._scaler.unscale_(optimizer)
        norm = self._flat.clip_gradient(self.config.grad_clip)
        if norm.isfinite():
            self._decay_weights(optimizer)
        self._scaler.step(optimizer)  # leaves out a gradient that overflowed
        self._scaler.update()
        return norm

    def _name_culprits(self, names: Sequence[str]) -> None:
        """Log once which parameters had a gradient that was not finite; a metric counts these updates."""
        if not self._has_named_culprits:
            self._has_named_culprits = True
            logger.error("The gradient of %s was not finite; this update is left out.", ", ".join(names))

    def _decay_weights(self, optimizer: torch.optim.Optimizer) -> None:
        """Take learning_rate * weight_decay off the weight matrices, before the gradient's step as in AdamW."""
        weight_decay = getattr(self.config, "weight_decay", 0.0)  # DQN has none
        if weight_decay:
            self._flat.shrink_matrices(weight_decay * optimizer.param_groups[0]["lr"])

    def _mixed_precision(self) -> AbstractContextManager[Any]:
        if self.config.mixed_precision is None:
            return nullcontext()
        return torch.autocast(self._device_type, _HALF_PRECISION[self.config.mixed_precision])
