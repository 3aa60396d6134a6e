"""The memory that a run will need, estimated before anything is built."""

from __future__ import annotations

import math
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import ray  # noqa: F401 - for its psutil

from rllib_portfolio.algorithms.registry import ALGORITHMS
from rllib_portfolio.algorithms.run_settings import ROLLOUTS
from rllib_portfolio.config import NetworkConfig, RunConfig
from rllib_portfolio.env.observation import ObservationLayout
from rllib_portfolio.errors import ConfigError
from rllib_portfolio.market import MarketData

FLOAT = 4
"""Bytes of a number in single precision."""
BYTES_PER_ENV = 4096
"""Objects of one environment and its episode: generator, identifiers, buffers."""
CONTROL_GROUPS = (
    (Path("/sys/fs/cgroup"), "memory.max", "memory.current", ""),
    (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes", "memory.usage_in_bytes", "total_"),
)
"""Linux's control groups, both versions: folder, file of the limit, file of what is used, prefix of the statistics."""


def estimated_bytes(config: RunConfig, market: MarketData) -> dict[str, float]:
    """Return about how many bytes a run needs, by the settings that they follow from.

    Counts batches, buffers and the environments of all env runners, as if they were on one machine. What Python, Ray
    and the market itself need is not counted.

    Args:
        config: The run's configuration.
        market: Its market.
    """
    resources, network = config.resources, config.for_assets(market.num_assets).network
    num_observed, num_weights = len(ObservationLayout(market).names), market.num_assets + 1
    per_asset = isinstance(network, NetworkConfig) and network.architecture == "per_asset"
    hidden = sum(network.hidden_sizes) * (market.num_assets if per_asset else 1)
    num_inputs = len(market.asset_feature_names) + len(market.market_feature_names) + 2 if per_asset else num_observed
    sizes = (num_inputs, *network.hidden_sizes, 1 if per_asset else num_weights)
    # Two heads; of each weight the value, its gradient, two moments of Adam, and a copy that acts.
    parts = {"network.hidden_sizes": 10.0 * FLOAT * sum(before * after for before, after in pairwise(sizes))}
    # A step as it is sampled: observation, action, its distribution, rewards, what assets returned.
    step = num_observed + 6 * num_weights
    learning = ALGORITHMS[config.algo].learning_numbers(config, market, step, num_observed, hidden)
    environments = resources.num_envs * (BYTES_PER_ENV + 5 * FLOAT * num_observed)
    sampled = float(config.training.rollout_steps * resources.num_envs) * FLOAT * step + environments
    parts |= {setting: FLOAT * numbers for setting, numbers in learning.items()}
    return parts | {ROLLOUTS: sampled + parts.get(ROLLOUTS, 0.0)}


def require_memory(config: RunConfig, market: MarketData, have: float | None = None) -> None:
    """Raise if a run needs more memory than its machine has: Linux would end it in the middle, without a word.

    Args:
        config: The run's configuration.
        market: Its market.
        have: Bytes that are free; None asks this machine.

    Raises:
        ConfigError: Says how much is needed and had, and which setting to lower.
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
    """Return what is free on this machine now, or in its container if that has less."""
    import psutil  # Ray brings its own along, which is found once Ray is imported

    return float(min(psutil.virtual_memory().available, _free_in_container()))


def _free_in_container() -> float:
    """Return what the limit of this container leaves, files that the kernel caches not counted; inf without a limit."""
    for folder, limit, used, prefix in CONTROL_GROUPS:
        with suppress(OSError, ValueError, KeyError):  # another version of them, or a limit of `max`
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
