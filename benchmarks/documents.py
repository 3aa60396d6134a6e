"""Write the tables of all documents from the committed results: `python -m benchmarks.documents`.

A table stands between two comments of a document, its marks. Its results are JSON files in benchmarks/results.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import claims
from benchmarks.evaluation import tables as evaluation
from benchmarks.learning import ablation
from benchmarks.learning import tables as learning
from benchmarks.machine import RESULTS, ROOT
from benchmarks.real_data import survivorship
from benchmarks.real_data import tables as real_data
from benchmarks.real_data.walks import TESTED_VERSIONS, corrected
from benchmarks.tables import Table, markdown, marks, replaced
from benchmarks.throughput import apg, assets
from benchmarks.throughput import tables as throughput

DOCUMENTS = ("README.md", "docs/results.md", "docs/benchmarks.md", "docs/apg.md")
SHOWN_BASELINES = (
    "1/N",
    "buy-and-hold",
    "risk parity",
    "minimum variance",
    "maximum Sharpe",
    "momentum top-5",
    "index",
)
EXECUTION = (
    "All strategies may trade every 21 days, one day after the decision (execution lag 1), and pay 10 basis points "
    "(0.1 %) of the traded amount."
)
"""Execution of the strategies in the table of the README, as set in `ppo.yaml` and `ppo_per_asset.yaml`."""
_WALK_FIGURES = {
    "sharpe_ratio": "{:.2f}",
    "annual_return": "{:.1%}",
    "annual_volatility": "{:.1%}",
    "max_drawdown": "{:.1%}",
    "turnover_per_year": "{:.2f}x",
    "information_ratio": "{:+.2f}",
    "mean_p_value": "{:.3f}",
}
TURNOVER = "An annual turnover of 1x replaces the whole portfolio once a year."
TRAINED = {"`ppo.yaml`": "train.json", "`ppo_per_asset.yaml`": "train_per_asset.json"}
"""Configuration to the results of its run."""
Builder = Callable[[Path], str]


def main() -> None:
    """Write the tables of every document."""
    for name in DOCUMENTS:
        path = ROOT / name
        path.write_text(filled(path.read_text(), RESULTS))
        print(f"Wrote {path}.")


def filled(text: str, results: Path) -> str:
    """Return a document with all of its tables, from the folder of all results."""
    for mark, build in BLOCKS.items():
        if marks(mark)[0] in text:
            text = replaced(text, mark, build(results))
    return text


def _train(results: Path) -> str:
    """Return the runs of the quick start on their test window, with the baselines that they share."""
    runs = {label: json.loads((results / name).read_text()) for label, name in TRAINED.items()}
    window = next(iter(runs.values()))["windows"]["test"]
    rows = {label: values["windows"]["test"]["strategies"]["PPO policy"] for label, values in runs.items()}
    rows |= {name: row for name, row in window["strategies"].items() if name != "PPO policy"}
    lines = [
        f"| test window, {window['first']} to {window['last']}, after costs "
        "| Sharpe ratio | annual return | volatility | maximum drawdown | annual turnover | annual cost |",
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
    note = f"{EXECUTION} {TURNOVER} Cash earns 2 % per year."
    picture = "![Equity curves of the test window](docs/equity_curve.png)"
    sentences = [
        f"> {values['verdict']['sentence'].replace('PPO policy', f'PPO ({label})')}" for label, values in runs.items()
    ]
    return "\n".join([*lines, "", note, "", "\n\n".join(sentences), "", picture])


def _walk(results: Path) -> str:
    """Return the ensembles and a few of the baselines."""
    values = json.loads((results / "real_data" / "walk" / "results.json").read_text())
    rows = []
    for name in [*values["subjects"], *SHOWN_BASELINES]:
        row = values["strategies"][name]
        row = {**row, "mean_p_value": None if (p := row["mean_p_value"]) is None else corrected(p, name)}
        rows.append([name, *(_cell(row, figure, form) for figure, form in _WALK_FIGURES.items())])
    title = f"Out of sample, {values['first_day']} to {values['last_day']}, after costs"
    heads = ["Sharpe ratio", "annual return", "volatility", "maximum drawdown", "annual turnover"]
    table = Table(
        title,
        ["strategy", *heads, "information ratio over 1/N", "p-value of the mean active return"],
        rows,
        f"The p-value of DQN is multiplied by {TESTED_VERSIONS['DQN']} and limited to 1 (Bonferroni), because "
        f"{TESTED_VERSIONS['DQN']} versions of DQN were tested on these years. {TURNOVER}",
    )
    sentences = [f"> {judged['sentence']}" for judged in values["verdicts"].values()]
    return "\n\n".join([markdown([table]), *sentences])


def _cell(row: Mapping[str, Any], figure: str, form: str) -> str:
    return "" if row.get(figure) is None else form.format(row[figure])


def _learning(*builders: Callable[[Mapping[tuple[str, str], learning.Runs]], Table]) -> Builder:
    def build(results: Path) -> str:
        runs = learning.collected(results / "certification")
        return markdown(builder(runs) for builder in builders)

    return build


def _of(file: str, build_text: Callable[[dict[str, Any]], str]) -> Builder:
    return lambda results: build_text(json.loads((results / file).read_text()))


BLOCKS: dict[str, Builder] = {
    "results": _train,
    "certificates": _learning(learning.certificates),
    "peers": _learning(learning.peers),
    "analytic": _learning(learning.analytic),
    "walk": _walk,
    "deflated": lambda results: real_data.deflated(results / "real_data"),
    "factors-verdicts": lambda results: real_data.verdicts(results / "real_data", "factors"),
    "survivorship": _of(survivorship.FILE, survivorship.content),
    "claims": lambda results: markdown([claims.table(results)]),
    "throughput": _of("throughput.json", partial(throughput.content, shown=("training", "large"))),
    "assets": _of("assets.json", assets.content),
    "apg": _of("apg_speed.json", apg.content),
    "dqn": _of("dqn.json", throughput.content),
    "ablation": _of("ablation.json", ablation.content),
    "size_and_power": _of("size_and_power.json", evaluation.size_and_power),
    "evaluation_speed": _of("evaluation_speed.json", evaluation.speed),
}
"""Maps the name in the marks of a block to the function that returns the block's text."""


if __name__ == "__main__":
    main()
