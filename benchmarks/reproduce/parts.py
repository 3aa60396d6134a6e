"""What there is to reproduce: each part's commands, what of it is kept, and for how long they run."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.reproduce.pictures import photograph

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results"
RUNS = ROOT / "runs" / "reproduce"
Command = tuple[str, ...]
"""Arguments of the Python interpreter."""
TRAINED: dict[str, Command] = {
    "train": ("--algo", "ppo"),
    "train_per_asset": ("--config", "tune_configs/ppo_per_asset.yaml"),
}
"""The runs of the quick start: name to arguments of train.py."""


@dataclass(frozen=True)
class Places:
    """Where things are written.

    Attributes:
        results: JSON that is committed.
        runs: Run folders and logs; not committed.
        documents: Folder of README.md and docs/.
        is_quick: Whether everything is cut down to minutes.
    """

    results: Path = RESULTS
    runs: Path = RUNS
    documents: Path = ROOT
    is_quick: bool = False

    @classmethod
    def quick(cls) -> Places:
        """Away from what is committed."""
        runs = ROOT / "runs" / "reproduce-quick"
        return cls(runs / "results", runs, runs / "documents", is_quick=True)


@dataclass(frozen=True)
class Part:
    """A piece that can be run by itself.

    Attributes:
        title: What comes of it.
        commands: One after the other; each goes on where it was interrupted, or begins anew.
        keep: Copies what is committed, when all commands have ended well.
        made: Files and folders from which the commands go on; without them they begin anew.
    """

    title: str
    commands: Callable[[Places], list[Command]]
    keep: Callable[[Places], None] = lambda places: None
    made: Callable[[Places], list[Path]] = lambda places: []

    def forget(self, places: Places) -> None:
        """Remove what was made."""
        for path in self.made(places):
            if path.is_dir():
                shutil.rmtree(path)
            path.unlink(missing_ok=True)


def _train(places: Places) -> list[Command]:
    for name in TRAINED:
        shutil.rmtree(places.runs / name, ignore_errors=True)  # minutes: not worth a resume
    steps = ("--total-timesteps", "20000") if places.is_quick else ()
    return [("train.py", *what, "--output-dir", str(places.runs / name), *steps) for name, what in TRAINED.items()]


def _keep_train(places: Places) -> None:
    places.results.mkdir(parents=True, exist_ok=True)
    for name in TRAINED:
        shutil.copyfile(places.runs / name / "results.json", places.results / f"{name}.json")
    (places.documents / "docs").mkdir(parents=True, exist_ok=True)
    shutil.copyfile(places.runs / "train" / "equity_curve.png", places.documents / "docs" / "equity_curve.png")


def _certification(places: Places) -> list[Command]:
    cut = ("--shorter", "50", "--seeds", "2", "--exams", "kelly-0.8", "mean-reversion") if places.is_quick else ()
    return [("-m", "benchmarks.learning.certification", "--runs", str(places.results / "certification"), *cut)]


def _ablation(places: Places) -> list[Command]:
    cut = ("--seeds", "1", "--steps", "20000") if places.is_quick else ()
    runs, output = places.results / "ablation", places.results / "ablation.json"
    return [("-m", "benchmarks.learning.ablation", "--runs", str(runs), "--output", str(output), *cut)]


def _tuning_gain(places: Places) -> list[Command]:
    cut = ("--quick",) if places.is_quick else ()
    return [
        ("-m", "benchmarks.learning.tuning_gain", "--output", str(places.results), "--runs", str(places.runs), *cut)
    ]


def _keep_search(places: Places) -> None:
    page = places.runs / "search" / "ppo_optimization_history.html"
    photograph(page, places.documents / "docs" / "search.png", (1120, 830))


def _keep_walk(places: Places) -> None:
    page = places.runs / "real-data" / "walk" / "report" / "report.html"
    if page.is_file():  # a walk that was made elsewhere has left its results alone
        photograph(page, places.documents / "docs" / "report.png", (1265, 830))


def _real_data(places: Places) -> list[Command]:
    cut = ("--quick",) if places.is_quick else ()
    where = ("--output", str(places.results / "real_data"), "--runs", str(places.runs / "real-data"))
    return [("-m", "benchmarks.real_data", *where, *cut)]


def _made_of_real_data(places: Places) -> list[Path]:
    return [places.runs / "real-data", places.results / "real_data"]


def _suite(name: str, *arguments: str) -> Callable[[Places], list[Command]]:
    def commands(places: Places) -> list[Command]:
        cut = ("--quick",) if places.is_quick else ()
        return [("-m", "benchmarks", *arguments, "--output", str(places.results), *cut)]

    return commands


PARTS: dict[str, Part] = {
    "train": Part("the runs of the quick start, beside what anyone can hold", _train, _keep_train),
    "certification": Part(
        "markets with a known optimum, beside the peers",
        _certification,
        made=lambda places: [places.results / "certification"],
    ),
    "ablation": Part("what each part of DQN brings", _ablation, made=lambda places: [places.results / "ablation"]),
    "tuning-gain": Part(
        "the tuned configuration against the default",
        _tuning_gain,
        _keep_search,
        lambda places: [places.runs / "search", places.runs / "tuning-gain"],
    ),
    "real-data": Part(
        "walk-forward on the bundled universe, and on factor funds", _real_data, _keep_walk, _made_of_real_data
    ),
    "throughput": Part("steps a second of PPO beside its peers", _suite("throughput")),
    "dqn": Part("steps a second of DQN beside its peers", _suite("dqn", "dqn")),
    "tuning": Part("early stopping, trials at a time, overhead of a search", _suite("tuning", "tuning")),
    "scaling": Part("env runners and nodes", _suite("scaling", "scaling")),
    "evaluation": Part("speed of figures and baselines", _suite("evaluation", "evaluation")),
    "size-and-power": Part("how often the tests behind a verdict err", _suite("size_and_power", "size-and-power")),
}
