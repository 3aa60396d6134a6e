"""The training runs of an analysis as Ray tasks: one per algorithm, fold and seed, each in a run folder of its own.

A run that is finished leaves `finished.json` in its folder and is not repeated; one that was interrupted continues from
its newest checkpoint; one that fails is reported, and the others go on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import ray
from ray.exceptions import RayError
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy, PlacementGroupSchedulingStrategy

from rllib_portfolio.algorithms.run_settings import process_bundles
from rllib_portfolio.config import ResourceConfig, RunConfig
from rllib_portfolio.config.consent import consented, restricted_to
from rllib_portfolio.errors import ClaimLostError, ConfigError, one_line
from rllib_portfolio.experiments.walk_forward.plan import Run, WalkForwardPlan
from rllib_portfolio.experiments.walk_forward.record import RECORD
from rllib_portfolio.market import MarketData
from rllib_portfolio.policies.checkpoint import newest_checkpoint, read_progress
from rllib_portfolio.runs.folder_lock import require_claims
from rllib_portfolio.runs.loop import Status
from rllib_portfolio.runs.resumable import finished_training, train_in_folder
from rllib_portfolio.runs.storage import RunStorage

logger = logging.getLogger(__name__)

POLL_S = 0.25
NUM_RETRIES = 3
"""Of a run whose process or machine was lost; it continues from its newest checkpoint."""


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """How a training run ended.

    Attributes:
        run: Which.
        status: `stopped` runs continue when the analysis is resumed; `failed` ones do, too, once the cause is mended.
        steps: Environment steps done; 0 if unknown.
        training_s: Seconds of sampling and learning, interruptions left out.
        validation_sharpe: Of the policy that was best on validation; None before the first evaluation.
        error: Of a failed run, one line.
    """

    run: Run
    status: Literal["finished", "stopped", "failed"]
    steps: int = 0
    training_s: float = 0.0
    validation_sharpe: float | None = None
    error: str | None = None

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {**self.run._asdict(), **{name: value for name, value in asdict(self).items() if name != "run"}}


@dataclass(frozen=True, slots=True)
class Progress:
    """Where the analysis is.

    Attributes:
        running: Runs that train at the moment, with their steps so far.
        outcomes: Runs that have ended, in that order.
        num_runs: Runs in all.
        steps: Environment steps done over all runs; a run that ended early counts as if it had made all of its steps.
        total_steps: Environment steps of all runs.
        steps_made: Environment steps that this session made.
    """

    running: dict[Run, int]
    outcomes: tuple[RunOutcome, ...]
    num_runs: int
    steps: int
    total_steps: int
    steps_made: int


def train_runs(
    plan: WalkForwardPlan,
    output: Path,
    *,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    should_stop: Callable[[], bool] = lambda: False,
    folders: RunStorage | None = None,
) -> tuple[RunOutcome, ...]:
    """Train everything that is not finished, as many runs at a time as the Ray cluster has room for.

    Args:
        plan: What to train.
        output: Absolute path of the analysis' folder, on a file system that all machines share unless `folders` says
            where else runs are kept. It holds every run that is finished when this returns.
        on_progress: Called a few times a second.
        should_stop: Asked as often. Runs that train then stop after their iteration, each with a checkpoint.
        folders: Where runs are kept, by their folder's name in `output`; default: there.

    Returns:
        One outcome per run of the plan, in its order; runs that never started are `stopped`.

    Raises:
        ClaimLostError: If another process has taken over where the runs are kept.
    """
    folders = folders or RunStorage(str(output))
    outcomes = _Training(plan, output, folders).loop(on_progress, should_stop)
    for outcome in outcomes:
        if outcome.status == "finished" and finished_outcome(outcome.run, output) is None:
            folders.bring(outcome.run.name, outcome.run.folder(output))
    return outcomes


def finished_outcome(run: Run, output: Path) -> RunOutcome | None:
    """The outcome of a run that finished earlier, or None."""
    outcome = finished_training(run.folder(output))
    return None if outcome is None else RunOutcome(run, "finished", **asdict(outcome))


class _Training:
    """The driver's side: which tasks are under way, and what became of them."""

    def __init__(self, plan: WalkForwardPlan, output: Path, folders: RunStorage) -> None:
        self.plan, self.output, self.folders = plan, output, folders
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        # Not on a node that may be lost while this process lives.
        self.board = ray.remote(_Board).options(num_cpus=0, scheduling_strategy=here).remote()
        self.outcomes: dict[Run, RunOutcome] = {}
        self.pending: dict[Any, Run] = {}
        self.groups: dict[Run, PlacementGroup] = {}

    def loop(self, on_progress: Callable[[Progress], None], should_stop: Callable[[], bool]) -> tuple[RunOutcome, ...]:
        try:
            for fold in range(len(self.plan.folds)):
                if not should_stop():
                    self._submit(fold)
            is_stopping = False
            while self.pending:
                require_claims()
                ready, _ = ray.wait(list(self.pending), timeout=POLL_S)
                for task in ready:
                    self._collect(task)
                if should_stop() and not is_stopping:
                    ray.get(self.board.stop.remote())
                    is_stopping = True
                running, steps_made = ray.get(self.board.read.remote())
                on_progress(self._progress(running, steps_made))
                if is_stopping and not running:
                    break  # what waits for a place has nothing to save
        finally:
            for group in self.groups.values():
                remove_placement_group(group)
            ray.kill(self.board)
        return tuple(self.outcomes.get(run) or RunOutcome(run, "stopped") for run in self.plan.runs)

    def _submit(self, fold: int) -> None:
        """Start what is not finished of a fold; its market goes to the object store, once for all of its runs."""
        runs = [run for run in self.plan.runs if run.fold == fold]
        finished = {run: outcome for run in runs if (outcome := finished_outcome(run, self.output)) is not None}
        self.outcomes |= finished
        if len(finished) == len(runs):
            return
        try:
            market = ray.put(self.plan.load_fold(fold))
        except Exception as error:  # the user's own feature may raise anything
            reason = f"preparing its market: {one_line(error)}"
            self.outcomes |= {run: RunOutcome(run, "failed", error=reason) for run in runs if run not in finished}
            return
        folders = self.folders.under_claims()
        for run in runs:
            if run not in finished:
                config = self.plan.run_config(run)
                task = ray.remote(_train).options(max_retries=NUM_RETRIES, **self._place(run, config.resources))
                self.pending[task.remote(run, config, market, folders, self.board, consented())] = run

    def _place(self, run: Run, resources: ResourceConfig) -> dict[str, Any]:
        """What a task asks of the cluster: its own process, and those that it starts, all or nothing."""
        own, *others = process_bundles(resources)
        if not others:
            return {"num_cpus": 1, "num_gpus": own.get("GPU", 0)}
        self.groups[run] = placement_group([own, *others])
        strategy = PlacementGroupSchedulingStrategy(
            self.groups[run], placement_group_bundle_index=0, placement_group_capture_child_tasks=True
        )
        return {"num_cpus": 1, "num_gpus": own.get("GPU", 0), "scheduling_strategy": strategy}

    def _collect(self, task: Any) -> None:
        run = self.pending.pop(task)
        try:
            outcome = ray.get(task)
        except RayError as error:  # its process died, more than once
            if isinstance(error, ClaimLostError):
                raise error.cause from None
            outcome = RunOutcome(run, "failed", error=one_line(error))
        self.outcomes[run] = outcome
        ray.get(self.board.end.remote(run))
        if run in self.groups:
            remove_placement_group(self.groups.pop(run))

    def _progress(self, running: dict[Run, int], steps_made: int) -> Progress:
        totals = {run: self.plan.configs[run.algo].schedule.total_timesteps for run in self.plan.runs}
        # What ended needs no more steps, however many it made.
        steps = sum(min(running[run], totals[run]) for run in running) + sum(totals[run] for run in self.outcomes)
        return Progress(running, tuple(self.outcomes.values()), len(totals), steps, sum(totals.values()), steps_made)


class _Board:
    """An actor that the tasks tell their steps, and that tells them to stop."""

    def __init__(self) -> None:
        self._steps: dict[Run, int] = {}
        self._steps_made = 0
        self._is_stopping = False

    def report(self, run: Run, steps: int) -> bool:
        """Note a run's steps; returns whether it is to stop."""
        if not self._is_stopping or run in self._steps:
            self._steps_made += max(0, steps - self._steps.get(run, steps))
            self._steps[run] = steps
        return self._is_stopping

    def resume(self, run: Run, steps: int) -> None:
        """Record that a run continues from `steps`, which an earlier session or process has made."""
        self._steps[run] = steps

    def end(self, run: Run) -> None:
        """The run is over."""
        self._steps.pop(run, None)

    def stop(self) -> None:
        """Tell every run to stop after its iteration, and those that start from now on not to begin."""
        self._is_stopping = True

    def read(self) -> tuple[dict[Run, int], int]:
        """Return the steps of each run under way, and the steps that all runs have made since this board began."""
        return dict(self._steps), self._steps_made


def _train(
    run: Run, config: RunConfig, market: MarketData, folders: RunStorage, board: Any, trusted: frozenset[str] | None
) -> RunOutcome:
    """The task: one training run, from its newest checkpoint if there is one."""
    if ray.get(board.report.remote(run, 0)):
        return RunOutcome(run, "stopped")
    try:
        with restricted_to(trusted):
            return _train_in_folder(run, config, market, folders, board)
    except ClaimLostError:  # all runs have lost their place
        raise
    except Exception as error:
        logger.exception("%s failed", run)
        return RunOutcome(run, "failed", error=one_line(error))


def _train_in_folder(run: Run, config: RunConfig, market: MarketData, folders: RunStorage, board: Any) -> RunOutcome:
    import torch

    if not folders.is_remote and not folders.local(RECORD).is_file():
        raise ConfigError(
            f"output directory must be on a file system that all machines share, got {folders.root}, which is not on "
            f"{ray.util.get_node_ip_address()}. Choose another --output-dir."
        )
    torch.set_num_threads(config.resources.torch_threads)
    is_stopping = False

    def report(status: Status) -> None:
        nonlocal is_stopping
        is_stopping = ray.get(board.report.remote(run, status.steps))
        if status.is_saved:
            folders.keep_so_far(run.name)

    with folders.fetched(run.name) as run_dir:
        if (checkpoint := newest_checkpoint(run_dir)) is not None:
            ray.get(board.resume.remote(run, read_progress(checkpoint)["steps"]))
        outcome, is_finished = train_in_folder(
            run_dir, config, market, on_progress=report, should_stop=lambda: is_stopping
        )
        folders.keep(run.name)
    return RunOutcome(run, "finished" if is_finished else "stopped", **asdict(outcome))


def failures(outcomes: Sequence[RunOutcome]) -> tuple[RunOutcome, ...]:
    """Those that failed."""
    return tuple(outcome for outcome in outcomes if outcome.status == "failed")
