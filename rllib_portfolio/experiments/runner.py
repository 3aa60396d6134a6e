"""Many training runs as Ray tasks, each in its own run folder: those of a walk-forward analysis or of retraining.

A finished run leaves `finished.json` in its folder and is not repeated. An interrupted run continues from its newest
checkpoint. A run that fails is reported, and the others continue.
"""

from __future__ import annotations

import logging
import math
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import ray
from ray.exceptions import RayError
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy, PlacementGroupSchedulingStrategy

from rllib_portfolio.algorithms.run_settings import process_bundles
from rllib_portfolio.config import ResourceConfig, RunConfig
from rllib_portfolio.config.consent import consented, restricted_to
from rllib_portfolio.errors import ClaimLostError, ConfigError, one_line
from rllib_portfolio.experiments.progress import GOES_ON, Board, Progress, Run, RunOutcome, Watch
from rllib_portfolio.market import MarketData
from rllib_portfolio.policies.checkpoint import newest_checkpoint, read_progress
from rllib_portfolio.runs.folder_lock import require_claims
from rllib_portfolio.runs.loop import Status
from rllib_portfolio.runs.resumable import TrainingOutcome, train_in_folder
from rllib_portfolio.runs.storage import RunStorage

logger = logging.getLogger(__name__)

POLL_S = 0.25
NUM_RETRIES = 3
"""Number of times that a run is restarted, from its newest checkpoint, after its process or machine was lost."""


@dataclass(frozen=True, slots=True)
class Place:
    """The resources of each run, and the number of runs at a time.

    Attributes:
        num_cpus: CPUs of a run's own process; fractions let runs share a core.
        num_gpus: GPUs of a run's own process; 0 leaves them to the run's configuration.
        max_concurrent: Runs at a time; None leaves the number to the cluster's resources.
        may_wait: Whether to wait for machines that will join the cluster if a run fits on none of those present.
    """

    num_cpus: float = 1.0
    num_gpus: float = 0.0
    max_concurrent: int | None = None
    may_wait: bool = False

    def bundles(self, resources: ResourceConfig) -> list[dict[str, float]]:
        """Return the resource bundles of a run: one for its own process, then one for each process that it starts."""
        own, *others = process_bundles(resources, self.num_cpus)
        return [{**own, "GPU": self.num_gpus} if self.num_gpus else own, *others]


class Batch(NamedTuple):
    """Runs that share a market.

    Attributes:
        configs: Maps each run to its configuration.
        load_market: Prepares their market. It is called only if one of the runs is left to train.
    """

    configs: Mapping[Run, RunConfig]
    load_market: Callable[[], MarketData]


@dataclass(frozen=True, slots=True)
class RunTask:
    """The settings that the processes of all runs receive.

    Attributes:
        folders: Storage of the runs.
        record: Name of a file beside the runs, by which a machine checks that it shares the file system; None for none.
        market_file: The market as a file, which the runs' folders may link to.
        finish: Called with a finished run, its folder and its outcome, before the folder is uploaded.
    """

    folders: RunStorage
    record: str | None = None
    market_file: Path | None = None
    finish: Callable[[Run, Path, TrainingOutcome], None] = lambda run, folder, outcome: None


class Runner:
    """Trains all unfinished runs, as many at a time as the Ray cluster has room for.

    Args:
        batches: The runs.
        task: The settings that their processes share.
        known: Runs that an earlier session finished.
        place: Resources of each run.
        max_failures: Number of failures after which a run is retried from its newest checkpoint.
    """

    def __init__(
        self,
        batches: Sequence[Batch],
        task: RunTask,
        known: Sequence[RunOutcome],
        place: Place = Place(),
        max_failures: int = 0,
    ) -> None:
        self._batches, self._task, self._place, self._max_failures = batches, task, place, max_failures
        self._totals = {
            run: config.schedule.total_timesteps for batch in batches for run, config in batch.configs.items()
        }
        self._outcomes, self._num_before = {outcome.run: outcome for outcome in known}, len(known)
        self._waiting: deque[tuple[Run, RunConfig, Any]] = deque()
        """Runs that have not been submitted, each with its configuration and a reference to its market."""
        self._pending: dict[Any, tuple[Run, RunConfig, Any]] = {}
        self._groups: dict[Run, PlacementGroup] = {}
        self._failures: Counter[Run] = Counter()
        self._retries: list[str] = []
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        # The board runs on this process's node, since another node may be lost earlier.
        self._board = ray.remote(Board).options(num_cpus=0, scheduling_strategy=here).remote()

    def train(self, watch: Watch) -> tuple[RunOutcome, ...]:
        """Train the runs. When `watch` stops them, running runs complete their iteration.

        Returns:
            One outcome per run, in their order; runs that never started are `stopped`.

        Raises:
            ClaimLostError: If another process has taken over the storage of the runs.
        """
        try:
            for batch in self._batches:
                if not watch.should_stop():
                    self._prepare(batch)
                    self._submit()
            is_stopping = False
            while self._pending:
                require_claims()
                ready, _ = ray.wait(list(self._pending), timeout=POLL_S)
                for task in ready:
                    self._collect(task)
                if watch.should_stop() and not is_stopping:
                    ray.get(self._board.stop.remote())
                    is_stopping = True
                if not is_stopping:
                    self._submit()
                told, ended = ray.get(self._board.read.remote()), tuple(self._outcomes.values())
                progress = Progress(*told, self._totals, ended, self._num_before, tuple(self._retries))
                watch.on_progress(progress)
                if is_stopping and not progress.running:
                    break  # tasks that have not started have nothing to save
        finally:
            for group in self._groups.values():
                remove_placement_group(group)
            ray.kill(self._board)
        return tuple(self._outcomes.get(run) or RunOutcome(run, "stopped") for run in self._totals)

    def _prepare(self, batch: Batch) -> None:
        """Queue the unfinished runs of a batch, and put their market into Ray's object store once."""
        left = [run for run in batch.configs if run not in self._outcomes]
        if not left:
            return
        try:
            market = ray.put(batch.load_market())
        except Exception as error:  # a user's own feature may raise any error
            reason = f"preparing its market: {one_line(error)}"
            self._outcomes |= {run: RunOutcome(run, "failed", error=reason) for run in left}
            return
        self._waiting.extend((run, batch.configs[run], market) for run in left)

    def _submit(self) -> None:
        """Submit waiting runs, up to the number that may run at a time."""
        while self._waiting and len(self._pending) < (self._place.max_concurrent or math.inf):
            run, config, market = self._waiting.popleft()
            train = ray.remote(_train).options(max_retries=NUM_RETRIES, **self._options(run, config.resources))
            task = train.remote(run, config, market, self._task, self._board, consented())
            self._pending[task] = run, config, market

    def _options(self, run: Run, resources: ResourceConfig) -> dict[str, Any]:
        """Return the options of a task: resources of its own process and of those that it starts, reserved together."""
        bundles = self._place.bundles(resources)
        options = {"num_cpus": bundles[0]["CPU"], "num_gpus": bundles[0].get("GPU", 0)}
        if len(bundles) == 1:
            return options
        self._groups[run] = placement_group(bundles)
        strategy = PlacementGroupSchedulingStrategy(
            self._groups[run], placement_group_bundle_index=0, placement_group_capture_child_tasks=True
        )
        return {**options, "scheduling_strategy": strategy}

    def _collect(self, task: Any) -> None:
        waited = self._pending.pop(task)
        run = waited[0]
        try:
            outcome = ray.get(task)
        except RayError as error:  # its process died more often than Ray retries
            if isinstance(error, ClaimLostError):
                raise error.cause from None
            outcome = RunOutcome(run, "failed", error=one_line(error))
        ray.get(self._board.end.remote(run))
        if run in self._groups:
            remove_placement_group(self._groups.pop(run))
        if outcome.status == "failed" and self._failures[run] < self._max_failures:
            self._failures[run] += 1
            self._retries.append(f"{run}: {GOES_ON} {outcome.error}")
            self._waiting.appendleft(waited)
        else:
            self._outcomes[run] = outcome


def _train(
    run: Run, config: RunConfig, market: MarketData, task: RunTask, board: Any, trusted: frozenset[str] | None
) -> RunOutcome:
    """Train one run, from its newest checkpoint if there is one; failures are outcomes."""
    if ray.get(board.report.remote(run, 0)):
        return RunOutcome(run, "stopped")
    try:
        with restricted_to(trusted):
            return _train_in_folder(run, config, market, task, board)
    except ClaimLostError:  # all runs have lost their storage
        raise
    except Exception as error:
        logger.exception("%s failed", run)
        return RunOutcome(run, "failed", error=one_line(error))


def _train_in_folder(run: Run, config: RunConfig, market: MarketData, task: RunTask, board: Any) -> RunOutcome:
    import torch

    folders = task.folders
    if task.record is not None and not folders.is_remote and not folders.local(task.record).is_file():
        raise ConfigError(
            f"output directory must be on a file system that all machines share, got {folders.root}, which is not on "
            f"{ray.util.get_node_ip_address()}. Choose another --output-dir."
        )
    torch.set_num_threads(config.resources.torch_threads)
    is_stopping = False

    def report(status: Status) -> None:
        nonlocal is_stopping
        is_stopping = ray.get(board.report.remote(run, status.steps, status.best_validation_sharpe))
        if status.is_saved:
            folders.keep_so_far(run.name)

    with folders.fetched(run.name) as folder:
        if (checkpoint := newest_checkpoint(folder)) is not None:
            ray.get(board.resume.remote(run, read_progress(checkpoint)["steps"]))
        options = {"on_progress": report, "should_stop": lambda: is_stopping, "market_file": task.market_file}
        outcome, is_finished = train_in_folder(folder, config, market, **options)
        if is_finished:
            task.finish(run, folder, outcome)
        folders.keep(run.name)
    return RunOutcome(run, "finished" if is_finished else "stopped", **asdict(outcome))
