"""The market of a run for env runners on other machines: through Ray's object store, once for each machine.

A run's configuration names its market as a file, which other machines may not have. The driver puts the market into the
object store and leaves the reference with a small actor of its own machine, under a name made from the file's; env
runners ask it when they make their environments, those that are started later or again included.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from rllib_portfolio.env.portfolio_env import provide_market
from rllib_portfolio.market import MarketData

ASK_TIMEOUT_S = 60.0


@contextmanager
def shared_market(path: str, market: MarketData) -> Iterator[None]:
    """Have the market for env runners of this job that are told `path`, for as long as the context lasts."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    holder = ray.remote(_Holder).options(name=_name(path), num_cpus=0, scheduling_strategy=here).remote()
    try:
        ray.get(holder.keep.remote([ray.put(market)]))
        yield
    finally:
        ray.kill(holder)


def take_market(path: Any) -> None:
    """Make the environments of this process walk the market that the driver shares under `path`, if it does."""
    if not (isinstance(path, str) and ray.is_initialized()):  # else Ray would start itself
        return
    try:
        holder = ray.get_actor(_name(path))
    except ValueError:  # nobody shares it: it is a file here
        return
    (reference,) = ray.get(holder.reference.remote(), timeout=ASK_TIMEOUT_S)
    provide_market(path, ray.get(reference, timeout=ASK_TIMEOUT_S))


class _Holder:
    """Keeps a reference, so that others can ask for it by a name."""

    def __init__(self) -> None:
        self._references: list[ray.ObjectRef[MarketData]] = []

    def keep(self, references: list[ray.ObjectRef[MarketData]]) -> None:
        """References in a list are passed as they are."""
        self._references = references

    def reference(self) -> list[ray.ObjectRef[MarketData]]:
        """As `keep` got it."""
        return self._references


def _name(path: str) -> str:
    return f"market {hashlib.sha256(path.encode()).hexdigest()[:32]}"
