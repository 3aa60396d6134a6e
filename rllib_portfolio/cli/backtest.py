"""`backtest.py`: compare trained policies with the baselines."""

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
Compare trained policies with the baselines.

The best policy of each run and every baseline (1/N, buy-and-hold, all cash, the index, minimum variance, risk parity,
momentum, Merton, ...) are back-tested on the same days and after the same costs. The command prints a table with
verdicts. It writes report.html with figures, CSV, JSON and Parquet files to the output directory.

Runs that differ only in their seed are evaluated as an ensemble, which holds the mean of their weights; the table also
has a row for each seed. Runs with other settings or algorithms are evaluated separately. All runs must have the same
market, costs, execution lag and limits.
"""

_EPILOG = """\
other commands:
  python backtest.py walk-forward --help     train on successive windows and evaluate on the days after them
  python backtest.py audit --help            check for look-ahead bias

examples:
  python backtest.py runs/ppo/20260131-120000                    test window; writes to RUN_DIR/report
  python backtest.py runs/ppo/seed-*                             an ensemble and the spread over its seeds
  python backtest.py runs/ppo/a runs/dqn/b --output-dir ab       two policies side by side
  python backtest.py RUN_DIR --cost-bps 25 --execution-lag 0     higher costs, and trades at the observed close
  python backtest.py RUN_DIR --data-path newer.csv               days after those of the training data
  python backtest.py RUN_DIR --universe tech=AAPL,MSFT --start-shift 5 21 63

windows:
  test         days on which nothing was fitted, tuned or selected (the default)
  validation   days on which the policy was selected; the report marks them as in-sample
  all          every day that has features, training included; the report marks them as in-sample
  new          days of --data-path after the test window (the default if there are any)

exit code: 0 success, 1 machine failure, 2 invalid input, 130 stopped by Ctrl-C
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the description and the flags."""
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    parser.usage = "%(prog)s RUN_DIR [RUN_DIR ...] [options]"
    parser.add_argument("run_dirs", nargs="+", type=Path, metavar="RUN_DIR", help="folder that train.py wrote")
    parser.add_argument("--window", choices=WINDOWS, help="days of the back-test (default: test; see below)")
    add_flags(
        parser,
        "--output-dir",
        help="where to write (default: RUN_DIR/report; with several runs runs/backtest/<timestamp>)",
    )
    add_flags(parser, "--quiet", "--tuning")
    terms = parser.add_argument_group("costs and execution, the same for every strategy (default: as in training)")
    terms.add_argument(
        "--cost-bps", type=float, metavar="BPS", help="transaction cost in basis points of the traded amount"
    )
    terms.add_argument(
        "--execution-lag", type=int, choices=(0, 1), help="days between the observed close and the traded close"
    )
    data = parser.add_argument_group("data")
    add_flags(data, "--data-path", help="newer table of prices of the same assets")
    add_flags(data, "--index-path", help="table of the index level, if --data-path has no such column")
    add_flags(data, "--trust-custom")
    more = parser.add_argument_group("sensitivity")
    more.add_argument(
        "--universe",
        action="append",
        default=[],
        metavar="NAME=A,B,C",
        help="repeat the back-test on these assets; may be repeated",
    )
    more.add_argument(
        "--start-shift",
        nargs="+",
        type=int,
        default=[],
        metavar="DAYS",
        help="repeat the back-test with a start that is DAYS rows later",
    )
    more.add_argument(
        "--no-costs-table",
        action="store_true",
        help="omit the table for other costs (0 to 50 basis points), market impact and the other execution lag",
    )


def execute(arguments: argparse.Namespace) -> int:
    """Run the back-test and return the exit code."""
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
    """Run the back-test, print and write the report, and return the exit code.

    The caller holds the claim on `folder`, so that no other back-test writes into it.
    """
    # The arguments are checked before the slow imports, so that a typo is reported at once.
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
    tell(f"Written: {folder}/report.html, and its figures in the same folder")
    return 0


def _folder(arguments: argparse.Namespace) -> Path:
    if arguments.output_dir is not None:
        return Path(arguments.output_dir)
    if len(arguments.run_dirs) == 1:
        return Path(arguments.run_dirs[0]) / "report"
    parent = Path("runs") / "backtest"
    return parent / new_name(parent)


def _market(arguments: argparse.Namespace, run: FinishedRun) -> MarketData:
    """Return the market of the run, or the newer table with the fitted features of the run's policy."""
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
    """Split `tech=AAPL,MSFT` into a label and the names of assets."""
    label, equals, names = text.partition("=")
    assets = tuple(name.strip() for name in names.split(",") if name.strip())
    if not (label and equals and assets):
        raise ConfigError(f"--universe must read NAME=A,B,C, got {text!r}. Write --universe tech=AAPL,MSFT.")
    require_names([label], "universes", "--universe")
    return label, assets
