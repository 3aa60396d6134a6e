"""Effect of each part of DQN: `python -m benchmarks.learning.ablation [--seeds 5] [--steps 200000] [--jobs 2]`.

Six variants learn the Kelly market with optimum 0.8, on an action table in steps of 20 %, with the smallest network of
the search space, which is enough for one asset. Every 10,000 environment steps the growth of the greedy policy is
computed exactly, and its action values are compared with the true ones. Each run writes a file. An interrupted
benchmark makes only the runs whose files are missing.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
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
"""A falling learning rate would hide how unstable a variant is, and a short horizon how much it overestimates."""
REACHED = 0.9
"""Share of the optimal growth."""
PARTS = {"double": "double_q", "prioritized": "prioritized", "dueling": "dueling", "noisy": "noisy"}
"""Switches of the training section (the first two) and of the network (the others)."""
VARIANTS = ("vanilla", *(f"+ {part}" for part in PARTS), "all")
TITLES = {
    "vanilla": "none of the parts",
    "+ double": "only double Q-learning",
    "+ prioritized": "only prioritized replay",
    "+ dueling": "only the dueling network",
    "+ noisy": "only noisy layers",
    "all": "all four parts",
}
"""Maps each variant to its name in the table."""


def learn(variant: str, seed: int, steps: int) -> list[dict[str, float]]:
    """Make one run and return its learning curve."""
    import torch

    from benchmarks.learning.certificates import FREE_TRADING, train
    from benchmarks.learning.known_optima import kelly
    from rllib_portfolio.algorithms.policy_export import torch_module
    from rllib_portfolio.config import DQNRunConfig
    from rllib_portfolio.env import PortfolioVectorEnv

    certificate = kelly(0.2, 0.58)
    switches = {name: variant in ("all", f"+ {part}") for part, name in PARTS.items()}
    config = DQNRunConfig(
        seed=seed,
        environment={**FREE_TRADING, "action_table": "ladder", "action_levels": 5},
        network={name: switches[name] for name in ("dueling", "noisy")} | {"hidden_sizes": HIDDEN_SIZES, "sigma0": 0.5},
        training=TRAINING | {name: switches[name] for name in ("double_q", "prioritized")},
        schedule={"total_timesteps": steps},
    )
    env = PortfolioVectorEnv(64, certificate.market(seed + 1000), "all", random_start=True, **FREE_TRADING)
    observations, _ = env.reset(seed=seed)
    curve = []

    def watch(step: int, algorithm: Any, policy: Any) -> None:
        growth, gap = certificate.shares(policy, seed, num_envs=8, days=64)
        # On this market no action affects later days, so the value is the discounted sum of equal rewards.
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
    """Return the mean expected log growth of weights [B, 2] on the coin that gains or loses 20 % (58 to 42 %)."""
    return float(np.mean(np.log1p(weights[:, :1] * [0.2, -0.2]) @ [0.58, 0.42]))


def steps_to(curve: Sequence[dict[str, float]], share: float = REACHED) -> float:
    """Return the steps at the first of two consecutive evaluations that reach `share` of the optimum, else infinity."""
    found = (now["steps"] for now, later in pairwise(curve) if min(now["growth"], later["growth"]) >= share)
    return next(found, np.inf)


def overestimation(curve: Sequence[dict[str, float]]) -> float:
    """Return the mean of predicted minus realised value over the second half of a run, in log wealth."""
    half = curve[len(curve) // 2 :]
    return float(np.mean([point["predicted"] - point["realised"] for point in half]))


def summary(runs: Mapping[str, Mapping[str, Sequence[dict[str, float]]]]) -> list[dict[str, Any]]:
    """Return one row for each variant."""
    rows = []
    for variant, curves in ((variant, list(seeds.values())) for variant, seeds in runs.items()):
        reached = [steps_to(curve) for curve in curves]
        figures = {
            "steps_to_90": reached,
            "overestimation": [overestimation(curve) for curve in curves],
            "final_growth": [np.mean([point["growth"] for point in curve[-5:]]) for curve in curves],
        }
        row = {"variant": variant, "seeds": len(curves), "reached": int(np.isfinite(reached).sum())}
        for name, values in figures.items():
            row |= {name: _finite(np.median(values)), f"{name}_range": [_finite(min(values)), _finite(max(values))]}
        rows.append(row)
    return rows


def _finite(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None


def content(values: Mapping[str, Any]) -> str:
    """Return the table of a run's results as markdown."""

    def steps(value: float | None) -> str:
        return "never" if value is None else f"{1000 * round(value / 1000):,}"

    patterns = {"steps_to_90": steps, "overestimation": "{:+.3f}".format, "final_growth": "{:.1%}".format}
    rows = []
    for row in values["summary"]:
        cells = [[text(row[name]), " to ".join(map(text, row[f"{name}_range"]))] for name, text in patterns.items()]
        rows.append([TITLES[row["variant"]], *cells[0], f"{row['reached']} of {row['seeds']}", *cells[1], *cells[2]])
    head = [
        "variant",
        "steps to 90 % of the optimal growth",
        "range",
        "seeds that reached it",
        "overestimation",
        "range",
    ]
    lines = [f"| {' | '.join(cells)} |" for cells in ([*head, "growth at the end", "range"], *rows)]
    return "\n".join([lines[0], "|---" + "|---:" * 7 + "|", *lines[1:]])


def main() -> int:
    """Make the missing runs, each in its own process, and write the JSON file."""
    arguments = _parser().parse_args()
    if arguments.run is not None:
        variant, seed = arguments.run
        print(json.dumps(learn(variant, int(seed), arguments.steps)))
        return 0
    is_whole = (arguments.seeds, arguments.steps) == (SEEDS, STEPS)
    output = arguments.output or (RESULTS if is_whole else SCRATCH) / "ablation.json"
    runs = arguments.runs or SCRATCH / "ablation"

    def file(variant: str, seed: int) -> Path:
        return runs / f"{variant.removeprefix('+ ')}_{seed}_{arguments.steps}.json"

    def make(job: tuple[str, int]) -> str:
        variant, seed = job
        if file(*job).is_file():
            return f"{variant}, seed {seed}: made before"
        text = output_of("benchmarks.learning.ablation", "--run", variant, str(seed), "--steps", str(arguments.steps))
        write_whole(file(*job), text.strip().splitlines()[-1])
        return f"{variant}, seed {seed}"

    seeds = range(arguments.seeds)
    in_parallel(make, [(variant, seed) for seed in seeds for variant in VARIANTS], arguments.jobs)
    found = {name: {str(seed): json.loads(file(name, seed).read_text()) for seed in seeds} for name in VARIANTS}
    values = {"machine": description(), "steps": arguments.steps, "summary": summary(found), "runs": found}
    write_whole(output, json.dumps(values) + "\n")
    print(f"{content(values)}\nWrote {output}.")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.learning.ablation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=SEEDS, help="number of seeds (default: 5)")
    parser.add_argument("--steps", type=int, default=STEPS, help="environment steps of each run (default: 200,000)")
    parser.add_argument("--jobs", type=int, default=2, help="number of runs at the same time (default: 2)")
    parser.add_argument("--runs", type=Path, help="folder of finished runs (default: runs/benchmarks/ablation)")
    parser.add_argument("--output", type=Path, help="JSON file (default: in benchmarks/results, or in runs/benchmarks)")
    parser.add_argument("--run", nargs=2, metavar=("VARIANT", "SEED"), help=argparse.SUPPRESS)  # one, in this process
    return parser


if __name__ == "__main__":
    sys.exit(main())
