"""The state that a training run keeps across an interruption, with the best of its policies so far."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter, ValidationError

from rllib_portfolio.config import ScheduleConfig
from rllib_portfolio.errors import ConfigError, one_line
from rllib_portfolio.policies.checkpoint import checkpoint_name, read_progress, require_whole


@dataclass(slots=True)
class LoopState:
    """The state of a run, which is saved in its checkpoints."""

    steps: int = 0
    elapsed_s: float = 0.0
    best_score: float | None = None
    """Best validation score so far, by `schedule.selection_metric`."""
    best_sharpe: float | None = None
    best_checkpoint: str | None = None
    evaluations_without_improvement: int = 0
    validation_sharpe: float | None = None
    recent_returns: list[float] = field(default_factory=list)

    @property
    def episode_return(self) -> float:
        """Mean raw return of the last finished episodes; NaN before the first."""
        return float(np.mean(self.recent_returns)) if self.recent_returns else math.nan

    def add_evaluation(self, score: float, sharpe: float) -> None:
        """Record an evaluation of the current policy, which becomes the best one if its score is the highest so far.

        Args:
            score: Its validation score, by `schedule.selection_metric`.
            sharpe: Its Sharpe ratio on the validation window.
        """
        self.validation_sharpe = sharpe if math.isfinite(sharpe) else None
        best = -math.inf if self.best_score is None else self.best_score
        if self.best_checkpoint is not None and not (math.isfinite(score) and score > best):
            self.evaluations_without_improvement += 1
            return
        self.best_score = score if math.isfinite(score) else None
        self.best_sharpe = self.validation_sharpe
        self.best_checkpoint = checkpoint_name(self.steps)
        self.evaluations_without_improvement = 0

    def has_stopped_early(self, schedule: ScheduleConfig) -> bool:
        """Return whether as many evaluations as the schedule waits for brought no improvement."""
        patience = schedule.early_stopping_evaluations
        return patience is not None and self.evaluations_without_improvement >= patience

    def is_finished(self, schedule: ScheduleConfig) -> bool:
        """Return whether the run has made all of its steps or has stopped early."""
        return self.has_stopped_early(schedule) or self.steps >= schedule.total_timesteps


def restored_state(checkpoint: Path, warn: Callable[[str], None] = lambda text: None) -> LoopState:
    """Return the state in a checkpoint.

    The best checkpoint that it names must be complete. If that one is gone, the state has no best policy.

    Args:
        checkpoint: Folder of the checkpoint.
        warn: Called with a warning if the best checkpoint is gone.

    Raises:
        ConfigError: If a checkpoint is damaged, or does not hold the state of a run.
    """
    progress = read_progress(checkpoint)
    values = {name: progress[name] for name in progress.keys() & LoopState.__dataclass_fields__.keys()}
    try:
        state = TypeAdapter(LoopState).validate_python(values)
    except ValidationError as error:
        raise ConfigError(
            f"checkpoint must hold the state of a run, got {one_line(error)} ({checkpoint}). Remove it; the run "
            "resumes from the one before."
        ) from None
    if state.best_checkpoint is not None and (best := checkpoint.parent / state.best_checkpoint) != checkpoint:
        if best.is_dir():
            require_whole(best)
        else:
            warn(f"Warning: {best}, the best so far, is gone. The next evaluation is then the best so far.")
            state.best_score = state.best_sharpe = state.best_checkpoint = None
    return state
