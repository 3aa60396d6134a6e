"""The tables of README.md and docs/RESULTS.md, between their marks, from the results that are there."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.learning import tables as learning
from benchmarks.real_data import defaults, evidence, offsets
from benchmarks.real_data import tables as real_data
from benchmarks.real_data.walks import over_looks
from benchmarks.reproduce import claims
from benchmarks.reproduce.parts import PARTS, ROOT, Places
from benchmarks.reproduce.runner import record
from benchmarks.throughput.report import marks, replaced
from benchmarks.throughput.tables import Table, markdown

DOCUMENTS = ("README.md", "docs/RESULTS.md")
SHOWN_BASELINES = (
    "1/N",
    "buy-and-hold",
    "risk parity",
    "minimum variance",
    "maximum Sharpe",
    "momentum top-5",
    "index",
)
_WALK_FIGURES = {
    "sharpe_ratio": "{:.2f}",
    "annual_return": "{:.1%}",
    "annual_volatility": "{:.1%}",
    "max_drawdown": "{:.1%}",
    "turnover_per_year": "{:.2f}x",
    "information_ratio": "{:+.2f}",
    "mean_p_value": "{:.3f}",
}
TRAINED = {"`ppo.yaml`": "train.json", "`ppo_per_asset.yaml`": "train_per_asset.json"}
"""Configuration to the results of its run."""
Builder = Callable[[Path], str | None]


def fill(places: Places) -> None:
    """Write every block whose results are there; say which are not."""
    for name in DOCUMENTS:
        target = places.documents / name
        if places.documents != ROOT:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, target)
        text = target.read_text()
        for mark, build in BLOCKS.items():
            if marks(mark)[0] not in text:
                continue
            content = build(places.results)
            if content is None:
                print(f"{name}: {mark} left as it is, its results are not there")
            else:
                text = replaced(text, mark, content)
        target.write_text(text)
        print(f"Wrote {target}.")


def _train(results: Path) -> str | None:
    """The runs of the quick start on their test window, with the baselines that they share."""
    if not all((results / name).is_file() for name in TRAINED.values()):
        return None
    runs = {label: json.loads((results / name).read_text()) for label, name in TRAINED.items()}
    window = next(iter(runs.values()))["windows"]["test"]
    rows = {label: values["windows"]["test"]["strategies"]["PPO policy"] for label, values in runs.items()}
    rows |= {name: row for name, row in window["strategies"].items() if name != "PPO policy"}
    lines = [
        f"| test window, {window['first']} to {window['last']}, after 10 bp costs "
        "| Sharpe | return a year | volatility | max drawdown | turnover a year | cost a year |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        sharpe = "-" if row["sharpe_ratio"] is None else f"{row['sharpe_ratio']:.2f}"
        name = f"PPO ({name})" if name in runs else name
        lines.append(
            f"| {name} | {sharpe} | {row['annual_return']:.1%} "
            f"| {row['annual_volatility']:.1%} | {row['max_drawdown']:.1%} | {row['turnover_per_year']:.2f}x "
            f"| {row['cost_per_year']:.1%} |"
        )
    picture = "![Equity curves of the test window](docs/equity_curve.png)"
    sentences = [
        f"> {values['verdict']['sentence'].replace('PPO policy', f'PPO ({label})')}" for label, values in runs.items()
    ]
    return "\n".join([*lines, "", "\n\n".join(sentences), "", picture])


def _walk_short(results: Path) -> str | None:
    """Ensembles, seeds and a few of the baselines."""
    path = results / "real_data" / "walk" / "results.json"
    if not path.is_file():
        return None
    values = json.loads(path.read_text())
    rows = []
    for name in [*values["subjects"], *SHOWN_BASELINES]:
        row = values["strategies"][name]
        row = {**row, "mean_p_value": None if (p := row["mean_p_value"]) is None else over_looks(p, name)}
        rows.append([name, *(_cell(row, figure, form) for figure, form in _WALK_FIGURES.items())])
    title = f"Out of sample, {values['first_day']} to {values['last_day']}, after 10 bp costs"
    table = Table(
        title,
        ["", "Sharpe", "return a year", "volatility", "max drawdown", "turnover a year", "IR over 1/N", "p"],
        rows,
        "DQN's p is times its three looks at these years, at most 1 (Bonferroni).",
    )
    sentences = [f"> {judged['sentence']}" for judged in values["verdicts"].values()]
    return "\n\n".join([markdown([table]), *sentences])


def _cell(row: Mapping[str, Any], figure: str, form: str) -> str:
    return "" if row.get(figure) is None else form.format(row[figure])


def _learning(*builders: Callable[[Mapping[tuple[str, str], learning.Runs]], Table | None]) -> Builder:
    def build(results: Path) -> str | None:
        runs = learning.collected(results / "certification")
        tables = [table for builder in builders if runs and (table := builder(runs)) is not None]
        return markdown(tables) if tables else None

    return build


def _tuning_gain(results: Path) -> str | None:
    path = results / "tuning_gain.json"
    return markdown([learning.tuning_gain(json.loads(path.read_text()))]) if path.is_file() else None


def _real_data(build_text: Callable[[Path], str], needed: str) -> Builder:
    def build(results: Path) -> str | None:
        folder = results / "real_data"
        return build_text(folder) if (folder / needed).exists() else None

    return build


def _walk_of(build_text: Callable[[Path, str], str], part: str) -> Builder:
    return _real_data(lambda folder: build_text(folder, part), f"{part}/results.json")


def _claims(results: Path) -> str:
    return markdown([claims.table(results)])


def _times(results: Path) -> str | None:
    """How long parts and runs took here."""
    ended, runs = record(Places(results=results)), learning.collected(results / "certification")
    if not ended:
        return None
    parts = Table("Parts", ["part", "command", "revision", "wall time"], [_time_of(name, ended) for name in PARTS])
    return markdown([parts, learning.processor_time(runs)] if runs else [parts])


def _time_of(name: str, ended: Mapping[str, Any]) -> list[str]:
    entry = ended.get(name, {})
    if not entry.get("finished"):
        return [name, f"`make results ARGS={name}`", "", "in several goes"]
    commands = " && ".join(f"`{command}`" for command in entry["commands"])
    return [name, commands, (entry["machine"]["git_revision"] or "unknown")[:7], f"{entry['seconds'] / 60:,.0f} min"]


BLOCKS: dict[str, Builder] = {
    "results": _train,
    "certificates": _learning(learning.certificates),
    "certificates-short": _learning(learning.short),
    "peers-ppo": _learning(lambda runs: learning.peers(runs, "ppo"), lambda runs: learning.to_ninety(runs, "ppo")),
    "peers-dqn": _learning(lambda runs: learning.peers(runs, "dqn"), lambda runs: learning.to_ninety(runs, "dqn")),
    "tuning-gain": _tuning_gain,
    "walk-short": _walk_short,
    "defaults": _real_data(defaults.table, defaults.FOLDER),
    "variants": _real_data(real_data.variants, "summary.json"),
    "deflated": _real_data(real_data.deflated, "summary.json"),
    "walk": _walk_of(real_data.walk, "walk"),
    "walk-verdicts": _walk_of(real_data.verdicts, "walk"),
    "walk-offsets": _real_data(offsets.summary, "walk/offsets.json"),
    "walk-significance": _walk_of(evidence.significance, "walk"),
    "walk-crises": _walk_of(evidence.crises, "walk"),
    "walk-years": _walk_of(real_data.by_years, "walk"),
    "factors": _walk_of(real_data.walk, "factors"),
    "factors-verdicts": _walk_of(real_data.verdicts, "factors"),
    "claims": _claims,
    "times": _times,
}
"""By the mark that they stand between."""
