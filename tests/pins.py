"""Pins of what a user sees, before and after a change of structure: figures, files, tables, exit codes and messages.

    python -m tests.pins BEFORE.json              # on the commit before; minutes on two cores
    python -m tests.pins --compare BEFORE.json    # on the commit after; exit code 1 and a list if anything differs

Only the command lines, the files that they write and what the package's root exports are looked at, so that modules may
move. Figures are compared bit for bit. They depend on the processor and its libraries (BLAS, torch), so a file of pins
speaks for one machine and is not committed.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

ROOT = Path(__file__).resolve().parents[1]
TIMEOUT_S = 900

FEATURES = {
    **{"log_return_days": [1, 5], "momentum_days": [30], "volatility_days": [10], "drawdown_days": 20, "rsi_days": 7},
    **{"macd_days": [3, 6, 4], "moving_average_days": [10], "num_gmm_regimes": 2, "num_hmm_regimes": 2},
}
SHARED = {
    "market": {"data": "prices.csv", "features": FEATURES},
    "environment": {"episode_days": 20},
    "resources": {"num_envs_per_env_runner": 4, "device": "cpu"},
    "search": {"training.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}},
}
SCHEDULE = {"total_timesteps": 640, "checkpoint_interval": 256, "evaluation_interval": 128}
NEVER_STOP = {"early_stopping_evaluations": None}
CONFIGS = {
    "ppo": SHARED
    | {
        "algo": "ppo",
        "network": {"architecture": "flat", "hidden_sizes": [16, 16]},
        "training": {"learning_rate": 3e-3, "rollout_steps": 16, "minibatch_size": 32, "num_epochs": 2},
        "schedule": SCHEDULE,
    },
    "dqn": SHARED
    | {
        "algo": "dqn",
        "network": {"hidden_sizes": [16, 16]},
        "training": {"batch_size": 16, "buffer_capacity": 500, "learning_starts": 50, "target_update_interval": 100},
        "schedule": SCHEDULE | NEVER_STOP,
    },
}
"""Each run takes seconds: it learns from 640 days of three assets, with a network of 16 + 16."""

JOBS = {
    "ppo": "train.py --config ppo.yaml --output-dir ppo",
    "ppo-1": "train.py --config ppo.yaml --output-dir ppo-1 --seed 1",
    "dqn": "train.py --config dqn.yaml --output-dir dqn",
    "ppo-per-asset": "train.py --config ppo.yaml --output-dir ppo-per-asset --set network.architecture=per_asset"
    " --set training.use_kl_loss=true --set training.value_clip=1.0 --set environment.reward=log_return",
    "ppo-stock": "train.py --config ppo.yaml --output-dir ppo-stock --set resources.env_runner=stock"
    " --set resources.learner=stock --set training.market_baseline=false",
    "dqn-plain": "train.py --config dqn.yaml --output-dir dqn-plain --set network.noisy=false"
    " --set network.dueling=false --set training.prioritized=false --set training.double_q=false"
    " --set training.counterfactual_actions=0 --set training.loss=huber"
    " --set training.n_step=3 --set environment.action_table=ladder",
    "stocks": "train.py --config ppo.yaml --output-dir stocks --set market.data=sp500 --total-timesteps 64",
    "search": "tune.py --config ppo.yaml --output-dir search --num-samples 2 --max-steps 256 --max-concurrent 1"
    " --retrain-top 1 --retrain-seeds 1",
    "walk-forward": "backtest.py walk-forward --config ppo.yaml --output-dir walk-forward --folds 2 --seeds 1"
    " --total-timesteps 128 --test-start 2018-12-27",
    "back-test": "backtest.py ppo --output-dir back-test",
    "back-test-of-all": "backtest.py ppo ppo-1 dqn --output-dir back-test-of-all --tuning search --no-costs-table",
    # tests/golden pins this line-up on the test window, at 10 bp and lag 1
    "back-test-of-stocks": "backtest.py stocks --output-dir back-test-of-stocks --window validation --cost-bps 25"
    " --execution-lag 0 --universe tech=AAPL,MSFT --start-shift 21",
    "audit": "backtest.py audit ppo --output audit/audit.json",
}
"""Commands that do something, by the folder that they write, in the order in which they need each other."""

HELP = tuple(
    f"{name} --help" for name in ("train.py", "tune.py", "backtest.py", "backtest.py walk-forward", "backtest.py audit")
)
REFUSED = (
    "train.py --bogus",
    "train.py --config none.yaml",
    "train.py --set training.gama=0.9",
    "train.py --set training.gamma",
    "train.py --set training.gamma=2",
    "train.py --total-timesteps many",
    "train.py --algo ppo --batch-size 8",
    "train.py --data-path none.csv",
    "train.py --data-path ppo.yaml",
    "train.py --resume none",
    "train.py --resume ppo --seed 3",
    "train.py --config ppo.yaml --output-dir ppo",
    "tune.py --bogus",
    "tune.py --num-samples 0",
    "tune.py --set environment.cost_bps=-1",
    "tune.py --data-path none.csv",
    "tune.py --resume none",
    "tune.py --config ppo.yaml --output-dir search",
    "backtest.py",
    "backtest.py none",
    "backtest.py ppo --bogus",
    "backtest.py ppo --cost-bps -1",
    "backtest.py ppo --universe tech=X,Y",
    "backtest.py ppo --data-path none.csv",
    "backtest.py ppo --tuning none",
    "backtest.py ppo stocks --output-dir mixed",
    "backtest.py walk-forward --bogus",
    "backtest.py walk-forward --folds 0",
    "backtest.py walk-forward --data-path none.csv",
    "backtest.py walk-forward --test-start soon",
    "backtest.py walk-forward --resume none",
    "backtest.py audit --bogus",
    "backtest.py audit none",
    "backtest.py audit --set environment.cost_bps=-1",
    "-m rllib_portfolio.market validate none.csv",
    "-m rllib_portfolio.market validate prices.csv",
)
"""Commands that end at once: all but the last with one line that says what must be otherwise."""

IN_PROCESS = """
import hashlib, json, pathlib
import gymnasium, numpy as np, rllib_portfolio
digest = lambda arrays: hashlib.sha256(b"".join(np.ascontiguousarray(a).tobytes() for a in arrays)).hexdigest()
found, rng = {}, np.random.default_rng(0)
for run in ("ppo", "dqn", "ppo-per-asset", "dqn-plain"):
    saved = json.loads(sorted(pathlib.Path(run).rglob("policy.json"))[-1].read_text())
    rows = rng.standard_normal((8, len(saved["observation_names"]))).astype(np.float32)
    found["decisions of " + run] = digest(rllib_portfolio.load_policy(run)(row) for row in rows)
for terms in ({}, {"execution_lag": 0, "cost_bps": 25, "impact": 0.1, "rebalance_days": 5, "max_weight": 0.2}):
    env = gymnasium.make("rllib_portfolio/Portfolio-v0", window="test", **terms)
    seen = [env.reset(seed=0)[0]]
    for _ in range(50):
        observation, reward, *_ = env.step(rng.uniform(-1, 1, env.action_space.shape).astype(np.float32))
        seen += [observation, np.float64(reward)]
    found[f"environment {terms}"] = digest(seen)
print(json.dumps(found))
"""
"""Decisions of saved policies on random observations, and an episode of the bundled stocks, as digests."""

PASSING = re.compile(r"^speed/|(_s|sha256|hash|origin|git_revision|python|versions|started|ended|command)$")
"""Keys and columns that name times, digests, versions and where something was done."""
INTERNAL = re.compile(r"(^|/)(rllib|ray_tune|events\.out\S*)(/|$)|\.pkl$|\.lock$")
"""Files of other libraries, whose names hold times or belong to nobody."""


def write_inputs(folder: Path) -> None:
    """A table of three assets and their index over 1300 days, and the two configurations."""
    rng = np.random.default_rng(7)
    returns = 0.0004 + 0.01 * rng.standard_normal((1300, 3)) + 0.005 * rng.standard_normal((1300, 1))
    days = pd.bdate_range("2015-01-01", periods=1300, name="date")
    prices = pd.DataFrame(100 * np.exp(np.cumsum(returns, axis=0)), columns=list("ABC"), index=days)
    prices.assign(index=prices.mean(axis=1)).to_csv(folder / "prices.csv")
    for name, config in CONFIGS.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(config))


def execute(words: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run Python in `folder`, with the checkout's code and no terminal."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "PYTHON"))}
    settings = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "COLUMNS": "200", "RAY_worker_niceness": "0"}
    return subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env=kept | settings,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


def command(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a line of the tables above."""
    script, *words = shlex.split(line)
    return execute([script if script == "-m" else str(ROOT / script), *words], folder)


def plain(text: str, folder: Path) -> str:
    """The text without the paths of this run, and with single spaces."""
    return " ".join(text.replace(str(folder), "WORK").replace(str(ROOT), "CODE").split())


def lines(text: str, folder: Path) -> list[str]:
    """Lines that say something: no rules of a table."""
    return [line for line in (plain(line, folder) for line in text.splitlines()) if line.strip("─ ")]


def lasting(value: Any, folder: Path) -> Any:
    """What a file holds, without what passes from run to run."""
    if isinstance(value, dict):
        return {plain(k, folder): lasting(v, folder) for k, v in value.items() if not PASSING.search(str(k))}
    if isinstance(value, list):
        return [lasting(each, folder) for each in value]
    if isinstance(value, str):
        return "DIGEST" if re.fullmatch(r"[0-9a-f]{64}", value) else plain(value, folder)
    return value


def cells(page: str) -> dict[str, dict[str, list[str]]]:
    """Texts of a page's tables by row and column, so that a column may stand in another table."""
    found: dict[str, dict[str, list[str]]] = {}
    for table in re.findall(r"<table.*?</table>", page, re.DOTALL):
        rows = [
            re.findall(r"<t[hd].*?</t[hd]>", row, re.DOTALL) for row in re.findall(r"<tr.*?</tr>", table, re.DOTALL)
        ]
        heads, *body = [[unescape(re.sub(r"<[^>]*>", "", cell)).strip() for cell in row] for row in rows]
        for name, *texts in body:
            for column, text in zip(heads[1:], texts, strict=True):
                found.setdefault(name, {}).setdefault(column, []).append(text)
    return found


def pinned(path: Path, folder: Path) -> Any:
    """What a file says, as far as the same command says the same again."""
    match path.suffix:
        case ".json":
            return lasting(json.loads(path.read_text()), folder)
        case ".yaml":
            return lasting(yaml.safe_load(path.read_text()), folder)
        case ".csv":
            with path.open(newline="") as file:
                return lasting(list(csv.DictReader(file)), folder)
        case ".parquet":
            return hashlib.sha256(pd.read_parquet(path).to_csv().encode()).hexdigest()
        case ".safetensors":
            return hashlib.sha256(path.read_bytes()).hexdigest()
        case ".html" if path.name == "report.html":
            return cells(path.read_text())
    return "is there"


def files(top: Path, folder: Path) -> dict[str, Any]:
    """Every file under `top` by its name, but those of other libraries."""
    found = {str(path.relative_to(top)): path for path in sorted(top.rglob("*")) if path.is_file()}
    return {name: pinned(path, folder) for name, path in found.items() if not INTERNAL.search(name)}


def pin(name: str, folder: Path) -> dict[str, Any]:
    """Run an entry of the tables; what it said and wrote."""
    if name == "in process":
        done = execute(["-c", IN_PROCESS], folder)
        found = json.loads(done.stdout) if done.returncode == 0 else {}
    else:
        (folder / name.split()[0]).parent.mkdir(exist_ok=True)
        done = command(f"{JOBS[name]} --quiet" if name in JOBS else name, folder)
        found = {"stdout": lines(done.stdout, folder)}
    if name in JOBS:
        found["files"] = files(folder / name, folder)
    elif name in HELP:
        found = {"flags": sorted(set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", done.stdout)))}
    elif name in REFUSED:
        found["stderr"] = lines(done.stderr, folder)[-1:]  # argparse says first how the command is used
    complaint = done.stderr if done.returncode not in (0, 2) else ""
    print(f"{name}: exit code {done.returncode}\n{complaint}", end="", file=sys.stderr, flush=True)  # noqa: T201
    return {"exit code": done.returncode} | found


def differences(before: Any, after: Any, path: str = "") -> list[str]:
    """One line for each value that is not what it was, with the path to it."""
    if isinstance(before, list) and isinstance(after, list):
        before, after = dict(enumerate(before)), dict(enumerate(after))
    if not (isinstance(before, dict) and isinstance(after, dict)):
        return [] if before == after else [f"{path}: {before!r} -> {after!r}"]
    found = [f"{path}/{key}: gone" for key in before if key not in after]
    found += [f"{path}/{key}: new" for key in after if key not in before]
    return found + [line for k in before if k in after for line in differences(before[k], after[k], f"{path}/{k}")]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.pins", description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path, metavar="FILE", help="JSON file with the pins; entries in it are kept")
    parser.add_argument("--compare", action="store_true", help="compare with FILE instead of writing it")
    parser.add_argument("--only", default=".*", metavar="REGEX", help="entries whose whole names match")
    parser.add_argument(
        "--folder", type=Path, metavar="DIR", help="work in DIR and keep it, for more calls with --only"
    )
    arguments = parser.parse_args()
    before = json.loads(arguments.file.read_text()) if arguments.file.is_file() else {}
    after: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="pins-") as temporary:
        folder = (arguments.folder or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        write_inputs(folder)
        for name in filter(re.compile(arguments.only).fullmatch, (*JOBS, *HELP, *REFUSED, "in process")):
            after[name] = json.loads(json.dumps(pin(name, folder)))
            if not arguments.compare:
                arguments.file.write_text(json.dumps(before | after, indent=1) + "\n")
    found = [line for name in after for line in differences(before.get(name), after[name], name)]
    if arguments.compare:
        print("\n".join(found) or f"no difference in {len(after)} entries")  # noqa: T201
    return 1 if arguments.compare and found else 0


if __name__ == "__main__":
    sys.exit(main())
