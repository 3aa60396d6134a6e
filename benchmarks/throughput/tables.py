"""The tables of a throughput run from its JSON file.

Speeds are compared within a repetition, because a slow hour of the machine affects both sides.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from benchmarks.tables import Table, markdown
from benchmarks.throughput.contenders import CONTENDERS

TITLES = {
    "training": "PPO, sampling and learning, 8 environments, minibatch 64",
    "large": "PPO, sampling and learning, 64 environments, minibatch 512",
    "sampling": "Sampling",
    "environment": "The environment alone, 256 environments",
    "runners": "Env runners in processes of their own, 64 environments each",
    "assets": "More assets, 64 environments, minibatch 512",
    "dqn": "DQN, sampling and learning, 8 environments, batch 64",
    "replay": "Drawing a batch of 64 from a full buffer of 100,000 and updating its priorities",
    "gpu": "PPO on a GPU, 256 environments",
}
OURS = ("ours", "dqn_ours", "replay_ours")
STOCK, SB3 = ("stock", "stock_sync"), ("sb3_dummy", "sb3_subproc")
SETTINGS = {
    "task": "",
    "num_envs": "environments",
    "num_env_runners": "env runners",
    "num_assets": "assets",
    "hidden_sizes": "network",
    "minibatch_size": "minibatch",
    "device": "device",
    "mixed_precision": "precision",
    "num_threads": "torch threads",
}
"""Maps each setting that may differ between the rows of a part to its name in tables."""
CELL = ["part", "contender", *SETTINGS]


class Target(NamedTuple):
    """A least ratio of our speed to that of the fastest of some peers, each in its best thread setting."""

    name: str
    part: str
    num_envs: int
    peers: tuple[str, ...]
    at_least: float
    ours: str = "ours"


TARGETS = (
    Target("sampling, 8 environments / RLlib's env runner", "sampling", 8, STOCK, 4.0),
    Target("sampling, 64 environments / RLlib's env runner", "sampling", 64, STOCK, 6.5),
    Target("sampling, 64 environments / bare loop", "sampling", 64, ("bare",), 0.75),
    Target("PPO / unmodified RLlib PPO", "training", 8, STOCK, 2.5),
    Target("PPO / fastest Stable-Baselines3 PPO", "training", 8, SB3, 1.3),
    Target("PPO / bare loop", "training", 8, ("bare",), 0.85),
    Target("PPO, 64 environments, minibatch 512 / bare loop", "large", 64, ("bare",), 0.85),
    Target("DQN updates / unmodified RLlib DQN", "dqn", 8, ("dqn_stock",), 4.0, "dqn_ours"),
    Target("DQN updates / Stable-Baselines3 DQN", "dqn", 8, ("dqn_sb3",), 0.65, "dqn_ours"),
)


def speeds(measurements: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Return steps a second: a row for each cell, a column for each repetition; failed measurements are left out."""
    rows = []
    for each in measurements:
        if "error" not in each:
            setting = {"device": "cpu", **each["setting"], "task": each["task"]}
            precision = setting.get("mixed_precision") or "none"
            text = {"hidden_sizes": str(list(setting["hidden_sizes"])), "mixed_precision": precision}
            rows.append({**each, **setting, **text})
    found = pd.DataFrame(rows, columns=[*CELL, "repetition", "steps_per_second"])
    return found.pivot_table(index=CELL, columns="repetition", values="steps_per_second")


def fastest(found: pd.DataFrame, contenders: Iterable[str], **setting: Any) -> pd.Series | None:
    """Return the speeds of the cell with the highest median among those of `contenders` with this part and setting."""
    index = found.index
    here = index.get_level_values("contender").isin(list(contenders))
    for name, value in setting.items():
        here &= index.get_level_values(name) == value
    return found[here].loc[found[here].median(axis=1).idxmax()] if here.any() else None


def core_share(measurements: Iterable[Mapping[str, Any]]) -> float | None:
    """Processor time over wall time of measurements with one thread and one process, median: 1 on a free machine."""
    shares = [
        each["cpu_seconds"] / each["seconds"]
        for each in measurements
        if "cpu_seconds" in each
        and each["setting"]["num_threads"] == 1
        and each["setting"]["num_env_runners"] == 0
        and each["contender"] != "sb3_subproc"
    ]
    return round(statistics.median(shares), 3) if shares else None


def content(results: Mapping[str, Any], shown: Sequence[str] = tuple(TITLES)) -> str:
    """Return where and when a run was measured, and its tables: the targets, and the parts in `shown`."""
    found = speeds(results["measurements"])
    replay = [each for each in results["measurements"] if each["part"] == "replay" and "error" not in each]
    parts = [part for part in shown if part in found.index.get_level_values("part") and part != "replay"]
    tables = [_targets(found), *(_part(part, found.xs(part, level="part")) for part in parts)]
    tables += [_replay(replay)] if replay else []
    return f"{_provenance(results)}\n\n{markdown(table for table in tables if table.rows)}"


def _targets(found: pd.DataFrame) -> Table:
    rows = []
    for target in TARGETS:
        setting = {"part": target.part, "num_envs": target.num_envs}
        ours, theirs = (fastest(found, names, **setting) for names in ([target.ours], target.peers))
        if ours is not None and theirs is not None:
            ratio = ours / theirs
            met = "met" if ratio.median() >= target.at_least else "NOT MET"
            rows.append([target.name, f"at least {target.at_least:g}", _number(ratio.median()), _range(ratio), met])
    head = ["ratio of speeds: ours / the other, each with its best number of threads", "target", "median", "range", ""]
    return Table("Targets", head, rows)


def _part(part: str, here: pd.DataFrame) -> Table:
    """Return one row for each cell, with what differs between them and how much faster ours is in its best setting."""
    shown = [name for name in SETTINGS if here.index.get_level_values(name).nunique() > 1]
    compared = [name for name in shown if name not in ("num_threads", "device", "mixed_precision")]
    has_ours = part != "gpu" and here.index.get_level_values("contender").isin(OURS).any()
    rows = []
    for cell, row in sorted(here.iterrows(), key=lambda each: _order(here, each[0], shown)):
        names = dict(zip(here.index.names, cell, strict=True))
        cells = [CONTENDERS[names["contender"]].label, *(_setting(names[name]) for name in shown)]
        cells += [_number(row.median()), _range(row)]
        if has_ours:
            ours = fastest(here, OURS, **{name: names[name] for name in compared})
            is_peer = ours is not None and names["contender"] not in OURS
            cells += [f"{(ours / row).median():.2f}", _range(ours / row)] if is_peer else ["", ""]
        rows.append(cells)
    head = ["", *(SETTINGS[name] for name in shown), "steps per second", "range"]
    return Table(TITLES[part], [*head, *(["our speed / this speed", "range"] if has_ours else [])], rows)


def _order(here: pd.DataFrame, cell: tuple[Any, ...], shown: list[str]) -> tuple[Any, ...]:
    names = dict(zip(here.index.names, cell, strict=True))
    settings = [names[name] for name in shown if name != "num_threads"]
    return (*settings, list(CONTENDERS).index(names["contender"]), names["num_threads"])


def _replay(measurements: list[Mapping[str, Any]]) -> Table:
    rows = []
    for contender in ("replay_ours", "replay_stock"):
        here = pd.DataFrame([each for each in measurements if each["contender"] == contender])
        figures = (1e3 / here["steps_per_second"], here["buffer_mb"], here["buffer_mb"] / here["observations_mb"])
        rows.append([CONTENDERS[contender].label, *(f"{figure.median():.3g}" for figure in figures)])
    return Table(TITLES["replay"], ["", "milliseconds", "memory, MiB", "memory / size of the observations"], rows)


def _provenance(results: Mapping[str, Any]) -> str:
    machine, effort = results["machine"], results["effort"]
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    clean = "" if machine["git_is_clean"] else " with changes that were not committed"
    share = "an unknown share" if results["core_share"] is None else f"{results['core_share']:.0%}"
    revision = (machine["git_revision"] or "unknown")[:12]
    return (
        f"{results['started'][:10]}, {machine['processor']}, {machine['cores']} cores, {machine['memory_gb']:g} GiB, "
        f"{machine['system']}, Python {machine['python']}, {packages}; revision {revision}{clean}; load average at the "
        f"start {machine['load_average']}; each measured thread had {share} of a core. "
        f"{effort['repetitions']} repetitions of at least {effort['measure_s']:g} s."
    )


def _setting(value: Any) -> str:
    return {"sample": "sampling", "train": "training"}.get(value, str(value))


def _range(values: pd.Series) -> str:
    return f"{_number(values.min())} to {_number(values.max())}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
