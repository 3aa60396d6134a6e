"""Training runs that take seconds: 4 environments x 16 steps an iteration, a network of 16 + 16, short features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rllib_portfolio.config import RunConfig, load_run_config
from rllib_portfolio.market import MarketData, load_market
from tests.market.tables import SHORT, random_prices

STEPS_PER_ITERATION = 64
TOTAL_STEPS = 640
TINY = {
    "environment.episode_days": 20,
    "network.hidden_sizes": [16, 16],
    "training.learning_rate": 3e-3,
    "training.rollout_steps": 16,
    "training.minibatch_size": 32,
    "training.num_epochs": 2,
    "schedule.total_timesteps": TOTAL_STEPS,
    "resources.num_envs_per_env_runner": 4,
    "resources.device": "cpu",
}
COIN = {"market.data": {"source": "kelly", "num_days": 300}}
"""One asset that doubles money slowly; no features, so nothing to prepare."""


@dataclass
class TinyRun:
    """A run folder and what went into it. `statuses` are those that training reported."""

    config: RunConfig
    market: MarketData
    run_dir: Path
    statuses: list[Any] = field(default_factory=list)

    def train(self, **options: Any) -> bool:
        """`training.run` in the folder, keeping what it reports; `options` go to it."""
        from rllib_portfolio import training

        options = {"on_progress": self.statuses.append, **options}
        return training.run(self.config, self.market, self.run_dir, **options)

    def stop_at(self, steps: int, **options: Any) -> bool:
        """Train until `steps` are done, then stop as Ctrl-C does."""
        return self.train(should_stop=lambda: bool(self.statuses) and self.statuses[-1].steps >= steps, **options)

    def with_settings(self, settings: Mapping[str, Any]) -> TinyRun:
        """The same folder under another configuration."""
        values = self.config.model_dump()
        for name, value in settings.items():
            section, setting = name.split(".")
            values[section][setting] = value
        return TinyRun(RunConfig(**values), self.market, self.run_dir)


def tiny_config(*settings: Mapping[str, Any]) -> RunConfig:
    """The tiny configuration with dotted settings on top, later ones first."""
    merged = dict(TINY)
    for more in settings:
        merged |= more
    return load_run_config(None, merged)


def start_run(run_dir: Path, config: RunConfig) -> TinyRun:
    """A run folder, ready to train in."""
    from rllib_portfolio.run_folder import create_run_folder

    market = load_market(config.market)
    create_run_folder(run_dir, config, market)
    return TinyRun(config, market, run_dir)


def write_prices(path: Path) -> dict[str, Any]:
    """Three assets and an index over 600 days as a CSV file; the market settings that read it.

    AAA outgrows BBB in the training window and falls behind after it: the more a policy learns, the worse it does on
    validation, so that the best checkpoint of a run is an early one.
    """
    prices = random_prices(600)
    turn = np.exp(0.004 * np.concatenate([np.arange(360), np.arange(360, 120, -1)]))
    prices["AAA"] *= turn
    prices["BBB"] /= turn
    prices.assign(index=prices.mean(axis=1)).to_csv(path)
    return {"market.data": str(path), "market.features": SHORT.model_dump()}
