"""An estimate of a run's memory, made before anything is built."""

from __future__ import annotations

import math
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import ray  # noqa: F401 - makes its copy of psutil importable

from rllib_portfolio.algorithms.registry import ALGORITHMS
from rllib_portfolio.algorithms.run_settings import ROLLOUTS, holds_references
from rllib_portfolio.config import RunConfig
from rllib_portfolio.config.networks import PER_ASSET
from rllib_portfolio.env.observation import ObservationLayout
from rllib_portfolio.errors import ConfigError
from rllib_portfolio.market import MarketData

FLOAT = 4
"""Bytes of a single-precision number."""
BYTES_PER_ENV = 4096
"""Bytes of the Python objects of one environment and its episode: generator, identifiers and buffers."""
CONTROL_GROUPS = (
    (Path("/sys/fs/cgroup"), "memory.max", "memory.current", ""),
    (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes", "memory.usage_in_bytes", "total_"),
)
"""Files of Linux control groups, versions 2 and 1: folder, file of the memory limit, file of the memory in use, and
prefix of the keys in `memory.stat`."""


def estimated_bytes(config: RunConfig, market: MarketData) -> dict[str, float]:
    """Return the approximate number of bytes that a run needs, by the name of the setting that determines them.

    The estimate counts the network, batches, buffers and the environments of all env runners as if they were on one
    machine. It leaves out the memory of Python, of Ray and of the market data.

    Args:
        config: The run's configuration.
        market: Its market.
    """
    resources, network = config.resources, config.for_assets(market.num_assets, market.universe is not None).network
    num_observed, num_weights = len(ObservationLayout(market).names), market.num_assets + 1
    per_asset = network.architecture == PER_ASSET
    hidden = sum(network.hidden_sizes) * (market.num_assets if per_asset else 1)
    num_inputs = len(market.asset_feature_names) + len(market.market_feature_names) + 2 if per_asset else num_observed
    sizes = (num_inputs, *network.hidden_sizes, 1 if per_asset else num_weights)
    # Two heads times five numbers per weight: its value, its gradient, Adam's two moments, and the env runner's copy.
    parts = {"network.hidden_sizes": 10.0 * FLOAT * sum(before * after for before, after in pairwise(sizes))}
    # A sampled step holds the observation, the action, its distribution's parameters, the reward and asset returns.
    step = (num_weights + 1 if holds_references(config) else num_observed) + 6 * num_weights
    learning = ALGORITHMS[config.algo].learning_numbers(config, market, step, num_observed, hidden)
    environments = resources.num_envs * (BYTES_PER_ENV + 5 * FLOAT * num_observed)
    sampled = float(config.rollout_steps * resources.num_envs) * FLOAT * step + environments
    parts |= {setting: FLOAT * numbers for setting, numbers in learning.items()}
    return parts | {ROLLOUTS: sampled + parts.get(ROLLOUTS, 0.0)}


def require_memory(config: RunConfig, market: MarketData, have: float | None = None) -> None:
    """Raise if a run needs more memory than is free; Linux would kill it during training without a message.

    Args:
        config: The run's configuration.
        market: Its market.
        have: Free bytes; None asks the operating system.

    Raises:
        ConfigError: If the estimate exceeds `have`; the message names the setting to lower.
    """
    have = free_bytes() if have is None else have
    parts = estimated_bytes(config, market)
    total = sum(parts.values())
    if total > have:
        largest = max(parts, key=lambda name: parts[name])
        raise ConfigError(
            f"the run must fit into memory, got settings that need about {_readable(total)}, while this machine has "
            f"{_readable(have)} free now. Lower {largest}, which asks for {_readable(parts[largest])}."
        )


def free_bytes() -> float:
    """Return the number of bytes that are free on this machine now, or in its container if that has fewer."""
    import psutil  # Ray bundles a copy, which can be imported once Ray has been imported

    return float(min(psutil.virtual_memory().available, _free_in_container()))


def _free_in_container() -> float:
    """Return the free bytes under this container's limit, cached files counted as free; inf without a limit."""
    for folder, limit, used, prefix in CONTROL_GROUPS:
        with suppress(OSError, ValueError, KeyError):  # the other version is in use, or the limit is `max`
            sizes = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
            cached = sum(int(sizes[f"{prefix}{kind}_file"]) for kind in ("active", "inactive"))
            return float(int((folder / limit).read_text()) - int((folder / used).read_text()) + cached)
    return math.inf


def _readable(num_bytes: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB", "TB"):
        if num_bytes < 1000.0 or unit == "TB":
            break
        num_bytes /= 1000.0
    return f"{num_bytes:,.3g} {unit}"
