"""The contenders of the benchmark by name; only the process that measures a contender imports its module."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.throughput.setting import Setting


class Contender:
    """A system to be measured. A step of an environment that only resets it does not count as an environment step.

    A contender is built from the setting and the path of the market.

    Attributes:
        facts: Further figures for the JSON file, by name.
    """

    facts: dict[str, Any] = {}  # noqa: RUF012 - replaced, never changed

    def sample(self) -> int:
        """Sample one batch and return its number of environment steps."""
        raise NotImplementedError

    def train(self) -> int:
        """Sample one batch, update on it, and return its number of environment steps."""
        raise NotImplementedError

    def close(self) -> None:
        """End all processes."""


class Entry(NamedTuple):
    """A contender: its name in tables, and "module:class" below this package."""

    label: str
    place: str


CONTENDERS = {
    "ours": Entry("rllib_portfolio", "rllib:Ours"),
    "stock": Entry("unmodified RLlib, our vector environment", "rllib:Stock"),
    "stock_sync": Entry("unmodified RLlib, Gymnasium's SyncVectorEnv", "rllib:StockSync"),
    "sb3_dummy": Entry("Stable-Baselines3, DummyVecEnv", "sb3:Dummy"),
    "sb3_subproc": Entry("Stable-Baselines3, SubprocVecEnv", "sb3:Subproc"),
    "bare": Entry("bare torch loop (upper limit)", "bare_loop:BareLoop"),
    "dqn_ours": Entry("rllib_portfolio", "rllib:OursDQN"),
    "dqn_stock": Entry("unmodified RLlib, prioritized replay", "rllib:StockDQN"),
    "dqn_sb3": Entry("Stable-Baselines3, uniform replay, plain network", "sb3:DQN"),
    "replay_ours": Entry("ArrayEpisodeReplayBuffer", "parts:Replay"),
    "replay_stock": Entry("RLlib's PrioritizedEpisodeReplayBuffer", "parts:StockReplay"),
    "kernel": Entry("kernel.step alone", "parts:Kernel"),
    "vector_env": Entry("PortfolioVectorEnv.step alone", "parts:VectorEnvironment"),
}


def build(name: str, setting: Setting, market_path: Path) -> Contender:
    """Start a contender in this process."""
    module, _, attribute = CONTENDERS[name].place.partition(":")
    factory = getattr(importlib.import_module(f"benchmarks.throughput.{module}"), attribute)
    contender: Contender = factory(setting, market_path)
    return contender
