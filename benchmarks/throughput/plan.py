"""What is measured: the parts of the suite, their cells, and the order in which a repetition visits them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from benchmarks.throughput.setting import Setting

NUM_ENVS_SWEEP = (1, 4, 8, 64, 256)
NUM_ASSETS_SWEEP = (20, 100, 500)
COMPARED_THREADS = (1, 2)
DEFAULT = Setting()
LARGE = Setting(num_envs=64, minibatch_size=512)


@dataclass(frozen=True, slots=True)
class Cell:
    """One thing to measure, several times."""

    part: str
    contender: str
    task: str
    """"train": sample and update; "sample": collect only."""
    setting: Setting
    with_components: bool = False


@dataclass(frozen=True, slots=True)
class Part:
    """Cells that are compared with each other, so that they are measured side by side."""

    title: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to measure."""

    repetitions: int
    measure_s: float
    """Of each cell, in each repetition."""
    warmup_iterations: int


FULL = Effort(repetitions=3, measure_s=5.0, warmup_iterations=2)
QUICK = Effort(repetitions=1, measure_s=2.0, warmup_iterations=1)


def full_parts() -> dict[str, Part]:
    """Everything."""
    return {
        "training": Part("PPO end to end, 8 environments, minibatch 64", _training()),
        "large": Part("PPO end to end, 64 environments, minibatch 512", _large()),
        "products": Part(
            "What the limit is made of: matrix products of the updates, without anything else", _products()
        ),
        "sampling": Part("Sampling", _sampling()),
        "environment": Part("The environment alone, 256 environments", _environment()),
        "runners": Part("Env runners in processes of their own, 64 environments each", _runners()),
        "assets": Part("More assets, 64 environments, minibatch 512", _assets()),
        "components": Part("Where the time goes", _components()),
    }


def dqn_parts() -> dict[str, Part]:
    """DQN beside its peers, with one torch thread."""
    contenders = ("dqn_ours", "dqn_stock", "dqn_sb3")
    return {
        "dqn": Part("DQN end to end, 8 environments, batch 64", tuple(_cells("dqn", contenders, "train", DEFAULT))),
        "replay": Part(
            "A batch of 64 from a full buffer of 100000, and new priorities for it",
            tuple(_cells("replay", ("replay_ours", "replay_stock"), "train", DEFAULT)),
        ),
    }


def quick_parts() -> dict[str, Part]:
    """What two minutes allow: one torch thread, and the comparisons that matter most."""
    training = _cells("training", ("ours", "stock", "sb3_dummy", "cleanrl", "bare"), "train", DEFAULT)
    sampling = [
        cell
        for num_envs in (8, 64)
        for cell in _cells("sampling", ("ours", "stock", "bare"), "sample", _sampling_setting(num_envs))
    ]
    full = full_parts()
    return {
        "training": Part(full["training"].title, tuple(training)),
        "sampling": Part(full["sampling"].title, tuple(sampling)),
        "environment": full["environment"],
    }


def in_order(cells: Sequence[Cell], repetition: int) -> list[Cell]:
    """Shuffled, and in the next repetition the other way round: a drift of the machine's speed favours nobody."""
    order = list(cells)
    random.Random(repetition // 2).shuffle(order)
    return order[::-1] if repetition % 2 else order


def _cells(
    part: str,
    contenders: Sequence[str],
    task: str,
    setting: Setting,
    threads: Sequence[int] = (1,),
    with_components: bool = False,
) -> list[Cell]:
    return [
        Cell(part, contender, task, replace(setting, num_threads=num_threads), with_components)
        for contender in contenders
        for num_threads in threads
    ]


def _training() -> tuple[Cell, ...]:
    everyone = ("ours", "stock", "stock_sync", "sb3_dummy", "sb3_subproc", "cleanrl", "bare")
    return tuple(_cells("training", everyone, "train", DEFAULT, COMPARED_THREADS))


def _large() -> tuple[Cell, ...]:
    return tuple(_cells("large", ("ours", "stock", "cleanrl", "bare"), "train", LARGE, COMPARED_THREADS))


def _products() -> tuple[Cell, ...]:
    return tuple(
        cell
        for setting in (DEFAULT, LARGE)
        for cell in _cells("products", ("products", "bare"), "train", setting, COMPARED_THREADS)
    )


def _sampling() -> tuple[Cell, ...]:
    cells = []
    for num_envs in NUM_ENVS_SWEEP:
        setting = _sampling_setting(num_envs)
        threads = COMPARED_THREADS if num_envs in (8, 64) else (1,)
        contenders = ("ours", "stock", "bare") if threads == (1,) else ("ours", "stock", "stock_sync", "bare")
        cells += _cells("sampling", contenders, "sample", setting, threads)
    return tuple(cells)


def _sampling_setting(num_envs: int) -> Setting:
    """Fragments of about 4096 steps, and of 32 rows at least and 256 at most."""
    return replace(DEFAULT, num_envs=num_envs, rollout_steps=min(256, max(32, 4096 // num_envs)))


def _environment() -> tuple[Cell, ...]:
    return tuple(_cells("environment", ("kernel", "vector_env"), "sample", replace(DEFAULT, num_envs=256)))


def _runners() -> tuple[Cell, ...]:
    cells = []
    for num_env_runners in (1, 2):
        setting = replace(LARGE, num_env_runners=num_env_runners, rollout_steps=64)
        for task in ("sample", "train"):
            cells += _cells("runners", ("ours", "stock"), task, setting)
    return tuple(cells)


def _assets() -> tuple[Cell, ...]:
    cells = []
    for num_assets in NUM_ASSETS_SWEEP:
        setting = replace(LARGE, num_assets=num_assets, rollout_steps=64)
        cells += _cells("assets", ("ours", "bare"), "train", setting)
        cells += _cells("assets", ("vector_env",), "sample", setting)
    return tuple(cells)


def _components() -> tuple[Cell, ...]:
    sides = ("ours", "stock", "sb3_dummy", "bare")
    cells = _cells("components", sides, "train", DEFAULT, with_components=True)
    return tuple(cells + _cells("components", ("ours", "bare"), "train", LARGE, with_components=True))
