"""A DQN learner that computes RLlib's loss behind RLlib's interface, without RLlib's overhead per batch."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from ray.rllib.algorithms.dqn.dqn_learner import (
    QF_LOSS_KEY,
    QF_MAX_KEY,
    QF_MEAN_KEY,
    QF_MIN_KEY,
    TD_ERROR_MEAN_KEY,
)
from ray.rllib.algorithms.dqn.torch.dqn_torch_learner import DQNTorchLearner
from ray.rllib.core.columns import Columns
from torch import Tensor

from rllib_portfolio.algorithms.dqn.autograd_q_network import AutogradQNetwork
from rllib_portfolio.algorithms.dqn.fused_q_network import FusedQNetwork, by_role, lay_out
from rllib_portfolio.algorithms.learning.replay_learner import ReplayLearner
from rllib_portfolio.algorithms.replay.replay_buffer import N_STEP, WEIGHTS
from rllib_portfolio.algorithms.sampling.fast_path import reads_fragments
from rllib_portfolio.modules.dueling_noisy_q import masked
from rllib_portfolio.networks.dueling_q import DuelingQNetwork

logger = logging.getLogger(__name__)

LEARNING_STATE = "learning_state"


class Batch(NamedTuple):
    """B observations with A actions each, as tensors; A is 1 if only the action that was taken is evaluated."""

    observations: Tensor
    """[B, D]."""
    actions: Tensor
    """[B, A]."""
    rewards: Tensor
    """[B, A]."""
    next_observations: Tensor
    """[B A, D]."""
    discounts: Tensor
    """gamma^m for m-step returns, or 0 where the episode terminated, [B, 1]."""
    weights: Tensor
    """Importance weights, [B, 1]."""


class StepStats(NamedTuple):
    """Statistics of one gradient step, as tensors on the device."""

    loss: Tensor
    q_values: Tensor
    """Action values of the actions in the batch, [B, A]; their mean for actions that are not available."""
    td_errors: Tensor
    """Absolute TD errors, averaged over the available actions of each observation, [B]."""
    gradient_norm: Tensor


@reads_fragments(infos=False, observations=False)
class FusedDQNLearner(ReplayLearner, DQNTorchLearner):
    """Q-learning on batches of transitions, with double Q-learning (van Hasselt et al. 2016, arXiv 1509.06461, eq. 4).

    Noise is drawn once per batch, independently for the online network and the target network. Actions that cannot be
    traded are neither chosen in targets nor part of the loss.
    """

    parameter_order = staticmethod(by_role)

    def build(self) -> None:
        super().build()
        self._noise = torch.Generator(device=self._device)
        self._noise.manual_seed(self.config.seed or 0)
        module = self._trained_module
        lay_out(module.target_q_net)
        runs = FusedQNetwork if type(module.q_net) is DuelingQNetwork else AutogradQNetwork
        self._online, self._target = runs(module.q_net), runs(module.target_q_net)

    def get_state(self, components: Any = None, *, not_components: Any = None, **kwargs: Any) -> dict[str, Any]:
        state = super().get_state(components, not_components=not_components, **kwargs)
        if self._check_component(LEARNING_STATE, components, not_components):
            state[LEARNING_STATE] = {
                "noise_generator": self._noise.get_state().cpu().numpy(),
                "last_target_updates": dict(self.last_update_ts_by_mid),
                "gradient_scaler": self._scaler.state_dict() if self._scaler is not None else {},
            }
        return state

    def set_state(self, state: dict[str, Any]) -> None:
        super().set_state(state)
        if LEARNING_STATE not in state:
            return
        ours = state[LEARNING_STATE]
        self._restore_noise(torch.from_numpy(np.array(ours["noise_generator"])))
        self.last_update_ts_by_mid.update(ours["last_target_updates"])
        if self._scaler is not None and ours["gradient_scaler"]:
            self._scaler.load_state_dict(ours["gradient_scaler"])

    def _restore_noise(self, state: Tensor) -> None:
        """Restore the noise generator, unless the checkpoint is from another kind of device (CPU or GPU)."""
        if len(state) != len(self._noise.get_state()):
            logger.warning("The checkpoint comes from another kind of device: the noise on the weights is drawn again.")
            return
        self._noise.set_state(state)

    def gradient_step(self, columns: Mapping[str, Any], weight: float) -> tuple[NDArray[Any], StepStats | None]:
        """Return absolute TD errors [B], and statistics, or None if a gradient was not finite and no step was made."""
        batch = self._batch(columns)
        with torch.no_grad():
            with self._mixed_precision():  # each network right after its draw, while its weights are in the cache
                next_values = None
                if self.config.gamma:
                    self._target.draw(self._noise)
                    next_values = self._target.values(batch.next_observations)
                self._online.draw(self._noise)
                loss, absolute, q_values = self._td_loss(batch, next_values)
            self._average_gradient(weight)
            norm = self._apply_finite_gradient()
        return absolute.cpu().numpy(), None if norm is None else StepStats(loss, q_values, absolute, norm)

    def _apply_finite_gradient(self) -> Tensor | None:
        """Clip the gradient and make a step; return the norm before clipping.

        If the norm is not finite, make no step and return None; without fp16, also log the parameters responsible.
        """
        if self._scaler is not None:  # the scaler skips a gradient that overflowed
            norm = self._apply_gradient()
            return norm if torch.isfinite(norm) else None
        norm = self._flat.clip_gradient(self.config.grad_clip)
        if math.isfinite(norm.item()):
            self.get_optimizer().step()
            return norm
        names = self._flat.non_finite_gradients() or ["all parameters together (its norm overflowed)"]
        self._name_culprits(names)
        return None

    def _batch(self, columns: Mapping[str, Any]) -> Batch:
        def tensor(name: str, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.as_tensor(columns[name], dtype=dtype, device=self._device)

        observations = self._whole(tensor(Columns.OBS))
        size = len(observations)
        goes_on = 1.0 - tensor(Columns.TERMINATEDS)
        return Batch(
            observations=observations,
            actions=tensor(Columns.ACTIONS, torch.int64).view(size, -1),
            rewards=tensor(Columns.REWARDS).view(size, -1),
            next_observations=self._whole(tensor(Columns.NEXT_OBS)).flatten(0, -2),
            discounts=(self.config.gamma ** tensor(N_STEP) * goes_on).view(size, 1),
            weights=tensor(WEIGHTS).view(size, 1),
        )

    def _td_loss(self, batch: Batch, next_values: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Write the gradients, and return the weighted loss, absolute TD errors and the values Q(s, a).

        TD errors are Q(s, a) - (R + discount Q_target(s', a*)). With double Q-learning, a* maximises the online
        network's Q(s', .) over the available actions, otherwise the target network's.

        Args:
            batch: The batch.
            next_values: The target network's Q(s', .), [B A, K], or None if gamma is 0.

        Returns:
            The loss, absolute TD errors averaged over the available actions, [B], and values [B, A].
        """
        targets = batch.rewards
        if next_values is not None:
            deciding = self._online.advantages(batch.next_observations) if self.config.double_q else next_values
            deciding = masked(deciding, self._online.available(batch.next_observations))
            best_values = next_values.gather(-1, deciding.argmax(-1, keepdim=True)).view_as(targets).float()
            targets = targets + batch.discounts * best_values
        all_values, activations = self._online.forward(batch.observations)
        values = all_values.gather(-1, batch.actions).float()
        td_errors = values - targets
        losses, slopes = _LOSSES[self.config.td_error_loss_fn](td_errors)
        losses, slopes = batch.weights * losses, batch.weights * slopes
        available = self._online.available(batch.observations)
        if available is None:
            loss, absolute, slopes = losses.mean(), td_errors.abs().mean(-1), slopes / slopes.numel()
        else:
            is_out = ~available.gather(-1, batch.actions)
            losses, slopes, absolute = (part.masked_fill(is_out, 0.0) for part in (losses, slopes, td_errors.abs()))
            count = (~is_out).sum(-1)
            total = count.sum().clamp(min=1)
            loss, slopes = losses.sum() / total, slopes / total
            absolute = absolute.sum(-1) / count.clamp(min=1)
            values = torch.where(is_out, values.masked_fill(is_out, 0.0).sum() / total, values)
        if self._scaler is not None:
            slopes = self._scaler.scale(slopes)
        self._online.backward(activations, torch.zeros_like(all_values).float().scatter_add_(-1, batch.actions, slopes))
        return loss, absolute, values

    def step_metrics(self, stats: Sequence[StepStats]) -> dict[str, Tensor]:
        loss, q_values, td_errors, norm = (torch.stack(column) for column in zip(*stats, strict=True))
        return {
            QF_LOSS_KEY: loss.mean(),
            QF_MEAN_KEY: q_values.mean(),
            QF_MAX_KEY: q_values.amax((-2, -1)).mean(),
            QF_MIN_KEY: q_values.amin((-2, -1)).mean(),
            TD_ERROR_MEAN_KEY: td_errors.mean(),
            "gradients_default_optimizer_global_norm": norm.mean(),
        }


def _huber(errors: Tensor) -> tuple[Tensor, Tensor]:
    """Return Huber's loss with threshold 1 (1964, eq. 2.7) and its slope; both are NaN for an infinite error."""
    slopes = torch.where(errors.isinf(), torch.nan, errors.clamp(-1.0, 1.0))
    return slopes * (errors - 0.5 * slopes), slopes


def _squared(errors: Tensor) -> tuple[Tensor, Tensor]:
    """Return the squared error and its slope."""
    return errors.square(), 2.0 * errors


_LOSSES = {"huber": _huber, "mse": _squared}
