"""Training of a run that may be new, interrupted or finished, so that the same call can be repeated."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from rllib_portfolio.algorithms.memory import require_memory
from rllib_portfolio.atomic import read_json, sealed, write_json
from rllib_portfolio.config import RunConfig
from rllib_portfolio.errors import ConfigError
from rllib_portfolio.market import MarketData
from rllib_portfolio.policies.checkpoint import newest_checkpoint, read_progress
from rllib_portfolio.runs.folder import CONFIG, FINISHED, create_run_folder, open_run_folder
from rllib_portfolio.runs.loop import Status, run


@dataclass(frozen=True, slots=True)
class TrainingOutcome:
    """The result of a training run."""

    steps: int
    training_s: float
    """Seconds of sampling and learning without interruptions."""
    validation_sharpe: float | None
    """Sharpe ratio of the policy that was best on validation; None before the first evaluation that is defined."""


def train_in_folder(
    run_dir: Path,
    config: RunConfig,
    market: MarketData,
    *,
    on_progress: Callable[[Status], None] = lambda status: None,
    should_stop: Callable[[], bool] = lambda: False,
    market_file: Path | None = None,
) -> tuple[TrainingOutcome, bool]:
    """Train a new run, continue one from its newest checkpoint, or return the outcome of a finished one.

    Args:
        run_dir: Folder of the run; it is made if it does not exist.
        config: Configuration of a new run; an existing run keeps its own.
        market: Market of a new run; an existing run keeps its own.
        on_progress: Called after each iteration.
        should_stop: Called before each iteration; the run stops if it returns true.
        market_file: A file that holds the same market, which the folder of a new run may link to.

    Returns:
        The outcome, and whether the run was completed and not stopped.
    """
    if (outcome := finished_training(run_dir)) is not None:
        return outcome, True
    if (run_dir / CONFIG).is_file():
        config, market = open_run_folder(run_dir, {})
    else:
        require_memory(config, market)
        shutil.rmtree(run_dir, ignore_errors=True)  # nothing was trained without a configuration, which is written last
        create_run_folder(run_dir, config, market, market_file)
    is_finished = run(config, market, run_dir, resume=True, on_progress=on_progress, should_stop=should_stop)
    outcome = _reached(run_dir)
    if is_finished:
        write_json(run_dir / FINISHED, sealed(asdict(outcome)))
    return outcome, is_finished


def finished_training(run_dir: Path) -> TrainingOutcome | None:
    """Return the outcome of a run that `train_in_folder` completed, or None if it did not.

    Raises:
        ConfigError: If the record of the outcome is damaged.
    """
    path = run_dir / FINISHED
    if not path.is_file():
        return None
    remedy = "Restore it, or remove it: the run then goes on from its newest checkpoint."
    values = read_json(path, "finished run", remedy)
    try:
        return TypeAdapter(TrainingOutcome).validate_python(values)
    except ValidationError:
        raise ConfigError(
            f"finished run must have steps and seconds in {FINISHED}, got others ({path}). {remedy}"
        ) from None


def _reached(run_dir: Path) -> TrainingOutcome:
    newest = newest_checkpoint(run_dir)
    assert newest is not None  # `run` always leaves one
    progress = read_progress(newest)
    return TrainingOutcome(progress["steps"], round(progress["elapsed_s"], 3), progress["best_sharpe"])
