"""Tuned settings against the defaults: `python -m benchmarks.learning.tuning_gain [--seeds 5] [--quick]`.

`tune.py --algo ppo --num-samples 50` searches on the bundled universe, on training and validation days. Then the
default and the search's best configuration are trained anew, with seeds that the search has not used and as many steps
as one of its trials, selected on validation as always, and walk the test window once: days that no search has seen. A
run that is there is not made again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.machine import RESULTS, ROOT, SCRATCH, description, one_process, write_record

FIRST_SEED = 100
"""The search uses seed 0, its retraining the seeds that follow."""
MAX_STEPS, NUM_SAMPLES = 50_000, 50
SEEDS = 5
SIDES = ("default", "tuned")


def main() -> int:
    """Search, train, walk, write."""
    arguments = _parser().parse_args()
    steps, samples, seeds = (4096, 2, 2) if arguments.quick else (MAX_STEPS, NUM_SAMPLES, arguments.seeds)
    arguments.runs = arguments.runs or (SCRATCH if arguments.quick else ROOT / "runs" / "reproduce")
    is_whole = not arguments.quick and arguments.seeds == SEEDS
    arguments.output = arguments.output or (RESULTS if is_whole else arguments.runs)
    search = arguments.runs / "search"
    if not (search / "best_config.yaml").is_file():
        code = _search(search, steps, samples)
        if code:
            return code
    machine = description()
    with one_process():
        rows = [_row(side, seed, search, arguments.runs, steps) for side in SIDES for seed in range(seeds)]
    record = json.loads((search / "summary.json").read_text())
    values = {"suite": "tuning_gain", "machine": machine, "steps": steps, "search": record, "rows": rows}
    write_record(arguments.output / "tuning_gain.json", values)
    return 0


def _search(folder: Path, steps: int, samples: int) -> int:
    settings = ["--algo", "ppo", "--num-samples", str(samples), "--max-steps", str(steps), "--output-dir", str(folder)]
    if (folder / "ppo_study.db").is_file():
        settings = ["--resume", str(folder)]
    return subprocess.run([sys.executable, "tune.py", *settings], cwd=ROOT, check=False).returncode


def _row(side: str, seed: int, search: Path, runs: Path, steps: int) -> dict[str, Any]:
    """One run, and its Sharpe ratios."""
    from rllib_portfolio.backtest.baselines import EqualWeight
    from rllib_portfolio.backtest.engine import backtest
    from rllib_portfolio.config.files import load_run_config
    from rllib_portfolio.market import load_market
    from rllib_portfolio.runs.resumable import train_in_folder
    from rllib_portfolio.runs.validation import best_policy
    from rllib_portfolio.statistics.metrics import information_ratio, sharpe_ratio

    file = search / "best_config.yaml" if side == "tuned" else ROOT / "tune_configs" / "ppo.yaml"
    settings = {
        "seed": FIRST_SEED + seed,
        "schedule.total_timesteps": steps,
        "schedule.evaluation_interval": steps // 10,
    }
    config = load_run_config(file, {**settings, "schedule.checkpoint_interval": steps, "resources.device": "cpu"})
    market = load_market(config.market)
    folder = runs / "tuning-gain" / f"{side}_{seed}"
    train_in_folder(folder, config, market)
    policy = best_policy(folder, market)
    row: dict[str, Any] = {"side": side, "seed": FIRST_SEED + seed}
    for window in ("validation", "test"):
        walked, bar = backtest(market, market.windows[window], [policy, EqualWeight()], config.environment)
        cash = market.cash_returns[slice(*market.windows[window])]
        row[window] = {
            "sharpe": sharpe_ratio(walked.returns, cash),
            "equal_weight_sharpe": sharpe_ratio(bar.returns, cash),
            "ir": information_ratio(walked.returns, bar.returns),
        }
    print(f"{side}, seed {FIRST_SEED + seed}: Sharpe ratio on test days {row['test']['sharpe']:.3f}", flush=True)
    return row


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.learning.tuning_gain", description=__doc__)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument(
        "--output", type=Path, help="folder of the JSON (default: benchmarks/results; quick or other seeds: the runs')"
    )
    parser.add_argument(
        "--runs", type=Path, help="where runs are kept (default: runs/reproduce; quick: runs/benchmarks)"
    )
    parser.add_argument("--quick", action="store_true", help="two short trials and seeds: says nothing")
    return parser


if __name__ == "__main__":
    sys.exit(main())
