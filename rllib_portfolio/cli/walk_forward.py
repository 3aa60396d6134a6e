"""`backtest.py walk-forward`: train on successive windows and judge on the days after them."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rllib_portfolio.cli.console import (
    is_on_cluster,
    quieten_libraries,
    ray_session,
    say,
    stay_on_loopback,
    tell,
    warn_of_implausible,
)
from rllib_portfolio.cli.data_paths import lasting_path, with_lasting_paths
from rllib_portfolio.cli.flags import add_flags, given_settings, require_alone
from rllib_portfolio.cli.interruption import stop_signals
from rllib_portfolio.cli.output_folder import OutputFolder, chosen_place, opened
from rllib_portfolio.cli.progress import RunsDisplay, progress_bar
from rllib_portfolio.cli.settings import default_config, own_config, require_device, require_room
from rllib_portfolio.config import DEFAULT_ALGORITHM, RUN_CONFIGS, RunConfig
from rllib_portfolio.config.consent import require_consent
from rllib_portfolio.config.files import algorithm_in
from rllib_portfolio.errors import ConfigError

if TYPE_CHECKING:
    from rllib_portfolio.experiments.progress import RunOutcome
    from rllib_portfolio.experiments.walk_forward.plan import Run, WalkForwardPlan
    from rllib_portfolio.reporting.search_trials import TuningRecord

_DESCRIPTION = """\
Walk-forward analysis: train on successive windows, and evaluate on the days after them.

The days are split into folds of [training] [purge] [validation] [test]; the days of the purge are not used. Each fold
fits the features on its training window, trains every seed of every algorithm, and keeps the policy of each run that
was best on its validation window. The policies of all folds then trade one portfolio through their successive test
windows. This portfolio is compared with every baseline after the same costs.

Folds and seeds train in parallel if the Ray cluster has enough resources. After Ctrl-C, SIGTERM, a lost connection, a
crash, or a failure that you have corrected, --resume (or the same command with its --output-dir) continues the
analysis. Finished runs are not repeated.
"""

_EPILOG = """\
examples:
  python backtest.py walk-forward --algo ppo --folds 4 --seeds 3
  python backtest.py walk-forward --algo ppo dqn --seeds 5 --total-timesteps 200000
  python backtest.py walk-forward --algo ppo --rolling --train-years 8 --test-years 1
  python backtest.py walk-forward --algo ppo --data-path prices.csv --test-start 2010-01-01
  python backtest.py walk-forward --algo ppo dqn --set environment.cost_bps=25 --set dqn.training.gamma=0.995
  python backtest.py walk-forward --resume runs/walk-forward/20260131-120000
  python backtest.py walk-forward --algo ppo --address auto --output-dir /shared/walk-forward

exit code: 0 success, 1 failure of a run or the machine, 2 invalid input, 129, 130 or 143 stopped by a signal
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the description and the flags."""
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    runs = parser.add_argument_group("the runs")
    add_flags(runs, "--algo", nargs="+", help=f"algorithms (default: those of --config, otherwise {DEFAULT_ALGORITHM})")
    add_flags(
        runs, "--config", nargs="+", default=[],
        help="YAML configurations, at most one per algorithm (default: tune_configs/<algo>.yaml)",
    )  # fmt: skip
    add_flags(
        runs, "--set", help="override one setting of all algorithms (A.B=V) or of one (ALGO.A.B=V); may be repeated"
    )
    runs.add_argument("--seeds", type=int, metavar="N", help="seeds per algorithm and fold (default: 3)")
    add_flags(runs, "--seed", metavar="S", help="first seed; the others follow it, S + 1, S + 2, ... (default: 0)")
    add_flags(runs, "--total-timesteps")
    folds = parser.add_argument_group("the folds")
    folds.add_argument("--folds", type=int, metavar="N", help="number of test windows of equal length (default: 4)")
    folds.add_argument(
        "--rolling", action="store_true", help="move training windows at a fixed length (default: expand them)"
    )
    folds.add_argument(
        "--test-start", metavar="DATE",
        help="first out-of-sample day (default: 2000-01-01 for sp500, after 40 %% of the days for other data)",
    )  # fmt: skip
    for name, text in (
        ("--train-years", "length of the (first) training window in years (default: all earlier days)"),
        ("--validation-years", "length of a validation window in years (default: 2, or a tenth of the days)"),
        ("--test-years", "length of a test window in years; replaces --folds"),
    ):
        folds.add_argument(name, type=float, metavar="Y", help=text)
    data = parser.add_argument_group("data and folders")
    add_flags(
        data, "--data-path",
        help="table of prices, or folder of tables (default: 20 S&P 500 stocks); with --resume, its new location",
    )  # fmt: skip
    add_flags(
        data, "--index-path",
        help="table of the index level, for your own data; with --resume, its new location",
    )  # fmt: skip
    add_flags(data, "--output-dir", help="where to write, or what to continue (default: runs/walk-forward/<timestamp>)")
    add_flags(
        data, "--storage-path",
        help="write to PATH/walk-forward/<timestamp>; PATH is a shared folder or a URI (s3://, gs://)",
    )  # fmt: skip
    add_flags(data, "--resume", help="continue the analysis in DIR, a folder or a URI, with its own settings")
    add_flags(data, "--trust-custom")
    add_flags(data, "--tuning", help="output of the search that chose the settings, for the deflated Sharpe ratio")
    add_flags(data, "--address", "--wait-for-resources", "--quiet")


_FIXED = (
    "algo", "config", "set", "seeds", "seed", "total_timesteps", "folds", "rolling", "test_start", "train_years",
    "validation_years", "test_years", "output_dir", "storage_path",
)  # fmt: skip


def execute(arguments: argparse.Namespace) -> int:
    """Start or continue an analysis, write its report, and return the exit code."""
    stay_on_loopback(arguments.address)
    configs = []
    if arguments.resume is not None:
        remedy = "Leave it out; to add seeds or algorithms, repeat the first command with --output-dir."
        require_alone(arguments, _FIXED, "the analysis'", remedy)
    else:
        configs = _configs(arguments)
    # The arguments are checked before the slow imports, so that a typo is reported at once.
    quieten_libraries()
    from rllib_portfolio.experiments.walk_forward.record import RECORD
    from rllib_portfolio.reporting.search_trials import TuningRecord

    tuning = (
        None if arguments.tuning is None else TuningRecord.read(arguments.tuning)
    )  # read before training, which may take hours
    place = chosen_place(arguments, "walk-forward")
    place = place if "://" in place else str(Path(place).resolve())  # processes in other folders write to this place
    with opened(arguments, place, "python backtest.py walk-forward") as output:
        plan = _plan(arguments, output.path, configs)
        _keep(output)
        if not is_on_cluster(arguments.address):  # the devices of a cluster are not those of this machine
            for config in plan.configs.values():
                require_device(config)
        with output.way_back([RECORD], [plan.to_json()]):
            return _analyse(arguments, plan, output, tuning)


def _keep(output: OutputFolder) -> None:
    """Copy new files of the analysis to its storage, except the folders of runs, which their own processes copy."""
    output.keep(without=tuple(RUN_CONFIGS))


def _plan(arguments: argparse.Namespace, output: Path, configs: Sequence[RunConfig]) -> WalkForwardPlan:
    """Return the recorded plan with --resume; otherwise make a plan and record it."""
    from rllib_portfolio.experiments.walk_forward.folds import FoldLengths
    from rllib_portfolio.experiments.walk_forward.plan import plan_walk_forward
    from rllib_portfolio.experiments.walk_forward.record import read_plan, start_analysis
    from rllib_portfolio.market import load_market
    from rllib_portfolio.runs.loop import start_notes

    if arguments.resume is not None:
        return _moved(arguments, read_plan(output), output)
    lengths = FoldLengths(
        num_folds=arguments.folds,
        test_years=arguments.test_years,
        validation_years=arguments.validation_years,
        train_years=arguments.train_years,
        first_test_day=arguments.test_start,
        is_expanding=not arguments.rolling,
    )
    say(arguments, "Preparing the market ...")
    market = load_market(configs[0].market)
    plan = plan_walk_forward(configs, 3 if arguments.seeds is None else arguments.seeds, lengths, market)
    notes = [note for run in plan.runs if run.fold == 0 for note in start_notes(plan.run_config(run), market)]
    for note in (*market.notes, *dict.fromkeys(notes)):
        say(arguments, f"Note: {note}")
    return start_analysis(plan, output, arguments.command_line)


def _moved(arguments: argparse.Namespace, plan: WalkForwardPlan, output: Path) -> WalkForwardPlan:
    """Return the plan with the new paths of its tables, and record it once the tables prove to be unchanged."""
    from rllib_portfolio.experiments.walk_forward.record import update_record

    data, index = (path and lasting_path(path) for path in (arguments.data_path, arguments.index_path))
    if data is None and index is None:
        return plan
    plan = plan.with_tables(data, index)
    say(arguments, "Preparing the market ...")
    plan.load_fold(0)
    update_record(output, plan)
    return plan


def _analyse(
    arguments: argparse.Namespace, plan: WalkForwardPlan, output: OutputFolder, tuning: TuningRecord | None
) -> int:
    """Train the unfinished runs, report on all finished ones, and return the exit code."""
    from rllib_portfolio.experiments.walk_forward.runs import finished_outcome
    from rllib_portfolio.policies.checkpoint import newest_checkpoint

    require_consent(plan.market_config.model_dump())  # each fold computes the features of its market
    output.begin(arguments, f"Analysis folder: {output.place}")
    for fold, dates in enumerate(plan.fold_dates):
        windows = ", ".join(f"{name} {first} to {last}" for name, (first, last) in dates.items())
        say(arguments, f"Fold {fold}: {windows}")
    known = [outcome for run in plan.runs if (outcome := finished_outcome(run, output.path)) is not None]
    if known or arguments.resume is not None:
        begun = sum(newest_checkpoint(run.folder(output.path)) is not None for run in plan.runs) - len(known)
        rest = "nothing is left to train" if len(known) == len(plan.runs) else f"{begun} others have a checkpoint"
        say(arguments, f"Resuming {output.place}: {len(known)} of {len(plan.runs)} fold runs are complete, {rest}.")
    outcomes, received = _train(arguments, plan, output, known)
    if received:
        return output.stop("what was done is kept", [plan.to_json()], received)
    failed = [outcome for outcome in outcomes if outcome.status == "failed"]
    for outcome in failed:
        tell(f"failed: {outcome.run}: {outcome.error}", sys.stderr)
    finished = [outcome.run for outcome in outcomes if outcome.status == "finished"]
    is_reported = _report(arguments, plan, output, finished, tuning)
    if failed:
        others = "the other runs are kept and pooled" if is_reported else "no fold has a policy of each algorithm"
        again = output.resume_command([plan.to_json()])
        told = f"{len(failed)} of {len(outcomes)} runs failed; {others}. Repeat those that failed with: {again}"
        tell(told, sys.stderr)
    return 1 if failed else 0


def _train(
    arguments: argparse.Namespace, plan: WalkForwardPlan, output: OutputFolder, known: Sequence[RunOutcome]
) -> tuple[Sequence[RunOutcome], list[int]]:
    """Train the unfinished runs, and return the outcomes of all runs and the received signals."""
    if len(known) == len(plan.runs):
        return known, []
    from rllib_portfolio.algorithms.run_settings import process_bundles
    from rllib_portfolio.experiments.walk_forward.record import RECORD, note_training
    from rllib_portfolio.experiments.walk_forward.runs import train_runs
    from rllib_portfolio.runs.storage import RunStorage

    require_consent(plan.to_json())
    output.warn_if_foreign(RECORD)
    of_runs = {algo: process_bundles(config.resources) for algo, config in plan.configs.items()}
    largest = plan.configs[max(of_runs, key=lambda algo: len(of_runs[algo]))]
    display, started, began = RunsDisplay(arguments.quiet), datetime.now(), time.monotonic()
    with ray_session(largest, arguments.address), stop_signals() as received, display:
        for algo, bundles in of_runs.items():
            require_room(arguments, bundles, f"a run of {algo}")
        folders = RunStorage(output.place)  # each run copies its own folder to the storage
        outcomes = train_runs(
            plan, output.path, on_progress=display.show, should_stop=lambda: bool(received), folders=folders
        )
    note_training(output.path, plan, outcomes, started, time.monotonic() - began)
    _keep(output)
    return outcomes, received


def _report(
    arguments: argparse.Namespace,
    plan: WalkForwardPlan,
    output: OutputFolder,
    finished: Sequence[Run],
    tuning: TuningRecord | None,
) -> bool:
    """Pool the test windows, write and print the report, and return whether there was anything to pool."""
    from rllib_portfolio.experiments.walk_forward.record import read_record, update_record
    from rllib_portfolio.experiments.walk_forward.results import pool_runs
    from rllib_portfolio.reporting import print_report, write_report
    from rllib_portfolio.runs.storage import join_place

    label = "Back-testing the policies and every baseline on the out-of-sample days"
    with progress_bar(arguments, label, "day") as progress:
        pooled = pool_runs(plan, output.path, finished, progress=progress)
    if pooled is None:
        return False
    update_record(output.path, plan, pooled=pooled.write(output.path))
    report = pooled.report(pooled.context(plan, read_record(output.path)["command"], tuning))
    print_report(report)
    warn_of_implausible(report.table, pooled.market, report.inputs.num_days)
    for name, summary in pooled.seed_summaries.items():
        print(
            f"{name}: interquartile mean of the Sharpe ratio over seeds and folds {summary.interquartile_mean:.2f}, "
            f"{summary.level:.0%} interval over seeds {summary.lower:.2f} to {summary.upper:.2f} "
            f"({summary.num_runs} runs)."
        )
    write_report(report, output.path / "report")
    _keep(output)
    tell(f"Written: {join_place(output.place, 'report')}, results.csv, walks, walk_forward.json")
    return True


def _configs(arguments: argparse.Namespace) -> list[RunConfig]:
    """Return one configuration per algorithm; later sources win: its file, flags for all algorithms, flags for it."""
    files: dict[str, Path] = {}
    for path in arguments.config:
        algo = algorithm_in(path) or DEFAULT_ALGORITHM
        if algo in files:
            raise ConfigError(f"--config must name one file for each algorithm, got two for {algo} ({path}).")
        files[algo] = path
    algos = arguments.algo or list(files) or [DEFAULT_ALGORITHM]
    unused = [algo for algo in files if algo not in algos]
    if unused:
        raise ConfigError(
            f"--algo must name the algorithm of each file, got {', '.join(algos)} without {unused[0]} "
            f"({files[unused[0]]}). Add it, or leave the file out."
        )
    overrides = given_settings(arguments)
    return [
        with_lasting_paths(
            own_config(files.get(algo) or default_config(algo), {"algo": algo, **_of_algorithm(algo, overrides)})
        )
        for algo in dict.fromkeys(algos)
    ]


def _of_algorithm(algo: str, overrides: dict[str, Any]) -> dict[str, Any]:
    """Return the overrides of all algorithms, updated with those of the form ALGO.A.B=V for this one."""
    first = {setting: setting.split(".", 1) for setting in overrides}
    general = {setting: value for setting, value in overrides.items() if first[setting][0] not in RUN_CONFIGS}
    own = {first[setting][1]: value for setting, value in overrides.items() if first[setting][0] == algo}
    return general | own
