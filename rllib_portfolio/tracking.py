"""What a run leaves for people to look at while it goes on: TensorBoard events and `progress.csv`."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter


class Tracker:
    """Writes scalars, by environment step, to TensorBoard and to `progress.csv`.

    A resumed run continues both: rows and events after `resumed_at` steps are dropped, since they will come again.

    Args:
        run_dir: The run's folder.
        resumed_at: Environment steps of the checkpoint that the run continues from; 0 for a fresh run.
    """

    def __init__(self, run_dir: Path, resumed_at: int = 0) -> None:
        self._csv_path = run_dir / "progress.csv"
        self._rows = _rows_until(self._csv_path, resumed_at)
        self._columns = list(self._rows[0]) if self._rows else []
        self._events = SummaryWriter(str(run_dir), purge_step=resumed_at + 1)
        self._rewrite()

    def log(self, steps: int, scalars: Mapping[str, float]) -> None:
        """Record scalars at `steps`; a scalar that a row does not have is left empty in the table."""
        for name, value in scalars.items():
            self._events.add_scalar(name, value, steps)
        row = {"steps": str(steps), **{name: repr(float(value)) for name, value in scalars.items()}}
        self._rows.append(row)
        new_columns = [name for name in row if name not in self._columns]
        if new_columns:
            self._columns += new_columns
            self._rewrite()
        else:
            with self._csv_path.open("a", newline="") as file:
                csv.DictWriter(file, self._columns, restval="").writerow(row)
        self._events.flush()

    def close(self) -> None:
        """Flush and close the event file."""
        self._events.close()

    def _rewrite(self) -> None:
        unfinished = self._csv_path.with_suffix(".csv.unfinished")
        with unfinished.open("w", newline="") as file:
            writer = csv.DictWriter(file, self._columns, restval="")
            writer.writeheader()
            writer.writerows(self._rows)
        unfinished.replace(self._csv_path)


def _rows_until(path: Path, steps: int) -> list[dict[str, str]]:
    if not steps or not path.is_file():
        return []
    with path.open(newline="") as file:
        return [row for row in csv.DictReader(file) if row["steps"] and int(row["steps"]) <= steps]
