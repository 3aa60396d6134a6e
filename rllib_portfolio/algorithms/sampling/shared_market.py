"""Sharing of a run's market with env runners on other machines through Ray's object store, once per machine.

A run's configuration names its market by a file, which other machines may not have. The driver puts the market into the
object store and keeps the reference in a small actor on the driver's machine, whose name is derived from the file name.
Env runners, including those started later or restarted, ask the actor when they create their environments.
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
    """Share a market with the env runners of this Ray job within this context.

    Args:
        path: File that the env runners' configuration names; `take_market` finds the market by it.
        market: The market.
    """
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    holder = ray.remote(_Holder).options(name=_name(path), num_cpus=0, scheduling_strategy=here).remote()
    try:
        ray.get(holder.keep.remote([ray.put(market)]))
        yield
    finally:
        ray.kill(holder)


def take_market(path: Any) -> None:
    """Let the environments of this process use the market that the driver shares under `path`, if it does."""
    if not (isinstance(path, str) and ray.is_initialized()):  # `ray.get_actor` would start Ray
        return
    try:
        holder = ray.get_actor(_name(path))
    except ValueError:  # it is not shared, so that it must be a file on this machine
        return
    (reference,) = ray.get(holder.reference.remote(), timeout=ASK_TIMEOUT_S)
    provide_market(path, ray.get(reference, timeout=ASK_TIMEOUT_S))


class _Holder:
    """A Ray actor that keeps the reference to a market."""

    def __init__(self) -> None:
        self._references: list[ray.ObjectRef[MarketData]] = []

    def keep(self, references: list[ray.ObjectRef[MarketData]]) -> None:
        """Keep the references; Ray would replace a reference that is not in a list by its object."""
        self._references = references

    def reference(self) -> list[ray.ObjectRef[MarketData]]:
        """Return the list that `keep` received."""
        return self._references


def _name(path: str) -> str:
    return f"market {hashlib.sha256(path.encode()).hexdigest()[:32]}"
