"""What a run leaves for people to look at while it goes on: TensorBoard events and `progress.csv`."""

from __future__ import annotations

import csv
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from rllib_portfolio.atomic import whole_file
from rllib_portfolio.errors import ConfigError, one_line

logger = logging.getLogger(__name__)

LEFT_OUT = "training/updates_left_out"
"""Number of updates left out so far because a gradient was not finite."""


class Sparing:
    """A context for what only shows how a run goes: a failure of `what` is told once, and does not end the run."""

    def __init__(self, what: str) -> None:
        self._what, self._is_told = what, False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> bool:
        if not isinstance(error, Exception):
            return False
        if not self._is_told:
            self._is_told = True
            logger.warning("Warning: %s must work, got %s. Training goes on without.", self._what, one_line(error))
        return True


class Tracker:
    """Writes scalars, by environment step, to TensorBoard and to `progress.csv`.

    The table is part of the run; a failure of TensorBoard's is a warning. A resumed run continues both: rows and events
    after `resumed_at` steps are dropped, since they will come again. It is None for a fresh run.
    """

    def __init__(self, run_dir: Path, resumed_at: int | None = None) -> None:
        self._csv_path = run_dir / "progress.csv"
        self._rows = _rows_until(self._csv_path, resumed_at)
        self._columns = list(self._rows[0]) if self._rows else []
        self._events: SummaryWriter | None = None
        self._sparing = Sparing("TensorBoard")
        with self._sparing:
            self._events = SummaryWriter(str(run_dir), purge_step=0 if resumed_at is None else resumed_at + 1)
        self._rewrite()

    def log(self, steps: int, scalars: Mapping[str, float]) -> None:
        """Record scalars at `steps`; a scalar that a row does not have is left empty in the table."""
        row = {"steps": str(steps), **{name: repr(float(value)) for name, value in scalars.items()}}
        self._rows.append(row)
        new_columns = [name for name in row if name not in self._columns]
        if new_columns:
            self._columns += new_columns
            self._rewrite()
        else:
            with self._csv_path.open("a", newline="") as file:
                csv.DictWriter(file, self._columns, restval="").writerow(row)
        if self._events is not None:
            with self._sparing:
                for name, value in scalars.items():
                    self._events.add_scalar(name, value, steps)
                self._events.flush()

    def close(self) -> None:
        """Flush and close the event file."""
        if self._events is not None:
            with self._sparing:
                self._events.close()

    def _rewrite(self) -> None:
        with whole_file(self._csv_path) as unfinished, unfinished.open("w", newline="") as file:
            writer = csv.DictWriter(file, self._columns, restval="")
            writer.writeheader()
            writer.writerows(self._rows)


def log_hyperparameters(
    run_dir: Path,
    hyperparameters: Mapping[str, float | int | str | bool],
    metrics: Mapping[str, float],
    steps: int,
) -> None:
    """Record what a run was given and what it came to, for TensorBoard's HPARAMS tab.

    The records go into the run's own folder, beside its curves, so that TensorBoard shows it as one run. All runs under
    one log directory should have the same names: TensorBoard takes its columns from one of them. Call it when the run's
    `Tracker` is closed, as TensorBoard reads a folder's event files one after the other. A run that is resumed may be
    recorded again: the newest metrics hold, and the first hyperparameters. A metric with the name of one of the run's
    curves would add a point to it.
    """
    given = {name: str(value).lower() if isinstance(value, bool) else value for name, value in hyperparameters.items()}
    with TemporaryDirectory() as folder:
        with SummaryWriter(folder) as events:
            for record in hparams(given, dict(metrics)):
                events.file_writer.add_summary(record, steps)
            for name, value in metrics.items():
                events.add_scalar(name, value, steps)
        (written,) = Path(folder).iterdir()
        # read in the order of names, which tell the second only: an earlier file that came later would undo this one
        earlier = sorted(path.name for path in run_dir.glob("events.out.tfevents.*"))
        shutil.move(written, run_dir / (f"{earlier[-1]}.hparams" if earlier else written.name))


def _rows_until(path: Path, steps: int | None) -> list[dict[str, str]]:
    if steps is None or not path.is_file():
        return []
    try:
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        if rows and None in rows[-1].values():  # the process was killed while it wrote this one
            rows.pop()
        if any(None in row or None in row.values() for row in rows):
            raise ValueError("rows of another length than its first line")
        return [row for row in rows if int(row["steps"]) <= steps]
    except (ValueError, KeyError, csv.Error) as error:
        raise ConfigError(
            f"{path.name} must be the table that the run wrote, got {one_line(error)} ({path}). Restore it, or remove "
            "it: the run then begins a new one."
        ) from None


def learner_scalars(results: dict[str, Any]) -> dict[str, float]:
    """Losses and statistics of the learner's last updates; those that the algorithm has."""
    names = {
        "policy_loss": "training/policy_loss",
        "vf_loss": "training/value_loss",
        "total_loss": "training/total_loss",
        "entropy": "training/entropy",
        "mean_kl_loss": "training/kl",
        "vf_explained_var": "training/explained_variance",
        "num_gradient_steps": "training/gradient_steps",
        "num_updates_left_out": LEFT_OUT,
        "qf_loss": "training/td_loss",
        "qf_mean": "training/q_mean",
        "qf_max": "training/q_max",
        "td_error_mean": "training/td_error",
        "gradients_default_optimizer_global_norm": "training/gradient_norm",
        "default_optimizer_learning_rate": "training/learning_rate",
    }
    return {ours: float(results[theirs]) for theirs, ours in names.items() if theirs in results}


def buffer_scalars(results: dict[str, Any]) -> dict[str, float]:
    """Contents of the replay buffer, where there is one."""
    names = {"num_env_steps_stored": "replay/transitions", "beta": "replay/beta"}
    return {ours: float(results[theirs]) for theirs, ours in names.items() if theirs in results}
