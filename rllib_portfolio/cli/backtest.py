"""`backtest.py`: runs on trial, beside what anyone can hold for free."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rllib_portfolio.cli.console import quieten_libraries, say, tell, warn, warn_of_implausible
from rllib_portfolio.cli.flags import add_flags, require_path
from rllib_portfolio.cli.output_folder import new_name
from rllib_portfolio.cli.settings import require_run_folders
from rllib_portfolio.config import ExecutionConfig
from rllib_portfolio.config.user_values import require_names, validated
from rllib_portfolio.errors import ConfigError
from rllib_portfolio.new_folder import REPORT_IN_USE
from rllib_portfolio.runs.folder_lock import only_writer

if TYPE_CHECKING:
    from rllib_portfolio.market import MarketData
    from rllib_portfolio.runs.subjects import FinishedRun

WINDOWS = ("test", "validation", "all", "new")

_DESCRIPTION = """\
Is a trained policy better than what anyone can hold for free?

The best policy of each run walks a window beside every baseline (1/N, buy-and-hold, all cash, the index, minimum
variance, risk parity, momentum, Merton, ...), on the same days, after the same costs. You get a table with verdicts
here, and report.html with figures, CSV, JSON and Parquet files in the output directory.

Runs that differ in their seed alone are one subject: their ensemble (the mean of their weights) is judged, and each
seed is a row beside it. Runs of other settings or algorithms are subjects of their own. All of them must be of the same
market and trade on the same terms.
"""

_EPILOG = """\
other commands:
  python backtest.py walk-forward --help     train again on each of several windows, judge the pooled later days
  python backtest.py audit --help            prove that nothing leaks, or show the first counterexample

examples:
  python backtest.py runs/ppo/20260131-120000                    its test window; the report goes to RUN_DIR/report
  python backtest.py runs/ppo/seed-*                             one subject, its seed spread and its ensemble
  python backtest.py runs/ppo/a runs/dqn/b --output-dir ab       two subjects side by side
  python backtest.py RUN_DIR --cost-bps 25 --execution-lag 0     everyone pays more, and trades at the close that it saw
  python backtest.py RUN_DIR --data-path newer.csv               days that did not exist when it was trained
  python backtest.py RUN_DIR --universe tech=AAPL,MSFT --start-shift 5 21 63

windows:
  test         after everything that was fitted, tuned or selected on (the default)
  validation   the policy was selected on it: in-sample, and marked so
  all          every day with features, training included: in-sample, and marked so
  new          with --data-path: the days after the test window (the default where there are any)
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the description and the flags."""
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    parser.usage = "%(prog)s RUN_DIR [RUN_DIR ...] [options]"
    parser.add_argument("run_dirs", nargs="+", type=Path, metavar="RUN_DIR", help="folder that train.py wrote")
    parser.add_argument("--window", choices=WINDOWS, help="days to walk (default: test; see below)")
    add_flags(parser, "--output-dir", help="default: RUN_DIR/report, runs/backtest/<timestamp> for several")
    add_flags(parser, "--quiet", "--tuning")
    terms = parser.add_argument_group("terms of trade, the same for every row (default: those of training)")
    terms.add_argument("--cost-bps", type=float, metavar="BPS", help="cost in basis points of what is traded")
    terms.add_argument("--execution-lag", type=int, choices=(0, 1), help="days from the close seen to the close traded")
    data = parser.add_argument_group("data")
    add_flags(data, "--data-path", help="newer CSV or Parquet table of the same assets")
    add_flags(data, "--index-path", help="its index level, if that is not a column of it")
    add_flags(data, "--trust-custom")
    more = parser.add_argument_group("sensitivity")
    more.add_argument(
        "--universe", action="append", default=[], metavar="NAME=A,B,C", help="also on these assets; may be repeated"
    )
    more.add_argument(
        "--start-shift", nargs="+", type=int, default=[], metavar="DAYS", help="also from later first days"
    )
    more.add_argument(
        "--no-costs-table", action="store_true", help="leave out the table of 0 to 50 basis points, impact and lag"
    )


def execute(arguments: argparse.Namespace) -> int:
    """Judge; the exit code."""
    from rllib_portfolio.cli import report_folder

    overrides = {
        name: getattr(arguments, name) for name in ("cost_bps", "execution_lag") if getattr(arguments, name) is not None
    }
    validated(ExecutionConfig, overrides, "command line")
    require_path(arguments, "output_dir", "Copy the report there when it is written.")
    subsets = dict(_subset(text) for text in arguments.universe)
    require_run_folders(arguments.run_dirs)
    folder = _folder(arguments)
    with only_writer(folder, is_new=True, record=REPORT_IN_USE):
        report_folder.require_renewable(folder)
        return _judge(arguments, folder, overrides, subsets)


def _judge(
    arguments: argparse.Namespace, folder: Path, overrides: dict[str, Any], subsets: dict[str, tuple[str, ...]]
) -> int:
    """Walk the window, print, and write into a folder that no other back-test writes into; the exit code."""
    # Everything before this is checked before the heavy imports: a typo must not cost seconds.
    quieten_libraries()
    from rllib_portfolio.cli import report_folder
    from rllib_portfolio.cli.evaluation import Evaluation
    from rllib_portfolio.reporting import print_report, write_report
    from rllib_portfolio.runs.subjects import open_runs, require_comparable, subjects_of

    runs = open_runs(arguments.run_dirs)
    execution = require_comparable(runs, overrides)
    subjects = subjects_of(runs)
    market = _market(arguments, runs[0])
    evaluation = Evaluation(arguments, market, _window_name(arguments, market), execution, subjects, subsets)
    report = evaluation.report()
    if evaluation.is_in_sample:
        warn(evaluation.in_sample_sentence)
    print_report(report)
    warn_of_implausible(report.table, market, report.inputs.num_days)
    with report_folder.renewed(folder, evaluation.record()) as unfinished:
        write_report(report, unfinished)
    tell(f"Written: {folder}/report.html, and its numbers beside it")
    return 0


def _folder(arguments: argparse.Namespace) -> Path:
    if arguments.output_dir is not None:
        return Path(arguments.output_dir)
    if len(arguments.run_dirs) == 1:
        return Path(arguments.run_dirs[0]) / "report"
    parent = Path("runs") / "backtest"
    return parent / new_name(parent)


def _market(arguments: argparse.Namespace, run: FinishedRun) -> MarketData:
    """The run's own market, or a newer table as the run's policy reads it."""
    from rllib_portfolio.market import load_market
    from rllib_portfolio.runs.subjects import newer_data

    config = newer_data(run, arguments.data_path, arguments.index_path)
    if config is None:
        return run.market
    say(arguments, "Preparing the market ...")
    market = load_market(config, fitted=run.policy.spec.fitted)
    run.policy.require_compatible(market)
    return market


def _window_name(arguments: argparse.Namespace, market: MarketData) -> str:
    name: str = arguments.window or ("new" if "new" in market.windows else "test")
    if name not in market.windows:
        there = ", ".join(window for window in market.windows if window in WINDOWS)
        raise ConfigError(
            f"--window must be one that the data have, got {name} ({market.source}). Choose from {there}."
        )
    start, stop = market.windows[name]
    if stop - start < 2:
        raise ConfigError(
            f"--window must hold at least 2 days, got 1 ({name}, {market.dates[start]}, {market.source}). Give more "
            "days."
        )
    return name


def _subset(text: str) -> tuple[str, tuple[str, ...]]:
    """`tech=AAPL,MSFT` as a label and names of assets."""
    label, equals, names = text.partition("=")
    assets = tuple(name.strip() for name in names.split(",") if name.strip())
    if not (label and equals and assets):
        raise ConfigError(f"--universe must read NAME=A,B,C, got {text!r}. Write --universe tech=AAPL,MSFT.")
    require_names([label], "universes", "--universe")
    return label, assets
