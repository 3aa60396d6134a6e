"""The training runs of an analysis as Ray tasks: one per algorithm, fold and seed, each in a run folder of its own.

A run that is finished leaves `finished.json` in its folder and is not repeated; one that was interrupted continues from
its newest checkpoint; one that fails is reported, and the others go on.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import ray
from ray.exceptions import RayError
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from rllib_portfolio.algorithms.checkpoint import newest_checkpoint, read_progress
from rllib_portfolio.config import ResourceConfig, RunConfig
from rllib_portfolio.errors import ConfigError
from rllib_portfolio.market import MarketData
from rllib_portfolio.run_folder import CONFIG, create_run_folder, open_run_folder, write_json
from rllib_portfolio.walk_forward.plan import Run, WalkForwardPlan
from rllib_portfolio.walk_forward.record import RECORD

logger = logging.getLogger(__name__)

FINISHED = "finished.json"
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
        steps: Environment steps done over all runs.
        total_steps: Environment steps of all runs.
    """

    running: dict[Run, int]
    outcomes: tuple[RunOutcome, ...]
    num_runs: int
    steps: int
    total_steps: int


def train_runs(
    plan: WalkForwardPlan,
    output: Path,
    *,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> tuple[RunOutcome, ...]:
    """Train everything that is not finished, as many runs at a time as the Ray cluster has room for.

    Args:
        plan: What to train.
        output: Absolute path of the analysis' folder, on a file system that all machines share.
        on_progress: Called a few times a second.
        should_stop: Asked as often. Runs that train then stop after their iteration, each with a checkpoint.

    Returns:
        One outcome per run of the plan, in its order; runs that never started are `stopped`.
    """
    return _Training(plan, output).loop(on_progress, should_stop)


def finished_outcome(run: Run, output: Path) -> RunOutcome | None:
    """The outcome of a run that finished earlier, or None."""
    path = run.folder(output) / FINISHED
    if not path.is_file():
        return None
    return RunOutcome(run, "finished", **json.loads(path.read_text()))


class _Training:
    """The driver's side: which tasks are under way, and what became of them."""

    def __init__(self, plan: WalkForwardPlan, output: Path) -> None:
        self.plan, self.output = plan, output
        self.board = ray.remote(_Board).options(num_cpus=0).remote()
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
                ready, _ = ray.wait(list(self.pending), timeout=POLL_S)
                for task in ready:
                    self._collect(task)
                if should_stop() and not is_stopping:
                    ray.get(self.board.stop.remote())
                    is_stopping = True
                running = ray.get(self.board.running.remote())
                on_progress(self._progress(running))
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
            reason = f"preparing its market: {_one_line(error)}"
            self.outcomes |= {run: RunOutcome(run, "failed", error=reason) for run in runs if run not in finished}
            return
        for run in runs:
            if run not in finished:
                config = self.plan.run_config(run)
                task = ray.remote(_train).options(max_retries=NUM_RETRIES, **self._place(run, config.resources))
                self.pending[task.remote(run, config, market, self.output, self.board)] = run

    def _place(self, run: Run, resources: ResourceConfig) -> dict[str, Any]:
        """What a task asks of the cluster: its own process, and those that it starts, all or nothing."""
        gpus = 1 if resources.device == "cuda" else 0
        learners = [{"CPU": 1, **({"GPU": 1} if gpus else {})}] * resources.num_learners
        own = {"CPU": 1, **({"GPU": 1} if gpus and not learners else {})}
        others = [{"CPU": 1}] * resources.num_env_runners + learners
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
            outcome = RunOutcome(run, "failed", error=_one_line(error))
        self.outcomes[run] = outcome
        ray.get(self.board.end.remote(run))
        if run in self.groups:
            remove_placement_group(self.groups.pop(run))

    def _progress(self, running: dict[Run, int]) -> Progress:
        totals = {run: self.plan.configs[run.algo].schedule.total_timesteps for run in self.plan.runs}
        # What ended needs no more steps, however many it made.
        steps = sum(min(running[run], totals[run]) for run in running) + sum(totals[run] for run in self.outcomes)
        return Progress(running, tuple(self.outcomes.values()), len(totals), steps, sum(totals.values()))


class _Board:
    """An actor that the tasks tell their steps, and that tells them to stop."""

    def __init__(self) -> None:
        self._steps: dict[Run, int] = {}
        self._is_stopping = False

    def report(self, run: Run, steps: int) -> bool:
        """Note a run's steps; returns whether it is to stop."""
        if not self._is_stopping or run in self._steps:
            self._steps[run] = steps
        return self._is_stopping

    def end(self, run: Run) -> None:
        """The run is over."""
        self._steps.pop(run, None)

    def stop(self) -> None:
        """Tell every run to stop after its iteration, and those that start from now on not to begin."""
        self._is_stopping = True

    def running(self) -> dict[Run, int]:
        """Steps of each run that has begun and not ended."""
        return dict(self._steps)


def _train(run: Run, config: RunConfig, market: MarketData, output: Path, board: Any) -> RunOutcome:
    """The task: one training run, from its newest checkpoint if there is one."""
    if ray.get(board.report.remote(run, 0)):
        return RunOutcome(run, "stopped")
    try:
        return _train_in_folder(run, config, market, output, board)
    except Exception as error:
        logger.exception("%s failed", run)
        return RunOutcome(run, "failed", error=_one_line(error))


def _train_in_folder(run: Run, config: RunConfig, market: MarketData, output: Path, board: Any) -> RunOutcome:
    import torch

    from rllib_portfolio import training

    if not (output / RECORD).is_file():
        raise ConfigError(
            f"output directory must be on a file system that all machines share, got {output}, which is not on "
            f"{ray.util.get_node_ip_address()}. Choose another --output-dir."
        )
    torch.set_num_threads(config.resources.torch_threads)
    run_dir = run.folder(output)
    if (run_dir / CONFIG).is_file():
        config, market = open_run_folder(run_dir, {})
    else:
        shutil.rmtree(run_dir, ignore_errors=True)  # the configuration is written last: nothing was trained in it
        create_run_folder(run_dir, config, market)
    is_stopping = False

    def report(status: training.Status) -> None:
        nonlocal is_stopping
        is_stopping = ray.get(board.report.remote(run, status.steps))

    is_finished = training.run(
        config, market, run_dir, resume=True, on_progress=report, should_stop=lambda: is_stopping
    )
    newest = newest_checkpoint(run_dir)
    assert newest is not None  # training.run leaves one in any case
    progress = read_progress(newest)
    reached = {
        "steps": progress["steps"],
        "training_s": round(progress["elapsed_s"], 3),
        "validation_sharpe": progress["best_score"],
    }
    if is_finished:
        write_json(run_dir / FINISHED, reached)
    return RunOutcome(run, "finished" if is_finished else "stopped", **reached)


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def failures(outcomes: Sequence[RunOutcome]) -> tuple[RunOutcome, ...]:
    """Those that failed."""
    return tuple(outcome for outcome in outcomes if outcome.status == "failed")
