"""The files of a report.

report.html   the page                          report.csv       the table
results.json  everything but the daily figures  crisis_*.csv     one crisis each, all strategies
returns/      *.parquet, one per strategy       weights/         *.parquet, one per back-tested strategy

The files cost_curve.csv, seeds.csv, failed_fits.csv and sensitivity_*.csv are written if they have any row.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from rllib_portfolio.errors import ConfigError, file_error, reason
from rllib_portfolio.new_folder import begun, made
from rllib_portfolio.reporting.page import page
from rllib_portfolio.reporting.report import Report
from rllib_portfolio.reporting.serialisation import json_value, write_csv
from rllib_portfolio.statistics.crises import CRISES

NO_FOLDERS = (".htm", ".json", ".parquet", ".pdf", ".png", ".txt", ".xls", ".xlsx")
"""Suffixes of other file formats, which are refused as names of folders."""


def write_report(report: Report, output_path: Path | str) -> tuple[Path, ...]:
    """Write a report and return the paths of the written files.

    Args:
        report: The report.
        output_path: A path that ends in .csv is for the table, with one CSV per crisis and the notes beside it. A path
            that ends in .html is for the page. Any other path is a folder for all files.

    Raises:
        ConfigError: If `output_path` has the suffix of another format, or cannot be written.
        MachineError: If the disk is full or fails. A folder that was new or empty is then left as it was before.
    """
    path = Path(output_path)
    suffix = path.suffix.lower()
    if suffix in NO_FOLDERS:
        raise ConfigError(
            f"output_path must end in .csv or .html, or name a folder, got {path} (report). Choose one of them."
        )
    try:
        if suffix not in (".csv", ".html"):
            with begun(path, "output_path", "Choose another place."):
                return _everything(report, path)
        with made(path.parent):
            if suffix == ".html":
                return (_page(report, path),)
            return (_table(report, path), *_crises(report, path.parent, f"{path.stem}_"), _notes(report, path))
    except OSError as error:
        text = f"output_path must be writable, got {path} ({reason(error)})"
        raise file_error(error, text, "Choose another place.") from error


def _everything(report: Report, folder: Path) -> tuple[Path, ...]:
    return (
        _page(report, folder / "report.html"),
        _table(report, folder / "report.csv"),
        _results(report, folder / "results.json"),
        *_crises(report, folder, ""),
        *_daily(report, folder),
        *_extras(report, folder),
    )


def _page(report: Report, path: Path) -> Path:
    path.write_text(page(report), encoding="utf-8")
    return path


def _table(report: Report, path: Path) -> Path:
    write_csv(report.table, path)
    return path


def _notes(report: Report, path: Path) -> Path:
    """Write the verdicts and statements, which do not fit into the table."""
    notes = path.with_name(f"{path.stem}_notes.txt")
    sentences = [judged.sentence for judged in report.verdicts.values()]
    notes.write_text("\n".join((*sentences, *report.statements)) + "\n", encoding="utf-8")
    return notes


def _crises(report: Report, folder: Path, prefix: str) -> Iterable[Path]:
    """Write one file per crisis, including crises without data, whose note says so."""
    if report.crises is None:
        return
    for crisis in CRISES:
        path = folder / f"{prefix}crisis_{_slug(crisis.name)}.csv"
        write_csv(report.crises.loc[crisis.name], path)
        yield path


def _daily(report: Report, folder: Path) -> Iterable[Path]:
    """Write the daily returns of each strategy, and the daily weights if it was back-tested."""
    inputs = report.inputs
    index: Any = (
        pd.DatetimeIndex(inputs.dates, name="date")
        if inputs.has_dates
        else pd.RangeIndex(1, inputs.num_days + 1, name="day")
    )
    for name, slug in zip(inputs.names, _slugs(inputs.names), strict=True):
        walk = inputs.walk_of(name)
        whole = pd.DataFrame({"return": inputs.of(name)}, index=index) if walk is None else walk.to_frame()
        is_weight = whole.columns.str.startswith("weight.")
        for kind, frame in (("returns", whole.loc[:, ~is_weight]), ("weights", whole.loc[:, is_weight])):
            if len(frame.columns):
                (folder / kind).mkdir(exist_ok=True)
                path = folder / kind / f"{slug}.parquet"
                frame.to_parquet(path)
                yield path


def _extras(report: Report, folder: Path) -> Iterable[Path]:
    """Write the tables that only some reports have."""
    context, failures = report.inputs.context, report.inputs.failures
    tables: dict[str, pd.DataFrame | None] = {"failed_fits": failures, "seeds": report.seed_scores}
    if context is not None:
        tables["cost_curve"] = context.cost_curve
        tables |= {f"sensitivity_{_slug(title)}": table for title, table in context.sensitivities.items()}
    for name, table in tables.items():
        if table is not None and len(table):
            path = folder / f"{name}.csv"
            write_csv(table, path, index=table.index.names != [None])
            yield path


def _results(report: Report, path: Path) -> Path:
    inputs, selection = report.inputs, report.selection
    record = {
        "title": inputs.title,
        "first_day": inputs.day(inputs.dates[0]),
        "last_day": inputs.day(inputs.dates[-1]),
        "num_days": inputs.num_days,
        "periods_per_year": inputs.periods_per_year,
        "benchmark": inputs.benchmark,
        "subjects": inputs.subjects,
        "verdicts": {name: asdict(judged) for name, judged in report.verdicts.items()},
        "strategies": report.table.to_dict(orient="index"),
        "bootstrap": {"num_draws": report.statistics.num_draws, "block_days": report.statistics.block_days},
        "superior_ability": None if report.superior is None else report.superior._asdict(),
        "selection": None
        if selection is None
        else {
            "num_trials": selection.num_trials,
            "hurdle": selection.hurdle,
            "validation_sharpe": selection.validation_sharpe,
            "deflated_sharpe_ratio": selection.deflated,
            "series": selection.series,
            "probability_of_overfitting": None if selection.overfitting is None else selection.overfitting.probability,
            "note": selection.note,
        },
        "seeds": report.seeds.to_dict(orient="index"),
        "crises": [] if report.crises is None else report.crises.reset_index().to_dict(orient="records"),
        "statements": report.statements,
        "command": "" if inputs.context is None else inputs.context.command,
    }
    path.write_text(json.dumps(json_value(record), indent=1, allow_nan=False), encoding="utf-8")
    return path


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "strategy"


def _slugs(names: Iterable[str]) -> list[str]:
    """Return file names for strategies, numbered if two names differ only in special characters or case."""
    slugs: list[str] = []
    for name in names:
        slug, number = _slug(name), 2
        while slug in slugs:
            slug, number = f"{_slug(name)}-{number}", number + 1
        slugs.append(slug)
    return slugs
