"""What each part of DQN brings: `python -m benchmarks.learning.ablation [--seeds 5] [--steps 200000] [--jobs 2]`.

Six variants learn the Kelly market with optimum 0.8 on a ladder of 20 % steps, with the smallest network of the search
space: one asset needs no more. Every 10000 environment steps the greedy policy's growth is computed exactly, and its
action values are compared with what they should be. Each run leaves a file; a run whose file is there is not made
again, so that an interrupted benchmark goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import RESULTS, SCRATCH, description, in_parallel, one_process, output_of, write_whole

SEEDS, STEPS = 5, 200_000
INTERVAL = 10_000
HIDDEN_SIZES = (128, 64)
TRAINING = {
    "learning_rate": 1e-4,
    "learning_rate_end": None,
    "gamma": 0.99,
    "batch_size": 64,
    "counterfactual_actions": 0,
}
"""A rate that falls would hide how restless a variant is, and a short horizon that it overestimates."""
REACHED = 0.9
"""Share of the optimal growth."""
_OFF = {"training": {"double_q": False, "prioritized": False}, "network": {"dueling": False, "noisy": False}}
VARIANTS: dict[str, dict[str, dict[str, bool]]] = {
    "vanilla": _OFF,
    "+ double": {**_OFF, "training": {**_OFF["training"], "double_q": True}},
    "+ prioritized": {**_OFF, "training": {**_OFF["training"], "prioritized": True}},
    "+ dueling": {**_OFF, "network": {**_OFF["network"], "dueling": True}},
    "+ noisy": {**_OFF, "network": {**_OFF["network"], "noisy": True}},
    "all": {},
}


def learn(variant: str, seed: int, steps: int) -> list[dict[str, float]]:
    """One run: its learning curve."""
    import torch

    from benchmarks.learning.certificates import FREE_TRADING, train
    from benchmarks.learning.known_optima import kelly
    from rllib_portfolio.algorithms.policy_export import torch_module
    from rllib_portfolio.config import DQNRunConfig
    from rllib_portfolio.env import PortfolioVectorEnv

    certificate = kelly(0.2, 0.58)
    switches = VARIANTS[variant]
    config = DQNRunConfig(
        seed=seed,
        environment={**FREE_TRADING, "action_table": "ladder", "action_levels": 5},
        network={**switches.get("network", {}), "hidden_sizes": HIDDEN_SIZES, "sigma0": 0.5},
        training={**TRAINING, **switches.get("training", {})},
        schedule={"total_timesteps": steps},
    )
    env = PortfolioVectorEnv(64, certificate.market(seed + 1000), "all", random_start=True, **FREE_TRADING)
    observations, _ = env.reset(seed=seed)
    curve = []

    def watch(step: int, algorithm: Any, policy: Any) -> None:
        growth, gap = certificate.shares(policy, seed, num_envs=8, days=64)
        # On this market no action changes what comes later: the value is the reward of the greedy action for ever.
        reward = _growth(policy(observations)) - _growth(np.array([[0.5, 0.5]]))
        realised = reward / (1.0 - config.training.gamma)
        with torch.inference_mode():
            values = torch_module(policy).compute_q_values({"obs": torch.from_numpy(observations)})["qf_preds"]
        predicted = float(values.max(-1).values.mean()) * algorithm.reward_scale.std
        curve.append({"steps": step, "growth": growth, "gap": gap, "predicted": predicted, "realised": float(realised)})

    with one_process(), tempfile.TemporaryDirectory() as folder:
        train(config, certificate.market(seed), Path(folder), watch, INTERVAL)
    return curve


def _growth(weights: Any) -> float:
    """Expected log growth of weights [B, 2] on a coin of 58 to 42 for 20 %, mean."""
    return float(np.mean(np.log1p(weights[:, :1] * [0.2, -0.2]) @ [0.58, 0.42]))


def steps_to(curve: Sequence[dict[str, float]], share: float = REACHED) -> float:
    """Steps at the first of two evaluations in a row at or above `share` of the optimal growth; NaN if never."""
    for now, later in pairwise(curve):
        if min(now["growth"], later["growth"]) >= share:
            return now["steps"]
    return float("nan")


def overestimation(curve: Sequence[dict[str, float]]) -> float:
    """Predicted less realised value over the second half of a run, mean, in log wealth."""
    half = curve[len(curve) // 2 :]
    return float(np.mean([point["predicted"] - point["realised"] for point in half]))


def summary(runs: dict[str, dict[str, list[dict[str, float]]]]) -> list[dict[str, Any]]:
    """One row for each variant."""
    rows = []
    for variant, seeds in runs.items():
        reached = [steps_to(curve) for curve in seeds.values()]
        biases = [overestimation(curve) for curve in seeds.values()]
        ends = [float(np.mean([point["growth"] for point in curve[-5:]])) for curve in seeds.values()]
        in_time = [step if np.isfinite(step) else np.inf for step in reached]
        rows.append(
            {
                "variant": variant,
                "seeds": len(seeds),
                "reached": int(np.isfinite(reached).sum()),
                "steps_to_90": _finite(np.median(in_time)),
                "steps_to_90_range": [_finite(min(in_time)), _finite(max(in_time))],
                "overestimation": float(np.median(biases)),
                "overestimation_range": [min(biases), max(biases)],
                "final_growth": float(np.median(ends)),
                "final_growth_range": [min(ends), max(ends)],
            }
        )
    return rows


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def content(values: Mapping[str, Any]) -> str:
    """Return the table of a run's results as markdown."""

    def steps(value: float | None) -> str:
        return "never" if value is None else f"{value / 1000:.0f} k"

    lines = [
        "| variant | steps to 90 % of the optimal growth | range | seeds that got there | overestimation | range "
        "| growth at the end | range |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in values["summary"]:
        low, high = row["steps_to_90_range"]
        bias_low, bias_high = row["overestimation_range"]
        end_low, end_high = row["final_growth_range"]
        lines.append(
            f"| {row['variant']} | {steps(row['steps_to_90'])} | {steps(low)} to {steps(high)} "
            f"| {row['reached']} of {row['seeds']} "
            f"| {row['overestimation']:+.3f} | {bias_low:+.3f} to {bias_high:+.3f} "
            f"| {row['final_growth']:.1%} | {end_low:.1%} to {end_high:.1%} |"
        )
    return "\n".join(lines)


def main() -> int:
    """Make the runs that are missing, then write the JSON."""
    arguments = _parser().parse_args()
    is_whole = (arguments.seeds, arguments.steps) == (SEEDS, STEPS)
    arguments.output = arguments.output or (RESULTS if is_whole else SCRATCH) / "ablation.json"
    arguments.runs = arguments.runs or SCRATCH / "ablation"
    if arguments.variant is not None:
        print(json.dumps(learn(arguments.variant, arguments.seed, arguments.steps)))
        return 0
    jobs = [(variant, seed) for seed in range(arguments.seeds) for variant in VARIANTS]
    in_parallel(lambda job: _make(*job, arguments), jobs, arguments.jobs)
    runs = dict(_collected(arguments))
    values = {"machine": description(), "steps": arguments.steps, "summary": summary(runs), "runs": runs}
    write_whole(arguments.output, json.dumps(values) + "\n")
    print(content(values))
    print(f"Wrote {arguments.output}.")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.learning.ablation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--steps", type=int, default=STEPS, help="environment steps of each run")
    parser.add_argument("--jobs", type=int, default=2, help="runs at the same time")
    parser.add_argument("--runs", type=Path, help="where finished runs are kept (default: runs/benchmarks/ablation)")
    parser.add_argument(
        "--output",
        type=Path,
        help="JSON (default: that of benchmarks/results; for less: of runs/benchmarks)",
    )
    parser.add_argument("--variant", choices=list(VARIANTS), help=argparse.SUPPRESS)  # one run, in its own process
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    return parser


def _file(variant: str, seed: int, arguments: argparse.Namespace) -> Path:
    name = variant.replace("+ ", "").replace(" ", "_")
    return arguments.runs / f"{name}_{seed}_{arguments.steps}.json"


def _make(variant: str, seed: int, arguments: argparse.Namespace) -> str:
    path = _file(variant, seed, arguments)
    if path.is_file():
        return f"{variant}, seed {seed}: made before"
    output = output_of(
        "benchmarks.learning.ablation", "--variant", variant, "--seed", str(seed), "--steps", str(arguments.steps)
    )
    write_whole(path, output.strip().splitlines()[-1])
    return f"{variant}, seed {seed}"


def _collected(arguments: argparse.Namespace) -> Iterator[tuple[str, dict[str, list[dict[str, float]]]]]:
    for variant in VARIANTS:
        files = {str(seed): _file(variant, seed, arguments) for seed in range(arguments.seeds)}
        yield variant, {seed: json.loads(path.read_text()) for seed, path in files.items()}


if __name__ == "__main__":
    sys.exit(main())
