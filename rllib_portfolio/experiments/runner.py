"""Many training runs as Ray tasks, each in a run folder of its own: the folds of an analysis, the winners of a search.

A run that is finished leaves `finished.json` in its folder and is not repeated; one that was interrupted continues from
its newest checkpoint; one that fails is reported, and the others go on.
"""

from __future__ import annotations

import logging
import math
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import ray
from ray.exceptions import RayError
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy, PlacementGroupSchedulingStrategy

from rllib_portfolio.algorithms.run_settings import process_bundles
from rllib_portfolio.config import ResourceConfig, RunConfig
from rllib_portfolio.config.consent import consented, restricted_to
from rllib_portfolio.errors import ClaimLostError, ConfigError, one_line
from rllib_portfolio.market import MarketData
from rllib_portfolio.policies.checkpoint import newest_checkpoint, read_progress
from rllib_portfolio.runs.folder_lock import require_claims
from rllib_portfolio.runs.loop import Status
from rllib_portfolio.runs.resumable import TrainingOutcome, train_in_folder
from rllib_portfolio.runs.storage import RunStorage

logger = logging.getLogger(__name__)

POLL_S = 0.25
NUM_RETRIES = 3
"""Times that a run whose process or machine was lost is begun again; it continues from its newest checkpoint."""


class Run(Protocol):
    """One of many training runs: a hashable value, whose text names it to people."""

    @property
    def name(self) -> str:
        """Name of its folder where the runs are kept."""
        ...

    def _asdict(self) -> dict[str, Any]: ...


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """How a training run ended.

    Attributes:
        run: The run.
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
    """Where the runs are.

    Attributes:
        running: Runs that train at the moment, with their steps so far.
        outcomes: Runs that have ended, in that order.
        num_runs: Runs in all.
        steps: Environment steps done over all runs; a run that ended early counts as if it had made all of its steps.
        total_steps: Environment steps of all runs.
        steps_made: Environment steps that this session made.
        retries: Failures that a run went on after, each as one line.
    """

    running: dict[Run, int]
    outcomes: tuple[RunOutcome, ...]
    num_runs: int
    steps: int
    total_steps: int
    steps_made: int
    retries: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Place:
    """Where runs are trained.

    Attributes:
        num_cpus: CPUs of a run's own process; fractions let runs share a core.
        num_gpus: GPUs of a run's own process; 0 leaves it to the run's configuration.
        max_concurrent: Runs at a time; None leaves it to the cluster's resources.
        may_wait: Machines will come that Ray does not know of: a run that none of those here holds is waited for.
    """

    num_cpus: float = 1.0
    num_gpus: float = 0.0
    max_concurrent: int | None = None
    may_wait: bool = False

    def bundles(self, resources: ResourceConfig) -> list[dict[str, float]]:
        """What a run asks of the cluster: a bundle for its own process, then one for each that it starts."""
        own, *others = process_bundles(resources, self.num_cpus)
        return [{**own, "GPU": self.num_gpus} if self.num_gpus else own, *others]


class Batch(NamedTuple):
    """Runs that share a market.

    Attributes:
        configs: The runs, with the configuration of each.
        load_market: Prepares their market; called only if one of them is left to train.
    """

    configs: Mapping[Run, RunConfig]
    load_market: Callable[[], MarketData]


@dataclass(frozen=True, slots=True)
class RunTask:
    """What the processes of all runs are told.

    Attributes:
        folders: Where runs are kept.
        record: Name of a file beside the runs, which a machine that shares the file system sees; None if there is none.
        market_file: The market as a file, which the runs' folders may share.
        finish: Called with a run that came to its end, its folder and what it reached, before the folder is kept.
    """

    folders: RunStorage
    record: str | None = None
    market_file: Path | None = None
    finish: Callable[[Run, Path, TrainingOutcome], None] = lambda run, folder, outcome: None


def train_batches(
    batches: Sequence[Batch],
    task: RunTask,
    known: Sequence[RunOutcome],
    *,
    place: Place = Place(),
    max_failures: int = 0,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> tuple[RunOutcome, ...]:
    """Train everything that is not finished, as many runs at a time as the Ray cluster has room for.

    Args:
        batches: The runs.
        task: What they have in common.
        known: Runs that an earlier session finished.
        place: Where they run.
        max_failures: Failures of a run that it goes on after, from its newest checkpoint.
        on_progress: Called a few times a second.
        should_stop: Asked as often. Runs that train then stop after their iteration, each with a checkpoint.

    Returns:
        One outcome per run, in their order; runs that never started are `stopped`.

    Raises:
        ClaimLostError: If another process has taken over where the runs are kept.
    """
    return _Driver(batches, task, known, place, max_failures).loop(on_progress, should_stop)


@contextmanager
def run_folder(folders: RunStorage, name: str, config: RunConfig, trusted: frozenset[str] | None) -> Iterator[Path]:
    """Give the folder of a run that this process trains, with the run's threads and the functions that it may import.

    Args:
        folders: Where runs are kept.
        name: Name of the run's folder there.
        config: The run's configuration.
        trusted: Functions that it may import; None: all of them.
    """
    import torch

    torch.set_num_threads(config.resources.torch_threads)
    with restricted_to(trusted), folders.fetched(name) as folder:
        yield folder


class _Waiting(NamedTuple):
    """A run that waits for its turn, with a reference to its market."""

    run: Run
    config: RunConfig
    market: Any


class _Driver:
    """The driver's side: which tasks are under way, and what became of them."""

    def __init__(
        self,
        batches: Sequence[Batch],
        task: RunTask,
        known: Sequence[RunOutcome],
        place: Place,
        max_failures: int,
    ) -> None:
        self.batches, self.task, self.place, self.max_failures = batches, task, place, max_failures
        self.totals = {
            run: config.schedule.total_timesteps for batch in batches for run, config in batch.configs.items()
        }
        self.outcomes = {outcome.run: outcome for outcome in known}
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        # Not on a node that may be lost while this process lives.
        self.board = ray.remote(_Board).options(num_cpus=0, scheduling_strategy=here).remote()
        self.waiting: deque[_Waiting] = deque()
        self.pending: dict[Any, _Waiting] = {}
        self.groups: dict[Run, PlacementGroup] = {}
        self.failures: Counter = Counter()
        self.retries: list[str] = []

    def loop(self, on_progress: Callable[[Progress], None], should_stop: Callable[[], bool]) -> tuple[RunOutcome, ...]:
        try:
            for batch in self.batches:
                if not should_stop():
                    self._prepare(batch)
                    self._submit()
            is_stopping = False
            while self.pending:
                require_claims()
                ready, _ = ray.wait(list(self.pending), timeout=POLL_S)
                for task in ready:
                    self._collect(task)
                if should_stop() and not is_stopping:
                    ray.get(self.board.stop.remote())
                    is_stopping = True
                if not is_stopping:
                    self._submit()
                running, steps_made = ray.get(self.board.read.remote())
                on_progress(self._progress(running, steps_made))
                if is_stopping and not running:
                    break  # what waits for a place has nothing to save
        finally:
            for group in self.groups.values():
                remove_placement_group(group)
            ray.kill(self.board)
        return tuple(self.outcomes.get(run) or RunOutcome(run, "stopped") for run in self.totals)

    def _prepare(self, batch: Batch) -> None:
        """Queue what is not finished of a batch; its market goes to the object store, once for all of its runs."""
        left = [run for run in batch.configs if run not in self.outcomes]
        if not left:
            return
        try:
            market = ray.put(batch.load_market())
        except Exception as error:  # the user's own feature may raise anything
            reason = f"preparing its market: {one_line(error)}"
            self.outcomes |= {run: RunOutcome(run, "failed", error=reason) for run in left}
            return
        self.waiting.extend(_Waiting(run, batch.configs[run], market) for run in left)

    def _submit(self) -> None:
        """Start the runs that wait, as many as may be under way."""
        while self.waiting and len(self.pending) < (self.place.max_concurrent or math.inf):
            waiting = self.waiting.popleft()
            train = ray.remote(_train).options(max_retries=NUM_RETRIES, **self._options(waiting))
            self.pending[train.remote(*waiting, self.task, self.board, consented())] = waiting

    def _options(self, waiting: _Waiting) -> dict[str, Any]:
        """What a task asks of the cluster: its own process, and those that it starts, all or nothing."""
        bundles = self.place.bundles(waiting.config.resources)
        options = {"num_cpus": bundles[0]["CPU"], "num_gpus": bundles[0].get("GPU", 0)}
        if len(bundles) == 1:
            return options
        self.groups[waiting.run] = placement_group(bundles)
        strategy = PlacementGroupSchedulingStrategy(
            self.groups[waiting.run], placement_group_bundle_index=0, placement_group_capture_child_tasks=True
        )
        return {**options, "scheduling_strategy": strategy}

    def _collect(self, task: Any) -> None:
        waiting = self.pending.pop(task)
        run = waiting.run
        try:
            outcome = ray.get(task)
        except RayError as error:  # its process died, more than once
            if isinstance(error, ClaimLostError):
                raise error.cause from None
            outcome = RunOutcome(run, "failed", error=one_line(error))
        ray.get(self.board.end.remote(run))
        if run in self.groups:
            remove_placement_group(self.groups.pop(run))
        if outcome.status == "failed" and self.failures[run] < self.max_failures:
            self.failures[run] += 1
            self.retries.append(f"{run}: goes on from its last checkpoint after {outcome.error}")
            self.waiting.appendleft(waiting)
        else:
            self.outcomes[run] = outcome

    def _progress(self, running: dict[Run, int], steps_made: int) -> Progress:
        totals, outcomes = self.totals, tuple(self.outcomes.values())
        # What ended needs no more steps, however many it made.
        steps = sum(min(running[run], totals[run]) for run in running) + sum(totals[run] for run in self.outcomes)
        return Progress(running, outcomes, len(totals), steps, sum(totals.values()), steps_made, tuple(self.retries))


class _Board:
    """An actor that the tasks tell their steps, and that tells them to stop."""

    def __init__(self) -> None:
        self._steps: dict[Any, int] = {}
        self._steps_made = 0
        self._is_stopping = False

    def report(self, run: Any, steps: int) -> bool:
        """Note a run's steps; returns whether it is to stop."""
        if not self._is_stopping or run in self._steps:
            self._steps_made += max(0, steps - self._steps.get(run, steps))
            self._steps[run] = steps
        return self._is_stopping

    def resume(self, run: Any, steps: int) -> None:
        """Record that a run continues from `steps`, which an earlier session or process has made."""
        self._steps[run] = steps

    def end(self, run: Any) -> None:
        """Forget a run that is over."""
        self._steps.pop(run, None)

    def stop(self) -> None:
        """Tell every run to stop after its iteration, and those that start from now on not to begin."""
        self._is_stopping = True

    def read(self) -> tuple[dict[Any, int], int]:
        """Return the steps of each run under way, and the steps that all runs have made since this board began."""
        return dict(self._steps), self._steps_made


def _train(
    run: Run, config: RunConfig, market: MarketData, task: RunTask, board: Any, trusted: frozenset[str] | None
) -> RunOutcome:
    """Train one run, from its newest checkpoint if there is one."""
    if ray.get(board.report.remote(run, 0)):
        return RunOutcome(run, "stopped")
    try:
        _require_shared(task)
        with run_folder(task.folders, run.name, config, trusted) as folder:
            return _train_in_folder(run, folder, config, market, task, board)
    except ClaimLostError:  # all runs have lost their place
        raise
    except Exception as error:
        logger.exception("%s failed", run)
        return RunOutcome(run, "failed", error=one_line(error))


def _require_shared(task: RunTask[Any]) -> None:
    """Raise unless this machine sees what the driver wrote."""
    folders = task.folders
    if task.record is not None and not folders.is_remote and not folders.local(task.record).is_file():
        raise ConfigError(
            f"output directory must be on a file system that all machines share, got {folders.root}, which is not on "
            f"{ray.util.get_node_ip_address()}. Choose another --output-dir."
        )


def _train_in_folder(
    run: Run, folder: Path, config: RunConfig, market: MarketData, task: RunTask, board: Any
) -> RunOutcome:
    is_stopping = False

    def report(status: Status) -> None:
        nonlocal is_stopping
        is_stopping = ray.get(board.report.remote(run, status.steps))
        if status.is_saved:
            task.folders.keep_so_far(run.name)

    if (checkpoint := newest_checkpoint(folder)) is not None:
        ray.get(board.resume.remote(run, read_progress(checkpoint)["steps"]))
    outcome, is_finished = train_in_folder(
        folder,
        config,
        market,
        on_progress=report,
        should_stop=lambda: is_stopping,
        market_file=task.market_file,
    )
    if is_finished:
        task.finish(run, folder, outcome)
    task.folders.keep(run.name)
    return RunOutcome(run, "finished" if is_finished else "stopped", **asdict(outcome))


def failures(outcomes: Sequence[RunOutcome]) -> tuple[RunOutcome, ...]:
    """Return those that failed."""
    return tuple(outcome for outcome in outcomes if outcome.status == "failed")
