"""What a GPU brings to PPO here: `python -m benchmarks.throughput.gpu [--output FILE]`, on a machine that has one.

Environment steps a second of whole training iterations (sampling on the CPU, learning on the device), for the default
network and wide ones, with small and large minibatches, in full and half precision. --table fills benchmarks/README.md
from the results that are there, on any machine.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.throughput.report import replaced
from benchmarks.throughput.tables import Table, markdown

FOLDER = Path(__file__).resolve().parents[1]
RESULTS = FOLDER / "results" / "gpu.json"
NUM_ENVS = 256
WARM_UP, ITERATIONS = 2, 5
NETWORKS = {"256, 256": (256, 256), "1024, 1024": (1024, 1024), "4096, 4096": (4096, 4096)}
PLACES: dict[str, dict[str, Any]] = {
    "CPU, 1 thread": {"device": "cpu"},
    "CPU, 8 threads": {"device": "cpu", "torch_threads": 8},
    "GPU": {"device": "cuda"},
    "GPU, bf16": {"device": "cuda", "mixed_precision": "bf16"},
}


def steps_per_second(algo: str, market: Path, sections: Mapping[str, Mapping[str, Any]]) -> float:
    """Environment steps a second, sampling and learning, after the warm-up."""
    from rllib_portfolio.algorithms.registry import ALGORITHMS
    from rllib_portfolio.config import RUN_CONFIGS

    config = RUN_CONFIGS[algo](**{name: dict(values) for name, values in sections.items()})
    algorithm = ALGORITHMS[algo].build(config, market)
    try:
        steps = started = first = 0.0
        for iteration in range(WARM_UP + ITERATIONS):
            if iteration == WARM_UP:
                started, first = time.perf_counter(), steps
            steps = float(algorithm.train()["num_env_steps_sampled_lifetime"])
        return (steps - first) / (time.perf_counter() - started)
    finally:
        algorithm.stop()


def table(values: Mapping[str, Any]) -> str:
    """Steps a second by network and minibatch; what was not measured stays empty."""
    rows: dict[str, dict[str, str]] = {}
    for name, speed in values["ppo"].items():
        network, minibatch, place = name.split("; ")
        rows.setdefault(f"[{network}], {minibatch}", {})[place] = f"{speed:,}"
    body = [[row, *(cells.get(place, "") for place in PLACES)] for row, cells in rows.items()]
    machine = values["machine"]
    title = f"PPO, steps/s, {NUM_ENVS} environments: {values['gpu']}, {machine['processor']}, {machine['cores']} cores"
    return markdown([Table(title, ["network", *PLACES], body)])


def main() -> int:
    """Measure, print, write."""
    import ray
    import torch

    from benchmarks.machine import description
    from benchmarks.throughput.setting import market_file

    parser = argparse.ArgumentParser(prog="python -m benchmarks.throughput.gpu", description=__doc__)
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--table", action="store_true", help="only fill benchmarks/README.md")
    arguments = parser.parse_args()
    if arguments.table:
        readme = FOLDER / "README.md"
        readme.write_text(replaced(readme.read_text(), "gpu", table(json.loads(RESULTS.read_text()))))
        return 0
    if not torch.cuda.is_available():
        print("A CUDA device must be there, got none. Run it on a machine with a GPU.", file=sys.stderr)
        return 2
    ray.init(num_cpus=8, num_gpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    values: dict[str, Any] = {"gpu": torch.cuda.get_device_name(), "machine": description(), "ppo": {}}
    with tempfile.TemporaryDirectory() as folder:
        market = market_file(20, Path(folder))
        for label, sizes in NETWORKS.items():
            for minibatch in (512, 8192):
                for place, resources in PLACES.items():
                    if "CPU" in place and sizes[0] > 1024:
                        continue  # minutes an iteration
                    torch.set_num_threads(resources.get("torch_threads", 1))
                    speed = steps_per_second(
                        "ppo",
                        market,
                        {
                            "market": {"observation_filter": "none"},
                            "network": {"hidden_sizes": sizes},
                            "training": {"minibatch_size": minibatch},
                            "resources": {"num_envs_per_env_runner": NUM_ENVS, **resources},
                        },
                    )
                    values["ppo"][f"{label}; minibatch {minibatch}; {place}"] = round(speed)
                    print(f"PPO {label}, minibatch {minibatch}, {place}: {speed:,.0f} steps/s", flush=True)
                    arguments.output.write_text(json.dumps(values, indent=1) + "\n")
    ray.shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
