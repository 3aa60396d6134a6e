"""The tables of a run, from its JSON: for the terminal and for the README."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table as RichTable

from benchmarks.throughput.contenders import CONTENDERS, STOCK
from benchmarks.throughput.setting import STEPS_PER_UPDATE
from benchmarks.throughput.summary import Side, Spread, fastest, ratio, sides

COMPONENTS = (
    "environment", "policy", "connectors", "episodes", "other sampling", "advantages", "batch", "forward", "backward",
    "optimiser", "other update", "rest",
)  # fmt: skip


class Table(NamedTuple):
    """Title, header, and rows as text, and what a reader has to know of them."""

    title: str
    header: list[str]
    rows: list[list[str]]
    note: str = ""


def tables(results: Mapping[str, Any]) -> list[Table]:
    """All tables that the run has something for."""
    all_sides = sides(results["measurements"])
    found = [_targets(results["targets"])]
    builders: dict[str, Callable[[str, list[Side]], Table]] = {
        "training": _end_to_end,
        "large": _end_to_end,
        "products": _products,
        "sampling": _sampling,
        "environment": _alone,
        "runners": _runners,
        "assets": _assets,
        "components": _components,
        "dqn": _dqn,
        "replay": _replay,
    }
    for part, builder in builders.items():
        if here := [side for side in all_sides if side.part == part]:
            found.append(builder(results["parts"][part], here))
    return found


def print_tables(found: Iterable[Table]) -> None:
    """On the terminal."""
    console = Console()
    for title, header, rows, note in found:
        table = RichTable(title=title, title_justify="left", caption=note or None, caption_justify="left")
        for i, name in enumerate(header):
            table.add_column(name, justify="left" if i == 0 else "right")
        for row in rows:
            table.add_row(*row)
        console.print(table)


def markdown(found: Iterable[Table]) -> str:
    """For the README."""
    blocks = []
    for title, header, rows, note in found:
        lines = [f"**{title}**", "", *map(_markdown_row, [header, ["---", *["---:"] * (len(header) - 1)], *rows])]
        blocks.append("\n".join([*lines, "", note] if note else lines))
    return "\n\n".join(blocks)


def _markdown_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _targets(targets: Sequence[Mapping[str, Any]]) -> Table:
    verdict = {True: "met", False: "NOT MET", None: "not measured"}
    rows = []
    for row in targets:
        bound = f"at least {row['at_least']:,g}" if "at_least" in row else f"at most {row['at_most']:,g}"
        between = "" if row["range"] is None else " to ".join(map(_number, row["range"]))
        median = "" if row["median"] is None else _number(row["median"])
        rows.append([row["name"], bound, median, between, verdict[row["met"]]])
    return Table("Targets", ["ours / another, each in its best thread setting", "target", "median", "range", ""], rows)


def _end_to_end(title: str, here: list[Side]) -> Table:
    stock = fastest(side for side in here if side.contender in STOCK)
    rows = [
        [
            CONTENDERS[side.contender].label,
            str(side.setting["num_threads"]),
            _number(side.steps_per_second.median),
            _range(side.steps_per_second),
            _times(ratio(side, stock) if stock else None),
            _number(side.peak_memory_mb),
        ]
        for side in _by_contender(here)
    ]
    return Table(title, ["", "torch threads", "steps/s", "range", "/ best stock", "peak memory, MiB"], rows)


def _products(title: str, here: list[Side]) -> Table:
    rows = [
        [
            f"{CONTENDERS[side.contender].label}, minibatch {side.setting['minibatch_size']}",
            str(side.setting["num_threads"]),
            _microseconds(side),
        ]
        for side in _by_contender(here)
    ]
    return Table(title, ["", "torch threads", "microseconds per step"], rows)


def _sampling(title: str, here: list[Side]) -> Table:
    sizes = sorted({side.setting["num_envs"] for side in here})
    rows = [
        [CONTENDERS[name].label, *(_speed(_best(here, name, num_envs=size)) for size in sizes)] for name in _names(here)
    ]
    for what, names in (("best stock runner", STOCK), ("bare torch loop", ("bare",))):
        ratios = [_paired(here, names, num_envs=size) for size in sizes]
        rows.append([f"{CONTENDERS['ours'].label} / {what}", *map(_times, ratios)])
    header = ["steps/s, best thread setting", *(f"{size} environment{'s' * (size > 1)}" for size in sizes)]
    return Table(title, header, rows)


def _alone(title: str, here: list[Side]) -> Table:
    rows = [
        [CONTENDERS[s.contender].label, _number(s.steps_per_second.median), _range(s.steps_per_second)]
        for s in _by_contender(here)
    ]
    return Table(title, ["one core", "steps/s", "range"], rows)


def _runners(title: str, here: list[Side]) -> Table:
    counts = sorted({side.setting["num_env_runners"] for side in here})
    what = {"sample": "sampling", "train": "PPO end to end"}
    rows = [
        [
            f"{CONTENDERS[name].label}, {what[task]}",
            *(_speed(_best(here, name, task=task, num_env_runners=count)) for count in counts),
        ]
        for task in what
        for name in _names(here)
    ]
    return Table(title, ["steps/s", *(f"{count} env runner{'s' * (count > 1)}" for count in counts)], rows)


def _assets(title: str, here: list[Side]) -> Table:
    counts = sorted({side.setting["num_assets"] for side in here})
    rows = [
        [CONTENDERS[name].label, *(_microseconds(_best(here, name, num_assets=count)) for count in counts)]
        for name in _names(here)
    ]
    return Table(title, ["microseconds per step", *(f"{count} assets" for count in counts)], rows)


def _components(title: str, here: list[Side]) -> Table:
    shown = _by_contender(here)
    header = [
        f"{CONTENDERS[s.contender].short}, {s.setting['num_envs']} envs, {s.setting['minibatch_size']}" for s in shown
    ]
    columns = [side.components_us for side in shown]
    rows = [[name, *(f"{c[name]:.1f}" if name in c else "" for c in columns)] for name in COMPONENTS]
    rows.append(["all", *(f"{sum(column.values()):.1f}" for column in columns)])
    return Table(title, ["microseconds per step, one thread; environments, minibatch", *header], rows)


def _dqn(title: str, here: list[Side]) -> Table:
    rows = [
        [
            CONTENDERS[side.contender].label,
            _number(side.steps_per_second.median),
            _number(side.steps_per_second.median / STEPS_PER_UPDATE),
            _range(side.steps_per_second),
            _number(side.peak_memory_mb),
        ]
        for side in _by_contender(here)
    ]
    return Table(title, ["one thread", "steps/s", "updates/s", "range of steps/s", "peak memory, MiB"], rows)


def _replay(title: str, here: list[Side]) -> Table:
    rows = []
    for side in _by_contender(here):
        answers = list(side.by_repetition.values())
        milliseconds = Spread.of([1e3 / float(answer["steps_per_second"]) for answer in answers])
        memory = Spread.of([answer["buffer_mb"] for answer in answers])
        share = Spread.of([answer["buffer_mb"] / answer["observations_mb"] for answer in answers])
        rows.append([CONTENDERS[side.contender].label, *(f"{s.median:.3g}" for s in (milliseconds, memory, share))])
    return Table(title, ["", "milliseconds", "memory, MiB", "/ its observations"], rows)


def _names(here: Iterable[Side]) -> list[str]:
    present = {side.contender for side in here}
    return [name for name in CONTENDERS if name in present]


def _by_contender(here: Iterable[Side]) -> list[Side]:
    order = list(CONTENDERS)
    return sorted(here, key=lambda s: (s.setting["num_envs"], order.index(s.contender), s.setting["num_threads"]))


def _best(here: Iterable[Side], contender: str, task: str | None = None, **setting: int) -> Side | None:
    return fastest(
        side
        for side in here
        if side.contender == contender
        and task in (None, side.task)
        and all(side.setting[name] == value for name, value in setting.items())
    )


def _paired(here: list[Side], others: Sequence[str], **setting: int) -> Spread | None:
    """Ours over the fastest of the others."""
    ours = _best(here, "ours", **setting)
    other = fastest(side for name in others if (side := _best(here, name, **setting)) is not None)
    return ratio(ours, other) if ours and other else None


def _speed(side: Side | None) -> str:
    return "" if side is None else _number(side.steps_per_second.median)


def _microseconds(side: Side | None) -> str:
    return "" if side is None else f"{1e6 / side.steps_per_second.median:.1f}"


def _range(spread: Spread) -> str:
    return f"{_number(spread.low)} to {_number(spread.high)}"


def _times(spread: Spread | None) -> str:
    return "" if spread is None else f"{spread.median:.2f}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
