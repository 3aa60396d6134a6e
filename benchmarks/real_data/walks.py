"""The walk-forward analyses of the chosen configurations by `backtest.py walk-forward`, and their committed results."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.machine import ROOT, description
from benchmarks.real_data.design import CONFIGS

WALK, FACTORS = "walk", "factors"
UNIVERSES = {WALK: "the bundled universe", FACTORS: "five factor funds"}
NUM_SEEDS = 5
FOLDS = {WALK: 8, FACTORS: 4}
VALIDATION_YEARS = 1
TESTED_VERSIONS = {"PPO": 1, "DQN": 3}
"""Number of versions of each algorithm that were tested on the out-of-sample days of each universe.

DQN's settings were chosen anew after its first walk, and its second walk was repeated after sums were reordered.
"""
DONE = "machine.json"


def run(part: str, folder: Path, runs: Path, *, quick: bool) -> int:
    """Run or continue the walk-forward analysis of one universe, copy its small results, and return the exit code.

    Args:
        part: `walk` or `factors`.
        folder: Folder of the results, which also holds those of the variants.
        runs: Folder for the walk-forward folders.
        quick: Use two folds, two seeds and few steps.
    """
    target = folder / part
    if (target / DONE).is_file():
        print(f"{part}: made before ({target})")
        return 0
    output = runs / part
    machine = description()
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
    code = subprocess.run(
        [sys.executable, *command(part, folder, output, quick=quick)], cwd=ROOT, env=environment
    ).returncode
    if code:
        return code
    target.mkdir(parents=True, exist_ok=True)
    (target / "results.json").write_text(_from_root((output / "report" / "results.json").read_text()))
    _keep_daily_returns(output, target)
    record = json.dumps({"machine": machine, "walk": _record(output)}, indent=1)
    (target / DONE).write_text(_from_root(record) + "\n")
    return 0


def num_tested(strategy: str) -> int:
    """Return the number of tested versions of the algorithm that the strategy's name contains; 1 for baselines."""
    return next((count for algo, count in TESTED_VERSIONS.items() if algo in strategy), 1)


def corrected(p_value: float, strategy: str) -> float:
    """Return the p-value of a strategy times the number of its tested versions, at most 1 (Bonferroni)."""
    return min(1.0, p_value * num_tested(strategy))


def command(part: str, folder: Path, output: Path, *, quick: bool) -> Sequence[str]:
    """Return the arguments of the interpreter that run the walk-forward analysis of a universe."""
    folds, seeds = (2, 2) if quick else (FOLDS[part], NUM_SEEDS)
    parts = [
        "backtest.py",
        "walk-forward",
        "--algo",
        *CONFIGS,
        "--config",
        *(str(path.relative_to(ROOT)) for path in CONFIGS.values()),
    ]
    parts += ["--folds", str(folds), "--seeds", str(seeds), "--validation-years", str(VALIDATION_YEARS)]
    parts += ["--set", "resources.device=cpu", "--tuning", str(folder), "--output-dir", str(output)]
    if part == FACTORS:
        parts += ["--data-path", str(_factor_funds(output.parent))]
    return [*parts, "--total-timesteps", "4096"] if quick else parts


def _factor_funds(folder: Path) -> Path:
    """Write the prices of MTUM, QUAL, SIZE, USMV and VLUE, 2014-2022, from skfolio, to a CSV file; return its path."""
    from skfolio.datasets import load_factors_dataset

    path = folder / "factor_funds.csv"
    folder.mkdir(parents=True, exist_ok=True)
    load_factors_dataset().to_csv(path, index_label="date")
    return path


def _from_root(text: str) -> str:
    """Return a text with the paths of the project relative to its root."""
    return text.replace(f"{ROOT}/", "")


def _keep_daily_returns(output: Path, target: Path) -> None:
    """Write the daily returns of the ensembles and of 1/N to a Parquet file in `target`."""
    import pandas as pd

    walks = json.loads((output / "walk_forward.json").read_text())["pooled"]["walks"]
    names = ["PPO ensemble", "DQN ensemble", "1/N"]
    columns = {name: pd.read_parquet(output / walks[name])["return"] for name in names}
    pd.DataFrame(columns, dtype="float32").to_parquet(target / "daily_returns.parquet")


def _record(output: Path) -> dict[str, object]:
    """Return folds, seeds, settings and times of the analysis."""
    record = json.loads((output / "walk_forward.json").read_text())
    kept = ("command", "plan", "sessions", "git_revision", "versions", "package_version")
    runs = [
        {name: run[name] for name in ("algo", "fold", "seed", "steps", "training_s", "validation_sharpe")}
        for run in record["runs"]
    ]
    return {**{name: record[name] for name in kept if name in record}, "runs": runs}
