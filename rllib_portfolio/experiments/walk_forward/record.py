"""`walk_forward.json`: the plan of an analysis, the outcomes of its runs, and the pooled results.

OUTPUT/walk_forward.json               this record
OUTPUT/<algo>/fold-<k>/seed-<s>/       a complete run folder for each training run
OUTPUT/<algo>/fold-<k>/seeds-<s>-<t>/  the same for seeds that are trained as one program
OUTPUT/results.csv                     the pooled table
OUTPUT/walks/*.parquet                 the pooled back-test of each row of the table
OUTPUT/report/                         the report
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from rllib_portfolio.command_names import as_invoked
from rllib_portfolio.config.market import PATHS_BESIDE_DATA
from rllib_portfolio.errors import ConfigError
from rllib_portfolio.experiments import record
from rllib_portfolio.experiments.progress import RunOutcome
from rllib_portfolio.experiments.record import is_new_folder, parsed_record, write_record
from rllib_portfolio.experiments.walk_forward.plan import WalkForwardPlan
from rllib_portfolio.new_folder import begun
from rllib_portfolio.runs.folder import first_difference, origin

RECORD = "walk_forward.json"
_OWNER = "walk-forward folder"
_REMEDY = as_invoked("Name a folder that `backtest.py walk-forward` wrote, or restore it.")


def start_analysis(plan: WalkForwardPlan, output: Path, command: str = "") -> WalkForwardPlan:
    """Make the folder of an analysis, or continue in it.

    When it continues, algorithms and seeds may be added, and tables may have moved. Folds, settings, and the returns of
    prices, index and cash must be unchanged.

    Args:
        plan: The plan.
        output: The folder.
        command: The command that repeats the analysis, for the report.

    Returns:
        The plan, with the algorithms and seeds that the folder had before.

    Raises:
        ConfigError: If the folder cannot be written, or holds something else or an analysis with other settings.
        MachineError: If the disk is full or fails. The files of a new analysis are then removed.
    """
    path = output / RECORD
    if path.is_file():
        recorded = read_plan(output)
        _require_same(recorded.to_json(), plan.to_json(), output)
        plan = recorded.merged_with(plan)
        update_record(output, plan, command=command)
        return plan
    if not is_new_folder(output):
        raise ConfigError(
            f"output directory must be new, empty or that of a walk-forward analysis, got {output}. Choose another "
            "--output-dir."
        )
    with begun(output):
        write_record(path, {"command": command, "plan": plan.to_json(), "origin": origin()})
    return plan


def read_record(output: Path) -> dict[str, Any]:
    """Return the record of an analysis.

    Raises:
        ConfigError: If there is no record, or it cannot be read.
    """
    return record.read_record(output / RECORD, _OWNER, _REMEDY)


def read_plan(output: Path) -> WalkForwardPlan:
    """Return the recorded plan of an analysis.

    Raises:
        ConfigError: If there is no record, or it cannot be read.
    """
    with parsed_record(output / RECORD, _OWNER, _REMEDY) as values:
        if not isinstance(values.get("sessions", []), list):
            raise TypeError("sessions that are no list")
        return WalkForwardPlan.from_json(values["plan"])


def update_record(output: Path, plan: WalkForwardPlan, **entries: Any) -> None:
    """Replace the plan and the given entries of the record; all other entries stay.

    Args:
        output: Folder of the analysis.
        plan: The plan.
        **entries: Other entries to replace, as JSON values.

    Raises:
        ConfigError: If there is no record, or it cannot be read.
    """
    write_record(output / RECORD, read_record(output) | {"plan": plan.to_json(), **entries})


def note_training(
    output: Path, plan: WalkForwardPlan, outcomes: Sequence[RunOutcome], started: datetime, wall_s: float
) -> None:
    """Record the outcomes of the runs, and the start and the duration of this session.

    Args:
        output: Folder of the analysis.
        plan: The plan.
        outcomes: Outcomes of its runs.
        started: Start of the session.
        wall_s: Seconds that the session took, by a monotonic clock.
    """
    session = {"started": started.isoformat(timespec="seconds"), "wall_s": round(wall_s, 3)}
    update_record(
        output,
        plan,
        runs=[outcome.to_json() for outcome in outcomes],
        sessions=[*read_record(output).get("sessions", []), session],
    )


def _require_same(recorded: Mapping[str, Any], wanted: Mapping[str, Any], output: Path) -> None:
    for algo in recorded["algorithms"].keys() & wanted["algorithms"].keys():
        ours, theirs = (_without_paths(plan["algorithms"][algo]) for plan in (recorded, wanted))
        _require_same_value(f"{algo} settings", ours, theirs, output)
    for name in ("data_hash", "index_and_cash_hash", "purge_days", "folds"):
        if recorded.get(name) is not None:
            _require_same_value(name, recorded[name], wanted[name], output)


def _without_paths(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return an algorithm's settings without the paths of its tables, whose contents are compared by hashes."""
    market = settings["market"]
    data = market["data"]
    data = {**data, "table": "a table"} if isinstance(data, dict) and "table" in data else data
    data = "a table" if isinstance(data, str) else data
    beside = {name: market.get(name) and "a table" for name in PATHS_BESIDE_DATA}
    return {**settings, "market": {**market, "data": data, **beside}}


def _require_same_value(name: str, recorded: Any, wanted: Any, output: Path) -> None:
    wanted = json.loads(json.dumps(wanted))  # turns tuples into lists
    if recorded == wanted:
        return
    where = first_difference(name, recorded, wanted)
    raise ConfigError(
        f"{where[0]} must be that of the analysis in {output}, {where[1]}, got {where[2]}. Leave it as it was, or "
        "choose another --output-dir."
    )
