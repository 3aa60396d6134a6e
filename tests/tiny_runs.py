"""Training runs that take seconds: 4 environments x 16 steps an iteration, a network of 16 + 16, short features."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from tensorboard.summary.writer import event_file_writer

from rllib_portfolio.atomic import sealed, write_json
from rllib_portfolio.config import RunConfig
from rllib_portfolio.config.files import load_run_config
from rllib_portfolio.market import MarketData, load_market
from tests.market.tables import SHORT, random_prices

# TensorBoard reads the event files of a run by their names, where the tenth writer of a process comes before the ninth
# if both began in the same second.
event_file_writer._global_uid = event_file_writer.AtomicCounter(10**6)

STEPS_PER_ITERATION = 64
TOTAL_STEPS = 640
TINY = {
    "environment.episode_days": 20,
    "network.architecture": "flat",
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
"""One asset, no features: nothing to prepare."""
IN_CASH = {
    **COIN,
    "market.cash_rate": 0.05,
    "environment.min_cash": 1.0,
    "environment.reward": "log_return",
    "schedule.checkpoint_interval": 150,
    "schedule.checkpoints_kept": 2,
    "schedule.evaluation_interval": 200,
}
"""All in cash, so that nothing a policy does matters: no evaluation is better than the first, after 256 steps."""


TINY_DQN = {
    "algo": "dqn",
    "environment.episode_days": 20,
    "network.hidden_sizes": [16, 16],
    "training.per_beta_start": 0.5,
    "training.batch_size": 16,
    "training.buffer_capacity": 500,
    "training.learning_starts": 50,
    "training.target_update_interval": 100,
    "schedule.total_timesteps": TOTAL_STEPS,
    "schedule.checkpoint_interval": 200,
    "schedule.evaluation_interval": STEPS_PER_ITERATION,
    "schedule.early_stopping_evaluations": None,
    "resources.num_envs_per_env_runner": 4,
    "resources.device": "cpu",
}
"""DQN, as small; its iterations are of 64 steps, too, since it evaluates that often."""

TINY_APG = {
    "algo": "apg",
    "environment.episode_days": 20,
    "network.architecture": "flat",
    "network.hidden_sizes": [16, 16],
    "training.horizon_days": 8,
    "schedule.total_timesteps": TOTAL_STEPS,
    "schedule.checkpoint_interval": 200,
    "schedule.evaluation_interval": STEPS_PER_ITERATION,
    "schedule.early_stopping_evaluations": None,
    "resources.num_envs_per_env_runner": 4,
    "resources.device": "cpu",
}
"""Analytic policy gradients, as small."""


@dataclass
class TinyRun:
    """A run folder and what went into it; what training reported, and the checkpoints that it wrote on the way."""

    config: RunConfig
    market: MarketData
    run_dir: Path
    statuses: list[Any] = field(default_factory=list)
    written: list[str] = field(default_factory=list)

    def train(self, **options: Any) -> bool:
        """`loop.run` in the folder, keeping what it reports; `options` go to it."""
        from rllib_portfolio.runs import loop

        options = {"on_progress": self._note, **options}
        return loop.run(self.config, self.market, self.run_dir, **options)

    def stop_at(self, steps: int, **options: Any) -> bool:
        """Train until `steps` are done, then stop as Ctrl-C does."""
        return self.train(should_stop=lambda: bool(self.statuses) and self.statuses[-1].steps >= steps, **options)

    def _note(self, status: Any) -> None:
        from rllib_portfolio.policies.checkpoint import newest_checkpoint

        self.statuses.append(status)
        newest = newest_checkpoint(self.run_dir)
        if newest is not None and newest.name not in self.written:
            self.written.append(newest.name)

    def with_settings(self, settings: Mapping[str, Any]) -> TinyRun:
        """The same folder under another configuration."""
        values = self.config.model_dump()
        for name, value in settings.items():
            section, setting = name.split(".")
            values[section][setting] = value
        return TinyRun(type(self.config)(**values), self.market, self.run_dir)


def tiny_config(*settings: Mapping[str, Any]) -> RunConfig:
    """The tiny configuration with dotted settings on top, later ones first."""
    merged = dict(TINY)
    for more in settings:
        merged |= more
    return load_run_config(None, merged)


def tiny_dqn_config(*settings: Mapping[str, Any]) -> RunConfig:
    """The tiny DQN configuration with dotted settings on top, later ones first."""
    merged = dict(TINY_DQN)
    for more in settings:
        merged |= more
    return load_run_config(None, merged)


def tiny_apg_config(*settings: Mapping[str, Any]) -> RunConfig:
    """The tiny configuration of analytic policy gradients with dotted settings on top, later ones first."""
    merged = dict(TINY_APG)
    for more in settings:
        merged |= more
    return load_run_config(None, merged)


def start_run(run_dir: Path, config: RunConfig) -> TinyRun:
    """A run folder, ready to train in."""
    from rllib_portfolio.runs.folder import create_run_folder

    market = load_market(config.market)
    create_run_folder(run_dir, config, market)
    return TinyRun(config, market, run_dir)


def edit_settings(run_dir: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Give a run other settings, everywhere, as if it had been begun with them."""
    from rllib_portfolio.policies.checkpoint import MANIFEST, _digests, checkpoints
    from rllib_portfolio.runs.folder import CONFIG, RECORD

    values = yaml.safe_load((run_dir / CONFIG).read_text())
    change(values)
    (run_dir / CONFIG).write_text(yaml.safe_dump(values))
    write_json(run_dir / RECORD, sealed(json.loads((run_dir / RECORD).read_text()) | {"config": values}))
    for checkpoint in checkpoints(run_dir):
        progress = checkpoint / "progress.json"
        write_json(progress, json.loads(progress.read_text()) | {"config": values})
        write_json(checkpoint / MANIFEST, _digests(checkpoint))


def write_prices(path: Path) -> dict[str, Any]:
    """Three assets and an index over 600 days as a CSV file; the market settings that read it."""
    prices = random_prices(600)
    prices.assign(index=prices.mean(axis=1)).to_csv(path)
    return {"market.data": str(path), "market.features": SHORT.model_dump()}
