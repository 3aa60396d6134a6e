"""What the project promises, and whether this run kept it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.throughput.contenders import SB3, STOCK
from benchmarks.throughput.summary import Side, Spread, fastest, ratio


@dataclass(frozen=True, slots=True)
class RatioTarget:
    """Ours over the fastest of the others, each in its best thread setting."""

    name: str
    part: str
    others: tuple[str, ...]
    at_least: float
    num_envs: int
    ours: str = "ours"


RATIO_TARGETS = (
    RatioTarget("sampling, 8 environments / stock runner", "sampling", STOCK, 4.0, 8),
    RatioTarget("sampling, 64 environments / stock runner", "sampling", STOCK, 6.5, 64),
    RatioTarget("sampling, 64 environments / bare loop", "sampling", ("bare",), 0.75, 64),
    RatioTarget("PPO / stock RLlib PPO", "training", STOCK, 2.5, 8),
    RatioTarget("PPO / best Stable-Baselines3", "training", SB3, 1.3, 8),
    RatioTarget("PPO / bare loop", "training", ("bare",), 0.85, 8),
    RatioTarget("PPO, 64 environments, minibatch 512 / bare loop", "large", ("bare",), 0.85, 64),
)
DQN_TARGETS = (
    RatioTarget("DQN updates / stock RLlib DQN", "dqn", ("dqn_stock",), 4.0, 8, ours="dqn_ours"),
    RatioTarget("DQN updates / Stable-Baselines3 DQN", "dqn", ("dqn_sb3",), 0.65, 8, ours="dqn_ours"),
)
REPLAY_MS = 0.5
BUFFER_BYTES = 1.15
KERNEL_STEPS_PER_SECOND = 500_000
TRAIN_MINUTES = 6.0
MEMORY_GROWTH = 0.02


def checked(all_sides: Sequence[Side], memory: dict[str, Any] | None, train_s: float | None) -> list[dict[str, Any]]:
    """Every target with what was measured; `met` is None where this run did not measure it."""
    rows = [_checked_ratio(target, all_sides) for target in RATIO_TARGETS]
    kernel = fastest(side for side in all_sides if side.contender == "kernel")
    speed = kernel.steps_per_second if kernel else None
    rows.append(_row("environment kernel, 256 environments, steps/s per core", speed, at_least=KERNEL_STEPS_PER_SECOND))
    minutes = Spread.of([train_s / 60.0]) if train_s else None
    rows.append(_row("make train, 500000 PPO steps, minutes", minutes, at_most=TRAIN_MINUTES))
    growth = Spread.of([memory["growth"]]) if memory else None
    rows.append(_row("growth of peak memory from 200000 to 2 million steps", growth, at_most=MEMORY_GROWTH))
    return rows


def checked_dqn(all_sides: Sequence[Side]) -> list[dict[str, Any]]:
    """The targets of the DQN suite."""
    rows = [_checked_ratio(target, all_sides) for target in DQN_TARGETS]
    buffer = fastest(side for side in all_sides if side.contender == "replay_ours")
    milliseconds = memory = None
    if buffer is not None:
        answers = list(buffer.by_repetition.values())
        milliseconds = Spread.of([1e3 / float(answer["steps_per_second"]) for answer in answers])
        memory = Spread.of([answer["buffer_mb"] / answer["observations_mb"] for answer in answers])
    rows.append(_row("batch of 64 and its new priorities, milliseconds", milliseconds, at_most=REPLAY_MS))
    rows.append(_row("memory of a full buffer / its observations", memory, at_most=BUFFER_BYTES))
    return rows


def _checked_ratio(target: RatioTarget, all_sides: Sequence[Side]) -> dict[str, Any]:
    here = [s for s in all_sides if s.part == target.part and s.setting["num_envs"] == target.num_envs]
    ours = fastest(side for side in here if side.contender == target.ours)
    other = fastest(side for side in here if side.contender in target.others)
    measured = ratio(ours, other) if ours and other else None
    row = _row(target.name, measured, at_least=target.at_least)
    if ours and other:
        row["sides"] = [{"contender": s.contender, "num_threads": s.setting["num_threads"]} for s in (ours, other)]
    return row


def _row(
    name: str, measured: Spread | None, *, at_least: float | None = None, at_most: float | None = None
) -> dict[str, Any]:
    bound = {"at_least": at_least} if at_least is not None else {"at_most": at_most}
    if measured is None:
        return {"name": name, **bound, "median": None, "range": None, "met": None}
    met = measured.median >= at_least if at_least is not None else measured.median <= at_most
    return {"name": name, **bound, "median": measured.median, "range": [measured.low, measured.high], "met": met}
