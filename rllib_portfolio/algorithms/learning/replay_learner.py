"""The base of learners that learn from a replay buffer: several gradient steps per call, and their metrics."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
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

from rllib_portfolio.algorithms.learning.fused_learner import FusedLearner
from rllib_portfolio.algorithms.learning.update_metrics import NUM_UPDATES_LEFT_OUT
from rllib_portfolio.algorithms.replay.replay_buffer import ReplayBatch


class ReplayLearner(FusedLearner):
    """A mixin for one of RLlib's Torch learners: `class Ours(ReplayLearner, DQNTorchLearner)`."""

    def build(self) -> None:
        super().build()
        self._untold: list[tuple[Any, int]] = []
        """Statistics (None if no step was made) and batch size of each gradient step that is not in the metrics yet."""

    @abstractmethod
    def gradient_step(self, columns: Mapping[str, Any], weight: float) -> tuple[NDArray[Any], Any]:
        """Make one gradient step on a batch of B transitions, or of B days with several actions each.

        Args:
            columns: Columns of the batch, as in `ReplayBatch`.
            weight: B divided by its mean over all learners.

        Returns:
            Absolute TD errors [B], and statistics, or None if no step was made because a gradient was not finite.
        """

    @abstractmethod
    def step_metrics(self, stats: Sequence[Any]) -> dict[str, Tensor]:
        """Return scalar metrics of one or more gradient steps, given the statistics of each step."""

    def update_from_buffer(
        self,
        draw: Callable[[], ReplayBatch],
        put_back: Callable[[NDArray[Any]], None],
        num_updates: int,
        timesteps: dict[str, Any],
    ) -> None:
        """Make gradient steps on batches of a buffer in this process; `gather_metrics` returns their metrics.

        Args:
            draw: Returns a batch.
            put_back: Receives the batch's absolute TD errors before the next batch is drawn.
            num_updates: Number of gradient steps.
            timesteps: Step counts that schedules and target updates depend on.
        """
        self._check_is_built()
        self.before_gradient_based_update(timesteps=timesteps)
        for update in range(num_updates):
            td_errors, step = self.gradient_step(draw(), weight=1.0)
            put_back(td_errors)
            self._untold.append((step, len(td_errors)))
            if update == num_updates - 1:  # updates the target network, once per call
                self.after_gradient_based_update(timesteps=timesteps)
        self._weights_seq_no += num_updates

    def gather_metrics(self) -> Any:
        """Return the metrics of all gradient steps since the last call."""
        self._log()
        return self.metrics.reduce()

    def update(
        self,
        batch: Any = None,
        *,
        training_data: Any = None,
        timesteps: dict[str, Any] | None = None,
        is_last: bool = True,
        _no_metrics_reduce: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Make one gradient step as RLlib's `Learner.update` does, on one batch; the metrics include the TD errors.

        Args:
            batch: RLlib's multi-agent batch of transitions.
            training_data: RLlib's container of a batch; if it is given, `batch` is ignored.
            timesteps: Step counts that schedules and target updates depend on.
            is_last: Whether this is the last step of a round of updates, after which the target network is updated.
            _no_metrics_reduce: Whether the metrics stay in the learner's logger.
            **kwargs: Not used; RLlib's learner has further arguments.

        Returns:
            The learner's metrics, or None if `_no_metrics_reduce` is true.

        Raises:
            ValueError: If there is no batch.
        """
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
        td_errors, step = self.gradient_step(columns, num_steps / mean_steps)
        self._weights_seq_no += 1
        self.metrics.log_value((DEFAULT_MODULE_ID, TD_ERROR_KEY), td_errors, reduce="item_series")
        if is_last:
            self.after_gradient_based_update(timesteps=timesteps or {})
        self._untold.append((step, num_steps))
        self._log()
        return None if _no_metrics_reduce else self.metrics.reduce()

    def _log(self) -> None:
        """Log means over the gradient steps that are not in the metrics yet, and counts."""
        stats = [step for step, _ in self._untold if step is not None]
        left_out = len(self._untold) - len(stats)
        num_steps = sum(size for _, size in self._untold)
        self._untold.clear()
        if stats:
            scalars = {name: value.item() for name, value in self.step_metrics(stats).items()}
            self.metrics.log_dict(scalars, key=DEFAULT_MODULE_ID, window=1)
        self.metrics.log_value((DEFAULT_MODULE_ID, NUM_UPDATES_LEFT_OUT), left_out, reduce="lifetime_sum")
        for key in ((DEFAULT_MODULE_ID, NUM_MODULE_STEPS_TRAINED), (ALL_MODULES, NUM_ENV_STEPS_TRAINED)):
            self.metrics.log_value(key, num_steps, reduce="sum")
        for key in (
            (DEFAULT_MODULE_ID, NUM_MODULE_STEPS_TRAINED_LIFETIME),
            (ALL_MODULES, NUM_MODULE_STEPS_TRAINED_LIFETIME),
            (ALL_MODULES, NUM_ENV_STEPS_TRAINED_LIFETIME),
        ):
            self.metrics.log_value(key, num_steps, reduce="lifetime_sum")
