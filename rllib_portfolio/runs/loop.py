"""The loop of a training run: build, iterate, validate, checkpoint."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter, ValidationError
from ray.exceptions import RayActorError, RayError
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
from rllib_portfolio.errors import ConfigError, MachineError, one_line
from rllib_portfolio.market import MarketData
from rllib_portfolio.market.frequency import ALL_DAYS, WEEKDAYS
from rllib_portfolio.policies.checkpoint import (
    MANIFEST,
    checkpoint_folders,
    checkpoint_name,
    newest_checkpoint,
    prune_checkpoints,
    read_progress,
    require_whole,
    set_aside,
    write_checkpoint,
)
from rllib_portfolio.policies.saved_policy import PortfolioPolicy
from rllib_portfolio.runs.folder import MARKET, require_kept
from rllib_portfolio.runs.folder_lock import require_claims
from rllib_portfolio.runs.prometheus import Gauges
from rllib_portfolio.runs.tensorboard import LEFT_OUT, buffer_scalars, learner_scalars
from rllib_portfolio.runs.tracking import Tracker
from rllib_portfolio.runs.validation import equal_weight_returns, validation_scalars, walk, write_validation_returns

logger = logging.getLogger(__name__)

HEALTHY, RESTARTS = "env_runners/healthy", "env_runners/restarts"
WAIT_S = 1.0
NOBODY_SAMPLES_S = 600.0
"""How long a run waits for env runners to come back if none of them samples."""
LEARNER_TIMEOUT_S = 10.0
"""How long learners are waited for when one of them failed, to see which of them live."""
RETURN_WINDOW = 100
"""Finished episodes that the reported episode return is a mean of."""


@dataclass(frozen=True, slots=True)
class Status:
    """What a progress display shows after an iteration."""

    steps: int
    total_steps: int
    steps_per_second: float
    """Speed of sampling and learning in this iteration; NaN at step 0."""
    episode_return: float
    """Mean over the last finished episodes; NaN before the first."""
    validation_sharpe: float
    """Of the last evaluation; NaN before the first."""
    best_validation_sharpe: float
    """Of the policy with the best validation score so far; NaN before the first that is defined."""
    is_evaluated: bool
    """Whether this iteration ended with an evaluation."""
    is_finished: bool
    """Whether it was the run's last."""
    is_saved: bool
    """Whether a checkpoint was written after it."""
    elapsed_s: float
    """Seconds of sampling and learning, interruptions left out."""
    message: str | None = None
    """What an evaluation found, as a line."""
    notice: str | None = None
    """Something else worth a line: env runners that were lost, or are back."""


@dataclass(slots=True)
class LoopState:
    """What the loop must remember across an interruption."""

    steps: int = 0
    elapsed_s: float = 0.0
    best_score: float | None = None
    """By `schedule.selection_metric`."""
    best_sharpe: float | None = None
    best_checkpoint: str | None = None
    evaluations_without_improvement: int = 0
    validation_sharpe: float | None = None
    recent_returns: list[float] = field(default_factory=list)

    @property
    def episode_return(self) -> float:
        """Mean raw return of the last finished episodes; NaN before the first."""
        return float(np.mean(self.recent_returns)) if self.recent_returns else math.nan


def start_notes(config: RunConfig, market: MarketData) -> tuple[str, ...]:
    """Return sentences for the start of a run: how often it decides, and what its algorithm has to say."""
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
    """Train until the steps are done, validation no longer improves, or `should_stop`; leaves a checkpoint in any case.

    Args:
        config: The run's configuration.
        market: Its market, also at `run_dir / "market.npz"`.
        run_dir: A folder that `create_run_folder` made.
        resume: Continue from the newest checkpoint, if there is one.
        on_progress: Called after each iteration.
        should_stop: Asked after each iteration.

    Returns:
        Whether the run came to its end, rather than being stopped.

    Raises:
        MachineError: If somebody removed the run's folder or files of it that it needs, if a learner died, or
            if no env runner sampled for ten minutes.
    """
    if not config.resources.num_env_runners:
        return _Run(config, market, run_dir, resume).loop(on_progress, should_stop)
    with shared_market(str((run_dir / MARKET).resolve()), market):
        return _Run(config, market, run_dir, resume).loop(on_progress, should_stop)


class _Run:
    """The moving parts of a run."""

    def __init__(self, config: RunConfig, market: MarketData, run_dir: Path, resume: bool) -> None:
        self.config, self.market, self.run_dir = config, market, run_dir
        self.state = LoopState()
        self.equal_weight = equal_weight_returns(market, config)  # first: it refuses a market that ruins 1/N
        self.algorithm = ALGORITHMS[config.algo].build(config, (run_dir / MARKET).resolve())
        checkpoint = newest_checkpoint(run_dir) if resume else None
        unusable = checkpoint_folders(run_dir)[-1:] if resume else []
        if unusable and unusable != [checkpoint]:
            place = set_aside(unusable[0])
            logger.warning("Warning: %s has no %s. It is not used, and is now %s.", unusable[0], MANIFEST, place.name)
        if checkpoint is not None:
            self.state = _resumed_state(checkpoint, logger.warning)
            self.algorithm.restore_from_path(str((checkpoint / "rllib").resolve()))
        self.tracker = Tracker(run_dir, resumed_at=None if checkpoint is None else self.state.steps)
        self.evaluated: tuple[PortfolioPolicy, BacktestResult] | None = None
        """In the last iteration, if it ended with an evaluation."""
        self.gauges = Gauges(config.algo, run_dir.name)
        self.num_healthy = config.resources.num_env_runners
        self.unsampled_s = 0.0
        """Seconds spent in iterations since the last one that sampled a step."""
        self.silent: tuple[int, ...] = ()
        """Env runners that had not answered at the time of the last notice."""
        self.num_left_out = 0
        """Number of updates left out at the time of the last notice."""

    def loop(self, on_progress: Callable[[Status], None], should_stop: Callable[[], bool]) -> bool:
        schedule = self.config.schedule
        try:
            if self._may_stay_untrained and self.state.steps == 0 and self.state.best_checkpoint is None:
                on_progress(self._evaluate_untrained())
            while not (finished := self._is_finished()) and not should_stop():
                before = self.state.steps
                scalars = self._iterate()
                require_kept(self.run_dir)
                require_claims()
                message = None
                is_last = self.state.steps >= schedule.total_timesteps
                if is_last or _crossed(before, self.state.steps, schedule.evaluation_interval):
                    message = self._validate(scalars)
                if self.state.steps > before:  # before the checkpoint: a resumed run keeps rows up to it
                    self.tracker.log(self.state.steps, scalars)
                improved = self.state.evaluations_without_improvement == 0 and message is not None
                if is_last or improved or _crossed(before, self.state.steps, schedule.checkpoint_interval):
                    self._checkpoint()
                on_progress(self._status(scalars, message))
            if newest_checkpoint(self.run_dir) is None or not self._is_saved():
                self._checkpoint()
            return finished
        except FileNotFoundError:
            require_kept(self.run_dir)  # it was removed while something was written
            raise
        except RayError as error:
            self._require_learners(error)
            raise
        finally:
            with suppress(OSError):  # of the last curves alone; the disk's other errors were raised
                self.tracker.close()
            self.algorithm.stop()

    def _require_learners(self, error: RayError) -> None:
        """Raise `MachineError` if learners are dead; the error of one that lives may only be that it lost another."""
        if not self.config.resources.num_learners:
            return
        asked = self.algorithm.learner_group.foreach_learner(
            lambda learner: None, healthy_only=False, timeout_seconds=LEARNER_TIMEOUT_S
        )
        num_dead = sum(isinstance(result.get(), RayActorError) for result in asked)
        if num_dead:
            raise MachineError(
                f"learners must live until training ends, got {num_dead} of {self.config.resources.num_learners} whose "
                "process ended. Look for a lack of memory, or for a machine that was lost."
            ) from error

    @property
    def _may_stay_untrained(self) -> bool:
        """Whether the untrained network may be selected."""
        schedule = self.config.schedule
        has_filter = self.config.market.observation_filter == "running"  # which has seen nothing yet
        several = schedule.evaluation_interval < schedule.total_timesteps
        return schedule.untrained_candidate and several and not has_filter

    def _evaluate_untrained(self) -> Status:
        """Make the network as it was initialised the first candidate: training may find nothing better."""
        scalars: dict[str, float] = {}
        message = self._validate(scalars)
        self.tracker.log(0, scalars)
        self._checkpoint()
        return self._status(scalars, message)

    def _is_finished(self) -> bool:
        return _is_finished(self.config, self.state)

    def _is_saved(self) -> bool:
        newest = newest_checkpoint(self.run_dir)
        return newest is not None and newest.name == checkpoint_name(self.state.steps)

    def _iterate(self) -> dict[str, float]:
        """One sample and one update; returns the scalars to record."""
        started = time.perf_counter()
        self.evaluated = None
        result = self.algorithm.train()
        sampled = result.get(ENV_RUNNER_RESULTS, {})
        steps = int(sampled.get(NUM_ENV_STEPS_SAMPLED_LIFETIME, self.state.steps))
        if steps == self.state.steps:
            time.sleep(WAIT_S)  # no env runner answered: those that come back need a moment
        duration = time.perf_counter() - started
        self.unsampled_s = 0.0 if steps > self.state.steps else self.unsampled_s + duration
        self._require_env_runners()
        self.state.elapsed_s += duration
        returns = np.ravel(sampled.get(FINISHED_RETURNS, [])).tolist()
        self.state.recent_returns = [*self.state.recent_returns, *returns][-RETURN_WINDOW:]
        scalars = {
            "episode/return": self.state.episode_return,
            "speed/steps_per_second": (steps - self.state.steps) / duration,
            **learner_scalars(result.get(LEARNER_RESULTS, {}).get(DEFAULT_MODULE_ID, {})),
            **buffer_scalars(result.get(REPLAY_BUFFER_RESULTS, {})),
            "training/reward_scale": self.algorithm.reward_scale.std,
            **self._env_runner_scalars(),
        }
        self.state.steps = steps
        restarts = int(scalars.get(RESTARTS, 0))
        self.gauges.set(scalars["speed/steps_per_second"], self.state.episode_return, restarts, result)
        return {name: value for name, value in scalars.items() if math.isfinite(value)}

    def _require_env_runners(self) -> None:
        """Raise `MachineError` if nobody has sampled for too long."""
        if self.unsampled_s > NOBODY_SAMPLES_S:
            raise MachineError(
                f"env runners must come back when they are lost, got none that has sampled for {NOBODY_SAMPLES_S:g} s. "
                "Look for a lack of memory, a full disk or object store, or for machines that were lost."
            )

    def _env_runner_scalars(self) -> dict[str, float]:
        """How many env runners in processes of their own there are, and how many were started again."""
        if not self.config.resources.num_env_runners:
            return {}
        group = self.algorithm.env_runner_group
        return {HEALTHY: group.num_healthy_remote_workers(), RESTARTS: group.num_remote_worker_restarts()}

    def _notice(self, scalars: dict[str, float]) -> str | None:
        """Return notices about the last iteration, one per line."""
        lines = (self._env_runner_notice(scalars), self._left_out_notice(scalars))
        return "\n".join(line for line in lines if line is not None) or None

    def _left_out_notice(self, scalars: dict[str, float]) -> str | None:
        """Return a notice at the first update that is left out, and whenever their number has doubled."""
        number = int(scalars.get(LEFT_OUT, 0))
        if number < max(1, 2 * self.num_left_out):
            return None
        self.num_left_out = number
        what = "1 update was" if number == 1 else f"{number:,} updates were"
        return (
            f"{self.state.steps:>9,} steps: so far {what} left out, because a gradient was not finite. Lower "
            "training.learning_rate, or look for rewards and features that are not finite."
        )

    def _env_runner_notice(self, scalars: dict[str, float]) -> str | None:
        """Lines when env runners were lost, fell silent or came back since the last iteration."""
        before = self.num_healthy
        self.num_healthy = int(scalars.get(HEALTHY, before))  # the untrained network is judged before anything samples
        silent_before, self.silent = self.silent, self.algorithm.silent_env_runners
        lines = []
        if count := abs(self.num_healthy - before):
            lost = f"lost; what {'they were' if count > 1 else 'it was'} sampling is not counted"
            lines.append(f"{count} env runner{'s' * (count > 1)} {lost if self.num_healthy < before else 'back'}")
        if self.silent and self.silent != silent_before:
            names = f"{'s' * (len(self.silent) > 1)} {', '.join(map(str, self.silent))}"
            seconds = self.algorithm.config.sample_timeout_s
            lines.append(f"no answer from env runner{names} for {seconds:g} s; what was sampled there is not counted")
        elif silent_before and not self.silent and self.num_healthy >= before:
            lines.append("all env runners in service answer again")
        sampling = f"{self.num_healthy - len(self.silent)} of {self.config.resources.num_env_runners} sample"
        return "\n".join(f"{self.state.steps:>9,} steps: {line}; {sampling}" for line in lines) or None

    def _validate(self, scalars: dict[str, float]) -> str:
        """Walk the validation window with the current policy; adds to `scalars`, returns a line for people."""
        policy = self.current_policy()
        result = walk(policy, self.market, "validation", self.config)
        self.evaluated = policy, result
        metrics = validation_scalars(result, self.market, self.equal_weight)
        scalars |= {f"validation/{name}": value for name, value in metrics.items() if math.isfinite(value)}
        score, sharpe = metrics[self.config.schedule.selection_metric], metrics["sharpe_ratio"]
        self.state.validation_sharpe = sharpe if math.isfinite(sharpe) else None
        comparable = score if math.isfinite(score) else -math.inf
        if self.state.best_checkpoint is None or comparable > self._best_so_far():
            self.state.best_score = score if math.isfinite(score) else None
            self.state.best_sharpe = self.state.validation_sharpe
            self.state.best_checkpoint = checkpoint_name(self.state.steps)
            self.state.evaluations_without_improvement = 0
        else:
            self.state.evaluations_without_improvement += 1
        standing = " (best so far)" if self.state.evaluations_without_improvement == 0 else ""
        if _has_stopped_early(self.config, self.state):
            standing = f"; the last {self.state.evaluations_without_improvement} were not better: training stops early"
        return (
            f"{self.state.steps:>9,} steps: validation Sharpe {sharpe:.3f}, information ratio over 1/N "
            f"{metrics['information_ratio']:.3f}, annual return {metrics['annual_return']:.1%}, turnover "
            f"{metrics['daily_turnover'] * self.market.periods_per_year:.1f}x a year{standing}"
        )

    def _best_so_far(self) -> float:
        return -math.inf if self.state.best_score is None else self.state.best_score

    def _checkpoint(self) -> None:
        policy, result = self.evaluated or (self.current_policy(), None)

        def write_files(folder: Path) -> None:
            self.algorithm.save_to_path(str((folder / "rllib").resolve()))
            policy.save(folder / "policy")
            if result is not None:
                write_validation_returns(folder, result)

        config = self.config.for_assets(self.market.num_assets).model_dump(mode="json")
        write_checkpoint(self.run_dir, self.state.steps, write_files, asdict(self.state) | {"config": config})
        prune_checkpoints(self.run_dir, self.config.schedule.checkpoints_kept, self.state.best_checkpoint)

    def current_policy(self) -> PortfolioPolicy:
        """Return the policy that was reached.

        Raises:
            ConfigError: If its weights are not finite; says what was saved last and how to go on.
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
            is_finished=self._is_finished(),
            is_saved=self._is_saved(),
            elapsed_s=self.state.elapsed_s,
            message=message,
            notice=self._notice(scalars),
        )


def resume_point(config: RunConfig, run_dir: Path) -> tuple[int, bool]:
    """Return the environment steps from which a run continues, and whether it is complete."""
    checkpoint = newest_checkpoint(run_dir)
    if checkpoint is None:
        return 0, False
    state = _resumed_state(checkpoint)
    return state.steps, _is_finished(config, state)


def _is_finished(config: RunConfig, state: LoopState) -> bool:
    return _has_stopped_early(config, state) or state.steps >= config.schedule.total_timesteps


def _has_stopped_early(config: RunConfig, state: LoopState) -> bool:
    patience = config.schedule.early_stopping_evaluations
    return patience is not None and state.evaluations_without_improvement >= patience


def _resumed_state(checkpoint: Path, warn: Callable[[str], None] = lambda text: None) -> LoopState:
    """Return the state in a checkpoint; the best one so far must be whole, or gone, of which `warn` is told."""
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


def _crossed(before: int, after: int, interval: int) -> bool:
    """Whether a multiple of `interval` lies in (before, after]."""
    return before // interval < after // interval
