"""The loop of a training run: build, iterate, validate, checkpoint."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from ray.exceptions import RayError
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.utils.metrics import (
    ENV_RUNNER_RESULTS,
    LEARNER_RESULTS,
    NUM_ENV_STEPS_SAMPLED_LIFETIME,
    REPLAY_BUFFER_RESULTS,
)

from rllib_portfolio.algorithms.policy_export import current_policy
from rllib_portfolio.algorithms.registry import ALGORITHMS
from rllib_portfolio.algorithms.sampling.callbacks import FINISHED_RETURNS
from rllib_portfolio.algorithms.sampling.shared_market import shared_market
from rllib_portfolio.backtest.engine import BacktestResult
from rllib_portfolio.command_names import as_invoked
from rllib_portfolio.config import RunConfig
from rllib_portfolio.errors import ConfigError
from rllib_portfolio.market import MarketData
from rllib_portfolio.market.frequency import ALL_DAYS, WEEKDAYS
from rllib_portfolio.policies.checkpoint import (
    MANIFEST,
    checkpoint_folders,
    checkpoint_name,
    newest_checkpoint,
    prune_checkpoints,
    set_aside,
    write_checkpoint,
)
from rllib_portfolio.policies.saved_policy import PortfolioPolicy
from rllib_portfolio.runs.folder import MARKET, require_kept
from rllib_portfolio.runs.folder_lock import require_claims
from rllib_portfolio.runs.health import RESTARTS, Health
from rllib_portfolio.runs.loop_state import LoopState, restored_state
from rllib_portfolio.runs.prometheus import Gauges
from rllib_portfolio.runs.tracking import Tracker, buffer_scalars, learner_scalars
from rllib_portfolio.runs.validation import equal_weight_returns, validation_scalars, walk, write_validation_returns

logger = logging.getLogger(__name__)

WAIT_S = 1.0
RETURN_WINDOW = 100
"""Number of finished episodes over which the reported episode return is averaged."""


@dataclass(frozen=True, slots=True)
class Status:
    """The state of a run after an iteration, for a progress display."""

    steps: int
    total_steps: int
    steps_per_second: float
    """Speed of sampling and learning in this iteration; NaN at step 0."""
    episode_return: float
    """Mean return of the last finished episodes; NaN before the first."""
    validation_sharpe: float
    """Sharpe ratio of the last evaluation; NaN before the first."""
    best_validation_sharpe: float
    """Sharpe ratio of the policy with the best validation score so far; NaN before the first that is defined."""
    is_evaluated: bool
    """True if this iteration ended with an evaluation."""
    is_finished: bool
    """True if this iteration was the run's last."""
    is_saved: bool
    """True if a checkpoint was written after this iteration."""
    elapsed_s: float
    """Seconds of sampling and learning without interruptions."""
    message: str | None = None
    """Result of an evaluation, as a line."""
    notice: str | None = None
    """Other events, one per line, such as env runners that were lost or came back."""


def start_notes(config: RunConfig, market: MarketData) -> tuple[str, ...]:
    """Return sentences to print at the start of a run: how often it decides, and notes of its algorithm.

    Args:
        config: The configuration.
        market: The prepared market.
    """
    rows, periods = config.environment.rebalance_days, market.periods_per_year
    notes = ALGORITHMS[config.algo].start_notes(config, market)
    if rows == 1 or periods in (WEEKDAYS, ALL_DAYS):
        return notes
    years = f"{rows / periods:.2g} years of this table"
    return (f"A decision is made every {rows} rows (environment.rebalance_days), which is every {years}.", *notes)


def run(
    config: RunConfig,
    market: MarketData,
    run_dir: Path,
    *,
    resume: bool = False,
    on_progress: Callable[[Status], None] = lambda status: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> bool:
    """Train until the steps are done, validation no longer improves, or `should_stop`; leave a checkpoint in any case.

    Args:
        config: The configuration.
        market: The prepared market.
        run_dir: A folder that `create_run_folder` made.
        resume: Whether to continue from the newest checkpoint, if there is one.
        on_progress: Called after each iteration.
        should_stop: Called before each iteration; the run stops if it returns true.

    Returns:
        Whether the run was completed and not stopped.

    Raises:
        ConfigError: If market or checkpoint cannot be used, or a weight of the policy is not finite.
        MachineError: If the run's folder or files that it needs were removed, if a learner died, or if no env runner
            sampled for ten minutes.
    """
    if not config.resources.num_env_runners:
        return _Run(config, market, run_dir, resume).loop(on_progress, should_stop)
    with shared_market(str((run_dir / MARKET).resolve()), market):
        return _Run(config, market, run_dir, resume).loop(on_progress, should_stop)


class _Run:
    """A run in progress, with its algorithm, state and records."""

    def __init__(self, config: RunConfig, market: MarketData, run_dir: Path, resume: bool) -> None:
        self.config, self.market, self.run_dir = config, market, run_dir
        self.state = LoopState()
        self.equal_weight = equal_weight_returns(market, config)  # first, since it refuses a market that ruins 1/N
        self.algorithm = ALGORITHMS[config.algo].build(config, (run_dir / MARKET).resolve())
        checkpoint = newest_checkpoint(run_dir) if resume else None
        unusable = checkpoint_folders(run_dir)[-1:] if resume else []
        if unusable and unusable != [checkpoint]:
            place = set_aside(unusable[0])
            logger.warning("Warning: %s has no %s. It is not used, and is now %s.", unusable[0], MANIFEST, place.name)
        if checkpoint is not None:
            self.state = restored_state(checkpoint, logger.warning)
            self.algorithm.restore_from_path(str((checkpoint / "rllib").resolve()))
        self.tracker = Tracker(run_dir, resumed_at=None if checkpoint is None else self.state.steps)
        self.evaluated: tuple[PortfolioPolicy, BacktestResult] | None = None
        """Policy and back-test of the last iteration, if it ended with an evaluation."""
        self.gauges = Gauges(config.algo, run_dir.name)
        self.health = Health(self.algorithm, config.resources)

    def loop(self, on_progress: Callable[[Status], None], should_stop: Callable[[], bool]) -> bool:
        try:
            if self._may_stay_untrained and self.state.steps == 0 and self.state.best_checkpoint is None:
                on_progress(self._evaluate_untrained())
            while not (finished := self.state.is_finished(self.config.schedule)) and not should_stop():
                on_progress(self._advance())
            if not self._is_saved():
                self._checkpoint()
            return finished
        except FileNotFoundError:
            require_kept(self.run_dir)  # the folder was removed while a file was written
            raise
        except RayError as error:
            self.health.require_learners(error)
            raise
        finally:
            with suppress(OSError):  # it concerns only the last points of curves; other errors of the disk were raised
                self.tracker.close()
            self.algorithm.stop()

    @property
    def _may_stay_untrained(self) -> bool:
        """True if the untrained network may be selected."""
        schedule = self.config.schedule
        has_filter = self.config.market.observation_filter == "running"  # the filter has no observations yet
        several = schedule.evaluation_interval < schedule.total_timesteps
        return schedule.untrained_candidate and several and not has_filter

    def _evaluate_untrained(self) -> Status:
        """Evaluate and save the untrained network as the first candidate, since training may find nothing better."""
        scalars: dict[str, float] = {}
        message = self._validate(scalars)
        self.tracker.log(0, scalars)
        self._checkpoint()
        return self._status(scalars, message)

    def _advance(self) -> Status:
        """Iterate once; evaluate, record and write a checkpoint if they are due."""
        schedule, before = self.config.schedule, self.state.steps
        scalars = self._iterate()
        require_kept(self.run_dir)
        require_claims()
        message = None
        is_last = self.state.steps >= schedule.total_timesteps
        if is_last or _crossed(before, self.state.steps, schedule.evaluation_interval):
            message = self._validate(scalars)
        if self.state.steps > before:  # before the checkpoint, since a resumed run keeps the rows up to it
            self.tracker.log(self.state.steps, scalars)
        improved = self.state.evaluations_without_improvement == 0 and message is not None
        if is_last or improved or _crossed(before, self.state.steps, schedule.checkpoint_interval):
            self._checkpoint()
        return self._status(scalars, message)

    def _is_saved(self) -> bool:
        newest = newest_checkpoint(self.run_dir)
        return newest is not None and newest.name == checkpoint_name(self.state.steps)

    def _iterate(self) -> dict[str, float]:
        """Sample and update once, and return the scalars to record."""
        started = time.perf_counter()
        self.evaluated = None
        result = self.algorithm.train()
        sampled = result.get(ENV_RUNNER_RESULTS, {})
        steps = int(sampled.get(NUM_ENV_STEPS_SAMPLED_LIFETIME, self.state.steps))
        if steps == self.state.steps:
            time.sleep(WAIT_S)  # no env runner answered; give them time to restart
        duration = time.perf_counter() - started
        self.health.require_env_runners(duration, has_sampled=steps > self.state.steps)
        self.state.elapsed_s += duration
        returns = np.ravel(sampled.get(FINISHED_RETURNS, [])).tolist()
        self.state.recent_returns = [*self.state.recent_returns, *returns][-RETURN_WINDOW:]
        scalars = {
            "episode/return": self.state.episode_return,
            "speed/steps_per_second": (steps - self.state.steps) / duration,
            **learner_scalars(result.get(LEARNER_RESULTS, {}).get(DEFAULT_MODULE_ID, {})),
            **buffer_scalars(result.get(REPLAY_BUFFER_RESULTS, {})),
            **self.health.scalars(),
        }
        self.state.steps = steps
        restarts = int(scalars.get(RESTARTS, 0))
        self.gauges.set(scalars["speed/steps_per_second"], self.state.episode_return, restarts, result)
        return {name: value for name, value in scalars.items() if math.isfinite(value)}

    def _validate(self, scalars: dict[str, float]) -> str:
        """Back-test the current policy on the validation window; add to `scalars` and return a line for people."""
        policy = self.current_policy()
        result = walk(policy, self.market, "validation", self.config)
        self.evaluated = policy, result
        metrics = validation_scalars(result, self.market, self.equal_weight)
        scalars |= {f"validation/{name}": value for name, value in metrics.items() if math.isfinite(value)}
        sharpe = metrics["sharpe_ratio"]
        self.state.add_evaluation(metrics[self.config.schedule.selection_metric], sharpe)
        standing = " (best so far)" if self.state.evaluations_without_improvement == 0 else ""
        if self.state.has_stopped_early(self.config.schedule):
            standing = f"; the last {self.state.evaluations_without_improvement} were not better: training stops early"
        return (
            f"{self.state.steps:>9,} steps: validation Sharpe {sharpe:.3f}, information ratio over 1/N "
            f"{metrics['information_ratio']:.3f}, annual return {metrics['annual_return']:.1%}, turnover "
            f"{metrics['daily_turnover'] * self.market.periods_per_year:.1f}x a year{standing}"
        )

    def _checkpoint(self) -> None:
        policy, result = self.evaluated or (self.current_policy(), None)

        def write_files(folder: Path) -> None:
            self.algorithm.save_to_path(str((folder / "rllib").resolve()))
            policy.save(folder / "policy")
            if result is not None:
                write_validation_returns(folder, result)

        has_universe = self.market.universe is not None
        config = self.config.for_assets(self.market.num_assets, has_universe).model_dump(mode="json")
        write_checkpoint(self.run_dir, self.state.steps, write_files, asdict(self.state) | {"config": config})
        prune_checkpoints(self.run_dir, self.config.schedule.checkpoints_kept, self.state.best_checkpoint)

    def current_policy(self) -> PortfolioPolicy:
        """Return the current policy.

        Raises:
            ConfigError: If its weights are not finite. The message names the last checkpoint and how to go on.
        """
        try:
            return current_policy(self.algorithm, self.config, self.market)
        except ConfigError as error:
            newest = newest_checkpoint(self.run_dir)
            saved = "Nothing was saved before"
            if newest is not None:
                reader = as_invoked("backtest.py")
                saved = f"The last checkpoint, {newest.name}, is from before, and {reader} reads the best one"
            raise ConfigError(
                f"{error} ({self.run_dir}, {self.state.steps:,} steps). {saved}. Start a new run with a lower "
                "training.learning_rate."
            ) from None

    def _status(self, scalars: dict[str, float], message: str | None) -> Status:
        sharpe, best = self.state.validation_sharpe, self.state.best_sharpe
        return Status(
            steps=self.state.steps,
            total_steps=self.config.schedule.total_timesteps,
            steps_per_second=scalars.get("speed/steps_per_second", math.nan),
            episode_return=self.state.episode_return,
            validation_sharpe=math.nan if sharpe is None else sharpe,
            best_validation_sharpe=math.nan if best is None else best,
            is_evaluated=message is not None,
            is_finished=self.state.is_finished(self.config.schedule),
            is_saved=self._is_saved(),
            elapsed_s=self.state.elapsed_s,
            message=message,
            notice=self.health.notice(self.state.steps, scalars),
        )


def resume_point(config: RunConfig, run_dir: Path) -> tuple[int, bool]:
    """Return the number of environment steps from which a run continues, and whether the run is complete.

    Args:
        config: The configuration with which the run continues.
        run_dir: Folder of the run.

    Raises:
        ConfigError: If the newest checkpoint is damaged.
    """
    checkpoint = newest_checkpoint(run_dir)
    if checkpoint is None:
        return 0, False
    state = restored_state(checkpoint)
    return state.steps, state.is_finished(config.schedule)


def _crossed(before: int, after: int, interval: int) -> bool:
    """Return whether a multiple of `interval` lies in (before, after]."""
    return before // interval < after // interval
