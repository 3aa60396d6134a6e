"""Who is compared, by name; each module is imported by the process alone that measures it."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.throughput.setting import Setting


class Contender:
    """What a measurement drives. Environments count what they sample: a step that only resets is none.

    A contender is built from the setting and the path of the market.

    Attributes:
        facts: Figures beside the speed, for the JSON.
    """

    facts: dict[str, Any] = {}  # noqa: RUF012 - replaced, never changed

    def sample(self) -> int:
        """Sample one batch; returns its environment steps."""
        raise NotImplementedError

    def train(self) -> int:
        """Sample one batch and update on it; returns its environment steps."""
        raise NotImplementedError

    def close(self) -> None:
        """End all processes."""


class Entry(NamedTuple):
    """A contender: its name in tables, and "module:class" below this package."""

    label: str
    place: str


CONTENDERS = {
    "ours": Entry("rllib_portfolio", "rllib:Ours"),
    "stock": Entry("RLlib, stock, our vector env", "rllib:Stock"),
    "stock_sync": Entry("RLlib, stock, its SyncVectorEnv", "rllib:StockSync"),
    "sb3_dummy": Entry("SB3, DummyVecEnv", "sb3:Dummy"),
    "sb3_subproc": Entry("SB3, SubprocVecEnv", "sb3:Subproc"),
    "bare": Entry("bare torch loop (the limit)", "bare_loop:BareLoop"),
    "dqn_ours": Entry("rllib_portfolio", "rllib:OursDQN"),
    "dqn_stock": Entry("RLlib, stock, prioritized", "rllib:StockDQN"),
    "dqn_sb3": Entry("SB3, uniform, plain network", "sb3:DQN"),
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
