"""The variants: one JSON each, and what a search would leave behind, so that reports deflate by all that was tried."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.machine import description, one_process, write_whole
from benchmarks.real_data import design
from benchmarks.real_data.variants import NUM_SKETCHES, PROTOTYPE, VARIANTS
from rllib_portfolio.reporting.search_trials import SUMMARY, TRIAL_RETURNS

FOLDER = "variants"


def run(folder: Path, *, quick: bool, only: Sequence[str] = ()) -> None:
    """Judge every variant that is not judged yet.

    Args:
        folder: For results.
        quick: Two variants, few steps.
        only: Names of variants; all without.
    """
    names = [name for name in VARIANTS if not only or name in only]
    names = ["ppo", "dqn"] if quick and not only else names
    missing = [name for name in names if not _file(folder, name).is_file()]
    for name, record in made(missing, lambda name: design.judge(*VARIANTS[name], quick=quick)):
        keep(folder, name, record)
        found = record["pooled"]
        print(
            f"IR {found['ir']:+.2f}  tracking error {found['tracking_error']:.1%}  "
            f"Sharpe {found['sharpe']:.2f} against {found['equal_weight_sharpe']:.2f}"
        )


def made(names: Sequence[str], make: Callable[[str], dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Make records one after the other in this process, each with the machine that it was made on, and print times."""
    from rllib_portfolio.cli.console import quieten_libraries, stay_on_loopback

    if not names:
        return
    stay_on_loopback(None)
    quieten_libraries()
    with one_process():
        for count, name in enumerate(names, start=1):
            record = {"machine": description(), **make(name)}
            print(f"{count:>3}/{len(names)}  {name:<50} {record['seconds']:.0f} s", end="  ", flush=True)
            yield name, record


def file_of(folder: Path, name: str) -> Path:
    """The JSON file of a variant."""
    return folder / f"{re.sub('[^a-z0-9]+', '_', name.lower())}.json"


def keep(folder: Path, name: str, record: Mapping[str, Any]) -> None:
    """Write what a variant has come to, its daily returns among those of the others, and how many there are now."""
    (folder / FOLDER).mkdir(parents=True, exist_ok=True)
    days = pd.DatetimeIndex(record["dates"], name="date")
    returns = {name: pd.Series(record["returns"], days, dtype="float32").sort_index()}
    if (folder / TRIAL_RETURNS).is_file():
        returns = {**pd.read_parquet(folder / TRIAL_RETURNS), **returns}
    pd.DataFrame(returns).to_parquet(folder / TRIAL_RETURNS)
    figures = {key: value for key, value in record.items() if key not in ("dates", "returns")}
    write_whole(_file(folder, name), json.dumps(figures) + "\n")
    _summarise(folder)


def results(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the result of each finished variant, in the order of `VARIANTS`."""
    files = {name: _file(folder, name) for name in VARIANTS}
    return {name: json.loads(path.read_text()) for name, path in files.items() if path.is_file()}


def _summarise(folder: Path) -> None:
    """Write the record of a search for `backtest.py walk-forward --tuning`; trials without kept returns count, too."""
    sharpes = [each["pooled"]["sharpe"] for each in results(folder).values()]
    record = {
        "num_trials": len(sharpes) + len(PROTOTYPE) + NUM_SKETCHES,
        "sharpe_variance": float(np.var(sharpes, ddof=1)) if len(sharpes) > 1 else 0.0,
        "periods_per_year": 252,
        "prototype": list(PROTOTYPE),
    }
    (folder / SUMMARY).write_text(json.dumps(record, indent=1) + "\n")


def _file(folder: Path, name: str) -> Path:
    return file_of(folder / FOLDER, name)
