"""The base of our learners: one module, flat parameters, fused optimisers, and gradients averaged as flat tensors."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, NamedTuple

import torch
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.learner.learner import DEFAULT_OPTIMIZER
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from torch import Tensor, nn

from rllib_portfolio.algorithms.learning.flat_parameters import FlatParameters
from rllib_portfolio.algorithms.learning.referenced_features import ReferencedFeatures
from rllib_portfolio.algorithms.learning.train_batch import Team

logger = logging.getLogger(__name__)

_HALF_PRECISION = {"bf16": torch.bfloat16, "fp16": torch.float16}
INITIAL_SCALE = 2.0**10
"""Initial scale of the loss in fp16. With torch's 2^16 the first gradients overflow and their steps are skipped."""


class ParameterGroup(NamedTuple):
    """Parameters that share an optimiser."""

    holds: Callable[[str], bool]
    """Returns whether the parameter of a given name belongs to the group."""
    learning_rate: Any
    """A constant or a schedule, in RLlib's form."""
    optimizer: Callable[[list[nn.Parameter]], torch.optim.Optimizer] = partial(torch.optim.Adam, fused=True)
    """Makes the optimiser, whose learning rate RLlib sets."""


class FusedLearner(TorchLearner):
    """A mixin for one of RLlib's Torch learners: `class Ours(FusedLearner, PPOTorchLearner)`.

    Several learners average their flat gradients, weighted by the number of steps in each learner's minibatch, so that
    n learners make the same update as one learner with n times the batch.
    """

    @staticmethod
    def parameter_order(name: str) -> int:
        """Return the rank in the flat buffer of the parameter with this name."""
        return 0

    def parameter_groups(self, config: Any) -> dict[str, ParameterGroup]:
        """Return the parameter groups by name; each parameter must belong to exactly one group."""
        return {DEFAULT_OPTIMIZER: ParameterGroup(lambda name: True, config.lr)}

    def build(self) -> None:
        config = self.config
        self._groups: dict[str, FlatParameters] = {}
        self._has_named_culprits = False
        self._features: ReferencedFeatures | None = None
        super().build()
        self._team = Team(max(1, config.num_learners), self._device)
        self._scaler = None
        if config.mixed_precision == "fp16":
            self._scaler = torch.amp.GradScaler(self._device_type, init_scale=INITIAL_SCALE)

    def configure_optimizers_for_module(self, module_id: str, config: Any = None) -> None:
        if self._groups:
            raise ValueError(f"learner must have one module, got a second one, {module_id}. Use the stock learner.")
        module, groups = self._module[module_id].unwrapped(), self.parameter_groups(config)
        for name, parameter in module.named_parameters():
            owners = [owner for owner, group in groups.items() if group.holds(name)]
            if parameter.requires_grad and len(owners) != 1:
                raise ValueError(f"parameter {name} must belong to one group, got {owners}. Correct parameter_groups.")
        for name, group in groups.items():
            flat = self._groups[name] = FlatParameters(module, self.parameter_order, group.holds)
            self.register_optimizer(
                module_id=module_id,
                optimizer_name=name,
                optimizer=group.optimizer([flat.parameter]),
                params=[flat.parameter],
                lr_or_lr_schedule=group.learning_rate,
            )

    @property
    def _flat(self) -> FlatParameters:
        """The flat parameters of a learner that has one group."""
        return self._groups[DEFAULT_OPTIMIZER]

    @property
    def _trained_module(self) -> Any:
        return self.module[DEFAULT_MODULE_ID].unwrapped()

    def _whole(self, observations: Tensor) -> Tensor:
        """Return observations [..., D]; the features of observations by reference, [..., N+2], are gathered."""
        if observations.shape[-1] == self._trained_module.observation_space.shape[0]:
            return observations
        if self._features is None:
            self._features = ReferencedFeatures.of(self.config.env_config, self._device)
        return self._features.observations(observations)

    @property
    def _device_type(self) -> str:
        return torch.device(self._device).type

    def _make_modules_ddp_if_necessary(self) -> None:
        """Send the first learner's weights to all learners; a DDP wrapper is not needed."""
        if self.config.num_learners > 1:
            for flat in self._groups.values():
                torch.distributed.broadcast(flat.parameter.data, src=0)

    def _backward(
        self, loss: Callable[[], tuple[Tensor, Any]], weight: float, group: str = DEFAULT_OPTIMIZER
    ) -> tuple[Tensor, Any]:
        """Write the gradient of a minibatch's loss, over all learners, into the flat buffer of a group.

        If the loss also adds to the gradients of other groups, the next `_backward` of those groups zeroes them first.

        Args:
            loss: Returns the total loss and any further results.
            weight: Steps in this learner's minibatch, divided by the mean over all learners.
            group: Name of the group.

        Returns:
            The result of `loss`.
        """
        self._groups[group].gradient.zero_()
        with self._mixed_precision():
            total_loss, parts = loss()
        (total_loss if self._scaler is None else self._scaler.scale(total_loss)).backward()
        self._average_gradient(weight, group)
        return total_loss, parts

    def _average_gradient(self, weight: float, group: str = DEFAULT_OPTIMIZER) -> None:
        """Average a group's gradient over all learners, with the `weight` of `_backward`."""
        if self._team.size > 1:
            self._team.sum(self._groups[group].gradient.mul_(weight)).div_(self._team.size)

    def _apply_gradient(self, group: str = DEFAULT_OPTIMIZER) -> Tensor:
        """Clip the gradient of a group and make a step of its optimiser; return the norm before clipping."""
        flat, optimizer = self._groups[group], self.get_optimizer(optimizer_name=group)
        if self._scaler is None:
            norm = flat.clip_gradient(self.config.grad_clip)
            self._decay_weights(flat, optimizer)
            optimizer.step()
            return norm
        self._scaler.unscale_(optimizer)
        norm = flat.clip_gradient(self.config.grad_clip)
        if norm.isfinite():
            self._decay_weights(flat, optimizer)
        self._scaler.step(optimizer)  # skips a gradient that overflowed
        self._scaler.update()
        return norm

    def _name_culprits(self, names: Sequence[str]) -> None:
        """Log the parameters whose gradient was not finite, once per learner; a metric counts such updates."""
        if not self._has_named_culprits:
            self._has_named_culprits = True
            logger.error("The gradient of %s was not finite; this update is left out.", ", ".join(names))

    def _decay_weights(self, flat: FlatParameters, optimizer: torch.optim.Optimizer) -> None:
        """Multiply the weight matrices by 1 - learning_rate * weight_decay before the optimiser step, as AdamW does."""
        weight_decay = getattr(self.config, "weight_decay", 0.0)  # DQN does not have this setting
        if weight_decay:
            flat.shrink_matrices(weight_decay * optimizer.param_groups[0]["lr"])

    def _mixed_precision(self) -> AbstractContextManager[Any]:
        if self.config.mixed_precision is None:
            return nullcontext()
        return torch.autocast(self._device_type, _HALF_PRECISION[self.config.mixed_precision])
