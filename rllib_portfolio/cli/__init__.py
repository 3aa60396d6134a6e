"""The command line: arguments, progress, signals and exit codes.

Besides this package only `reporting/console.py` prints.

Exit codes:
    0: The command has done its work.
    1: An audit found a counterexample, no trial or not every run finished, or the machine failed (a full disk, a dead
        process). One line says what failed and how to continue.
    2: A setting, a file or an argument cannot be used. One line says which.
    129, 130, 143: SIGHUP, Ctrl-C or SIGTERM stopped the command after it wrote a checkpoint.
"""

# These modules are imported first, so that the functions of the same names become attributes of the package.
from rllib_portfolio.cli import backtest as _backtest  # noqa: F401
from rllib_portfolio.cli import train as _train  # noqa: F401
from rllib_portfolio.cli import tune as _tune  # noqa: F401
from rllib_portfolio.cli.commands import backtest, data, main, train, tune

__all__ = ["backtest", "data", "main", "train", "tune"]
