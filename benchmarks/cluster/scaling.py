"""Steps a second over 1 and 2 env runners and 1 and 2 nodes; bytes and driver time of a fragment; what they imply.

`make bench ARGS=scaling`, about three minutes. Nodes are Ray nodes of this machine (`ray.cluster_utils`), so that the
network is its loopback: what crosses it is counted in bytes, for links of other speeds.
"""

from __future__ import annotations

import json
import logging
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray
from ray import cloudpickle
from ray.cluster_utils import Cluster
from ray.rllib.execution.rollout_ops import synchronous_parallel_sample

from benchmarks.cluster.model import Costs, simulated_steps_per_second
from benchmarks.machine import description
from rllib_portfolio.algorithms.ppo import algorithm as ppo
from rllib_portfolio.algorithms.sampling.shared_market import shared_market
from rllib_portfolio.config import MarketConfig, PPORunConfig, ResourceConfig
from rllib_portfolio.market import MarketData, load_market

CELLS = ((1, 1), (2, 1), (2, 2))
"""Env runners, nodes."""
WARM_UP, ROUNDS, ITERATIONS = 3, 20, 12
RUNNERS = (1, 2, 4, 8, 16, 32, 64)
TOLERANCE = 0.15
"""Model and measurement, and model and simulation, may differ by so much."""


def run(output: Path, *, quick: bool = False) -> int:
    """Measure each cell, fit the model, print, and write scaling.json into `output`.

    Returns:
        Exit code: 1 if the model is off by more than it may be.
    """
    rounds, iterations = (4, 2) if quick else (ROUNDS, ITERATIONS)
    logging.getLogger("ray.rllib").setLevel(logging.ERROR)
    machine, market = description(), load_market(MarketConfig())
    cells = []
    for num_env_runners, num_nodes in CELLS:
        cells.append(_cell(market, num_env_runners, num_nodes, rounds, iterations))
        print(
            f"{num_env_runners} env runners, {num_nodes} nodes: {cells[-1]['steps_per_second']:,.0f} steps/s, sampling "
            f"alone {cells[-1]['sampled_per_second']:,.0f}",
            flush=True,
        )
    costs = _costs(cells[0])
    record = {
        "suite": "scaling",
        "machine": machine,
        "cells": cells,
        "costs": {name: getattr(costs, name) for name in Costs.__slots__},
        **predictions(costs, cells),
    }
    output.mkdir(parents=True, exist_ok=True)
    (output / "scaling.json").write_text(json.dumps(record, indent=1) + "\n")
    print(f"Wrote {output / 'scaling.json'}.")
    return 0


def predictions(costs: Costs, cells: list[dict[str, Any]]) -> dict[str, Any]:
    """The model beside measurement and simulation, and what it says of more runners, learners and longer fragments."""
    times = cells[0]["fragment_s"]
    measured = [
        {
            "num_env_runners": cell["num_env_runners"],
            "num_nodes": cell["num_nodes"],
            "measured": cell["steps_per_second"],
            "model": round(costs.steps_per_second(cell["num_env_runners"]), 1),
        }
        for cell in cells
    ]
    variants = {
        "as measured": costs,
        "4 learners": costs.with_learners(4),
        "fragments of 4 times the steps": costs.with_fragments(4),
        "both": costs.with_learners(4).with_fragments(4),
    }
    curves = []
    for name, variant in variants.items():
        factor = variant.fragment_steps // costs.fragment_steps
        scaled = [factor * seconds for seconds in times]
        curves.append(
            {
                "variant": name,
                "limit": round(variant.limit, 1),
                "half_point": round(variant.half_point, 3),
                "model": [round(variant.steps_per_second(count), 1) for count in RUNNERS],
                "simulation": [round(simulated_steps_per_second(variant, scaled, count), 1) for count in RUNNERS],
            }
        )
    off_measured = max(abs(row["model"] / row["measured"] - 1.0) for row in measured)
    off_simulated = max(
        abs(ours / theirs - 1.0) for row in curves for ours, theirs in zip(row["model"], row["simulation"], strict=True)
    )
    return {
        "comparison": measured,
        "num_env_runners": list(RUNNERS),
        "curves": curves,
        "off_measured": round(off_measured, 3),
        "off_simulated": round(off_simulated, 3),
        "met": max(off_measured, off_simulated) <= TOLERANCE,
    }


def _cell(market: MarketData, num_env_runners: int, num_nodes: int, rounds: int, iterations: int) -> dict[str, Any]:
    """One cluster, one algorithm on it: sampling alone, then training."""
    per_node = num_env_runners // num_nodes
    memory = 200 * 2**20
    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": per_node, "include_dashboard": False, "object_store_memory": memory},
    )
    for _ in range(num_nodes - 1):
        cluster.add_node(num_cpus=per_node, object_store_memory=memory)
    cluster.wait_for_nodes()
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "market.npz"
            market.save(path)
            config = PPORunConfig(resources=ResourceConfig(device="cpu", num_env_runners=num_env_runners))
            with shared_market(str(path), market):
                algorithm = ppo.build(config, path)
                try:
                    return _measured(algorithm, config, num_env_runners, num_nodes, (rounds, iterations))
                finally:
                    algorithm.stop()
    finally:
        ray.shutdown()
        cluster.shutdown()


def _measured(
    algorithm: Any, config: PPORunConfig, num_env_runners: int, num_nodes: int, effort: tuple[int, int]
) -> dict[str, Any]:
    rounds, iterations = effort
    fragment_steps = config.training.rollout_steps * config.resources.num_envs_per_env_runner
    for _ in range(WARM_UP):
        algorithm.train()
    walls, busy, num_bytes = [], [], 0
    for _ in range(rounds):
        started, cpu = time.perf_counter(), time.process_time()
        episodes, _metrics = synchronous_parallel_sample(
            worker_set=algorithm.env_runner_group, _uses_new_env_runners=True, _return_metrics=True
        )
        walls.append(time.perf_counter() - started)
        busy.append((time.process_time() - cpu) / num_env_runners)
        num_bytes = len(cloudpickle.dumps(episodes, protocol=5))
    totals, learning, weights = [], [], []
    algorithm.learner_group.update = _timed(algorithm.learner_group.update, learning)  # RLlib's own timers are smoothed
    algorithm.env_runner_group.sync_weights = _timed(algorithm.env_runner_group.sync_weights, weights)
    for _ in range(iterations):
        started = time.perf_counter()
        algorithm.train()
        totals.append(time.perf_counter() - started)
    steps = num_env_runners * fragment_steps
    (weights_bytes, *_others) = algorithm.env_runner_group.foreach_env_runner(
        lambda runner: sum(tensor.nbytes for tensor in runner.module.state_dict().values()), local_env_runner=False
    )
    return {
        "num_env_runners": num_env_runners,
        "num_nodes": num_nodes,
        "fragment_steps": fragment_steps,
        "steps_per_second": round(steps / statistics.median(totals), 1),
        "sampled_per_second": round(steps / statistics.median(walls), 1),
        "fragment_s": [round(wall - cpu, 5) for wall, cpu in zip(walls, busy, strict=True)],
        "driver_s": round(statistics.median(busy), 5),
        "learning_s": round(statistics.median(learning), 5),
        "weights_s": round(statistics.median(weights) / num_env_runners, 5),
        "bytes_per_step": round(num_bytes / steps, 1),
        "weights_bytes": weights_bytes,
    }


def _timed(call: Callable[..., Any], seconds: list[float]) -> Callable[..., Any]:
    """The call, noting how long it takes."""

    def timed(*arguments: Any, **options: Any) -> Any:
        started = time.perf_counter()
        try:
            return call(*arguments, **options)
        finally:
            seconds.append(time.perf_counter() - started)

    return timed


def _costs(cell: dict[str, Any]) -> Costs:
    """The model's inputs, from one env runner alone."""
    return Costs(
        fragment_steps=cell["fragment_steps"],
        sampling_s=statistics.median(cell["fragment_s"]),
        driver_s=cell["driver_s"],
        weights_s=cell["weights_s"],
        learning_s=cell["learning_s"] / cell["fragment_steps"],
    )
