"""Records of a run's progress for people: TensorBoard events and `progress.csv`."""

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
"""Name of the scalar that counts the updates left out so far because a gradient was not finite."""


class Sparing:
    """A context for optional output of a run: its failure is reported once and does not end the run.

    Args:
        what: Name of the output in the warning.
    """

    def __init__(self, what: str) -> None:
        self._what, self._is_told = what, False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> bool:
        if not isinstance(error, Exception):
            return False
        if not self._is_told:
            self._is_told = True
            logger.warning("Warning: %s must work, got %s. Training continues without it.", self._what, one_line(error))
        return True


class Tracker:
    """Writes scalars, by environment step, to TensorBoard and to `progress.csv`.

    A failure of TensorBoard is a warning; one of the table, which is part of the run, is an error.

    Args:
        run_dir: Folder of the run.
        resumed_at: Environment steps from which a run is resumed; None for a new run. Later rows and events are
            dropped, since the resumed run makes them again.
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
        """Record scalars.

        Args:
            steps: Environment steps of the run so far.
            scalars: Values by name. A missing scalar that was recorded before is an empty cell of the table.

        Raises:
            OSError: If the table cannot be written.
        """
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
    """Record the hyperparameters and final metrics of a run for TensorBoard's HPARAMS tab.

    The records go into the run's own folder, beside its curves, so that TensorBoard shows them as one run. Call this
    after the run's `Tracker` is closed, since TensorBoard reads the event files of a folder one after the other. If a
    resumed run is recorded again, TensorBoard shows the newest metrics and the first hyperparameters.

    Args:
        run_dir: Folder of the run.
        hyperparameters: Their values by name. All runs under one log directory should have the same names, since
            TensorBoard takes its columns from one of them.
        metrics: Their values by name. A metric with the name of one of the run's curves would add a point to it.
        steps: Environment steps of the run.
    """
    given = {name: str(value).lower() if isinstance(value, bool) else value for name, value in hyperparameters.items()}
    with TemporaryDirectory() as folder:
        with SummaryWriter(folder) as events:
            for record in hparams(given, dict(metrics)):
                events.file_writer.add_summary(record, steps)
            for name, value in metrics.items():
                events.add_scalar(name, value, steps)
        (written,) = Path(folder).iterdir()
        # files are read by name, with a time stamp in seconds: an older file that sorts later would override this one
        earlier = sorted(path.name for path in run_dir.glob("events.out.tfevents.*"))
        shutil.move(written, run_dir / (f"{earlier[-1]}.hparams" if earlier else written.name))


def _rows_until(path: Path, steps: int | None) -> list[dict[str, str]]:
    if steps is None or not path.is_file():
        return []
    try:
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        if rows and None in rows[-1].values():  # the process was killed while it wrote this row
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
    """Return those losses and statistics of the learner's last updates that the algorithm reports."""
    names = {
        "policy_loss": "training/policy_loss",
        "vf_loss": "training/value_loss",
        "total_loss": "training/total_loss",
        "entropy": "training/entropy",
        "mean_kl_loss": "training/kl",
        "vf_explained_var": "training/explained_variance",
        "reward_scale": "training/reward_scale",
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
    """Return statistics of the replay buffer; none if the algorithm has no buffer."""
    names = {"num_env_steps_stored": "replay/transitions", "beta": "replay/beta"}
    return {ours: float(results[theirs]) for theirs, ours in names.items() if theirs in results}
