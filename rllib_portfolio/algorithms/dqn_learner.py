"""A DQN learner with a tight loop: RLlib's loss on RLlib's seams, without its work per batch."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial
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
from ray.rllib.core import ALL_MODULES, DEFAULT_MODULE_ID
from ray.rllib.core.columns import Columns
from ray.rllib.utils.metrics import (
    NUM_ENV_STEPS_TRAINED,
    NUM_ENV_STEPS_TRAINED_LIFETIME,
    NUM_MODULE_STEPS_TRAINED,
    NUM_MODULE_STEPS_TRAINED_LIFETIME,
    TD_ERROR_KEY,
)
from torch import Tensor
from torch.nn import functional

from rllib_portfolio.algorithms.fused_learner import FusedLearner
from rllib_portfolio.algorithms.perturbed_network import PerturbedNetwork, by_role, lay_out
from rllib_portfolio.algorithms.replay_buffer import N_STEP, WEIGHTS, ReplayBatch
from rllib_portfolio.algorithms.update_metrics import NUM_UPDATES_LEFT_OUT
from rllib_portfolio.modules.dueling_noisy_q import DuelingQNetwork

logger = logging.getLogger(__name__)

LEARNING_STATE = "learning_state"
_LOSSES = {"huber": functional.huber_loss, "mse": functional.mse_loss}


class Batch(NamedTuple):
    """B transitions as tensors."""

    observations: Tensor
    actions: Tensor
    rewards: Tensor
    next_observations: Tensor
    discounts: Tensor
    """gamma^m, or 0 where the episode terminated."""
    weights: Tensor


class StepStats(NamedTuple):
    """Of one gradient step, on the device."""

    loss: Tensor
    q_values: Tensor
    """Of the actions taken, [B]."""
    td_errors: Tensor
    """Absolute, [B]."""
    gradient_norm: Tensor


class FusedDQNLearner(FusedLearner, DQNTorchLearner):
    """Q-learning on batches of transitions, with double Q (van Hasselt et al. 2016, arXiv 1509.06461, eq. 4).

    Noise is drawn anew for every batch, for the online network and for its target apart.
    """

    parameter_order = staticmethod(by_role)

    def build(self) -> None:
        super().build()
        self._noise = torch.Generator(device=self._device)
        self._noise.manual_seed(self.config.seed or 0)
        module = self._trained_module
        self._online, self._target = module.q_net, module.target_q_net
        if module.q_net.is_noisy:
            lay_out(module.target_q_net)
            self._online, self._target = PerturbedNetwork(module.q_net), PerturbedNetwork(module.target_q_net)
        self._loss = self._compiled(self._td_loss)

    def update_from_buffer(
        self,
        draw: Callable[[], ReplayBatch],
        put_back: Callable[[NDArray[Any]], None],
        num_updates: int,
        timesteps: dict[str, Any],
    ) -> Any:
        """Gradient steps on batches of a buffer in this process.

        Args:
            draw: Gives a batch.
            put_back: Takes its absolute TD errors, before the next one is drawn.
            num_updates: Number of gradient steps.
            timesteps: What schedules and target updates are functions of.

        Returns:
            Metrics.
        """
        self._check_is_built()
        self.before_gradient_based_update(timesteps=timesteps)
        stats, num_steps = [], 0
        for update in range(num_updates):
            td_errors, step = self._gradient_step(draw(), weight=1.0)
            put_back(td_errors)
            num_steps += len(td_errors)
            stats += [step] if step is not None else []
            if not update:  # the target network is copied after the first gradient step at which it is due
                self.after_gradient_based_update(timesteps=timesteps)
        self._weights_seq_no += num_updates
        self._log(stats, num_updates, num_steps)
        return self.metrics.reduce()

    def update(
        self,
        batch: Any = None,
        *,
        training_data: Any = None,
        timesteps: dict[str, Any] | None = None,
        _no_metrics_reduce: bool = False,
        **kwargs: Any,
    ) -> Any:
        """RLlib's `Learner.update` on one batch; TD errors are among the metrics."""
        self._check_is_built()
        self.before_gradient_based_update(timesteps=timesteps or {})
        if training_data is not None:
            training_data.solve_refs()
            batch = training_data.batch
        if batch is None:
            raise ValueError("training data must be a batch, got none. Use the stock learner for episodes.")
        columns = batch.policy_batches[DEFAULT_MODULE_ID]
        num_steps = len(columns[Columns.ACTIONS])
        mean_steps = float(self._team.total(np.array([float(num_steps)]))[0]) / self._team.size
        td_errors, step = self._gradient_step(columns, num_steps / mean_steps)
        self._weights_seq_no += 1
        self.metrics.log_value((DEFAULT_MODULE_ID, TD_ERROR_KEY), td_errors, reduce="item_series")
        self.after_gradient_based_update(timesteps=timesteps or {})
        self._log([step] if step is not None else [], 1, num_steps)
        return None if _no_metrics_reduce else self.metrics.reduce()

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
        self._noise.set_state(torch.from_numpy(np.array(ours["noise_generator"])))
        self.last_update_ts_by_mid.update(ours["last_target_updates"])
        if self._scaler is not None and ours["gradient_scaler"]:
            self._scaler.load_state_dict(ours["gradient_scaler"])

    def _gradient_step(self, columns: Mapping[str, Any], weight: float) -> tuple[NDArray[Any], StepStats | None]:
        """Absolute TD errors [B], and statistics unless a gradient was not finite and the step was left out."""
        for network in (self._online, self._target):
            if isinstance(network, PerturbedNetwork):
                network.draw(self._noise)
        loss, (td_errors, q_values) = self._backward(partial(self._loss, self._batch(columns)), weight)
        norm = self._apply_finite_gradient()
        absolute = td_errors.abs()
        if norm is None:
            return np.nan_to_num(absolute.cpu().numpy(), nan=0.0, posinf=0.0), None
        return absolute.cpu().numpy(), StepStats(loss.detach(), q_values, absolute, norm)

    def _finish_gradient(self) -> None:
        if isinstance(self._online, PerturbedNetwork):
            self._online.finish_gradient()

    def _apply_finite_gradient(self) -> Tensor | None:
        """Clip and step; the norm, or None and no step, with the culprits named, if it was not finite."""
        if self._scaler is not None:  # leaves out a gradient that overflowed
            norm = self._apply_gradient()
            return norm if torch.isfinite(norm) else None
        if torch.isfinite(torch.linalg.vector_norm(self._flat.gradient)):
            return self._apply_gradient()
        names = self._flat.non_finite_gradients() or ["all parameters together (its norm overflowed)"]
        logger.error("The gradient of %s was not finite; this update is left out.", ", ".join(names))
        return None

    def _batch(self, columns: Mapping[str, Any]) -> Batch:
        def tensor(name: str, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.as_tensor(columns[name]).to(self._device, dtype)

        goes_on = 1.0 - tensor(Columns.TERMINATEDS)
        return Batch(
            observations=tensor(Columns.OBS),
            actions=tensor(Columns.ACTIONS, torch.int64),
            rewards=tensor(Columns.REWARDS),
            next_observations=tensor(Columns.NEXT_OBS),
            discounts=self.config.gamma ** tensor(N_STEP) * goes_on,
            weights=tensor(WEIGHTS),
        )

    def _td_loss(self, batch: Batch) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Weighted loss; TD errors Q(s, a) - (R + discount Q_target(s', a*)) and the values Q(s, a), [B].

        a* maximises the online network's Q(s', .) with double Q, and the target's without.
        """
        values = _chosen(self._online(batch.observations), batch.actions).float()
        with torch.no_grad():
            next_values = self._target(batch.next_observations)
            deciding = next_values
            if self.config.double_q:
                deciding = _ranked(self._online, batch.next_observations)
            targets = batch.rewards + batch.discounts * _chosen(next_values, deciding.argmax(-1)).float()
        losses = _LOSSES[self.config.td_error_loss_fn](values, targets, reduction="none")
        return (batch.weights * losses).mean(), ((values - targets).detach(), values.detach())

    def _log(self, stats: list[StepStats], num_updates: int, num_steps: int) -> None:
        """Means over the gradient steps, and counts."""
        if stats:
            loss, q_values, td_errors, norm = (torch.stack(column) for column in zip(*stats, strict=True))
            scalars = {
                QF_LOSS_KEY: loss.mean(),
                QF_MEAN_KEY: q_values.mean(),
                QF_MAX_KEY: q_values.amax(-1).mean(),
                QF_MIN_KEY: q_values.amin(-1).mean(),
                TD_ERROR_MEAN_KEY: td_errors.mean(),
                "gradients_default_optimizer_global_norm": norm.mean(),
            }
            scalars = {name: value.item() for name, value in scalars.items()}
            self.metrics.log_dict(scalars, key=DEFAULT_MODULE_ID, window=1)
        left_out = num_updates - len(stats)
        self.metrics.log_value((DEFAULT_MODULE_ID, NUM_UPDATES_LEFT_OUT), left_out, reduce="lifetime_sum")
        for key in ((DEFAULT_MODULE_ID, NUM_MODULE_STEPS_TRAINED), (ALL_MODULES, NUM_ENV_STEPS_TRAINED)):
            self.metrics.log_value(key, num_steps, reduce="sum")
        for key in (
            (DEFAULT_MODULE_ID, NUM_MODULE_STEPS_TRAINED_LIFETIME),
            (ALL_MODULES, NUM_MODULE_STEPS_TRAINED_LIFETIME),
            (ALL_MODULES, NUM_ENV_STEPS_TRAINED_LIFETIME),
        ):
            self.metrics.log_value(key, num_steps, reduce="lifetime_sum")


def _ranked(network: PerturbedNetwork | DuelingQNetwork, observations: Tensor) -> Tensor:
    """Something [B, K] whose largest entry is that of the action values."""
    return network.advantages(observations) if isinstance(network, PerturbedNetwork) else network(observations)


def _chosen(values: Tensor, actions: Tensor) -> Tensor:
    """Q(s, a) [B] of values [B, K] and actions [B]."""
    return values.gather(-1, actions[:, None]).squeeze(-1)
