"""Who is compared, by name; each module is imported by the worker process alone that measures it."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from benchmarks.throughput.setting import Setting
from benchmarks.throughput.stopwatch import Watched


class Contender(Protocol):
    """What a worker drives. Environments count what they sample: a step that only resets is none."""

    def sample(self) -> int:
        """Sample one batch; returns its environment steps."""

    def train(self) -> int:
        """Sample one batch and update on it; returns its environment steps."""

    def watched(self) -> Sequence[Watched]:
        """The functions whose time makes up the components."""

    def close(self) -> None:
        """End all processes."""


class Entry(NamedTuple):
    """One line of the registry."""

    label: str
    short: str
    """For the head of a column."""
    place: str
    """module:class, called as `class(setting, market_path)`."""


CONTENDERS = {
    "ours": Entry("rllib_portfolio", "ours", "rllib:Ours"),
    "stock": Entry("RLlib, stock, our vector env", "stock", "rllib:Stock"),
    "stock_sync": Entry("RLlib, stock, its SyncVectorEnv", "stock, sync", "rllib:StockSync"),
    "sb3_dummy": Entry("SB3, DummyVecEnv", "SB3", "sb3:Dummy"),
    "sb3_subproc": Entry("SB3, SubprocVecEnv", "SB3, subproc", "sb3:Subproc"),
    "cleanrl": Entry("CleanRL-style single file", "CleanRL-style", "cleanrl_style:CleanRLStyle"),
    "bare": Entry("bare torch loop (the limit)", "bare loop", "bare_loop:BareLoop"),
    "products": Entry("matrix products of the updates alone", "products", "matrix_products:MatrixProducts"),
    "dqn_ours": Entry("rllib_portfolio", "ours", "dqn:Ours"),
    "dqn_stock": Entry("RLlib, stock, prioritized", "stock", "dqn:Stock"),
    "dqn_sb3": Entry("SB3, uniform, plain network", "SB3", "dqn_sb3:Dummy"),
    "replay_ours": Entry("ArrayEpisodeReplayBuffer", "ours", "replay:Ours"),
    "replay_stock": Entry("RLlib's PrioritizedEpisodeReplayBuffer", "stock", "replay:Stock"),
    "kernel": Entry("kernel.step alone", "kernel", "environment:Kernel"),
    "vector_env": Entry("PortfolioVectorEnv.step alone", "vector env", "environment:VectorEnvironment"),
}
STOCK = ("stock", "stock_sync")
SB3 = ("sb3_dummy", "sb3_subproc")
"""Configurations of one peer: it is compared in its fastest."""


def build(name: str, setting: Setting, market_path: Path) -> Contender:
    """Start a contender in this process."""
    module, _, attribute = CONTENDERS[name].place.partition(":")
    factory = getattr(importlib.import_module(f"benchmarks.throughput.{module}"), attribute)
    contender: Contender = factory(setting, market_path)
    return contender
