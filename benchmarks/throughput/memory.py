"""Does memory grow? One long run of the product's PPO: `python -m benchmarks.throughput.memory JOB`.

The network is small and each batch is learned from once, so that two million steps take minutes. What could leak is
what grows with steps, episodes and iterations: runners, episodes, metrics, the reward normaliser, the learner.
"""

from __future__ import annotations

import json
import logging
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.machine import resident_memory_mb
from benchmarks.throughput.setting import market_file

NUM_CURVE_POINTS = 50


@dataclass(frozen=True, slots=True)
class MemoryJob:
    """How long to run, and from where on growth counts."""

    market_folder: str
    total_steps: int = 2_000_000
    settled_steps: int = 200_000
    """Until here allocators, caches and metric windows may fill."""

    def to_json(self) -> str:
        """For the command line."""
        return json.dumps(asdict(self))


def measure(job: MemoryJob) -> dict[str, Any]:
    """Peak resident memory of the training process until `settled_steps` and until the end, and its growth."""
    import ray

    from rllib_portfolio.algorithms.ppo import algorithm as ppo

    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    algorithm = ppo.build(_config(), market_file(20, Path(job.market_folder)))
    curve: list[tuple[int, float]] = []
    try:
        while not curve or curve[-1][0] < job.total_steps:
            result = algorithm.train()
            curve.append((int(result["env_runners"]["num_env_steps_sampled_lifetime"]), resident_memory_mb()))
    finally:
        algorithm.stop()
        ray.shutdown()
    return _growth(curve, job.settled_steps)


def _growth(curve: list[tuple[int, float]], settled_steps: int) -> dict[str, Any]:
    settled_mb = max(megabytes for steps, megabytes in curve if steps <= settled_steps)
    peak_mb = max(megabytes for _, megabytes in curve)
    stride = max(1, len(curve) // NUM_CURVE_POINTS)
    return {
        "steps": curve[-1][0],
        "settled_peak_mb": round(settled_mb, 1),
        "peak_mb": round(peak_mb, 1),
        "growth": round(peak_mb / settled_mb - 1.0, 5),
        "curve": [[steps, round(megabytes, 1)] for steps, megabytes in curve[::stride]],
    }


def _config() -> Any:
    """The product's defaults, reward normalisation and callbacks included, with less arithmetic."""
    from rllib_portfolio.config import MarketConfig, NetworkConfig, PPOConfig, PPORunConfig, ResourceConfig

    return PPORunConfig(
        market=MarketConfig(observation_filter="none"),
        network=NetworkConfig(hidden_sizes=(32, 32)),
        training=PPOConfig(num_epochs=1, minibatch_size=1024),
        resources=ResourceConfig(device="cpu"),
    )


def main() -> None:
    """Answer the job on the command line."""
    logging.getLogger("ray.rllib").setLevel(logging.ERROR)
    print(json.dumps(measure(MemoryJob(**json.loads(sys.argv[1])))), flush=True)


if __name__ == "__main__":
    main()
