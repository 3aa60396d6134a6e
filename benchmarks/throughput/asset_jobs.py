"""One measurement over N assets in a process of its own: `python -m benchmarks.throughput.asset_jobs JOB`.

JOB and answer are JSON, and the answer is the last line of standard output. Settings are those of
tune_configs/ppo_per_asset.yaml, for this package and for the bare loop alike; the bare loop neither normalises rewards
nor removes market noise, and keeps whole observations.
"""

from __future__ import annotations

import json
import logging
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from benchmarks.machine import ROOT, one_process
from benchmarks.throughput.bare_loop import BareLoop
from benchmarks.throughput.setting import Setting
from rllib_portfolio.algorithms.ppo.algorithm import build, module_spec
from rllib_portfolio.config import MarketConfig, PPORunConfig
from rllib_portfolio.config.files import load_run_config
from rllib_portfolio.env import PortfolioVectorEnv
from rllib_portfolio.market import load_market
from rllib_portfolio.runs.resumable import train_in_folder

CONFIG = ROOT / "tune_configs" / "ppo_per_asset.yaml"
ROWS = 5040
"""20 years of 252 days."""
VOLATILITY_A_DAY = 0.015
Job = Callable[[int, Path, float], dict[str, float]]
"""Number of assets, folder of the market, and seconds to measure at least, to the answer."""


def price_file(num_assets: int, folder: Path) -> Path:
    """Write a Parquet table of geometric Brownian motions, if it is not there, and return its path."""
    path = folder / f"prices_{num_assets}.parquet"
    if not path.is_file():
        moves = VOLATILITY_A_DAY * np.random.default_rng(0).standard_normal((ROWS, num_assets))
        days = pd.DatetimeIndex(np.busday_offset("2000-01-03", np.arange(ROWS)), name="date")
        columns = [f"A{index}" for index in range(num_assets)]
        pd.DataFrame(100.0 * np.exp(moves.cumsum(axis=0)), index=days, columns=columns).to_parquet(path)
    return path


def prepare(num_assets: int, folder: Path, measure_s: float) -> dict[str, float]:
    """Return the seconds from the file to the prepared market, which is kept for the other measurements."""
    started = time.perf_counter()
    market = load_market(_config(num_assets, folder).market)
    seconds = time.perf_counter() - started
    market.save(market_file(num_assets, folder))
    return {"seconds": seconds}


def ours(num_assets: int, folder: Path, measure_s: float) -> dict[str, float]:
    """Return this package's environment steps per second, sampling and learning."""
    config = _config(num_assets, folder)
    steps = config.training.rollout_steps * config.resources.num_envs
    with one_process():
        algorithm = build(config, market_file(num_assets, folder))
        found = speed(algorithm.train, steps, measure_s)
        algorithm.stop()
    return found


def bare(num_assets: int, folder: Path, measure_s: float) -> dict[str, float]:
    """Return the environment steps per second of the bare loop with the same network, sampling and learning."""
    config = _config(num_assets, folder)
    names = ("rollout_steps", "minibatch_size", "num_epochs", "learning_rate", "gamma", "gae_lambda", "clip")
    setting = Setting(
        num_assets=num_assets,
        num_envs=config.resources.num_envs,
        entropy_coefficient=config.training.entropy_coefficient,
        **{name: getattr(config.training, name) for name in names},
    )
    torch.set_num_threads(1)
    loop = _PerAssetLoop(setting, market_file(num_assets, folder), config)
    return speed(loop.train, setting.batch_size, measure_s)


def fold(num_assets: int, folder: Path, measure_s: float) -> dict[str, float]:
    """Return the seconds of a whole run: prepare, train, validate and write its folder."""
    started = time.perf_counter()
    config = _config(num_assets, folder)
    with one_process(), tempfile.TemporaryDirectory(dir=folder) as runs:
        _, is_finished = train_in_folder(Path(runs, "run"), config, load_market(config.market))
    if not is_finished:
        raise RuntimeError("a fold must be trained to its end, got a part. Measure again.")
    return {"seconds": time.perf_counter() - started}


JOBS: dict[str, Job] = {function.__name__: function for function in (prepare, ours, bare, fold)}


class _PerAssetLoop(BareLoop):
    """The bare loop with the environment and the network of a configuration."""

    def __init__(self, setting: Setting, market_path: Path, config: PPORunConfig) -> None:
        self._config = config
        super().__init__(setting, market_path)

    def _environment(self, market_path: Path) -> PortfolioVectorEnv:
        return PortfolioVectorEnv(self.setting.num_envs, str(market_path), **self._config.environment.model_dump())

    def _network(self) -> Any:
        spec = module_spec(self._config, self.env.simulation.market)
        spaces = {"observation_space": self.env.single_observation_space, "action_space": self.env.single_action_space}
        return spec.module_class(**spaces, model_config=spec.model_config)


@cache
def _config(num_assets: int, folder: Path) -> PPORunConfig:
    config = load_run_config(CONFIG, {"market.data": str(price_file(num_assets, folder))})
    if not isinstance(config, PPORunConfig):
        raise TypeError(f"{CONFIG} must configure PPO, got {config.algo}. Correct it.")
    return config


def market_config(num_assets: int, folder: Path) -> MarketConfig:
    """Return the settings of the market, whose price file is written if it is not there."""
    return _config(num_assets, folder).market


def market_file(num_assets: int, folder: Path) -> Path:
    """Return where the prepared market is kept."""
    return folder / f"market_{num_assets}.npz"


def speed(iterate: Callable[[], Any], steps: int, measure_s: float) -> dict[str, float]:
    """Return the steps per second, and the processor time per step of the iteration with the least.

    Other processes on the machine affect the latter least.

    Args:
        iterate: An iteration; the first one is not measured.
        steps: Number of steps of an iteration.
        measure_s: Seconds to measure at least.
    """
    iterate()
    seconds, started, cpu_seconds = 0.0, time.perf_counter(), []
    while seconds < measure_s:
        cpu_started = time.process_time()
        iterate()
        cpu_seconds.append(time.process_time() - cpu_started)
        seconds = time.perf_counter() - started
    return {"steps_per_second": len(cpu_seconds) * steps / seconds, "cpu_seconds_per_step": min(cpu_seconds) / steps}


def answer(jobs: Mapping[str, Job]) -> None:
    """Answer the job on the command line."""
    warnings.simplefilter("ignore")
    logging.getLogger("ray.rllib").setLevel(logging.ERROR)
    job = json.loads(sys.argv[1])
    print(json.dumps(jobs[job["job"]](job["num_assets"], Path(job["folder"]), job["measure_s"])), flush=True)


if __name__ == "__main__":
    answer(JOBS)
