"""Certification on known optima: `python -m benchmarks.learning.certification [--seeds N] [--jobs 2]`.

Each candidate learns each market of `known_optima` with each seed. A file holds what one candidate did on one market,
seed by seed; what is in it is not made again, so that an interrupted suite goes on where it stopped. `python -m
benchmarks.documents` makes tables of them.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.learning.known_optima import EXAMS
from benchmarks.machine import RESULTS, SCRATCH, description, in_parallel, one_process, output_of, write_whole

RUNS = RESULTS / "certification"
SHORT_RUNS = SCRATCH / "certification"
MODULE = "benchmarks.learning.certification"
STEPS = {"ppo": 300_000, "dqn": 60_000, "apg": 100_000}
"""Environment steps of each run."""
FRESH_SEED = 20
POINTS = 15
"""Number of points of each learning curve."""


@dataclass(frozen=True)
class Candidate:
    """A configuration that learns the markets.

    Attributes:
        title: In tables.
        algo: ppo, dqn or apg.
        contender: A key of `contenders.CONTENDERS`.
        changes: Sections of the configuration on top of everyone's.
        exams: Markets that it learns; empty for all.
        seeds: So many, unless the command line asks for others.
        steps: Of each run; None for those of the algorithm.
    """

    title: str
    algo: str
    contender: str = "ours"
    changes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    exams: tuple[str, ...] = ()
    seeds: int = 5
    steps: int | None = None

    @property
    def first_seed(self) -> int:
        """Seeds count from here on: our settings were chosen with seeds below 20."""
        return FRESH_SEED if self.contender == "ours" else 0

    @property
    def all_exams(self) -> tuple[str, ...]:
        """The markets that it learns."""
        return self.exams or tuple(EXAMS)


_COMPARED = ("kelly-0.8", "kelly-0.2", "kelly-1", "merton", "regimes", "hidden-regimes", "mean-reversion")
_COMPARED += ("costs", "oracle", "noise")
"""Markets that peers have learned, too."""
_RARE = ("crash", "crash-mixed")
_SLOW = ("slow-0.53", "slow-0.54")
CANDIDATES: dict[str, Candidate] = {
    "ppo": Candidate("PPO", "ppo"),
    "ppo-long": Candidate("PPO, a million steps", "ppo", exams=("kelly-0.2", "regimes", "fat-tails"), steps=1_000_000),
    "ppo-per-asset": Candidate(
        "PPO per asset, a million steps",
        "ppo",
        changes={"network": {"architecture": "per_asset", "hidden_sizes": [16]}},
        exams=("signals",),
        steps=1_000_000,
    ),
    "ppo-rare": Candidate(
        "PPO, batches of 8,192, a million steps",
        "ppo",
        changes={
            "resources": {"num_envs_per_env_runner": 256},
            "training": {"minibatch_size": 2048, "max_gradient_norm": None},
        },
        exams=_RARE,
        steps=1_000_000,
    ),
    "ppo-sb3": Candidate("Stable-Baselines3 PPO", "ppo", "sb3", exams=_COMPARED),
    "ppo-rllib": Candidate("unmodified RLlib PPO", "ppo", "rllib", exams=_COMPARED),
    "dqn": Candidate("DQN", "dqn", seeds=10),
    "dqn-long": Candidate("DQN, 150,000 steps", "dqn", exams=_SLOW, seeds=10, steps=150_000),
    "dqn-rare": Candidate(
        "DQN, uniform replay, 600,000 steps",
        "dqn",
        # With fewer draws than transitions most wait at the largest priority, so that priorities only add variance.
        # The optimum is a few tenths of a basis point above its neighbours: weights are averaged over a long time.
        changes={
            "training": {
                "prioritized": False,
                "steps_per_update": 32,
                "buffer_capacity": 600_000,
                "target_update_interval": 100_000,
            }
        },
        exams=_RARE,
        seeds=10,
        steps=600_000,
    ),
    "apg": Candidate("APG", "apg"),
    "apg-rare": Candidate(
        "APG, 128 portfolios, no clipping, a million steps",
        "apg",
        changes={
            "resources": {"num_envs_per_env_runner": 128},
            "training": {"max_gradient_norm": None, "learning_rate": 3e-3},
        },
        exams=("crash",),
        steps=1_000_000,
    ),
    "apg-critic": Candidate(
        "APG with a critic", "apg", changes={"training": {"bootstrap": True}}, exams=(*_SLOW, "costs")
    ),
    "dqn-sb3": Candidate("Stable-Baselines3 DQN", "dqn", "sb3", exams=_COMPARED),
    "dqn-rllib": Candidate("unmodified RLlib DQN", "dqn", "rllib", exams=_COMPARED, seeds=3),
}


def learn(candidate: Candidate, exam: str, seed: int, steps: int) -> dict[str, Any]:
    """Make one run and return its learning curve and the final report. Ray must be running."""
    from benchmarks.learning.contenders import CONTENDERS, action_table, configuration

    certificate = EXAMS[exam].certificate()
    config = configuration(certificate, candidate.algo, seed, steps, candidate.changes)
    market = certificate.market(seed)
    actions = action_table(config, market)
    table = None if actions is None else actions.weights[: actions.hold]
    run: dict[str, Any] = {"curve": []}
    busy_s = 0.0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "market.npz"
        market.save(path)
        started = time.process_time()

        def watch(done: int, decide: Any) -> None:
            nonlocal busy_s, started
            busy_s += time.process_time() - started
            growth, gap = certificate.shares(decide, seed, num_envs=16, days=126, table=table)
            run["curve"].append({"steps": done, "cpu_s": round(busy_s, 2), "growth": growth, "gap": gap})
            if done >= steps:
                run["final"] = certificate.report(decide, seed, table)
            started = time.process_time()

        CONTENDERS[candidate.contender](config, market, path, max(1, steps // POINTS), watch)
    return run


def run_file(name: str, exam: str, folder: Path) -> Path:
    """Return the path of the file with the runs of a candidate on a market."""
    return folder / f"{name}_{exam}.json"


def made(path: Path, steps: int) -> dict[str, Any]:
    """Return the runs of a file by seed; none if they have another length."""
    values = json.loads(path.read_text()) if path.is_file() else {}
    return dict(values["seeds"]) if values.get("steps") == steps else {}


def make(name: str, exam: str, seeds: Sequence[int], steps: int, folder: Path) -> None:
    """Make the missing runs of a candidate on a market in this process."""
    path = run_file(name, exam, folder)
    runs = made(path, steps)
    with one_process():
        for seed in seeds:
            if str(seed) not in runs:
                machine = description()
                run = learn(CANDIDATES[name], exam, seed, steps)
                runs[str(seed)] = {"processor": machine["processor"], **run}
                values = {"candidate": name, "exam": exam, "steps": steps, "machine": machine, "seeds": runs}
                write_whole(path, json.dumps(values, indent=1) + "\n")


def jobs(arguments: argparse.Namespace) -> Iterator[tuple[str, str, range, int]]:
    """Yield candidate, market, seeds and steps of all requested runs."""
    for name in arguments.candidates or CANDIDATES:
        candidate = CANDIDATES[name]
        seeds = range(candidate.first_seed, candidate.first_seed + (arguments.seeds or candidate.seeds))
        steps = max(2048, (candidate.steps or STEPS[candidate.algo]) // arguments.shorter)
        for exam in arguments.exams or candidate.all_exams:
            if exam in candidate.all_exams:
                yield name, exam, seeds, steps


def main() -> int:
    """Make the missing runs."""
    arguments = parser().parse_args()
    arguments.runs = arguments.runs or (SHORT_RUNS if arguments.shorter > 1 else RUNS)
    if arguments.one:
        (job,) = jobs(arguments)
        make(*job, arguments.runs)
        return 0

    def work(job: tuple[str, str, range, int]) -> str:
        name, exam, seeds, steps = job
        there = made(run_file(name, exam, arguments.runs), steps)
        missing = [seed for seed in seeds if str(seed) not in there]
        if not missing:
            return f"{CANDIDATES[name].title}, {EXAMS[exam].title}: made before"
        output_of(
            MODULE,
            *("--one", "--candidates", name, "--exams", exam, "--seeds", str(len(seeds))),
            *("--shorter", str(arguments.shorter), "--runs", str(arguments.runs)),
        )
        return f"{CANDIDATES[name].title}, {EXAMS[exam].title}: {len(missing)} runs"

    in_parallel(work, list(jobs(arguments)), arguments.jobs)
    return 0


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    result = argparse.ArgumentParser(prog=f"python -m {MODULE}", description=__doc__)
    result.add_argument("--candidates", nargs="+", choices=list(CANDIDATES), help="default: all")
    result.add_argument("--exams", nargs="+", choices=list(EXAMS), help="markets (default: all)")
    result.add_argument("--seeds", type=int, help="of each candidate (default: 5, of our DQN 10, of RLlib's DQN 3)")
    result.add_argument("--jobs", type=int, default=2, help="processes at the same time")
    result.add_argument("--shorter", type=int, default=1, metavar="N", help="an Nth of the steps, to try it")
    result.add_argument(
        "--runs",
        type=Path,
        help="where finished runs are kept (default: benchmarks/results; short ones: runs/benchmarks)",
    )
    result.add_argument("--one", action="store_true", help=argparse.SUPPRESS)  # one candidate and market, here
    return result


if __name__ == "__main__":
    sys.exit(main())
